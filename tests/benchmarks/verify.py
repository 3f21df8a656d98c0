"""What verification costs: the full check beside a bare loop, signature and digests beside sha256sum.

    python tests/benchmarks/verify.py

The bare loop reads the chunks, decompresses each, unpacks it whole and without any limit, and asks
jsonschema-rs whether each payload is valid: no signature, digest, limit, canonical form, total, window or
name. Both go over the same bundle in turns in one process. Signature and digests are taken of an uncompressed
bundle, as a call beside hashlib and as a process beside ``sha256sum`` and ``openssl``, with the file in the
system's memory. Only ratios mean something on another machine.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, str(Path(__file__).parent.parent))

import jsonschema_rs
import msgpack
import sample
import zstandard
from support import bundle_fields, run, trusted

from airgap import catalog, verify
from airgap.blockwise import Blockwise
from airgap.bundle.layout import Header, chunk_head
from airgap.bundle.writer import Writer
from airgap.contents import Contents
from airgap.trust import keys
from airgap.trust import store as trust_store
from airgap.trust.store import TrustStore

SCHEMAS = catalog.load()
KEY = keys.from_seed(bytes(32))
TRUST = TrustStore({}).with_key(trusted(KEY, "exporter"))
MADE = {"usage_report": sample.usage_reports, "trace_transactions": sample.transactions}
AT_ONCE = 1000


def records(kind: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield made-up records as they stand in a bundle."""
    for value in MADE[kind](count):
        value.pop("license", None)
        yield {
            "kind": kind,
            "dialect": "documents",
            "credential": "license:" + "0" * 32,
            "occurrence": 0,
            "payload": value,
        }


def write(path: Path, kind: str, count: int, compression: str = "zstd") -> Path:
    """Write a signed bundle of records whose totals hold."""
    contents, blockwise, made = Contents(), Blockwise(SCHEMAS), records(kind, count)
    with path.open("wb") as stream:
        writer = Writer(stream, Header("bundle", "zstd" if compression == "zstd" else "none"))
        while some := list(islice(made, AT_ONCE)):
            assert blockwise.add(some, contents)
            for element in some:
                writer.add(element)
        writer.finish(bundle_fields(**contents.as_map(SCHEMAS)), [KEY.sign])
    return path


def bare(stream: BinaryIO, kind: str) -> int:
    """Return how many payloads of a bundle are valid, and check nothing else."""
    file, manifest = verify.peek(stream, name="b", catalog=SCHEMAS)
    validator = jsonschema_rs.Draft202012Validator(
        SCHEMAS.schema(f"kinds/{kind}"), validate_formats=True
    )
    expand = zstandard.ZstdDecompressor().decompress
    valid = 0
    stream.seek(file.header_size)
    for chunk in manifest["chunks"]:
        stream.seek(len(chunk_head(chunk["size"])), io.SEEK_CUR)
        for element in msgpack.unpackb(expand(stream.read(chunk["size"]))):
            valid += validator.is_valid(element["payload"])
    return valid


def full(stream: BinaryIO) -> int:
    """Return how many records a bundle has, after the full check."""
    bundle = verify.verify_bundle(stream, name="b", trust=TRUST, catalog=SCHEMAS)
    return int(bundle.manifest["records"])


def seconds(step: Callable[[], object]) -> float:
    """Return how long something takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def process(*command: object, env: dict[str, str] | None = None) -> tuple[float, int]:
    """Return how long a process takes that must end well, and the most memory it had, in bytes."""
    started = time.perf_counter()
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, env=env) as child:
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    return time.perf_counter() - started, used.ru_maxrss * 1024


def in_turns(steps: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return what each step returns in each round, after a round that does not count."""
    for step in steps.values():
        step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            taken[name].append(step())
    return taken


def rows(
    what: str, amount: float, unit: str, taken: dict[str, list[float]], base: str
) -> Iterator[dict[str, object]]:
    """Yield a row per name: its median rate, and the median of its rounds' ratios to ``base``."""
    for name, found in taken.items():
        ratio = statistics.median(b / f for b, f in zip(taken[base], found, strict=True))
        rate = amount / statistics.median(found)
        yield {"what": what, "name": name, "unit": unit, "rate": rate, "ratio": ratio}


def home_that_trusts(folder: Path) -> Path:
    """Return a workstation's home that trusts this benchmark's key."""
    home = folder / "home"
    run("init", "--home", home, "--workstation", "relay-1")
    trust_store.save(home / "trust.json", TRUST)
    return home


def full_checks(folder: Path, count: int, rounds: int) -> Iterator[dict[str, object]]:
    """Yield the rows of the full check."""
    for kind in MADE:
        data = write(folder / f"{kind}.airgap", kind, count).read_bytes()
        assert bare(io.BytesIO(data), kind) == full(io.BytesIO(data)) == count
        taken = in_turns(
            {
                "bare loop": lambda d=data, k=kind: seconds(lambda: bare(io.BytesIO(d), k)),
                "full check": lambda d=data: seconds(lambda: full(io.BytesIO(d))),
            },
            rounds,
        )
        yield from rows(kind, count, "records/s", taken, "bare loop")


def digest_checks(
    folder: Path, home: Path, mebibytes: int, rounds: int
) -> Iterator[dict[str, object]]:
    """Yield the rows of signature and digests alone."""
    path = write(folder / "large.airgap", "usage_report", mebibytes * 1400, "none")
    size = path.stat().st_size / 1024**2

    def call() -> None:
        with path.open("rb") as stream:
            verify.verify_digests(stream, name="b", trust=TRUST, catalog=SCHEMAS)

    def hashed() -> None:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")

    taken = in_turns(
        {"hashlib": lambda: seconds(hashed), "verify_digests": lambda: seconds(call)}, rounds
    )
    yield from rows("digests, as a call", size, "MiB/s", taken, "hashlib")
    airgap = (sys.executable, "-m", "airgap", "verify", "--home", home)
    steps = {"sha256sum": lambda: process("sha256sum", path)[0]}
    if shutil.which("openssl"):
        steps["openssl dgst -sha256"] = lambda: process("openssl", "dgst", "-sha256", path)[0]
    steps["airgap verify --digests-only"] = lambda: process(*airgap, "--digests-only", path)[0]
    taken = in_turns(steps, rounds)
    yield from rows("digests, as a process", size, "MiB/s", taken, "sha256sum")


def memory(folder: Path, home: Path, count: int) -> Iterator[dict[str, object]]:
    """Yield how much memory ``airgap verify`` has at most, for a bundle and one four times its size."""
    least = None
    for kind in MADE:
        for times in (1, 4):
            path = write(folder / "grown.airgap", kind, count * times)
            _, most = process(sys.executable, "-m", "airgap", "verify", "--home", home, path)
            least = most if times == 1 else least
            name = f"{count * times:,} records"
            yield {"what": f"memory, {kind}", "name": name, "unit": "MiB", "rate": most / 1024**2,
                   "ratio": most / (least or most)}  # fmt: skip


def main() -> None:
    """Print the figures as a table of this page's kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=40_000, help="records of a bundle")
    parser.add_argument("--mebibytes", type=int, default=128, help="size of the file for digests")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    given = parser.parse_args()
    figures: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = home_that_trusts(folder)
        figures.extend(full_checks(folder, given.records, given.rounds))
        figures.extend(digest_checks(folder, home, given.mebibytes, given.rounds))
        figures.extend(memory(folder, home, given.records // 4))
    print(f"Python {platform.python_version()}, median of {given.rounds}")
    print("| what | name | median | unit | against the first |\n|---|---|---:|---|---:|")
    for row in figures:
        print("| {what} | {name} | {rate:,.0f} | {unit} | {ratio:.2f} |".format(**row))
    if given.json:
        given.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
