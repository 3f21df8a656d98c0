"""A reader that shares no code with airgap, written from the specification, agrees with it."""

import ast
import json
import subprocess
import sys

import pytest
import second_reader
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from second_reader import Refused, Rules, TrustedKey
from support import LICENSE, REPOSITORY, report, run, transaction

from airgap.credentials import fingerprint

VECTORS = REPOSITORY / "tests" / "vectors"
INDEX = json.loads((VECTORS / "index.json").read_bytes())
RULES = Rules.load(REPOSITORY / "schemas")


def key(path, role, source="*"):
    return TrustedKey(
        load_pem_public_key(path.read_bytes()), frozenset({role}), frozenset({source})
    )


KEYS = [key(VECTORS / "exporter.pub", "exporter"), key(VECTORS / "importer.pub", "importer")]


def test_it_imports_nothing_of_airgap():
    tree = ast.parse((REPOSITORY / "tests" / "second_reader.py").read_text())
    names = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {
        (node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }  # fmt: skip
    outside = names - set(sys.stdlib_module_names)
    assert outside == {"msgpack", "cryptography", "zstandard"}


@pytest.mark.parametrize("name", ["bundle-none.airgap", "bundle-zstd.airgap"])
def test_it_accepts_the_golden_bundles_with_their_ids_and_totals(name):
    document = second_reader.read(VECTORS / name, KEYS, RULES)
    assert document.id == INDEX["accepted"][name]["id"]
    assert list(document.record_ids) == INDEX["record_ids"]
    assert document.manifest["totals"] == INDEX["totals"]


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
        second_reader.read(VECTORS / name, KEYS, RULES)
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
