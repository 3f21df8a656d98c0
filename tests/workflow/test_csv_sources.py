"""CSV files of LangSmith's queries, from the command line: each row once, and what is not certain said."""

import json
from pathlib import Path

from postgres import PostgresServer
from support import Site, run

from airgap.replay.rehearsal import RehearsalBeacon

EXPORT = """
WITH info AS (SELECT gen_random_uuid() AS backfill_id, now() AS backfilled_at), taken AS (
    UPDATE trace_count_transactions t SET backfill_id = info.backfill_id,
        backfilled_at = info.backfilled_at FROM info
    WHERE t.source = 'local'
        AND t.status IN ('pending', 'todo', 'should_retry', 'failed', 'needs_backfill')
    RETURNING *)
SELECT taken.*, :'customer_id' AS customer_id, :'customer_name' AS customer_name FROM taken;
"""
WHO = ("-v", "customer_id=c1", "-v", "customer_name=Bank A")
UNREPORTED = (
    "FROM trace_count_transactions WHERE source = 'local'"
    " AND status IN ('pending', 'todo', 'should_retry', 'failed', 'needs_backfill')"
)


def collect(site: Site, *options: object, code: int | None = 0):
    files = ("--license-file", site.license_file)
    return run("collect", "--home", site.isolated, *options, *files, code=code)


def exported(
    site: Site, postgres: PostgresServer, name: str, sql: str = EXPORT, **env: str
) -> Path:
    path = site.root / name
    path.write_bytes(postgres.csv(sql, *WHO, env=env))
    return path


def new(result) -> int:
    return sum(t["records"] for t in json.loads(result.stdout)["new"].values())


def test_files_that_overlap_count_each_row_once_whatever_settings_they_were_made_with(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=400)
    first = exported(site, postgres, "first.csv")
    postgres.fill(transactions=100)
    second = exported(site, postgres, "second.csv", PGDATESTYLE="German", PGTZ="Europe/Berlin")
    zone = ("--time-zone", "Europe/Berlin")
    rows, traces = map(
        int, postgres.execute(f"SELECT count(*), sum(trace_count) {UNREPORTED}").split("|")
    )
    counts = [new(collect(site, path, *zone, "--json")) for path in (first, second, first)]
    assert counts[0] + counts[1] == rows
    assert counts[2] == 0
    assert new(collect(site, postgres.url, "--take-exported", "--json")) == 0
    site.export()
    site.import_(beacon.url)
    assert beacon.totals.as_map()["trace_transactions"]["sums"]["trace_count"] == traces


def test_rows_from_a_file_are_marked_as_sent_under_the_files_own_export(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=60)
    collect(site, exported(site, postgres, "rows.csv"))
    site.export()
    site.import_(beacon.url)
    rows = int(postgres.execute(f"SELECT count(*) {UNREPORTED}"))
    applied = json.loads(site.apply("--mark", postgres.url, "--json").stdout)
    assert applied["marked"] == {"trace_count_transactions": rows}
    assert postgres.execute(f"SELECT count(*) {UNREPORTED}") == "0"


def test_a_second_export_that_took_the_rows_over_is_found_when_they_are_to_be_marked(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=30)
    collect(site, exported(site, postgres, "first.csv"))
    exported(site, postgres, "second.csv")
    site.export()
    site.import_(beacon.url)
    result = site.apply("--mark", postgres.url, code=5)
    assert "stand otherwise" in result.stderr
    assert (
        postgres.execute(
            "SELECT count(*) FROM trace_count_transactions WHERE status = 'sent-backfilled'"
        )
        == "0"
    )


def test_a_failed_query_and_one_that_found_nothing_are_told_apart(
    site: Site, postgres: PostgresServer
):
    postgres.fill(transactions=5)
    failed = site.root / "failed.csv"
    failed.write_bytes(postgres.csv(EXPORT))
    result = collect(site, failed, code=3)
    assert "the query failed" in result.stderr
    assert "customer_id" in result.stderr
    postgres.execute("TRUNCATE trace_count_transactions")
    result = collect(site, exported(site, postgres, "empty.csv"), code=3)
    assert "header" in result.stderr


def test_rows_that_were_reported_are_left_and_said(site: Site, postgres: PostgresServer):
    postgres.fill(transactions=120)
    postgres.execute(
        "UPDATE trace_count_transactions SET status = 'quarantined' WHERE status = 'todo'"
    )
    path = exported(site, postgres, "full.csv", "SELECT * FROM trace_count_transactions;")
    result = collect(site, path)
    assert "reported already (state sent)" in result.stdout
    assert "not of this installation" in result.stdout
    assert "(quarantined)" in result.stderr
    same = collect(site, postgres.url)
    assert "(quarantined)" in same.stderr


def test_an_ambiguous_date_is_refused_with_its_cure_and_read_with_it(
    site: Site, postgres: PostgresServer
):
    postgres.fill(transactions=1, status="pending")
    postgres.execute("""UPDATE trace_count_transactions SET interval_start = '2026-05-06 07:00Z',
        interval_end = '2026-05-06 08:00Z', insertion_time_range_start = '2026-05-06 08:00Z',
        insertion_time_range_end = '2026-05-06 09:00Z', created_at = '2026-05-06 09:00Z'""")
    sql = EXPORT.replace("now() AS", "timestamptz '2026-05-06 10:00Z' AS")
    path = exported(site, postgres, "sql.csv", sql, PGDATESTYLE="SQL, DMY", PGTZ="UTC")
    refused = collect(site, path, code=3)
    assert "--date-order" in refused.stderr
    collect(site, path, "--date-order", "dmy")
    assert new(collect(site, postgres.url, "--take-exported", "--json")) == 0


def test_a_file_in_another_encoding_is_refused_with_its_cure_and_read_with_it(
    site: Site, postgres: PostgresServer
):
    postgres.fill(transactions=3, status="pending")
    sql = "SELECT t.*, w.display_name AS workspace_name FROM trace_count_transactions t JOIN tenants w ON t.tenant_id = w.id;"
    path = exported(site, postgres, "latin.csv", sql, PGCLIENTENCODING="LATIN1")
    refused = collect(site, path, code=3)
    assert "--encoding" in refused.stderr
    assert new(collect(site, path, "--encoding", "latin-1", "--json")) == 3
