"""The trust store that root keys sign, against the attacks that The Update Framework lists.

(The TUF specification, section 1.5.2, as far as there is one role: arbitrary keys, rollback, freeze,
mix-and-match, wrong threshold, endless data, key compromise.)
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support import SOURCE, Site, report, run, trusted

from airgap import catalog, timestamps
from airgap.bundle import codec
from airgap.bundle.envelope import Envelope
from airgap.errors import AirgapError, DamagedError, SequenceError, TrustError
from airgap.trust import keys, roots, statement
from airgap.trust import store as trust_store
from airgap.trust.entries import Policy, Root
from airgap.trust.keys import PrivateKey
from airgap.trust.store import TrustStore

CATALOG = catalog.load()
NOW = timestamps.parse("2026-03-01T00:00:00Z")
ONE, TWO, THREE, STRANGER = (keys.from_seed(bytes([n]) * 32) for n in (1, 2, 3, 4))
EXPORTER = keys.from_seed(bytes([9]) * 32)


def root(threshold: int, *members: PrivateKey) -> Root:
    return Root(threshold, tuple((key.public, "") for key in members))


def make(version: int, root: Root | None, *signers: PrivateKey, **changes) -> bytes:
    store = TrustStore(
        {EXPORTER.public.key_id: trusted(EXPORTER, "exporter", SOURCE)},
        version,
        changes.pop("expires", None),
        root,
        **changes,
    )
    made = statement.make("trust", store.as_map(), [key.sign for key in signers], CATALOG)
    return made.encode()


def adopt(data: bytes, *named: PrivateKey, current: TrustStore | None = None) -> TrustStore:
    found = roots.follows(
        current or TrustStore({}),
        data,
        CATALOG,
        NOW,
        named=[key.public.key_id[:32] for key in named],
        where="test",
    )
    assert found is not None
    return found


BOTH = root(2, ONE, TWO)
EITHER = root(1, ONE, TWO)


@pytest.fixture(scope="module")
def current() -> TrustStore:
    return adopt(make(5, BOTH, ONE, TWO), ONE, TWO)


def refused(current: TrustStore, data: bytes, error: type[AirgapError], words: str) -> None:
    with pytest.raises(error, match=words):
        adopt(data, ONE, TWO, THREE, STRANGER, current=current)


def test_arbitrary_keys_sign_no_trust_store(current):
    refused(current, make(6, BOTH, STRANGER, THREE), TrustError, "not signed by the root that this")
    theirs = root(1, STRANGER)
    refused(current, make(6, theirs, STRANGER), TrustError, "not signed by the root that this")


def test_a_rollback_to_an_older_version_is_refused(current):
    for version in (4, 1, 0):
        refused(current, make(version, BOTH, ONE, TWO), SequenceError, "older than the one")
    assert adopt(make(6, BOTH, ONE, TWO), current=current).version == 6


def test_two_different_stores_of_one_version_are_refused(current):
    other = make(5, BOTH, ONE, TWO, policies={"*": Policy("*", 1, 1)})
    refused(current, other, SequenceError, "two different trust stores")
    same = make(5, BOTH, ONE, TWO)
    assert roots.follows(current, same, CATALOG, NOW, where="test") is None


def test_a_freeze_ends_when_the_time_of_the_held_back_version_is_over(site: Site, beacon):
    """Whoever keeps newer versions from a site can do so only until the one it has expires."""
    with pytest.raises(TrustError, match="time is over"):
        adopt(make(5, BOTH, ONE, TWO, expires=NOW), ONE, TWO)
    site.collect([report(1)])
    site.export()
    soon = timestamps.system_clock() + timedelta(days=7)
    held = replace(site.trust, root=EITHER, version=9, expires=soon)
    path = trust_store.signed_path(site.workstation / "trust.json")
    path.write_bytes(statement.make("trust", held.as_map(), [ONE.sign], CATALOG).encode())
    assert "the trust store expires at" in run("status", "--home", site.workstation).output
    site.import_(beacon.url)
    assert len(beacon.requests) == 1
    over = replace(held, expires=timestamps.system_clock() - timedelta(seconds=1))
    path.write_bytes(statement.make("trust", over.as_map(), [ONE.sign], CATALOG).encode())
    site.collect([report(1), report(2, 1)])
    site.export()
    newest = max(site.stick.glob("*.airgap"))
    for command in (("import", site.stick), ("verify", site.stick), ("inspect", newest)):
        result = run(command[0], "--home", site.workstation, command[1], code=4)
        assert "the trust store has expired" in result.output
    assert run("status", "--home", site.workstation, "--check", code=4)
    assert len(beacon.requests) == 1


def test_signatures_of_one_version_do_not_serve_another(current):
    """Mix and match: the payload of one with the signatures of another."""
    six, seven = make(6, BOTH, ONE, TWO), make(7, BOTH, STRANGER, THREE)
    good, other = (statement.read("trust", d, CATALOG, where="t")[0] for d in (six, seven))
    mixed = Envelope(other.payload_type, other.payload, good.signatures)
    refused(current, mixed.encode(), TrustError, "not signed by the root")


def test_a_signature_over_another_kind_of_statement_is_no_signature_over_a_trust_store(current):
    payload = codec.encode(TrustStore({}, 6, None, BOTH).as_map())
    for wrong in ("approval", "succession"):
        kind = statement.PAYLOAD_TYPES[wrong]
        unsigned = Envelope(kind, payload, ())
        signatures = (ONE.sign(unsigned.message), TWO.sign(unsigned.message))
        refused(current, Envelope(kind, payload, signatures).encode(), DamagedError, "is no trust")
        relabelled = Envelope(statement.PAYLOAD_TYPES["trust"], payload, signatures)
        refused(current, relabelled.encode(), TrustError, "not signed by the root")


@pytest.mark.parametrize(
    "signers", [(), (ONE,), (TWO,), (ONE, ONE), (ONE, STRANGER)], ids=["0", "1", "2", "1+1", "1+x"]
)
def test_fewer_right_signatures_than_the_threshold_are_not_enough(current, signers):
    refused(current, make(6, BOTH, *signers), TrustError, "not signed by the root that this")


def test_a_new_root_is_signed_by_enough_of_the_old_one_and_enough_of_its_own(current):
    new = root(2, TWO, THREE)
    refused(current, make(6, new, TWO, THREE), TrustError, "the root that this home trusts")
    refused(current, make(6, new, ONE, TWO), TrustError, "its own root")
    assert adopt(make(6, new, ONE, TWO, THREE), current=current).root == new


def test_a_threshold_is_not_lowered_by_one_key_alone(current):
    refused(current, make(6, root(1, ONE), ONE), TrustError, "the root that this home trusts")


def test_after_a_change_of_root_the_old_one_signs_nothing_more(current):
    moved = adopt(make(6, root(1, THREE), ONE, TWO, THREE), current=current)
    refused(moved, make(7, BOTH, ONE, TWO), TrustError, "the root that this home trusts")
    refused(moved, make(7, root(1, THREE), ONE, TWO), TrustError, "the root that this home trusts")


def test_versions_may_be_skipped_but_not_a_change_of_root(current):
    assert adopt(make(9, BOTH, ONE, TWO), current=current).version == 9
    later = make(8, root(1, THREE), THREE)
    refused(current, later, TrustError, "the root that this home trusts")
    between = adopt(make(7, root(1, THREE), ONE, TWO, THREE), current=current)
    assert adopt(later, current=between).version == 8


def test_the_first_store_is_believed_only_for_root_keys_that_a_person_named():
    data = make(5, BOTH, ONE, TWO)
    for named in ((), (ONE,), (STRANGER,), (ONE, STRANGER)):
        with pytest.raises(TrustError, match="the root keys that you named"):
            adopt(data, *named)
    assert adopt(data, ONE, TWO).signed
    assert adopt(make(5, EITHER, TWO), TWO).signed


def test_naming_keys_does_not_help_where_the_home_has_a_root_already(current):
    refused(current, make(6, root(1, STRANGER), STRANGER), TrustError, "that this home trusts")


def test_one_root_key_under_two_ids_or_listed_twice_is_refused(current):
    for members in ((ONE, ONE), (keys.from_seed(bytes([1]) * 32, keys.HYBRID), ONE)):
        data = make(6, root(2, *members), ONE, TWO, *members[:1])
        refused(current, data, TrustError, "stands in the trust store twice")


def test_endless_data_is_not_read(site: Site):
    path = site.stick / "trust-000001.trust"
    with path.open("wb") as file:
        file.truncate(9 * 1024**2)
    result = run("trust", "update", "--home", site.workstation, path, "--root", "0" * 32, code=3)
    assert "too large" in result.output


def test_every_changed_byte_of_a_signed_trust_store_is_refused(current):
    right = make(6, BOTH, ONE, TWO)
    adopt(right, current=current)
    for position in range(len(right)):
        wrong = bytearray(right)
        wrong[position] ^= 0x01
        with pytest.raises(AirgapError):
            adopt(bytes(wrong), current=current)


def publish(office: Path, folder: Path, *signers: str, code: int = 0) -> Path:
    """Sign the office's trust store."""
    options = [text for name in signers for text in ("--key", name)]
    run("trust", "sign", "--home", office, "--to", folder, *options, code=code)
    return max(folder.glob("*.trust"))


@pytest.fixture
def office(site: Site) -> Path:
    """A home of the people who hold the root keys, with the site's keys in its trust store."""
    office = site.root / "office"
    run("init", "--home", office, "--workstation", "office")
    for name in ("root-1", "root-2"):
        run(
            "key", "generate", "--home", office, "--name", name, "--role", "root", "--no-passphrase"
        )
        run("trust", "root", "add", "--home", office, office / "keys" / f"{name}.pub", "--comment", name)  # fmt: skip
    for side, role in (("isolated", "exporter"), ("workstation", "importer")):
        public = site.root / side / "keys" / "default.pub"
        run("trust", "add", "--home", office, public, "--role", role, "--source", SOURCE)
    return office


def fingerprint(office: Path, name: str) -> str:
    return run("key", "fingerprint", "--home", office, name).output.strip()


def test_the_whole_life_of_a_signed_trust_store(site: Site, beacon, office: Path):
    first = publish(office, site.stick, "root-1")
    for home in (site.isolated, site.workstation):
        assert "has no root yet" in run("trust", "update", "--home", home, first, code=2).output
        result = run("trust", "update", "--home", home, site.stick, "--root", fingerprint(office, "root-1"))  # fmt: skip
        assert "Next: airgap trust list" in result.output
        assert "Signed by 1 of these root keys" in run("trust", "list", "--home", home).output
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    site.apply()
    assert site.status()["bundles"][0]["confirmed"]
    for change in (
        ("trust", "add", "--home", site.workstation, office / "keys" / "root-1.pub", "--role", "importer"),
        ("trust", "revoke", "--home", site.workstation, site.exporter.public.fingerprint[:9]),
        ("trust", "policy", "set", "--home", site.workstation, "--reviewers", 1),
        ("key", "rotate", "--home", site.isolated, "new", "--no-passphrase"),
    ):  # fmt: skip
        assert "takes its trust from root keys" in run(*change, code=None).output


def test_a_lost_root_key_is_replaced_by_the_second_one(site: Site, office: Path):
    """And so is a lost exporter's key, without a call to the workstation."""
    run("trust", "update", "--home", site.workstation, publish(office, site.stick, "root-1"), "--root", fingerprint(office, "root-1"))  # fmt: skip
    lost = fingerprint(office, "root-1")
    (office / "keys" / "root-1.pem").unlink()
    run("trust", "root", "remove", "--home", office, lost)
    run(
        "key", "generate", "--home", office, "--name", "root-3", "--role", "root", "--no-passphrase"
    )
    run("trust", "root", "add", "--home", office, office / "keys" / "root-3.pub")
    run(
        "trust",
        "revoke",
        "--home",
        office,
        site.exporter.public.fingerprint[:9],
        "--reason",
        "lost",
    )
    result = run(
        "trust", "update", "--home", site.workstation, publish(office, site.stick, "root-2")
    )
    assert "revoked at" in result.output
    listed = run("trust", "list", "--home", site.workstation).output
    assert lost not in listed
    assert fingerprint(office, "root-3") in listed
    run("trust", "update", "--home", site.workstation, publish(office, site.stick, "root-3"))


def test_a_stick_with_an_older_store_rolls_nothing_back_and_the_newest_of_several_is_taken(
    site: Site, office: Path, tmp_path: Path
):
    old = publish(office, site.stick, "root-1")
    newer = publish(office, site.stick, "root-1")
    assert old != newer
    name = fingerprint(office, "root-1")
    result = run("trust", "update", "--home", site.workstation, site.stick, "--root", name)
    assert "version" in result.output
    before = (site.workstation / "trust.signed").read_bytes()
    assert before == newer.read_bytes()
    assert "older than" in run("trust", "update", "--home", site.workstation, old, code=9).output
    assert (site.workstation / "trust.signed").read_bytes() == before
    same = run("trust", "update", "--home", site.workstation, newer)
    assert "is here already; nothing changed" in same.output


def test_a_second_root_holder_adds_a_signature_where_two_are_demanded(site: Site, office: Path):
    run("trust", "root", "remove", "--home", office, fingerprint(office, "root-2"))
    run("trust", "root", "add", "--home", office, office / "keys" / "root-2.pub", "--threshold", 2)
    path = publish(office, site.stick, "root-1")
    named = [t for n in ("root-1", "root-2") for t in ("--root", fingerprint(office, n))]
    result = run("trust", "update", "--home", site.workstation, path, *named, code=4)
    assert "2 right signatures" in result.output
    run("trust", "sign", "--home", office, path, "--key", "root-1", code=4)
    assert (
        "Next, in each home"
        in run("trust", "sign", "--home", office, path, "--key", "root-2").output
    )
    run("trust", "update", "--home", site.workstation, path, *named)


def test_the_time_of_a_signed_store_is_kept_when_it_is_signed_again_and_never_over_at_once(
    site: Site, office: Path
):
    assert "has no --expires" in run("trust", "sign", "--home", office, "--to", site.stick, "--key", "root-1").output  # fmt: skip
    past = run("trust", "sign", "--home", office, "--to", site.stick, "--key", "root-1", "--expires", "2020-01-01", code=2)  # fmt: skip
    assert "time would be over" in past.output
    far = "2999-12-31"
    run("trust", "sign", "--home", office, "--to", site.stick, "--key", "root-1", "--expires", far)
    again = publish(office, site.stick, "root-1")
    named = fingerprint(office, "root-1")
    run("trust", "update", "--home", site.workstation, again, "--root", named)
    assert f"until {far}" in run("trust", "list", "--home", site.workstation).output


def test_a_home_whose_own_key_the_new_store_leaves_out_is_told(site: Site, office: Path):
    run("trust", "remove", "--home", office, site.importer.public.fingerprint[:9])
    path = publish(office, site.stick, "root-1")
    result = run("trust", "update", "--home", site.workstation, path, "--root", fingerprint(office, "root-1"))  # fmt: skip
    assert (
        f"own key {site.importer.public.fingerprint} is not in the new trust store" in result.output
    )


def test_a_damaged_or_missing_signed_store_never_counts_as_the_homes_own(
    site: Site, office: Path, beacon
):
    """``trust.json`` is still there from before; it must not come back by a damaged file."""
    run("trust", "update", "--home", site.workstation, publish(office, site.stick, "root-1"), "--root", fingerprint(office, "root-1"))  # fmt: skip
    site.collect([report(1)])
    site.export()
    path = site.workstation / "trust.signed"
    data = path.read_bytes()
    for wrong in (b"", data[:-1], data[:100], b"{}", data.replace(b"exporter", b"importer", 1)):
        path.write_bytes(wrong)
        assert run("verify", "--home", site.workstation, site.bundle, code=None).exit_code in (
            3,
            4,
            5,
        )
    path.unlink()
    assert "not in the trust store" in site.import_(beacon.url, code=4).output
    assert not beacon.requests
