"""N of M signatures with roles: who must sign a bundle, who must approve of it, and who can stop it."""

import json
from pathlib import Path

import pytest
from support import SOURCE, Site, report, run

from airgap import catalog
from airgap.bundle.envelope import Envelope, decode
from airgap.trust import keys
from airgap.trust import store as trust_store


def reviewer(site: Site, name: str, *, trust: bool = True) -> Path:
    """Make a reviewer's key on the isolated side; the workstation trusts it."""
    run(
        "key",
        "generate",
        "--home",
        site.isolated,
        "--name",
        name,
        "--role",
        "reviewer",
        "--no-passphrase",
    )
    path = site.isolated / "keys" / f"{name}.pub"
    if trust:
        run("trust", "add", "--home", site.workstation, path, "--role", "reviewer", "--source", SOURCE, "--comment", name)  # fmt: skip
    return path


def demand(site: Site, **numbers: int) -> None:
    options = [text for name, value in numbers.items() for text in (f"--{name}", value)]
    run("trust", "policy", "set", "--home", site.workstation, "--source", SOURCE, *options)


def review(site: Site, bundle: Path | None = None) -> None:
    run("review", "--home", site.isolated, bundle or site.bundle)


def countersign(site: Site, name: str, *options: object, code: int = 0, bundle: Path | None = None):
    return run("countersign", "--home", site.isolated, bundle or site.bundle, "--key", name, *options, code=code)  # fmt: skip


@pytest.fixture
def exported(site: Site) -> Site:
    reviewer(site, "alice")
    reviewer(site, "bob")
    site.collect([report(1)])
    site.export("--key", "default")
    return site


def test_import_demands_the_reviewers_that_the_trust_store_says_and_names_who_is_missing(
    exported: Site, beacon
):
    demand(exported, reviewers=2)
    result = exported.import_(beacon.url, code=4)
    assert "2 reviewers of 2; these could sign:" in result.output
    assert "(alice)" in result.output
    assert "(bob)" in result.output
    review(exported)
    countersign(exported, "alice")
    result = exported.import_(beacon.url, code=4)
    assert "missing: 1 reviewer of 2" in result.output
    assert "(alice)" not in result.output.split("these could sign:")[1].split("\n")[0]
    assert not beacon.requests
    countersign(exported, "bob")
    result = exported.import_(beacon.url)
    assert "1 record delivered" in result.output
    both = [run("key", "fingerprint", "--home", exported.isolated, name).output.strip() for name in ("alice", "bob")]  # fmt: skip
    assert all(f in result.output.split("approved by ")[1].split("\n")[0] for f in both)
    log = json.loads(run("audit", "show", "--home", exported.workstation, "--json").stdout)
    [kept] = [entry for entry in log["entries"] if entry["event"] == "bundle imported"]
    assert len(kept["approved_by"]) == 2
    assert kept["signed_by"] == [exported.exporter.public.key_id]


def test_verify_prints_who_signed_with_which_key_in_which_role_and_what_is_missing(exported: Site):
    demand(exported, reviewers=1)
    result = run("verify", "--home", exported.workstation, exported.stick, code=4)
    assert "missing: 1 reviewer of 1" in result.output
    assert f"signed by {exported.exporter.public.fingerprint}" in result.output
    review(exported)
    countersign(exported, "alice")
    result = run("verify", "--home", exported.workstation, exported.stick)
    alice = keys.public_from_bytes(
        (exported.isolated / "keys" / "alice.pub").read_bytes(), where="test"
    )
    assert f"Signed by {exported.exporter.public.fingerprint} (exporter, test)" in result.output
    assert f"Approved by {alice.fingerprint} (reviewer, alice)" in result.output


def test_two_exporters_can_be_demanded_and_both_sign_one_bundle(site: Site, beacon):
    run("key", "generate", "--home", site.isolated, "--name", "second", "--no-passphrase")
    run("trust", "add", "--home", site.workstation, site.isolated / "keys" / "second.pub", "--role", "exporter", "--source", SOURCE)  # fmt: skip
    demand(site, exporters=2)
    site.collect([report(1)])
    site.export("--key", "default")
    result = site.import_(beacon.url, code=4)
    assert "missing: 1 exporter of 2" in result.output
    site.export("--again", "--sign-again", "--force", "--key", "default", "--key", "second")
    assert "1 record delivered" in site.import_(beacon.url).output
    said = json.loads(run("inspect", "--home", site.workstation, site.bundle, "--json").stdout)
    assert len(said["signers"]) == 2


def test_one_denial_outweighs_every_approval_even_where_none_is_demanded(exported: Site, beacon):
    review(exported)
    countersign(exported, "alice")
    countersign(exported, "bob", "--deny", "--reason", "names of people in tags")
    for _ in range(2):
        result = exported.import_(beacon.url, code=4)
        assert "a reviewer denied this bundle" in result.output
        assert "names of people in tags" in result.output
        demand(exported, reviewers=1)
    assert not beacon.requests


def test_whoever_signed_the_bundle_cannot_approve_of_it_as_well(exported: Site, beacon):
    for home in (exported.isolated, exported.workstation):
        store = trust_store.load(home / "trust.json", catalog.load())
        entry = store.keys[exported.exporter.public.key_id]
        both = store.changed(
            type(entry)(**{
                **{name: getattr(entry, name) for name in entry.__dataclass_fields__},
                "roles": ("exporter", "reviewer"),
            })
        )  # fmt: skip
        trust_store.save(home / "trust.json", both)
    demand(exported, reviewers=1)
    review(exported)
    result = countersign(exported, "default", code=4)
    assert "would not count" in result.output
    assert "one key is one person" in result.output
    assert not list(exported.stick.glob("*.approval"))


def test_a_key_without_the_role_an_unknown_one_and_a_revoked_one_do_not_count(
    exported: Site, beacon
):
    demand(exported, reviewers=1)
    review(exported)
    reviewer(exported, "carol", trust=False)
    countersign(exported, "carol")
    countersign(exported, "alice")
    alice = run("key", "fingerprint", "--home", exported.isolated, "alice").output.strip()
    run("trust", "revoke", "--home", exported.workstation, alice[:9], "--reason", "left")
    result = exported.import_(beacon.url, code=4)
    assert "does not count" in result.output
    assert "not in the trust store" in result.output
    assert "revoked key" in result.output
    run("key", "generate", "--home", exported.isolated, "--name", "plain", "--no-passphrase")
    assert "nobody signed as reviewer" in countersign(exported, "plain", code=4).output


def test_an_approval_of_another_bundle_or_under_its_name_does_not_count(exported: Site, beacon):
    demand(exported, reviewers=1)
    review(exported)
    countersign(exported, "alice")
    [approval] = exported.stick.glob("*.approval")
    exported.collect([report(1), report(2, 1)])
    exported.export("--key", "default")
    [second] = exported.stick.glob("*-000002.airgap")
    approval.rename(exported.stick / approval.name.replace("000001", "000002"))
    result = run("verify", "--home", exported.workstation, second, code=4)
    assert "missing: 1 reviewer of 1" in result.output
    result = run("verify", "--home", exported.workstation, exported.stick, code=4)
    assert "1 of 2 files verified" in result.output


def test_every_changed_byte_of_an_approval_makes_it_count_for_nothing(exported: Site):
    demand(exported, reviewers=1)
    review(exported)
    countersign(exported, "alice")
    [path] = exported.stick.glob("*.approval")
    right = path.read_bytes()
    from airgap import verify
    from airgap.errors import AirgapError
    from airgap.trust import approvals

    schemas, trust = catalog.load(), exported.trust
    counted = 0
    with exported.bundle.open("rb") as stream:
        for position in range(len(right)):
            wrong = bytearray(right)
            wrong[position] ^= 0x04
            try:
                found = [approvals.read(bytes(wrong), schemas, name="x")]
            except AirgapError:
                continue
            counted += 1
            with pytest.raises(AirgapError):
                verify.verify_bundle(
                    stream, name="b", trust=trust, catalog=schemas, approvals=found
                )
        assert counted, "some changes leave a readable approval, which must not count"
        found = [approvals.read(right, schemas, name="x")]
        verify.verify_bundle(stream, name="b", trust=trust, catalog=schemas, approvals=found)


def test_one_reviewer_who_approves_twice_is_one(exported: Site, beacon):
    demand(exported, reviewers=2)
    review(exported)
    countersign(exported, "alice")
    [first] = exported.stick.glob("*.approval")
    first.rename(exported.stick / "another.approval")
    countersign(exported, "alice", "--reason", "looked again")
    assert len(list(exported.stick.glob("*.approval"))) == 2
    assert "missing: 1 reviewer of 2" in exported.import_(beacon.url, code=4).output


def test_two_signatures_under_one_approval_count_for_nobody(exported: Site, beacon):
    demand(exported, reviewers=2)
    review(exported)
    countersign(exported, "alice")
    [path] = exported.stick.glob("*.approval")
    envelope = decode(path.read_bytes(), where="x")
    bob = keys.read_private(exported.isolated / "keys" / "bob.pem", lambda _: None)
    both = Envelope(
        envelope.payload_type,
        envelope.payload,
        (*envelope.signatures, bob.sign(envelope.message)),
    )
    path.write_bytes(both.encode())
    result = exported.import_(beacon.url, code=4)
    assert "several people signed one statement" in result.output


def test_countersigning_needs_a_review_and_carries_the_digest_of_what_was_seen(exported: Site):
    result = countersign(exported, "alice", code=2)
    assert "was not reviewed in this home" in result.output
    shown = run("review", "--home", exported.isolated, exported.bundle, "--json")
    digest = json.loads(shown.stdout)["sheet_sha256"]
    countersign(exported, "alice")
    from airgap.trust import approvals

    [path] = exported.stick.glob("*.approval")
    said = approvals.read(path.read_bytes(), catalog.load(), name="x").value
    assert said["review_sha256"] == digest
    assert said["decision"] == "approve"


def test_approvals_that_cannot_be_read_are_said_and_count_for_nothing(exported: Site, beacon):
    (exported.stick / "x.approval").write_bytes(b"not an approval")
    (exported.stick / "y.approval").symlink_to("/etc/hostname")
    (exported.stick / "z.approval").write_bytes(bytes(65 * 1024))
    result = exported.import_(beacon.url)
    for name in "xyz":
        assert f"{name}.approval does not count" in result.output
    demand(exported, reviewers=1)
    run("trust", "list", "--home", exported.workstation)


def test_an_approval_that_is_named_is_taken_for_one_and_never_for_a_bundle(exported: Site, beacon):
    demand(exported, reviewers=1)
    review(exported)
    other = exported.root / "other"
    other.mkdir()
    countersign(exported, "alice", "--to", other)
    [approval] = other.glob("*.approval")
    assert "no bundle that they are about" in run("verify", "--home", exported.workstation, approval, code=2).output  # fmt: skip
    run("verify", "--home", exported.workstation, exported.bundle, code=4)
    run("verify", "--home", exported.workstation, exported.bundle, approval)
    assert exported.import_paths([exported.bundle, approval], beacon.url).exit_code == 0


def test_a_policy_can_be_for_every_source_and_one_of_its_own_comes_first(exported: Site, beacon):
    run("trust", "policy", "set", "--home", exported.workstation, "--reviewers", 1)
    assert "the policy for every source" in exported.import_(beacon.url, code=4).output
    demand(exported, reviewers=0)
    assert exported.import_(beacon.url).exit_code == 0
    result = run("trust", "policy", "remove", "--home", exported.workstation, "--source", SOURCE)
    assert "1 reviewer" in result.output
    run("trust", "policy", "remove", "--home", exported.workstation, "--source", "bank-z", code=2)


def test_a_policy_that_nobody_can_meet_is_said_when_it_is_set(site: Site):
    result = run("trust", "policy", "set", "--home", site.workstation, "--reviewers", 1)
    assert "too few keys here can sign as reviewer, 0 of 1" in result.output


def test_nothing_is_taken_into_the_ledger_that_no_policy_was_held_against(exported: Site):
    from airgap import timestamps, verify
    from airgap.replay.ledger import Ledger

    schemas = catalog.load()
    ledger = Ledger(exported.workstation / "ledger.sqlite", schemas, timestamps.system_clock)
    with exported.bundle.open("rb") as stream:
        bundle = verify.verify_bundle(stream, name="b", trust=exported.trust, catalog=schemas)
        with pytest.raises(TypeError):
            ledger.add_bundle(bundle)
    ledger.close()
