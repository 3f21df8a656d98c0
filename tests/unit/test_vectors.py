"""Golden files: what was written once is read for ever, and written the same today."""

import io
import json
import sys
from pathlib import Path

import pytest
from support import trusted

from airgap import catalog, verify
from airgap.bundle import envelope
from airgap.errors import AirgapError
from airgap.trust.store import TrustStore

HERE = Path(__file__).parent.parent / "vectors"
sys.path.insert(0, str(HERE))
import regenerate  # noqa: E402

INDEX = json.loads((HERE / "index.json").read_bytes())
TRUST = (
    TrustStore({})
    .with_key(trusted(regenerate.EXPORTER, "exporter"))
    .with_key(trusted(regenerate.IMPORTER, "importer"))
)
_WORDS_OF_STEP = {
    1: ("end is missing", "not an airgap file", "another format version", "envelope"),
    2: ("another type",),
    3: ("not signed", "signed twice", "not in the trust store", "is wrong"),
    4: ("manifest can't be decoded",),
    5: ("nobody signed as exporter",),
    6: ("a chunk is not the one",),
    7: ("totals part", "manifest's period", "manifest's credentials", "no usage"),
}


def verify_file(name):
    read = verify.verify_receipt if name.endswith(".receipt") else verify.verify_bundle
    stream = io.BytesIO((HERE / name).read_bytes())
    return read(stream, name=name, trust=TRUST, catalog=catalog.load())


def test_golden_files_are_what_this_version_writes():
    made = regenerate.files()
    there = {p.name: p.read_bytes() for p in HERE.iterdir() if p.is_file()}
    for fixed in ("regenerate.py", "requests.jsonl", "README.md"):
        there.pop(fixed)
    assert sorted(made) == sorted(there)
    assert [name for name in made if made[name] != there[name]] == []


@pytest.mark.parametrize("name", ["bundle-none.airgap", "bundle-zstd.airgap"])
def test_golden_bundle_is_accepted_with_its_id_totals_and_record_ids(name):
    bundle = verify_file(name)
    assert bundle.document_id == INDEX["accepted"][name]["id"]
    assert bundle.manifest["totals"] == INDEX["totals"]
    assert [identifier.hex() for identifier, _ in bundle.records()] == INDEX["record_ids"]


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


@pytest.mark.parametrize("case", INDEX["pre_authentication_encoding"])
def test_golden_pre_authentication_encodings(case):
    encoded = envelope.pre_authentication_encoding(
        case["payload_type"], bytes.fromhex(case["payload_hex"])
    )
    assert encoded.hex() == case["encoding_hex"]
