"""However many records there are, collecting and exporting them takes the same memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

_SCRIPT = REPOSITORY / "tests" / "peaks.py"


@pytest.fixture
def peaks(tmp_path: Path):
    """Return what tells how much memory each part of a step took, in KiB."""

    def run(step: str, records: int) -> dict[str, int]:
        folder = tmp_path / f"{step}-{records}"
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, _SCRIPT, step, folder, str(records)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, int] = json.loads(done.stdout)
        return found

    return run


def test_three_times_as_many_records_take_no_more_memory_to_collect_and_to_export(peaks):
    few, many = peaks("journey", 10_000), peaks("journey", 30_000)
    # Kept as objects, a record would take 2 KiB.
    assert many["collect"] < few["collect"] + 4096
    assert many["export"] < few["export"] + 4096


def test_what_export_asks_of_the_outbox_sorts_no_records_in_memory(peaks):
    # Sorted, 400,000 records took 12 MiB.
    assert peaks("questions", 400_000)["questions"] < 2048
