"""Counts of what is in the ledger, and what is not delivered: per source and kind."""

from collections.abc import Iterator, Mapping, Sequence

from airgap.bundle import codec
from airgap.causes import Undelivered, endpoint
from airgap.replay import counts
from airgap.replay.counts import SOURCE, Counts
from airgap.replay.ledger import Ledger

_SCOPED = (
    " AND EXISTS (SELECT 1 FROM bundle_record b JOIN scope s ON s.bundle = b.bundle"
    " WHERE b.record = o.record)"
)
CUT_OFF = "the run was cut off after sending began"
CONFLICT = "another content came under this id before; neither sent nor counted"


def by_source(ledger: Ledger, *, scoped: bool) -> Counts:
    """Return how many records of each source and kind are in each state."""
    connection = ledger.database.connection
    with ledger.database.snapshot():
        return counts.of_scope(connection) if scoped else counts.everything(connection)


def undelivered(
    ledger: Ledger,
    states: Sequence[str],
    *,
    scoped: bool,
    dialects: Mapping[str, str] | None = None,
) -> Iterator[Undelivered]:
    """Yield records in some states, oldest first; of those that wait, only those that were tried.

    Args:
        ledger: the ledger.
        states: the states; ``sending`` among them says that no import runs, so it was cut off.
        scoped: only records of the bundles that were chosen.
        dialects: by kind, the form that requests are sent in where it is not the record's own.
    """
    chosen = dialects or {}
    rows = ledger.database.stream(
        f"SELECT r.id, {SOURCE}, r.kind, r.dialect, o.state, o.status, o.detail, r.payload"
        " FROM open_record o CROSS JOIN record r WHERE r.number = o.record"
        f" AND o.state IN ({', '.join('?' * len(states))})"
        " AND (o.state != 'waiting' OR o.detail IS NOT NULL)"
        f"{_SCOPED if scoped else ''} ORDER BY o.record",
        tuple(states),
    )
    for identifier, source, kind, dialect, state, status, detail, payload in rows:
        yield Undelivered(
            identifier.hex(),
            source,
            kind,
            endpoint(ledger.catalog.kind(kind), chosen.get(kind, dialect)),
            state,
            status,
            CUT_OFF if state == "sending" else detail,
            codec.decode_own(payload),
        )
    if "dead" not in states:
        return
    rows = ledger.database.stream(
        "SELECT r.id, x.source, r.kind, r.dialect, b.conflict FROM bundle_record b"
        " JOIN record r ON r.number = b.record JOIN bundle x ON x.number = b.bundle"
        f" WHERE b.conflict IS NOT NULL{' AND b.bundle IN (SELECT bundle FROM scope)' if scoped else ''}"
        " ORDER BY r.number"
    )
    for identifier, source, kind, dialect, payload in rows:
        yield Undelivered(
            identifier.hex(),
            source,
            kind,
            endpoint(ledger.catalog.kind(kind), chosen.get(kind, dialect)),
            "dead",
            None,
            CONFLICT,
            codec.decode_own(payload),
        )
