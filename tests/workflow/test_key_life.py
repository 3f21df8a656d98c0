"""Keys for years: rotated, revoked from a point on, expiring, lost, compared by voice."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from mnemonic import Mnemonic
from support import SOURCE, Site, report, run

from airgap import catalog, timestamps
from airgap.bundle.envelope import Envelope, decode
from airgap.errors import AirgapError, TrustError
from airgap.trust import keys, spoken, succession
from airgap.trust.store import TrustStore

NOW = timestamps.parse("2026-03-01T00:00:00Z")


def rotate(site: Site, name: str, *options: object, side: str = "isolated") -> Path:
    home = site.root / side
    run("key", "rotate", "--home", home, name, "--no-passphrase", *options)
    return home / "keys" / f"{name}.succession"


def days(site: Site, count: int) -> None:
    site.collect([report(n + 1, n) for n in range(count)])
    site.export()


def test_a_rotated_key_is_trusted_by_the_old_ones_word_and_the_chain_goes_on(site: Site, beacon):
    days(site, 1)
    path = rotate(site, "2027")
    days(site, 2)
    assert "not in the trust store" in site.import_(beacon.url, code=4).output
    result = run("trust", "succeed", "--home", site.workstation, path)
    assert "now only up to bundle 1" in result.output
    site.import_(beacon.url)
    site.apply()
    assert [b["confirmed"] for b in site.status()["bundles"]] == [True, True]
    assert site.status("workstation")["sources"][0]["missing"] == []
    assert not (site.isolated / "keys" / "default.pem").exists()
    assert (site.isolated / "keys" / "retired" / "default.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_that_signs_nothing_of_what_is_written_again_is_named(site: Site):
    days(site, 1)
    rotate(site, "2027")
    result = site.export("--again", "--key", "2027", "--json")
    [finding] = json.loads(result.stdout)["findings"]
    assert finding["code"] == "signed-otherwise"
    assert "bundle 1 written as signed before, and not with 2027" in finding["message"]
    site.export("--again", "--sign-again", "--force", "--key", "2027")
    result = site.export("--again", "--key", "2027", "--json")
    assert json.loads(result.stdout)["findings"] == []


def test_after_its_successor_took_over_the_old_key_signs_no_later_bundle(site: Site, beacon):
    days(site, 1)
    path = rotate(site, "2027")
    run("trust", "succeed", "--home", site.workstation, path)
    days(site, 2)
    thief = site.isolated / "keys" / "retired" / "default.pem"
    result = site.export("--again", "--sign-again", "--force", "--key", thief, code=4)
    assert "signs this source's bundles no more" in result.output
    assert "bundles up to 1" in result.output
    [second] = site.stick.glob("*-000002.airgap")
    envelope = second.read_bytes()
    forged = resigned(envelope, site.exporter)
    second.write_bytes(forged)
    result = run("verify", "--home", site.workstation, second, code=4)
    assert "another key followed it" in result.output


def resigned(data: bytes, key: keys.PrivateKey) -> bytes:
    """Return a bundle with its signatures replaced."""
    from airgap.bundle.layout import FOOTER_SIZE, footer

    offset = int.from_bytes(data[-24:-16])
    old = decode(data[offset:-FOOTER_SIZE], where="test")
    new = Envelope(old.payload_type, old.payload, (key.sign(old.message),)).encode()
    return data[:offset] + new + footer(offset, len(new))


def test_a_succession_that_was_followed_already_changes_nothing(site: Site):
    path = rotate(site, "2027")
    run("trust", "succeed", "--home", site.workstation, path)
    before = (site.workstation / "trust.json").read_bytes()
    assert "nothing changed" in run("trust", "succeed", "--home", site.workstation, path).output
    assert (site.workstation / "trust.json").read_bytes() == before


def test_a_reviewers_or_root_key_in_the_home_does_not_keep_export_from_its_own(site: Site):
    for name, role in (("alice", "reviewer"), ("root-1", "root")):
        run("key", "generate", "--home", site.isolated, "--name", name, "--role", role, "--no-passphrase")  # fmt: skip
    days(site, 1)
    run("review", "--home", site.isolated, site.bundle)
    said = run("countersign", "--home", site.isolated, site.bundle).output
    assert run("key", "fingerprint", "--home", site.isolated, "alice").output.strip() in said
    rotate(site, "2027")
    days(site, 2)
    run("key", "generate", "--home", site.isolated, "--name", "other", "--no-passphrase")
    site.collect([report(9, 9)])
    assert "there are several keys" in site.export(code=2).output


def test_the_workstations_key_is_followed_too_and_its_receipts_count(site: Site, beacon):
    days(site, 1)
    path = rotate(site, "2027", side="workstation")
    site.import_(beacon.url)
    assert "not in the trust store" in site.apply(code=4).output
    run("trust", "succeed", "--home", site.isolated, path)
    assert "1 record newly confirmed, 1 in all" in site.apply().output


def test_a_hybrid_key_follows_an_ed25519_one_and_never_the_other_way(site: Site):
    path = rotate(site, "quantum", "--hybrid")
    result = run("trust", "succeed", "--home", site.workstation, path)
    assert "ed25519+ml-dsa-65" in result.output
    path = rotate(site, "next")
    assert "ed25519+ml-dsa-65" in run("trust", "succeed", "--home", site.workstation, path).output
    old = keys.generate("ed25519+ml-dsa-65")
    store = TrustStore({}).with_key(entry(old))
    made = succession.make(old, keys.generate(), SOURCE, 2, catalog.load(), NOW).encode()
    with pytest.raises(TrustError, match="weaker"):
        succession.follow(store, made, catalog.load(), NOW, where="x")


def entry(key: keys.PrivateKey, **changes):
    from support import trusted

    return trusted(key, "exporter", SOURCE, **changes)


ATTACKS = {
    "signed by the new key alone": lambda old, new, store: (
        store, strip(succession.make(old, new, SOURCE, 2, catalog.load(), NOW), keep=new), "not signed|wrong"),
    "signed by the old key alone": lambda old, new, store: (
        store, strip(succession.make(old, new, SOURCE, 2, catalog.load(), NOW), keep=old), "not signed"),
    "by a key that nobody trusts": lambda old, new, store: (
        TrustStore({}), succession.make(old, new, SOURCE, 2, catalog.load(), NOW), "not signed|not in"),
    "by a revoked key": lambda old, new, store: (
        store.changed(entry(old, revoked=revocation())), succession.make(old, new, SOURCE, 2, catalog.load(), NOW), "revoked"),
    "for another source": lambda old, new, store: (
        store, succession.make(old, new, "bank-b", 2, catalog.load(), NOW), "may not sign for this source"),
    "after the key had expired": lambda old, new, store: (
        store.changed(entry(old, not_after=NOW)), succession.make(old, new, SOURCE, 2, catalog.load(), NOW), "expired"),
    "a second successor": lambda old, new, store: (
        succession.follow(store, succession.make(old, keys.generate(), SOURCE, 9, catalog.load(), NOW).encode(), catalog.load(), NOW, where="x")[0],
        succession.make(old, new, SOURCE, 2, catalog.load(), NOW), "named its successor already"),
}  # fmt: skip


def revocation(**bounds):
    from airgap.trust.entries import Revocation

    return Revocation(NOW, "lost", **bounds)


def strip(envelope: Envelope, keep: keys.PrivateKey) -> Envelope:
    left = tuple(s for s in envelope.signatures if s.key_id == keep.public.key_id)
    return Envelope(envelope.payload_type, envelope.payload, left)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_succession_is_believed_that_is(attack: str):
    old, new = keys.generate(), keys.generate()
    store, envelope, message = ATTACKS[attack](old, new, TrustStore({}).with_key(entry(old)))
    with pytest.raises(TrustError, match=message):
        succession.follow(store, envelope.encode(), catalog.load(), NOW, where="x")


def test_every_changed_byte_of_a_succession_is_refused():
    old, new = keys.generate(), keys.generate()
    store = TrustStore({}).with_key(entry(old))
    right = succession.make(old, new, SOURCE, 2, catalog.load(), NOW).encode()
    succession.follow(store, right, catalog.load(), NOW, where="x")
    for position in range(len(right)):
        wrong = bytearray(right)
        wrong[position] ^= 0x10
        with pytest.raises(AirgapError):
            succession.follow(store, bytes(wrong), catalog.load(), NOW, where="x")


def test_a_key_can_be_revoked_from_a_bundle_on_and_what_came_before_counts(site: Site, beacon):
    days(site, 1)
    days(site, 2)
    fingerprint = site.exporter.public.fingerprint[:9]
    run("trust", "revoke", "--home", site.workstation, fingerprint, "--since-sequence", 2, "--reason", "laptop lost")  # fmt: skip
    result = site.import_(beacon.url, code=4)
    assert "bundle 1 of bank-a.prod: verified" in result.output
    assert "for bundles from 2 on: laptop lost" in result.output
    assert len(beacon.requests) == 1


def test_a_key_can_be_revoked_from_a_time_on(site: Site, beacon):
    days(site, 1)
    fingerprint = site.exporter.public.fingerprint[:9]
    past = timestamps.system_clock() - timedelta(days=1)
    future = timestamps.system_clock() + timedelta(days=1)
    run("trust", "revoke", "--home", site.workstation, fingerprint, "--since", timestamps.to_text(future))  # fmt: skip
    site.import_(beacon.url, "--dry-run")
    result = run("trust", "revoke", "--home", site.workstation, fingerprint, "--since", timestamps.to_text(past), code=4)  # fmt: skip
    assert "revoked already" in result.output
    run("trust", "revoke", "--home", site.workstation, fingerprint)
    assert "signed by a revoked key" in site.import_(beacon.url, code=4).output


def test_receipts_of_a_revoked_importers_key_are_made_anew_with_the_next_one(site: Site, beacon):
    days(site, 1)
    site.import_(beacon.url)
    run("key", "generate", "--home", site.workstation, "--name", "next", "--no-passphrase")
    for home in (site.isolated, site.workstation):
        run(
            "trust",
            "revoke",
            "--home",
            home,
            site.importer.public.fingerprint[:9],
            "--reason",
            "laptop lost",
        )
    path = site.workstation / "keys" / "next.pub"
    run("trust", "add", "--home", site.isolated, path, "--role", "importer")
    assert "signed by a revoked key" in site.apply(code=4).output
    again = ("--key", "next")
    said = site.import_(beacon.url, *again)
    assert len(beacon.requests) == 1
    assert "000001-r2.receipt" in said.output
    # Once, and not at each import.
    assert "r3" not in site.import_(beacon.url, *again).output
    site.apply(code=None)
    assert [b["confirmed"] for b in site.status()["bundles"]] == [True]


@pytest.mark.parametrize("content", [b"", b"cut off"])
def test_a_damaged_receipt_of_a_revoked_importers_key_is_made_anew_too(site: Site, beacon, content):
    days(site, 1)
    site.import_(beacon.url)
    run("key", "generate", "--home", site.workstation, "--name", "next", "--no-passphrase")
    revoked = site.importer.public.fingerprint[:9]
    run("trust", "revoke", "--home", site.workstation, revoked, "--reason", "laptop lost")
    [path] = (site.workstation / "receipts").glob("*.receipt")
    path.write_bytes(content)
    said = site.import_(beacon.url, "--key", "next")
    assert "000001-r2.receipt" in said.output


@pytest.mark.parametrize("side", ["isolated", "workstation"])
def test_a_key_that_ends_soon_is_said_ahead_of_time_and_an_ended_own_key_by_monitoring(
    site: Site, side: str, beacon
):
    days(site, 1)
    home = site.root / side
    own = {"isolated": site.exporter, "workstation": site.importer}[side]
    for left, code in ((timedelta(days=40), 0), (timedelta(days=20), 0), (timedelta(0), 4)):
        end = timestamps.system_clock() + left
        from airgap.trust import store as trust_store

        store = trust_store.load(home / "trust.json", catalog.load())
        known = store.keys[own.public.key_id]
        changed = type(known)(**{
            **{name: getattr(known, name) for name in known.__dataclass_fields__},
            "not_after": end,
        })  # fmt: skip
        trust_store.save(home / "trust.json", store.changed(changed))
        result = run("status", "--home", home, "--json")
        found = [f["code"] for f in json.loads(result.stdout)["findings"]]
        assert found == ([] if left.days == 40 else ["key-expires"])
        checked = run("status", "--home", home, "--check", code=None)
        assert (checked.exit_code == 4) == (code == 4)
        # What has expired names no successor.
        advice = {40: "", 20: "airgap key rotate", 0: "airgap key generate"}[left.days]
        assert advice in run("status", "--home", home).output
    if side == "workstation":
        assert "your own key has expired" in site.import_(beacon.url, code=4).output
        assert not beacon.requests


def test_an_import_says_that_the_exporters_key_ends_soon(site: Site, beacon):
    from airgap.trust import store as trust_store

    days(site, 1)
    end = timestamps.system_clock() + timedelta(days=3)
    store = site.trust
    soon = replace(store.keys[site.exporter.public.key_id], not_after=end)
    trust_store.save(site.workstation / "trust.json", store.changed(soon))
    result = site.import_(beacon.url)
    assert f"the key {site.exporter.public.fingerprint} (exporter) expires at" in result.output
    assert len(beacon.requests) == 1


def test_a_lost_key_of_a_home_without_root_is_replaced_by_its_fingerprint(site: Site, beacon):
    (site.isolated / "keys" / "default.pem").unlink()
    run("key", "generate", "--home", site.isolated, "--name", "new", "--no-passphrase")
    site.collect([report(1)])
    site.export()
    spoken_words = run("key", "fingerprint", "--home", site.isolated, "new", "--words").output
    run(
        "trust", "add", "--home", site.workstation, site.isolated / "keys" / "new.pub", "--role", "exporter",
        "--source", SOURCE, "--fingerprint", spoken_words.splitlines()[1],
    )  # fmt: skip
    assert "1 record delivered" in site.import_(beacon.url).output


def test_twelve_words_say_what_32_digits_say_and_nearly_every_misheard_word_is_noticed():
    key_id = "3f2a91bc04d7aa10" * 4
    words = spoken.words(key_id).split()
    assert len(words) == 12
    for text in (" ".join(words), " ".join(words).upper()):
        assert spoken.digits(text) == key_id[:32]
    with pytest.raises(TrustError) as caught:
        spoken.digits(" ".join(["airgap", *words[1:]]))
    assert caught.value.found == "'airgap' is not in the list"
    book = Mnemonic("english").wordlist
    # Four bits check the other 128, so one wrong word of sixteen passes; then the digits differ.
    noticed, tried = 0, 0
    for place in range(12):
        for step in (1, 2, 3, 5, 8):
            wrong = list(words)
            wrong[place] = book[(book.index(words[place]) + step) % len(book)]
            tried += 1
            try:
                assert spoken.digits(" ".join(wrong)) != key_id[:32]
            except TrustError:
                noticed += 1
    assert noticed / tried > 0.85
    assert spoken.digits("3F2A 91bc:04d7") == "3f2a91bc04d7"


def test_a_phone_reads_the_whole_key_id_from_the_qr_code(site: Site):
    """The blocks are read back as modules, and compared with the library's own matrix."""
    import segno

    key_id = site.exporter.public.key_id
    lines = spoken.qr_code(key_id).split("\n")
    modules = []
    for line in lines:
        upper = [{"█": 1, "▀": 1, "▄": 0, " ": 0}[c] for c in line]
        lower = [{"█": 1, "▀": 0, "▄": 1, " ": 0}[c] for c in line]
        modules += [upper, lower]
    expected = segno.make(f"AIRGAP:{key_id.upper()}", error="m", micro=False).matrix
    shown = [[1 - bit for bit in row[2:-2]] for row in modules[2 : 2 + len(expected)]]
    assert shown == [list(row) for row in expected]


def test_without_the_extra_the_digits_still_serve(site: Site, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mnemonic", None)
    monkeypatch.setitem(sys.modules, "segno", None)
    for option in ("--words", "--qr"):
        result = run("key", "fingerprint", "--home", site.isolated, option, code=2)
        assert "requirements-sources.lock" in result.output
    assert run("key", "fingerprint", "--home", site.isolated).exit_code == 0


def test_a_protected_key_is_never_followed_by_an_unprotected_one_unasked(site: Site):
    """Nobody is there to type: the passphrase of the old key's file protects the new one too."""
    words = site.root / "passphrase"
    words.write_text("correct horse EXAMPLE\n")
    given = ("--passphrase-file", words)
    run("key", "generate", "--home", site.isolated, "--name", "kept", *given)
    run("key", "rotate", "--home", site.isolated, "next", "--key", "kept", *given)
    assert b"ENCRYPTED" in (site.isolated / "keys" / "next.pem").read_bytes()
    other = site.root / "other"
    other.write_text("another EXAMPLE\n")
    rotate = ("key", "rotate", "--home", site.isolated, "last", "--key", "next", *given)
    run(*rotate, "--new-passphrase-file", other)
    run("key", "rotate", "--home", site.isolated, "end", "--key", "last", *given, code=4)
