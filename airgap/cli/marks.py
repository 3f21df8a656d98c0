"""Marks in LangSmith's database: which export rows are part of, and that they were sent."""

import uuid
from collections.abc import Callable, Iterable, Mapping

from airgap import marking, timestamps
from airgap.audit import record
from airgap.cli.asking import password_prompt
from airgap.cli.common import Output
from airgap.collect.postgres import Foreign, Langsmith, summary
from airgap.collect.tables import Table
from airgap.errors import DamagedError
from airgap.marking import Export
from airgap.outbox import Outbox
from airgap.pgurl import shown
from airgap.text import plural


def mark_exported(
    out: Output,
    outbox: Outbox,
    url: str,
    tables: Iterable[Table],
    ask: Callable[[str], str] | None,
) -> None:
    """Write into the database which export the outbox's rows are part of.

    Raises:
        DamagedError: some rows are not part of it afterwards.
        UsageError: see ``Langsmith``.
    """
    foreign: list[Foreign] = []
    database = Langsmith(url, ask, writing=True)
    try:
        for table in tables:
            if table.mark is not None:
                marking.begin(outbox, table.name, str(uuid.uuid4()))
                for export in marking.unmarked(outbox, table.name):
                    foreign += _mark(out, outbox, database, table, export)
    finally:
        database.close()
    _refuse(
        foreign,
        url,
        "that the outbox holds could not be marked",
        expected="rows without a backfill_id, in a state that is unreported",
        hint="another export took them, LangSmith reported them itself, or they are gone; what was "
        "collected is safe; find out which before it is imported, so that nothing is reported twice",
    )


def mark_sent(out: Output, outbox: Outbox, url: str, tables: Mapping[str, Table]) -> dict[str, int]:
    """Mark rows whose delivery is confirmed as sent; return how many, by table.

    Raises:
        DamagedError: the database holds some of them otherwise.
        UsageError: see ``Langsmith``.
    """
    foreign: list[Foreign] = []
    done: dict[str, int] = {}
    database = Langsmith(url, password_prompt(), writing=True)
    try:
        for table in tables.values():
            if table.mark is None:
                continue
            marking.begin(outbox, table.name, str(uuid.uuid4()), delivered=True)
            for export in marking.unsent(outbox, table.name):
                now = timestamps.system_clock()
                with database.transaction():
                    database.mark(table, export.row_ids, export.backfill_id, now)
                    other = database.confirm(table, export.row_ids, export.backfill_id)
                count = marking.note(outbox, export, {f.row_id for f in other}, now, sent=True)
                foreign += other
                if count:
                    done[table.name] = done.get(table.name, 0) + count
                    out.say(
                        f"Marked {plural(count, 'row')} of {table.name} as {table.mark.sent}: "
                        f"backfill_id {export.backfill_id}"
                    )
                    record(
                        "marked as sent",
                        table=table.name,
                        backfill_id=export.backfill_id,
                        rows=count,
                    )
    finally:
        database.close()
    _refuse(
        foreign,
        url,
        "that are confirmed stand otherwise in the database",
        expected="the export's backfill_id, and a state that is unreported",
        hint="receipts are applied and the other rows are marked; find out who changed these, "
        "since LangSmith or another export may report them a second time",
    )
    return done


def _mark(
    out: Output, outbox: Outbox, database: Langsmith, table: Table, export: Export
) -> list[Foreign]:
    now = timestamps.system_clock()
    with database.transaction():
        other = database.mark(table, export.row_ids, export.backfill_id, now)
    count = marking.note(outbox, export, {f.row_id for f in other}, now, sent=False)
    if count:
        out.say(f"Marked {plural(count, 'row')} of {table.name}: backfill_id {export.backfill_id}")
        record("marked", table=table.name, backfill_id=export.backfill_id, rows=count)
    return other


def _refuse(foreign: list[Foreign], url: str, what: str, *, expected: str, hint: str) -> None:
    """Name the rows that the database does not hold as they should be, where there are any.

    Raises:
        DamagedError: there are.
    """
    if foreign:
        first, *others = summary(foreign)
        raise DamagedError(
            f"{plural(len(foreign), 'row')} {what}",
            where=shown(url),
            expected=expected,
            found=first,
            details=others,
            hint=hint,
        )
