"""A report as CSV, for those who reconcile the invoice: RFC 4180, exact integers, no formulas.

Text that a spreadsheet would run as a formula (it begins with ``= + - @``, their full-width forms,
a tab, a line break, or with the apostrophe that marks such text) gets an apostrophe before it;
to have it back, take the first apostrophe away. Values are integers without signs, never text.
"""

import csv
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TextIO

from airgap import timestamps, windows
from airgap.replay.report import Asked, Line, Summary

_FORMULA = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")

RECORD_COLUMNS = (
    "source",
    "kind",
    "record_id",
    "bundle_sequence",
    "window_from",
    "window_to",
    "measure",
    "value",
    "outcome",
    "delivered_at",
    "http_status",
    "decided_by",
    "receipt",
)
DAY_COLUMNS = ("source", "kind", "day", "outcome", "records", "measure", "value")


class _Writer(Protocol):
    def writerow(self, row: Sequence[str | int], /) -> Any: ...


def cell(value: str | int | None) -> str | int:
    """Return a value as it stands in a field: None is empty, text is no formula."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def uncell(text: str) -> str:
    """Return the text that ``cell`` was given."""
    return text.removeprefix("'")


def write_records(stream: TextIO, lines: Iterable[Line], asked: Asked) -> int:
    """Write one row per record and measure, and one without a measure for a record that has none.

    Args:
        stream: opened with ``newline=""``.
        lines: the records.
        asked: those of another time are left out.

    Returns:
        How many records were written.
    """
    writer, count = _writer(stream, RECORD_COLUMNS), 0
    for line in lines:
        if not asked.has(line.day(asked.by)):
            continue
        count += 1
        measures: list[tuple[str | None, int | None]] = [*sorted(line.values.items())]
        for measure, value in measures or [(None, None)]:
            fields = (
                line.source,
                line.kind,
                line.id,
                line.sequence,
                _moment(line.start),
                _moment(line.end),
                measure,
                value,
                line.outcome,
                line.delivered_at,
                line.status,
                _decided(line),
                line.receipt,
            )
            writer.writerow([cell(field) for field in fields])
    return count


def write_days(stream: TextIO, made: Summary) -> int:
    """Write per source, kind, day and outcome: one row with the records, then one per measure.

    Returns:
        How many rows were written.
    """
    writer, count = _writer(stream, DAY_COLUMNS), 0
    for place, total in made.places():
        day = place.day.isoformat() if place.day else None
        rows: list[tuple[int | None, str | None, int | None]] = [(total.records, None, None)]
        rows += [(None, name, value) for name, value in sorted(total.sums.items())]
        for row in rows:
            fields = (place.source, place.kind, day, place.outcome, *row)
            writer.writerow([cell(field) for field in fields])
            count += 1
    return count


def _writer(stream: TextIO, columns: Sequence[str]) -> "_Writer":
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(columns)
    return writer


def _decided(line: Line) -> str | None:
    if line.by_hand:
        return "hand"
    return "beacon" if line.outcome == "delivered" else None


def _moment(value: int | None) -> str | None:
    return None if value is None else timestamps.to_text(windows.instant(value), precise=True)
