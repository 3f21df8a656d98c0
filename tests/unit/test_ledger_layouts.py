"""Ledgers of every layout there ever was are brought up to date where they are, and lose nothing."""

import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import old_ledgers
import pytest
from lived import told
from servers import always, answer, serving
from support import SOURCE, day

from airgap import catalog, timestamps
from airgap.errors import DamagedError, UsageError
from airgap.outbox import Outbox
from airgap.replay.ledger import Ledger
from airgap.windows import Coverage, micros

SCHEMAS = catalog.load()


def ledger_of(site):
    return site.workstation / "ledger.sqlite"


@contextmanager
def opened(site):
    with closing(Ledger(ledger_of(site), SCHEMAS, timestamps.system_clock)) as ledger:
        yield ledger


def within(first, last):
    """Return the time from one day of January 2026 to before another, in microseconds since 1970."""
    return tuple(micros(datetime(2026, 1, n, tzinfo=UTC)) for n in (first, last))


@pytest.mark.parametrize("name", old_ledgers.LAYOUTS)
def test_a_ledger_of_an_older_layout_is_brought_up_to_date_and_says_the_same(lived, name):
    site = lived
    before = told(site, "status"), told(site, "report")
    states = {state for kinds in before[0]["states"].values() for state in kinds}
    assert states == {"delivered", "waiting", "sending", "dead", "in_doubt"}
    listed = told(site, "ledger", "list", "--state", "in_doubt")["records"]
    [doubt] = [record for record in listed if record["state"] == "in_doubt"]
    history = told(site, "ledger", "show", doubt["id"])["history"]
    assert len(history) == 3
    with opened(site) as ledger:
        known = ledger.reports(SOURCE)

    old_ledgers.make_old(ledger_of(site), name)
    # Doctor only says what is to come; whoever opens it first does it.
    found = told(site, "doctor", code=None)["findings"]
    [layout] = [f for f in found if f["id"] == "database.layout"]
    assert layout["state"] == "ok"
    assert "made 4 at next use" in layout["found"]
    assert (told(site, "status"), told(site, "report")) == before
    shown = told(site, "ledger", "show", doubt["id"])["history"]
    assert shown == ([] if name.startswith("1") else history)
    with opened(site) as ledger:
        assert ledger.reports(SOURCE) == known
    fresh = site.root / "fresh.sqlite"
    Ledger(fresh, SCHEMAS, timestamps.system_clock).close()
    assert old_ledgers.columns(ledger_of(site)) == old_ledgers.columns(fresh)

    # Only what waits is sent; what was being sent is in doubt; the receipts in the home are known.
    waiting = before[0]["states"]["usage_report"]["waiting"]
    with serving(always(answer(204))) as server:
        site.import_(server.url, "--resume", code=6)
    assert len(server.bodies) == waiting
    assert told(site, "status")["states"]["usage_report"]["in_doubt"] == 2
    # The next bundle finds its place, and its windows overlap with none that is there.
    site.collect([day(n) for n in (1, 2, 3, 5, 6, 7, 9)])
    site.export()
    with serving(always(answer(204))) as server:
        said = site.import_(server.url, code=6).output
    assert len(server.bodies) == 1
    assert "overlap" not in said
    site.apply()
    with closing(sqlite3.connect(ledger_of(site))) as connection:
        windows = dict(connection.execute("SELECT kind, windows FROM known_window"))
    assert Coverage.from_bytes(windows["usage_report"]).joined() == [
        *(within(1, 4), within(5, 8), within(9, 10))
    ]


def test_a_ledger_of_a_layout_to_come_is_refused_and_left_as_it_is(lived):
    path = ledger_of(lived)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = old_ledgers.columns(path)
    with pytest.raises(UsageError, match="another version"):
        Ledger(path, SCHEMAS, timestamps.system_clock)
    assert old_ledgers.columns(path) == before


def test_an_upgrade_that_fails_leaves_the_old_ledger_whole(lived):
    path = ledger_of(lived)
    old_ledgers.make_old(path, "1, the first")
    before = old_ledgers.columns(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM record WHERE number = 2")
        connection.commit()
    with pytest.raises(DamagedError, match="rows that are not there"):
        Ledger(path, SCHEMAS, timestamps.system_clock)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert old_ledgers.columns(path) == before


def test_an_outbox_is_never_taken_for_a_ledger_of_the_first_layouts(site):
    Outbox(site.isolated / "outbox.sqlite", SOURCE, SCHEMAS).close()
    path = site.isolated / "outbox.sqlite"
    for version in (1, 2, 3):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA application_id = 0")
            connection.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(UsageError, match="not of the sort"):
            Ledger(path, SCHEMAS, timestamps.system_clock)
