"""A folder for what a target must have as a file; in memory where the system has that."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

_IN_MEMORY = "/dev/shm"


@cache
def folder() -> Path:
    """Return this process's folder, which goes when it ends."""
    wanted = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="airgap-fuzz-", dir=wanted))
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(made, ignore_errors=True))
    return made
