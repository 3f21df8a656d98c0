"""Text that is safe to show: names and values that came from a stranger's file."""

import unicodedata


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
