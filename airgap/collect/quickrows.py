"""The quick way for rows of LangSmith's database that are plain; see ``quick``."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from airgap.catalog import Catalog, JsonObject
from airgap.collect.payloads import Rules, whose
from airgap.collect.quick import Form, Forms, same_length
from airgap.collect.tables import ROW_ID, Field, Table
from airgap.sightings import Plain, SourceRow

_UTC = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00", re.ASCII)
_MOST_DIGITS = 18
_FORMATS = {"uuid": "uuid", "time": "date-time"}
"""What the schema has to hold a column's values to, since nothing here does."""
_MOST_KEPT = 1024


class QuickRows:
    """Reads rows of one table as the database writes them with DateStyle ISO and TimeZone UTC.

    Args:
        table: the table.
        names: the columns that are read, in order.
        held: which column holds which field.
        form: of the table's kind.
        forms: check payloads.
        whose: dialect and fingerprint under which the rows are counted.
    """

    def __init__(
        self,
        table: Table,
        names: Sequence[str],
        held: Mapping[str, tuple[Field, str]],
        form: Form,
        forms: Forms,
        whose: tuple[str, str],
    ) -> None:
        at = {name: position for position, name in enumerate(names)}
        self._form, self._forms = form, forms
        self._dialect, self._credential = whose
        self._table = table.name
        self._times: dict[str, str] = {}
        self._values: dict[str, object] = {}
        convert: dict[str, Callable[[str], object]] = {
            "time": self._time,
            "integer": _integer,
            "uuid": str.lower,
            "json": self._json,
            "text": str,
        }
        self._fields: list[tuple[str, int | None, Callable[[str], object], object]] = [
            (
                field.name,
                at[held[field.name][1]] if field.name in held else None,
                convert[field.type],
                field.absent if field.may_be_absent else _MISSING,
            )
            for field in table.fields
        ]
        state = table.unreported
        self._wanted: list[tuple[int, frozenset[str]]] = []
        if state is not None:
            self._wanted.append((at[state.column], frozenset(state.values)))
            self._wanted += [(at[c], frozenset(v)) for c, v in state.where.items() if c in at]
        self._row_id = at[table.row_id]
        self._mark = None if table.mark is None else at.get(table.mark.id)

    def read(self, cells: Sequence[str | None]) -> Plain | None:
        """Return what a row shows, or None where the exact way has to look."""
        for position, values in self._wanted:
            if cells[position] not in values:
                return None
        row_id = cells[self._row_id]
        mark = None if self._mark is None else cells[self._mark]
        if row_id is None or mark is not None or not ROW_ID.fullmatch(row_id):
            return None
        payload: JsonObject = {}
        for name, column, convert, absent in self._fields:
            cell = None if column is None else cells[column]
            value = absent if cell is None else convert(cell)
            if value is _MISSING:
                return None
            payload[name] = value
        row = SourceRow(self._table, row_id.lower(), None)
        return self._forms.plain(self._form, self._dialect, self._credential, payload, row)

    def _time(self, cell: str) -> object:
        known = self._times.get(cell)
        if known is None:
            match = _UTC.fullmatch(cell)
            if match is None:
                return _MISSING
            date, time, fraction = match.groups("0")
            below = f".{fraction:<06}" if int(fraction) else ""
            known = f"{date}T{time}{below}Z"
            if len(self._times) >= _MOST_KEPT:
                self._times.clear()
            self._times[cell] = known
        return known

    def _json(self, cell: str) -> object:
        # Values are never changed, so equal ones can be one.
        known = self._values.get(cell, _MISSING)
        if known is _MISSING:
            text = cell.encode()
            try:
                known = orjson.loads(text)
                canonical = orjson.dumps(known, option=orjson.OPT_SORT_KEYS)
            except (orjson.JSONDecodeError, orjson.JSONEncodeError):
                return _MISSING
            if not same_length(text, (canonical,), 0):
                return _MISSING
            if len(self._values) >= _MOST_KEPT:
                self._values.clear()
            self._values[cell] = known
        return known


_MISSING: Any = object()
"""In the place of a value that the exact way has to look at."""


def _integer(cell: str) -> object:
    if cell.isascii() and cell.isdigit() and len(cell) <= _MOST_DIGITS:
        return int(cell)
    return _MISSING


def of_table(
    table: Table,
    names: Sequence[str],
    held: Mapping[str, tuple[Field, str]],
    forms: Forms,
    catalog: Catalog,
    rules: Rules,
) -> QuickRows | None:
    """Return what reads a table's rows quickly, or None where each takes the exact way."""
    kind = catalog.kind(table.kind)
    form, counted = forms.of(kind), whose(kind, rules)
    if form is None or counted is None or table.measures is not None:
        return None
    properties = catalog.schema(f"kinds/{kind.name}")["properties"]
    formats = [(properties[f.name].get("format"), _FORMATS.get(f.type)) for f in table.fields]
    if any(wanted is not None and found != wanted for found, wanted in formats):
        return None
    return QuickRows(table, names, held, form, forms, (counted[0].name, counted[1]))
