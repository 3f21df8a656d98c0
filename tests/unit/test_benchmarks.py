"""The benchmarks run, and measure what they say; how fast is for a person to read."""

import json
import subprocess
import sys

from support import REPOSITORY


def test_the_durability_benchmark_delivers_every_record_in_each_of_its_runs(tmp_path):
    figures = tmp_path / "figures.json"
    script = REPOSITORY / "tests" / "benchmarks" / "durability.py"
    done = subprocess.run(
        [sys.executable, script, "--records", "8", "--transactions", "40", "--rounds", "1", "--json", figures],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert {(f["kind"], f["beacon"]) for f in found} == {
        (kind, beacon)
        for kind in ("usage_report", "trace_transactions")
        for beacon in ("none", "loopback")
    }
    assert all(f["durable"] > 0 and f["not_durable"] > 0 for f in found)
    assert "durable" in done.stdout


def test_the_benchmark_of_keys_compares_both_algorithms_and_every_way_to_seal(tmp_path):
    figures = tmp_path / "figures.json"
    script = REPOSITORY / "tests" / "benchmarks" / "keys.py"
    done = subprocess.run(
        [sys.executable, script, "--records", "20", "--times", "2", "--rounds", "1", "--json", figures],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {(f["what"], f["name"]): f["median"] for f in json.loads(figures.read_text())}
    assert found["signature, bytes", "ed25519+ml-dsa-65"] == 64 + 3309
    sizes = [found["bundle, bytes", name] for name in ("plain", "x25519", "mlkem768-x25519")]
    assert sizes == sorted(sizes)
    assert len(found) == 15
    assert all(value > 0 for value in found.values())


def test_the_benchmark_of_starting_up_measures_every_command_beside_an_empty_python(tmp_path):
    figures = tmp_path / "figures.json"
    script = REPOSITORY / "tests" / "benchmarks" / "startup.py"
    done = subprocess.run(
        [sys.executable, script, "--rounds", "1", "--json", figures],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert next(iter(found)) == "python -c pass"
    assert {"airgap --help", "airgap verify BUNDLE"} <= found.keys()
    assert all(f"`{name}`" in done.stdout for name in found)


def test_the_benchmark_of_the_ledger_does_the_same_work_in_ledgers_and_sticks_of_growing_size(
    tmp_path,
):
    figures = tmp_path / "figures.json"
    script = REPOSITORY / "tests" / "benchmarks" / "ledger.py"
    done = subprocess.run(
        [sys.executable, script, "--sizes", "500", "1000", "--exported", "20", "--sticks", "1", "2", "--json", figures],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())["ms"]
    assert {
        "import: take in a bundle",
        "status",
        "report of a month",
        "stick: take in",
    } <= found.keys()
    assert all(len(per["file"]) == 2 and min(per["file"]) > 0 for per in found.values())
    assert all(f"| {name} |" in done.stdout for name in found)
