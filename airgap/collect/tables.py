"""LangSmith's own tables: what a row is, and which record it becomes.

Rows come as text, from a CSV file or from the database; both are read by the same rules, so a
row is the same record wherever it was found. What the tables are is data: ``schemas/tables.json``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import datetime
from typing import Any

from airgap import jsontext, timestamps
from airgap.catalog import Catalog, JsonObject
from airgap.collect.payloads import Rules, record_of
from airgap.errors import InputRefusedError
from airgap.sightings import Plain, Shown, Sighting, SourceRow
from airgap.text import printable

Cell = str | datetime | None
"""A value of a row: text as the database writes it, an aware datetime, or NULL."""

_STATE = re.compile(r"[a-z]{1,16}([_-][a-z]{1,16}){0,3}")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
ROW_ID = re.compile(rf"{_UUID.pattern}|[0-9]{{1,12}}")
"""By what a row is known again: a UUID or a number."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a payload: the columns that may hold it, its type, its value without one."""

    name: str
    columns: tuple[str, ...]
    type: str
    may_be_absent: bool
    absent: Any


@dataclass(frozen=True, slots=True)
class Unreported:
    """Which rows are unreported: those with one of ``values``, and ``where`` of other columns.

    Rows whose state is none of ``reported`` either are said, for nobody here knows what it means.
    """

    column: str
    values: tuple[str, ...]
    reported: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Mark:
    """LangSmith's convention: columns for an export's id and time, and the state afterwards."""

    id: str
    at: str
    sent: str


@dataclass(frozen=True, slots=True)
class Table:
    """One of LangSmith's tables, as ``schemas/tables.json`` describes it."""

    name: str
    kind: str
    detect_all: frozenset[str]
    detect_none: frozenset[str]
    by_default: bool
    row_id: str
    fields: tuple[Field, ...]
    measures: tuple[str, str] | None
    unreported: Unreported | None
    mark: Mark | None
    left: frozenset[str]

    def fields_of(self, columns: Iterable[str], *, where: str) -> dict[str, tuple[Field, str]]:
        """Return which column holds which field, by the field's name.

        Args:
            columns: those that are there.
            where: file or database, for the message.

        Raises:
            InputRefusedError: a column is missing that a record can't do without.
        """
        there, found, missing = set(columns), {}, []
        for field in self.fields:
            column = next((c for c in field.columns if c in there), None)
            if column is not None:
                found[field.name] = (field, column)
            elif not field.may_be_absent:
                missing.append(" or ".join(field.columns))
        wanted = [self.row_id, *([self.unreported.column] if self.unreported else [])]
        missing += [c for c in wanted if c not in there and c not in missing]
        if missing:
            raise InputRefusedError(
                f"{self.name} lacks columns that its records need",
                where=where,
                expected=", ".join(missing),
                found=", ".join(printable(c, 63) for c in sorted(there)[:40]) or "no columns",
                hint="a release of LangSmith that airgap does not know may call them otherwise: "
                "name them with --column FIELD=COLUMN",
            )
        return found

    def column_type(self, column: str) -> str | None:
        """Return the type of a column that holds a field, or None for another column."""
        for field in self.fields:
            if column in field.columns:
                return field.type
        return None

    def renamed(self, columns: Mapping[str, str]) -> "Table":
        """Return the table with the operator's columns for fields, before those it knows."""
        fields = tuple(
            replace(f, columns=(columns[f.name], *f.columns)) if f.name in columns else f
            for f in self.fields
        )
        return replace(self, fields=fields)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Args:
        table: the table.
        cells: its cells by column.
        where: where it stood, for messages.
        held: which column holds which field, where that is known for all rows of the source.
    """

    table: Table
    cells: Mapping[str, Cell]
    where: str
    held: Mapping[str, tuple[Field, str]] | None = None


def load(catalog: Catalog) -> dict[str, Table]:
    """Return the tables by name."""
    return {name: _table(name, value) for name, value in catalog.tables.items()}


def detect(tables: Mapping[str, Table], columns: Iterable[str]) -> Table | None:
    """Return the one table whose columns a CSV header shows, or None where it is none or several."""
    there = set(columns)
    found = [
        t
        for t in tables.values()
        if t.detect_all and t.detect_all <= there and not t.detect_none & there
    ]
    return found[0] if len(found) == 1 else None


@dataclass(slots=True)
class Skipped:
    """What was not taken of a source, to be said: rows by their state, and columns."""

    reported: dict[str, int] = dataclass_field(default_factory=dict)
    """Rows that were reported already, by state."""
    unknown: dict[str, int] = dataclass_field(default_factory=dict)
    """Rows whose state nobody knows, by state."""
    elsewhere: int = 0
    """Rows that are not this installation's own."""
    held: int = 0
    """Rows of an export by other means that nobody confirmed."""
    columns: frozenset[str] = frozenset()
    """Columns that nobody knows; they stay at home."""

    def add(self, wanted: Unreported, state: str | None, count: int = 1) -> None:
        """Count rows that are not unreported, by their state."""
        known = state in wanted.reported
        shown = state if state is not None and _STATE.fullmatch(state) else "not shown"
        counts = self.reported if known else self.unknown
        counts[shown] = counts.get(shown, 0) + count


def sightings(
    rows: Iterable[Row | Plain], catalog: Catalog, rules: Rules, skipped: Skipped
) -> Iterator[Shown]:
    """Yield what the unreported rows become, each checked.

    Args:
        rows: of one source; those that took the quick way are passed on.
        catalog: schemas and kinds.
        rules: the site's decisions.
        skipped: told what was not taken.

    Raises:
        InputRefusedError: a value is not of its column's type, a schema is violated, a name is
            not allowed; see ``payloads.record_of``.
    """
    for row in rows:
        if isinstance(row, Plain):
            yield row
            continue
        if not _is_unreported(row, skipped):
            continue
        record = record_of(row.table.kind, payload_of(row), catalog, rules, where=row.where)
        yield Sighting.of(record, row=_source_row(row))


def payload_of(row: Row) -> JsonObject:
    """Return the payload that a row becomes.

    Raises:
        InputRefusedError: a value is not of its column's type, or a column is missing.
    """
    table, cells = row.table, row.cells
    payload: JsonObject = {}
    held = row.held or table.fields_of(cells, where=row.where)
    for field in table.fields:
        value = None
        if field.name in held:
            column = held[field.name][1]
            value = _value(cells[column], field.type, column, where=row.where)
        if value is None and field.may_be_absent:
            value = field.absent
        payload[field.name] = value
    if table.measures is not None:
        name, prefix = table.measures
        used = {column for _, column in held.values()} | table.left | {table.row_id}
        payload[name] = {
            f"{prefix}{column}": int(cell)
            for column, cell in cells.items()
            if column not in used and isinstance(cell, str) and _INTEGER.fullmatch(cell)
        }
    return payload


def _is_unreported(row: Row, skipped: Skipped) -> bool:
    wanted = row.table.unreported
    if wanted is None:
        return True
    for column, values in wanted.where.items():
        if column in row.cells and row.cells[column] not in values:
            skipped.elsewhere += 1
            return False
    state = row.cells.get(wanted.column)
    if state in wanted.values:
        return True
    skipped.add(wanted, state if isinstance(state, str) else None)
    return False


def _source_row(row: Row) -> SourceRow:
    table = row.table
    identifier = row.cells.get(table.row_id)
    if not isinstance(identifier, str) or not ROW_ID.fullmatch(identifier):
        raise InputRefusedError(
            f"a row of {table.name} has no id by which it is known again",
            where=row.where,
            expected=f"a UUID, or a number of at most 12 digits, in {table.row_id}",
            found="none" if identifier is None else "something else",
        )
    export = None if table.mark is None else row.cells.get(table.mark.id)
    if isinstance(export, str) and not _UUID.fullmatch(export):
        raise _wrong(table.mark.id if table.mark else "", "a UUID", row.where)
    return SourceRow(table.name, identifier.lower(), export if isinstance(export, str) else None)


def _value(cell: Cell, kind: str, column: str, *, where: str) -> Any:
    """Return a cell as JSON has it."""
    if cell is None:
        return None
    if isinstance(cell, datetime):
        return timestamps.to_text(cell, precise=True)
    if kind == "time":
        raise _wrong(column, "a time", where)
    if kind == "integer":
        if not _INTEGER.fullmatch(cell):
            raise _wrong(column, "an integer", where)
        return int(cell)
    if kind == "uuid":
        if not _UUID.fullmatch(cell):
            raise _wrong(column, "a UUID", where)
        return cell.lower()
    if kind == "json":
        try:
            return jsontext.parse(cell.encode())
        except (jsontext.NotExactError, UnicodeEncodeError) as error:
            raise InputRefusedError(f"column {column}: {error}", where=where) from None
    return cell


def _wrong(column: str, expected: str, where: str) -> InputRefusedError:
    return InputRefusedError(
        f"column {column} does not hold {expected}",
        where=where,
        expected=expected,
        found="something else (not shown)",
        hint="make the file again with the published query; nothing of it was taken over",
    )


def _table(name: str, value: JsonObject) -> Table:
    detect, unreported, mark = value["detect"] or {}, value["unreported"], value["mark"]
    measures = value["measures"]
    return Table(
        name=name,
        kind=value["kind"],
        detect_all=frozenset(detect.get("all", ())),
        detect_none=frozenset(detect.get("none", ())),
        by_default=value["by_default"],
        row_id=value["row_id"],
        fields=tuple(
            Field(key, tuple(f["columns"]), f["type"], "absent" in f, f.get("absent"))
            for key, f in value["fields"].items()
        ),
        measures=(measures["field"], measures["prefix"]) if measures else None,
        unreported=Unreported(
            unreported["column"],
            tuple(unreported["values"]),
            tuple(unreported["reported"]),
            {key: tuple(values) for key, values in unreported["where"].items()},
        )
        if unreported
        else None,
        mark=Mark(mark["id"], mark["at"], mark["sent"]) if mark else None,
        left=frozenset(value["left"]),
    )
