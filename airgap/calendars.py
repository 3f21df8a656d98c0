"""A coverage calendar: for each day of the last months, the most urgent thing that is so of it.

Days are UTC days. A day in which some of a window lies counts as touched by it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from airgap import windows
from airgap.coverage import Window

_DAY = 86_400 * 1_000_000
_FEW_DAYS = timedelta(days=3)
DEFAULT_MONTHS = 6


@dataclass(frozen=True, slots=True)
class Mark:
    """What a day can be.

    Args:
        code: its name, for machines.
        sign: one character for terminals that show Unicode.
        plain: one ASCII character for all others.
        words: what it means.
    """

    code: str
    sign: str
    plain: str
    words: str


MARKS = (
    Mark("dead", "X", "X", "dead letter"),
    Mark("in_doubt", "?", "?", "in doubt"),
    Mark("gap", "!", "!", "gap: no report of that time, or of some of it"),
    Mark("waiting", "░", "w", "waiting"),
    Mark("on_its_way", "▒", "o", "on its way: exported, and no receipt says that it was delivered"),
    Mark("delivered", "█", "#", "delivered"),
    Mark("no_usage", "-", "-", "declared to be without usage"),
    Mark("nothing", "·", ".", "no report"),
)
"""The most urgent first: it is what a day shows."""

_RANK = {mark.code: rank for rank, mark in enumerate(MARKS)}
_NOTHING = _RANK["nothing"]

Spans = dict[str, list[Window]]
"""By a mark's code, the windows of which it is so."""


@dataclass(frozen=True, slots=True)
class Month:
    """A month of a calendar.

    Args:
        year: its year.
        month: 1 to 12.
        days: one mark for each of its days.
    """

    year: int
    month: int
    days: tuple[Mark, ...]

    @property
    def name(self) -> str:
        """The month as ``2026-01``."""
        return f"{self.year:04d}-{self.month:02d}"


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days of one source and kind.

    Args:
        source: whose.
        kind: what.
        months: ascending, without those before anything was reported.
    """

    source: str
    kind: str
    months: tuple[Month, ...]

    def marks(self) -> list[Mark]:
        """Return the marks that stand in it, in the order of ``MARKS``."""
        seen = {mark for month in self.months for mark in month.days}
        return [mark for mark in MARKS if mark in seen]

    def as_json(self) -> dict[str, object]:
        """Return it as ``--json`` prints it: per month, how many days have which mark, and each day."""
        return {
            "source": self.source,
            "kind": self.kind,
            "months": [
                {"month": month.name, "days": [mark.code for mark in month.days]}
                for month in self.months
            ],
        }


def calendar(
    source: str, kind: str, spans: Mapping[str, Iterable[Window]], months: int, now: datetime
) -> Calendar | None:
    """Return the calendar of one source and kind, or None where nothing is known of it.

    Args:
        source: whose.
        kind: what.
        spans: by a mark's code, windows of which it is so.
        months: most months; they end with the present one, or, where all is older, with that of
            the newest day that is known.
        now: the present.
    """
    listed = {code: list(found) for code, found in spans.items()}
    every = [window for found in listed.values() for window in found]
    if not every or months < 1:
        return None
    present = _month_of(windows.micros(now))
    oldest = _month_of(min(start for start, _ in every))
    newest = _month_of(max(max(end - 1, start) for start, end in every))
    last = min(present, newest) if newest <= present - months else present
    last = max(last, oldest) if oldest <= present else oldest
    first = max(oldest, last - months + 1)
    begin, end = (_micros_of(number) for number in (first, last + 1))
    ranks = bytearray([_NOTHING]) * ((end - begin) // _DAY)
    for code, found in listed.items():
        rank = _RANK[code]
        for start, finish in found:
            lowest = (max(start, begin) - begin) // _DAY
            highest = (min(max(finish, start + 1), end) - 1 - begin) // _DAY
            for day in range(lowest, highest + 1):
                ranks[day] = min(ranks[day], rank)
    return Calendar(source, kind, tuple(_months(first, last, begin, ranks)))


def is_worth_showing(spans: Iterable[Mapping[str, Iterable[Window]]]) -> bool:
    """Tell whether what is known spans more than a few days."""
    every = [window for one in spans for found in one.values() for window in found]
    if not every:
        return False
    width = max(end for _, end in every) - min(start for start, _ in every)
    return width > _FEW_DAYS // timedelta(microseconds=1)


def _months(first: int, last: int, begin: int, ranks: bytearray) -> Iterable[Month]:
    for number in range(first, last + 1):
        start, end = ((_micros_of(n) - begin) // _DAY for n in (number, number + 1))
        marks = tuple(MARKS[rank] for rank in ranks[start:end])
        yield Month(number // 12, number % 12 + 1, marks)


def _month_of(moment: int) -> int:
    """Return the number of the month that a time lies in, counted from the year 0."""
    found = windows.instant(moment)
    return found.year * 12 + found.month - 1


def _micros_of(month: int) -> int:
    """Return when a month begins; the one after December 9999 begins when time ends."""
    year, index = divmod(month, 12)
    if year > date.max.year:
        return (windows.micros(datetime.max.replace(tzinfo=UTC)) // _DAY + 1) * _DAY
    return windows.micros(datetime(year, index + 1, 1, tzinfo=UTC))
