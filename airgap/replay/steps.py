"""A step of the delivery as rows of values: what changes in the ledger, a run of numbers at a time."""

import json
from collections.abc import Iterable, Sequence

from airgap.replay.ledger_layout import Settled

EVENT = "INSERT INTO event (record, at, state, status, detail) VALUES (?, ?, ?, ?, ?)"
# Both go by the record's number, a run of numbers at a time. That the state is no bare column keeps
# the index on it out: it would look through all records in that state for each run.
SEND = (
    "UPDATE record SET state = 'sending', attempts = attempts + 1, changed_at = ?"
    " WHERE number BETWEEN ? AND ? AND state || '' = 'waiting'"
)
SETTLE = (
    "UPDATE record SET state = ?, status = ?, detail = ?, answer = ?, changed_at = ?,"
    " doubted = CASE WHEN ? = 1 THEN 1 ELSE doubted END WHERE number BETWEEN ? AND ?"
)


def changes(
    settled: Sequence[Settled], now: str
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return the values of the settled records, by runs of numbers, and those of their events."""
    numbers: dict[tuple[object, ...], list[int]] = {}
    events: list[tuple[object, ...]] = []
    for item in settled:
        kept = json.dumps(item.answers) if item.answers else None
        said = (item.state, item.status, item.detail, kept, int(item.doubted))
        numbers.setdefault(said, []).extend(item.numbers)
        if item.state != "delivered":
            events += [(n, now, item.state, item.status, item.detail) for n in item.numbers]
    changed: list[tuple[object, ...]] = []
    for (state, status, detail, answer, doubted), alike in numbers.items():
        what = (state, status, detail, answer, now, doubted)
        changed += [(*what, first, last) for first, last in runs(alike)]
    return changed, events


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
