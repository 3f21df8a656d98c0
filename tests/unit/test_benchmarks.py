"""The benchmarks run, and measure what they say; how fast is for a person to read."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY

ONE = ("--rounds", "1")


@pytest.fixture
def measured(tmp_path: Path):
    """Return what runs a benchmark in a short form: its figures, and what it prints."""

    def run(name: str, *options: str) -> tuple[Any, str]:
        figures = tmp_path / "figures.json"
        script = REPOSITORY / "tests" / "benchmarks" / f"{name}.py"
        done = subprocess.run(
            [sys.executable, script, *options, "--json", figures],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(figures.read_text()), done.stdout

    return run


def test_the_durability_benchmark_delivers_every_record_in_each_of_its_runs(measured):
    found, said = measured("durability", *ONE, "--records", "8", "--transactions", "40")
    assert {(f["kind"], f["beacon"]) for f in found} == {
        (kind, beacon)
        for kind in ("usage_report", "trace_transactions")
        for beacon in ("none", "loopback")
    }
    assert all(f["durable"] > 0 and f["not_durable"] > 0 for f in found)
    assert "durable" in said


def test_the_benchmark_of_keys_compares_both_algorithms_and_every_way_to_seal(measured):
    figures, _ = measured("keys", *ONE, "--records", "20", "--times", "2")
    found = {(f["what"], f["name"]): f["median"] for f in figures}
    assert found["signature, bytes", "ed25519+ml-dsa-65"] == 64 + 3309
    sizes = [found["bundle, bytes", name] for name in ("plain", "x25519", "mlkem768-x25519")]
    assert sizes == sorted(sizes)
    assert len(found) == 15
    assert all(value > 0 for value in found.values())


def test_the_benchmark_of_starting_up_measures_every_command_beside_an_empty_python(measured):
    found, said = measured("startup", *ONE)
    assert next(iter(found)) == "python -c pass"
    assert {"airgap --help", "airgap verify BUNDLE"} <= found.keys()
    assert all(f"`{name}`" in said for name in found)


def test_the_benchmark_of_exporting_measures_each_step_from_each_source(measured):
    figures, _ = measured("export", *ONE, "--records", "60", "--source", "lines")
    found = {(f["kind"], f["step"]): f for f in figures}
    assert set(found) == {
        (kind, step)
        for kind in ("usage_report", "trace_transactions")
        for step in ("bare", "collect", "export", "both")
    }
    assert all(f["rate"] > 0 and f["ratio"] > 0 and f["peak"] > 10 for f in found.values())
    assert found["usage_report", "export"]["bytes"] > 0


def test_the_benchmark_of_verification_compares_every_check_with_its_bare_form(measured):
    found, _ = measured("verify", *ONE, "--records", "40", "--mebibytes", "1")
    names = {(f["what"], f["name"]) for f in found}
    for kind in ("usage_report", "trace_transactions"):
        assert {(kind, "bare loop"), (kind, "full check")} <= names
    assert ("digests, as a call", "verify_digests") in names
    assert ("digests, as a process", "airgap verify --digests-only") in names
    assert {("memory, usage_report", "10 records"), ("memory, usage_report", "40 records")} <= names
    assert all(f["rate"] > 0 and f["ratio"] > 0 for f in found)


def test_the_benchmark_of_todays_ways_takes_each_whose_tools_are_there(measured):
    figures, _ = measured("today", *ONE, "--records", "20")
    found = {f["way"]: f for f in figures}
    for tool in ("minisign", "age"):
        absent = [name for name in ("zstd", tool) if shutil.which(name) is None]
        row = found[f"zstd, {tool}"]
        assert row.get("missing") == (f"apt-get install {' '.join(absent)}" if absent else None)
        assert absent or row["bytes"] > 0
    assert found["airgap, from JSON lines"]["bytes"] > 0
    assert found["JSON lines, jsonschema"]["check"] > 0
    assert "SQL to CSV, tar.gz" in found


def test_the_benchmark_of_delivery_holds_airgap_against_each_client_on_the_same_requests(measured):
    found, _ = measured(
        "replay",
        *ONE,
        *("--records", "10", "--transactions", "600", "--bundle", "20"),
        *("--in-flight", "2", "--latency", "0.01", "--seconds", "0.1"),
    )
    single = {f["name"]: f for f in found if f["what"] == "usage reports per second"}
    assert {"raw sockets", "pycurl", "http.client", "httpx", "airgap"} <= single.keys()
    assert sum(f["fastest"] for f in single.values()) == 1
    assert {f["what"] for f in found} == {
        "usage reports per second", "trace transactions per second", "with latency", "import",
    }  # fmt: skip
    assert all(f["rate"] > 0 for f in found)


def test_the_benchmark_of_the_ledger_does_the_same_work_in_ledgers_and_sticks_of_growing_size(
    measured,
):
    figures, said = measured(
        "ledger", *("--sizes", "500", "1000", "--exported", "20", "--sticks", "1", "2")
    )
    found = figures["ms"]
    assert {
        "import: take in a bundle",
        "status",
        "report of a month",
        "stick: take in",
    } <= found.keys()
    assert all(len(per["file"]) == 2 and min(per["file"]) > 0 for per in found.values())
    assert all(f"| {name} |" in said for name in found)
