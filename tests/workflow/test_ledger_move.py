"""A file's ledger is moved into PostgreSQL: all of it, once, and never are there two."""

import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace

import old_ledgers
import old_shared
import psycopg
import pytest
from crashing import copy_of
from lived import told
from postgres import OF_NO_USE, READER, standby
from servers import always, answer, serving
from stations import add_stations
from support import SOURCE, day, run

from airgap import Workstation, catalog, moved, timestamps
from airgap.database import Database
from airgap.errors import UnreachableError, UsageError
from airgap.home import open_home
from airgap.replay import opening
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import APPLICATION, LAYOUT, TOLD_BY, VERSION
from airgap.replay.ledger_upgrades import upgrades
from airgap.replay.moving import Move
from airgap.replay.shared import SharedDatabase

SCHEMAS = catalog.load()
GOOD = answer(204)
TABLES = (
    *("bundle", "record", "open_record", "delivered_record", "bundle_record"),
    *("known_window", "event", "receipt", "bundle_kind", "delivered_bundle"),
)


def file_of(site):
    return site.workstation / "ledger.sqlite"


def move(site, url, *options, code=0):
    return run("ledger", "move", "--home", site.workstation, url, *options, code=code)


def rows_of(site):
    """Return every row of the file's tables."""
    with closing(sqlite3.connect(file_of(site))) as connection:
        return {
            (name, *row) for name in TABLES for row in connection.execute(f"SELECT * FROM {name}")
        }


def rows_on(url):
    """Return every row of the server's tables, as a file has them."""
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = airgap_ledger")
        found = {
            (name, *row) for name in TABLES for row in connection.execute(f"SELECT * FROM {name}")
        }
    claimed = {"open_record", "delivered_record"}
    assert {row[-1] for row in found if row[0] in claimed} <= {None}
    return {row[:-1] if row[0] in claimed else row for row in found}


def bundles_on(server):
    """Return how many bundles the server's ledger holds, for whoever looks."""
    there = server.execute("SELECT to_regclass('airgap_ledger.bundle') IS NOT NULL")
    return int(server.execute("SELECT count(*) FROM airgap_ledger.bundle")) if there == "t" else 0


def is_live(site):
    """Tell whether the file can be imported into."""
    status = run("import", "--home", site.workstation, "--resume", "--dry-run", code=None)
    assert status.exit_code in (0, 2, 4), status.output
    return "ledger move" not in status.output and "was moved to" not in status.output


def said_by(site, *shared):
    """Return what people and machines are told of a ledger."""
    listed = told(site, "ledger", "list", *shared)["records"]
    shown = [told(site, "ledger", "show", row["id"], *shared) for row in listed]
    return (
        *(told(site, *words, *shared) for words in (("status", "--calendar", 3), ("report",))),
        *(listed, shown),
        told(site, "ledger", "list", "--state", "delivered", *shared),
    )


def test_all_is_moved_and_nothing_is_sent_twice(lived, postgres, tmp_path):
    site, shared = lived, ("--ledger", postgres.url)
    twin = copy_of(site, tmp_path / "twin")
    with opening.held(open_home(twin.workstation), SCHEMAS, timestamps.system_clock) as ledger:
        assert ledger.recover() == 1
    before = said_by(twin)
    states = before[0]["states"]["usage_report"]
    assert {"delivered", "waiting", "dead", "in_doubt"} == states.keys()

    done = move(site, postgres.url)
    assert "1 record of a run that was cut off are now in doubt" in done.output
    last = done.output.splitlines()[-1]
    assert "2 bundles, 8 records: moved, counts and sums are equal" in last
    assert f'Next: put ledger = "{postgres.url}" into airgap.toml' in last
    assert rows_on(postgres.url) == rows_of(site)
    after = said_by(site, *shared)
    for was, is_ in zip(before, after, strict=True):
        said = json.dumps([was, is_])
        # The cut-off record was settled in each, at a moment of its own.
        assert strip(was) == strip(is_), said

    # The same stick again: only what waits is sent; a receipt goes on from the file's last one.
    receipts = {path.name for path in site.stick.glob("*.receipt")}
    with serving(always(GOOD)) as server:
        site.import_(server.url, *shared, code=6)
        assert len(server.bodies) == states["waiting"]
        site.import_(server.url, *shared, code=6)
        assert len(server.bodies) == states["waiting"]
        new = {path.name for path in site.stick.glob("*.receipt")} - receipts
        [one] = new
        assert one == f"{SOURCE}-000002-r{len(receipts)}.receipt"
        # A further bundle is numbered on.
        site.collect([day(n) for n in (1, 2, 3, 5, 6, 7, 9)])
        site.export()
        site.import_(server.url, *shared, code=6)
        assert len(server.bodies) == states["waiting"] + 1
    numbers = postgres.execute(
        "SELECT max(number), count(*) FROM airgap_ledger.record"
        " UNION ALL SELECT max(number), count(*) FROM airgap_ledger.bundle"
    )
    assert numbers.split() == ["9|9", "3|3"]
    # The isolated host takes them all as one chain.
    assert {r["state"] for r in json.loads(site.apply("--json").stdout)["receipts"]} == {"new"}


def strip(value):
    """Return what was said without the moments at which the cut-off record was settled, and places."""
    if isinstance(value, dict):
        cut_off = value.get("detail") == "the run was cut off after sending began"
        left = {"at", "since"} if cut_off else set()
        if "history" in value and value["history"] and "cut off" in str(value["history"][-1]):
            left = {"since"}
        return {k: strip(v) for k, v in value.items() if k not in left | {"made_at", "where"}}
    return [strip(one) for one in value] if isinstance(value, list) else value


COMMANDS = [
    ("status",),
    ("status", "--check"),
    ("report",),
    ("ledger", "list"),
    ("ledger", "show", "12345678"),
    ("ledger", "resolve", "all", "--resend", "--reason", "x"),
    ("ledger", "deadletter", "retry", "all", "--reason", "x"),
    ("ledger", "deadletter", "export", "--to", "dead.jsonl"),
    ("receipt", "code", SOURCE),
    ("doctor",),
]


def test_every_command_that_opens_the_file_says_where_the_ledger_went_and_what_to_do(
    lived, postgres, monkeypatch
):
    site = lived
    secret = postgres.password
    run("receipt", "pair", "--home", site.workstation, SOURCE)
    done = move(site, postgres.tcp_url(), "--json", "--message", "case 4711")
    assert "other users of this machine can see" in done.stderr
    told_ = json.loads(done.stdout)
    assert (told_["result"], told_["bundles"], told_["records"]) == ("moved", 2, 8)
    kept = rows_of(site)
    monkeypatch.chdir(site.root)
    said = [
        run(*words, "--home", site.workstation, code=2).output
        for words in COMMANDS
        if words != ("doctor",)
    ]
    said.append(run("doctor", "--home", site.workstation, code=None).output)
    said.append(site.import_("http://127.0.0.1:9", code=2).output)
    said.append(site.import_("http://127.0.0.1:9", "--dry-run", code=2).output)
    said.append(site.import_("http://127.0.0.1:9", "--ledger", file_of(site), code=2).output)
    with pytest.raises(UsageError) as raised:
        Workstation(site.workstation).status()
    said.append(f"{raised.value.message} {raised.value.hint} {raised.value.found}")
    place = postgres.tcp_url().replace(f":{secret}@", "@")
    assert told_["ledger"] == place
    for text in said:
        assert f'ledger = "{place}"' in " ".join(text.split()).replace(
            "airgap. toml", "airgap.toml"
        )
        assert "this ledger was moved to postgres" in " ".join(text.split())
        assert "airgap.toml" in text
        assert secret not in text
        assert "Traceback" not in text
    assert told_["begun_at"] in said[0]
    assert rows_of(site) == kept
    log = (site.workstation / "audit.jsonl").read_text()
    assert secret not in log + done.output + file_of(site).read_bytes().decode("latin-1")
    assert '"event": "ledger moved"' in log
    assert "case 4711" in log
    # A release that knows no such mark refuses the file too.
    with pytest.raises(UsageError, match="not of the sort"):
        Ledger(file_of(site), SCHEMAS, timestamps.system_clock)
    # Once more is no harm, and says so.
    monkeypatch.setenv("PGPASSWORD", secret)
    again = json.loads(move(site, postgres.tcp_url().replace(f":{secret}", ""), "--json").stdout)
    assert again["result"] == "moved_before"
    assert again["states"] == told_["states"]


def test_with_the_server_in_the_configuration_all_goes_on_before_and_after_the_move(
    lived, postgres, beacon
):
    """Whoever writes the URL down first is told to move; then the same home goes on."""
    site = lived
    file = site.workstation / "airgap.toml"
    file.write_text(f'ledger = "{postgres.url}"\n{file.read_text()}')
    said = run("status", "--home", site.workstation, code=2).output
    assert "airgap ledger move URL" in said
    assert move(site, postgres.url).output.endswith("Next: airgap status\n")
    assert told(site, "status")["states"]["usage_report"]["waiting"]
    site.import_(beacon.url, code=6)
    found = told(site, "doctor", "--probe", code=None)["findings"]
    assert not [f for f in found if f["id"].startswith("database.") and f["state"] == "wrong"]
    assert [f["state"] for f in found if f["id"] == "database.newest"] == ["ok"]
    # The file in the home is not in the way of what it became, but of everything else.
    said = run("status", "--home", site.workstation, "--ledger", site.root / "x.sqlite", code=2)
    assert "was moved to" in said.output


def test_a_home_whose_ledger_was_moved_uses_no_server_that_does_not_hold_it(
    lived, postgres, beacon
):
    site = lived
    move(site, postgres.url)
    # For instance a database of the same name elsewhere, or one restored from an old copy.
    postgres.execute("DROP SCHEMA airgap_ledger CASCADE")
    for words in (("status",), ("ledger", "list")):
        said = run(*words, "--home", site.workstation, "--ledger", postgres.url, code=2).output
        assert "not the ledger that this home's own was moved to" in said
    for dry in ((), ("--dry-run",)):
        said = site.import_(beacon.url, "--ledger", postgres.url, *dry, code=2).output
        assert "what another ledger does not know, it delivers again" in said
    file = site.workstation / "airgap.toml"
    before = file.read_text()
    file.write_text(f'ledger = "{postgres.url}"\n{before}')
    found = told(site, "doctor", "--probe", code=None)["findings"]
    assert "not the ledger" in next(f for f in found if f["id"] == "database.newest")["found"]
    file.write_text(before)
    assert beacon.totals.records == 0
    assert not is_live(site)
    # Nor is the file moved there once more, or taken back, as if nothing had happened since.
    for options in ((), ("--undo",)):
        said = move(site, postgres.url, *options, code=2).output
        assert "the server held this ledger, and does not any more" in said
        assert "would be delivered again" in said
    assert not is_live(site)
    said = move(site, postgres.url, "--undo", "--server-lost").output
    assert "it is the ledger again" in said
    assert "Let no workstation import into that server's ledger" in said
    assert "make sure that nothing was, before you import" in said
    assert is_live(site)


def test_two_ledgers_are_not_made_one(exported, postgres, beacon):
    site = exported
    [other] = add_stations(site, 1)
    site.import_(beacon.url)
    twin = replace(site, workstation=other)
    twin.import_(beacon.url)
    move(site, postgres.url)
    there, here = rows_on(postgres.url), rows_of(twin)
    said = move(twin, postgres.url, code=2).output
    assert "the shared ledger is not empty, and two ledgers can't be made one" in said
    assert f"1 bundle of {SOURCE}" in said
    assert (rows_on(postgres.url), rows_of(twin)) == (there, here)
    assert is_live(twin)
    assert not is_live(site)


@pytest.mark.parametrize(
    "trigger",
    [
        ("record", "NEW.payload = replace(NEW.payload::text, '03', '04')::bytea; RETURN NEW"),
        ("open_record", "NEW.state = 'dead'; RETURN NEW"),
        # Refused by what refers to it; a record in no bundle; a history that is gone.
        *(
            pytest.param(one, marks=pytest.mark.soak)
            for one in (
                ("record", "RETURN NULL"),
                ("bundle_record", "RETURN CASE WHEN NEW.record = 3 THEN NULL ELSE NEW END"),
                ("event", "RETURN NULL"),
            )
        ),
    ],
    ids=lambda t: f"{t[0]}-{len(t[1])}",
)
def test_totals_that_part_are_named_and_the_file_stays_the_ledger(lived, postgres, trigger):
    site, (table, body) = lived, trigger
    SharedDatabase(postgres.url).close()
    postgres.execute(
        f"CREATE FUNCTION airgap_ledger.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body.replace(chr(39), chr(39) * 2)}; END';"
        f"CREATE TRIGGER t BEFORE INSERT ON airgap_ledger.{table} FOR EACH ROW EXECUTE FUNCTION airgap_ledger.f()"
    )
    said = move(site, postgres.url, code=None)
    assert "Traceback" not in said.output
    assert said.exit_code == 5
    if (table, body) == ("record", "RETURN NULL"):
        assert "the server does not take what the file holds" in said.output
    else:
        assert "totals part between the file and the shared ledger" in said.output
        assert "against" in said.output
    assert bundles_on(postgres) == 0
    assert is_live(site)
    assert moved.read(file_of(site)) is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM record WHERE number = 1", "the ledger is damaged, and was not moved"),
        ("UPDATE record SET payload = x'c1' WHERE number = 1", "a record's payload can't be read"),
    ],
)
def test_a_damaged_file_is_not_moved(lived, postgres, damage, said):
    site = lived
    with closing(sqlite3.connect(file_of(site))) as connection:
        connection.execute(damage)
        connection.commit()
    result = move(site, postgres.url, code=5).output
    assert said in result
    assert "Traceback" not in result
    assert bundles_on(postgres) == 0
    assert moved.read(file_of(site)) is None


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        *OF_NO_USE,
        (lambda _: "/srv/ledger.sqlite", 2, "a ledger is moved to a server"),
        (lambda _: "mysql://u:top-secret@h/x", 2, "a ledger is moved to a server"),
    ],
)
def test_what_keeps_a_ledger_from_being_moved_is_one_error_and_the_file_stays_the_ledger(
    lived, postgres, url, code, said
):
    result = move(lived, url(postgres), code=code)
    assert result.output.count("airgap: error:") == 1
    assert said in result.output
    assert "secret" not in result.output
    assert "secret" not in (lived.workstation / "audit.jsonl").read_text()
    assert is_live(lived)


def test_a_role_that_may_import_and_did_not_make_the_ledger_is_told_whose_work_it_is(
    lived, postgres
):
    SharedDatabase(postgres.url).close()
    postgres.execute(
        f"GRANT USAGE ON SCHEMA airgap_ledger TO {READER};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA airgap_ledger TO {READER}"
    )
    said = move(lived, postgres.url_as(READER), code=2).output
    assert "the database role may not fill the shared ledger" in said
    assert is_live(lived)
    move(lived, postgres.url)
    assert told(lived, "status", "--ledger", postgres.url_as(READER))["states"]


def test_without_psycopg_one_error_says_what_to_install(lived):
    code = "import sys; sys.modules['psycopg'] = None; from airgap.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "ledger", "move", "--home", lived.workstation, "postgresql://x@127.0.0.1:1/y"],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 2
    assert "airgap[postgres]" in done.stderr
    assert done.stderr.count("airgap: error:") == 1


def test_nothing_is_moved_where_nothing_was_imported_or_somebody_imports(site, lived, postgres):
    assert "there is no ledger to move" in move(site, postgres.url, code=2).output
    assert not file_of(site).exists()
    home = open_home(lived.workstation)
    with opening.held(home, SCHEMAS, timestamps.system_clock):
        said = move(lived, postgres.url, code=2).output
    assert "another airgap import is running" in said
    assert "not moved" in move(lived, postgres.url, "--undo", code=2).output
    assert "--undo" in move(lived, postgres.url, "--server-lost", code=2).output
    assert bundles_on(postgres) == 0


def test_a_ledger_that_two_homes_share_is_moved_for_both(exported, postgres, beacon):
    site = exported
    [other] = add_stations(site, 1)
    shared = site.root / "shared.sqlite"
    for one in (site.workstation, other):
        file = one / "airgap.toml"
        file.write_text(f'ledger = "{shared}"\n{file.read_text()}')
    site.import_(beacon.url)
    move(site, postgres.url)
    assert "was moved to" in run("status", "--home", other, code=2).output
    run("status", "--home", other, "--ledger", postgres.url)


class Pausing:
    """A watcher that lets something happen in the midst of the copy."""

    def __init__(self, between):
        self.between = [between]

    def warn(self, text):
        pass

    @contextmanager
    def moving(self, rows):
        def advance(count):
            while self.between:
                self.between.pop()()

        yield advance


def waiting(server):
    """Tell whether a session of airgap's waits for a lock."""
    found = server.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return found != "0"


def test_who_imports_on_the_server_meanwhile_waits_and_sends_nothing_again(exported, postgres):
    site = exported
    [other] = add_stations(site, 1)
    SharedDatabase(postgres.url).close()
    url = postgres.url
    with serving(always(GOOD)) as server, ThreadPoolExecutor(1) as pool:
        site.import_(server.url)
        begun = len(server.bodies)
        assert begun == 3
        others = []

        def between():
            twin = replace(site, workstation=other)
            others.append(pool.submit(twin.import_, server.url, "--ledger", url))
            while not waiting(postgres):
                assert not others[0].done(), others[0].result().output
                os.sched_yield()

        one = Move(
            open_home(site.workstation), url, SCHEMAS, timestamps.system_clock, None, "1" * 32
        )
        one.run(Pausing(between))
        assert "imported before" in others[0].result(60).output
        assert len(server.bodies) == begun
    assert bundles_on(postgres) == 1


class Unanswered:
    """A move whose client is gone when its COMMIT is on the way: the server's session goes on."""

    def __init__(self, monkeypatch):
        self.sessions = []

        def keep(database):
            self.sessions.append(database)
            monkeypatch.setattr(database, "close", lambda: None)
            raise UnreachableError("the connection was lost")

        monkeypatch.setattr(SharedDatabase, "keep", keep)

    def end(self, statement):
        [database] = self.sessions
        database._raw.execute(statement)
        database._raw.close()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("undo", [(), ("--undo",)], ids=["again", "undo"])
def test_a_move_whose_commit_is_on_the_way_is_waited_for(lived, postgres, monkeypatch, end, undo):
    """Else the file would be taken back, and a moment later the server would hold it too."""
    site = lived
    SharedDatabase(postgres.url).close()  # so that nobody waits for its being made
    with monkeypatch.context() as patch:
        cut = Unanswered(patch)
        said = move(site, postgres.url, code=7).output
    assert "airgap ledger move postgresql://" in said
    assert not is_live(site)
    said = run("status", "--home", site.workstation, code=2).output
    assert "a move of it did not end" in said
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(move, site, postgres.url, *undo, code=None)
        while not waiting(postgres):
            assert not again.done(), again.result().output
            os.sched_yield()
        cut.end(end)
        done = again.result(60)
    held = end == "COMMIT"
    if undo and held:
        assert done.exit_code == 2
        assert "the server holds this ledger" in done.output
        assert "moved before" in move(site, postgres.url).output
    else:
        assert done.exit_code == 0, done.output
    if undo and not held:
        assert is_live(site)
        assert bundles_on(postgres) == 0
        move(site, postgres.url)
    assert not is_live(site)
    assert rows_on(postgres.url) == rows_of(site)
    told(site, "status", "--ledger", postgres.url)


def marked(site, place, server="1/1"):
    """Mark a file as a move does that is cut off before the server is told to keep it."""
    with closing(Ledger(file_of(site), SCHEMAS, timestamps.system_clock)) as ledger:
        with ledger.database.transaction() as connection:
            mark = moved.Mark(place, server, "relay-1, ledger move x", "2026-02-01T00:00:00Z")
            moved.set_mark(connection, mark)


def test_a_server_that_is_gone_locks_nobody_out_and_takes_plain_words(lived):
    site, gone = lived, "postgresql://relay@127.0.0.1:1/airgap"
    marked(site, gone)
    assert not is_live(site)
    assert "can't be reached" in move(site, gone, code=7).output
    said = move(site, gone, "--undo", code=7).output
    assert "--undo --server-lost takes the file back without its word" in said
    assert "would then be delivered again" in said
    assert not is_live(site)
    # It is that server which is given up, and not whatever can't be reached.
    said = move(site, gone.replace(":1/", ":2/"), "--undo", "--server-lost", code=2).output
    assert "to another server" in said
    assert not is_live(site)
    done = move(site, gone, "--undo", "--server-lost", "--json")
    assert json.loads(done.stdout)["result"] == "taken_back"
    assert is_live(site)
    assert rows_of(site)
    assert '"ledger move taken back"' in (site.workstation / "audit.jsonl").read_text()


def test_a_cut_off_move_is_ended_on_that_server_only(lived, postgres):
    site = lived
    marked(site, postgres.url)
    for options in ((), ("--undo",)):
        said = move(site, postgres.url, *options, code=2).output
        assert "to another server" in said
    assert not is_live(site)
    assert bundles_on(postgres) == 0


def test_a_server_that_holds_the_ledger_is_not_given_up(lived, postgres):
    site = lived
    move(site, postgres.url)
    said = move(site, postgres.url, "--undo", "--server-lost", code=2).output
    assert "the server holds this ledger, so the file can't be it" in said
    assert not is_live(site)


def test_who_waited_to_bring_a_file_up_to_date_leaves_one_that_was_moved_meanwhile(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path, SCHEMAS, timestamps.system_clock).close()
    database = Database(path, LAYOUT, VERSION, application=APPLICATION, told_by=TOLD_BY)
    with closing(database), closing(sqlite3.connect(path)) as other:
        moved.set_mark(other, moved.Mark("postgresql://x", "1/1", "x", "2026-02-01T00:00:00Z"))
        other.commit()
        with pytest.raises(UsageError, match="not of the sort"):
            database._bring_up(LAYOUT, VERSION, upgrades(SCHEMAS))
    assert moved.read(path) is not None
    with pytest.raises(UsageError):
        Ledger(path, SCHEMAS, timestamps.system_clock)


_ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def test_a_terminal_shows_how_far_a_move_is_and_a_pipe_does_not(lived, postgres):
    words = [sys.executable, "-m", "airgap", "ledger", "move", "--home", lived.workstation]
    done = subprocess.run(
        [sys.executable, "-c", _ON_A_TERMINAL, *words, postgres.url],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "moving" in done.stdout
    assert "rows" in done.stdout
    assert "moving" not in move(lived, postgres.url).output


@pytest.mark.soak
def test_a_standby_is_not_asked_what_the_primary_holds(lived, postgres, monkeypatch):
    """It may not know yet of a commit, and its locks are its own."""
    site = lived
    SharedDatabase(postgres.url).close()
    with monkeypatch.context() as patch:
        cut = Unanswered(patch)
        move(site, postgres.url, code=7)
    cut.end("ROLLBACK")
    with standby(postgres) as other:
        for options in (("--undo",), (), ("--undo", "--server-lost")):
            said = move(site, other.url, *options, code=2).output
            assert "this server is a standby" in said
        assert not is_live(site)
    assert "is taken back" in move(site, postgres.url, "--undo").output


@pytest.mark.parametrize("name", sorted(old_ledgers.LAYOUTS)[:1])
def test_an_old_file_and_an_empty_old_schema_are_brought_up_to_date_by_the_move(
    lived, postgres, name
):
    site = lived
    old_ledgers.make_old(file_of(site), name)
    SharedDatabase(postgres.url).close()
    old_shared.make_old(postgres)
    move(site, postgres.url)
    assert postgres.execute("SELECT version FROM airgap_ledger.layout") == str(VERSION)
    assert rows_on(postgres.url) == rows_of(site)
