"""What was delivered when: every record of the ledger as lines, cells per day, and bundles.

A record is told once, in the first bundle that brought it; what came under its id with another
content is told as a dead letter of the bundle that brought that. So sums over all lines are the
ledger's. The ledger keeps every payload for good, so windows and values are always known. What
is not in it is not guessed: a kind without a period has no time of use, and a record whose state
changed after the newest receipt of its bundle is in no receipt yet.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from airgap import timestamps, windows
from airgap.bundle import codec
from airgap.catalog import Catalog, JsonObject, Kind
from airgap.records import KindTotal, Totals, window
from airgap.replay import counts, delivered
from airgap.replay.ledger import Ledger

By = Literal["usage", "delivery"]
OUTCOMES = ("delivered", "waiting", "in_doubt", "dead")
"""``in_doubt`` includes what is being sent, as in receipts."""

_LINES = (
    "SELECT r.id, r.kind, coalesce(b.conflict, r.payload),"
    " CASE WHEN b.conflict IS NOT NULL THEN 'dead' WHEN r.state = 'sending' THEN 'in_doubt'"
    " ELSE r.state END,"
    " CASE WHEN b.conflict IS NULL THEN r.status END, r.changed_at,"
    " b.conflict IS NULL AND coalesce(r.detail, '') LIKE 'decided by hand%'"
    " FROM bundle_record b JOIN record_state r ON r.number = b.record WHERE b.bundle = ?"
    " AND (b.conflict IS NOT NULL OR NOT EXISTS (SELECT 1 FROM bundle_record e"
    " WHERE e.record = b.record AND e.bundle < b.bundle)) ORDER BY b.record"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is about.

    Args:
        first: first day, or None for no bound.
        last: last day, which is included, or None.
        by: whether a record's day is that on which its window starts, or that of its delivery.
        source: only this source, or None for all.
    """

    first: date | None = None
    last: date | None = None
    by: By = "usage"
    source: str | None = None

    @property
    def bounded(self) -> bool:
        """Whether there is a first or a last day."""
        return self.first is not None or self.last is not None

    def has(self, day: date | None) -> bool:
        """Tell whether a day is asked for; None only where there is no bound."""
        if day is None:
            return not self.bounded
        return (self.first is None or day >= self.first) and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class BundleLine:
    """A bundle of the ledger, and how much of it is delivered.

    Args:
        number: its number in the ledger.
        source: whose.
        sequence: its place in the source's chain.
        bundle_id: its id.
        created_at: when it was made, by its own word.
        imported_at: when it came.
        states: how many records have which outcome, those known from other bundles too.
        receipt: file name of its newest receipt, or None.
        receipt_at: when that was made, or None.
    """

    number: int
    source: str
    sequence: int
    bundle_id: str
    created_at: str
    imported_at: str
    states: dict[str, int]
    receipt: str | None
    receipt_at: str | None

    @property
    def records(self) -> int:
        """How many records it holds."""
        return sum(self.states.values())

    def as_json(self) -> JsonObject:
        """Return it as ``--json`` prints it."""
        return {
            "source": self.source,
            "sequence": self.sequence,
            "bundle_id": self.bundle_id,
            "created_at": self.created_at,
            "imported_at": self.imported_at,
            "records": self.records,
            **{name: self.states.get(name, 0) for name in OUTCOMES},
            "receipt": self.receipt,
            "receipt_at": self.receipt_at,
        }


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one record.

    Args:
        source: whose it is.
        kind: its kind.
        id: its id, hexadecimal.
        sequence: the bundle that brought it.
        start: when its window starts, in microseconds since 1970, or None for kinds without one.
        end: when its window ends.
        outcome: one of ``OUTCOMES``.
        delivered_at: when the answer came, or when somebody decided; None where not delivered.
        status: HTTP status of the last answer, or None.
        by_hand: whether a person decided its outcome.
        receipt: file name of the bundle's newest receipt, where that says so, or None.
        values: its measures.
    """

    source: str
    kind: str
    id: str
    sequence: int
    start: int | None
    end: int | None
    outcome: str
    delivered_at: str | None
    status: int | None
    by_hand: bool
    receipt: str | None
    values: dict[str, int]

    def day(self, by: By) -> date | None:
        """Return the UTC day that it is counted on, or None where it has none."""
        if by == "usage":
            return None if self.start is None else windows.instant(self.start).date()
        return None if self.delivered_at is None else timestamps.parse(self.delivered_at).date()


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a record is counted."""

    source: str
    kind: str
    day: date | None
    outcome: str


@dataclass(slots=True)
class Summary:
    """Records and sums per place.

    Args:
        cells: records and sums of what was asked for.
        aside: records that have no day, and so are in no period, per source and kind.
    """

    cells: dict[Place, KindTotal] = field(default_factory=dict[Place, KindTotal])
    aside: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def add(self, line: Line, asked: Asked) -> bool:
        """Count a record; tell whether it was asked for."""
        day = line.day(asked.by)
        if not asked.has(day):
            if day is None:
                about = (line.source, line.kind)
                self.aside[about] = self.aside.get(about, 0) + 1
            return False
        cell = self.cells.setdefault(Place(line.source, line.kind, day, line.outcome), KindTotal())
        cell.records += 1
        for name, value in line.values.items():
            cell.sums[name] = cell.sums.get(name, 0) + value
        return True

    def places(self) -> list[tuple[Place, KindTotal]]:
        """Return the cells by source, kind, day and outcome; without a day first."""
        return sorted(
            self.cells.items(),
            key=lambda item: (
                item[0].source,
                item[0].kind,
                item[0].day or date.min,
                OUTCOMES.index(item[0].outcome),
            ),
        )

    def totals(self, outcome: str) -> Totals:
        """Return the totals of one outcome, per kind."""
        found = Totals()
        for place, cell in self.cells.items():
            if place.outcome == outcome:
                found.merge(Totals({place.kind: cell}))
        return found

    def per(self, length: Literal["day", "month", "total"]) -> "list[Row]":
        """Return a row per period, source, kind and measure, in that order."""
        rows: dict[tuple[str, str, str, str], Row] = {}
        for place, cell in self.places():
            period = _period(place.day, length)
            measures = {"": cell.records, **cell.sums}
            for measure, value in measures.items():
                key = (place.source, place.kind, period, measure)
                row = rows.setdefault(key, Row(*key))
                row.values[place.outcome] = row.values.get(place.outcome, 0) + value
        return [rows[key] for key in sorted(rows)]

    def days(self) -> set[date]:
        """Return the days on which something is counted."""
        return {place.day for place in self.cells if place.day is not None}


@dataclass(slots=True)
class Row:
    """Values of one source, kind and measure in a period.

    Args:
        source: whose.
        kind: what.
        period: ``2026-01-31``, ``2026-01``, or empty for all, and for what has no day.
        measure: the measure, or empty for the number of records.
        values: by outcome.
    """

    source: str
    kind: str
    period: str
    measure: str
    values: dict[str, int] = field(default_factory=dict[str, int])


def _period(day: date | None, length: Literal["day", "month", "total"]) -> str:
    if day is None or length == "total":
        return ""
    return day.isoformat()[: 10 if length == "day" else 7]


def bundles(ledger: Ledger, source: str | None = None) -> list[BundleLine]:
    """Return all bundles, or those of a source, by source and sequence."""
    connection = ledger.database.connection
    states = counts.per_bundle(connection)
    for found in states.values():
        # As in receipts, what is being sent is in doubt.
        if "sending" in found:
            found["in_doubt"] = found.get("in_doubt", 0) + found.pop("sending")
    rows = connection.execute(
        "SELECT x.number, x.source, x.sequence, x.bundle_id, x.created, x.imported_at,"
        " c.file_name, c.created_at FROM bundle x LEFT JOIN receipt c ON c.bundle = x.number"
        " AND c.number = (SELECT max(number) FROM receipt WHERE bundle = x.number)"
        " WHERE CAST(? AS TEXT) IS NULL OR x.source = ? ORDER BY x.source, x.sequence",
        (source, source),
    )
    return [
        BundleLine(
            row[0],
            row[1],
            row[2],
            row[3],
            timestamps.to_text(windows.instant(row[4])),
            row[5],
            states.get(row[0], {}),
            row[6],
            row[7],
        )
        for row in rows
    ]


def lines(ledger: Ledger, found: Iterable[BundleLine]) -> Iterator[Line]:
    """Yield every record of bundles, each once, in the order of the bundles and of the records."""
    kinds = ledger.catalog.kinds
    for bundle in found:
        rows = ledger.database.stream(_LINES, (bundle.number,))
        for identifier, name, payload, outcome, status, changed_at, by_hand in rows:
            kind, content = kinds[name], codec.decode_own(payload)
            times = window(kind, content, where="a record of the ledger")
            start, end = map(windows.micros, times) if times else (None, None)
            told = bundle.receipt_at is not None and changed_at <= bundle.receipt_at
            yield Line(
                bundle.source,
                name,
                identifier.hex(),
                bundle.sequence,
                start,
                end,
                outcome,
                changed_at if outcome == "delivered" else None,
                status,
                bool(by_hand),
                bundle.receipt if told else None,
                measures(kind, content),
            )


def measures(kind: Kind, payload: JsonObject) -> dict[str, int]:
    """Return what a record counts, by measure."""
    found = Totals()
    found.add(kind, payload)
    return found.kinds[kind.name].sums


def summary(ledger: Ledger, asked: Asked) -> tuple[Summary, list[BundleLine]]:
    """Return what was asked for of a ledger, and the bundles of the sources.

    Memory grows with days, kinds and measures, not with records.
    """
    made, known = Summary(), bundles(ledger, asked.source)
    looked_at = relevant(ledger, known, asked)
    for line in lines(ledger, looked_at):
        made.add(line, asked)
    _set_aside(ledger, made, known, looked_at)
    return made, known


def relevant(ledger: Ledger, known: list[BundleLine], asked: Asked) -> list[BundleLine]:
    """Return the bundles that may hold a record of a day that is asked for.

    Of bundles that are delivered as a whole the ledger knows which time they are about.
    """
    if asked.by != "usage" or not asked.bounded:
        return known
    first = None if asked.first is None else bounds(asked.first, asked.first)[0]
    last = None if asked.last is None else bounds(asked.last, asked.last)[1]
    outside = delivered.outside(ledger, first, last)
    return [bundle for bundle in known if bundle.number not in outside]


def _set_aside(
    ledger: Ledger, made: Summary, known: list[BundleLine], looked_at: list[BundleLine]
) -> None:
    """Count the records without a day that are in bundles nobody looked at."""
    if len(looked_at) == len(known):
        return
    left = {bundle.number for bundle in known} - {bundle.number for bundle in looked_at}
    dayless = [kind.name for kind in ledger.catalog.kinds.values() if kind.period is None]
    rows = ledger.database.connection.execute(
        "SELECT k.bundle, x.source, k.kind, k.fresh FROM bundle_kind k"
        " JOIN bundle x ON x.number = k.bundle"
        f" WHERE k.fresh > 0 AND k.kind IN ({', '.join('?' * len(dayless))})",
        dayless,
    )
    for bundle, source, kind, count in rows:
        if bundle in left:
            made.aside[source, kind] = made.aside.get((source, kind), 0) + count


def as_json(made: Summary, known: list[BundleLine], asked: Asked, catalog: Catalog) -> JsonObject:
    """Return a report as ``--json`` prints it (``schemas/output/report.schema.json``)."""
    return {
        "from": asked.first.isoformat() if asked.first else None,
        "to": asked.last.isoformat() if asked.last else None,
        "by": asked.by,
        "source": asked.source,
        "totals": {outcome: made.totals(outcome).as_map() for outcome in OUTCOMES},
        "days": [
            {
                "source": place.source,
                "kind": place.kind,
                "day": place.day.isoformat() if place.day else None,
                "outcome": place.outcome,
                "records": cell.records,
                "sums": dict(sorted(cell.sums.items())),
            }
            for place, cell in made.places()
        ],
        "without_a_day": [
            {"source": source, "kind": kind, "records": count}
            for (source, kind), count in sorted(made.aside.items())
        ],
        "bundles": [bundle.as_json() for bundle in known],
        "kinds_without_a_period": sorted(k.name for k in catalog.kinds.values() if not k.period),
    }


def bounds(first: date, last: date) -> tuple[int, int]:
    """Return when a first day starts and a last day ends, in microseconds since 1970."""
    start = windows.micros(datetime.combine(first, datetime.min.time(), UTC))
    end = windows.micros(datetime.combine(last, datetime.min.time(), UTC))
    return start, end + timedelta(days=1) // timedelta(microseconds=1)
