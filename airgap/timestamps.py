"""Times: RFC 3339 text in, UTC text out, and the clock as a value that is passed in.

RFC 3339 section 5.6 is narrowed: four-digit years from 0001, no leap second, no lower-case
letters. The schemas say the same by pattern and format.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present as an aware datetime."""

_FORM = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})T(?P<time>\d{2}:\d{2}:[0-5]\d)(?:\.(?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z|[+-]\d{2}:\d{2})",
    re.ASCII,
)


def system_clock() -> datetime:
    """Return the present by the system's clock, in UTC."""
    return datetime.now(UTC)


def parse(text: str) -> datetime:
    """Return the instant that ``text`` names, in UTC; digits below a microsecond are cut off.

    Raises:
        ValueError: ``text`` is not a date-time of RFC 3339 as narrowed above, or lies outside
            the years 1 to 9999 in UTC.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time")
    fraction = (match["fraction"] or "0").ljust(6, "0")[:6]
    zone = "+00:00" if match["zone"] == "Z" else match["zone"]
    try:
        if int(zone[1:3]) > 23 or int(zone[4:6]) > 59 or int(match["time"][:2]) > 23:
            raise ValueError("hour or minute out of range")
        moment = datetime.fromisoformat(f"{match['date']}T{match['time']}.{fraction}{zone}")
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999") from None


def is_date_time(text: object) -> bool:
    """Tell whether a value passes the schemas' ``date-time``; what is not a string passes."""
    if not isinstance(text, str):
        return True
    match = _FORM.fullmatch(text)
    if match is None:
        return False
    zone = match["zone"]
    if zone != "Z" and (int(zone[1:3]) > 23 or int(zone[4:6]) > 59):
        return False
    try:
        datetime.fromisoformat(f"{match['date']}T{match['time']}+00:00")
    except ValueError:
        return False
    return int(match["time"][:2]) <= 23


def to_text(moment: datetime, *, precise: bool = False) -> str:
    """Return an aware datetime as ``2026-01-31T09:00:00Z``; ``precise`` keeps microseconds."""
    utc = moment.astimezone(UTC)
    if not precise or utc.microsecond == 0:
        return utc.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    return utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
