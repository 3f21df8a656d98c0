"""Text that is safe to show: names and values that came from a stranger's file."""

import re
import textwrap
import unicodedata

_WHOLE = re.compile(
    r"(?:(?:[0-9a-f]{4} ){7}[0-9a-f]{4}|airgap(?: [a-z]+){1,3}"
    r"(?: (?:--[a-z-]+|[A-Z]+(?:[.|][a-z]+)?\b|[0-9a-f]{8,}|[\w.-]*/[\w./-]*\w))*)\S*"
)
"""A fingerprint; or a command line: up to three words, then options, what stands for values, ids, paths."""


def printable(text: str, limit: int = 80) -> str:
    """Return ``text`` with control, bidirectional and unassigned characters escaped, and cut.

    It never gets longer than ``limit``, however much was escaped.

    A file name or a field name may hold terminal escapes or look-alike tricks; what is shown
    never does.
    """
    shown = "".join(
        c
        if unicodedata.category(c)[0] not in "CZ" or c == " "
        else c.encode("unicode_escape").decode()
        for c in text[: limit + 1]
    )
    return shown if max(len(text), len(shown)) <= limit else shown[: limit - 1] + "…"


def wrapped(
    text: str, width: int, first: str, further: str, *, break_long: bool = True
) -> list[str]:
    """Return a text in lines of a width; commands and fingerprints stay on one line, to be copied.

    Args:
        text: without line feeds.
        width: columns.
        first: stands before the first line.
        further: stands before the others.
        break_long: whether a word that is longer than a line is broken; else the line gets longer.
    """
    room = width - len(further)
    held = _WHOLE.sub(lambda m: m[0] if len(m[0]) > room else m[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        held,
        width,
        initial_indent=first,
        subsequent_indent=further,
        break_on_hyphens=False,
        break_long_words=break_long,
    )
    return [line.replace("\0", " ") for line in lines]


def size(count: int) -> str:
    """Return a number of bytes for people: ``999 B``, ``1.2 MiB``."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value:.1f} PiB"


def waits(count: int) -> str:
    """Return ``1 record waits`` or ``1,234 records wait``."""
    return plural(count, "record waits", "records wait")


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 record`` or ``1,234 records``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
