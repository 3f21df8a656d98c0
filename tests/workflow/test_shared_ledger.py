"""One ledger in PostgreSQL for several workstations: who sends what, who waits, and what is said."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from postgres import OF_NO_USE, OWNER
from servers import always, answer, reset, serving
from stations import add_stations
from support import LICENSE, report, run

from airgap import Workstation, catalog, timestamps
from airgap.errors import DamagedError, UnreachableError, UsageError
from airgap.replay import decisions, opening
from airgap.replay.importing import Sending
from airgap.replay.ledger import Ledger
from airgap.replay.shared import SharedDatabase, layout

SCHEMAS = catalog.load()
GOOD = answer(204)


def listed(site, url, *options):
    found = run("ledger", "list", "--home", site.workstation, "--ledger", url, "--json", *options)
    return json.loads(found.stdout)["records"]


def station(home: Path, url: str) -> Workstation:
    return Workstation(home, ledger=url)


def take(workstation: Workstation, site, url: str, warn=lambda _: None, **options):
    """Import as a script does, from one request to the next."""
    return workstation.import_bundles(
        site.stick,
        license_files=[site.license_file],
        urls={"beacon": url, "api": url},
        sending=Sending(in_flight=1, attempts=1),
        warn=warn,
        **options,
    )


@contextmanager
def ledger_at(url):
    """Open the shared ledger as a run does, without the home's locks."""
    with closing(Ledger(SharedDatabase(url), SCHEMAS, timestamps.system_clock)) as ledger:
        yield ledger


def test_no_usage_leaves_while_another_importer_still_verifies_the_licence_it_is_under(
    site, postgres
):
    """Kinds of a lower order are finished before the next, whoever has them in hand."""
    site.collect([{"license": LICENSE}, report(1)])
    site.export()
    [other] = add_stations(site, 1)
    verifying, waits = threading.Event(), threading.Event()
    early: list[bytes] = []

    def reply(connection, body, _number):
        if b"measures" in body:
            if not answered.is_set():
                early.append(body)
            connection.sendall(GOOD)
            return
        verifying.set()
        waits.wait(30)
        answered.set()
        connection.sendall(answer(200, {"token": "t"}))

    def warn(text):
        if "another importer" in text:
            assert "relay-1 on " in text
            waits.set()

    answered = threading.Event()
    with serving(reply) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(take, station(site.workstation, postgres.url), site, server.url)
        assert verifying.wait(30)
        second = pool.submit(take, station(other, postgres.url), site, server.url, warn)
        done = [one.result(60) for one in (first, second)]
    assert waits.is_set()
    assert not early
    assert len(server.bodies) == 2
    for one in done:
        assert one.problem is None
        assert one.states == {
            "license_verification": {"delivered": 1},
            "usage_report": {"delivered": 1},
        }


def test_what_a_run_leaves_when_it_stops_is_taken_by_the_one_that_waits_for_it(site, postgres):
    site.collect([report(n, n) for n in range(6)])
    site.export()
    [other] = add_stations(site, 1)
    begun, waits = threading.Event(), threading.Event()
    stopping = threading.Event()

    def reply(connection, _body, number):
        if number == 0:
            begun.set()
            waits.wait(30)
            stopping.set()
        connection.sendall(GOOD)

    def warn(text):
        if "another importer" in text:
            waits.set()

    def slow():
        return station(site.workstation, postgres.url).import_bundles(
            site.stick,
            license_files=[site.license_file],
            urls={"beacon": server.url, "api": server.url},
            sending=Sending(in_flight=1, stopping=stopping),
        )

    with serving(reply) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow)
        assert begun.wait(30)
        second = pool.submit(take, station(other, postgres.url), site, server.url, warn)
        stopped, done = first.result(60), second.result(60)
    assert stopped.report.stop == "interrupted"
    assert len(server.bodies) == 6
    assert done.states == {"usage_report": {"delivered": 6}}


def test_a_run_that_loses_its_connection_stops_and_what_it_was_sending_is_in_doubt(
    exported, postgres
):
    site = exported

    def reply(connection, _body, number):
        if number == 0:
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'airgap' AND pid <> pg_backend_pid()"
            )
        connection.sendall(GOOD)

    with serving(reply) as server:
        said = site.import_(server.url, "--ledger", postgres.url, "--in-flight", 1, code=7).output
        assert said.count("airgap: error:") == 1
        assert "the shared ledger is out of reach" in said
        assert "nothing is lost" in said
        assert "Traceback" not in said
        assert len(server.bodies) == 1
        # A reader sees at once that a run was cut off; the next run says which records it is about.
        assert [r["state"] for r in listed(site, postgres.url)] == ["sending"]
        status = run(
            "status", "--home", site.workstation, "--ledger", postgres.url, "--check", code=6
        )
        assert "1 record in doubt" in status.output
        said = site.import_(server.url, "--ledger", postgres.url, code=6).output
        assert "1 record of a run that was cut off are now in doubt" in said
    assert len(server.bodies) == 3
    assert [r["state"] for r in listed(site, postgres.url)] == ["in_doubt"]


def test_what_is_being_sent_by_a_run_that_lives_is_no_doubt(exported, postgres):
    site = exported
    states = []

    def reply(connection, _body, _number):
        states.append(listed(site, postgres.url))
        run("status", "--home", site.workstation, "--ledger", postgres.url)
        connection.sendall(GOOD)

    with serving(reply) as server:
        take(station(site.workstation, postgres.url), site, server.url)
    assert states == [[]] * 3


def test_a_decision_while_another_importer_runs_touches_nothing_that_it_has_in_hand(
    exported, postgres
):
    site = exported
    [other] = add_stations(site, 1)
    with serving(reset) as server:
        site.import_(server.url, "--ledger", postgres.url, "--in-flight", 1, code=None)
    doubtful = listed(site, postgres.url, "--state", "in_doubt")
    site.collect([report(n, n) for n in (0, 1, 2, 7)])
    site.export()
    said = []

    def reply(connection, _body, number):
        if number == 0:
            words = ("ledger", "resolve", "--home", other, "--ledger", postgres.url)
            said.append(run(*words, "all", "--delivered", "--reason", "counted").output)
            refused = run(*words, sending(), "--resend", "--reason", "x", code=2)
            said.append(refused.output)
        connection.sendall(GOOD)

    def sending():
        return postgres.execute(
            "SELECT encode(id, 'hex') FROM airgap_ledger.record_state WHERE state = 'sending'"
        )

    with serving(reply) as server:
        done = take(station(site.workstation, postgres.url), site, server.url)
    assert f"{len(doubtful)} record" in said[0]
    assert "no record in doubt and no dead letter has this id" in said[1]
    assert done.problem is None
    assert len(server.bodies) == 4 - len(doubtful)
    # A second import on the same home is refused all the same.
    with opening.held(
        Workstation(other, ledger=postgres.url)._home, SCHEMAS, timestamps.system_clock
    ):
        again = run("ledger", "resolve", "--home", other, "--ledger", postgres.url, "all",
            "--resend", "--reason", "x", code=2)  # fmt: skip
    assert "another airgap import is running on this home" in again.output


def test_two_people_who_decide_a_record_at_once_decide_it_once(exported, postgres):
    site = exported
    with serving(reset) as server:
        site.import_(server.url, "--ledger", postgres.url, "--in-flight", 1, code=None)
    count = len(listed(site, postgres.url, "--state", "in_doubt"))
    barrier = threading.Barrier(2)

    def decide(choice):
        with ledger_at(postgres.url) as ledger:
            barrier.wait(30)
            return decisions.decide(ledger, "", ("in_doubt",), choice, "x")

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(decide, ("waiting", "delivered")))
    assert sorted(map(len, found)) == [0, count]
    [first] = {r["state"] for r in listed(site, postgres.url, "--state", "delivered")} or {
        "waiting"
    }
    assert first == ("delivered" if found[1] else "waiting")
    events = postgres.execute(
        "SELECT count(*) FROM airgap_ledger.event WHERE detail LIKE 'decided%'"
    )
    assert int(events) == count


def test_of_two_bundles_for_one_place_that_come_at_once_one_is_taken_in(exported, postgres):
    """Two hosts of one name exported; whichever importer is first, the chain does not fork."""
    site = exported
    [other] = add_stations(site, 1)
    twin = site.root / "twin"
    shutil.copytree(site.isolated, twin)
    (twin / "outbox.sqlite").unlink()
    usage = site.root / "other.jsonl"
    usage.write_text(json.dumps(report(9, 9)) + "\n")
    run("collect", "--home", twin, usage)
    run("export", "--home", twin, "--to", site.root, "--backdated")
    [fork] = site.root.glob("*.airgap")
    barrier = threading.Barrier(2)

    def one(home, path):
        workstation = station(home, postgres.url)
        barrier.wait(30)
        return workstation.import_bundles(
            path,
            license_files=[site.license_file],
            urls={"beacon": server.url, "api": server.url},
            receipt_to=site.root,
        )

    with serving(always(GOOD)) as server:
        for _ in range(5):
            postgres.reset()
            for home in (site.workstation, other):
                shutil.rmtree(home / "receipts", ignore_errors=True)
            with ThreadPoolExecutor(2) as pool:
                first = pool.submit(one, site.workstation, site.bundle)
                second = pool.submit(one, other, fork)
                results = [f.result(60).taken.imported[0] for f in (first, second)]
            refused = [r.error for r in results if r.error is not None]
            assert [error.exit_code for error in refused] == [9]
            assert "forks" in refused[0].message
            assert postgres.execute("SELECT count(*) FROM airgap_ledger.bundle") == "1"


def test_receipts_of_two_workstations_are_one_chain_and_both_are_applied(exported, postgres):
    site = exported
    [other] = add_stations(site, 1)
    with serving(always(GOOD)) as server:
        site.import_(server.url, "--ledger", postgres.url)
        for _ in range(2):  # one that is here and still true is not made again
            take(station(other, postgres.url), site, server.url)
            take(station(site.workstation, postgres.url), site, server.url)
    names = sorted(path.name for path in site.stick.glob("*.receipt"))
    assert names == [f"bank-a.prod-000001-r{n}.receipt" for n in (1, 2)]
    assert (other / "receipts" / names[1]).exists()
    chain = postgres.execute("SELECT number FROM airgap_ledger.receipt ORDER BY number")
    assert chain.split() == ["1", "2"]
    applied = json.loads(site.apply("--json").stdout)
    assert {r["importer"] for r in applied["receipts"]} == {"relay-1", "relay-2"}


def test_a_receipt_whose_number_was_taken_meanwhile_gets_the_next_one(
    exported, postgres, monkeypatch
):
    site = exported
    [other] = add_stations(site, 1)
    raced = []
    real = Ledger.add_receipt

    def add_receipt(ledger, *values):
        if not raced:
            raced.append(values[2])
            take(station(other, postgres.url), site, server.url)
        return real(ledger, *values)

    monkeypatch.setattr(Ledger, "add_receipt", add_receipt)
    with serving(always(GOOD)) as server:
        site.import_(server.url, "--ledger", postgres.url)
    assert raced == [1]
    mine = [path.name for path in (site.workstation / "receipts").iterdir()]
    assert mine == ["bank-a.prod-000001-r2.receipt"]
    site.apply()
    assert site.status()["confirmed"]["usage_report"]["records"] == 3


def test_a_dry_run_shows_what_would_leave_and_leaves_no_trace_in_the_database(exported, postgres):
    site = exported
    said = site.import_("http://127.0.0.1:9", "--ledger", postgres.url, "--dry-run").output
    assert "3 requests with 3 records would leave" in said
    assert postgres.execute("SELECT to_regnamespace('airgap_ledger') IS NULL") == "t"
    with serving(reset) as server:
        site.import_(server.url, "--ledger", postgres.url, "--in-flight", 1, code=None)
    tables = ("record", "event", "run", "bundle", "receipt")
    rows = " UNION ALL ".join(f"SELECT '{t}', count(*), md5(string_agg(x::text, '' ORDER BY x::text)) FROM airgap_ledger.{t} x" for t in tables)  # fmt: skip
    before = postgres.execute(rows)
    site.collect([report(n, n) for n in (0, 1, 2, 8)])
    site.export()
    said = site.import_("http://127.0.0.1:9", "--ledger", postgres.url, "--dry-run").output
    assert "would leave" in said
    assert postgres.execute(rows) == before


def test_a_ledger_restored_from_an_old_copy_is_refused_by_every_home_that_has_newer_receipts(
    exported, postgres
):
    site = exported
    with serving(always(GOOD)) as server:
        site.import_(server.url, "--ledger", postgres.url)
        postgres.execute("DELETE FROM airgap_ledger.receipt")
        said = site.import_(server.url, "--ledger", postgres.url, code=9).output
    assert "older than this home's receipts" in said
    assert len(server.bodies) == 3


def test_a_home_with_a_ledger_of_its_own_uses_no_other_one(exported, postgres, beacon):
    site = exported
    site.import_(beacon.url)
    said = site.import_(beacon.url, "--ledger", postgres.url, code=2).output
    assert "what another does not know, it delivers again" in said
    file = site.workstation / "airgap.toml"
    file.write_text(f'ledger = "{postgres.url}"\n{file.read_text()}')
    assert (
        "airgap.toml names another one" in run("status", "--home", site.workstation, code=2).output
    )


def test_the_configuration_names_a_shared_ledger_and_shows_no_password(exported, postgres, beacon):
    site = exported
    file = site.workstation / "airgap.toml"
    file.write_text(f'ledger = "{postgres.tcp_url()}"\n{file.read_text()}')
    outputs = [site.import_(beacon.url).output]
    outputs += [
        run(*words, "--home", site.workstation).output
        for words in (("status",), ("report",), ("ledger", "list"), ("config", "show", "--origin"))
    ]
    assert beacon.totals.kinds["usage_report"].records == 3
    outputs.append((site.workstation / "audit.jsonl").read_text())
    outputs.append(run("doctor", "--home", site.workstation, "--json", code=None).stdout)
    assert not any(postgres.password in text for text in outputs)
    assert "127.0.0.1" in outputs[4]


@pytest.mark.parametrize(("url", "code", "said"), OF_NO_USE)
def test_what_keeps_the_ledger_from_being_opened_is_one_error_without_a_password(
    exported, postgres, url, code, said
):
    site = exported
    for words in (("status", "--check"), ("ledger", "list")):
        result = run(*words, "--home", site.workstation, "--ledger", url(postgres), code=code)
        assert result.output.count("airgap: error:") == 1
        assert said in result.output
        assert "secret" not in result.output
    imported = site.import_("http://127.0.0.1:9", "--ledger", url(postgres), code=code).output
    assert "secret" not in imported
    assert "secret" not in (site.workstation / "audit.jsonl").read_text()


def test_a_password_comes_from_the_environment_and_one_in_the_url_is_warned_of(
    exported, postgres, beacon, monkeypatch
):
    site = exported
    said = site.import_(beacon.url, "--ledger", postgres.tcp_url()).output
    assert "other users of this machine can see" in said
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    url = postgres.tcp_url().replace(f":{postgres.password}", "")
    said = site.import_(beacon.url, "--ledger", url).output
    assert "imported before" in said
    assert "can see" not in said


def test_without_psycopg_one_error_says_what_to_install(exported):
    site = exported
    code = "import sys; sys.modules['psycopg'] = None; from airgap.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "status", "--home", site.workstation, "--ledger", "postgresql://x@127.0.0.1:1/y"],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 2
    assert "airgap[postgres]" in done.stderr
    assert done.stderr.count("airgap: error:") == 1


def test_a_layout_to_come_and_tables_that_are_gone_are_refused(exported, postgres, beacon):
    site = exported
    site.import_(beacon.url, "--ledger", postgres.url)
    postgres.execute("UPDATE airgap_ledger.layout SET version = 99")
    with pytest.raises(UsageError, match="another version"):
        SharedDatabase(postgres.url)
    postgres.execute("UPDATE airgap_ledger.layout SET version = 4")
    postgres.execute("DROP TABLE airgap_ledger.receipt")
    with ledger_at(postgres.url) as ledger, pytest.raises(DamagedError, match="not as airgap made"):
        ledger.receipt_names()


def test_both_ledgers_have_the_same_tables_and_columns(tmp_path, postgres):
    Ledger(tmp_path / "ledger.sqlite", SCHEMAS, timestamps.system_clock).close()
    SharedDatabase(postgres.url).close()
    rows = postgres.execute(
        "SELECT table_name, column_name, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'airgap_ledger' AND table_name <> 'record_state' ORDER BY 1, ordinal_position"
    )
    there = [tuple(row.split("|")) for row in rows.splitlines()]
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1"
        )
        here = [
            (name, column[1], "NO" if column[3] or column[5] else "YES")
            for (name,) in tables.fetchall()
            for column in connection.execute(f"PRAGMA table_info({name})")
        ]
    own = [row for row in there if row not in here]
    assert [row for row in here if row not in there] == []
    assert {row[0] for row in own} == {"run", "layout", "open_record", "delivered_record"}
    assert {row[1] for row in own if row[0].endswith("_record")} == {"claimed_by"}
    assert not any(" STRICT" in statement or "BLOB" in statement for statement in layout())


def test_what_is_streamed_can_not_be_mixed_with_what_must_last(exported, postgres, beacon):
    """A commit within would be part of a transaction that ends later: about to send, but not on disk."""
    exported.import_(beacon.url, "--ledger", postgres.url)
    with ledger_at(postgres.url) as ledger:
        rows = ledger.database.stream("SELECT number FROM record")
        next(rows)
        with pytest.raises(RuntimeError, match="durable"), ledger.database.transaction():
            pass
        rows.close()
        with ledger.database.transaction():
            pass


def test_what_is_stored_is_on_the_servers_disk_when_a_step_returns(postgres):
    """Also where the role's own settings would not wait, or would end a session that is idle."""
    postgres.execute(f"ALTER ROLE {OWNER} SET synchronous_commit = off; ALTER ROLE {OWNER} SET idle_in_transaction_session_timeout = 1")  # fmt: skip
    try:
        with closing(SharedDatabase(postgres.url)) as database:
            shown = [
                database.connection.execute("SELECT current_setting(?)", (name,)).fetchone()[0]
                for name in ("synchronous_commit", "idle_in_transaction_session_timeout")
            ]
    finally:
        postgres.execute(f"ALTER ROLE {OWNER} RESET ALL")
    assert shown == ["on", "0"]


def is_listening(path: Path) -> bool:
    """Tell whether somebody answers at a Unix socket, whose name is there before that."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_between_is_refused(exported, postgres, tmp_path, mode):
    """It keeps a dead run's session, or gives a living run another one: who lives is not to be known."""
    folder = postgres.root / f"bouncer-{mode}"
    folder.mkdir()
    folder.chmod(0o777)
    port = 6000 + os.getpid() % 1000 + (mode == "session")
    (folder / "users").write_text(f'"{OWNER}" "{postgres.password}"\n')
    (folder / "ini").write_text(
        f"[databases]\nlangsmith = host={postgres.root} port={postgres.port} dbname=langsmith\n"
        f"[pgbouncer]\nlisten_port = {port}\nlisten_addr =\nunix_socket_dir = {folder}\n"
        f"auth_type = trust\nauth_file = {folder}/users\npool_mode = {mode}\n"
    )
    as_user = ["-u", "postgres"] if os.geteuid() == 0 else []
    with subprocess.Popen(
        ["pgbouncer", "-q", *as_user, folder / "ini"], stderr=subprocess.PIPE, text=True
    ) as bouncer:
        try:
            while not is_listening(folder / f".s.PGSQL.{port}"):
                assert bouncer.poll() is None, bouncer.stderr.read()
                os.sched_yield()
            url = f"postgresql://{OWNER}@/langsmith?host={folder}&port={port}"
            said = run("status", "--home", exported.workstation, "--ledger", url, code=2).output
            assert "something stands between airgap and the database" in said
        finally:
            bouncer.terminate()


def test_doctor_connects_to_a_shared_ledger_only_when_told_and_changes_nothing(
    exported, postgres, monkeypatch, beacon
):
    site = exported
    monkeypatch.setenv("AIRGAP_LEDGER", postgres.url)

    def found(*options, code=None):
        words = ("doctor", "--home", site.workstation, "--json", "--beacon-url", beacon.url)
        said = run(*words, "--api-url", beacon.url, *options, code=code).stdout
        return {f["id"]: f for f in json.loads(said)["findings"] if f["id"].startswith("database")}

    before = found()
    assert before["database.there"]["state"] == "not checked"
    assert "--probe" in before["database.there"]["found"]
    reached = found("--probe")
    assert reached["database.reached"]["state"] == "ok"
    assert "no ledger yet" in reached["database.there"]["found"]
    assert postgres.execute("SELECT to_regnamespace('airgap_ledger') IS NULL") == "t"
    site.import_(beacon.url)
    reached = found("--probe")
    assert reached["database.layout"]["state"] == "ok"
    assert reached["database.newest"]["state"] == "ok"
    assert "fsync is off" in reached["database.intact"]["found"]
    postgres.execute("DELETE FROM airgap_ledger.receipt")
    assert found("--probe")["database.newest"]["state"] == "wrong"
    postgres.execute("UPDATE airgap_ledger.layout SET version = 99")
    assert found("--probe")["database.layout"]["state"] == "wrong"
    monkeypatch.setenv("AIRGAP_LEDGER", f"postgresql://{OWNER}@127.0.0.1:1/x")
    lost = found("--probe")["database.reached"]
    assert (lost["state"], lost["exit_code"]) == ("wrong", 7)


def test_a_run_whose_session_is_gone_is_known_without_any_clock(exported, postgres):
    """Its lock is free the moment its session ends; before that nothing of it is touched."""
    site = exported
    with serving(always(answer(503))) as server:
        site.import_(server.url, "--ledger", postgres.url, "--attempts", 1, code=7)
    first = Ledger(SharedDatabase(postgres.url), SCHEMAS, timestamps.system_clock)
    first.set_scope(first.bundles())
    [number, *_] = [entry.number for entry in first.waiting("usage_report")]
    first.step([], [number])
    with ledger_at(postgres.url) as second:
        second.set_scope(second.bundles())
        assert second.recover() == 0
        assert not second.claims.has_cut_off()
        assert list(second.waiting("usage_report")) == []
        with pytest.raises(DamagedError, match="somebody else"):
            second.step([], [number + 1])
        alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = {}"
        [pid] = first.database.connection.execute("SELECT pg_backend_pid()").fetchone()
        first.database.close()
        while postgres.execute(alive.format(pid)) != "0":
            os.sched_yield()  # the server has still to see that the other end is gone
        assert second.claims.has_cut_off()
        assert second.recover() == 1
        assert len(list(second.waiting("usage_report"))) == 2
        assert second.recover() == 0
    with pytest.raises(UnreachableError):
        first.step([], [number + 1])


def test_an_older_layout_is_brought_up_to_date_once_however_many_open_it(postgres, monkeypatch):
    from airgap.replay import shared

    SharedDatabase(postgres.url).close()
    monkeypatch.setattr(shared, "VERSION", 6)
    upgrades = {
        4: ["ALTER TABLE receipt ADD COLUMN a TEXT", "ALTER TABLE receipt ADD COLUMN b TEXT"],
        5: ["UPDATE layout SET version = 8 WHERE false", "ALTER TABLE receipt DROP COLUMN a"],
    }
    monkeypatch.setattr(shared, "upgrades", lambda: upgrades)
    barrier = threading.Barrier(3)

    def opened(_):
        barrier.wait(30)
        SharedDatabase(postgres.url).close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(opened, range(3)))
    assert postgres.execute("SELECT version FROM airgap_ledger.layout") == "6"
    # One that fails changes nothing.
    monkeypatch.setattr(shared, "VERSION", 8)
    failing = {6: ["ALTER TABLE receipt DROP COLUMN b"], 7: ["DROP TABLE nothing"]}
    monkeypatch.setattr(shared, "upgrades", lambda: failing)
    with pytest.raises(DamagedError):
        SharedDatabase(postgres.url)
    assert postgres.execute("SELECT version FROM airgap_ledger.layout") == "6"
    postgres.execute("SELECT b FROM airgap_ledger.receipt")
