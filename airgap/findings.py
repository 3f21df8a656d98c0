"""Findings: what is odd, said aloud and never corrected. A finding alone refuses nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap import timestamps, windows
from airgap.errors import AirgapError, OverdueError
from airgap.text import plural
from airgap.windows import KindCoverage, Timeline

AHEAD = timedelta(minutes=5)
"""How far two honest clocks may differ."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should look at.

    Args:
        code: names the sort of finding, for machines.
        message: one sentence for people, without a credential.
    """

    code: str
    message: str

    def as_json(self) -> dict[str, str]:
        """Return the finding as ``--json`` prints it."""
        return {"code": self.code, "message": self.message}


def of_timeline(timeline: Timeline, now: datetime, clock: str) -> list[Finding]:
    """Return what is odd about the times of records.

    Args:
        timeline: their windows.
        now: what the records are held against.
        clock: whose time that is, for the message.
    """
    found: list[Finding] = []
    for kind, count in sorted(timeline.overlapping.items()):
        found.append(
            Finding(
                "windows-overlap",
                f"{plural(count, kind)} of one credential overlap in time with others; replicas do "
                "that, and so does a report that was sent again after a failure, which then counts "
                "twice",
            )
        )
    if timeline.backwards:
        found.append(
            Finding(
                "window-backwards",
                f"{plural(timeline.backwards, 'window')} going backwards: a clock was set back",
            )
        )
    if timeline.newest is not None and windows.instant(timeline.newest) > now + AHEAD:
        newest = timestamps.to_text(windows.instant(timeline.newest))
        found.append(
            Finding(
                "record-from-the-future",
                f"records reach to {newest}, and {clock} says {timestamps.to_text(now)}",
            )
        )
    return found


def late(
    kinds: Iterable[KindCoverage], regular: frozenset[str], now: datetime, max_age: timedelta
) -> list[str]:
    """Return one sentence per kind whose reports end too long ago.

    A kind that is reported at all times is judged by itself; without any such, the newest of the
    others is, since they have nothing to report where nothing was used.
    """
    found = sorted(kinds, key=lambda kind: kind.end)
    judged = [kind for kind in found if kind.kind in regular] or found[-1:]
    ages = [(kind, now - windows.instant(kind.end)) for kind in judged]
    return [
        f"{kind.kind} ends {windows.short(kind.end)}, {plural(age.days, 'day')} ago"
        for kind, age in ages
        if age > max_age
    ]


def overdue(what: list[str], max_age: timedelta, where: str) -> list[AirgapError]:
    """Return an error that names what is too old, where anything is."""
    if not what:
        return []
    age = plural(max_age.days, "day") if max_age.days else f"{max_age.total_seconds():g} seconds"
    return [
        OverdueError(
            "reports are overdue",
            where=where,
            expected=f"everything confirmed, and nothing older than {age}",
            found=what[0],
            details=what[1:],
        )
    ]


def as_json(found: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as ``--json`` prints them."""
    return [finding.as_json() for finding in found]
