"""Findings: what is odd, said aloud and never corrected. A finding alone refuses nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap import timestamps, windows
from airgap.errors import AirgapError, OverdueError
from airgap.text import plural
from airgap.windows import Timeline

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
                f"{plural(timeline.backwards, 'record')} end before they start: a clock was set back",
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


def overdue(since: datetime | None, now: datetime, max_age: timedelta) -> list[AirgapError]:
    """Return an error where the newest confirmed report is too old."""
    if since is None or now - since <= max_age:
        return []
    return [
        OverdueError(
            "the last confirmed report is overdue",
            expected=f"at most {plural(max_age.days, 'day')} old"
            if max_age.days
            else f"at most {max_age} old",
            found=f"{timestamps.to_text(since)}, {plural((now - since).days, 'day')} ago",
        )
    ]


def as_json(found: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as ``--json`` prints them."""
    return [finding.as_json() for finding in found]
