"""LangSmith's tables, read and marked by somebody who wants a row lost, counted twice or overheard."""

import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from postgres import PostgresServer
from support import Site, report, run, write_lines

from airgap import captured, home, marking
from airgap.catalog import Catalog
from airgap.collect import pseudonyms
from airgap.collect.payloads import Rules, records_of
from airgap.collect.postgres import Langsmith
from airgap.outbox import Outbox
from airgap.replay.rehearsal import RehearsalBeacon
from airgap.sightings import Sighting

NOW = datetime(2026, 2, 1, tzinfo=UTC)
SECRET = "s3cretpw"
AT = "127.0.0.1:1/langsmith"


def collect(site: Site, *sources: object, code: int | None = 0):
    files = ("--license-file", site.license_file)
    return run("collect", "--home", site.isolated, *sources, *files, code=code)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}%x@{AT}",
        f"postgresql://u:100%25{SECRET}%zz@{AT}",
        f"postgresql://u:{SECRET}%00@{AT}",
        f"postgresql://u:{SECRET} {SECRET}@{AT}",
        f"postgresql://u:x/{SECRET}@{AT}",
        f"postgresql://u:{SECRET}/x@{AT}",
        f"postgresql://u:x@{SECRET}@{AT}",
        f"postgresql://u:x?{SECRET}@{AT}",
        f"postgresql://u:{SECRET}?/x@{AT}",
        f"postgresql://u:x#{SECRET}@{AT}",
        f"postgresql://u:{SECRET}:x@{AT}",
        f"postgresql://u:x:{SECRET}@{AT}",
        f"postgresql://{AT}?user=u&password=x@{SECRET}",
        f"postgresql://{AT}?user=u;password={SECRET}",
        f"postgresql://u@{AT}?pass%77ord={SECRET}",
        f"postgresql://u@{AT}?PASSWORD={SECRET}",
        f"postgresql://{AT}?sslpassword={SECRET}",
        f"POSTGRESQL://u:{SECRET}@{AT}",
        f"postgresql+psycopg://u:{SECRET}@{AT}",
        f"jdbc:postgresql://{AT}?user=u&password={SECRET}",
        f"host=127.0.0.1 port=1 password={SECRET} dbname=x",
        f"host=127.0.0.1 port=1 password = '{SECRET} x'",
    ],
)
def test_no_password_is_said_or_logged_however_wrongly_the_url_is_written(site: Site, url: str):
    result = collect(site, url, code=2)
    log = (site.isolated / "audit.jsonl").read_text()
    assert SECRET not in result.output + result.stderr + log
    assert "hint" in result.stderr
    shown = run("receipt", "apply", "--home", site.isolated, "--mark", url, code=2)
    assert SECRET not in shown.output + shown.stderr + (site.isolated / "audit.jsonl").read_text()


def test_a_url_that_says_how_long_to_wait_is_obeyed(postgres: PostgresServer):
    database = Langsmith(f"{postgres.url}&connect_timeout=77&application_name=site")
    said = database._connection.info.get_parameters()
    database.close()
    assert (said["connect_timeout"], said["application_name"]) == ("77", "site")


TAG = "usage_report/tags/tenant"
UPPER = "3A1C2B6F-4430-4B92-8A5B-79B8B567BBC1"


def tagged(tenant: str) -> dict[str, Any]:
    value = report(1, 1, from_timestamp="2026-01-06T00:00:00.123456Z")
    value["tags"]["tenant"] = tenant
    return value


def runs(site: Site) -> int:
    total: int = site.status()["waiting"]["usage_report"]["sums"]["langgraph.platform.runs"]
    return total


def test_two_reports_that_look_the_same_under_pseudonyms_are_two(site: Site):
    path = write_lines(site.root / "usage.jsonl", map(tagged, (UPPER, UPPER.lower(), UPPER)))
    hidden = ("--allow", TAG, "--pseudonymise", TAG)
    for _ in range(2):
        collect(site, path, *hidden)
        assert runs(site) == 3
    collect(site, path, "--allow", TAG)
    assert runs(site) == 3


def test_what_was_captured_under_a_pseudonym_is_known_when_a_file_shows_it_under_the_same(
    site: Site, schemas: Catalog
):
    """Refused before with a constraint of SQLite, so that such a file could never be collected."""
    site_home = home.open_home(site.isolated)
    hidden = pseudonyms.chosen(
        (TAG,), schemas, lambda: pseudonyms.key_of(site_home.path / "pseudonym.key", os.urandom)
    )
    assert hidden is not None
    rules = Rules(allowed=frozenset({TAG}))
    records = records_of(tagged(UPPER), b"", schemas, rules, where="test")
    outbox = Outbox(site_home.outbox_path, site_home.name, schemas)
    captured.receive(outbox, [[hidden.applied(Sighting.of(r)) for r in records]], NOW)
    captured.take(outbox, NOW)
    outbox.close()
    path = write_lines(site.root / "usage.jsonl", [tagged(UPPER), tagged(UPPER)])
    for _ in range(2):
        collect(site, path, "--allow", TAG, "--pseudonymise", TAG)
        assert runs(site) == 2


@pytest.fixture
def elsewhere(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a schema with a copy of the tables, to be altered; thirty rows of this site."""
    postgres.fill(transactions=33, status="pending")
    postgres.execute("""
        CREATE SCHEMA altered;
        CREATE TABLE altered.trace_count_transactions AS TABLE trace_count_transactions;
    """)
    yield f"{postgres.url}&options=-csearch_path%3Daltered"
    postgres.execute("DROP SCHEMA altered CASCADE")


ALTER = "ALTER TABLE altered.trace_count_transactions ALTER"


KEPT = "ALTER TABLE altered.trace_count_transactions RENAME TO kept;"
CHANGES = {
    "text": f"{ALTER} id TYPE text, ALTER backfill_id TYPE text, ALTER tenant_id TYPE text",
    "varchar": f"{ALTER} id TYPE varchar(36), ALTER status TYPE varchar(20), ALTER source TYPE varchar",
    "char": f"{ALTER} id TYPE char(36)",
    "enum": "CREATE TYPE altered.state AS ENUM ('pending', 'sent', 'sent-backfilled');"
    "CREATE TYPE altered.source AS ENUM ('local', 'remote');"
    f"{ALTER} status TYPE altered.state USING status::altered.state,"
    " ALTER source TYPE altered.source USING source::altered.source",
    "view": f"{KEPT} CREATE VIEW altered.trace_count_transactions AS TABLE altered.kept",
    "partitions": f"{KEPT} CREATE TABLE altered.trace_count_transactions (LIKE altered.kept)"
    " PARTITION BY HASH (id); CREATE TABLE altered.part PARTITION OF altered.trace_count_transactions"
    " FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
    "INSERT INTO altered.trace_count_transactions TABLE altered.kept",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_rows_are_read_and_marked_whatever_types_their_columns_have(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer, elsewhere: str, change: str
):
    postgres.execute(change)
    collect(site, elsewhere, "--mark")
    site.export()
    site.import_(beacon.url)
    assert beacon.totals.as_map()["trace_transactions"]["records"] == 30
    site.apply("--mark", elsewhere)
    assert postgres.execute(
        "SELECT status, count(*) FROM altered.trace_count_transactions GROUP BY 1 ORDER BY 1"
    ) == ("pending|3\nsent-backfilled|30")


def test_a_column_may_have_any_name(site: Site, postgres: PostgresServer, elsewhere: str):
    name = 'From "X" {} %s %(a)s'
    quoted = name.replace('"', '""')
    postgres.execute(
        f'ALTER TABLE altered.trace_count_transactions RENAME interval_start TO "{quoted}"'
    )
    result = collect(site, elsewhere, "--column", f"start_interval_time={name}")
    assert "30 records read, 30 new" in result.stdout


@pytest.mark.parametrize("value", ["'remote'", "NULL"])
def test_rows_that_are_not_of_this_installation_are_counted_aloud(
    site: Site, postgres: PostgresServer, elsewhere: str, value: str
):
    postgres.execute(f"""
        UPDATE altered.trace_count_transactions SET source = {value} WHERE id IN (
            SELECT id FROM altered.trace_count_transactions WHERE source = 'local' LIMIT 7)""")
    result = collect(site, elsewhere)
    assert "23 records read" in result.stdout
    assert "10 rows left: not of this installation" in result.stdout


def test_a_row_that_langsmith_reports_between_reading_and_marking_is_named(
    site: Site, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    postgres.fill(transactions=20, status="pending")
    real = Langsmith.mark

    def late(self: Langsmith, *arguments: Any) -> Any:
        postgres.execute(
            "UPDATE trace_count_transactions SET status = 'sent' WHERE trace_count = 5"
        )
        return real(self, *arguments)

    monkeypatch.setattr(Langsmith, "mark", late)
    result = collect(site, postgres.url, "--mark", code=5)
    assert "1 row that the outbox holds could not be marked" in result.stderr
    assert "state sent" in result.stderr
    assert postgres.execute(
        "SELECT status FROM trace_count_transactions WHERE backfill_id IS NOT NULL GROUP BY 1"
    ) == ("pending")


def test_an_error_while_marking_does_not_say_that_nothing_was_taken_over(
    site: Site, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    postgres.fill(transactions=20, status="pending")
    real = Langsmith.mark

    def cut(self: Langsmith, *arguments: Any) -> Any:
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'airgap'"
        )
        return real(self, *arguments)

    monkeypatch.setattr(Langsmith, "mark", cut)
    result = collect(site, postgres.url, "--mark", code=2)
    assert "nothing was taken over" not in result.stderr
    assert "what was collected or confirmed is kept" in result.stderr
    assert site.status()["waiting"]["trace_transactions"]["records"] > 0


def test_rows_that_a_policy_hides_from_the_role_are_not_passed_over_in_silence(
    site: Site, postgres: PostgresServer, elsewhere: str
):
    postgres.execute("""
        GRANT USAGE ON SCHEMA altered TO reader;
        GRANT SELECT ON altered.trace_count_transactions TO reader;
        ALTER TABLE altered.trace_count_transactions ENABLE ROW LEVEL SECURITY;
        CREATE POLICY large ON altered.trace_count_transactions TO reader USING (trace_count > 9);
    """)
    result = collect(site, elsewhere.replace("langsmith@", "reader@"), code=2)
    assert "row-level security" in result.stderr


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_text_of_databases_in_other_encodings_is_read_exactly_or_refused(
    site: Site, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, encoding: str
):
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    name = f"encoded_{encoding.lower()}"
    url = postgres.url_as("postgres").replace("/langsmith?", f"/{name}?")
    postgres.psql(
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        role="postgres",
    )
    tag = b'{"langgraph.platform.host": "Gr\xf6\xdfe"}'
    with psycopg.connect(url, client_encoding="UTF8", autocommit=True) as connection:
        connection.execute(f"""
            CREATE TABLE remote_metrics AS SELECT gen_random_uuid() AS id, now() AS from_timestamp,
                now() AS to_timestamp, 'pending'::text AS reported_status,
                '{{"langgraph.platform.runs": 3}}'::text AS measures, '[]'::text AS logs,
                convert_from('\\x{tag.hex()}', '{encoding}') AS tags""")
    result = collect(site, url, code=None)
    if encoding == "LATIN1":
        assert "1 record read, 1 new" in result.stdout
        site.export()
        [line] = run("cat", "--home", site.isolated, site.bundle).stdout.splitlines()
        assert "Größe" in json.loads(line)["payload"]["tags"].values()
    else:
        assert "invalid byte sequence" in result.stderr
        assert result.exit_code == 2
    postgres.psql(f"DROP DATABASE {name} WITH (FORCE)", role="postgres")


def test_marks_that_a_restored_database_has_lost_are_said_and_written_again(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=33, metrics=3, status="pending")
    collect(site, postgres.url, "--mark")
    site.export()
    site.import_(beacon.url)
    site.apply("--mark", postgres.url)
    postgres.execute("""
        UPDATE trace_count_transactions SET status = 'pending', backfill_id = NULL
            WHERE status = 'sent-backfilled';
        UPDATE remote_metrics SET reported_status = 'pending'""")
    result = collect(site, postgres.url)
    assert "33 records read, 0 new" in result.stdout
    assert "30 rows that were marked before stand unmarked" in result.stderr
    assert "3 rows that were marked before stand unmarked" in result.stderr
    marked = json.loads(site.apply("--mark", postgres.url, "--json").stdout)["marked"]
    assert marked == {"trace_count_transactions": 30, "remote_metrics": 3}
    assert "unmarked" not in collect(site, postgres.url).stderr


def test_rows_that_a_lost_outbox_had_marked_are_named_with_what_takes_them(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(metrics=4, status="pending")
    collect(site, postgres.url, "--mark")
    site.export()
    site.import_(beacon.url)
    postgres.fill(metrics=3, status="pending")
    collect(site, postgres.url, "--mark")
    for path in site.isolated.glob("outbox*"):
        path.unlink()
    run("outbox", "continue", "--home", site.isolated, site.stick)
    left = collect(site, postgres.url, "--mark")
    assert "7 rows" in left.stderr
    assert "before it was restored" in left.stderr
    collect(site, postgres.url, "--mark", "--take-exported")
    for path in site.stick.iterdir():
        path.unlink()
    site.export()
    site.import_(beacon.url)
    assert beacon.totals.as_map()["usage_report"]["records"] == 7
    site.apply("--mark", postgres.url)
    assert postgres.execute(
        "SELECT count(*) FROM remote_metrics WHERE reported_status = 'pending'"
    ) == ("0")


HEADER = (
    "id,tenant_id,trace_count,insertion_time_range_start,insertion_time_range_end,interval_start,"
    "interval_end,status,transaction_type"
)
TIMES = ",".join(["2026-03-15 00:00:00+00"] * 4)
ROW = f"{UPPER},{UPPER},7,{TIMES},pending,t"


def test_rows_that_end_with_carriage_returns_are_not_taken_for_a_header_without_rows(site: Site):
    path = site.root / "mac.csv"
    path.write_bytes(f"{HEADER}\r{ROW}\r".encode())
    result = collect(site, path, code=3)
    assert "--no-usage" not in result.stderr
    path.write_bytes(f"{HEADER}\r{ROW}\r\n".encode())
    assert "carriage return" in collect(site, path, code=3).stderr


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_encoding_whose_byte_order_nothing_says_is_refused_with_its_cure(
    site: Site, encoding: str
):
    path = site.root / "rows.csv"
    path.write_bytes(f"{HEADER}\n{ROW}\n".encode(f"{encoding}-le"))
    result = collect(site, path, "--encoding", encoding, code=3)
    assert f"--encoding {encoding}-le" in result.stderr
    assert "1 record read" in collect(site, path, "--encoding", f"{encoding}-le").stdout


def test_a_source_that_can_be_no_path_is_refused_in_words(site: Site):
    for source in ("a\0b", "x" * 5000, str(site.root), str(site.root / "missing.csv")):
        result = collect(site, source, code=2)
        assert "can't be read" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("step", ["begin", "unmarked", "note"])
def test_marks_are_whole_after_a_death_at_any_step_between_outbox_and_database(
    site: Site,
    beacon: RehearsalBeacon,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
):
    postgres.fill(transactions=33, metrics=5, status="pending")
    real = getattr(marking, step)

    def dies(*arguments: Any, **options: Any) -> Any:
        if step == "begin":
            real(*arguments, **options)
        raise KeyboardInterrupt

    def twice(*command: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(
                marking, "unsent" if (step, command[0]) == ("unmarked", "receipt") else step, dies
            )
            assert run(*command, code=None).exit_code != 0
        run(*command)

    twice(
        *("collect", "--home", site.isolated, postgres.url, "--mark"),
        *("--license-file", site.license_file),
    )
    assert (
        postgres.execute("SELECT count(DISTINCT backfill_id) FROM trace_count_transactions") == "1"
    )
    site.export()
    site.import_(beacon.url)
    twice("receipt", "apply", "--home", site.isolated, site.stick, "--mark", postgres.url)
    assert postgres.execute(
        "SELECT count(*), count(DISTINCT backfill_id) FROM trace_count_transactions"
        " WHERE status = 'sent-backfilled'"
    ) == ("30|1")
    assert postgres.execute("SELECT count(*) FROM remote_metrics WHERE backfill_id IS NULL") == "0"
    assert "0 new" in collect(site, postgres.url).stdout


def test_a_renewed_licence_changes_no_row_that_was_collected_under_the_one_before(
    site: Site, postgres: PostgresServer
):
    """Snapshots are read every time: the first renewal would have ended all collecting."""
    postgres.fill(transactions=3, metrics=3, snapshots=3, status="pending")
    collect(site, postgres.url)
    site.license_file.write_text("lcl_EXAMPLE_not_a_real_key_either\n")
    assert "9 records read, 0 new" in collect(site, postgres.url).stdout
    postgres.fill(snapshots=2)
    assert "11 records read, 2 new" in collect(site, postgres.url).stdout
    postgres.execute("UPDATE usage_snapshots SET measures = '{}'")
    assert "other content" in collect(site, postgres.url, code=3).stderr


def test_none_of_many_equal_rows_looks_at_all_before_it(
    site: Site, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    postgres.fill(metrics=1, status="pending")
    postgres.execute("""
        INSERT INTO remote_metrics SELECT gen_random_uuid(), from_timestamp, to_timestamp, received_at,
            measures, tags, logs, reported_status FROM remote_metrics, generate_series(1, 2000)""")
    asked = 0
    real = sqlite3.connect

    def counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        def count(_: str) -> None:
            nonlocal asked
            asked += 1

        made = real(*arguments, **options)
        made.set_trace_callback(count)
        return made

    monkeypatch.setattr(sqlite3, "connect", counting)
    assert "2,001 records read, 2,001 new" in collect(site, postgres.url).stdout
    monkeypatch.undo()
    assert 2_001 < asked < 2_001 * 20
    postgres.execute("""
        INSERT INTO remote_metrics SELECT gen_random_uuid(), from_timestamp, to_timestamp, received_at,
            measures, tags, logs, reported_status FROM remote_metrics LIMIT 3""")
    assert "2,004 records read, 3 new" in collect(site, postgres.url).stdout


def test_a_table_that_knows_no_exports_is_named_when_it_is_to_be_marked(
    site: Site, postgres: PostgresServer, elsewhere: str
):
    postgres.execute("ALTER TABLE altered.trace_count_transactions DROP backfill_id")
    result = collect(site, elsewhere, "--mark", code=2)
    assert "columns backfill_id" in result.stderr
    assert "without --mark" in result.stderr
    assert "30 records read, 0 new" in collect(site, elsewhere).stdout
