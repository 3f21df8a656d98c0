"""Gaps are visible: missing bundles, missing periods, declarations, overdue reports."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from support import LICENSE, SOURCE, day, run, transaction

from airgap import timestamps
from airgap.errors import DamagedError


@pytest.fixture
def days(site):
    """Three bundles of one day each: the 1st, the 2nd and the 3rd of January."""
    for number in (1, 2, 3):
        site.collect([day(number)])
        site.export()
    return site, sorted(site.stick.glob("*.airgap"))


def sources(result):
    return json.loads(result.stdout)["sources"]


def test_a_missing_bundle_and_its_period_are_named(days, beacon):
    site, (one, _, three) = days
    result = site.import_paths([one, three], beacon.url, "--gap-over", "1h")
    assert f"{SOURCE}: bundle 2 not seen" in result.output
    assert "usage_report covered 2026-01-01 .. 2026-01-04, gap 2026-01-02 .. 2026-01-03" in (
        result.output
    )
    found = site.status("workstation")["sources"][0]
    assert found["missing"] == [2]
    assert found["covered"][0]["gaps"] == []
    run("status", "--home", site.workstation, "--check", code=9)


def test_strict_sends_nothing_until_what_is_missing_is_there(days, beacon):
    site, (one, two, three) = days
    result = site.import_paths([one, three], beacon.url, "--strict", code=9)
    assert "--strict sends nothing" in result.output
    assert not beacon.seen
    assert site.status("workstation")["states"] == {"usage_report": {"waiting": 2}}
    site.import_paths([two], beacon.url, "--strict", "--resume")
    assert site.status("workstation")["states"] == {"usage_report": {"delivered": 3}}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_late_arrivals_are_accepted_in_any_order(days, beacon, order):
    site, bundles = days
    for index in order:
        site.import_paths([bundles[index]], beacon.url)
    found = site.status("workstation")["sources"][0]
    assert (found["missing"], found["findings"]) == ([], [])


def test_a_period_without_a_report_within_one_bundle_is_named(site, beacon):
    site.collect([day(1), day(5)])
    site.export()
    result = site.import_(beacon.url, "--strict", code=9)
    assert "gap 2026-01-02 .. 2026-01-05" in result.output
    site.import_(beacon.url, "--strict", "--gap-over", "3d")


def test_a_site_without_usage_proves_it_by_a_signed_empty_bundle(site, beacon):
    site.collect([day(1)])
    site.export()
    site.collect([day(5)])
    result = site.export("--no-usage", "2026-01-02..2026-01-05")
    assert "declares no usage 2026-01-02T00:00:00Z .. 2026-01-05T00:00:00Z" in result.output
    site.import_(beacon.url, "--strict", "--gap-over", "1m")
    site.apply()
    bundles = site.status()["bundles"]
    assert [b["confirmed"] for b in bundles] == [True, True, True]
    assert bundles[2]["outcomes"] == {}
    assert "Nothing to write: every bundle is confirmed." in site.export("--again").output


def test_a_site_that_never_had_usage_can_declare_and_have_it_confirmed(site, beacon):
    site.export("--no-usage", "2026-01-01..2026-02-01")
    assert "declares no usage" in site.import_(beacon.url, "--strict").output
    site.apply()
    status = site.status()
    assert status["confirmed_to"] == "2026-02-01T00:00:00Z"
    assert status["covered_and_confirmed"][0]["kind"] == "no usage"
    assert not beacon.seen


@pytest.mark.parametrize("period", ["2026-01-01..2026-01-03", "2026-01-01T23:59:59Z..2026-01-05"])
def test_no_usage_can_not_be_declared_where_there_was_some(site, period):
    site.collect([day(1)])
    result = site.export("--no-usage", period, code=3)
    assert "there was usage in this time" in result.output
    assert site.status()["bundles"] == []


def test_a_report_of_zero_does_not_contradict_a_declaration(site, beacon):
    zero = {"langgraph.platform.runs": 0, "langgraph.platform.nodes": 0}
    site.collect([day(1, measures=zero)])
    site.export("--no-usage", "2026-01-01..2026-01-03")
    site.import_(beacon.url, "--strict")


def test_usage_that_contradicts_a_declaration_is_a_finding(site, beacon):
    site.export("--no-usage", "2026-01-01..2026-01-03")
    site.collect([day(2)])
    site.export()
    result = site.import_(beacon.url, "--strict", code=9)
    assert "declared to be without usage, and usage_report counts some" in result.output


@pytest.mark.parametrize(
    "period", ["2026-01-03..2026-01-01", "2026-01-01..2026-01-01", "2026-01-01..2999-01-01"]
)
def test_a_time_that_can_not_be_declared_is_refused(site, period):
    assert "can be declared" in site.export("--no-usage", period, code=2).output
    assert site.status()["bundles"] == []


@pytest.mark.parametrize(
    "period", ["yesterday", "2026-01-01", "2026-01-01..", "..", "2026-13-01..2026-13-02"]
)
def test_a_period_that_is_none_is_a_mistake_of_usage(site, period):
    assert "two dates" in site.export("--no-usage", period, code=2).output


def test_an_empty_bundle_that_went_missing_is_named_like_any_other(site, beacon):
    site.export("--no-usage", "2026-01-01..2026-01-02")
    site.bundle.unlink()
    site.collect([day(2)])
    site.export()
    assert "bundle 1 not seen" in site.import_(beacon.url, "--strict", code=9).output


def test_kinds_are_covered_each_by_itself(site, beacon):
    hours = {
        "start_insertion_time": "2026-01-02T00:00:00Z",
        "end_insertion_time": "2026-01-02T01:00:00Z",
        "start_interval_time": "2026-01-02T00:00:00Z",
        "end_interval_time": "2026-01-02T01:00:00Z",
    }
    site.collect(
        [day(1), day(2), {"license": LICENSE, "trace_transactions": [transaction(1, **hours)]}]
    )
    site.export()
    site.import_(beacon.url)
    covered = site.status("workstation")["sources"][0]["covered"]
    assert [(c["kind"], c["from"], c["to"]) for c in covered] == [
        ("trace_transactions", "2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z"),
        ("usage_report", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"),
    ]


def monitor(home, *options):
    result = run("status", "--home", home, "--check", "--json", *options, code=None)
    return result.exit_code, json.loads(result.stdout)["problems"]


def test_status_says_by_its_exit_status_what_is_overdue(site, beacon, monkeypatch):
    now = datetime(2026, 2, 1, tzinfo=UTC)
    monkeypatch.setattr(timestamps, "system_clock", lambda: now)
    code, [problem] = monitor(site.isolated)
    assert (code, problem["found"]) == (10, "nothing was collected yet")
    code, [problem] = monitor(site.workstation)
    assert (code, problem["found"]) == (10, "nothing was imported yet")
    site.collect([day(n) for n in range(1, 31)])
    assert monitor(site.isolated) == (0, [])
    now = datetime(2026, 3, 9, tzinfo=UTC)
    code, [problem] = monitor(site.isolated)
    assert code == 10
    assert problem["found"] == "a record collected 2026-02-01T00:00:00Z is not confirmed"
    assert monitor(site.isolated, "--max-age", "37d") == (0, [])
    site.export()
    site.import_(beacon.url)
    assert monitor(site.workstation, "--max-age", "38d") == (0, [])
    site.apply()
    code, [problem] = monitor(site.isolated)
    assert problem["found"] == "confirmed: usage_report ends 2026-01-31, 37 days ago"
    now += timedelta(days=60)
    code, [problem] = monitor(site.workstation)
    assert (code, problem["where"]) == (10, SOURCE)
    assert problem["details"] == ["no bundle came since 2026-03-09T00:00:00Z"]


def test_the_limits_of_status_can_be_set_in_the_configuration(site):
    site.collect([day(1), day(5)])
    file = site.isolated / "airgap.toml"
    file.write_text(file.read_text() + '\n[status]\ngap_over = "5d"\nmax_age = "9000d"\n')
    assert monitor(site.isolated) == (0, [])
    file.write_text(file.read_text().replace("9000d", "a while"))
    said = run("status", "--home", site.isolated, code=2).output
    assert "status.max_age in airgap.toml" in said
    assert 'for instance "36h"' in said


def test_a_gap_is_reported_before_the_age(site):
    site.collect([day(1), day(5)])
    code, problems = monitor(site.isolated, "--max-age", "1s")
    assert code == 9
    assert problems[0]["exit_code"] == 9


def test_a_declaration_beside_records_is_no_bundle(site):
    from airgap import catalog, verify

    site.collect([day(1)])
    site.export()
    with site.bundle.open("rb") as stream:
        bundle = verify.verify_bundle(stream, name="b", trust=site.trust, catalog=catalog.load())
    manifest = {
        **bundle.manifest,
        "no_usage": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "kinds": None},
    }
    with pytest.raises(DamagedError, match="declares that there was no usage"):
        verify._check_declaration(manifest, where="b")


def test_one_kind_can_be_declared_to_be_without_usage_while_another_goes_on(site, beacon):
    hours = dict.fromkeys(("start_insertion_time", "start_interval_time"), "2026-01-03T00:00:00Z")
    hours |= dict.fromkeys(("end_insertion_time", "end_interval_time"), "2026-01-04T00:00:00Z")
    traces = {"license": LICENSE, "trace_transactions": [transaction(1, **hours)]}
    site.collect([day(1), day(5), traces])
    refused = site.export("--no-usage", "2026-01-02..2026-01-05", code=3).output
    assert "the outbox holds trace_transactions for it" in refused
    site.export("--no-usage", "2026-01-02..2026-01-05", "--of", "usage_report")
    assert "declares no usage of usage_report" in site.import_(beacon.url, "--strict").output
    assert monitor(site.isolated, "--max-age", "9000d")[0] == 0
    site.export("--no-usage", "2026-01-06..2026-01-07", "--of", "nonsense", code=3)
