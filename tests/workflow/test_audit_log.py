"""What was done with a home is in its audit log: every command that changes something, and no secret."""

import json

from servers import always, answer, serving
from support import LICENSE, every_command, report, run

_LOOKING = {
    "inspect", "cat", "verify", "status", "report", "doctor", "fields", "rehearse", "demo",
    "config show", "config check", "config path", "completion", "examples", "man",
    "key list", "key fingerprint", "trust list", "recipient list", "recipient fingerprint",
    "ledger list", "ledger show",
    "receipt code", "audit verify", "audit show", "media list",
}  # fmt: skip


def entries(home):
    return json.loads(run("audit", "show", "--home", home, "--last", "1000", "--json").stdout)[
        "entries"
    ]


def test_every_command_that_changes_something_takes_a_message_for_the_log():
    found = {" ".join(path): run(*path, "--help").output for path in every_command()}
    assert {
        name for name, said in found.items() if "--message TEXT" in said
    } == found.keys() - _LOOKING


def test_a_whole_journey_is_in_the_logs_of_both_sides(site, beacon):
    site.collect([report(1)], "--message", "Change 654987")
    site.export()
    site.import_(beacon.url)
    site.apply()
    isolated, workstation = entries(site.isolated), entries(site.workstation)
    assert [e["event"] for e in isolated] == [
        *("begin", "collected", "end"),
        *("begin", "bundle made", "written", "end"),
        *("begin", "receipt applied", "end"),
    ]  # fmt: skip
    assert isolated[0]["message"] == "Change 654987"
    assert [e["event"] for e in workstation] == [
        "begin", "bundle imported", "delivered", "receipt made", "end",
    ]  # fmt: skip
    assert workstation[2]["states"] == {"usage_report": {"delivered": 1}}
    assert len({e["run"] for e in isolated}) == 3
    for home in (site.isolated, site.workstation):
        assert run("audit", "verify", "--home", home).exit_code == 0


def test_refusals_and_decisions_are_in_the_log_with_their_exit_status(site):
    site.collect([report(1)])
    site.export()
    with serving(always(answer(422))) as server:
        site.import_(server.url, code=6)
    run(
        "ledger",
        "resolve",
        "--home",
        site.workstation,
        "0" * 8,
        "--resend",
        "--reason",
        "x",
        code=2,
    )
    found = entries(site.workstation)
    assert [e["exit"] for e in found if e["event"] == "end"] == [6, 2]
    assert found[-1]["error"] == "no record in doubt and no dead letter has this id"
    [options] = [
        e["options"] for e in found if e["event"] == "begin" and e["command"] == "ledger resolve"
    ]
    assert options["reason"] == "x"


def test_a_message_goes_into_the_bundle_only_if_asked(site, beacon):
    site.collect([report(1)])
    site.export("--message", "Change 1")
    site.collect([report(2, 2)])
    site.export("--message", "Change 2", "--message-in-bundle")
    shown = [
        json.loads(run("inspect", "--home", site.workstation, path, "--json").stdout)["manifest"][
            "message"
        ]
        for path in sorted(site.stick.glob("*.airgap"))
    ]
    assert shown == [None, "Change 2"]
    result = site.import_(beacon.url)
    assert "its message: Change 2" in result.output
    assert "Change 1" not in result.output
    site.collect([report(3, 3)])
    assert "give --message" in site.export("--message-in-bundle", code=2).output


def test_no_secret_is_in_the_log(site, beacon):
    site.collect([report(1)], "--message", f"the key is {LICENSE}")
    site.export()
    site.import_("http://somebody:hunter2@127.0.0.1:1", code=2)
    site.import_(beacon.url)
    pairing = json.loads(
        run("receipt", "pair", "--home", site.workstation, "bank-a.prod", "--json").stdout
    )["secret"]
    for home in (site.isolated, site.workstation):
        text = (home / "audit.jsonl").read_text()
        for secret in (LICENSE, "hunter2", pairing):
            assert secret not in text


def test_a_dry_run_and_looking_leave_no_trace(site, beacon):
    site.collect([report(1)])
    site.export()
    before = (site.isolated / "audit.jsonl").read_bytes()
    run("status", "--home", site.isolated)
    site.import_(beacon.url, "--dry-run")
    assert (site.isolated / "audit.jsonl").read_bytes() == before
    assert not (site.workstation / "audit.jsonl").exists()


def test_nothing_is_done_where_the_log_can_not_be_written(site):
    (site.isolated / "audit.jsonl").mkdir()
    result = site.collect([report(1)], code=8)
    assert "audit.jsonl can't be written" in result.output
    (site.isolated / "audit.jsonl").rmdir()
    assert site.status()["waiting"] == {}


def test_a_changed_log_is_refused_with_the_line_and_exit_status_5(site):
    site.collect([report(1)])
    path = site.isolated / "audit.jsonl"
    path.write_text(path.read_text().replace('"event": "collected"', '"event": "collectet"'))
    result = run("audit", "verify", "--home", site.isolated, code=5)
    assert "audit.jsonl, line 3" in result.output


def test_init_is_the_first_entry_and_a_failed_one_makes_no_home(tmp_path):
    run("init", "--home", tmp_path / "h", "--source", "Not A Name", code=2)
    assert not (tmp_path / "h").exists()
    run("init", "--home", tmp_path / "h", "--source", "a", "--message", "new host")
    assert [(e["command"], e["event"]) for e in entries(tmp_path / "h")] == [
        ("init", "begin"),
        ("init", "end"),
    ]


def test_a_log_that_was_taken_away_is_said_and_no_home_is_none(tmp_path, site):
    assert (
        "there is no audit log" in run("audit", "verify", "--home", site.workstation, code=5).output
    )
    assert entries(site.workstation) == []
    for name in ("verify", "show"):
        assert "no airgap home" in run("audit", name, "--home", tmp_path / "nothing", code=2).output
