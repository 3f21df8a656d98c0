"""LangSmith's database, a real one: what is unreported goes out once, and is marked when it arrived."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from postgres import PostgresServer
from support import Site, run

from airgap.collect.postgres import Langsmith
from airgap.errors import UsageError
from airgap.replay.rehearsal import RehearsalBeacon

UNREPORTED = "('pending', 'todo', 'should_retry', 'failed', 'needs_backfill')"
TRACES = f"FROM trace_count_transactions WHERE source = 'local' AND status IN {UNREPORTED}"


def collect(site: Site, url: str, *options: object, code: int | None = 0):
    return run(
        "collect",
        "--home",
        site.isolated,
        url,
        "--license-file",
        site.license_file,
        *options,
        code=code,
    )


def numbers(postgres: PostgresServer, sql: str) -> list[int]:
    return [int(value or 0) for value in postgres.execute(sql).split("|")]


def sums(totals: dict, kind: str) -> dict[str, int]:
    return {"records": totals[kind]["records"], **totals[kind]["sums"]}


def test_totals_are_those_of_sql_through_the_whole_journey(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=4000, metrics=1000, snapshots=50)
    traces, count = numbers(postgres, f"SELECT count(*), sum(trace_count) {TRACES}")
    reports, runs, nodes = numbers(
        postgres,
        "SELECT count(*), sum((measures->>'langgraph.platform.runs')::bigint),"
        " sum((measures->>'langgraph.platform.nodes')::bigint)"
        " FROM remote_metrics WHERE reported_status = 'pending'",
    )
    collected = json.loads(collect(site, postgres.url, "--mark", "--json").stdout)
    assert sums(collected["new"], "trace_transactions") == {"records": traces, "trace_count": count}
    assert collected["new"]["usage_snapshot"]["records"] == 50
    assert sums(collected["new"], "usage_report") == {
        "records": reports,
        "langgraph.platform.runs": runs,
        "langgraph.platform.nodes": nodes,
    }
    site.export()
    site.import_(beacon.url)
    assert beacon.totals.as_map() == collected["new"]
    assert numbers(
        postgres, "SELECT count(*) FROM trace_count_transactions WHERE status = 'sent-backfilled'"
    ) == [0]
    applied = json.loads(site.apply("--mark", postgres.url, "--json").stdout)
    assert applied["marked"] == {"trace_count_transactions": traces, "remote_metrics": reports}
    assert numbers(
        postgres,
        "SELECT count(*), count(DISTINCT backfill_id) FROM trace_count_transactions WHERE status = 'sent-backfilled'",
    ) == [traces, 1]
    assert numbers(postgres, f"SELECT count(*) {TRACES}") == [0]
    assert collect(site, postgres.url, "--mark", "--json").exit_code == 0


def test_a_row_that_was_reported_or_is_of_another_source_is_neither_read_nor_marked(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=600, metrics=100)
    before = postgres.execute(
        f"SELECT id, status FROM trace_count_transactions EXCEPT SELECT id, status {TRACES} ORDER BY 1"
    )
    collect(site, postgres.url, "--mark")
    site.export()
    site.import_(beacon.url)
    site.apply("--mark", postgres.url)
    after = postgres.execute(
        "SELECT id, status FROM trace_count_transactions WHERE status <> 'sent-backfilled' ORDER BY 1"
    )
    assert after == before
    marked = numbers(
        postgres,
        "SELECT count(*) FROM trace_count_transactions WHERE backfill_id IS NOT NULL AND status <> 'sent-backfilled'",
    )
    assert marked == [0]


def test_a_second_export_before_any_confirmation_counts_nothing_twice_and_keeps_the_first_ones_id(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=300)
    collect(site, postgres.url, "--mark")
    site.export()
    [first] = postgres.execute(f"SELECT DISTINCT backfill_id {TRACES}").split("\n")
    postgres.fill(transactions=200)
    collect(site, postgres.url, "--mark")
    site.export()
    ids = postgres.execute(f"SELECT backfill_id, count(*) {TRACES} GROUP BY 1").split("\n")
    assert len(ids) == 2
    assert sum(line.startswith(first) for line in ids) == 1
    site.import_(beacon.url)
    [traces] = numbers(postgres, f"SELECT sum(trace_count) {TRACES}")
    assert beacon.totals.as_map()["trace_transactions"]["sums"]["trace_count"] == traces
    site.apply("--mark", postgres.url)
    assert numbers(postgres, f"SELECT count(*) {TRACES}") == [0]


def test_only_rows_of_confirmed_records_are_marked_as_sent(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=100)
    collect(site, postgres.url, "--mark")
    site.export()
    site.import_(beacon.url)
    postgres.fill(transactions=100)
    collect(site, postgres.url, "--mark")
    unconfirmed = numbers(postgres, f"SELECT count(*) {TRACES}")[0] - len(
        postgres.execute("SELECT 1 FROM trace_count_transactions WHERE status = 'x'").split()
    )
    confirmed = json.loads(site.apply("--mark", postgres.url, "--json").stdout)["marked"]
    left = numbers(postgres, f"SELECT count(*) {TRACES}")[0]
    assert left == unconfirmed - confirmed["trace_count_transactions"]
    assert left > 0


def test_reading_never_writes_also_where_the_role_could(site: Site, postgres: PostgresServer):
    postgres.fill(transactions=100, metrics=100)
    before = postgres.execute(
        "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM trace_count_transactions t"
    )
    collect(site, postgres.url)
    assert (
        postgres.execute(
            "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM trace_count_transactions t"
        )
        == before
    )
    collect(site, postgres.url_as("reader"))


def test_a_role_that_may_only_read_is_told_so_and_what_was_collected_stays(
    site: Site, postgres: PostgresServer
):
    postgres.fill(transactions=10)
    result = collect(site, postgres.url_as("reader"), "--mark", code=2)
    assert "may not do this" in result.stderr
    assert "UPDATE" in result.stderr
    assert site.status()["waiting"]["trace_transactions"]["records"] > 0
    collect(site, postgres.url, "--mark")
    assert numbers(postgres, f"SELECT count(*) {TRACES} AND backfill_id IS NULL") == [0]


def test_rows_of_an_export_by_other_means_are_left_until_somebody_decides(
    site: Site, postgres: PostgresServer
):
    postgres.fill(transactions=100)
    postgres.execute(
        "UPDATE trace_count_transactions SET backfill_id = gen_random_uuid(), backfilled_at = now()"
        " WHERE status = 'pending'"
    )
    held = numbers(postgres, f"SELECT count(*) {TRACES} AND status = 'pending'")[0]
    free = numbers(postgres, f"SELECT count(*) {TRACES} AND status <> 'pending'")[0]
    result = collect(site, postgres.url, "--mark")
    assert f"{held} rows" in result.stderr
    assert "--take-exported" in result.stderr
    assert site.status()["waiting"]["trace_transactions"]["records"] == free
    collect(site, postgres.url, "--take-exported")
    assert site.status()["waiting"]["trace_transactions"]["records"] == free + held


def test_a_row_that_another_export_took_is_named_and_not_marked_as_sent(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=20)
    collect(site, postgres.url, "--mark")
    site.export()
    site.import_(beacon.url)
    victim = postgres.execute(f"SELECT id {TRACES} LIMIT 1")
    postgres.execute(
        f"UPDATE trace_count_transactions SET backfill_id = gen_random_uuid() WHERE id = '{victim}'"
    )
    result = site.apply("--mark", postgres.url, code=5)
    assert victim in result.stderr
    assert numbers(postgres, f"SELECT count(*) {TRACES}") == [1]


def test_a_run_that_dies_between_outbox_and_database_is_finished_by_the_next(
    site: Site, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    postgres.fill(transactions=50)
    real = Langsmith.mark

    def dies(self, *arguments):
        real(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Langsmith, "mark", dies)
    collect(site, postgres.url, "--mark", code=None)
    assert numbers(
        postgres, "SELECT count(*) FROM trace_count_transactions WHERE backfill_id IS NOT NULL"
    ) == [0]
    monkeypatch.undo()
    result = collect(site, postgres.url, "--mark")
    assert "rows left" not in result.stderr
    assert numbers(postgres, f"SELECT count(*) {TRACES} AND backfill_id IS NULL") == [0]
    assert numbers(postgres, f"SELECT count(DISTINCT backfill_id) {TRACES}") == [1]


def test_two_rows_with_the_same_content_are_two_records_also_months_apart(
    site: Site, postgres: PostgresServer
):
    postgres.fill(metrics=1, status="pending")
    collect(site, postgres.url)
    postgres.execute(
        "INSERT INTO remote_metrics SELECT gen_random_uuid(), from_timestamp, to_timestamp, received_at,"
        " measures, tags, logs, reported_status, 0, tenant_id, NULL, NULL, NULL FROM remote_metrics"
    )
    result = collect(site, postgres.url)
    assert "2 records read, 1 new, 1 known already" in result.stdout
    assert "2 records read, 0 new, 2 known already" in collect(site, postgres.url).stdout


def test_a_count_that_changed_under_the_same_id_is_refused_and_named(
    site: Site, postgres: PostgresServer
):
    postgres.fill(metrics=3, status="pending")
    collect(site, postgres.url)
    postgres.execute("""UPDATE remote_metrics SET measures = '{"langgraph.platform.runs": 999}'""")
    result = collect(site, postgres.url, code=3)
    assert "remote_metrics comes again with other content" in result.stderr


@pytest.mark.parametrize("pruned", [False, True])
def test_a_row_that_lost_what_it_names_is_known_and_one_that_counts_otherwise_is_refused(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer, pruned: bool
):
    """A tracing project that is deleted is taken out of the rows that were counted under it."""
    postgres.fill(transactions=11, status="pending")
    collect(site, postgres.url)
    if pruned:
        site.export()
        site.import_(beacon.url)
        site.apply()
        run("outbox", "prune", "--home", site.isolated, "--older-than", "0s")
    postgres.execute("UPDATE trace_count_transactions SET session_id = NULL")
    postgres.fill(transactions=2, status="pending")
    assert "2 new, 10 known already" in collect(site, postgres.url).stdout
    postgres.execute("UPDATE trace_count_transactions SET trace_count = trace_count + 1")
    assert "comes again with other content" in collect(site, postgres.url, code=3).stderr


def test_integers_above_2_to_the_53_arrive_exactly(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(metrics=1, status="pending")
    postgres.execute(
        """UPDATE remote_metrics SET measures = '{"langgraph.platform.runs": 9007199254740993}'"""
    )
    collect(site, postgres.url)
    site.export()
    site.import_(beacon.url)
    got = beacon.totals.as_map()["usage_report"]["sums"]["langgraph.platform.runs"]
    assert got == 9007199254740993


def test_columns_that_older_releases_lack_are_found_out(site: Site, postgres: PostgresServer):
    postgres.fill(transactions=5, status="pending")
    columns = (
        "organization_id, session_id, num_failed_send_attempts, source, backfill_id, backfilled_at"
    )
    drops = ", ".join(f"DROP COLUMN {c}" for c in columns.split(", "))
    postgres.execute(
        f"CREATE SCHEMA old; CREATE TABLE old.trace_count_transactions AS TABLE public.trace_count_transactions; ALTER TABLE old.trace_count_transactions {drops}"
    )
    try:
        old = f"{postgres.url}&options=-csearch_path%3Dold"
        assert "5 records read, 5 new" in collect(site, old).stdout
        postgres.execute(
            "ALTER TABLE old.trace_count_transactions RENAME interval_end TO period_end"
        )
        result = collect(site, old, code=3)
        assert "interval_end" in result.stderr
        assert "period_end" in result.stderr
        named = collect(site, old, "--column", "end_interval_time=period_end")
        assert "5 records read, 0 new, 5 known already" in named.stdout
    finally:
        postgres.execute("DROP SCHEMA old CASCADE")


def test_ids_that_are_text_are_marked_as_well(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=5, status="pending")
    postgres.execute(
        "CREATE SCHEMA other; CREATE TABLE other.trace_count_transactions AS"
        " TABLE public.trace_count_transactions; ALTER TABLE other.trace_count_transactions"
        " ALTER id TYPE varchar(36), ALTER backfill_id TYPE text, ALTER backfilled_at TYPE timestamp"
    )
    url = f"{postgres.url}&options=-csearch_path%3Dother"
    try:
        collect(site, url, "--mark")
        site.export()
        site.import_(beacon.url)
        marked = json.loads(site.apply("--mark", url, "--json").stdout)["marked"]
        assert marked == {"trace_count_transactions": 5}
        wrong = site.apply("--mark", postgres.url.replace("/langsmith?", "/postgres?"))
        assert wrong.exit_code == 0, "everything is marked, so nothing is looked for"
    finally:
        postgres.execute("DROP SCHEMA other CASCADE")


def test_agent_builder_usage_is_said_and_leaves_only_when_its_names_are_allowed(
    site: Site, beacon: RehearsalBeacon, postgres: PostgresServer
):
    postgres.fill(transactions=11, agents=7)
    result = collect(site, postgres.url)
    assert "agent_builder_usage holds 7 rows, which were not read" in result.stderr
    named = ("--table", "agent_builder_usage")
    refused = collect(site, postgres.url, *named, code=3)
    assert "usage_snapshot/measures/agent_builder_usage.agent_runs" in refused.stderr
    allow = [
        f"usage_snapshot/measures/agent_builder_usage.{n}" for n in ("agent_runs", "agent_messages")
    ]
    collect(site, postgres.url, *named, "--allow", allow[0], "--allow", allow[1])
    site.export()
    site.import_(beacon.url)
    got = beacon.totals.as_map()["usage_snapshot"]["sums"]
    assert got["agent_builder_usage.agent_runs"] == sum(range(1, 8))


@pytest.mark.parametrize(
    "form",
    [
        "{socket}",
        "postgres://langsmith@/langsmith?host={root}&port={port}",
        "postgresql://langsmith@/langsmith?service=site",
        "postgresql://langsmith@127.0.0.1:{port}/langsmith?sslmode=prefer",
        "postgresql://langsmith@localhost,127.0.0.1:{port},{port}/langsmith?connect_timeout=5",
        "postgresql:///langsmith?user=langsmith&host=127.0.0.1&port={port}",
        "postgresql://%6Cangsmith@127.0.0.1:{port}/lang%73mith",
    ],
)
def test_every_form_of_url_that_libpq_knows_works(
    site: Site, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
):
    postgres.fill(transactions=3, status="pending")
    service = tmp_path / "service"
    service.write_text(f"[site]\nhost=127.0.0.1\nport={postgres.port}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    url = form.format(socket=postgres.url, root=postgres.root, port=postgres.port)
    assert "3 records read" in collect(site, url).stdout


def test_a_password_comes_from_a_password_file_and_is_never_said(
    site: Site, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    postgres.fill(transactions=3, status="pending")
    bare = f"postgresql://langsmith@127.0.0.1:{postgres.port}/langsmith"
    refused = collect(site, bare, code=2)
    assert "password" in refused.stderr
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"127.0.0.1:{postgres.port}:*:langsmith:{postgres.password}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    assert "3 records read" in collect(site, bare).stdout
    monkeypatch.delenv("PGPASSFILE")
    in_url = collect(site, postgres.tcp_url())
    assert "PGPASSWORD" in in_url.stderr
    wrong = collect(site, postgres.tcp_url("wr0ng-secret"), code=2)
    said = "".join(
        (refused.output, in_url.output, wrong.output, (site.isolated / "audit.jsonl").read_text())
    )
    assert postgres.password not in said
    assert "wr0ng-secret" not in said


def test_a_password_is_asked_for_where_somebody_is_there_and_only_then(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    bare = f"postgresql://langsmith@127.0.0.1:{postgres.port}/langsmith"
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return postgres.password

    Langsmith(bare, ask).close()
    assert asked == [bare]
    Langsmith(postgres.url, ask).close()
    assert asked == [bare], "nothing is asked where nothing is wanted"
    with pytest.raises(UsageError, match="can't be reached"):
        Langsmith(bare, lambda _: "wrong").close()


def test_what_is_not_a_langsmith_database_is_refused(site: Site, postgres: PostgresServer):
    other = postgres.url.replace("/langsmith?", "/postgres?")
    assert "none of LangSmith's tables" in collect(site, other, code=2).stderr
    missing = collect(site, postgres.url, "--table", "nonsense", code=2)
    assert "unknown table" in missing.stderr
    nobody = "postgresql://x@127.0.0.1:1/x"
    assert "can't be reached" in collect(site, nobody, code=2).stderr


def test_a_database_reached_by_a_socket_file_needs_no_network(
    site: Site, postgres: PostgresServer, tmp_path: Path
):
    postgres.fill(transactions=3, status="pending")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=%network", "-o", trace, sys.executable]
    command += ["-m", "airgap", "collect", "--home", site.isolated, postgres.url]
    command += ["--license-file", site.license_file]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    assert "AF_INET" not in trace.read_text()


def test_memory_stays_flat_while_many_rows_are_read(site: Site, postgres: PostgresServer):
    code = (
        "import resource, sys; from airgap.cli.main import main\n"
        "try: main()\n"
        "finally: sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))"
    )
    peaks = []
    for count in (2_000, 20_000):
        postgres.fill(transactions=count)
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                "collect",
                "--home",
                str(site.isolated),
                postgres.url,
                "--license-file",
                str(site.license_file),
                "--quiet",
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] < peaks[0] + 24 * 1024, "KiB; a tenfold source must not need tenfold memory"
