"""What a hostile review of delivery found: each attack or mistake, and what holds it now."""

import io
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest
from servers import always, answer, serving
from support import LICENSE, SOURCE, day, report, run, transaction

from airgap import catalog, timestamps
from airgap import home as homes
from airgap.bundle.layout import FORMAT, Header
from airgap.bundle.writer import Writer
from airgap.errors import DamagedError
from airgap.files import exclusive
from airgap.outbox import Outbox
from airgap.trust import store as trust_store

BIG = ("--gap-over", "9000d", "--max-age", "9000d")


def receipt_of(site, sequence, bundle_id, bundle_previous, outcomes=(), **changes):
    """Write a receipt that the trusted importer signed, whatever it says; return its path."""
    counts = dict.fromkeys(("delivered", "dead", "in_doubt", "waiting"), 0)
    stream = io.BytesIO()
    writer = Writer(stream, Header("receipt"))
    for identifier, outcome in outcomes:
        writer.add(
            {
                "id": identifier,
                "outcome": outcome,
                "status": None,
                "at": None,
                "detail": None,
                "answer": None,
            }
        )
        counts[outcome] += 1
    fields = {
        "format": FORMAT, "file_type": "receipt", "source": SOURCE, "importer": "relay-1",
        "bundle_id": bundle_id, "bundle_sequence": sequence, "bundle_previous": bundle_previous,
        "number": 1, "previous": None, "created_at": "2026-02-01T00:00:00Z", "producer": "forger",
        "outcomes": counts, "totals": {}, **changes,
    }  # fmt: skip
    made = writer.finish(fields, [site.importer.sign])
    path = site.root / f"{made.document_id[:16]}.receipt"
    path.write_bytes(stream.getvalue())
    return path


def go_on(site, path, code=0):
    return run("outbox", "continue", "--home", site.isolated, path, code=code)


def check(home, *options, code):
    return run("status", "--home", home, "--check", *(options or BIG), code=code).output


def bundles(site):
    return site.status()["bundles"]


# Going on after a restore.


def test_continue_never_leaves_a_record_in_no_bundle(site):
    site.collect([report(1)])
    site.export()
    own = bundles(site)[0]["bundle_id"]
    go_on(site, receipt_of(site, 2, "b" * 64, own))
    refused = go_on(site, receipt_of(site, 3, "c" * 64, "b" * 64), 0)
    assert "The next bundle is 4" in refused.output
    said = go_on(site, receipt_of(site, 1, "a" * 64, None), 9).output
    assert "two ledgers hold two chains" in said
    go_on(site, receipt_of(site, 4, "d" * 64, "e" * 64), 9)
    assert [b["outcomes"] for b in bundles(site)] == [{"unknown": 1}, {}, {}]


def test_continue_refuses_a_sequence_that_can_not_be(site):
    site.collect([report(1)])
    said = go_on(site, receipt_of(site, 4294967295, "a" * 64, "b" * 64), 3).output
    assert "a bundle that can't be" in said
    site.export()


def test_the_outbox_refuses_bundles_that_leave_a_record_out(tmp_path):
    outbox = Outbox(tmp_path / "o.sqlite", SOURCE, catalog.load())
    connection = outbox.database.connection
    for first, last in ((1, 2), (4, 5)):
        connection.execute(
            "INSERT INTO bundle (sequence, bundle_id, file_name, first, last, created_at, covered, used)"
            " VALUES (?, ?, '', ?, ?, '', '{}', '{}')",
            (first, str(first), first, last),
        )
    outbox.require_whole()
    connection.execute(
        "INSERT INTO record (number, id, kind, dialect, credential, occurrence, lasting, collected_at)"
        " VALUES (3, x'00', '', '', '', 0, x'00', '')"
    )
    with pytest.raises(DamagedError):
        outbox.require_whole()
    outbox.close()


def test_a_receipt_of_a_void_bundle_is_said_aloud_and_so_is_one_that_left(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    shutil.copytree(site.isolated, site.root / "snapshot")
    first = bundles(site)[0]["bundle_id"]
    site.collect([report(2, 2)])
    site.export()
    void = bundles(site)[1]["bundle_id"]
    said = go_on(site, receipt_of(site, 2, "b" * 64, first)).output
    assert "bundle 2, now void, was written to" in said
    from_b = receipt_of(site, 2, void, first, [("0" * 32, "delivered")], importer="relay-2")
    said = run("receipt", "apply", "--home", site.isolated, from_b, code=9).output
    assert "was made void here, and relay-2 says that it delivered 1 record of it" in said


def test_receipts_of_other_sources_are_left_aside_and_many_need_no_open_files(site, beacon):
    for number in range(60):
        site.collect([report(number, number % 24, to_timestamp=f"2026-03-01T00:00:{number:02d}Z")])
        site.export()
    site.import_(beacon.url)
    shutil.rmtree(site.isolated)
    anew = homes.create(site.isolated, "isolated", SOURCE)
    anew.add_key("default", site.exporter, None)
    trust_store.save(anew.trust_path, site.trust)
    foreign = receipt_of(site, 1, "a" * 64, None, source="other.site")
    shutil.copy(foreign, site.stick)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, before[1]))
    try:
        said = go_on(site, site.stick).output
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "of another source, other.site; left aside" in said
    assert "The next bundle is 61" in said
    assert "none of these receipts is of" in go_on(site, foreign, 2).output


def test_what_was_forgotten_is_no_gap_and_can_not_be_declared_to_be_without_usage(site, beacon):
    site.collect([day(1)])
    site.export()
    site.import_(beacon.url)
    shutil.copytree(site.isolated, site.root / "snapshot")
    site.collect([day(5)])
    site.export()
    site.import_(beacon.url)
    shutil.rmtree(site.isolated)
    shutil.copytree(site.root / "snapshot", site.isolated)
    go_on(site, site.stick)
    site.collect([day(9)])
    check(site.isolated, "--max-age", "9000d", code=0)
    said = site.export("--no-usage", "2026-01-03..2026-01-04", code=3).output
    assert "before this host was restored" in said


def test_an_export_that_was_cut_off_after_the_stick_blocks_no_later_one(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    with closing(sqlite3.connect(site.isolated / "outbox.sqlite")) as connection:
        connection.execute("UPDATE bundle SET written_to = NULL")
        connection.commit()
    site.apply()
    run("outbox", "prune", "--home", site.isolated, "--older-than", "0d")
    site.collect([report(2, 2)])
    site.export()
    assert [b["written_to"] is None for b in bundles(site)] == [True, False]


# Doubt.


def test_what_was_cut_off_is_doubt_and_is_never_decided_unseen(site):
    site.collect([report(n, n) for n in range(3)])
    site.export()
    with serving(always(answer(503))) as server:
        site.import_(server.url, "--attempts", "1", code=7)
    with closing(sqlite3.connect(site.workstation / "ledger.sqlite")) as connection:
        connection.execute("UPDATE open_record SET state = 'sending' WHERE record < 3")
        connection.commit()
    check(site.workstation, code=6)
    listed = run("ledger", "list", "--home", site.workstation).output
    assert listed.count("cut off") == 2
    resolve = ("ledger", "resolve", "--home", site.workstation, "all", "--resend", "--reason", "x")
    said = run(*resolve, code=6).output
    assert "2 records of it are newly in doubt" in said
    assert "nothing was decided" in said
    assert site.status("workstation")["states"] == {"usage_report": {"in_doubt": 2, "waiting": 1}}
    run(*resolve)


def test_a_decision_by_a_prefix_of_several_ids_decides_nothing(site):
    site.collect([report(n, n) for n in range(3)])
    site.export()
    with serving(always(answer(422))) as server:
        site.import_(server.url, code=6)
    with closing(sqlite3.connect(site.workstation / "ledger.sqlite")) as connection:
        for number in (1, 2, 3):
            identifier = bytes.fromhex("536d4aba") + bytes([number] * 12)
            connection.execute("UPDATE record SET id = ? WHERE number = ?", (identifier, number))
        connection.commit()
    home = ("--home", site.workstation, "--reason", "x")
    for words in (
        ("ledger", "resolve", "536d4aba", "--delivered"),
        ("ledger", "deadletter", "retry", "536d4aba"),
    ):
        assert "several records' ids begin so" in run(*words, *home, code=2).output
    assert site.status("workstation")["states"] == {"usage_report": {"dead": 3}}
    run("ledger", "resolve", "536d4aba01", "--delivered", *home)


# What a bundle and the log may not hold.


def test_a_key_in_a_message_never_reaches_a_bundle(site):
    site.collect([report(1)])
    said = site.export("--message", f"key {LICENSE}", "--message-in-bundle", code=3).output
    assert LICENSE not in said
    assert bundles(site) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pa/ss@host",
        "https://host/?api_key=hunter2secret",
        "https://u:hunter2secret@host/x",
    ],
)
def test_no_more_of_a_url_than_where_it_leads_is_in_the_log(site, url):
    site.import_(url, code=None)
    text = (site.workstation / "audit.jsonl").read_text()
    for secret in ("pa/ss", "hunter2secret"):
        assert secret not in text


def test_a_key_typed_in_the_place_of_its_file_is_neither_shown_nor_logged(site):
    key = "MYCORP-7731-8842-KEY-AAAA"
    said = run(
        "import", "--home", site.workstation, site.stick, "--license-file", key, code=2
    ).output
    assert key not in said
    secret = "2UUR-WWAL-F2CB-DNGC-7EIE-252Y-SSSX-RHTC"
    said += run("receipt", "pair", "--home", site.workstation, secret, code=2).output
    assert secret not in said
    text = (site.workstation / "audit.jsonl").read_text()
    assert key not in text
    assert secret not in text


def test_writing_the_log_asks_no_directory_service(site, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=connect,socket",
        "-o",
        trace,
        sys.executable,
        "-m",
        "airgap",
    ]
    command += ["outbox", "prune", "--home", site.isolated, "--older-than", "1d"]
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    assert trace.read_text() == ""


@pytest.mark.parametrize("head", ["", "0:" + "a" * 64, "-1:" + "a" * 64])
def test_a_head_that_proves_nothing_is_no_head(site, head):
    site.collect([report(1)])
    run("audit", "verify", "--home", site.isolated, "--head", head, code=3)


@pytest.mark.parametrize("junk", [b"x" * 600_000, b"[" * 100_000, b"junk\nmore", b'{"n": 9'])
def test_junk_in_the_log_is_no_torn_line_and_stops_nothing_else(site, junk):
    site.collect([report(1)])
    path = site.isolated / "audit.jsonl"
    path.write_bytes(path.read_bytes() + junk)
    run("audit", "verify", "--home", site.isolated, code=5)
    run("audit", "show", "--home", site.isolated)
    site.collect([report(2, 2)])
    run("audit", "verify", "--home", site.isolated, code=5)


def test_a_fifo_as_log_is_refused_and_not_waited_for(site):
    os.mkfifo(site.isolated / "audit.jsonl")
    for name in ("verify", "show"):
        assert "not a regular file" in run("audit", name, "--home", site.isolated, code=8).output


# Ledgers.


def test_naming_another_ledger_than_the_homes_own_is_refused(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    file = site.workstation / "airgap.toml"
    text = file.read_text()
    file.write_text(f'ledger = "{site.root}/shared.sqlite"\n{text}')
    assert "has a ledger of its own" in site.import_(beacon.url, code=2).output
    assert beacon.totals.kinds["usage_report"].records == 1
    for value in ('""', '"a\\u0000b"', "1"):
        file.write_text(f"ledger = {value}\n{text}")
        assert (
            "ledger in airgap.toml has a value"
            in run("status", "--home", site.workstation, code=2).output
        )


def test_an_outbox_is_no_ledger(site):
    site.collect([report(1)])
    file = site.workstation / "airgap.toml"
    file.write_text(f'ledger = "{site.isolated}/outbox.sqlite"\n{file.read_text()}')
    assert "an outbox is no ledger" in run("status", "--home", site.workstation, code=2).output


def test_a_shared_ledger_has_one_lock_by_whatever_path(site, beacon):
    (site.root / "real").mkdir()
    (site.root / "link").symlink_to(site.root / "real")
    file = site.workstation / "airgap.toml"
    file.write_text(f'ledger = "{site.root}/link/l.sqlite"\n{file.read_text()}')
    site.collect([report(1)])
    site.export()
    with exclusive(site.root / "real" / "l.sqlite.lock", "import"):
        assert "another airgap import" in site.import_(beacon.url, code=2).output


def test_another_content_under_a_known_id_is_a_dead_letter_and_not_a_confirmation(site, beacon):
    def traces(*items):
        return {"license": LICENSE, "trace_transactions": list(items)}

    site.collect([traces(transaction(1))])
    site.export()
    site.import_(beacon.url)
    first = bundles(site)[0]["bundle_id"]
    shutil.rmtree(site.isolated)
    anew = homes.create(site.isolated, "isolated", SOURCE)
    anew.add_key("default", site.exporter, None)
    trust_store.save(anew.trust_path, site.trust)
    go_on(site, receipt_of(site, 1, first, None))
    site.collect([traces(transaction(1, trace_count=99), transaction(2))])
    site.export()
    result = site.import_(beacon.url, code=6)
    assert "under the id of another one" in result.output
    assert beacon.totals.kinds["trace_transactions"].records == 2
    assert site.status("workstation")["states"] == {
        "trace_transactions": {"delivered": 2, "dead": 1}
    }
    site.apply()
    listed = run("ledger", "list", "--home", site.workstation, "--state", "dead").output
    assert "neither sent nor counted" in " ".join(listed.split())
    assert bundles(site)[1]["outcomes"] == {"delivered": 1, "dead": 1}
    assert site.status()["confirmed"]["trace_transactions"]["sums"] == {"trace_count": 5}


def test_an_overlap_with_an_earlier_file_or_bundle_is_reported(site, beacon):
    def codes(result, part):
        value = json.loads(result.stdout)
        return [
            f["code"]
            for item in (value[part] if part != "findings" else [value])
            for f in item["findings"]
        ]

    for runs in (100, 101):
        found = codes(site.collect([report(runs)], "--json"), "findings")
        site.export()
        imported = codes(site.import_(beacon.url, "--json"), "files")
        assert ("windows-overlap" in found, "windows-overlap" in imported) == (runs == 101,) * 2
    assert codes(site.collect([report(101)], "--json"), "findings") == []


def test_a_dry_run_is_as_strict_as_the_run(site, beacon):
    for number in (1, 2):
        site.collect([report(number, number)])
        site.export()
    second = sorted(site.stick.glob("*.airgap"))[1]
    said = site.import_paths([second], beacon.url, "--strict", "--dry-run", code=9).output
    assert "bundle 1 not seen" in said
    assert not (site.workstation / "ledger.sqlite").exists()
    assert not beacon.seen


def test_an_older_receipt_of_a_shared_ledger_adds_nothing(site):
    site.collect([report(1)])
    site.export()
    bundle = bundles(site)[0]["bundle_id"]
    [line] = run("cat", "--home", site.workstation, site.bundle).stdout.splitlines()
    record = json.loads(line)["id"]
    first = receipt_of(site, 1, bundle, None, [(record, "waiting")])
    shown = run("inspect", "--home", site.isolated, first, "--json").stdout
    second = receipt_of(
        site, 1, bundle, None, [(record, "dead")], importer="relay-2", number=2,
        previous=json.loads(shown)["id"],
    )  # fmt: skip
    run("receipt", "apply", "--home", site.isolated, second)
    assert (
        "older than one applied before"
        in run("receipt", "apply", "--home", site.isolated, first).output
    )
    check(site.isolated, code=6)


# Status.


def test_a_bundle_that_was_passed_over_is_named_on_the_isolated_side(site, beacon):
    for number in (1, 2):
        site.collect([report(number, number)])
        site.export()
    min(site.stick.glob("*.airgap")).unlink()
    site.import_(beacon.url)
    site.apply()
    assert "bundle 1 is not confirmed, and later ones are" in check(site.isolated, code=9)


def test_a_record_that_waits_for_ever_is_overdue_on_both_sides(site, monkeypatch):
    now = datetime(2026, 2, 1, tzinfo=UTC)
    monkeypatch.setattr(timestamps, "system_clock", lambda: now)
    site.collect([report(1)])
    site.export()
    with serving(always(answer(401))) as server:
        site.import_(server.url, code=6)
    site.apply()
    check(site.isolated, "--max-age", "35d", code=0)
    now = datetime(2026, 3, 20, tzinfo=UTC)
    assert "is not confirmed" in check(site.isolated, "--max-age", "35d", code=10)
    assert "is not delivered as a whole" in check(site.workstation, "--max-age", "35d", code=10)


def test_one_kind_that_stopped_is_overdue_though_another_goes_on(site, beacon, monkeypatch):
    now = datetime(2026, 6, 1, tzinfo=UTC)
    monkeypatch.setattr(timestamps, "system_clock", lambda: now)
    recent = dict.fromkeys(("start_interval_time", "start_insertion_time"), "2026-05-30T00:00:00Z")
    recent |= dict.fromkeys(("end_interval_time", "end_insertion_time"), "2026-05-31T00:00:00Z")
    site.collect(
        [report(1), {"license": LICENSE, "trace_transactions": [transaction(1, **recent)]}]
    )
    site.export()
    site.import_(beacon.url)
    site.apply()
    for home in (site.isolated, site.workstation):
        assert "usage_report ends 2026-01-06" in check(
            home, "--max-age", "35d", "--gap-over", "9000d", code=10
        )


def test_a_clock_in_the_future_makes_nothing_look_fresh(site, beacon, monkeypatch):
    now = datetime(2099, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(timestamps, "system_clock", lambda: now)
    site.collect([report(1, to_timestamp="2098-12-31T00:00:00Z")])
    site.export("--no-usage", "2000-01-01..2025-01-01")
    now = datetime(2026, 6, 1, tzinfo=UTC)
    result = site.import_(beacon.url, "--json", "--gap-over", "9000d")
    assert "clock-ahead" in result.stdout
    site.apply()
    assert "which is to come" in check(site.isolated, code=10)
    now = datetime(2027, 6, 1, tzinfo=UTC)
    check(site.workstation, "--max-age", "300d", "--gap-over", "9000d", code=10)


def test_a_window_that_goes_backwards_fills_no_gap(site, beacon):
    back = report(7, from_timestamp="2026-01-09T00:00:00Z", to_timestamp="2026-01-02T00:00:00Z")
    site.collect([day(1), day(9), back])
    check(site.isolated, "--max-age", "9000d", code=9)
    site.export()
    site.import_(beacon.url, "--strict", code=9)


def test_usage_in_a_time_declared_without_is_said_on_the_isolated_side(site):
    site.export("--no-usage", "2026-01-01..2026-01-10")
    site.collect([report(1)])
    assert "declared to be without usage, and usage_report counts some" in check(
        site.isolated, code=9
    )


def test_usage_in_a_window_without_length_contradicts_a_declaration(site):
    site.collect(
        [report(5, from_timestamp="2026-01-06T00:00:00Z", to_timestamp="2026-01-06T00:00:00Z")]
    )
    assert "there was usage" in site.export("--no-usage", "2026-01-05..2026-01-07", code=3).output


def test_a_kind_that_is_only_there_where_used_has_no_gaps_of_its_own(site, beacon):
    def traces(number, day):
        times = dict.fromkeys(
            ("start_interval_time", "start_insertion_time"), f"2026-01-{day:02d}T00:00:00Z"
        )
        times |= dict.fromkeys(
            ("end_interval_time", "end_insertion_time"), f"2026-01-{day:02d}T01:00:00Z"
        )
        return {"license": LICENSE, "trace_transactions": [transaction(number, **times)]}

    usage = report(1, from_timestamp="2026-01-01T00:00:00Z", to_timestamp="2026-01-20T00:00:00Z")
    site.collect([usage, traces(1, 2), traces(2, 15)])
    check(site.isolated, "--max-age", "9000d", code=0)
    site.export()
    site.import_(beacon.url, "--strict")
    # Without anything that is reported at all times, a time without any report is the gap.
    site.collect([traces(3, 28)])
    assert "gap 2026-01-20 .. 2026-01-28" in check(site.isolated, "--max-age", "9000d", code=9)


def test_an_accepted_id_that_no_bundle_has_is_said(site, beacon):
    site.collect([report(1)])
    site.export()
    said = site.import_(beacon.url, "--accept-backdated", "0" * 16).output
    assert "no bundle that was taken in has this id" in said


def test_a_pairing_without_a_secret_is_one_json_object_too(site):
    result = run("receipt", "pair", "--home", site.isolated, "relay-1", "--json", code=2)
    assert json.loads(result.stdout)["message"] == "no pairing secret was given"
