"""What people look at and decide in the ledger: doubt, dead letters, one record's history."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from airgap import timestamps
from airgap.bundle import codec
from airgap.catalog import JsonObject
from airgap.credentials import redact
from airgap.errors import UsageError
from airgap.replay import steps
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import State

Choice = Literal["waiting", "delivered"]

_SOURCE = (
    "(SELECT min(x.source) FROM bundle x JOIN bundle_record y ON y.bundle = x.number"
    " WHERE y.record = o.record)"
)

_DELIVER = (
    "INSERT INTO delivered_record (record, attempts, doubted, status, detail, answer, changed_at{carried})"
    " SELECT record, attempts, doubted, status, CAST(? AS TEXT), answer, CAST(? AS TEXT){carried}"
    " FROM open_record WHERE record BETWEEN ? AND ?"
)


def unsettled(ledger: Ledger, state: State, limit: int) -> list[dict[str, Any]]:
    """Return records in a state, for people: id, kind, source, status, detail, since when."""
    delivered = state == "delivered"
    rows = ledger.database.connection.execute(
        f"SELECT r.id, r.kind, {_SOURCE}, o.status, o.detail, o.changed_at"
        f" FROM {'delivered_record' if delivered else 'open_record'} o CROSS JOIN record r"
        f" WHERE r.number = o.record{'' if delivered else ' AND o.state = ?'} ORDER BY o.record LIMIT ?",
        (limit,) if delivered else (state, limit),
    )
    found = rows.fetchall()
    if state == "dead":
        # What came under the id of another record; that one has a state of its own.
        found += ledger.database.connection.execute(
            "SELECT r.id, r.kind, x.source, NULL, CAST(? AS TEXT) || CAST(x.sequence AS TEXT),"
            " x.imported_at FROM bundle_record b"
            " JOIN record r ON r.number = b.record JOIN bundle x ON x.number = b.bundle"
            " WHERE b.conflict IS NOT NULL ORDER BY r.number LIMIT ?",
            (
                "another content under the id of a record, neither sent nor counted; in bundle ",
                limit,
            ),
        ).fetchall()
    names = ("id", "kind", "source", "status", "detail", "since")
    return [dict(zip(names, (row[0].hex(), *row[1:]), strict=True)) for row in found]


def find(ledger: Ledger, prefix: str) -> list[bytes]:
    """Return the ids that begin with hexadecimal digits, at most two."""
    rows = ledger.database.connection.execute(
        "SELECT id FROM record WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 2", _range(prefix)
    )
    return [row[0] for row in rows]


def _range(prefix: str) -> tuple[bytes, bytes]:
    """Return the lowest and the highest id that begin with hexadecimal digits."""
    first, last = (bytes.fromhex(prefix.ljust(32, digit)) for digit in "0f")
    return first, last


def show(ledger: Ledger, identifier: bytes) -> JsonObject:
    """Return all that the ledger knows of a record: where it came from, its state, its history."""
    connection = ledger.database.connection
    row = connection.execute(
        "SELECT number, kind, dialect, credential, occurrence, payload, state, attempts, doubted,"
        " status, detail, answer, changed_at FROM record_state WHERE id = ?",
        (identifier,),
    ).fetchone()
    bundles = connection.execute(
        "SELECT x.source, x.sequence, x.bundle_id, x.imported_at FROM bundle x"
        " JOIN bundle_record y ON y.bundle = x.number WHERE y.record = ? ORDER BY x.number",
        (row[0],),
    )
    events = connection.execute(
        "SELECT at, state, status, detail FROM event WHERE record = ? ORDER BY number", (row[0],)
    )
    return {
        "id": identifier.hex(),
        "kind": row[1],
        "dialect": row[2],
        "credential": row[3],
        "occurrence": row[4],
        "payload": codec.decode_own(row[5]),
        "state": row[6],
        "attempts": row[7],
        "may_have_been_counted": bool(row[8]),
        "status": row[9],
        "detail": row[10],
        "answer": row[11],
        "since": row[12],
        "bundles": [
            dict(zip(("source", "sequence", "bundle_id", "imported_at"), found, strict=True))
            for found in bundles
        ],
        "history": [
            dict(zip(("at", "state", "status", "detail"), found, strict=True)) for found in events
        ],
    }


def decide(
    ledger: Ledger, prefix: str, states: Sequence[State], choice: Choice, reason: str
) -> list[str]:
    """Decide records by hand.

    Args:
        ledger: the ledger: a file that this process holds alone, or one that is shared. What is
            waiting or being sent is never decided, so no run that is alive has it in hand.
        prefix: the record's id or its beginning; empty for every record in ``states``.
        states: only records in one of these change.
        choice: ``waiting`` to send again, ``delivered`` to count it as delivered.
        reason: why; kept in the record's history.

    Returns:
        Ids of the records that changed.

    Raises:
        UsageError: several records' ids begin with ``prefix``.
    """
    words = "send again" if choice == "waiting" else "delivered"
    detail = redact(f"decided by hand ({words}): {reason}", ledger.catalog)
    now = timestamps.to_text(ledger.clock())
    marks, tables = ", ".join("?" * len(states)), ("record r", "open_record o")
    # Where the ledger is shared, two people may decide at once: each record is decided by one of them.
    with ledger.database.turn("decide"), ledger.database.transaction() as connection:
        found = connection.execute(
            # One by its id, or what is open: whichever has fewer to be looked through.
            f"SELECT o.record, r.id FROM {' CROSS JOIN '.join(tables if prefix else reversed(tables))}"
            f" WHERE r.number = o.record AND o.state IN ({marks}) AND r.id BETWEEN ? AND ? ORDER BY o.record",
            (*states, *_range(prefix)),
        ).fetchall()
        if prefix and len(found) > 1:
            raise UsageError(
                "several records' ids begin so", found=prefix, hint="give more digits of the id"
            )
        runs = steps.runs(row[0] for row in found)
        decided = [(detail, now, *run) for run in runs]
        if choice == "delivered":
            connection.executemany(_DELIVER.format(carried=ledger.claims.carried), decided)
            connection.executemany(steps.CLOSE, runs)
        else:
            connection.executemany(
                "UPDATE open_record SET state = 'waiting', detail = ?, changed_at = ?"
                f"{ledger.claims.freed} WHERE record BETWEEN ? AND ?",
                decided,
            )
        connection.executemany(
            "INSERT INTO event (record, at, state, detail) VALUES (?, ?, ?, ?)",
            [(row[0], now, choice, detail) for row in found],
        )
    return [row[1].hex() for row in found]


def dead_letters(ledger: Ledger) -> Iterator[JsonObject]:
    """Yield every dead letter as ``show`` returns it, oldest first."""
    rows = ledger.database.connection.execute(
        "SELECT r.id FROM open_record o CROSS JOIN record r WHERE r.number = o.record"
        " AND o.state = 'dead' ORDER BY o.record"
    ).fetchall()
    for (identifier,) in rows:
        yield show(ledger, identifier)
