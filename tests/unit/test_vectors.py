"""Golden files: what was written once is read for ever, and written the same today."""

import io
import json
import sys
from pathlib import Path

import pytest
from support import trusted

from airgap import catalog, verify
from airgap.bundle import envelope
from airgap.errors import AirgapError, DamagedError, SealedError, TrustError
from airgap.trust import approvals, roots, succession
from airgap.trust.approvals import Reviews
from airgap.trust.entries import Place
from airgap.trust.store import TrustStore

HERE = Path(__file__).parent.parent / "vectors"
sys.path.insert(0, str(HERE))
import regenerate  # noqa: E402

INDEX = json.loads((HERE / "index.json").read_bytes())
TRUST = (
    TrustStore({})
    .with_key(trusted(regenerate.EXPORTER, "exporter"))
    .with_key(trusted(regenerate.IMPORTER, "importer"))
    .with_key(trusted(regenerate.stated.QUANTUM, "exporter"))
)
_WORDS_OF_STEP = {
    1: (
        "end is missing",
        "not an airgap file",
        "another format version",
        "envelope",
        "header",
        "a receipt is sealed",
    ),
    2: ("another type",),
    3: ("not signed", "signed twice", "not in the trust store", "is wrong"),
    4: ("manifest can't be decoded", "not the one that was signed", "nothing in it"),
    5: ("nobody signed as exporter",),
    6: (
        "a chunk is not the one",
        "no key here opens it",
        "wrapped file key does not open",
        "another suite",
        "commits to",
        "does not open in its place",
    ),
    7: ("totals part", "manifest's period", "manifest's credentials", "no usage"),
}


def verify_file(name, recipient="recipient"):
    stream = io.BytesIO((HERE / name).read_bytes())
    if name.endswith(".receipt"):
        return verify.verify_receipt(stream, name=name, trust=TRUST, catalog=catalog.load())

    def opener(sealing, context, where):
        return regenerate.sealed.KEYS[recipient].unwrap(sealing, context, where=where)

    return verify.verify_bundle(
        stream, name=name, trust=TRUST, catalog=catalog.load(), opener=opener
    )


def test_golden_files_are_what_this_version_writes():
    made = regenerate.files()
    there = {p.name: p.read_bytes() for p in HERE.iterdir() if p.is_file()}
    for fixed in ("regenerate.py", "sealed.py", "stated.py", "requests.jsonl", "README.md"):
        there.pop(fixed)
    assert sorted(made) == sorted(there)
    assert [name for name in made if made[name] != there[name]] == []


@pytest.mark.parametrize(
    "name", ["bundle-none.airgap", "bundle-zstd.airgap", "bundle-hybrid.airgap"]
)
def test_golden_bundle_is_accepted_with_its_id_totals_and_record_ids(name):
    bundle = verify_file(name)
    assert bundle.document_id == INDEX["accepted"][name]["id"]
    assert bundle.manifest["totals"] == INDEX["totals"]
    assert [identifier.hex() for identifier, _ in bundle.records()] == INDEX["record_ids"]


@pytest.mark.parametrize(
    ("name", "recipient"),
    [(n, r) for n, told in INDEX["accepted"].items() for r in told.get("opened_by", [])],
)
def test_golden_sealed_bundle_is_opened_by_each_of_its_recipients_and_by_nobody_else(
    name, recipient
):
    bundle = verify_file(name, recipient)
    assert bundle.document_id == INDEX["accepted"][name]["id"]
    assert bundle.manifest["totals"] == INDEX["totals"]
    assert [identifier.hex() for identifier, _ in bundle.records()] == INDEX["record_ids"]
    others = INDEX["recipients"].keys() - INDEX["accepted"][name]["opened_by"]
    assert others
    for other in others:
        with pytest.raises(SealedError, match="no key here opens it"):
            verify_file(name, other)


@pytest.mark.parametrize("name", sorted(n for n in INDEX["refused"] if "-sealed-" in n))
def test_what_is_wrong_outside_the_seal_is_found_without_a_key(name):
    stream = io.BytesIO((HERE / name).read_bytes())

    def check():
        return verify.verify_unopened(stream, name=name, trust=TRUST, catalog=catalog.load())

    recounted = ("dropped", "repeated")  # the totals count what the chunks no longer do
    if INDEX["refused"][name]["step"] == 6 and not any(word in name for word in recounted):
        assert check().manifest["records"] >= 1
    else:
        with pytest.raises(AirgapError):
            check()


def test_golden_receipt_is_accepted_and_answers_the_golden_bundle():
    receipt = verify_file("receipt.receipt")
    assert receipt.manifest["bundle_id"] == INDEX["accepted"]["bundle-none.airgap"]["id"]
    assert [o["id"] for o in receipt.outcomes()] == INDEX["record_ids"]


@pytest.mark.parametrize("name", sorted(INDEX["refused"]))
def test_golden_file_is_refused_at_its_step(name):
    with pytest.raises(AirgapError) as caught:
        verify_file(name)
    assert any(
        words in str(caught.value) for words in _WORDS_OF_STEP[INDEX["refused"][name]["step"]]
    )


def test_golden_statements_are_believed_as_the_index_says():
    """And those that are refused are not, each for its own reason."""
    files = {name: (HERE / name).read_bytes() for name in INDEX["statements"]}
    schemas, now = catalog.load(), regenerate.MADE_AT
    exporter, importer = regenerate.EXPORTER, regenerate.IMPORTER
    believer = TrustStore({}).with_key(trusted(exporter, "exporter"))
    _, old, new = succession.follow(
        believer, files.pop("succession.succession"), schemas, now, where="v"
    )
    assert (old.last_sequence, new.public) == (1, regenerate.stated.QUANTUM.public)
    named = [exporter.public.key_id, importer.public.key_id]
    store = roots.follows(
        TrustStore({}), files.pop("trust.trust"), schemas, now, named=named, where="v"
    )
    assert (store.version, store.policy("vector.site").reviewers) == (7, 1)
    bundle = INDEX["accepted"]["bundle-none.airgap"]["id"]
    place = Place("vector.site", now, 1)
    for name, heard in (("approval.approval", "approved"), ("denial.approval", "denied")):
        found = approvals.read(files.pop(name), schemas, name=name)
        assert len(getattr(Reviews.of([found], bundle, place, (), store), heard)) == 1
    data = files.pop("refused-trust-one-of-two.trust")
    with pytest.raises(TrustError, match="not signed by the root keys"):
        roots.follows(TrustStore({}), data, schemas, now, named=named, where="v")
    data = files.pop("refused-succession-new-key-alone.succession")
    with pytest.raises(TrustError, match="not signed by a key that is trusted"):
        succession.follow(believer, data, schemas, now, where="v")
    with pytest.raises(DamagedError, match="is no approval"):
        approvals.read(files.pop("refused-approval-relabelled.approval"), schemas, name="v")
    assert not files


@pytest.mark.parametrize("case", INDEX["pre_authentication_encoding"])
def test_golden_pre_authentication_encodings(case):
    encoded = envelope.pre_authentication_encoding(
        case["payload_type"], bytes.fromhex(case["payload_hex"])
    )
    assert encoded.hex() == case["encoding_hex"]
