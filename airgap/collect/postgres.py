"""LangSmith's database: its unreported rows, and the marks that say what was exported and sent.

Reading is one read-only, repeatable-read transaction, so all tables are seen at one moment; rows
come through a server-side cursor, a few thousand at a time. Values come as text, with the session's
formats set, so a row is read as it would be from a CSV file.

Connections go where the operator's URL says, and nowhere else (``airgap.pgsession``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airgap import pgsession, pgurl, timestamps
from airgap.collect.pgtimes import TimeNotReadError, Times
from airgap.collect.pgtimes import parse as parse_time
from airgap.collect.quickrows import QuickRows
from airgap.collect.tables import Cell, Field, Row, Skipped, Table
from airgap.errors import AirgapError, InputRefusedError, UsageError
from airgap.sightings import Plain
from airgap.text import plural, printable

_BATCH = 2_000
_READ = "nothing was taken over and nothing was changed; then run the command again"
_WROTE = (
    "what was collected or confirmed is kept, and marks are whole or not there; then run the command "
    "again"
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A row that the database does not hold as the outbox would have it, and how it stands."""

    table: str
    row_id: str
    found: str


class Langsmith:
    """A connection to LangSmith's database.

    Args:
        url: where, as libpq understands it; a password comes from it, PGPASSWORD, a password or
            service file, or ``ask``.
        ask: asks a person for the password of what is named, or None where nobody is there.
        writing: whether rows are to be marked; else the session can't write.

    Raises:
        UsageError: psycopg is not installed, or the database can't be reached.
    """

    def __init__(
        self, url: str, ask: Callable[[str], str] | None = None, *, writing: bool = False
    ) -> None:
        self.name = pgurl.shown(url)
        self._psycopg = pgsession.library("reading a database")
        self._target = pgsession.target(self._psycopg, url)
        try:
            connection = pgsession.connect(self._psycopg, self._target, ask)
        except self._psycopg.Error as error:
            raise self._unreachable(error) from None
        self._connection = connection
        self._hint = _WROTE if writing else _READ
        connection.prepare_threshold = None  # PgBouncer may give each transaction another server
        connection.read_only = not writing
        if not writing:
            connection.isolation_level = self._psycopg.IsolationLevel.REPEATABLE_READ

    def close(self) -> None:
        """End the session; what was not committed is undone."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction: all tables as they are at its start, and all marks or none."""
        with self._errors(), self._connection.transaction():
            self._connection.execute("SET LOCAL TimeZone = 'UTC'")
            self._connection.execute("SET LOCAL DateStyle = 'ISO, YMD'")
            self._connection.execute("SET LOCAL lock_timeout = '30s'")
            # Rather an error than rows that a policy hides from this role without a word.
            self._connection.execute("SET LOCAL row_security = off")
            yield

    def columns(self, table: Table) -> dict[str, str] | None:
        """Return a table's columns and their types, or None where the table is not there."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
                " ORDER BY attnum",
                (table.name,),
            ).fetchall()
        return dict(rows) or None

    def count(self, table: Table) -> int:
        """Return how many rows a table has."""
        with self._errors():
            row = self._connection.execute(
                self._sql("SELECT count(*) FROM {}", table.name)
            ).fetchone()
        return int(row[0])

    def note_others(self, table: Table, columns: Mapping[str, str], skipped: Skipped) -> None:
        """Count the rows that ``rows`` does not yield: others' and by state; within ``transaction``."""
        state = table.unreported
        if state is None or state.column not in columns:
            return
        condition, names, values = _own(table, columns)
        with self._errors():
            rows = self._connection.execute(
                self._sql(
                    f"SELECT {{}}::text, ({condition}) IS TRUE, count(*) FROM {{}} GROUP BY 1, 2",
                    state.column,
                    *names,
                    table.name,
                ),
                values,
            ).fetchall()
        for value, is_own, count in rows:
            if not is_own:
                skipped.elsewhere += count
            elif value not in state.values:
                skipped.add(state, value, count)

    def rows(
        self,
        table: Table,
        columns: Mapping[str, str],
        times: Times,
        quick: Callable[[Sequence[str], Mapping[str, tuple[Field, str]]], QuickRows | None],
    ) -> Iterator[Row | Plain]:
        """Yield a table's unreported rows, the oldest first; within ``transaction``.

        Args:
            table: the table.
            columns: its columns and types, see ``columns``.
            times: what times without an offset mean.
            quick: returns what reads plain rows, by the columns and by which holds which field, or
                None.

        Raises:
            InputRefusedError: a column is missing, or a time has no meaning.
            UsageError: the role may not read the table.
        """
        held = table.fields_of(columns, where=f"{self.name}, table {table.name}")
        names = _needed(table, columns, [column for _, column in held.values()])
        reader = quick(names, held)
        start = next((held[f.name][1] for f in table.fields if f.type == "time"), table.row_id)
        condition, values = _unreported(table, columns)
        with self._errors(), self._connection.cursor(name="airgap") as cursor:
            cursor.itersize = _BATCH
            cursor.execute(
                self._sql(
                    "SELECT "
                    + ", ".join(["{}::text"] * len(names))
                    + f" FROM {{}}{condition[0]} ORDER BY {{}}, {{}}",
                    *names,
                    table.name,
                    *condition[1],
                    start,
                    table.row_id,
                ),
                values,
            )
            for number, values_of in enumerate(cursor, 1):
                plain = None if reader is None else reader.read(values_of)
                if plain is not None:
                    yield plain
                    continue
                cells = dict(zip(names, values_of, strict=True))
                where = f"{self.name}, {table.name} {cells.get(table.row_id) or f'row {number}'}"
                yield Row(table, _timed(table, cells, times, where=where), where, held)

    def mark(
        self, table: Table, row_ids: Sequence[str], backfill_id: str, now: datetime
    ) -> list[Foreign]:
        """Give rows that are in no export yet an export's id; within ``transaction``.

        A row that has another export's id keeps it, and one that was reported meanwhile gets none.

        Args:
            table: the table.
            row_ids: the rows.
            backfill_id: the export's id.
            now: the export's time.

        Returns:
            The rows that are not part of this export afterwards.

        Raises:
            UsageError: the table or its columns for marks are not there.
        """
        mark, state = table.mark, table.unreported
        assert mark is not None
        assert state is not None
        missing = {mark.id, mark.at, state.column} - (self.columns(table) or {}).keys()
        if missing:
            raise UsageError(
                "the table can't be marked: it is not there, or a release of LangSmith made it that "
                "does not know of exports",
                where=f"{self.name}, table {table.name}",
                expected=f"columns {', '.join(sorted(missing))}",
                hint="collect and apply receipts without --mark; what was collected or confirmed is kept",
            )
        foreign: list[Foreign] = []
        for part in _parts(row_ids):
            self._execute(
                self._sql(
                    "UPDATE {} SET {} = %s, {} = %s WHERE {} = ANY(%s) AND {} IS NULL"
                    " AND {}::text = ANY(%s)",
                    table.name,
                    mark.id,
                    mark.at,
                    table.row_id,
                    mark.id,
                    state.column,
                ),
                (
                    backfill_id,
                    timestamps.to_text(now, precise=True),
                    _array(part),
                    list(state.values),
                ),
            )
            foreign += self._other_than(
                table,
                part,
                lambda row: row[0] == backfill_id and row[1] in (*state.values, mark.sent),
            )
        return foreign

    def confirm(self, table: Table, row_ids: Sequence[str], backfill_id: str) -> list[Foreign]:
        """Mark an export's rows as sent; within ``transaction``.

        Args:
            table: the table.
            row_ids: the rows that a receipt confirms.
            backfill_id: the export that they are part of.

        Returns:
            The rows that are not marked as sent afterwards: gone, in another export, or in a state
            that nobody expects.
        """
        mark, state = table.mark, table.unreported
        assert mark is not None
        assert state is not None
        foreign: list[Foreign] = []
        for part in _parts(row_ids):
            self._execute(
                self._sql(
                    "UPDATE {} SET {} = %s WHERE {} = ANY(%s) AND {}::text = %s"
                    " AND {}::text = ANY(%s)",
                    table.name,
                    state.column,
                    table.row_id,
                    mark.id,
                    state.column,
                ),
                (mark.sent, _array(part), backfill_id, list(state.values)),
            )
            foreign += self._other_than(table, part, lambda row: row == (backfill_id, mark.sent))
        return foreign

    def _other_than(
        self, table: Table, row_ids: list[str], right: Callable[[tuple[str, str]], bool]
    ) -> list[Foreign]:
        """Return the rows that do not stand as they should."""
        mark, state = table.mark, table.unreported
        assert mark is not None
        assert state is not None
        statement = self._sql(
            "SELECT {}::text, {}::text, {}::text FROM {} WHERE {} = ANY(%s)",
            table.row_id,
            mark.id,
            state.column,
            table.name,
            table.row_id,
        )
        with self._errors():
            rows = self._connection.execute(statement, (_array(row_ids),)).fetchall()
        there = {row[0]: row[1:] for row in rows}
        return [
            Foreign(table.name, row_id, _stands(there.get(row_id)))
            for row_id in row_ids
            if row_id not in there or not right(there[row_id])
        ]

    def _execute(self, statement: Any, values: Sequence[object]) -> None:
        with self._errors():
            self._connection.execute(statement, values)

    def _sql(self, text: str, *names: str) -> Any:
        """Return a statement with names in it, quoted by the library; a % in one is no placeholder."""
        sql = self._psycopg.sql
        return sql.SQL(text).format(*(sql.Identifier(name.replace("%", "%%")) for name in names))

    def _unreachable(self, error: Exception) -> UsageError:
        return UsageError(
            f"the database can't be reached: {self._target.words(error)}",
            where=self.name,
            hint="check host, port, role and password (PGPASSWORD, ~/.pgpass, a service file); "
            "psql with the same URL says more",
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except AirgapError:
            raise
        except self._psycopg.errors.InsufficientPrivilege as error:
            raise UsageError(
                f"the database role may not do this: {self._target.words(error)}",
                where=self.name,
                hint=f"GRANT SELECT on the table to read it, and UPDATE to mark rows; {self._hint}",
            ) from None
        except self._psycopg.Error as error:
            raise UsageError(
                f"the database refused: {self._target.words(error)}",
                where=self.name,
                hint=self._hint,
            ) from None


def _needed(table: Table, columns: Mapping[str, str], held: Iterable[str]) -> list[str]:
    """Return the columns to read, and no other: what is not read can't leave."""
    names = [table.row_id, *held]
    if table.unreported is not None:
        names += [table.unreported.column, *table.unreported.where]
    if table.mark is not None:
        names.append(table.mark.id)
    if table.measures is not None:
        names += [
            name
            for name, kind in columns.items()
            if kind in ("smallint", "integer", "bigint") and name not in table.left
        ]
    return [name for name in dict.fromkeys(names) if name in columns]


def _unreported(
    table: Table, columns: Mapping[str, str]
) -> tuple[tuple[str, list[str]], list[object]]:
    """Return the condition for rows to read, its names, and its values."""
    if table.unreported is None:
        return ("", []), []
    own, names, values = _own(table, columns)
    return (
        f" WHERE {{}}::text = ANY(%s) AND {own}",
        [table.unreported.column, *names],
    ), [list(table.unreported.values), *values]


def _own(table: Table, columns: Mapping[str, str]) -> tuple[str, list[str], list[object]]:
    """Return the condition for rows of this installation, its names, and its values.

    As text: a state or a source may be of an enumerated type, which has not all of the values.
    """
    where = table.unreported.where if table.unreported else {}
    there = {column: wanted for column, wanted in where.items() if column in columns}
    condition = " AND ".join(["TRUE", *["{}::text = ANY(%s)"] * len(there)])
    return condition, list(there), [list(wanted) for wanted in there.values()]


def _timed(
    table: Table, cells: Mapping[str, str | None], times: Times, *, where: str
) -> dict[str, Cell]:
    made: dict[str, Cell] = {}
    for name, cell in cells.items():
        if cell is None or table.column_type(name) != "time":
            made[name] = cell
            continue
        try:
            made[name] = parse_time(cell, times)
        except TimeNotReadError as error:
            raise InputRefusedError(
                f"column {name}: {error}", where=where, hint=error.cure
            ) from None
    return made


def _parts(row_ids: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(row_ids), _BATCH):
        yield list(row_ids[first : first + _BATCH])


def _array(row_ids: Sequence[str]) -> str:
    """Return ids as an array that is of the column's type, whichever that is: uuid, text, bigint.

    Ids are hexadecimal digits and hyphens, see ``tables``, so nothing in them needs quotes.
    """
    return f"{{{','.join(row_ids)}}}"


def _stands(row: tuple[str | None, str | None] | None) -> str:
    if row is None:
        return "the row is gone"
    return f"backfill_id {row[0] or 'none'}, state {printable(str(row[1]), 40)}"


def summary(foreign: Sequence[Foreign]) -> list[str]:
    """Return rows that stand otherwise as lines for people, the first 20."""
    lines = [f"{f.table} {f.row_id}: {f.found}" for f in foreign[:20]]
    if len(foreign) > 20:
        lines.append(f"and {plural(len(foreign) - 20, 'row')} more")
    return lines
