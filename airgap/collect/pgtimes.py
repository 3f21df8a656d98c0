"""Read times as PostgreSQL prints them, in every DateStyle: exactly, or not at all.

What PostgreSQL prints is set by the client's DateStyle and TimeZone (PostgreSQL's documentation,
section 8.5.2, and ``EncodeDateTime`` in its source; measured with PostgreSQL 15):

    ISO        2026-05-06 07:08:09.123456+02    offsets also +05:30 and +00:19:32
    SQL        06/05/2026 07:08:09.12 CEST      DateStyle SQL, DMY
               05/06/2026 07:08:09.12 CEST      DateStyle SQL, MDY and SQL, YMD
    Postgres   Wed 06 May 07:08:09.12 2026 CEST
               Wed May 06 07:08:09.12 2026 CEST
    German     06.05.2026 07:08:09.12 CEST

Zones without letters are printed as their offset east of Greenwich: ``+03``, ``+0330``. A column
without time zone has none. Nothing here is a guess: a text that can mean two instants is refused
with what would settle it.
"""

import functools
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Literal

DateOrder = Literal["dmy", "mdy"]

_TIME = r"(?P<time>[0-2]\d:[0-5]\d:[0-5]\d)(?:\.(?P<fraction>\d{1,6}))?"
_OFFSET = r"[+-][01]\d(?::?[0-5]\d(?::?[0-5]\d)?)?"
_ZONE = rf"(?: (?P<zone>{_OFFSET}|[A-Za-z][A-Za-z0-9_/+-]{{0,30}}))?"
_ISO = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[ T][0-2]\d:[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
    rf"(?P<offset>{_OFFSET}|Z)?",
    re.ASCII,
)
_SLASHED = re.compile(rf"(\d\d)/(\d\d)/(?P<year>\d{{4}}) {_TIME}{_ZONE}", re.ASCII)
_GERMAN = re.compile(rf"(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>\d{{4}}) {_TIME}{_ZONE}", re.ASCII)
_NAMED = re.compile(
    r"(?P<weekday>[A-Z][a-z]{2}) (?:(?P<day>\d\d) (?P<month>[A-Z][a-z]{2})|"
    rf"(?P<month2>[A-Z][a-z]{{2}}) (?P<day2>\d\d)) {_TIME} (?P<year>\d{{4}}){_ZONE}",
    re.ASCII,
)
_LONG_YEAR = re.compile(
    r"(\d{5,}-\d\d-\d\d .*|.*[/.]\d{5,} .*|\w{3} .*:\S+ \d{5,}( .*)?)", re.ASCII
)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_UTC_NAMES = frozenset({"UTC", "GMT", "Z"})

_ISO_CURE = "set DateStyle to ISO and run the query again: PGDATESTYLE=ISO PGTZ=UTC"
_ORDER_CURE = f"--date-order dmy or mdy, as it was when the query ran; or {_ISO_CURE}"
_ZONE_CURE = f"--time-zone AREA/CITY, the zone that the database printed in; or {_ISO_CURE}"


class TimeNotReadError(ValueError):
    """A text is no time, or it may mean more than one instant.

    Args:
        message: what is wrong, without the text.
        cure: what settles it.
        shown: whether the text is a time, so that it may be shown.
    """

    def __init__(self, message: str, cure: str, *, shown: bool = True) -> None:
        super().__init__(message)
        self.cure = cure
        self.shown = shown


@dataclass(frozen=True, slots=True)
class Times:
    """What the operator knows of how times were printed."""

    date_order: DateOrder | None = None
    """Which comes first in 05/06/2026; None where nobody has said."""
    time_zone: str | None = None
    """IANA name, for abbreviations such as CEST and for times without any zone."""


def parse(text: str, reading: Times) -> datetime:
    """Return the instant that ``text`` names, in UTC, to the microsecond.

    Args:
        text: one of the forms above, or RFC 3339, of the years 1 to 9999.
        reading: what settles what the text leaves open.

    Raises:
        TimeNotReadError: it is none of the forms, does not exist, or may mean two instants.
    """
    try:
        if match := _ISO.fullmatch(text):
            moment = datetime.fromisoformat(text)
            if match["offset"] is None:
                moment = _in_zone(moment, None, reading)
            return moment.astimezone(UTC)
        wall, abbreviation = _wall(text, reading)
        return _in_zone(wall, abbreviation, reading).astimezone(UTC)
    except OverflowError:
        raise TimeNotReadError("the time lies outside the years 1 to 9999", _ISO_CURE) from None
    except TimeNotReadError:
        raise
    except ValueError:  # from datetime: the 31st of April, 25 o'clock
        raise TimeNotReadError("there is no such date or time of day", _ISO_CURE) from None


def order_of(text: str) -> DateOrder | None:
    """Return the order that a date such as 31/05/2026 proves, or None where it proves none."""
    match = _SLASHED.fullmatch(text)
    if match is None:
        return None
    first, second = int(match[1]), int(match[2])
    if first > 12 >= second:
        return "dmy"
    return "mdy" if second > 12 >= first else None


def depends_on_order(text: str) -> bool:
    """Tell whether the text is a time whose day and month could be exchanged."""
    match = _SLASHED.fullmatch(text)
    return match is not None and match[1] != match[2] and int(match[1]) <= 12 >= int(match[2])


@functools.lru_cache(maxsize=8)
def zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name.

    Raises:
        TimeNotReadError: there is none of that name, or this machine has no zone database.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        pass
    if not zoneinfo.available_timezones():
        raise TimeNotReadError(
            "this machine has no time zone database, so no zone but UTC can be read",
            f"install the system's tzdata, or {_ISO_CURE}",
        )
    raise TimeNotReadError(
        "there is no such time zone", "--time-zone with an IANA name, for instance Europe/Amsterdam"
    )


def _wall(text: str, reading: Times) -> tuple[datetime, str | None]:
    """Return what a clock on the wall showed, and the zone's abbreviation."""
    if match := _SLASHED.fullmatch(text):
        day, month = _day_and_month(int(match[1]), int(match[2]), reading.date_order)
    elif match := _GERMAN.fullmatch(text):
        day, month = int(match["day"]), int(match["month"])
    elif match := _NAMED.fullmatch(text):
        name = match["month"] or match["month2"]
        day = int(match["day"] or match["day2"])
        month = _MONTHS.index(name) + 1 if name in _MONTHS else 0
    else:
        raise _unreadable(text)
    hour, minute, second = (int(part) for part in match["time"].split(":"))
    microsecond = int((match["fraction"] or "").ljust(6, "0"))
    wall = datetime(int(match["year"]), month, day, hour, minute, second, microsecond)  # noqa: DTZ001
    if match.re is _NAMED and match["weekday"] != _WEEKDAYS[wall.weekday()]:
        raise TimeNotReadError("the day of the week does not belong to the date", _ISO_CURE)
    return wall, match["zone"]


def _day_and_month(first: int, second: int, order: DateOrder | None) -> tuple[int, int]:
    proven: DateOrder | None = None
    if first > 12 >= second:
        proven = "dmy"
    elif second > 12 >= first:
        proven = "mdy"
    if order is not None and proven is not None and order != proven:
        raise TimeNotReadError(f"the date is no date in the order {order}", _ORDER_CURE)
    order = order or proven
    if order is None and first != second:
        raise TimeNotReadError("nobody knows which is the day and which the month", _ORDER_CURE)
    return (second, first) if order == "mdy" else (first, second)


def _in_zone(wall: datetime, abbreviation: str | None, reading: Times) -> datetime:
    """Return the one instant at which ``wall`` was shown.

    Raises:
        TimeNotReadError: there is none, or there are two.
    """
    # PGTZ=UTC+3 would print UTC and mean -3; only the ISO style shows that. A zone of that kind is
    # POSIX's and has to be asked for, so UTC is taken at its word.
    if abbreviation in _UTC_NAMES:
        return wall.replace(tzinfo=UTC)
    if abbreviation is not None and abbreviation[0] in "+-":
        return wall.replace(tzinfo=_offset(abbreviation))
    if reading.time_zone is None:
        raise TimeNotReadError(
            "the time has no zone"
            if abbreviation is None
            else "the abbreviation of the time zone is in use for several",
            _ZONE_CURE,
        )
    known = zone(reading.time_zone)
    moments = [wall.replace(tzinfo=known, fold=fold) for fold in (0, 1)]
    # A clock that is put forward leaves a gap: what it never showed does not survive the way back.
    shown = {m.astimezone(UTC): m for m in moments if _shows(m.astimezone(UTC), known, wall)}
    if not shown:
        raise TimeNotReadError(
            f"no clock in {reading.time_zone} showed that time", f"another zone: {_ZONE_CURE}"
        )
    if abbreviation is not None:
        shown = {utc: m for utc, m in shown.items() if m.tzname() == abbreviation}
        if not shown:
            raise TimeNotReadError(
                f"the time zone {reading.time_zone} did not have that abbreviation then",
                f"another zone: {_ZONE_CURE}",
            )
    if len(shown) > 1:
        raise TimeNotReadError(
            f"clocks in {reading.time_zone} showed that time twice, when they were put back",
            _ISO_CURE,
        )
    return next(iter(shown))


def _shows(utc: datetime, known: tzinfo, wall: datetime) -> bool:
    return utc.astimezone(known).replace(tzinfo=None, fold=0) == wall


def _offset(text: str) -> timezone:
    """Return the zone of ``+03``, ``-0330``, ``+05:30`` or ``+00:19:32``, east of Greenwich."""
    digits = text[1:].replace(":", "").ljust(6, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:]))
    return timezone(-offset if text[0] == "-" else offset)


def _unreadable(text: str) -> TimeNotReadError:
    if text in {"infinity", "-infinity"}:
        return TimeNotReadError(f"the time is {text}", "correct the row in the database")
    if text.endswith(" BC"):
        return TimeNotReadError("the time lies before Christ", "correct the row in the database")
    if _LONG_YEAR.fullmatch(text):
        return TimeNotReadError(
            "the time lies after the year 9999", "correct the row in the database"
        )
    return TimeNotReadError(
        "this is no time as PostgreSQL prints it",
        "a spreadsheet that saved the file may have changed it: use the file that psql wrote",
        shown=False,
    )
