"""A stick with many bundles of many sources: every chain is looked at by itself, and all is delivered once."""

import json

import pytest
from many_bundles import fill_stick
from support import run

from airgap.replay import receipts

SOURCES, BUNDLES, RECORDS = 6, 10, 2


@pytest.mark.both_ledgers
def test_many_bundles_of_many_sources_are_each_taken_in_delivered_and_answered(
    site, beacon, monkeypatch
):
    count = fill_stick(site, SOURCES, BUNDLES, RECORDS)
    withheld = site.stick / "site-003-000005.airgap"
    withheld.rename(site.root / withheld.name)
    said = site.import_(beacon.url).output
    assert "site-003: bundle 5 not seen" in said
    (site.root / withheld.name).rename(withheld)
    looked_at = []
    real = receipts._survey
    monkeypatch.setattr(
        receipts, "_survey", lambda *a, **k: (looked_at.append(a[1].sequence), real(*a, **k))[1]
    )
    said = json.loads(site.import_(beacon.url, "--json").stdout)
    # Of bundles that were seen to be delivered as a whole nobody looks at the records again.
    assert looked_at == [5]
    assert beacon.totals.kinds["usage_report"].records == count
    assert len(list(site.stick.glob("*.receipt"))) == SOURCES * BUNDLES
    status = json.loads(run("status", "--home", site.workstation, "--json").stdout)
    assert status["states"] == {"usage_report": {"delivered": count}}
    assert [
        (source["source"], source["bundles"], source["missing"]) for source in status["sources"]
    ] == [(f"site-{n:03d}", BUNDLES, []) for n in range(SOURCES)]
    assert all(not kind["gaps"] for source in status["sources"] for kind in source["covered"])
    month = json.loads(run("report", "--home", site.workstation, "--from", "2026-01-01", "--to", "2026-01-01", "--json").stdout)  # fmt: skip
    assert month["totals"]["delivered"]["usage_report"]["records"] == SOURCES * BUNDLES * RECORDS


def test_answers_that_are_asked_for_later_still_come_in_a_receipt_of_their_own(site, beacon):
    """What is known of a delivered bundle is known for a form of the receipt, with answers or without."""
    site.collect([{"license": "lcl_EXAMPLE_not_a_real_key"}])
    site.export()
    for options, expected in (((), 1), ((), 1), (("--with-answers",), 2), (("--with-answers",), 2), ((), 3)):  # fmt: skip
        site.import_(beacon.url, *options)
        assert len(list(site.stick.glob("*.receipt"))) == expected
    site.apply()


def test_a_receipt_that_is_gone_from_the_home_is_made_again(site, beacon):
    site.collect([{"license": "lcl_EXAMPLE_not_a_real_key"}])
    site.export()
    site.import_(beacon.url)
    for folder in (site.stick, site.workstation / "receipts"):
        for path in folder.glob("*.receipt"):
            path.unlink()
    site.import_(beacon.url)
    assert [path.name for path in site.stick.glob("*.receipt")] == ["bank-a.prod-000001-r2.receipt"]
    site.apply()
