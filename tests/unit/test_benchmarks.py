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


def test_the_benchmark_of_exporting_measures_each_step_from_each_source(tmp_path):
    figures = tmp_path / "figures.json"
    script = REPOSITORY / "tests" / "benchmarks" / "export.py"
    done = subprocess.run(
        [sys.executable, script, "--records", "60", "--rounds", "1", "--source", "lines", "--json", figures],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {(f["kind"], f["step"]): f for f in json.loads(figures.read_text())}
    assert set(found) == {
        (kind, step)
        for kind in ("usage_report", "trace_transactions")
        for step in ("bare", "collect", "export", "both")
    }
    assert all(f["rate"] > 0 and f["ratio"] > 0 and f["peak"] > 10 for f in found.values())
    assert found["usage_report", "export"]["bytes"] > 0
