"""The clock, held against what this side has stored: no network is needed for that."""

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airgap import audit, timestamps
from airgap.doctor import databases, trusting
from airgap.doctor.findings import Finding, ok, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError
from airgap.findings import AHEAD
from airgap.text import plural

FAR = timedelta(days=400)
"""Without a trace for so long, either nobody worked here or the clock runs ahead."""
RELEASED = datetime(2026, 1, 1, tzinfo=UTC)
"""This program is not older: a clock before it was never set."""
_SET = "set the clock right (timedatectl, chrony), then run this again"
_TAIL = 256 * 1024


def look(scene: Scene) -> Iterator[Finding]:
    """Look at the clock."""
    yield from judge(list(evidence(scene)), scene.now)


def evidence(scene: Scene) -> Iterator[tuple[datetime, str]]:
    """Yield the newest moments that a home's files name, each with what names it."""
    if scene.home is None:
        return
    yield from databases.newest(scene)
    last = last_entry(scene.home.audit_path)
    if last is not None and timestamps.is_date_time(at := last.get("at")) and isinstance(at, str):
        yield timestamps.parse(at), "the audit log's last entry"
    trusted = trusting.newest(scene)
    if trusted is not None:
        yield trusted, "the trust store"


def judge(found: Iterable[tuple[datetime, str]], now: datetime) -> Iterator[Finding]:
    """Judge a clock.

    Args:
        found: moments that are past, each with what names it.
        now: what the clock says.
    """
    newest, what = max(found, default=(None, ""))
    said = timestamps.to_text(now)
    if newest is not None and newest - AHEAD > now:
        yield wrong(
            "clock.evidence",
            f"the clock says {said}, and {what} is of {timestamps.to_text(newest)}: "
            "the clock was set back, or ran ahead then",
            expected=f"a clock at or after {timestamps.to_text(newest)}",
            cure=f"find out which of the two is right; {_SET}",
        )
    elif now < RELEASED:
        yield wrong(
            "clock.evidence",
            f"the clock says {said}, before this program was written",
            expected=f"a clock after {timestamps.to_text(RELEASED)}",
            cure=_SET + "; a machine that forgets the time needs a new battery",
        )
    elif newest is not None and now - newest > FAR:
        yield warning(
            "clock.evidence",
            f"the clock says {said}, and the newest trace here, {what}, is "
            f"{plural((now - newest).days, 'day')} older",
            cure=f"if airgap was in use since, the clock runs ahead: {_SET}",
        )
    elif newest is None:
        yield ok("clock.evidence", f"{said}; nothing is stored yet to hold it against")
    else:
        yield ok("clock.evidence", f"{said}; newest here: {what}, {timestamps.to_text(newest)}")


def last_entry(path: Path) -> dict[str, object] | None:
    """Return the last whole entry of an audit log, or None."""
    for line in reversed(_tail(path)):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def log(scene: Scene) -> Iterator[Finding]:
    """Look at the audit log: its end, or with ``--deep`` every line."""
    assert scene.home is not None
    path = scene.home.audit_path
    if not path.is_file():
        yield wrong(
            "audit.whole",
            "the audit log is not a regular file" if path.exists() else "there is no audit log",
            where=str(path),
            expected="the log that every home has from `airgap init` on",
            cure="find out who took it away; the next command that changes something begins a new one",
        )
        return
    if scene.deep:
        yield _every_line(path)
        return
    lines = _tail(path)
    torn = bool(lines) and not lines[-1].endswith(b"\n")
    if torn:
        yield warning(
            "audit.whole",
            "the audit log's last line was cut off",
            where=str(path),
            cure="nothing: the next entry says so; airgap audit verify checks all of it",
        )
    else:
        yield ok("audit.whole", "it ends with a whole line; --deep checks every line")


def _every_line(path: Path) -> Finding:
    try:
        seen = audit.check(path)
    except AirgapError as error:
        return wrong(
            "audit.whole",
            "; ".join(filter(None, (error.message, error.found))),
            where=error.where,
            expected=error.expected,
            cure=error.hint,
        )
    return ok("audit.whole", f"{plural(seen.entries, 'line')}, each chained to the one before")


def _tail(path: Path) -> list[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read(_TAIL).splitlines(keepends=True)
    except OSError:
        return []
