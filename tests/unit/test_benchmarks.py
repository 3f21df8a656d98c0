"""The benchmarks run, and measure what they say; how fast is for a person to read."""

import json
import shutil
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


def test_the_benchmark_of_verification_compares_every_check_with_its_bare_form(tmp_path):
    figures = tmp_path / "figures.json"
    script = REPOSITORY / "tests" / "benchmarks" / "verify.py"
    done = subprocess.run(
        [sys.executable, script, "--records", "40", "--mebibytes", "1", "--rounds", "1", "--json", figures],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    names = {(f["what"], f["name"]) for f in found}
    for kind in ("usage_report", "trace_transactions"):
        assert {(kind, "bare loop"), (kind, "full check")} <= names
    assert ("digests, as a call", "verify_digests") in names
    assert ("digests, as a process", "airgap verify --digests-only") in names
    assert {("memory, usage_report", "10 records"), ("memory, usage_report", "40 records")} <= names
    assert all(f["rate"] > 0 and f["ratio"] > 0 for f in found)


def test_the_benchmark_of_todays_ways_takes_each_whose_tools_are_there(tmp_path):
    figures = tmp_path / "figures.json"
    script = REPOSITORY / "tests" / "benchmarks" / "today.py"
    done = subprocess.run(
        [sys.executable, script, "--records", "20", "--rounds", "1", "--json", figures],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {f["way"]: f for f in json.loads(figures.read_text())}
    for way, needed in {
        "zstd, minisign": ("zstd", "minisign"),
        "zstd, age": ("zstd", "age"),
    }.items():
        absent = [name for name in needed if shutil.which(name) is None]
        assert found[way].get("missing") == (
            f"apt-get install {' '.join(absent)}" if absent else None
        )
        assert absent or found[way]["bytes"] > 0
    assert found["airgap, from JSON lines"]["bytes"] > 0
    assert found["JSON lines, jsonschema"]["check"] > 0
    assert "SQL to CSV, tar.gz" in found
