"""SIGKILL at every sync and rename of the isolated side: nothing lost, nothing half-written."""

import json
import shutil
import subprocess
import sys

import pytest
from support import report, run, write_lines

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
_CALLS = "fsync,fdatasync,rename,link,unlink"
_MOST_CALLS = 60


def killed_at(number, *arguments):
    """Run a command and kill it at its n-th such system call; tell whether it got that far."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={_CALLS}"]
    command += ["-e", f"inject={_CALLS}:signal=SIGKILL:when={number}"]
    command += [sys.executable, "-m", "airgap", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0:
        return False
    assert done.returncode in (-9, 137), done.stderr
    return True


def every_kill(command, check):
    number = 1
    while killed_at(number, *command):
        check()
        number += 1
        assert number < _MOST_CALLS
    assert number > 2


def test_kill_9_at_every_sync_of_collect_takes_over_a_file_whole_or_not_at_all(site):
    path = write_lines(site.root / "usage.jsonl", [report(n, n) for n in range(5)])

    def check():
        waiting = site.status()["waiting"]
        assert waiting.get("usage_report", {"records": 0})["records"] in (0, 5)

    every_kill(("collect", "--home", site.isolated, path), check)
    assert site.status()["waiting"]["usage_report"]["records"] == 5


def _records(status):
    waiting = status["waiting"].get("usage_report", {"records": 0})["records"]
    return waiting + sum(sum(b["outcomes"].values()) for b in status["bundles"])


def test_kill_9_at_every_sync_of_export_leaves_no_half_bundle_and_loses_no_record(site):
    values = [report(0, 0)]

    def check():
        for bundle in site.stick.glob("*.airgap"):
            run("verify", "--home", site.workstation, bundle)
        assert _records(site.status()) == len(values)
        # Each try brings a new record, so that there is always something to export.
        values.append(report(0, 0, to_timestamp=f"2026-03-{1 + len(values):02d}T00:00:00Z"))
        site.collect(values)

    site.collect(values)
    every_kill(("export", "--home", site.isolated, "--to", site.stick), check)
    status = site.status()
    assert _records(status) == len(values)
    sequences = [bundle["sequence"] for bundle in status["bundles"]]
    assert sequences == list(range(1, len(sequences) + 1))
    assert all(bundle["written_to"] for bundle in status["bundles"])
    bundles = sorted(site.stick.glob("*.airgap"))
    assert len(bundles) == len(sequences)
    result = json.loads(run("verify", "--home", site.workstation, *bundles, "--json").stdout)
    assert sum(f["manifest"]["records"] for f in result["files"]) == len(values)


def test_kill_9_at_every_sync_of_receipt_apply_confirms_all_or_nothing(site, beacon):
    site.collect([report(n, n) for n in range(5)])
    site.export()
    site.import_(beacon.url)

    def check():
        confirmed = site.status()["confirmed"]
        assert confirmed.get("usage_report", {"records": 0})["records"] in (0, 5)

    every_kill(("receipt", "apply", "--home", site.isolated, site.stick), check)
    assert site.status()["confirmed"]["usage_report"]["records"] == 5
