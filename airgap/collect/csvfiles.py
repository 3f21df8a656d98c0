"""Read the CSV files that LangSmith's published queries leave: rows of its tables, exactly.

The file is what ``psql --csv`` wrote, whatever DateStyle, time zone, encoding and start file (psqlrc)
were set, or the same saved again by a spreadsheet program as long as nothing was lost. What is
certain is read; the rest is refused with what would settle it.

Two things no file shows (both measured): with FETCH_COUNT in a psqlrc, a SELECT that fails half-way
leaves whole rows, and as many as there were until then; a copy may end exactly behind a row.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from airgap.collect import csvtext, pgtimes, psqloutput
from airgap.collect.pgtimes import DateOrder, TimeNotReadError, Times
from airgap.collect.tables import Cell, Row, Table, detect
from airgap.errors import InputRefusedError, UsageError
from airgap.limits import MAX_STRING_LENGTH
from airgap.text import plural, printable, size

MAX_COLUMNS = 512
"""Most columns that a header may have."""

_DELIMITERS = (",", ";", "\t", "|")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_ROUNDED = re.compile(r"[+-]?\d+(?:[.,]\d+)?[Ee][+-]?\d+")
_GROUPED = re.compile(r"[+-]?(?:\d{1,3}(?:[., '\u00a0\u202f]\d{3})+|\d+[.,]\d+)")
_ZEROED = re.compile(r"[+-]?\d{15}0+")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_NULLS = frozenset({"(null)", "[null]", "<null>", "{null}", "NULL", "null", "∅", "Ø", "¤", "\\N"})
_TWO_FIELDS = 2
_SPREADSHEET_DIGITS = 15  # those that a double holds, and a spreadsheet shows


@dataclass(frozen=True, slots=True)
class Reading:
    """What the operator knows of a file that the file does not show."""

    encoding: str | None = None
    """``--encoding``, by Python's or PostgreSQL's name; UTF-8 where it is None."""
    times: Times = Times()  # noqa: RUF009 - frozen
    """``--date-order`` and ``--time-zone``."""
    table: str | None = None
    """``--table``, where the columns don't show it."""
    null: str | None = None
    """``--null``: what psql printed for NULL; nothing, unless the file says otherwise."""


class _Header:
    """A file's columns, and what each of them is."""

    def __init__(
        self, table: Table, delimiter: str, columns: list[str], null: str, *, resaved: bool
    ) -> None:
        """Make it.

        Args:
            table: whose columns these are.
            delimiter: one character.
            columns: as they stand there; a name may come twice.
            null: what stands for NULL.
            resaved: whether the file shows that another program than psql has written it.
        """
        self.table, self.delimiter, self.columns, self.null = table, delimiter, columns, null
        self.resaved = resaved
        self.places = {name: place for place, name in enumerate(columns)}
        self.kinds = [table.column_type(name) for name in columns]
        self.times = [n for n in self.places if table.column_type(n) == "time"]
        self.twice = {
            name: [place for place, other in enumerate(columns) if other == name]
            for name in self.places
            if columns.count(name) > 1
        }
        self.counts = [
            place
            for place, name in enumerate(columns)
            if self.kinds[place] == "integer"
            or (self.kinds[place] is None and name not in table.left)
        ]
        """Where numbers may stand that leave: the other types see for themselves what is wrong."""


def is_csv(name: str, start: bytes) -> bool:
    """Tell whether a file is CSV: by its name, or since it starts with column names.

    JSON is never taken for it, whatever the file is called.

    Args:
        name: of the file.
        start: its first kilobytes.
    """
    if name.lower().endswith(_JSON_SUFFIXES):
        return False
    encoding, skipped = csvtext.encoding_of(start, None)
    text = start[skipped:].decode(encoding, "replace")
    first = next((line for line in text.splitlines() if not psqloutput.is_noise(line)), "")
    if first.lstrip()[:1] in ("{", "["):
        return False
    return name.lower().endswith(".csv") or any(
        len(names := first.replace('"', "").split(delimiter)) > _TWO_FIELDS
        and all(_NAME.fullmatch(n) for n in names)
        for delimiter in _DELIMITERS
    )


def read_stream(
    stream: BinaryIO, name: str, tables: Mapping[str, Table], reading: Reading
) -> Iterator[Row]:
    """Yield the rows of an open CSV file, from its position on.

    Args:
        stream: the file, seekable.
        name: what messages call it.
        tables: LangSmith's, by name.
        reading: what the file does not show.

    Raises:
        UsageError: an option names what there is not.
        InputRefusedError: the file is empty, cut off, of no known table, or holds a value that is
            not certain; the caller must then drop what was yielded before.
    """
    if reading.table is not None and reading.table not in tables:
        raise UsageError(
            f"there is no table {printable(reading.table, 63)}",
            hint=f"--table with one of {', '.join(tables)}",
        )
    yield from _File(stream, name, tables, reading).rows()


class _File:
    """One reading of one file: what is learnt on the way belongs to it."""

    def __init__(
        self, stream: BinaryIO, name: str, tables: Mapping[str, Table], reading: Reading
    ) -> None:
        self.stream, self.name, self.tables, self.reading = stream, name, tables, reading
        self.start = stream.tell()
        self.times = reading.times
        self.proven: DateOrder | None = None

    def rows(self) -> Iterator[Row]:
        for number, head, values in self._values():
            where = f"{self.name}, line {number}"
            for column, places in head.twice.items():
                values[places[-1]] = _one_of(values, column, places, head, where)
            _refuse_inexact(values, head, where)
            if not _NULLS.isdisjoint(values):
                _refuse_null_signs(values, head, where)
            null = head.null
            cells: dict[str, Cell] = {
                name: None if (value := values[place]) == null else value
                for name, place in head.places.items()
            }
            if head.table.mark is not None:
                _refuse_mark(cells.get(head.table.mark.id), head, where)
            for column in head.times:
                cell = cells[column]
                if cell is not None:
                    cells[column] = self._time(str(cell), column, where)
            yield Row(head.table, cells, where)

    def _time(self, text: str, column: str, where: str) -> Cell:
        try:
            if text[2:3] == "/":
                self._learn_order(text, where)
            return pgtimes.parse(text, self.times)
        except TimeNotReadError as error:
            raise InputRefusedError(
                f"column {printable(column, 63)}: {error}",
                where=where,
                expected="a time that can mean one instant only",
                found=printable(text, 40) if error.shown else "something else (not shown)",
                hint=error.cure,
            ) from None

    def _learn_order(self, text: str, where: str) -> None:
        """Note what a date proves; where it proves nothing, let the rest of the file prove it."""
        self._note(pgtimes.order_of(text), where)
        if self.times.date_order is None and pgtimes.depends_on_order(text):
            if self.proven is None:
                self._search_order()
            self.times = replace(self.times, date_order=self.proven)

    def _note(self, order: DateOrder | None, where: str) -> None:
        if order is None:
            return
        if self.proven not in (None, order):
            raise InputRefusedError(
                "some dates of the file have the day first, and others the month",
                where=where,
                expected="one order of day and month in the whole file",
                found="both",
                hint="a spreadsheet that saved the file has changed some of them: use the file that "
                "psql wrote",
            )
        self.proven = order

    def _search_order(self) -> None:
        """Read the file once more, for dates such as 31/05/2026 only; nothing of it is kept."""
        before = self.stream.tell()
        self.stream.seek(self.start)
        for number, head, values in self._values():
            for kind, value in zip(head.kinds, values, strict=True):
                if kind == "time" and value[2:3] == "/":
                    self._note(pgtimes.order_of(value), f"{self.name}, line {number}")
        self.stream.seek(before)

    def _values(self) -> Iterator[tuple[int, _Header, list[str]]]:
        """Yield the number of its line, the header, and the fields of each row.

        Raises:
            InputRefusedError: there is no row, or one that is none.
        """
        lines = csvtext.rows(
            csvtext.lines(self.stream, self.name, self.reading.encoding),
            self.name,
            lambda line: psqloutput.is_noise(line) or psqloutput.is_error(line),
        )
        head = self._header(lines)
        count, over = 0, False
        for number, text, ended in lines:
            where = f"{self.name}, line {number}"
            try:
                values = csvtext.fields(text, head.delimiter)
            except csvtext.BrokenQuotesError as error:
                _refuse_error(text, where)
                raise InputRefusedError(
                    str(error), where=where, expected="CSV as psql writes it"
                ) from None
            if len(values) != len(head.columns):
                _refuse_error(text, where)
                if not psqloutput.is_noise(text):
                    raise _no_row(where, len(head.columns), len(values), ended=ended)
                _check_footer(text, count, where)
                over = over or bool(text.strip())
                continue
            if not ended:
                raise csvtext.cut_off(where, "a last line without its end")
            if over or values == head.columns:
                raise InputRefusedError(
                    "there are rows behind the end of the rows",
                    where=where,
                    expected="one result of one query",
                    found="a second header"
                    if values == head.columns
                    else "a row behind psql's lines",
                    hint="files that were joined have to be collected one by one",
                )
            if csvtext.too_large(values):
                raise InputRefusedError(
                    "a field is too large",
                    where=where,
                    expected=f"at most {size(MAX_STRING_LENGTH)}",
                )
            if any(values):  # a spreadsheet's empty row is none
                count += 1
                yield number, head, values
        if count == 0:
            raise _no_rows(self.name, head.table.name)

    def _header(self, lines: Iterator[csvtext.Line]) -> _Header:
        """Return the header, and pass over what psql may write before it."""
        null = None
        for number, text, _ in lines:
            where = f"{self.name}, line {number}"
            _refuse_error(text, where)
            if psqloutput.is_noise(text):
                said = psqloutput.null_of(text)
                null = null if said is None else said
                continue
            if "\r" in text:  # else all rows would be read as one header without rows
                raise _lone_returns(where)
            for delimiter in _DELIMITERS:
                try:
                    columns = csvtext.fields(text, delimiter)
                except csvtext.BrokenQuotesError:
                    continue
                if len(columns) <= MAX_COLUMNS and (table := self._table(columns)):
                    shown = null if self.reading.null is None else self.reading.null
                    resaved = self._is_resaved(delimiter)
                    return _Header(table, delimiter, columns, shown or "", resaved=resaved)
            raise _unknown_header(text, where, self.tables)
        raise _failed_query(self.name)

    def _table(self, columns: list[str]) -> Table | None:
        if self.reading.table is None:
            return detect(self.tables, columns)
        table = self.tables[self.reading.table]
        known = {table.row_id}.union(*(f.columns for f in table.fields))
        return table if len(known & set(columns)) >= _TWO_FIELDS else None

    def _is_resaved(self, delimiter: str) -> bool:
        here = self.stream.tell()
        self.stream.seek(self.start)
        start = self.stream.read(64 * 1024)
        self.stream.seek(here)
        encoding, skipped = csvtext.encoding_of(start, self.reading.encoding)
        return delimiter != "," or skipped > 0 or b"\r\n" in start or encoding.startswith("utf-16")


def _one_of(values: list[str], column: str, places: list[int], head: _Header, where: str) -> str:
    """Return the value of a column that the header names more than once.

    The query that exports traces returns the table's columns, and its own id and time once more.
    Measured with PostgreSQL 15: the two ids are equal, and so are the times, unless the table's column
    is coarser or has no time zone; then the later one, the query's own, has all of it. An id that
    differs shows that the database keeps another one (a trigger does that), or a changed file.
    """
    found = [values[i] for i in places if values[i] != head.null]
    mark = head.table.mark
    if len(set(found)) <= 1 or (mark is not None and column == mark.at):
        return found[-1] if found else head.null
    raise InputRefusedError(
        f"the columns called {printable(column, 63)} differ",
        where=where,
        expected="the same value in each, or none",
        found=f"{len(set(found))} values (not shown)",
        hint="make the file again with the published query; nothing of it was taken over",
    )


def _refuse_inexact(values: list[str], head: _Header, where: str) -> None:
    """Refuse numbers that a spreadsheet has rounded, or that stand there with thousands marked.

    Raises:
        InputRefusedError: naming the column.
    """
    for place in head.counts:
        value = values[place]
        if value.isdigit() and not (head.resaved and len(value) > _SPREADSHEET_DIGITS):
            continue
        is_number = head.kinds[place] == "integer" or head.table.measures is not None
        if (
            _ROUNDED.fullmatch(value)
            or (head.resaved and _ZEROED.fullmatch(value))
            or (is_number and _GROUPED.fullmatch(value))
        ):
            raise InputRefusedError(
                f"column {printable(head.columns[place], 63)} holds a number that was rounded or "
                "reformatted",
                where=where,
                expected="every digit, and nothing but digits",
                found="a number as spreadsheets write it (not shown)",
                hint="use the file that psql wrote, without opening it in a spreadsheet",
            )


def _refuse_null_signs(values: list[str], head: _Header, where: str) -> None:
    """Refuse a sign for NULL that nobody has named, where no such text can stand.

    Raises:
        InputRefusedError: naming the column and the sign.
    """
    for column, kind, value in zip(head.columns, head.kinds, values, strict=True):
        is_text = kind == "text" or (kind is None and column in head.table.left)
        is_json = kind == "json" and value == "null"
        if value in _NULLS and value != head.null and not is_text and not is_json:
            raise InputRefusedError(
                f"column {printable(column, 63)} holds a sign for NULL",
                where=where,
                expected="an empty field for NULL",
                found=value,
                hint=f"a psqlrc has set it (\\pset null): --null '{value}'",
            )


def _refuse_mark(identifier: Cell, head: _Header, where: str) -> None:
    """Refuse an export's id that is none, such as a sign for NULL that nobody knows.

    Raises:
        InputRefusedError: naming the column.
    """
    if isinstance(identifier, str) and not _UUID.fullmatch(identifier):
        assert head.table.mark is not None
        raise InputRefusedError(
            f"column {printable(head.table.mark.id, 63)} does not hold a UUID",
            where=where,
            expected="a UUID, or what psql printed for NULL",
            found="something else (not shown)",
            hint="where a psqlrc has set a sign for NULL (\\pset null): --null SIGN",
        )


def _refuse_error(text: str, where: str) -> None:
    if psqloutput.is_error(text):
        raise InputRefusedError(
            f"psql reports an error: {psqloutput.reason_of(text)}",
            where=where,
            expected="rows",
            found="an error message of psql",
            hint="correct what it says, and run the query again",
        )


def _check_footer(text: str, count: int, where: str) -> None:
    told = psqloutput.rows_of(text)
    if told is not None and told != count:
        raise InputRefusedError(
            "the file does not hold as many rows as psql has counted",
            where=where,
            expected=plural(told, "row"),
            found=plural(count, "row"),
            hint="copy it again, or run the query again; nothing of it was taken over",
        )


def _no_row(where: str, expected: int, found: int, *, ended: bool) -> InputRefusedError:
    if not ended:
        return csvtext.cut_off(where, f"{plural(found, 'field')} of {expected}, and no end")
    return InputRefusedError(
        "the line is no row of the table",
        where=where,
        expected=plural(expected, "field"),
        found=f"{plural(found, 'field')}: the file is damaged, or psql's start file wrote this",
        hint="run the query again with PSQLRC=/dev/null; nothing of the file was taken over",
    )


def _lone_returns(where: str) -> InputRefusedError:
    return InputRefusedError(
        "the header holds carriage returns",
        where=where,
        expected="lines that end with a line feed",
        found="lines that end otherwise: a program other than psql has written the file",
        hint="use the file that psql wrote; nothing of this one was taken over",
    )


def _failed_query(name: str) -> InputRefusedError:
    return InputRefusedError(
        "the file is empty: the query failed, even if the script said that it succeeded",
        where=name,
        expected="a header and rows",
        found="no header",
        hint="run it again and read psql's messages: a variable that was not given (customer_id, "
        "customer_name, backfill_id), a time-out, the connection, or the client's encoding",
    )


def _no_rows(name: str, table: str) -> InputRefusedError:
    return InputRefusedError(
        f"the file holds no row of {table}, only its header",
        where=name,
        expected="at least one row",
        found="none",
        hint="nothing was unreported when the query ran, for instance since an earlier export was "
        "marked as sent; if that is right, say so: "
        "airgap export --no-usage FROM..TO",
    )


def _unknown_header(text: str, where: str, tables: Mapping[str, Table]) -> InputRefusedError:
    """Return the error for a first line that no table has; values are not shown."""
    split = max((text.replace('"', "").split(d) for d in _DELIMITERS), key=len)
    names = [n for n in split if _NAME.fullmatch(n)]
    if len(names) < len(split) or len(split) <= _TWO_FIELDS:
        found = f"{plural(len(split), 'field')} that are no column names (not shown)"
        hint = (
            "psql's start file may have changed the format (\\x, \\t, \\pset format): run the query "
            "again with PSQLRC=/dev/null"
        )
    else:
        found = f"{', '.join(names[:40])}{', …' if len(names) > 40 else ''}"
        hint = f"say which table it is: --table {'|'.join(tables)}"
    return InputRefusedError(
        "the first line is not the header of a known table",
        where=where,
        expected=f"the columns of {', '.join(tables)}",
        found=found,
        hint=hint,
    )
