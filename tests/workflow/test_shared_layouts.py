"""A shared ledger of an older layout is brought up to date where it is, for all who share it."""

import json
from contextlib import closing

import old_shared
import pytest
from postgres import READER
from servers import always, answer, serving
from support import LICENSE, day, run, transaction

from airgap import catalog, timestamps
from airgap.replay.ledger import Ledger
from airgap.replay.shared import SharedDatabase

SCHEMAS = catalog.load()


def told(site, url, *words, code=0):
    words = (*words, "--home", site.workstation, "--ledger", url, "--json")
    return json.loads(run(*words, code=code).stdout)


@pytest.fixture
def lived(site, postgres):
    """A workstation whose shared ledger has records in each state, claimed, sent and decided."""
    site.collect([day(n) for n in (1, 2, 3)])
    site.collect([{"license": LICENSE, "trace_transactions": [transaction(1), transaction(2)]}])
    site.export()

    def reply(connection, body, _number):
        if b"trace_transactions" in body:
            connection.sendall(answer(200, {"inserted_count": 2}))
        elif b'"from_timestamp":"2026-01-02' in body:
            connection.sendall(answer(422))
        elif b'"from_timestamp":"2026-01-03' in body:
            connection.sendall(answer(503))
        else:
            connection.sendall(answer(204))

    shared = ("--ledger", postgres.url, "--attempts", "1")
    with serving(reply) as server:
        site.import_(server.url, *shared, code=None)
    site.collect([day(n) for n in (1, 2, 3, 5, 6)])
    site.export()
    with serving(always(answer(503))) as server:
        site.import_(server.url, *shared, code=7)
    # Two were cut off while they were sent, by a run that is gone.
    postgres.execute(
        "UPDATE airgap_ledger.open_record SET state = 'sending', claimed_by = 1"
        " WHERE record >= (SELECT max(record) - 1 FROM airgap_ledger.open_record)"
    )
    postgres.execute("UPDATE airgap_ledger.run SET ended_at = NULL WHERE number = 1")
    return site


def test_a_shared_ledger_of_an_older_layout_says_the_same_and_goes_on(lived, postgres):
    site, url = lived, postgres.url
    fresh = old_shared.columns(postgres)
    before = told(site, url, "status"), told(site, url, "report")
    states = {state for kinds in before[0]["states"].values() for state in kinds}
    assert states >= {"delivered", "waiting", "sending", "dead"}
    [dead] = told(site, url, "ledger", "list", "--state", "dead")["records"]
    shown = told(site, url, "ledger", "show", dead["id"])
    senders = "SELECT claimed_by, count(*) FROM airgap_ledger.{} GROUP BY 1 ORDER BY 1"
    held = [postgres.execute(senders.format(f"{n}_record")) for n in ("open", "delivered")]
    assert "1|3" in held[0]

    old_shared.make_old(postgres)
    assert postgres.execute("SELECT state FROM airgap_ledger.record LIMIT 1")
    postgres.execute(f"GRANT USAGE ON SCHEMA airgap_ledger TO {READER}")
    postgres.execute(f"GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA airgap_ledger TO {READER}")
    assert (told(site, url, "status"), told(site, url, "report")) == before
    assert old_shared.columns(postgres) == fresh
    assert [postgres.execute(senders.format(f"{n}_record")) for n in ("open", "delivered")] == held
    assert told(site, url, "ledger", "show", dead["id"]) == shown
    # Who could use the old tables can use the new ones.
    may = "SELECT has_table_privilege('{}', 'airgap_ledger.{}', '{}')"
    for table in ("open_record", "delivered_record", "record_state"):
        assert postgres.execute(may.format(READER, table, "UPDATE")) == "t"
        assert postgres.execute(may.format(READER, table, "DELETE")) == "f"

    # What was being sent is in doubt, and what waits is sent, once.
    waiting = before[0]["states"]["usage_report"]["waiting"]
    with serving(always(answer(204))) as server:
        site.import_(server.url, "--ledger", url, "--resume", code=6)
    assert len(server.bodies) == waiting
    assert told(site, url, "status")["states"]["usage_report"]["in_doubt"] == 2


def test_an_older_layout_stays_as_it_is_while_an_importer_is_at_work_on_it(lived, postgres):
    site, url = lived, postgres.url
    ledger = Ledger(SharedDatabase(url), SCHEMAS, timestamps.system_clock)
    with closing(ledger.database):
        ledger.set_scope(ledger.bundles())
        next(ledger.waiting("usage_report"))
        old_shared.make_old(postgres)
        before = old_shared.columns(postgres)
        said = run("status", "--home", site.workstation, "--ledger", url, code=2).output
        assert "an importer is at work on it" in said
        assert old_shared.columns(postgres) == before
    told(site, url, "status")


def test_whoever_brings_a_ledger_up_to_date_its_owner_still_owns_all_of_it(lived, postgres):
    site, url = lived, postgres.url
    before = told(site, url, "status")
    old_shared.make_old(postgres)
    # A database's administrator may do so.
    assert told(site, postgres.url_as("postgres"), "status") == before
    assert told(site, url, "status") == before
    with serving(always(answer(204))) as server:
        site.import_(server.url, "--ledger", url, "--resume", code=6)
