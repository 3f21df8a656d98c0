"""A real systemd as process 1 of namespaces of its own, with airgap installed and its examples in place."""

import contextlib
import os
import select
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

import apart
import releasing
from support import REPOSITORY

SYSTEMD = Path("/lib/systemd/systemd")
SCRIPT = REPOSITORY / "tests" / "booted.sh"
EXAMPLES = REPOSITORY / "airgap" / "examples" / "systemd"
PASSPHRASE = "battery staple"
HOME = Path("/var/lib/airgap")


def no_systemd() -> str:
    """Return why no systemd can be booted here, or nothing."""
    if not SYSTEMD.exists() or shutil.which("systemd-sysusers") is None:
        return "systemd is missing: apt-get install systemd"
    if not releasing.host_version():
        return f"{releasing.HOST_PYTHON} is none that airgap runs on: a service sees no other one"
    return apart.reason()


class Booted:
    """The system; use it as a context.

    Args:
        installed: what is to be in /opt.
        scratch: an empty folder of this test, with a short name: it holds a socket.
    """

    def __init__(self, installed: releasing.Installed, scratch: Path) -> None:
        self._installed, self._scratch = installed, scratch

    def __enter__(self) -> Self:
        notify = self._scratch / "notify"
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
            (self._scratch / "log").open("wb") as log,
        ):
            told.bind(str(notify))
            self._apart = apart.Apart(
                *(SCRIPT, self._installed.opt, notify),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                self._await(told)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._apart.stop()

    def _await(self, told: socket.socket) -> None:
        """Wait until systemd says that it is ready, as it says to whoever runs it (man 3 sd_notify)."""
        ended = os.pidfd_open(self._apart.process.pid)
        with contextlib.closing(os.fdopen(ended)):
            while True:
                ready, _, _ = select.select([told, ended], [], [], 120)
                if told not in ready:
                    raise AssertionError((self._scratch / "log").read_text())
                if b"READY=1" in told.recv(65536):
                    return

    def run(self, *words: object, code: int | None = 0) -> str:
        """Run a command in the system and return what it prints; None takes any status."""
        return self._apart.run(*words, code=code)

    def airgap(self, *words: object, code: int | None = 0) -> str:
        """Run airgap as its user."""
        return self.run(*self.as_user(*words), code=code)

    def as_user(self, *words: object) -> tuple[object, ...]:
        """Return the words that run airgap as its user."""
        environment = (f"AIRGAP_HOME={HOME}", f"AIRGAP_PASSPHRASE={PASSPHRASE}")
        return (
            "runuser",
            "-u",
            "airgap",
            "--",
            "env",
            *environment,
            "/opt/airgap/bin/airgap",
            *words,
        )

    def shown(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def heard(self, text: str, *which: object) -> str:
        """Wait until the journal is told something, and return that line; ``which`` as journalctl has it."""
        words = ("timeout", "120", "journalctl", "--follow", "--no-tail", "-q", "-o", "cat", *which)
        with subprocess.Popen(
            self._apart.words(*words), stdout=subprocess.PIPE, text=True
        ) as journal:
            assert journal.stdout is not None
            line = next((one for one in journal.stdout if text in one), None)
            journal.terminate()
        assert line is not None, f"nobody told {text}"
        return line

    def write(self, path: str, text: str) -> None:
        """Write a file in the system."""
        script = 'mkdir -p "$(dirname "$0")" && cat > "$0"'
        self._apart.run("sh", "-c", script, path, stdin=text)

    def plug_in(self, stick: Path) -> None:
        """Mount a folder as the stick, so that airgap's user may write to it."""
        stick.chmod(0o777)
        self.run("mount", "--bind", stick, "/media/stick")
