"""A terminal of a given width that keeps what is written to it, in this process."""

import contextlib
import fcntl
import io
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Iterator

import pytest

from airgap.cli.main import cli


@contextlib.contextmanager
def _terminal(width: int, encoding: str) -> Iterator[tuple[io.TextIOWrapper, list[bytes]]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    kept: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                kept.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(theirs, "w", encoding=encoding, newline="") as stream:
            yield stream, kept
    finally:
        reader.join()
        os.close(ours)


def shown(
    monkeypatch: pytest.MonkeyPatch,
    *arguments: object,
    width: int,
    colour: bool = False,
    encoding: str = "utf-8",
) -> str:
    """Return what a command writes to a terminal; errors, which are not on it, come last.

    The escape character is shown as its symbol.
    """
    with monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm-256color" if colour else "dumb")
        patch.setenv("COLUMNS", str(width))
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "CI"):
            patch.delenv(name, raising=False)
        errors = io.StringIO()
        with _terminal(width, encoding) as (stream, kept):
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", errors)
            with contextlib.suppress(SystemExit):
                cli.main([str(a) for a in arguments], standalone_mode=False)
            stream.flush()
    text = b"".join(kept).decode(encoding) + errors.getvalue()
    return text.replace("\r\n", "\n").replace("\x1b", "␛")
