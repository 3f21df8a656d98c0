"""What it costs to start airgap, beside a Python that does nothing.

    python tests/benchmarks/startup.py

Whole processes, one after the other in turns in one run: ``python -c pass``, ``airgap --version``,
``airgap --help``, ``airgap export --help``, and ``airgap verify`` and ``airgap inspect`` of a small golden
bundle. Only ratios mean something on another machine.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import run

from airgap.trust import keys

TESTS = Path(__file__).parent.parent
BUNDLE = TESTS / "vectors" / "bundle-zstd.airgap"
KEY = TESTS / "vectors" / "exporter.pub"


def home_that_trusts(folder: Path) -> Path:
    """Return a workstation's home that trusts the golden bundle's key."""
    home = folder / "home"
    run("init", "--home", home, "--workstation", "relay-1")
    fingerprint = keys.public_from_bytes(KEY.read_bytes(), where="vectors").fingerprint
    run("trust", "add", "--home", home, KEY, "--role", "exporter", "--source", "*",
        "--fingerprint", fingerprint)  # fmt: skip
    return home


def milliseconds(command: list[str]) -> float:
    """Return how long a process takes that must end well."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Print the figures as a table of this page's kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    given = parser.parse_args()
    airgap = [sys.executable, "-m", "airgap"]
    with tempfile.TemporaryDirectory() as folder:
        home = ["--home", str(home_that_trusts(Path(folder)))]
        bundle = str(shutil.copy(BUNDLE, folder))
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "airgap --version": [*airgap, "--version"],
            "airgap --help": [*airgap, "--help"],
            "airgap export --help": [*airgap, "export", "--help"],
            "airgap inspect BUNDLE": [*airgap, "inspect", *home, bundle],
            "airgap verify BUNDLE": [*airgap, "verify", *home, bundle],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for command in commands.values():
            milliseconds(command)  # once, so that compiled modules are there
        for _ in range(given.rounds):
            for name, command in commands.items():
                taken[name].append(milliseconds(command))
    figures = {name: statistics.median(found) for name, found in taken.items()}
    least = figures["python -c pass"]
    print("| command | median, ms | against `python -c pass` |\n|---|---:|---:|")
    for name, found in figures.items():
        print(f"| `{name}` | {found:.0f} | {found / least:.1f} |")
    if given.json:
        given.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
