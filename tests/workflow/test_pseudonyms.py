"""Keyed pseudonyms: what must not leave stays, and joins, totals and repetitions hold."""

import json
import uuid

import pytest
from support import report, run, transaction, write_lines

TENANT = "3a1c2b6f-4430-4b92-8a5b-79b8b567bbc1"
TAG = "langgraph.platform.tenant_id"


def reported(tenant, number=1):
    tags = {"langgraph.platform.host": "self-hosted", TAG: tenant}
    return report(number, number, tags=tags)


def traces(*numbers, **changes):
    return {
        "license": report()["license"],
        "trace_transactions": [transaction(n, **changes) for n in numbers],
    }


def bundled(site):
    lines = run("cat", "--home", site.isolated, site.bundle).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_equal_values_have_equal_pseudonyms_in_every_kind_and_none_leaves(site, beacon):
    named = ("--pseudonymise", f"tenant_id,{TAG}")
    site.collect([traces(1, 2), reported(TENANT), reported("other")], *named)
    site.export("--compression", "none")
    assert TENANT.encode() not in site.bundle.read_bytes()
    records = bundled(site)
    seen = {r["payload"]["tenant_id"] for r in records if r["kind"] == "trace_transactions"}
    tags = [r["payload"]["tags"][TAG] for r in records if r["kind"] == "usage_report"]
    assert seen == {tags[0]}
    assert uuid.UUID(tags[0]).version == 8
    assert tags[1].startswith("p-")
    assert "other" not in site.bundle.read_bytes().decode("latin-1")
    site.import_(beacon.url)
    totals = beacon.totals.as_map()
    assert totals["trace_transactions"]["sums"]["trace_count"] == 10
    site.apply()
    shown = run("inspect", "--home", site.isolated, site.bundle).stdout
    assert f"usage_report/tags/{TAG}" in shown
    assert "trace_transactions/tenant_id" in shown


def test_the_key_stays_home_and_pseudonyms_are_the_same_tomorrow(site):
    site.collect([traces(1)], "--pseudonymise", "tenant_id")
    key = site.isolated / "pseudonym.key"
    assert key.stat().st_mode & 0o777 == 0o600
    site.collect([traces(2)], "--pseudonymise", "tenant_id")
    result = site.export("--compression", "none")
    seen = {r["payload"]["tenant_id"] for r in bundled(site)}
    assert len(seen) == 1
    secret = key.read_text().strip()
    log = (site.isolated / "audit.jsonl").read_text()
    assert secret not in result.output + log + site.bundle.read_bytes().decode("latin-1")


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_a_site_that_changes_its_mind_counts_nothing_twice(site, order):
    values = [traces(1), reported(TENANT), reported(TENANT)]
    new = []
    for wanted in order:
        options = ("--pseudonymise", f"tenant_id,{TAG}") if wanted else ()
        path = write_lines(site.root / "usage.jsonl", values)
        result = run("collect", "--home", site.isolated, path, *options, "--json")
        new.append(sum(t["records"] for t in json.loads(result.stdout)["new"].values()))
    assert new == [3, 0]


@pytest.mark.parametrize(
    "name",
    ["id", "from_timestamp", "trace_count", "nonsense", "trace_transactions/id", "otlp_logs/body"],
)
def test_what_the_beacon_needs_as_it_is_has_no_pseudonym(site, name):
    result = site.collect([traces(1)], "--pseudonymise", name, code=2)
    assert "no name that can have a pseudonym" in result.stderr
    assert not (site.isolated / "pseudonym.key").exists()


def test_a_damaged_key_is_refused_and_not_shown(site):
    key = site.isolated / "pseudonym.key"
    key.write_text("c0ffee\n")
    key.chmod(0o640)
    assert "0640" in site.collect([traces(1)], "--pseudonymise", "tenant_id", code=2).stderr
    key.chmod(0o600)
    result = site.collect([traces(1)], "--pseudonymise", "tenant_id", code=2)
    assert "64 hexadecimal digits" in result.stderr
    assert "c0ffee" not in result.output
