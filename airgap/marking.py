"""Which rows of LangSmith's tables the outbox holds, in which export they are, which arrived.

The order is what makes it safe: an export's id is in the outbox before it is in the database, and
the database hears of a delivery only after a receipt was applied.
"""

from dataclasses import dataclass
from datetime import datetime

from airgap import timestamps
from airgap.outbox import Outbox


@dataclass(frozen=True, slots=True)
class Export:
    """Rows of one table that share an export.

    Args:
        table: the table.
        backfill_id: the export's id.
        row_ids: the rows, ascending.
    """

    table: str
    backfill_id: str
    row_ids: tuple[str, ...]


def is_part(outbox: Outbox, table: str, row_id: str, backfill_id: str) -> bool:
    """Tell whether a row is known here as part of this export."""
    row = outbox.database.connection.execute(
        "SELECT backfill_id FROM source_row WHERE table_name = ? AND row_id = ?", (table, row_id)
    ).fetchone()
    return row is not None and row[0] == backfill_id


def any_marked(outbox: Outbox) -> bool:
    """Tell whether any row is thought to hold a mark in its database."""
    row = outbox.database.connection.execute(
        "SELECT EXISTS (SELECT 1 FROM source_row WHERE marked_at IS NOT NULL OR sent_at IS NOT NULL)"
    ).fetchone()
    return bool(row[0])


def stands_unmarked(outbox: Outbox, table: str, row_id: str, backfill_id: str | None) -> bool:
    """Remember that a database shows a row without the mark that it is thought to hold.

    A database that was restored from a copy, or another one than was marked, so that the next marking
    does it again. Returns whether that is so.

    Args:
        outbox: the outbox.
        table: the row's table.
        row_id: the row, which is unreported.
        backfill_id: the export that the row says it is part of.
    """
    done = outbox.database.connection.execute(
        "UPDATE source_row SET sent_at = NULL, marked_at = iif(? IS NULL, NULL, marked_at)"
        " WHERE table_name = ? AND row_id = ?"
        " AND (sent_at IS NOT NULL OR ? IS NULL AND marked_at IS NOT NULL)",
        (backfill_id, table, row_id, backfill_id),
    )
    return done.rowcount > 0


def begin(outbox: Outbox, table: str, backfill_id: str, *, delivered: bool = False) -> None:
    """Put the rows that are in no export into a new one, here first.

    Args:
        outbox: the outbox.
        table: the table.
        backfill_id: the new export's id.
        delivered: only rows whose record was delivered.
    """
    only = " AND number IN (SELECT number FROM record WHERE outcome = 'delivered')"
    with outbox.database.transaction() as connection:
        connection.execute(
            "UPDATE source_row SET backfill_id = ? WHERE table_name = ? AND backfill_id IS NULL"
            + (only if delivered else ""),
            (backfill_id, table),
        )


def unmarked(outbox: Outbox, table: str) -> list[Export]:
    """Return the exports of which the database does not know yet, as far as is known here."""
    return _exports(outbox, table, "marked_at IS NULL AND sent_at IS NULL")


def unsent(outbox: Outbox, table: str) -> list[Export]:
    """Return the exports of which rows were delivered and not marked as sent."""
    return _exports(
        outbox,
        table,
        "sent_at IS NULL AND number IN (SELECT number FROM record WHERE outcome = 'delivered')",
    )


def note(outbox: Outbox, export: Export, without: set[str], now: datetime, *, sent: bool) -> int:
    """Remember that the database holds an export's id, or its rows as sent.

    Args:
        outbox: the outbox.
        export: the rows.
        without: rows of it for which the database says something else.
        now: the present.
        sent: whether they are marked as sent.

    Returns:
        How many rows.
    """
    column = "sent_at" if sent else "marked_at"
    rows = [
        (timestamps.to_text(now), export.table, row_id)
        for row_id in export.row_ids
        if row_id not in without
    ]
    with outbox.database.transaction() as connection:
        connection.executemany(
            f"UPDATE source_row SET {column} = ? WHERE table_name = ? AND row_id = ?", rows
        )
    return len(rows)


def _exports(outbox: Outbox, table: str, condition: str) -> list[Export]:
    rows = outbox.database.connection.execute(
        "SELECT backfill_id, row_id FROM source_row WHERE table_name = ?"
        f" AND backfill_id IS NOT NULL AND {condition} ORDER BY backfill_id, row_id",
        (table,),
    )
    found: dict[str, list[str]] = {}
    for backfill_id, row_id in rows:
        found.setdefault(backfill_id, []).append(row_id)
    return [Export(table, key, tuple(ids)) for key, ids in found.items()]
