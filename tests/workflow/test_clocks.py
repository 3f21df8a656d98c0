"""Clocks are wrong in the field: what they get wrong is said, refused where it matters, never fixed."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from support import SOURCE, report, run, trusted

from airgap import catalog, timestamps
from airgap import home as homes
from airgap.trust import keys
from airgap.trust import store as trust_store


@pytest.fixture
def clock(monkeypatch):
    """Both sides' clock, to be set."""

    class Clock:
        now = datetime(2026, 2, 1, 12, tzinfo=UTC)

    monkeypatch.setattr(timestamps, "system_clock", lambda: Clock.now)
    return Clock


def codes(result):
    return [finding["code"] for finding in json.loads(result.stdout)["findings"]]


def import_findings(result):
    return [f["code"] for file in json.loads(result.stdout)["files"] for f in file["findings"]]


def test_a_clock_that_was_set_back_stops_the_export_until_somebody_says_so(site, beacon, clock):
    site.collect([report(1)])
    site.export()
    clock.now -= timedelta(days=2)
    site.collect([report(2, 2)])
    refused = site.export(code=9).output
    assert "the clock was set back: it says 2026-01-30T12:00:00Z" in refused
    assert "--backdated" in refused
    assert [b["sequence"] for b in site.status()["bundles"]] == [1]
    result = site.export("--backdated", "--json")
    assert "clock-behind" in codes(result)
    # The importer refuses it as well, until somebody says so there.
    refused = site.import_(beacon.url, code=9).output
    assert f"bundle 2 of {SOURCE} can't have been made when it says" in refused
    identifier = site.status()["bundles"][1]["bundle_id"]
    assert f"--accept-backdated {identifier[:16]}" in refused
    assert site.status("workstation")["states"] == {"usage_report": {"delivered": 1}}
    site.import_(beacon.url, "--accept-backdated", "0" * 16, code=9)
    site.import_(beacon.url, "--accept-backdated", identifier[:16])
    # What comes after it is held against it, and not against the wrong clock before.
    clock.now += timedelta(hours=1)
    site.collect([report(3, 3)])
    site.export()
    site.import_(beacon.url)
    assert site.status("workstation")["states"] == {"usage_report": {"delivered": 3}}


@pytest.mark.parametrize("prefix", ["", "abc", "0123456789abcde", "x" * 16])
def test_backdated_bundles_are_accepted_by_enough_of_their_id_only(site, beacon, prefix):
    said = site.import_paths([site.stick], beacon.url, "--accept-backdated", prefix, code=2).output
    assert "at least 16 digits of its id" in said


def test_a_stolen_retired_key_can_not_date_a_bundle_back_to_when_it_was_good(site, beacon, clock):
    old = trusted(site.exporter, "exporter", not_after=datetime(2026, 2, 2, tzinfo=UTC))
    store = trust_store.TrustStore({}).with_key(old).with_key(trusted(site.importer, "importer"))
    trust_store.save(site.workstation / "trust.json", store)
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    # Time goes by, the key ends; the source goes on with a new one.
    new = keys.generate()
    homes.open_home(site.isolated).add_key("new", new, None)
    for home in (site.isolated, site.workstation):
        known = trust_store.load(home / "trust.json", catalog.load())
        trust_store.save(home / "trust.json", known.with_key(trusted(new, "exporter")))
    clock.now = datetime(2026, 2, 10, tzinfo=UTC)
    site.collect([report(2, 2)])
    site.export("--key", "new")
    site.import_(beacon.url)
    # A bundle by the old key, after its end: refused by its date.
    site.collect([report(3, 3)])
    clock.now = datetime(2026, 2, 11, tzinfo=UTC)
    site.export("--key", "default")
    assert "REFUSED" in site.import_(beacon.url, code=4).output
    for path in site.stick.glob("*000003*"):
        path.unlink()
    # The thief sets the clock back to when the key was good: refused by its place.
    shutil.copytree(site.isolated, site.root / "thief")
    _forget_last_bundle(site.root / "thief")
    clock.now = datetime(2026, 2, 1, 13, tzinfo=UTC)
    run(
        "export",
        "--home",
        site.root / "thief",
        "--to",
        site.stick,
        "--key",
        "default",
        "--backdated",
    )
    assert "can't have been made when it says" in site.import_(beacon.url, code=9).output


def _forget_last_bundle(home):
    with closing(sqlite3.connect(home / "outbox.sqlite")) as connection:
        connection.execute("DELETE FROM bundle WHERE sequence = 3")
        connection.commit()


def test_a_late_bundle_can_not_claim_to_be_younger_than_the_next_one(site, beacon, clock):
    site.collect([report(1)])
    site.export()
    first = site.bundle
    later = site.root / "later"
    later.mkdir()
    clock.now += timedelta(days=1)
    site.collect([report(2, 2)])
    run("export", "--home", site.isolated, "--to", later)
    site.import_paths([later], beacon.url)
    site.import_paths([first], beacon.url)
    assert site.status("workstation")["sources"][0]["missing"] == []


def test_records_from_the_future_are_reported_at_every_step_and_never_changed(site, beacon, clock):
    clock.now = datetime(2026, 1, 1, tzinfo=UTC)
    assert codes(site.collect([report(1)], "--json")) == ["record-from-the-future"]
    assert codes(site.export("--json")) == ["record-from-the-future"]
    result = site.import_(beacon.url, "--json")
    assert import_findings(result) == ["record-from-the-future"]
    assert "2026-01-06T00:59:59Z" in result.stdout
    assert beacon.totals.kinds["usage_report"].records == 1
    assert site.status()["bundles"][0]["period"]["to"] == "2026-01-06T00:59:59Z"


def test_an_exporters_clock_far_ahead_is_reported(site, beacon, clock):
    clock.now = datetime(2031, 1, 1, tzinfo=UTC)
    site.collect([report(1)])
    site.export()
    clock.now = datetime(2026, 2, 1, tzinfo=UTC)
    result = site.import_(beacon.url, "--json")
    assert import_findings(result) == ["clock-ahead"]
    assert "one of the two is wrong" in result.stdout


def test_windows_that_overlap_or_go_backwards_are_reported_and_kept(site, beacon, clock):
    again = report(5, 0, to_timestamp="2026-01-06T02:00:00Z")
    back = report(6, 9, to_timestamp="2026-01-06T08:00:00Z")
    result = site.collect([report(1), again, back], "--json")
    assert codes(result) == ["windows-overlap", "window-backwards"]
    assert codes(site.export("--json")) == ["windows-overlap", "window-backwards"]
    result = site.import_(beacon.url, "--json")
    assert import_findings(result) == ["windows-overlap", "window-backwards"]
    assert beacon.totals.kinds["usage_report"].sums["langgraph.platform.runs"] == 12


def test_windows_that_follow_each_other_are_not_reported(site, clock):
    assert codes(site.collect([report(n, n) for n in range(24)], "--json")) == []
