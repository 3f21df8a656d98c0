"""What people decide in the ledger is kept with its reason, and counts exactly once."""

import io
import json
import shutil
from pathlib import Path

import pytest
from servers import always, answer, reset, serving
from support import LICENSE, report, run, transaction

from airgap import catalog, verify
from airgap.files import exclusive

GOOD = answer(204)


def listed(site, *options):
    return json.loads(run("ledger", "list", "--home", site.workstation, "--json", *options).stdout)[
        "records"
    ]


def shown(site, identifier):
    return json.loads(
        run("ledger", "show", "--home", site.workstation, identifier, "--json").stdout
    )


@pytest.mark.both_ledgers
def test_a_record_is_shown_with_its_bundle_its_history_and_the_reasons(exported):
    site = exported
    with serving(reset) as server:
        site.import_(server.url, "--in-flight", "1", code=None)
    [first, *_] = listed(site, "--state", "in_doubt")
    run(
        *("ledger", "resolve", "--home", site.workstation, first["id"][:8]),
        *("--resend", "--reason", "support: not counted, case 4711"),
    )
    with serving(always(GOOD)) as server:
        site.import_(server.url, code=None)
    found = shown(site, first["id"])
    assert (found["state"], found["attempts"], found["may_have_been_counted"]) == (
        "delivered",
        2,
        True,
    )
    assert [event["state"] for event in found["history"]] == ["in_doubt", "waiting"]
    assert "case 4711" in found["history"][1]["detail"]
    assert found["bundles"][0]["sequence"] == 1
    assert found["payload"]["measures"]["langgraph.platform.nodes"] in (0, 3, 6)
    said = run("ledger", "show", "--home", site.workstation, first["id"][:12]).output
    assert "it may have been counted" in said
    assert "case 4711" in said
    assert LICENSE not in said


@pytest.mark.both_ledgers
def test_a_dead_letter_is_exported_retried_after_a_fix_and_delivered_once(exported):
    site = exported
    with serving(always(answer(422, {"detail": "licence expired"}))) as server:
        site.import_(server.url, code=6)
    letters = site.root / "dead.jsonl"
    run("ledger", "deadletter", "export", "--home", site.workstation, "--to", letters)
    found = [json.loads(line) for line in letters.read_text().splitlines()]
    assert len(found) == 3
    assert all("licence expired" in letter["history"][0]["detail"] for letter in found)
    assert {letter["status"] for letter in found} == {422}
    refused = run(
        "ledger", "deadletter", "export", "--home", site.workstation, "--to", letters, code=2
    )
    assert "airgap replaces no file of yours" in refused.output
    run(
        *("ledger", "deadletter", "retry", "--home", site.workstation, found[0]["id"]),
        *("--reason", "licence renewed"),
    )
    with serving(always(GOOD)) as server:
        site.import_(server.url, code=6)
    assert len(server.bodies) == 1
    run("ledger", "deadletter", "retry", "--home", site.workstation, "all", "--reason", "renewed")
    with serving(always(GOOD)) as server:
        site.import_(server.url)
    assert len(server.bodies) == 2
    site.apply()
    assert site.status()["confirmed"]["usage_report"]["records"] == 3


@pytest.mark.both_ledgers
def test_retrying_dead_letters_leaves_doubt_alone(exported):
    site = exported
    with serving(reset) as server:
        site.import_(server.url, code=None)
    doubt = listed(site, "--state", "in_doubt")
    assert doubt
    run("ledger", "deadletter", "retry", "--home", site.workstation, "all", "--reason", "x", code=2)
    run(
        *("ledger", "deadletter", "retry", "--home", site.workstation, doubt[0]["id"]),
        *("--reason", "x"),
        code=2,
    )
    assert listed(site, "--state", "in_doubt") == doubt


@pytest.mark.parametrize("name", ["", "abc", "all", "zzzzzzzz", "0" * 33, "00000000"])
def test_a_record_that_is_not_there_is_a_mistake_of_usage(exported, beacon, name):
    exported.import_(beacon.url)
    said = run("ledger", "show", "--home", exported.workstation, name, code=2).output
    assert "airgap ledger list" in said


@pytest.mark.both_ledgers
def test_partial_receipts_add_up_over_several_trips(site):
    site.collect(
        [report(n, n) for n in range(4)]
        + [{"license": LICENSE, "trace_transactions": [transaction(1)]}]
    )
    site.export()

    def confirmed():
        site.apply()
        return {k: v["records"] for k, v in site.status()["confirmed"].items()}

    seen = []

    def only_first(connection, body, _number):
        seen.append(body)
        if b"trace_transactions" in body:
            connection.sendall(answer(200, {"inserted_count": 1}))
        elif b"T00:00:00Z" in body:
            connection.sendall(GOOD)
        else:
            reset(connection, body, 0)

    with serving(only_first) as server:
        site.import_(server.url, code=None)
    first = confirmed()
    for record in listed(site, "--state", "in_doubt"):
        run(
            *("ledger", "resolve", "--home", site.workstation, record["id"]),
            *("--resend", "--reason", "not counted"),
        )
    with serving(
        lambda c, b, n: c.sendall(
            answer(200, {"inserted_count": 1}) if b"trace_transactions" in b else GOOD
        )
    ) as server:
        site.import_(server.url, code=None)
    second = confirmed()
    assert sum(first.values()) < sum(second.values()) == 5
    assert len(list((site.isolated / "receipts").glob("*.receipt"))) == 2
    assert second == {"usage_report": 4, "trace_transactions": 1}
    assert (
        run("verify", "--home", site.isolated, *(site.isolated / "receipts").iterdir()).exit_code
        == 0
    )


@pytest.mark.both_ledgers
def test_receipts_name_the_one_before_and_a_fork_of_them_is_refused(exported):
    site = exported
    with serving(reset) as server:
        site.import_(server.url, code=None)
    run("ledger", "resolve", "--home", site.workstation, "all", "--resend", "--reason", "x")
    with serving(always(GOOD)) as server:
        site.import_(server.url)
    first, second = sorted(site.stick.glob("*.receipt"))
    read = [
        verify.verify_receipt(
            io.BytesIO(path.read_bytes()), name=path.name, trust=site.trust, catalog=catalog.load()
        )
        for path in (first, second)
    ]
    assert read[0].manifest["previous"] is None
    assert read[1].manifest["previous"] == read[0].document_id


def test_two_homes_that_share_a_ledger_deliver_each_record_once(exported, beacon):
    site = exported
    second = site.root / "second"
    shutil.copytree(site.workstation, second)
    shared = site.root / "shared.sqlite"
    for home in (site.workstation, second):
        file = home / "airgap.toml"
        text = file.read_text().replace("relay-1", "relay-2" if home == second else "relay-1")
        file.write_text(f'ledger = "{shared}"\n{text}')
    site.import_(beacon.url)
    arguments = (
        *("import", "--home", second, site.stick, "--license-file", site.license_file),
        *("--beacon-url", beacon.url, "--api-url", beacon.url),
    )
    assert "imported before" in run(*arguments).output
    assert beacon.totals.kinds["usage_report"].records == 3
    assert shared.exists()
    assert not (site.workstation / "ledger.sqlite").exists()
    with exclusive(shared.with_name("shared.sqlite.lock"), "import"):
        assert "another airgap import" in run(*arguments, code=2).output
    site.apply()
    assert site.status()["confirmed"]["usage_report"]["records"] == 3


def test_a_ledger_that_is_a_file_is_chosen_from_the_folder_where_one_stands(
    exported, beacon, monkeypatch
):
    site = exported
    monkeypatch.chdir(site.root)
    site.import_(beacon.url, "--ledger", "other.sqlite")
    assert (site.root / "other.sqlite").exists()
    assert not (site.workstation / "ledger.sqlite").exists()
    shown = run("status", "--home", site.workstation, "--ledger", "other.sqlite", "--json").stdout
    assert json.loads(shown)["states"] == {"usage_report": {"delivered": 3}}


@pytest.mark.both_ledgers
def test_the_same_record_in_two_bundles_is_delivered_once_and_both_are_confirmed(site, beacon):
    shutil.copytree(site.isolated, site.root / "copy")
    site.collect([report(1), report(2, 2)])
    site.export()
    site.import_(beacon.url)
    # Another home of the same source exported the same usage; its bundle comes second in the chain.
    [receipt] = site.stick.glob("*.receipt")
    other = Path(site.root / "copy")
    run("outbox", "continue", "--home", other, receipt)
    shutil.rmtree(site.stick)
    site.stick.mkdir()
    usage = site.root / "usage.jsonl"
    usage.write_text(usage.read_text() + json.dumps(report(3, 3)) + "\n")
    run("collect", "--home", other, usage)
    run("export", "--home", other, "--to", site.stick)
    said = site.import_(beacon.url).output
    assert "3 records, 2 of them known from another bundle" in said
    assert beacon.totals.kinds["usage_report"].records == 3
    run("receipt", "apply", "--home", other, site.stick)
    status = json.loads(run("status", "--home", other, "--json").stdout)
    assert status["confirmed"]["usage_report"]["records"] == 3
