"""CSV files that the real psql writes from a real PostgreSQL, read back and compared with its rows.

The statements give the columns that the queries of LangSmith's Helm chart gave in each release; they
run as LangSmith's script runs them: ``psql -A -F ',' --csv -q -f FILE``, with a psqlrc, without ``-X``.
"""

import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from postgres import ORGANIZATION, TENANT, PostgresServer
from psycopg.rows import dict_row

from airgap import catalog
from airgap.collect import csvfiles, tables
from airgap.collect.csvfiles import Reading
from airgap.collect.pgtimes import Times
from airgap.errors import InputRefusedError

TABLES = tables.load(catalog.load())
UNREPORTED = "('pending', 'todo', 'should_retry', 'failed', 'needs_backfill')"
NAMES = ", ws.display_name AS workspace_name, org.display_name AS organization_name"
CUSTOMER = ", :'customer_id' AS customer_id, :'customer_name' AS customer_name"
BOTH = (
    "JOIN tenants ws ON ws.id = x.tenant_id JOIN organizations org ON org.id = ws.organization_id"
)
METRICS = (
    "id from_timestamp to_timestamp received_at measures tags logs reported_status "
    "num_failed_metronome_send_attempts tenant_id self_hosted_customer_id"
).split()


def traces(states: str, more: str, joins: str, first: str = "") -> str:
    """Return a statement that marks transactions, and gives the id and time of the export twice."""
    return f"""
        WITH stamp AS (SELECT gen_random_uuid() AS backfill_id, now() AS backfilled_at), x AS (
            UPDATE trace_count_transactions AS txn
            SET backfill_id = stamp.backfill_id, backfilled_at = stamp.backfilled_at
            FROM stamp WHERE txn.source = 'local' AND txn.status IN {states} RETURNING {first}*)
        SELECT x.*{more} FROM x {joins} ORDER BY x.created_at DESC;
    """


def nodes(more: str, joins: str) -> str:
    columns = ", ".join(METRICS)
    return f"""
        WITH stamp AS (SELECT gen_random_uuid() AS backfill_id, now() AS backfilled_at), x AS (
            UPDATE remote_metrics AS m
            SET backfill_id = stamp.backfill_id, backfilled_at = stamp.backfilled_at
            FROM stamp WHERE m.reported_status = 'pending'
            RETURNING {columns}, m.backfill_id, m.backfilled_at)
        SELECT x.*{more} FROM x {joins} ORDER BY x.received_at DESC;
    """


TRACES = traces(UNREPORTED, CUSTOMER, "")
OF_TABLE = {
    "traces": "trace_count_transactions",
    "nodes": "remote_metrics",
    "snapshots": "usage_snapshots",
    "agents": "agent_builder_usage",
}
LOCAL = f"source = 'local' AND status IN {UNREPORTED}"
# Name: the statement, and which rows of the table it gives.
QUERIES = {
    "traces 2026-08": (TRACES, LOCAL),
    "traces 2026-03": (traces(UNREPORTED, NAMES + CUSTOMER, BOTH), LOCAL),
    "traces 2025-08": (traces("('pending')", NAMES, BOTH), "source = 'local' AND status = 'pending'"),
    "traces all": ("SELECT * FROM trace_count_transactions ORDER BY created_at DESC;", "true"),
    "traces all 2025-09": (f"SELECT x.*{NAMES} FROM trace_count_transactions x {BOTH};", "true"),
    "traces first": (
        f"SELECT x.*{NAMES} FROM trace_count_transactions x {BOTH} WHERE source = 'local' AND status = 'pending';",
        "source = 'local' AND status = 'pending'",
    ),
    "nodes 2026-08": (
        nodes(", ws.organization_id" + CUSTOMER, "LEFT JOIN tenants ws ON ws.id = x.tenant_id"),
        "reported_status = 'pending'",
    ),
    # Until August 2026 the rows without a tenant did not come along.
    "nodes 2026-03": (
        nodes(", ws.organization_id" + NAMES + CUSTOMER, BOTH),
        "reported_status = 'pending' AND tenant_id IS NOT NULL",
    ),
    "nodes all": (
        "SELECT x.*, ws.organization_id FROM remote_metrics x LEFT JOIN tenants ws ON ws.id = x.tenant_id;",
        "true",
    ),
    "snapshots all": ("SELECT * FROM usage_snapshots ORDER BY received_at DESC;", "true"),
    "agents all": ("SELECT * FROM agent_builder_usage;", "true"),
}  # fmt: skip
GIVEN = ("-v", "customer_id=cust-1", "-v", "customer_name=Bank A, \"B\"; 'C'")

ISO = {"PGDATESTYLE": "ISO", "PGTZ": "UTC"}
SETTINGS: list[tuple[dict[str, str], Reading]] = [
    ({}, Reading()),
    ({"PGTZ": "Asia/Kathmandu", "PGCLIENTENCODING": "LATIN1"}, Reading("LATIN1")),
    ({"PGTZ": "America/Sao_Paulo", "PGDATESTYLE": "SQL, DMY"}, Reading()),
    ({"PGTZ": "UTC", "PGDATESTYLE": "SQL, MDY", "PGCLIENTENCODING": "WIN1252"}, Reading("WIN1252")),
    (
        {"PGTZ": "Europe/Amsterdam", "PGDATESTYLE": "SQL, YMD"},
        Reading(times=Times(None, "Europe/Amsterdam")),
    ),
    ({"PGTZ": "Europe/Dublin", "PGDATESTYLE": "German"}, Reading(times=Times("mdy", "Europe/Dublin"))),
    (
        {"PGTZ": "America/New_York", "PGDATESTYLE": "Postgres, DMY"},
        Reading(times=Times(None, "America/New_York")),
    ),
    ({"PGTZ": "Asia/Kolkata", "PGDATESTYLE": "Postgres, MDY"}, Reading(times=Times(None, "Asia/Kolkata"))),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A server whose tables hold rows over a month, and both clock changes."""
    postgres_server.reset()
    postgres_server.fill(600, 400, 300, 200)
    postgres_server.execute("""
        INSERT INTO usage_snapshots VALUES
            (gen_random_uuid(), '2026-10-25 00:30:00+00', '2026-10-25 01:30:00+00',
                '{"large": 9223372036854775807, "a,b": "\\"q\\"\\nline"}'),
            (gen_random_uuid(), '2026-11-01 05:30:00.1+00', '2026-11-01 06:30:00.12+00', '{}');
    """)
    yield postgres_server
    postgres_server.reset()


def read(data: bytes, reading: Reading = Reading()) -> list[tables.Row]:  # noqa: B008 - frozen
    return list(csvfiles.read_stream(io.BytesIO(data), "out.csv", TABLES, reading))


def of(reading: Reading, name: str) -> Reading:
    """Return the reading with the table named where its columns don't show it."""
    table = OF_TABLE[name.split(maxsplit=1)[0]] if name.startswith("agents") else None
    return Reading(reading.encoding, reading.times, table, reading.null)


def as_cell(value: Any) -> Any:
    return value if value is None or isinstance(value, datetime) else str(value)


def compare(server: PostgresServer, found: list[tables.Row], name: str, condition: str) -> None:
    """Check that the rows are those of the table, each with its instants and its values."""
    table = OF_TABLE[name.split(maxsplit=1)[0]]
    with psycopg.connect(server.url, row_factory=dict_row) as connection:
        expected = {str(r["id"]): r for r in connection.execute(f"SELECT * FROM {table} WHERE {condition}")}  # fmt: skip
    assert len(found) == len(expected) > 50
    for row in found:
        assert row.table.name == table
        cells, there = dict(row.cells), expected.pop(str(row.cells["id"]))
        for column, value in there.items():
            kind = row.table.column_type(column)
            if kind == "json":
                assert json.loads(cells.pop(column)) == value
            elif kind == "time" or not isinstance(value, datetime):
                assert cells.pop(column) == as_cell(value), column
            else:
                assert cells.pop(column) is not None  # a time that nothing is made of
        assert cells.pop("workspace_name", None) in (None, 'Größe, "naïve"; café')
        assert cells.pop("organization_name", None) in (None, "Bank A")
        assert cells.pop("organization_id", None) in (None, ORGANIZATION)
        assert cells.pop("customer_id", None) in (None, "cust-1")
        assert cells.pop("customer_name", None) in (None, "Bank A, \"B\"; 'C'")
        assert not cells


@pytest.mark.parametrize("name", QUERIES)
def test_every_release_s_file_holds_the_rows_of_the_database(filled, name):
    query, condition = QUERIES[name]
    data = filled.csv(query, *GIVEN)
    compare(filled, read(data, of(Reading(), name)), name, condition)


@pytest.mark.parametrize(("env", "reading"), SETTINGS, ids=lambda v: " ".join(v.values()) if isinstance(v, dict) else "")  # fmt: skip
def test_every_date_style_zone_and_encoding_gives_the_same_instants(filled, env, reading):
    for name in ("traces 2026-03", "nodes 2026-03", "snapshots all"):
        query, condition = QUERIES[name]
        data = filled.csv(query, *GIVEN, env=env)
        compare(filled, read(data, of(reading, name)), name, condition)


def test_without_a_word_on_the_zone_or_the_order_nothing_is_guessed(postgres):
    postgres.fill(snapshots=300)  # March: days above twelve
    query = QUERIES["snapshots all"][0]
    for zone, style in (("Europe/Amsterdam", "SQL, DMY"), ("Asia/Kolkata", "German")):
        with pytest.raises(InputRefusedError) as caught:
            read(postgres.csv(query, env={"PGTZ": zone, "PGDATESTYLE": style}))
        assert "--time-zone" in caught.value.hint
    # The file proves its own order, unless all of it lies within the first twelve days of a month.
    env = {"PGTZ": "UTC", "PGDATESTYLE": "SQL, DMY"}
    compare(postgres, read(postgres.csv(query, env=env)), "snapshots all", "true")
    postgres.execute("DELETE FROM usage_snapshots WHERE from_timestamp < '2026-03-21'")
    postgres.execute("UPDATE usage_snapshots SET from_timestamp = from_timestamp - interval '20 days', to_timestamp = to_timestamp - interval '20 days'")  # fmt: skip
    data = postgres.csv(query, env=env)
    with pytest.raises(InputRefusedError) as caught:
        read(data)
    assert "--date-order" in caught.value.hint
    compare(postgres, read(data, Reading(times=Times("dmy"))), "snapshots all", "true")


def test_times_of_long_ago_have_offsets_with_seconds(postgres):
    postgres.fill(snapshots=60)
    postgres.execute("UPDATE usage_snapshots SET from_timestamp = from_timestamp - interval '200 years', to_timestamp = to_timestamp + interval '200 years'")  # fmt: skip
    query = QUERIES["snapshots all"][0]
    for env, zone in (
        ({"PGTZ": "America/Sao_Paulo"}, None),
        ({"PGTZ": "Asia/Kathmandu", "PGDATESTYLE": "German"}, "Asia/Kathmandu"),
    ):
        found = read(postgres.csv(query, env=env), Reading(times=Times(None, zone)))
        compare(postgres, found, "snapshots all", "true")


def test_a_psqlrc_s_lines_and_its_sign_for_null_are_known(postgres, tmp_path):
    postgres.fill(100, 100)
    psqlrc = tmp_path / "psqlrc"
    psqlrc.write_text(
        "\\set QUIET off\n\\timing on\n\\pset null '∅'\n\\pset pager off\n\\pset border 2\n\\x off\n"
        "\\pset linestyle unicode\n\\pset footer on\n\\pset csv_fieldsep ';'\nSET datestyle = 'ISO';\n"
        "SET statement_timeout = '60s';\n\\set COMP_KEYWORD_CASE upper\n"
    )
    query, condition = QUERIES["nodes 2026-08"]
    data = postgres.csv(query, *GIVEN, env={"PSQLRC": str(psqlrc)})
    assert data.startswith(b"Timing is on.\n")
    assert data.rstrip().endswith(b" ms")
    compare(postgres, read(data), "nodes 2026-08", condition)
    # With QUIET left on, nothing in the file says how NULL is printed.
    for sign in ("[null]", "nothing"):
        psqlrc.write_text(f"\\pset null '{sign}'\n\\timing on\n")
        data = postgres.csv(QUERIES["traces all"][0], env={"PSQLRC": str(psqlrc)})
        with pytest.raises(InputRefusedError) as caught:
            read(data)
        assert "--null" in caught.value.hint
        compare(postgres, read(data, Reading(null=sign)), "traces all", "true")


@pytest.mark.parametrize("setting", ["\\x on", "\\t on", "\\pset format aligned", "\\pset format unaligned", "\\pset numericlocale on", "\\echo hello", "SELECT 1;"])  # fmt: skip
def test_a_psqlrc_that_changes_the_format_is_never_misread(postgres, tmp_path, setting):
    postgres.fill(snapshots=60)
    psqlrc = tmp_path / "psqlrc"
    psqlrc.write_text(f"{setting}\n")
    data = postgres.csv(QUERIES["snapshots all"][0], env={"PSQLRC": str(psqlrc)})
    try:
        found = read(data)
    except InputRefusedError:
        return
    compare(postgres, found, "snapshots all", "true")


def test_rows_that_psql_fetches_in_parts_are_one_file(postgres, tmp_path):
    postgres.fill(snapshots=100)
    psqlrc = tmp_path / "psqlrc"
    psqlrc.write_text("\\set FETCH_COUNT 10\n")
    data = postgres.csv(QUERIES["snapshots all"][0], env={"PSQLRC": str(psqlrc)})
    compare(postgres, read(data), "snapshots all", "true")


def test_failing_queries_leave_an_empty_file_and_are_told_as_such(postgres):
    postgres.fill(transactions=60)
    postgres.execute(f"UPDATE tenants SET display_name = 'Łódź' WHERE id = '{TENANT}'")
    for query, options, env in (
        (TRACES, (), {}),  # the variables were not given
        (TRACES, GIVEN, {"PGOPTIONS": "-c default_transaction_read_only=on"}),
        (QUERIES["traces 2026-03"][0], GIVEN, {"PGCLIENTENCODING": "LATIN1"}),
        (f"SELECT pg_sleep(9); {TRACES}", GIVEN, {"PGOPTIONS": "-c statement_timeout=1ms"}),
    ):
        done = postgres.psql(query, "-A", "-F", ",", "--csv", "-q", *options, env=env)
        assert (done.stdout, done.returncode) == (b"", 0)
        with pytest.raises(InputRefusedError, match="the query failed"):
            read(done.stdout)
        # As with 2>&1 in the file.
        with pytest.raises(InputRefusedError, match="psql reports an error"):
            read(done.stderr)


def test_a_second_export_and_one_of_nothing(postgres):
    postgres.fill(transactions=120)
    first, second = (read(postgres.csv(TRACES, *GIVEN)) for _ in range(2))
    # The states are unchanged, so the same rows come again, under another id of the export.
    assert [r.cells["id"] for r in first] == [r.cells["id"] for r in second]
    assert {r.cells["backfill_id"] for r in first}.isdisjoint(
        r.cells["backfill_id"] for r in second
    )
    postgres.reset()
    postgres.fill(transactions=20, status="sent")
    with pytest.raises(InputRefusedError, match="no row of trace_count_transactions"):
        read(postgres.csv(TRACES, *GIVEN))


def test_the_columns_that_come_twice_differ_only_where_the_table_holds_something_else(postgres):
    postgres.fill(transactions=60)

    def altered(statements: str) -> bytes:
        return postgres.csv(f"BEGIN; {statements} {TRACES} ROLLBACK;", *GIVEN, env=ISO)

    assert altered("").splitlines()[0].count(b"backfill_id") == 2
    for row in read(altered("")):
        assert row.cells["backfill_id"] is not None
    # A coarser column, and one without time zone: the query's own time is whole.
    for kind in ("timestamptz(0)", "timestamp"):
        statement = f"ALTER TABLE trace_count_transactions ALTER backfilled_at TYPE {kind};"
        found = read(altered(statement))
        assert {str(r.cells["backfilled_at"])[-3:] for r in found} == {"+00"}
    # A trigger that keeps another id: the table's is the one that can be asked for later.
    trigger = """
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.backfill_id := md5('x')::uuid; RETURN NEW; END $$;
        CREATE TRIGGER keep BEFORE UPDATE ON trace_count_transactions
            FOR EACH ROW EXECUTE FUNCTION keep();
    """
    with pytest.raises(InputRefusedError, match="columns called backfill_id differ"):
        read(altered(trigger))


def test_a_file_saved_again_as_a_spreadsheet_does_reads_the_same(postgres):
    postgres.fill(snapshots=60)
    data = postgres.csv(QUERIES["snapshots all"][0])
    for encoding in ("utf-16", "utf-8-sig"):
        saved = data.decode().replace("\n", "\r\n").encode(encoding)
        compare(postgres, read(saved), "snapshots all", "true")
