"""SIGKILL and failing disks on the isolated side: nothing lost, nothing half-written."""

import json
import shutil

import pytest
from striking import Host
from support import report, run

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
# strace counts each system call by itself, so each has a sweep of its own.
SYNCS = ("fsync", "fdatasync", "rename", "renameat2", "link", "unlink")

STRIKES = [
    *((call, "", 1) for call in SYNCS),
    ("pwrite64", "", 29),
    ("fsync", "EIO", 3),
    ("fdatasync", "EIO", 3),
    ("pwrite64", "ENOSPC", 29),
]
EVERY = [(call, error, 1) for call, error, _ in STRIKES]
LONG = [
    ("pwrite64", "", 1),
    ("pwrite64", "ENOSPC", 1),
    ("ftruncate", "EIO", 1),
]


@pytest.fixture(
    params=[STRIKES, pytest.param(EVERY, marks=pytest.mark.soak)], ids=["some", "every"]
)
def strikes(request):
    """Where a command is struck; the long form leaves no call out."""
    return request.param


@pytest.fixture
def host(site, forks):
    return Host(site, forks)


def usage(status):
    waiting = status["waiting"].get("usage_report", {"records": 0})["records"]
    return waiting + sum(sum(b["outcomes"].values()) for b in status["bundles"])


def strike_all(host, arguments, check, strikes):
    host.keep()
    for call, error, step in strikes:
        for _ in host.each(call, error, step, *arguments):
            check()
            # The next try does the rest.
            run(*arguments)
            check(done=True)
    assert host.struck >= 8


def test_collect_killed_or_refused_by_the_disk_takes_over_a_file_whole_or_not_at_all(host, strikes):
    site = host.site
    path = site.root / "usage.jsonl"
    path.write_text("".join(json.dumps(report(n, n)) + "\n" for n in range(5)))
    run("status", "--home", site.isolated)

    def check(*, done=False):
        assert usage(site.status()) in ((5,) if done else (0, 5))

    strike_all(host, ("collect", "--home", site.isolated, path), check, strikes)


def test_export_killed_or_refused_by_the_disk_leaves_no_half_bundle_and_loses_no_record(
    host, strikes
):
    site = host.site
    site.collect([report(n, n) for n in range(5)])
    made = []

    def check(*, done=False):
        status = site.status()
        assert usage(status) == 5
        assert len(status["bundles"]) in ((1,) if done else (0, 1))
        if done:
            # What was made before the strike is what leaves after it.
            assert not made or made == [b["bundle_id"] for b in status["bundles"]]
        made[:] = [b["bundle_id"] for b in status["bundles"]]
        for bundle in site.stick.glob("*.airgap"):
            run("verify", "--home", site.workstation, bundle)
            shown = run("inspect", "--home", site.workstation, bundle, "--json").stdout
            assert made == [json.loads(shown)["id"]]
        if done:
            assert len(list(site.stick.glob("*.airgap"))) == 1

    strike_all(host, ("export", "--home", site.isolated, "--to", site.stick), check, strikes)


@pytest.fixture
def answered(host, beacon):
    host.site.collect([report(n, n) for n in range(5)])
    host.site.export()
    host.site.import_(beacon.url)
    return host


def confirmed(site):
    return site.status()["confirmed"].get("usage_report", {"records": 0})["records"]


def test_receipt_apply_killed_or_refused_by_the_disk_confirms_all_or_nothing(answered, strikes):
    host, site = answered, answered.site

    def check(*, done=False):
        assert confirmed(site) in ((5,) if done else (0, 5))
        for receipt in (site.isolated / "receipts").glob("*.receipt"):
            run("verify", "--home", site.isolated, receipt)
        if done:
            assert len(list((site.isolated / "receipts").iterdir())) == 1

    strike_all(host, ("receipt", "apply", "--home", site.isolated, site.stick), check, strikes)


def test_prune_killed_or_refused_by_the_disk_keeps_every_total_and_id(answered, strikes):
    host, site = answered, answered.site
    site.apply()
    path = site.root / "usage.jsonl"

    def check(*, done=False):
        assert confirmed(site) == 5
        again = json.loads(run("collect", "--home", site.isolated, path, "--json").stdout)
        assert again["new"] == {}
        if done:
            assert site.status()["bundles"][0]["pruned"]
            assert not list((site.isolated / "bundles").iterdir())

    strike_all(
        host, ("outbox", "prune", "--home", site.isolated, "--older-than", "0s"), check,
        [s for s in strikes if s[0] != "rename" and s[0] != "link"],
    )  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize("strike", LONG, ids=lambda s: "-".join(map(str, s)))
def test_every_write_of_export_and_apply_may_be_the_last(answered, strike):
    host, site = answered, answered.site
    site.collect([report(9, 9)])

    def check(*, done=False):
        assert usage(site.status()) == 6
        assert confirmed(site) in (0, 5)

    host.keep()
    for arguments in (
        ("export", "--home", site.isolated, "--to", site.stick),
        ("receipt", "apply", "--home", site.isolated, site.stick),
    ):
        for _ in host.each(*strike, *arguments):
            check()
            run(*arguments)


def test_a_killed_command_is_named_by_the_audit_log(host):
    site = host.site
    site.collect([report(1)])
    host.keep()
    arguments = ("export", "--home", site.isolated, "--to", site.stick)
    for _ in host.each("rename", "", 1, *arguments):
        found = json.loads(run("audit", "verify", "--home", site.isolated, "--json").stdout)
        assert list(found["unended"].values()) == ["export"]
    assert host.struck


def test_key_rotate_killed_or_refused_by_the_disk_leaves_a_key_that_signs_the_next_bundle(host):
    """Whatever was cut off: the trust store is whole, no key is lost, and one of two can export."""
    site = host.site
    site.collect([report(n, n) for n in range(2)])
    rotate = ("key", "rotate", "--home", site.isolated, "--no-passphrase")
    export = ("export", "--home", site.isolated, "--to", site.stick)
    host.keep()
    for call, error in (("fsync", ""), ("rename", "")):
        for _ in host.each(call, error, 1, *rotate, "2027"):
            run("trust", "list", "--home", site.isolated)
            homes = [site.isolated / "keys", site.isolated / "keys" / "retired"]
            assert any((home / "default.pem").exists() for home in homes)
            exported = [
                name
                for name in ("default", "2027")
                if run(*export, "--key", name, code=None).exit_code == 0
            ]
            assert exported, "no key signs any more"
            # Rotation can be done again, from whatever key is left, under another name.
            again = run(*rotate, "2028", "--key", exported[-1], code=None)
            assert again.exit_code in (0, 2)
    assert host.struck >= 6


def test_trust_update_killed_or_refused_by_the_disk_takes_the_new_store_or_keeps_the_old_one(host):
    site = host.site
    office = site.root / "office"
    run("init", "--home", office, "--workstation", "office")
    run("key", "generate", "--home", office, "--name", "root-1", "--role", "root", "--no-passphrase")  # fmt: skip
    run("trust", "root", "add", "--home", office, office / "keys" / "root-1.pub")
    for side, role in (("isolated", "exporter"), ("workstation", "importer")):
        public = site.root / side / "keys" / "default.pub"
        run("trust", "add", "--home", office, public, "--role", role, "--source", "bank-a.prod")
    site.collect([report(1)])
    site.export()
    run("trust", "sign", "--home", office, "--to", site.stick, "--key", "root-1")
    named = run("key", "fingerprint", "--home", office, "root-1").output.strip()
    update = ("trust", "update", "--home", site.isolated, site.stick, "--root", named)
    host.keep()
    for call, error in (("fsync", ""), ("rename", ""), ("fsync", "EIO")):
        for _ in host.each(call, error, 1, *update):
            # By the old one or the new one, the bundle verifies all the same.
            run("verify", "--home", site.isolated, site.stick)
            run(*update)
            assert (site.isolated / "trust.signed").exists()
            assert not (site.isolated / "trust.json").exists()
            run("verify", "--home", site.isolated, site.stick)
    assert host.struck >= 3
