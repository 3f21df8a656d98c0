"""After a restored snapshot, a clone or a lost host: the chain stops, and can go on."""

import json
import shutil

import pytest
from support import SOURCE, day, run, trusted

from airgap import catalog
from airgap import home as homes
from airgap.trust import keys
from airgap.trust import store as trust_store


def snapshot(site, name="snapshot"):
    shutil.copytree(site.isolated, site.root / name)


def restore(site, name="snapshot"):
    shutil.rmtree(site.isolated)
    shutil.copytree(site.root / name, site.isolated)


def clear(site):
    for path in site.stick.iterdir():
        path.unlink()


def carry(site, beacon, number):
    """Collect and carry one day to the beacon; the receipts stay on the stick."""
    site.collect([day(number)])
    site.export()
    site.import_(beacon.url)


def go_on(site, *paths, code=0):
    return run("outbox", "continue", "--home", site.isolated, *(paths or [site.stick]), code=code)


@pytest.fixture
def restored(site, beacon):
    """A host that made and delivered bundles 1 to 3, and was restored to when it had made 1."""
    carry(site, beacon, 1)
    site.apply()
    snapshot(site)
    carry(site, beacon, 2)
    carry(site, beacon, 3)
    restore(site)
    return site


def counted(beacon):
    return beacon.totals.kinds["usage_report"].records


def test_a_restored_host_is_refused_with_advice_and_goes_on_by_receipts(restored, beacon):
    site = restored
    kept = site.root / "kept"
    kept.mkdir()
    for path in site.stick.glob("*.receipt"):
        shutil.copy(path, kept)
    clear(site)
    site.collect([day(4)])
    site.export()
    refused = site.import_(beacon.url, code=9).output
    assert f"the chain of {SOURCE} forks" in refused
    assert "airgap outbox continue" in refused
    clear(site)
    said = go_on(site, kept).output
    assert "Void, their records wait again: bundle 2" in said
    assert "The next bundle is 4; 1 record wait" in said
    for number in (2, 3):
        site.collect([day(number)])
    site.export()
    result = site.import_(beacon.url, "--strict")
    assert "bundle 4 of bank-a.prod: verified, 3 records, 2 of them known" in result.output
    assert counted(beacon) == 4
    site.apply()
    status = site.status()
    assert [b["sequence"] for b in status["bundles"]] == [1, 3, 4]
    assert status["confirmed"]["usage_report"]["records"] == 4
    assert run("verify", "--home", site.workstation, site.bundle).exit_code == 0
    assert [b["adopted"] for b in status["bundles"]] == [False, True, False]
    assert "made before this host" in run("status", "--home", site.isolated).output


def test_a_host_built_anew_goes_on_from_the_newest_receipt(site, beacon):
    for number in (1, 2):
        carry(site, beacon, number)
    shutil.rmtree(site.isolated)
    anew = homes.create(site.isolated, "isolated", SOURCE)
    anew.add_key("default", site.exporter, None)
    trust_store.save(anew.trust_path, site.trust)
    [newest] = site.stick.glob("*000002*.receipt")
    assert "The next bundle is 3; 0 records wait" in go_on(site, newest).output
    clear(site)
    for number in (1, 2, 3):
        site.collect([day(number)])
    site.export()
    site.import_(beacon.url, "--strict")
    assert counted(beacon) == 3
    site.apply()
    assert site.status()["confirmed"]["usage_report"]["records"] == 3


def test_it_is_refused_while_it_is_not_known_which_own_bundles_are_in_the_chain(restored, beacon):
    site = restored
    [third] = site.stick.glob("*000003*.receipt")
    carry_late = site.root / "late"
    carry_late.mkdir()
    shutil.copy(third, carry_late)
    clear(site)
    # The host makes a bundle 2 of its own. The receipt of bundle 3 names the true bundle 2.
    site.collect([day(4)])
    site.export()
    assert "Void, their records wait again: bundle 2" in go_on(site, carry_late).output


def test_a_receipt_too_far_ahead_is_not_enough(site, beacon):
    carry(site, beacon, 1)
    snapshot(site)
    for number in (2, 3, 4):
        carry(site, beacon, number)
    restore(site)
    [fourth] = site.stick.glob("*000004*.receipt")
    refused = go_on(site, fourth, code=3).output
    assert "it is not known whether bundle 1 is in the importer's chain" in refused
    assert "the receipt of bundle 1 or 2 as well" in refused
    assert [b["sequence"] for b in site.status()["bundles"]] == [1]
    go_on(site)
    assert [b["sequence"] for b in site.status()["bundles"]] == [1, 4]


def test_there_is_nothing_to_continue_where_nothing_was_forgotten(site, beacon):
    carry(site, beacon, 1)
    assert "there is nothing to catch up with" in go_on(site, code=3).output


def test_a_receipt_of_another_source_or_a_stranger_is_refused(restored, beacon):
    site = restored
    [third] = site.stick.glob("*000003*.receipt")
    data = bytearray(third.read_bytes())
    data[100] ^= 1
    third.write_bytes(data)
    go_on(site, third, code=5)
    trust_store.save(site.isolated / "trust.json", trust_store.TrustStore({}))
    [second] = site.stick.glob("*000002*.receipt")
    go_on(site, second, code=4)
    assert [b["sequence"] for b in site.status()["bundles"]] == [1]


def test_two_ledgers_that_hold_two_chains_are_not_reconciled(restored, beacon, site):
    # Another workstation, of another name and ledger, took in and confirmed the clone's bundle 2.
    other = homes.create(site.root / "other", "workstation", "relay-2")
    other.add_key("default", site.importer, None)
    trust_store.save(other.trust_path, site.trust)
    receipts = site.root / "receipts"
    receipts.mkdir()
    for path in site.stick.glob("*.receipt"):
        shutil.move(path, receipts)
    for path in site.stick.glob("*00000[23].airgap"):
        path.unlink()
    site.collect([day(9)])
    site.export()
    run(
        *("import", "--home", other.path, site.stick, "--license-file", site.license_file),
        *("--beacon-url", beacon.url, "--api-url", beacon.url),
    )
    site.apply()
    refused = go_on(site, receipts, code=9).output
    assert "two ledgers hold two chains of this source" in refused
    assert [b["sequence"] for b in site.status()["bundles"]] == [1, 2]


def test_receipts_of_before_the_restore_are_recognised_and_change_nothing(restored, beacon):
    site = restored
    go_on(site)
    said = site.apply().output
    assert said.count("made before this host was restored") == 2
    assert site.status()["confirmed"]["usage_report"]["records"] == 1


def test_bundles_of_a_revoked_key_are_signed_again_and_keep_their_place(site, beacon):
    carry(site, beacon, 1)
    for path in site.stick.glob("*.receipt"):
        path.unlink()
    site.collect([day(2)])
    site.export()
    before = site.status()["bundles"]
    run(
        "trust",
        "revoke",
        "--home",
        site.workstation,
        site.exporter.public.key_id,
        "--reason",
        "lost",
    )
    assert "revoked" in site.import_(beacon.url, code=4).output
    new = keys.generate()
    homes.open_home(site.isolated).add_key("2027", new, None)
    for home in (site.isolated, site.workstation):
        store = trust_store.load(home / "trust.json", catalog.load())
        trust_store.save(home / "trust.json", store.with_key(trusted(new, "exporter")))
    signing = ("--again", "--sign-again", "--key", "2027")
    assert "goes with --again" in site.export("--sign-again", "--key", "2027", code=2).output
    assert "--force" in site.export(*signing, code=8).output
    site.export(*signing, "--force")
    after = site.status()["bundles"]
    assert [b["bundle_id"] for b in after] == [b["bundle_id"] for b in before]
    site.import_(beacon.url, "--strict")
    assert counted(beacon) == 2
    site.apply()
    assert site.status()["confirmed"]["usage_report"]["records"] == 2


def test_a_copy_that_is_not_the_bundle_is_never_signed_again(site, beacon):
    carry(site, beacon, 1)
    carry(site, beacon, 2)
    copies = site.isolated / "bundles"
    shutil.copy(copies / "bank-a.prod-000001.airgap", copies / "bank-a.prod-000002.airgap")
    refused = site.export("--again", "--sign-again", code=5).output
    assert "the home's copy is not the bundle that was made" in refused


def test_continuing_is_kept_in_the_audit_log(restored):
    go_on(restored)
    shown = json.loads(run("audit", "show", "--home", restored.isolated, "--json").stdout)
    [entry] = [e for e in shown["entries"] if e["event"] == "continued"]
    assert (entry["sequence"], entry["voided"]) == (3, [])


def test_a_ledger_restored_from_an_old_copy_sends_nothing_again(site, beacon):
    carry(site, beacon, 1)
    shutil.copy(site.workstation / "ledger.sqlite", site.root / "old.sqlite")
    carry(site, beacon, 2)
    for path in site.workstation.glob("ledger.sqlite*"):
        path.unlink()
    shutil.copy(site.root / "old.sqlite", site.workstation / "ledger.sqlite")
    for options in ((), ("--dry-run",)):
        refused = site.import_(beacon.url, *options, code=9).output
        assert "the ledger is older than this home's receipts" in refused
    (site.workstation / "ledger.sqlite").unlink()
    site.import_(beacon.url, code=9)
    assert counted(beacon) == 2
