"""CSV files as psql and spreadsheets write them: read exactly, or refused with what would help."""

import contextlib
import csv
import io
import json
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airgap import catalog
from airgap.collect import csvfiles, csvtext, tables
from airgap.collect.csvfiles import Reading, is_csv
from airgap.collect.pgtimes import Times
from airgap.errors import AirgapError, InputRefusedError, UsageError

TABLES = tables.load(catalog.load())
ID = "af28dfea-5358-463d-a2dc-37df00000000"
HEADER = "id,from_timestamp,to_timestamp,measures,received_at"
MEASURES = '"{""users"": 9007199254740993}"'
ROW = f"{ID},2026-05-06 07:08:09+00,2026-05-06 08:08:09.5+00,{MEASURES},2026-05-07 00:00:00+00"
START = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


def read(data: str | bytes, **reading):
    raw = data if isinstance(data, bytes) else data.encode()
    return list(csvfiles.read_stream(io.BytesIO(raw), "x.csv", TABLES, Reading(**reading)))


def refused(data: str | bytes, *says: str, error: type[AirgapError] = InputRefusedError, **reading):
    """Read what must be refused, and look for each of ``says`` in what is reported."""
    with pytest.raises(error) as caught:
        read(data, **reading)
    e = caught.value
    shown = "\n".join(filter(None, (e.message, e.where, e.expected, e.found, e.hint)))
    for part in says:
        assert part in shown, shown
    return shown


def rows(*lines: str, end: str = "\n") -> str:
    return end.join((HEADER, *lines)) + end


def dated(*dates: str) -> str:
    """Return a file with a row for each date and time of ``from_timestamp``."""
    return rows(*(f"{ID},{d},2026-05-07 00:00:00+00,{{}}," for d in dates))


def test_a_row_is_read_exactly():
    [row] = read(rows(ROW))
    assert row.table.name == "usage_snapshots"
    assert row.where == "x.csv, line 2"
    assert row.cells == {
        "id": ID,
        "from_timestamp": START,
        "to_timestamp": START + timedelta(hours=1, microseconds=500_000),
        "measures": '{"users": 9007199254740993}',
        "received_at": "2026-05-07 00:00:00+00",
    }


def test_a_field_over_several_lines_counts_them():
    first = ROW.replace(MEASURES, '"{\n\r\n}"')
    found = read(rows(first, ROW))
    assert [r.where for r in found] == ["x.csv, line 2", "x.csv, line 5"]
    assert found[0].cells["measures"] == "{\n\r\n}"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("encoding", "wanted"),
    [("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("latin-1", "LATIN1"),
     ("cp1252", "WIN1252"), ("utf-16-le", "utf-16-le"), ("koi8-r", "KOI8R")],
)  # fmt: skip
def test_what_a_spreadsheet_saves_is_read_where_it_is_certain(end, delimiter, encoding, wanted):
    text = "café" if encoding != "koi8-r" else "Банк"
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    header = [*HEADER.split(","), "workspace_name"]
    cells = [ID, "2026-05-06 07:08:09+00", "", '{"a": 1}', "", f'{text}{delimiter}"x"\n']
    writer.writerows([header, cells, [""] * 6])
    [row] = read(buffer.getvalue().encode(encoding), encoding=wanted)
    assert row.cells["workspace_name"] == f'{text}{delimiter}"x"\n'
    assert row.cells["from_timestamp"] == START
    assert row.cells["to_timestamp"] is None


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), min_size=3, max_size=3),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)  # fmt: skip
def test_quoting_reads_back_whatever_was_written(values, delimiter, quoting):
    # Unlike psql, this writer leaves a carriage return at the end of a line without quotes.
    assume(quoting == csv.QUOTE_ALL or "\r" not in "".join(values))
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerow(values)
    physical = csvtext.lines(io.BytesIO(buffer.getvalue().encode()), "x", None)
    [(_, text, ended)] = csvtext.rows(physical, "x", lambda _: False)
    assert ended
    assert csvtext.fields(text, delimiter) == values


def test_characters_that_go_over_the_end_of_a_chunk_are_read():
    name = "é" * (csvtext._CHUNK // 2) + "€"
    for encoding in ("utf-8", "utf-16"):
        text = f"{HEADER},workspace_name\n{ROW},{name}\n"
        [row] = read(text.encode(encoding))
        assert row.cells["workspace_name"] == name


# Empty files, and files of failed queries


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b"Timing is on.\nTime: 0.213 ms\n"])
def test_an_empty_file_says_that_the_query_failed(data):
    refused(data, "the query failed", "customer_id", "time-out", "encoding")


def test_a_header_alone_says_that_nothing_was_unreported():
    refused(rows(), "no row of usage_snapshots", "nothing was unreported", "--no-usage")
    refused(rows("Time: 0.213 ms"), "no row of usage_snapshots")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('psql:/tmp/x.sql:7: ERROR:  syntax error at or near ":"', "a variable was not given"),
        ("psql:C:/q.sql:7: ERROR:  canceling statement due to statement timeout", "too long"),
        (
            'psql: error: connection to server at "db" (10.0.0.1), port 5432 failed',
            "not be reached",
        ),
        ("psql: FATAL:  password authentication failed", "the password was refused"),
        ("ERROR:  permission denied for table remote_metrics", "the role may not do that"),
        ("psql:x:1: FEHLER:  Syntaxfehler", "its text is in the file"),
        ('psql:x:1: ERROR:  character with byte sequence "0xe2 in encoding', "its text is in"),
    ],
)
def test_an_error_of_psql_in_the_file_is_named_and_its_text_is_not_shown(line, says):
    for data in (f"{line}\n", f"Timing is on.\n{line}\n", rows(ROW, line), rows(ROW, line, ROW)):
        shown = refused(data, "psql reports an error", says)
        assert "10.0.0.1" not in shown
        assert "remote_metrics" not in shown


# Files that were cut off, joined, or hold something else


def test_a_file_that_was_cut_off_anywhere_within_a_row_is_refused():
    whole = rows(ROW, ROW).encode()
    for length in range(len(HEADER) + len(ROW) + 3, len(whole)):
        refused(whole[:length], "the file was cut off", "line 3")
    for length in range(1, len(HEADER) + 1):
        refused(whole[:length])


def test_half_a_character_at_the_end_is_a_file_that_was_cut_off():
    refused(rows(ROW).encode() + "é".encode()[:1], "the file was cut off")
    refused(rows(ROW).encode("utf-16")[:-1], "the file was cut off")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (rows(ROW, "hello"), "line 3"),
        (rows(ROW, f"{ROW},x"), "6 fields"),
        (rows(ROW, "Zeit: 0,213 ms"), "PSQLRC=/dev/null"),
        (rows(ROW, HEADER, ROW), "a second header"),
        (rows(ROW, "Time: 0.213 ms", ROW), "a row behind psql's lines"),
        (rows(ROW, "(2 rows)"), "2 rows"),
        (rows(ROW.replace(MEASURES, '"a"b')), "closing quotation mark"),
        (rows(ROW.replace(MEASURES, 'a"b"')), "without quotes"),
        (rows(ROW).replace("af28", "a\0f"), "NUL"),
        (rows(ROW).encode("utf-16-le"), "utf-16-le"),
        (f"hello\n{rows(ROW)}", "line 1"),
        (rows(ROW.replace(MEASURES, f'"{"é" * (2 * 1024**2 + 1)}"')), "a field is too large"),
        (rows(ROW.replace(MEASURES, "x" * (6 * 1024**2 + 1))), "the row is too long"),
        (rows(ROW.replace(MEASURES, f'"{("x" * 1024 + chr(10)) * 6500}"')), "the row is too long"),
        (f"{HEADER}{',x' * 508}\n", "not the header"),
    ],
)
def test_what_is_no_file_of_one_query_is_refused(data, says):
    refused(data, says)


def test_a_quotation_mark_without_its_partner_does_not_swallow_the_file():
    data = rows(ROW, ROW.replace(MEASURES, '"{'), *[ROW] * 100_000)
    refused(data, "line 3")


def test_bytes_of_another_encoding_name_the_line_and_the_option():
    data = f"{HEADER},workspace_name\n{ROW},x\n{ROW},café\n".encode("latin-1")
    refused(data, "line 3", "utf-8", "--encoding")
    assert read(data, encoding="latin-1")[1].cells["workspace_name"] == "café"
    for name in ("utf-9", "base64", "rot13", "idna", "undefined", "\x1b"):
        refused(data, "no encoding", error=UsageError, encoding=name)


def test_lines_of_a_psqlrc_are_passed_over():
    [row] = read(
        'Timing is on.\nPager usage is off.\nNull display is "∅".\nSET\nTime: 0.163 ms\n\n'
        + rows(ROW.replace("2026-05-06 08:08:09.5+00", "∅"), "(1 row)", "", "Time: 1234.567 ms (00:01.235)")
    )  # fmt: skip
    assert row.cells["to_timestamp"] is None
    assert row.where == "x.csv, line 8"


def test_a_sign_for_null_is_read_where_it_is_known():
    for sign in ("∅", "(null)", "NULL"):
        data = rows(ROW.replace("2026-05-06 08:08:09.5+00", sign))
        refused(data, "column to_timestamp", f"--null '{sign}'")
        assert read(data, null=sign)[0].cells["to_timestamp"] is None
    for sign in ("[null]", "nothing"):
        data = twice(sign, sign, sign, sign)
        refused(data, "column backfill_id", "--null")
        assert read(data, null=sign)[0].cells["backfill_id"] is None
    assert read(rows(ROW.replace(MEASURES, "null")))[0].cells["measures"] == "null"


# Which table it is


def test_an_unknown_header_names_its_columns_but_no_values():
    refused("id,a,b\n1,2,3\n", "id, a, b", "--table")
    shown = refused(f"{ROW}\n", "no column names", "PSQLRC")
    assert ID not in shown
    refused("id|x\n", "no column names")
    refused("PK\x03\x04\n", "no column names")


def test_a_table_is_named_where_its_columns_do_not_show_it():
    data = (
        f"id,tenant_id,from_timestamp,to_timestamp,agent_runs\n{ID},{ID},2026-05-06 07:08:09Z,,12\n"
    )
    refused(data, "agent_runs", "--table")
    [row] = read(data, table="agent_builder_usage")
    assert row.cells["agent_runs"] == "12"
    assert row.cells["from_timestamp"] == START
    refused(data, "trace_count_transactions", error=UsageError, table="nothing")
    refused("a,b,c\n1,2,3\n", "not the header", table="agent_builder_usage")


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("x.csv", b"", True),
        ("x.CSV", b"anything", True),
        ("x.csv", b'{"a": 1}\n', False),
        ("x.csv", b'\xef\xbb\xbf[\n{"a": 1}]', False),
        ("x.jsonl", HEADER.encode(), False),
        ("x", b"", False),
        ("export", HEADER.encode() + b"\n", True),
        ("export.txt", b"Timing is on.\n" + HEADER.encode() + b"\n", True),
        ("export.txt", f"{HEADER}\n".replace(",", ";").encode("utf-16"), True),
        ("export", ('"' + HEADER.replace(",", '","') + '"\r\n').encode(), True),
        ("x", b'{"id": 1, "measures": 2, "tags": 3}', False),
        ("x", b'\n\n  {"id": 1}', False),
        ("x", b"1,2,3\n", False),
        ("x", b"hello, world, again\n", False),
        ("x", b"\x80\x81,\xff,\n", False),
    ],
)
def test_csv_is_known_by_its_name_or_its_first_line_and_json_is_never_taken(name, start, expected):
    assert is_csv(name, start) is expected


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=5))  # fmt: skip
def test_no_json_line_is_taken_for_csv(value):
    for one in (value, [value], {"id": value}):
        assert not is_csv("export", json.dumps(one).encode() + b"\n")


# Columns that come twice

TWICE = "id,trace_count,status,backfill_id,backfilled_at,backfill_id,backfilled_at,customer_id"


def twice(first_id: str, first_at: str, second_id: str, second_at: str) -> str:
    return f"{TWICE}\n{ID},1,pending,{first_id},{first_at},{second_id},{second_at},x\n"


def test_a_column_that_comes_twice_is_read_where_its_values_agree():
    for data in (twice(ID, "t", ID, "t"), twice("", "", ID, "t"), twice(ID, "t", "", "")):
        [row] = read(data)
        assert (row.cells["backfill_id"], row.cells["backfilled_at"]) == (ID, "t")
    [row] = read(twice("", "", "", ""))
    assert (row.cells["backfill_id"], row.cells["backfilled_at"]) == (None, None)


def test_of_two_times_of_an_export_the_later_column_is_taken_and_two_ids_are_refused():
    [row] = read(twice(ID, "2026-05-06 07:08:09", ID, "2026-05-06 07:08:09.1+00"))
    assert row.cells["backfilled_at"] == "2026-05-06 07:08:09.1+00"
    other = ID.replace("a", "b")
    refused(twice(ID, "t", other, "t"), "columns called backfill_id differ")
    refused(f"id,trace_count,status,status\n{ID},1,pending,sent\n", "called status differ")


# Times


def test_a_date_that_nothing_settles_is_refused_and_shown():
    refused(dated("05/06/2026 07:08:09 UTC"), "column from_timestamp", "05/06/2026", "--date-order")
    refused(dated("06.05.2026 07:08:09 CEST"), "several", "--time-zone")
    shown = refused(dated("a secret"), "column from_timestamp")
    assert "secret" not in shown
    [row] = read(dated("05/06/2026 09:08:09 CEST"), times=Times("mdy", "Europe/Amsterdam"))
    assert row.cells["from_timestamp"] == START


@pytest.mark.parametrize(("proof", "month"), [("13/05/2026", 6), ("05/13/2026", 5)])
@pytest.mark.parametrize("first", [True, False])
def test_one_date_of_the_file_proves_the_order_of_all(proof, month, first):
    dates = ["05/06/2026 07:08:09 UTC"] * 3
    dates.insert(0 if first else 3, f"{proof} 07:08:09 UTC")
    found = read(dated(*dates))
    assert len(found) == 4
    assert {row.cells["from_timestamp"] for row in found if row.cells["from_timestamp"].day != 13} == {
        datetime(2026, month, 11 - month, 7, 8, 9, tzinfo=UTC)
    }  # fmt: skip


def test_dates_of_both_orders_in_one_file_are_refused():
    mixed = ("13/05/2026 07:08:09 UTC", "05/13/2026 07:08:09 UTC")
    refused(dated(*mixed), "day first", "line 3")
    refused(dated("05/06/2026 07:08:09 UTC", *mixed), "day first", "line 4")
    refused(dated("13/05/2026 07:08:09 UTC"), "order mdy", times=Times("mdy"))


# Numbers


@pytest.mark.parametrize(
    "value", ["1.23E+18", "1,23E+18", "1E5", "1 234", "1,234", "12.5", "-1.234.567"]
)
def test_a_number_that_a_spreadsheet_changed_is_refused_and_not_shown(value):
    data = f"id;tenant_id;from_timestamp;agent_runs\n{ID};;2026-05-06 07:08:09Z;{value}\n"
    shown = refused(data, "column agent_runs", "spreadsheet", table="agent_builder_usage")
    assert value not in shown


def test_lost_digits_are_refused_where_a_spreadsheet_has_saved_the_file():
    data = "id,tenant_id,from_timestamp,agent_runs\n{},,2026-05-06 07:08:09Z,{}\n"
    lost = data.format(ID, "1234567890123450000")
    assert read(lost, table="agent_builder_usage")[0].cells["agent_runs"] == "1234567890123450000"
    refused(lost.replace("\n", "\r\n"), "column agent_runs", table="agent_builder_usage")
    whole = data.format(ID, "1234567890123456789").replace("\n", "\r\n")
    assert read(whole, table="agent_builder_usage")[0].cells["agent_runs"] == "1234567890123456789"


# Bounds


class Repeated(io.RawIOBase):
    """A seekable file of a header and a number of equal rows that is nowhere in memory."""

    def __init__(self, head: bytes, row: bytes, count: int) -> None:
        self.head, self.row, self.size, self.at = head, row, len(head) + len(row) * count, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        self.at = offset
        return offset

    def readinto(self, buffer) -> int:
        end = min(self.at + len(buffer), self.size)
        data = self.head[self.at : end]
        if end > len(self.head):
            begin = max(self.at - len(self.head), 0)
            offset = begin % len(self.row)
            wanted = end - len(self.head) - begin
            data += (self.row * ((offset + wanted) // len(self.row) + 1))[offset : offset + wanted]
        buffer[: len(data)] = data
        self.at = end
        return len(data)


def test_rows_are_not_kept():
    stream = Repeated(f"{HEADER}\n".encode(), f"{ROW}\n".encode(), 20_000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in csvfiles.read_stream(stream, "x.csv", TABLES, Reading()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 4 * 1024**2


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: rows(ROW, t).encode()))
def test_whatever_the_bytes_nothing_but_a_named_error_comes_out(data):
    is_csv("x", data)
    with contextlib.suppress(InputRefusedError):
        for row in read(data):
            assert row.cells.keys() == set(HEADER.split(","))
