"""What a hostile reader of keys, approvals, succession and the signed trust store found, each held."""

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support import LICENSE, REPOSITORY, SOURCE, Site, report, run, trusted

from airgap import catalog, timestamps
from airgap.bundle.envelope import Signature, decode
from airgap.errors import TrustError
from airgap.home import open_home
from airgap.review.tally import Field
from airgap.trust import approvals, keys, roots, statement, succession
from airgap.trust import store as trust_store
from airgap.trust.approvals import Reviews
from airgap.trust.entries import Place, Policy, Root
from airgap.trust.store import TrustStore

CATALOG = catalog.load()
NOW = timestamps.parse("2026-03-01T00:00:00Z")


def make_key(home: Path, name: str, role: str) -> Path:
    run("key", "generate", "--home", home, "--name", name, "--role", role, "--no-passphrase")
    return home / "keys" / f"{name}.pub"


def rotate(home: Path, name: str, *options: object, code: int | None = 0):
    return run("key", "rotate", "--home", home, name, "--no-passphrase", *options, code=code)


def demand(site: Site, *options: object) -> None:
    run("trust", "policy", "set", "--home", site.workstation, "--source", SOURCE, *options)


def trust_reviewer(site: Site, public: Path, comment: str) -> None:
    run("trust", "add", "--home", site.workstation, public, "--role", "reviewer", "--source", SOURCE, "--comment", comment)  # fmt: skip


def approval(bundle_id: str, key: keys.PrivateKey, made_at: str) -> approvals.Approval:
    value = {
        "bundle_id": bundle_id,
        "source": SOURCE,
        "sequence": 1,
        "decision": "approve",
        "review_sha256": None,
        "comment": None,
    }
    name, made = approvals.make(value, key.sign, CATALOG, now=timestamps.parse(made_at))
    return approvals.read(made.encode(), CATALOG, name=name)


# One person, two keys.


def test_a_reviewer_and_the_key_that_follows_hers_are_one_person():
    """A retired key's approval is dated by whoever holds it."""
    old, new, signer = keys.generate(), keys.generate(), keys.generate()
    store = TrustStore({}).with_key(trusted(old, "reviewer", SOURCE))
    made = succession.make(old, new, SOURCE, None, CATALOG, NOW).encode()
    store, _, _ = succession.follow(store, made, CATALOG, NOW, where="x")
    given = [
        approval("ab" * 32, old, "2026-02-01T00:00:00Z"),
        approval("ab" * 32, new, "2026-03-02T00:00:00Z"),
    ]
    exporter = trusted(signer, "exporter", SOURCE)
    place = Place(SOURCE, NOW, 1)
    counted = Reviews.of(given, "ab" * 32, place, [exporter], store)
    with pytest.raises(TrustError, match="signatures are missing"):
        approvals.require(Policy(SOURCE, 1, 2), [exporter], counted, SOURCE, store, where="x")
    approvals.require(Policy(SOURCE, 1, 1), [exporter], counted, SOURCE, store, where="x")


@pytest.mark.parametrize("between", [False, True], ids=["next", "after one that was removed"])
def test_an_exporter_and_the_key_that_follows_its_key_are_one_person(
    site: Site, beacon, between: bool
):
    """By itself: ``from_sequence`` is the old key's word, so both can sign for as long as it likes."""
    demand(site, "--exporters", 2)
    site.collect([report(1)])
    old, new = site.exporter, keys.generate()
    middle = keys.generate()
    steps = [(old, middle), (middle, new)] if between else [(old, new)]
    path = site.root / "next.succession"
    for one, other in steps:
        path.write_bytes(succession.make(one, other, SOURCE, 4_000_000_000, CATALOG, NOW).encode())
        for home in (site.workstation, site.isolated):
            run("trust", "succeed", "--home", home, path)
    open_home(site.isolated).add_key("new", new, None)
    if between:
        run("trust", "remove", "--home", site.workstation, middle.public.fingerprint[:9])
    site.export("--key", "default", "--key", "new")
    result = site.import_(beacon.url, code=4)
    assert "missing: 1 exporter of 2" in result.output
    assert not beacon.requests


def test_the_key_that_follows_a_signers_key_cannot_approve_of_the_bundle():
    old, new = keys.generate(), keys.generate()
    both = replace(trusted(old, "exporter", SOURCE), roles=("exporter", "reviewer"))
    made = succession.make(old, new, SOURCE, 2, CATALOG, NOW).encode()
    store, signer, _ = succession.follow(
        TrustStore({}).with_key(both), made, CATALOG, NOW, where="x"
    )
    given = [approval("ab" * 32, new, "2026-03-02T00:00:00Z")]
    counted = Reviews.of(given, "ab" * 32, Place(SOURCE, NOW, 1), [signer], store)
    assert not counted.approved
    assert "one person" in counted.passed_over[0]


# Rotation.


def test_a_reviewers_key_in_a_home_of_her_own_can_be_followed(site: Site, beacon):
    own = site.root / "alice"
    run("init", "--home", own, "--workstation", "alice-laptop")
    public = make_key(own, "alice", "reviewer")
    trust_reviewer(site, public, "alice")
    rotate(own, "alice-2027", "--key", "alice")
    path = own / "keys" / "alice-2027.succession"
    run("trust", "succeed", "--home", site.workstation, path)
    run("trust", "add", "--home", own, site.isolated / "keys" / "default.pub", "--role", "exporter", "--source", SOURCE)  # fmt: skip
    demand(site, "--reviewers", 1)
    site.collect([report(1)])
    site.export()
    run("review", "--home", own, site.bundle)
    run("countersign", "--home", own, site.bundle, "--key", "alice-2027")
    assert "1 record delivered" in site.import_(beacon.url).output


def test_a_key_whose_writing_was_cut_off_keeps_no_command_from_the_others(site: Site, monkeypatch):
    """Struck between the two files of the new pair, as by a power cut."""
    for step in (1, 2):
        with pytest.raises(PowerCut):
            struck_after(step, monkeypatch, "key", "rotate", "--home", site.isolated, f"cut-{step}", "--no-passphrase")  # fmt: skip
        run("key", "list", "--home", site.isolated)
        site.collect([report(step, step)])
        assert "1 file" in site.export().output


@pytest.mark.parametrize("writes", [1, 2, 3, 4])
def test_a_rotation_that_was_cut_off_is_ended_by_the_same_command(
    site: Site, monkeypatch, beacon, writes: int
):
    """After the private key, its public half, the succession, the trust store."""
    with pytest.raises(PowerCut):
        struck_after(writes, monkeypatch, "key", "rotate", "--home", site.isolated, "2027", "--no-passphrase")  # fmt: skip
    rotated = rotate(site.isolated, "2027", code=None)
    name = "2027"
    if rotated.exit_code:
        assert writes < 4, rotated.output
        assert "choose another name" in rotated.output
        name = "2028"
        rotate(site.isolated, name)
    assert {p.name for p in (site.isolated / "keys" / "retired").iterdir()} == {"default.pem", "default.pub"}  # fmt: skip
    run("trust", "succeed", "--home", site.workstation, site.isolated / "keys" / f"{name}.succession")  # fmt: skip
    site.collect([report(1)])
    site.export()
    assert "1 record delivered" in site.import_(beacon.url).output


class PowerCut(BaseException):
    """The machine stopped."""


def struck_after(writes: int, monkeypatch: pytest.MonkeyPatch, *command: object) -> None:
    """Run a command that stops right after so many files in the home were written."""
    from airgap import files, home
    from airgap.cli import key
    from airgap.trust import store

    left = [writes]
    write = files.write_atomically

    def writing(*args, **kwargs):
        write(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            raise PowerCut

    with monkeypatch.context() as patch:
        for module in (home, key, store):
            patch.setattr(module, "write_atomically", writing)
        run(*command)


def test_a_rotation_asked_for_twice_says_what_is_in_force(site: Site):
    rotate(site.isolated, "2027")
    before = (site.isolated / "trust.json").read_bytes()
    assert "Next: carry it to the other side" in rotate(site.isolated, "2027").output
    assert (site.isolated / "trust.json").read_bytes() == before


def test_a_rotation_that_was_written_and_not_in_force_is_forgotten(site: Site, monkeypatch):
    """The bundles that the old key has signed since would be refused by whoever was told."""
    with pytest.raises(PowerCut):
        struck_after(3, monkeypatch, "key", "rotate", "--home", site.isolated, "2027", "--no-passphrase")  # fmt: skip
    site.collect([report(1)])
    site.export()
    assert "choose another name" in rotate(site.isolated, "2027", code=2).output
    assert not (site.isolated / "keys" / "2027.succession").exists()


def test_a_key_past_its_time_is_refused_a_successor_before_anything_is_written(site: Site):
    store = trust_store.load(site.isolated / "trust.json", CATALOG)
    entry = store.keys[site.exporter.public.key_id]
    trust_store.save(site.isolated / "trust.json", store.changed(replace(entry, not_after=NOW)))
    before = sorted(site.isolated.rglob("*"))
    assert "airgap key generate" in rotate(site.isolated, "2027", code=4).output
    after = [p for p in site.isolated.rglob("*") if p not in before]
    assert not [p for p in after if p.parent.name == "keys"]
    assert "airgap key rotate" not in run("status", "--home", site.isolated).output


def test_a_stolen_key_that_has_expired_names_no_successor_by_a_date_of_its_own_choice():
    old, new = keys.generate(), keys.generate()
    store = TrustStore({}).with_key(trusted(old, "exporter", SOURCE, not_after=NOW))
    made_at = NOW - timedelta(days=90)
    made = succession.make(old, new, SOURCE, 9, CATALOG, made_at).encode()
    later = NOW + timedelta(days=365)
    with pytest.raises(TrustError, match="time is over"):
        succession.follow(store, made, CATALOG, later, where="x")
    assert succession.follow(store, made, CATALOG, made_at, where="x")[2].public == new.public


@pytest.mark.parametrize(
    ("role", "first", "days", "words"),
    [
        ("exporter", None, 0, "where the old key ends"),
        ("reviewer", 4_000_000_000, 0, "where the old key ends"),
        ("importer", None, 2, "still to come"),
        ("exporter", 2, 2, "still to come"),
    ],
)
def test_no_succession_leaves_the_old_key_in_force(role, first, days: int, words: str):
    """Whoever stole it would have two keys, and its owner would notice nothing."""
    old, new = keys.generate(), keys.generate()
    store = TrustStore({}).with_key(trusted(old, role, SOURCE))
    made = succession.make(old, new, SOURCE, first, CATALOG, NOW + timedelta(days=days)).encode()
    with pytest.raises(TrustError, match=words):
        succession.follow(store, made, CATALOG, NOW, where="x")


def test_no_bundle_is_made_while_a_key_is_rotated(site: Site, monkeypatch):
    """Else the old key signs the bundle that is to be the new one's, while the passphrase is typed."""
    from airgap.cli import key

    make = key._make

    def meanwhile(*args, **kwargs):
        site.collect([report(1)])
        assert "is running on this home" in site.export(code=2).output
        return make(*args, **kwargs)

    monkeypatch.setattr(key, "_make", meanwhile)
    rotate(site.isolated, "2027")
    site.export()
    path = site.isolated / "keys" / "2027.succession"
    run("trust", "succeed", "--home", site.workstation, path)
    run("verify", "--home", site.workstation, site.bundle)


def test_a_revoked_keys_successor_is_named_since_it_is_still_trusted(site: Site):
    """Whoever has stolen the key may have made it."""
    rotate(site.isolated, "2027")
    path = site.isolated / "keys" / "2027.succession"
    run("trust", "succeed", "--home", site.workstation, path)
    heir = run("key", "fingerprint", "--home", site.isolated, "2027").output.strip()
    old = site.exporter.public.fingerprint
    result = run("trust", "revoke", "--home", site.workstation, old[:9], "--reason", "stolen")
    assert f"{heir}, which it named as its successor, is still trusted" in result.output


# The trust store.


@pytest.mark.parametrize(
    "command",
    [
        ("trust", "revoke", "{key}", "--reason", "\u200b" * 100),
        ("trust", "root", "add", "{public}", "--comment", "\u200b" * 100),
    ],
    ids=["revoke", "root"],
)
def test_no_text_of_an_operator_makes_a_trust_store_that_is_not_valid(site: Site, command):
    """Escaped characters take more room than was given."""
    public = make_key(site.isolated, "root-1", "root")
    where = {"key": site.exporter.public.fingerprint[:9], "public": public}
    run(*(str(word).format(**where) for word in command), "--home", site.workstation, code=None)
    run("trust", "list", "--home", site.workstation)


def office_of(site: Site, threshold: int = 1) -> Path:
    office = site.root / "office"
    run("init", "--home", office, "--workstation", "office")
    for name in ("root-1", "root-2"):
        public = make_key(office, name, "root")
        run("trust", "root", "add", "--home", office, public, "--comment", name)
    if threshold == 2:
        run("trust", "root", "remove", "--home", office, fingerprint(office, "root-2"))
        run("trust", "root", "add", "--home", office, public, "--threshold", 2)
    for side, role in (("isolated", "exporter"), ("workstation", "importer")):
        own = site.root / side / "keys" / "default.pub"
        run("trust", "add", "--home", office, own, "--role", role, "--source", SOURCE)
    return office


def fingerprint(home: Path, name: str) -> str:
    return run("key", "fingerprint", "--home", home, name).output.strip()


def sign(office: Path, folder: Path, *names: str) -> Path:
    run("trust", "sign", "--home", office, "--to", folder, *(t for n in names for t in ("--key", n)))  # fmt: skip
    return max(folder.glob("*.trust"))


def update(site: Site, *options: object, code: int = 0):
    return run("trust", "update", "--home", site.workstation, *options, code=code)


def test_one_root_holder_alone_is_not_believed_where_two_were_named():
    """By a store of his own that demands one signature, shown to a home that has none yet."""
    one, two = keys.generate(), keys.generate()
    alone = Root(1, ((one.public, ""), (two.public, "")))
    made = statement.make("trust", TrustStore({}, 1, None, alone).as_map(), [one.sign], CATALOG)
    named = [key.public.key_id[:32] for key in (one, two)]
    for root in (alone, Root(1, ((one.public, ""),))):
        value = TrustStore({}, 1, None, root).as_map()
        made = statement.make("trust", value, [one.sign], CATALOG)
        with pytest.raises(TrustError, match="that you named"):
            roots.follows(TrustStore({}), made.encode(), CATALOG, NOW, named=named, where="x")
        found = roots.follows(
            TrustStore({}), made.encode(), CATALOG, NOW, named=named[:1], where="x"
        )
        assert found is not None


def test_a_damaged_file_on_the_stick_keeps_no_home_from_its_new_trust_store(site: Site):
    office = office_of(site)
    sign(office, site.stick, "root-1")
    (site.stick / "trust-000000.trust").write_bytes(b"\x00junk")
    result = update(site, site.stick, "--root", fingerprint(office, "root-1"))
    assert "trust-000000.trust" in result.output
    assert (site.workstation / "trust.signed").exists()
    (site.stick / "trust-000009.trust").write_bytes(b"\x00junk")
    update(site, site.stick / "trust-000009.trust", code=5)


def test_an_older_store_beside_the_one_that_is_here_is_no_error(site: Site):
    office = office_of(site)
    sign(office, site.stick, "root-1")
    sign(office, site.stick, "root-1")
    update(site, site.stick, "--root", fingerprint(office, "root-1"))
    assert "is here already; nothing changed" in update(site, site.stick).output


def test_a_newer_store_that_is_not_taken_is_named_though_another_one_is(site: Site):
    office = office_of(site, 2)
    sign(office, site.stick, "root-1", "root-2")
    newer = sign(office, site.stick, "root-1")
    named = [t for n in ("root-1", "root-2") for t in ("--root", fingerprint(office, n))]
    result = update(site, site.stick, *named)
    assert newer.name in result.output
    assert "is not signed by" in result.output


def test_an_update_says_which_demands_and_root_keys_it_changes(site: Site):
    office = office_of(site)
    run("trust", "policy", "set", "--home", office, "--source", SOURCE, "--reviewers", 2)
    update(site, sign(office, site.stick, "root-1"), "--root", fingerprint(office, "root-1"))
    run("trust", "policy", "remove", "--home", office, "--source", SOURCE)
    run("trust", "root", "remove", "--home", office, fingerprint(office, "root-2"))
    result = update(site, sign(office, site.stick, "root-1"))
    assert f"of bundles of {SOURCE}: 1 exporter, 0 reviewers" in result.output
    assert f"No root key any more: {fingerprint(office, 'root-2')}" in result.output


def test_a_signature_that_does_not_hold_neither_counts_nor_keeps_a_root_holder_from_signing(
    site: Site,
):
    """A carrier adds one under the second holder's id."""
    office = office_of(site, 2)
    path = sign(office, site.stick, "root-1")
    envelope = decode(path.read_bytes(), where="test")
    second = keys.public_from_bytes((office / "keys" / "root-2.pub").read_bytes(), where="x")
    forged = Signature(second.key_id, "ed25519", bytes(64))
    path.write_bytes(replace(envelope, signatures=(*envelope.signatures, forged)).encode())
    result = run("trust", "sign", "--home", office, path, "--key", "root-2")
    assert "in each home: airgap trust update" in result.output
    named = [t for n in ("root-1", "root-2") for t in ("--root", fingerprint(office, n))]
    update(site, path, *named)


def test_a_root_holder_reads_what_the_second_signature_is_for(site: Site):
    office = office_of(site, 2)
    path = sign(office, site.stick, "root-1")
    result = run("trust", "sign", "--home", office, path, "--key", "root-2")
    assert site.exporter.public.fingerprint in result.output


def test_so_many_signatures_that_nobody_could_read_the_file_are_refused_and_it_stays(site: Site):
    office = office_of(site, 2)
    path = sign(office, site.stick, "root-1")
    envelope = decode(path.read_bytes(), where="test")
    many = [keys.generate().sign(b"") for _ in range(7)]
    path.write_bytes(replace(envelope, signatures=(*envelope.signatures, *many)).encode())
    run("trust", "sign", "--home", office, path, "--key", "root-2", code=None)
    decode(path.read_bytes(), where="test")


def test_a_pipe_in_the_place_of_a_root_key_is_not_waited_for(site: Site):
    pipe = site.stick / "root.pub"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        result = run("trust", "root", "add", "--home", site.workstation, pipe, code=2)
    finally:
        os.close(held)
    assert "not a regular file" in result.output


def test_a_trust_store_never_grows_beyond_what_can_be_read_again(site: Site, monkeypatch):
    assert json.loads((REPOSITORY / "schemas/trust-store.schema.json").read_text())["properties"]["keys"]["maxItems"] == trust_store.MOST_KEYS  # fmt: skip
    monkeypatch.setattr(trust_store, "MOST_KEYS", 2)
    public = make_key(site.isolated, "root-1", "root")
    result = run("trust", "add", "--home", site.workstation, public, "--role", "importer", code=4)
    assert "the trust store is full" in result.output


# The review sheet.


def test_values_that_differ_beyond_what_is_shown_are_not_called_the_same():
    found = Field()
    for end in ("a", "b"):
        found.add("x" * 70 + end)
    assert "always" not in found.line()
    assert "2 different values" in found.line()
    hidden = Field()
    hidden.add("\u200b" * 60 + "name")
    assert "FREE TEXT" in hidden.line()


def test_every_credential_of_a_bundle_stands_on_the_sheet_however_many(site: Site):
    """A line is cut at a thousand characters."""
    site.collect([report(n, 0, license=f"{LICENSE}_{n}") for n in range(40)])
    site.export()
    said = json.loads(run("inspect", "--home", site.workstation, site.bundle, "--json").stdout)
    named = said["manifest"]["credentials"]
    assert len(named) == 40
    sheet = run("review", "--home", site.workstation, site.bundle).output
    assert [one for one in named if one not in sheet] == []


# Approvals that came another way, or late.


def with_reviewer(site: Site) -> None:
    trust_reviewer(site, make_key(site.isolated, "alice", "reviewer"), "alice")
    site.collect([report(1)])
    site.export("--key", "default")
    run("review", "--home", site.isolated, site.bundle)


@pytest.mark.parametrize("by", ["file", "folder"])
def test_approvals_on_a_stick_of_their_own_are_named_beside_the_bundles(
    site: Site, beacon, by: str
):
    with_reviewer(site)
    demand(site, "--reviewers", 1)
    other = site.root / "other"
    other.mkdir()
    run("countersign", "--home", site.isolated, site.bundle, "--key", "alice", "--to", other)
    [path] = other.glob("*.approval")
    named = path if by == "file" else other
    run("verify", "--home", site.workstation, site.stick, named)
    alone = run("verify", "--home", site.workstation, named, code=2)
    assert "no bundle that they are about" in alone.output
    assert "1 record delivered" in site.import_paths([site.stick, named], beacon.url).output


def test_a_denial_that_comes_after_a_bundle_was_taken_in_stops_what_waits_of_it(site: Site, beacon):
    """One run must not say that it refuses a bundle and send its records."""
    with_reviewer(site)
    site.import_("http://127.0.0.1:9", "--attempts", 1, code=7)
    run("countersign", "--home", site.isolated, site.bundle, "--key", "alice", "--deny", "--reason", "names")  # fmt: skip
    result = site.import_(beacon.url, "--resume", code=4)
    assert "was taken in before a reviewer denied it" in result.output
    assert not beacon.requests


# Words for people.


def test_a_home_with_a_signed_trust_store_is_not_told_to_change_it(site: Site):
    office = office_of(site)
    run("trust", "remove", "--home", office, site.exporter.public.fingerprint[:9])
    path = sign(office, site.stick, "root-1")
    run("trust", "update", "--home", site.isolated, path, "--root", fingerprint(office, "root-1"))
    site.collect([report(1)])
    refused = site.export(code=4).output
    assert "airgap trust update" in refused
    assert "airgap trust add" not in refused


def test_successions_in_the_wrong_order_and_keys_added_too_early_have_a_next_step(site: Site):
    folder = site.isolated / "keys"
    succeed = ("trust", "succeed", "--home", site.workstation)
    rotate(site.isolated, "a")
    rotate(site.isolated, "b")
    first, second = folder / "a.succession", folder / "b.succession"
    assert "the earlier succession first" in run(*succeed, second, code=4).output
    run("trust", "add", "--home", site.workstation, folder / "retired" / "a.pub", "--role", "exporter", "--source", SOURCE)  # fmt: skip
    early = run(*succeed, first, code=4).output
    remove = early.split("airgap trust remove ")[1].split(",")[0]
    run("trust", "remove", "--home", site.workstation, remove)
    run(*succeed, first)
    run(*succeed, second)


def test_no_credential_gets_into_a_trust_store_that_travels(site: Site):
    public = make_key(site.isolated, "root-1", "root")
    home = ("--home", site.workstation)
    for command in (
        ("trust", "add", public, "--role", "importer", "--comment", LICENSE),
        ("trust", "root", "add", public, "--comment", LICENSE),
        ("trust", "revoke", site.exporter.public.fingerprint[:9], "--reason", LICENSE),
    ):
        result = run(*command, *home, code=3)
        assert LICENSE not in result.output
    assert LICENSE not in (site.workstation / "trust.json").read_text()
