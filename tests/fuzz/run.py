"""Fuzz one way in: ``python tests/fuzz/run.py TARGET --seconds 600``; see README.md beside this.

With atheris installed the run is guided by coverage; else, or with ``--inputs``, inputs come from a
seeded mutator alone, the same ones each time. Either way the process has limits on its memory and
on the processor time of each input, and a finding is saved as a file.
"""

import argparse
import hashlib
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType, ModuleType
from typing import NoReturn

HERE = Path(__file__).resolve().parent
MEMORY = 512 * 1024**2
"""Bytes of address space that a target may take beyond what the process had before."""
SECONDS = 10
"""Seconds of processor time that one input may take."""
LARGEST = 64 * 1024
"""Bytes of the largest input that coverage guides to."""


class TooLongError(Exception):
    """An input takes more processor time than is allowed."""


def main() -> int:
    """Run what the command line says; the exit status is 1 where there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", help="one of the targets, or all")
    parser.add_argument("--seconds", type=int, default=60, help="how long, for each target")
    parser.add_argument(
        "--inputs", type=int, help="how many, without coverage; 0: each target's own number"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--work", type=Path, default=Path(".fuzz"), help="for findings and new corpus files"
    )
    parser.add_argument("--try", dest="file", type=Path, help="try this one file only")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    guide = None if options.inputs is not None or options.file else _atheris()
    if guide is not None:
        with guide.instrument_imports(include=["airgap"]):
            from fuzz import table
    else:
        from fuzz import table
    names = list(table.TARGETS) if options.target == "all" else [options.target]
    if not set(names) <= table.TARGETS.keys():
        parser.error(f"no such target; there are {', '.join(table.TARGETS)}")
    options.work.mkdir(parents=True, exist_ok=True)
    if guide is not None:
        if len(names) > 1:
            parser.error("coverage guides one target at a time")
        _guided(guide, names[0], options)
    limit()
    return max([_plain(name, options) for name in names])


def corpus(name: str) -> list[bytes]:
    """Return a target's inputs that are kept here."""
    return [path.read_bytes() for path in sorted((HERE / "corpus" / name).glob("*"))]


def inputs(name: str, count: int, seed: int) -> Iterator[bytes]:
    """Yield seeds and corpus, then so many changed inputs, always the same ones."""
    from fuzz import table

    target = table.TARGETS[name]
    known = [*target.seeds(), *corpus(name)]
    yield from known
    rng = Random(f"{name} {seed}")
    changed: list[bytes] = []
    for _ in range(count):
        # A chain of changes reaches further than one, and ends in noise.
        origin = changed if changed and rng.random() < 0.3 else known
        data = target.mutate(rng.choice(origin), known, rng)
        if rng.random() < 0.1 and len(data) < LARGEST:
            changed = [*changed, data][-50:]
        yield data


def limit() -> None:
    """Bound this process's memory from here on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGXCPU, _too_long)


def allow() -> None:
    """Give the next input its processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _too_long(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise TooLongError


def _plain(name: str, options: argparse.Namespace) -> int:
    from fuzz import table

    target = table.TARGETS[name]
    count = target.inputs if options.inputs == 0 else options.inputs or sys.maxsize
    given = [options.file.read_bytes()] if options.file else inputs(name, count, options.seed)
    ends = None if options.inputs is not None else options.seconds
    tried, found = 0, 0
    for data in given:
        allow()
        try:
            target.run(data)
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            found += 1
            traceback.print_exc()
            path = options.work / f"finding-{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"{name}: finding, saved as {path}", file=sys.stderr)
        tried += 1
        if ends is not None and resource.getrusage(resource.RUSAGE_SELF).ru_utime > ends:
            break
    print(f"{name}: {tried} inputs tried, {found} findings")
    return min(found, 1)


def _guided(guide: ModuleType, name: str, options: argparse.Namespace) -> NoReturn:
    from fuzz import table

    target = table.TARGETS[name]
    grown = options.work / "corpus" / name
    seeds = options.work / "seeds" / name
    for folder in (grown, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    known = [*target.seeds(), *corpus(name)]
    for data in known:
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def change(data: bytes, largest: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < 0.2:
            return bytes(guide.Mutate(data, largest))
        return target.mutate(data, known, rng)[:largest]

    def one(data: bytes) -> None:
        allow()
        target.run(data)

    def cross(data: bytes, other: bytes, largest: int, seed: int) -> bytes:
        return target.mutate(data, [other], Random(seed))[:largest]

    limit()
    arguments = [
        *(sys.argv[0], str(grown), str(seeds), f"-max_total_time={options.seconds}"),
        *(f"-max_len={LARGEST}", f"-artifact_prefix={options.work}/finding-{name}-"),
        *("-print_final_stats=1", "-rss_limit_mb=1500", f"-timeout={2 * SECONDS}", "-verbosity=1"),
    ]
    guide.Setup(arguments, one, custom_mutator=change, custom_crossover=cross)
    guide.Fuzz()
    raise SystemExit(0)


def _atheris() -> ModuleType | None:
    try:
        import atheris
    except ImportError:
        return None
    return atheris


if __name__ == "__main__":
    sys.exit(main())
