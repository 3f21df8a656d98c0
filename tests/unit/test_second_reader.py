"""A reader that shares no code with airgap, written from the specification, agrees with it."""

import ast
import hashlib
import json
import subprocess
import sys

import pytest
import second_reader
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from second_reader import OpeningKey, Refused, Rules, TrustedKey
from support import LICENSE, REPOSITORY, report, run, transaction

from airgap.credentials import fingerprint

VECTORS = REPOSITORY / "tests" / "vectors"
INDEX = json.loads((VECTORS / "index.json").read_bytes())
HPKE = json.loads((REPOSITORY / "tests" / "unit" / "hpke_vectors.json").read_bytes())
RULES = Rules.load(REPOSITORY / "schemas")


def key(path, role, source="*"):
    halves = path.read_bytes().split(b"-----BEGIN")[1:]
    first, *second = (load_pem_public_key(b"-----BEGIN" + half) for half in halves)
    return TrustedKey(first, frozenset({role}), frozenset({source}), mldsa65=(second or [None])[0])


def opening_key(x25519_ascii, mlkem768_seed_ascii=None, key_id=None):
    half = mlkem768_seed_ascii and MLKEM768PrivateKey.from_seed_bytes(mlkem768_seed_ascii.encode())
    made = OpeningKey(X25519PrivateKey.from_private_bytes(x25519_ascii.encode()), half)
    assert key_id in (None, made.key_id)
    return made


OPENING = {name: opening_key(**seeds) for name, seeds in INDEX["recipients"].items()}
KEYS = [
    key(VECTORS / "exporter.pub", "exporter"),
    key(VECTORS / "importer.pub", "importer"),
    key(VECTORS / "quantum.pub", "exporter"),
]


def test_it_imports_nothing_of_airgap():
    tree = ast.parse((REPOSITORY / "tests" / "second_reader.py").read_text())
    names = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {
        (node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }  # fmt: skip
    outside = names - set(sys.stdlib_module_names)
    assert outside == {"msgpack", "cryptography", "zstandard"}


@pytest.mark.parametrize(
    "name", ["bundle-none.airgap", "bundle-zstd.airgap", "bundle-hybrid.airgap"]
)
def test_it_accepts_the_golden_bundles_with_their_ids_and_totals(name):
    document = second_reader.read(VECTORS / name, KEYS, RULES)
    assert document.id == INDEX["accepted"][name]["id"]
    assert list(document.record_ids) == INDEX["record_ids"]
    assert document.manifest["totals"] == INDEX["totals"]


@pytest.mark.parametrize(
    ("name", "recipient"),
    [(n, r) for n, told in INDEX["accepted"].items() for r in told.get("opened_by", [])],
)
def test_it_opens_the_golden_sealed_bundles_with_each_recipients_key(name, recipient):
    document = second_reader.read(VECTORS / name, KEYS, RULES, [OPENING[recipient]])
    assert document.id == INDEX["accepted"][name]["id"]
    assert list(document.record_ids) == INDEX["record_ids"]
    assert document.manifest["totals"] == INDEX["totals"]


@pytest.mark.parametrize("name", ["sealed-none.airgap", "sealed-zstd.airgap"])
def test_it_refuses_a_sealed_bundle_without_a_recipients_key(name):
    others = OPENING.keys() - INDEX["accepted"][name]["opened_by"]
    for opening in ([], [OPENING[other] for other in others]):
        with pytest.raises(Refused) as caught:
            second_reader.read(VECTORS / name, KEYS, RULES, opening)
        assert caught.value.step == 6


@pytest.mark.parametrize("case", HPKE, ids=lambda case: case["from"].partition(":")[0])
def test_its_hpke_is_that_of_the_published_test_vectors(case):
    """They have associated data, which the library's public functions don't take; see the next test."""
    secret = bytes.fromhex(case["skRm"])
    if case["kem_id"] == 0x0020:
        own = OpeningKey(X25519PrivateKey.from_private_bytes(secret))
    else:
        halves = hashlib.shake_256(secret).digest(96)
        own = OpeningKey(
            X25519PrivateKey.from_private_bytes(halves[64:]),
            MLKEM768PrivateKey.from_seed_bytes(halves[:64]),
        )
    enc, ct, info, aad = (bytes.fromhex(case[name]) for name in ("enc", "ct", "info", "aad"))
    assert own._decapsulate(enc).hex() == case["shared_secret"]
    assert own.unwrap(enc + ct, info, aad).hex() == case["pt"]


@pytest.mark.parametrize("suite", ["x25519", "mlkem768-x25519"])
def test_it_unwraps_what_the_library_wraps_and_nothing_for_another_place(suite):
    from airgap.bundle.sealing import Context
    from airgap.trust import recipients

    x25519, mlkem768 = b"x" * 32, b"m" * 64 if suite != "x25519" else None
    ours = recipients.from_seeds(x25519, mlkem768).public
    theirs = opening_key("x" * 32, mlkem768 and "m" * 64)
    assert (ours.key_id, ours.suite) == (theirs.key_id, suite)
    context = Context("bank-a.prod", 7)
    told = ours.wrap(b"k" * 32, context)
    assert len(told.data) == recipients.WRAPPED_SIZE[suite]
    assert theirs.unwrap(told.data, context.info) == b"k" * 32
    with pytest.raises(ValueError, match="does not open"):
        theirs.unwrap(told.data, Context("bank-a.prod", 8).info)


def test_it_accepts_the_golden_receipt_as_the_answer_to_its_bundle_and_to_no_other():
    receipt = second_reader.read(VECTORS / "receipt.receipt", KEYS, RULES)
    bundle = second_reader.read(VECTORS / "bundle-none.airgap", KEYS, RULES)
    second_reader.check_answer(receipt, bundle, RULES)
    other = second_reader.read(VECTORS / "bundle-zstd.airgap", KEYS, RULES)
    with pytest.raises(Refused):
        second_reader.check_answer(receipt, other, RULES)


@pytest.mark.parametrize("name", sorted(INDEX["refused"]))
def test_it_refuses_each_golden_file_at_its_step(name):
    with pytest.raises(Refused) as caught:
        second_reader.read(VECTORS / name, KEYS, RULES, [OPENING["recipient"], OPENING["hybrid"]])
    assert caught.value.step == INDEX["refused"][name]["step"]


def test_it_reads_uncompressed_files_with_msgpack_and_cryptography_alone():
    code = (
        "import sys; sys.modules['zstandard'] = None; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; import second_reader as r\n"
        "from cryptography.hazmat.primitives.serialization import load_pem_public_key as load\n"
        "v = Path(sys.argv[1]) / 'vectors'\n"
        "key = r.TrustedKey(load((v / 'exporter.pub').read_bytes()), frozenset(['exporter']), frozenset('*'))\n"
        "rules = r.Rules.load(Path(sys.argv[1]).parent / 'schemas')\n"
        "print(r.read(v / 'bundle-none.airgap', [key], rules).id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(REPOSITORY / "tests")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == INDEX["accepted"]["bundle-none.airgap"]["id"]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_both_readers_agree_on_what_the_commands_write(site, beacon, compression):
    site.collect(
        [report(n, n) for n in range(5)]
        + [
            report(3, 3),
            {"license": LICENSE, "trace_transactions": [transaction(n) for n in range(3)]},
        ]
    )
    site.export("--compression", compression)
    site.import_(beacon.url)
    keys = [
        key(site.isolated / "keys" / "default.pub", "exporter", "bank-a.prod"),
        key(site.workstation / "keys" / "default.pub", "importer"),
    ]
    bundle = second_reader.read(site.bundle, keys, RULES)
    [path] = site.stick.glob("*.receipt")
    receipt = second_reader.read(path, keys, RULES)
    second_reader.check_answer(receipt, bundle, RULES)
    lines = run("cat", "--home", site.workstation, site.bundle).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(bundle.record_ids)
    assert bundle.id == site.status()["bundles"][0]["bundle_id"]
    assert second_reader.fingerprint("license", LICENSE) == fingerprint("license", LICENSE)


def test_both_readers_refuse_the_same_points_as_public_keys():
    from airgap.trust import points as ours

    for y in ours._SMALL_ORDER_Y:
        for sign in (0, 1):
            assert not second_reader.is_sound_point((y | sign << 255).to_bytes(32, "little"))
