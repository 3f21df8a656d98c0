"""Bundles that are delivered as a whole: seen once, and known for good.

What is delivered stays so, and a bundle's records are what they were when it came. So its outcomes, the
digest over them, and the time that its records are about need no second look.
"""

from collections.abc import Iterable

from airgap import windows
from airgap.bundle import codec
from airgap.records import window
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle


def digest(ledger: Ledger, bundle: LedgerBundle, *, with_answers: bool) -> str | None:
    """Return the digest over a bundle's outcomes; None where it was not seen to be delivered so."""
    row = ledger.database.connection.execute(
        f"SELECT {_column(with_answers=with_answers)} FROM delivered_bundle WHERE bundle = ?",
        (bundle.number,),
    ).fetchone()
    return None if row is None else row[0]


def records(ledger: Ledger, bundle: LedgerBundle) -> int:
    """Return how many records a bundle holds."""
    [count] = ledger.database.connection.execute(
        "SELECT CAST(coalesce(sum(records), 0) AS BIGINT) FROM bundle_kind WHERE bundle = ?",
        (bundle.number,),
    ).fetchone()
    return int(count)


def note(ledger: Ledger, seen: Iterable[tuple[LedgerBundle, str]], *, with_answers: bool) -> None:
    """Store that every record of some bundles was seen to be delivered.

    Args:
        ledger: the ledger.
        seen: the bundles, each with the digest over its outcomes.
        with_answers: whether these had the answers that are kept.
    """
    column = _column(with_answers=with_answers)
    known = {
        row[0] for row in ledger.database.connection.execute("SELECT bundle FROM delivered_bundle")
    }
    rows = [(b, digest, *(() if b.number in known else _bounds(ledger, b))) for b, digest in seen]
    with ledger.database.transaction() as connection:
        connection.executemany(
            "INSERT INTO delivered_bundle (bundle, first_start, last_start) VALUES (?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            [(row[0].number, *row[2:]) for row in rows if len(row) > 2],
        )
        connection.executemany(
            f"UPDATE delivered_bundle SET {column} = ? WHERE bundle = ?",
            [(row[1], row[0].number) for row in rows],
        )


def outside(ledger: Ledger, first: int | None, last: int | None) -> set[int]:
    """Return the numbers of delivered bundles none of whose windows starts within a time.

    Args:
        ledger: the ledger.
        first: its beginning, in microseconds since 1970, or None for no bound.
        last: its end, which is no part of it, or None.
    """
    rows = ledger.database.connection.execute(
        "SELECT bundle FROM delivered_bundle WHERE first_start IS NULL OR last_start < ?"
        " OR first_start >= ?",
        (_LOWEST if first is None else first, _HIGHEST if last is None else last),
    )
    return {row[0] for row in rows}


_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def _column(*, with_answers: bool) -> str:
    return "digest_with_answers" if with_answers else "digest"


def _bounds(ledger: Ledger, bundle: LedgerBundle) -> tuple[int | None, int | None]:
    """Return when a bundle's first and last windows start, if it has any."""
    first: int | None = None
    last: int | None = None
    for kind, payload in ledger.database.stream(
        "SELECT r.kind, r.payload FROM bundle_record b JOIN record r ON r.number = b.record"
        " WHERE b.bundle = ?",
        (bundle.number,),
    ):
        if ledger.catalog.kind(kind).period is None:
            continue
        content = codec.decode_own(payload)
        times = window(ledger.catalog.kind(kind), content, where="a record of the ledger")
        if times is not None:
            start = windows.micros(times[0])
            first = start if first is None else min(first, start)
            last = start if last is None else max(last, start)
    return first, last
