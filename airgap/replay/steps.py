"""A step of the delivery as rows of values: what changes in the ledger, a run of numbers at a time."""

import json
from collections.abc import Iterable, Sequence

from airgap.replay.ledger_layout import Settled

EVENT = "INSERT INTO event (record, at, state, status, detail) VALUES (?, ?, ?, ?, ?)"
# All go by the record's number, a run of numbers at a time.
SEND = (
    "UPDATE open_record SET state = 'sending', attempts = attempts + 1, changed_at = ?"
    " WHERE record BETWEEN ? AND ? AND state = 'waiting'"
)
SETTLE = (
    "UPDATE open_record SET state = ?, status = ?, detail = ?, answer = ?, changed_at = ?,"
    " doubted = CASE WHEN ? = 1 THEN 1 ELSE doubted END WHERE record BETWEEN ? AND ?"
)
DELIVER = (
    "INSERT INTO delivered_record (record, attempts, doubted, status, detail, answer, changed_at{carried})"
    " SELECT record, attempts, CASE WHEN ? = 1 THEN 1 ELSE doubted END, CAST(? AS INTEGER),"
    " CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT){carried}"
    " FROM open_record WHERE record BETWEEN ? AND ?"
)
CLOSE = "DELETE FROM open_record WHERE record BETWEEN ? AND ?"


Values = list[tuple[object, ...]]


def changes(settled: Sequence[Settled], now: str) -> list[tuple[str, Values]]:
    """Return the statements that settle records, in order, each with its rows of values."""
    numbers: dict[tuple[object, ...], list[int]] = {}
    events: Values = []
    for item in settled:
        kept = json.dumps(item.answers) if item.answers else None
        said = (item.state, item.status, item.detail, kept, int(item.doubted))
        numbers.setdefault(said, []).extend(item.numbers)
        if item.state != "delivered":
            events += [(n, now, item.state, item.status, item.detail) for n in item.numbers]
    kept_open: Values = []
    delivered: Values = []
    closed: Values = []
    for (state, status, detail, answer, doubted), alike in numbers.items():
        for run in runs(alike):
            if state == "delivered":
                delivered.append((doubted, status, detail, answer, now, *run))
                closed.append(run)
            else:
                kept_open.append((state, status, detail, answer, now, doubted, *run))
    every = ((SETTLE, kept_open), (DELIVER, delivered), (CLOSE, closed), (EVENT, events))
    return [(statement, values) for statement, values in every if values]


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of numbers that follow each other without a hole."""
    found: list[tuple[int, int]] = []
    first = last = -2
    for number in sorted(numbers):
        if number != last + 1:
            if last >= 0:
                found.append((first, last))
            first = number
        last = number
    return [*found, (first, last)] if last >= 0 else found
