"""SQLite as outbox and ledger use it."""

import subprocess
import sys

_FILLED = """
import os, sys
from pathlib import Path
from airgap import catalog
from airgap.outbox import Outbox

box = Outbox(Path(sys.argv[1]) / "outbox.sqlite", "bank-a", catalog.load())
connection = box.database.connection
connection.execute("PRAGMA temp.cache_size = 1")
connection.execute("CREATE TEMP TABLE much (a BLOB)")
connection.executemany("INSERT INTO much VALUES (randomblob(1000))", [()] * 1000)
for number in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink(f"/proc/self/fd/{number}"))
    except FileNotFoundError:
        pass
"""


def test_temporary_files_lie_in_the_home_and_need_no_other_folder(tmp_path):
    """They may hold records; in a container with a read-only root there is no /tmp to write to."""
    home = tmp_path / "it's a home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _FILLED, home], capture_output=True, text=True, check=True, cwd="/"
    )
    temporary = [name for name in done.stdout.splitlines() if name.endswith("(deleted)")]
    assert [name for name in temporary if name.startswith(f"{home}/etilqs_")]
    assert not [name for name in temporary if not name.startswith(f"{home}/")]
