"""The sources that are collected: files, standard input, LangSmith's CSV files and database."""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from airgap import marking, pgurl
from airgap.catalog import Catalog
from airgap.collect import csvfiles, jsonfiles, pgtimes, postgres, quickrows, tables
from airgap.collect.payloads import Rules
from airgap.collect.quick import Quick
from airgap.collect.quickrows import QuickRows
from airgap.collect.tables import Field, Row, Skipped, Table
from airgap.errors import UsageError
from airgap.home import Home
from airgap.outbox import Outbox
from airgap.sightings import Shown
from airgap.text import plural, printable

_START = 64 * 1024


@dataclass(slots=True)
class Source:
    """One source, opened.

    Args:
        name: for people, without a password.
        sightings: what it shows.
        end: closes what is behind them.
        skipped: filled while they are read.
        tables: the tables of a database that are read.
        noted: what is to be said about it afterwards.
    """

    name: str
    sightings: Iterator[Shown]
    end: Callable[[], None]
    skipped: Skipped = field(default_factory=Skipped)
    tables: tuple[Table, ...] = ()
    noted: list[str] = field(default_factory=list)

    def close(self) -> None:
        """End the source, read or not; a database's transaction before its connection."""
        if isinstance(self.sightings, Generator):
            self.sightings.close()
        self.end()


@dataclass(frozen=True, slots=True)
class Reader:
    """Opens sources by the operator's options."""

    home: Home
    outbox: Outbox
    catalog: Catalog
    rules: Rules
    growing: bool
    reading: csvfiles.Reading
    tables: Mapping[str, Table]
    named: frozenset[str]
    take_exported: bool
    ask: Callable[[str], str] | None
    quick: Quick | None
    """Reads what is plain; None: everything takes the exact way."""

    def open(self, source: str) -> Source:
        """Return a source, ready to be read.

        Raises:
            UsageError: it can't be opened.
        """
        if pgurl.is_url(source):
            return self._database(source)
        if source == "-":
            stream = _standard_input(self.home.folder("quarantine"))
            return self.of_stream(stream, "standard input")
        path = Path(source)
        try:
            stream = path.open("rb")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the source can't be read: {getattr(error, 'strerror', error)}",
                where=printable(pgurl.masked(source), 300),
                expected="a file, - for standard input, or postgresql://USER@HOST/DATABASE",
                hint="check the path and its permissions",
            ) from None
        if not stream.seekable():
            with stream:
                return self.of_stream(_copied(stream, self.home.folder("quarantine")), source)
        return self.of_stream(stream, source)

    def of_stream(self, stream: BinaryIO, source: str) -> Source:
        """Return a stream that can be rewound as a source; it is closed at the source's end."""
        name = printable(source, 300)
        start = stream.read(_START)
        stream.seek(0)
        if not (self.reading.table or csvfiles.is_csv(source, start)):
            shown = jsonfiles.read_stream(
                stream, name, self.catalog, self.rules, growing=self.growing, quick=self.quick
            )
            return Source(name, shown, stream.close)
        made = Source(name, iter(()), stream.close)
        rows = _noting(csvfiles.read_stream(stream, name, self.tables, self.reading), made)
        made.sightings = tables.sightings(rows, self.catalog, self.rules, made.skipped)
        return made

    def _database(self, url: str) -> Source:
        database = postgres.Langsmith(url, self.ask)
        made = Source(database.name, iter(()), database.close)
        if pgurl.has_password(url):
            made.noted.append(
                "the URL holds a password, which other users of this machine can see while the "
                "command runs: use PGPASSWORD, ~/.pgpass or a service file"
            )
        made.sightings = self._rows_of(database, made)
        return made

    def _rows_of(self, database: postgres.Langsmith, made: Source) -> Iterator[Shown]:
        with database.transaction():
            there = {name: database.columns(table) for name, table in self.tables.items()}
            chosen = [
                table
                for name, table in self.tables.items()
                if (name in self.named if self.named else table.by_default) and there[name]
            ]
            missing = self.named - {table.name for table in chosen}
            if missing or not chosen:
                raise UsageError(
                    "the database has none of LangSmith's tables"
                    if not missing
                    else f"the database has no table {', '.join(sorted(missing))}",
                    where=database.name,
                    expected=", ".join(sorted(missing or self.tables)),
                    hint="check the database's name and the role's search_path",
                )
            made.tables = tuple(chosen)
            for table in self.tables.values():
                if there[table.name] and table not in chosen and not self.named:
                    self._note_unread(database, table, made)
            for table in chosen:
                columns = there[table.name] or {}
                database.note_others(table, columns, made.skipped)
                rows = database.rows(
                    table, columns, self.reading.times, partial(self._quick, table)
                )
                yield from self._not_held(
                    tables.sightings(rows, self.catalog, self.rules, made.skipped), made
                )

    def _quick(
        self, table: Table, names: Sequence[str], held: Mapping[str, tuple[Field, str]]
    ) -> QuickRows | None:
        if self.quick is None:
            return None
        return quickrows.of_table(table, names, held, self.quick.forms, self.catalog, self.rules)

    def _note_unread(self, database: postgres.Langsmith, table: Table, made: Source) -> None:
        count = database.count(table)
        if count:
            made.noted.append(
                f"{table.name} holds {plural(count, 'row')}, which were not read: no endpoint is "
                f"documented for them. Ask LangChain; then --table {table.name}"
            )

    def _not_held(self, found: Iterable[Shown], made: Source) -> Iterator[Shown]:
        """Leave out rows of an export that this outbox did not make."""
        unmarked, any_marked = 0, marking.any_marked(self.outbox)
        for sighting in found:
            row = sighting.row
            if row is None:
                yield sighting
                continue
            is_part = row.backfill_id is None or marking.is_part(
                self.outbox, row.table, row.row_id, row.backfill_id
            )
            if not is_part and not self.take_exported:
                made.skipped.held += 1
                continue
            unmarked += (
                is_part
                and any_marked
                and marking.stands_unmarked(self.outbox, row.table, row.row_id, row.backfill_id)
            )
            yield sighting
        if unmarked:
            made.noted.append(
                f"{plural(unmarked, 'row')} that were marked before stand unmarked in {made.name}: it "
                "was restored from a copy, or it is another database than was marked; they are not "
                "counted again, and the next --mark marks them"
            )


def reading_of(
    table: tuple[str, ...],
    encoding: str | None,
    date_order: str | None,
    time_zone: str | None,
    null: str | None,
) -> csvfiles.Reading:
    """Return how CSV files are read."""
    order = cast("pgtimes.DateOrder | None", date_order)
    only = table[0] if len(table) == 1 else None
    return csvfiles.Reading(encoding, pgtimes.Times(order, time_zone), only, null)


def tables_of(
    catalog: Catalog, named: tuple[str, ...], columns: tuple[str, ...]
) -> dict[str, Table]:
    """Return LangSmith's tables with the operator's names of columns.

    Raises:
        UsageError: a table, a field or the form of ``FIELD=COLUMN`` is unknown.
    """
    found = tables.load(catalog)
    for name in named:
        if name not in found:
            raise UsageError(f"unknown table {printable(name, 63)!r}", expected=", ".join(found))
    renamed: dict[str, str] = {}
    known = {field.name for table in found.values() for field in table.fields}
    for text in columns:
        name, _, column = text.partition("=")
        if name not in known or not column:
            raise UsageError(
                f"--column {printable(text, 120)!r} names no field and column",
                expected=f"FIELD=COLUMN, with one of {', '.join(sorted(known))}",
            )
        renamed[name] = column
    return {name: table.renamed(renamed) for name, table in found.items()}


def _noting(rows: Iterator[Row], source: Source) -> Iterator[Row]:
    """Pass rows on, and note the columns that nobody knows."""
    for row in rows:
        if not source.tables:
            table = row.table
            source.tables = (table,)
            used = {column for field in table.fields for column in field.columns}
            used |= table.left | {table.row_id}
            if table.unreported is not None:
                used |= {table.unreported.column, *table.unreported.where}
            if table.mark is not None:
                used |= {table.mark.id, table.mark.at}
            if table.measures is None:
                source.skipped.columns = frozenset(row.cells.keys() - used)
        yield row


def _standard_input(folder: Path) -> BinaryIO:
    """Return standard input once it has ended, so that the outbox is not locked until then."""
    return _copied(sys.stdin.buffer, folder)


def _copied(stream: BinaryIO, folder: Path) -> BinaryIO:
    copy = cast("BinaryIO", TemporaryFile(dir=folder))  # noqa: SIM115 - closed by its reader
    copyfileobj(stream, copy)
    copy.seek(0)
    return copy
