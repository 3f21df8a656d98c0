"""How a ledger's size bears on what is done with it: the same work in ledgers of growing size.

    python tests/benchmarks/ledger.py                       # 100,000 and 1,000,000 records in a file
    python tests/benchmarks/ledger.py --postgres            # beside it, the same in PostgreSQL
    python tests/benchmarks/ledger.py --sizes 100000 10000000
    python tests/benchmarks/ledger.py --sizes --sticks 100 1000   # sticks with so many bundles
    python tests/benchmarks/ledger.py --sizes --postgres --moves 200000   # from a file into PostgreSQL

A ledger is filled with delivered usage reports of a hundred sources, in bundles of 10,000 that were
answered by receipts; a few hundred records are in doubt or dead. Then one real bundle of 10,000
records (a fifth of them usage reports, the others trace transactions) is imported from a stick,
delivered to a beacon that answers at once, and answered by a receipt; and what people look at is
looked at. Every figure is the time of one run, in milliseconds; the last columns say how it grew.
Sticks hold bundles of 10 usage reports, ten of each source; their figures are milliseconds per bundle.
A move is one run of ``airgap ledger move``, with its start and its comparison of both sides.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from durability import AtOnce
from many_bundles import fill_stick
from postgres import PostgresServer, running
from support import LICENSE, SOURCE, Site, report, transaction

from airgap import catalog, home, media, timestamps, windows
from airgap.bundle import codec
from airgap.credentials import Keyring, fingerprint
from airgap.replay import coverage, decisions, importing, overview, tallies
from airgap.replay import report as reports
from airgap.replay.delivery import Delivery, Pace, Report, Surroundings
from airgap.replay.importing import Plan
from airgap.replay.ledger import Ledger
from airgap.replay.requests import Routes
from airgap.replay.shared import SharedDatabase
from airgap.windows import micros

SCHEMAS = catalog.load()
SOURCES, BUNDLE, MINUTE = 100, 10_000, 60_000_000
START = datetime(2025, 1, 1, tzinfo=UTC)
NOW = "2026-01-01T00:00:00Z"
CREDENTIAL = fingerprint("license", LICENSE)
EXPORTED = 10_000
_COLUMNS = {
    "record": "(number, id, kind, dialect, credential, occurrence, payload)",
    "open_record": "(record, kind, state, attempts, doubted, status, changed_at)",
    "delivered_record": "(record, attempts, doubted, status, changed_at)",
}
_FROM, _TO = b"2025-01-01T00:00:00Z", b"2025-01-01T00:00:01Z"


def receipt_name(source: int, sequence: int) -> str:
    """Return the name of a bundle's receipt."""
    return f"site-{source}-{sequence:06d}-r1.receipt"


def filling(count: int, *, seen: bool) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Yield rows by table, a bundle at a time."""
    start = micros(START)
    content = report(7, from_timestamp=_FROM.decode(), to_timestamp=_TO.decode())
    template = codec.encode({k: v for k, v in content.items() if k != "license"})
    there: dict[int, int] = {}
    size = min(BUNDLE, count)
    for bundle in range(1, count // size + 1):
        source = (bundle - 1) % SOURCES
        sequence = there[source] = there.get(source, 0) + 1
        first = (sequence - 1) * size
        window = [(start + first * MINUTE, start + (first + size) * MINUTE)]
        covered = json.dumps({"usage_report": window})
        identifier = sha256(b"%d" % bundle).hexdigest()
        numbers = range((bundle - 1) * size + 1, bundle * size + 1)
        yield "bundle", [
            (bundle, identifier, f"site-{source}", sequence,
             None if sequence == 1 else identifier, window[0][1], NOW, b"x" * 900,
             covered, covered, None, None, None)
        ]  # fmt: skip
        records = []
        for offset, number in enumerate(numbers):
            at = START + timedelta(minutes=first + offset)
            payload = template.replace(_FROM, timestamps.to_text(at).encode())
            payload = payload.replace(_TO, timestamps.to_text(at + timedelta(minutes=1)).encode())
            records.append(
                (number, sha256(b"r%d" % number).digest()[:16], "usage_report", "documents", CREDENTIAL,
                 0, payload)
            )  # fmt: skip
        yield "record", records
        left = 400 if bundle == 1 else 0
        states = ["dead" if offset % 2 else "in_doubt" for offset in range(left)]
        open_ = zip(numbers[:left], states, strict=True)
        yield "open_record", [(n, "usage_report", state, 1, 0, 204, NOW) for n, state in open_]
        yield "delivered_record", [(n, 1, 0, 204, NOW) for n in numbers[left:]]
        states += ["delivered"] * (size - left)
        yield "bundle_record", [(bundle, number, None) for number in numbers]
        yield "bundle_kind", [(bundle, "usage_report", size, size)]
        digest = sha256()
        for row, state in zip(records, states, strict=True):
            said = f'{{"answer": null, "at": "{NOW}", "detail": null, "id": "{row[1].hex()}",'
            digest.update(f'{said} "outcome": "{state}", "status": 204}}\n'.encode())
        name = receipt_name(source, sequence)
        if seen and bundle > 1:
            bounds = (window[0][0], window[0][1] - MINUTE)
            yield "delivered_bundle", [(bundle, digest.hexdigest(), None, *bounds)]
        yield "receipt", [(identifier, bundle, 1, name, digest.hexdigest(), NOW)]
    for source, sequence in there.items():
        known = windows.Coverage([(start, start + sequence * size * MINUTE)])
        yield "known_window", [(f"site-{source}", "usage_report", CREDENTIAL, known.to_bytes())]


def fill(ledger: Ledger, count: int, receipts: Path, *, seen: bool = False) -> None:
    """Put so many delivered records into an empty ledger, and files for their receipts into a home.

    Args:
        ledger: the ledger.
        count: how many records.
        receipts: the home's folder.
        seen: whether an import has seen already that their bundles are delivered.
    """
    raw = getattr(ledger.database, "_raw", None)
    execute = ledger.database.connection.execute
    if raw is None:
        execute("PRAGMA synchronous = OFF")
        execute("PRAGMA cache_size = -1000000")
    rows_of = filling(count, seen=seen)
    while part := list(islice(rows_of, 50)):
        with ledger.database.transaction() as connection:
            for table, rows in part:
                if table == "receipt":
                    (receipts / rows[0][3]).touch()
                columns = _COLUMNS.get(table, "")
                if not rows:
                    continue
                if raw is None:
                    marks = ", ".join("?" * len(rows[0]))
                    connection.executemany(f"INSERT INTO {table} {columns} VALUES ({marks})", rows)
                    continue
                with raw.cursor().copy(f"COPY {table} {columns} FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
    if raw is None:
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA cache_size = -65536")
        return
    for table in ("record", "bundle"):
        execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'number'), max(number)) FROM {table}"
        )
    execute("VACUUM ANALYZE")


@dataclass
class Clocked:
    """Delivers with ``AtOnce``, and notes when it began and ended."""

    at: list[float] = field(default_factory=list)

    def run(self, plan: Plan, ledger: Ledger, watcher: Any) -> Report:
        """See ``importing.Sending``."""
        self.at.append(time.perf_counter())
        around = Surroundings(time.monotonic, lambda _: None, random.random, lambda: False)
        made = Delivery(
            ledger, SCHEMAS, plan.keyring, plan.routes, AtOnce(), Pace(in_flight=16, rate=1e9), around,
            lambda _: None,
        ).run()  # fmt: skip
        self.at.append(time.perf_counter())
        return made


class Silent:
    """Sees nothing."""

    def warn(self, text: str) -> None:
        """See ``importing.Watcher``."""

    def imported(self, result: Any) -> None:
        """See ``importing.Watcher``."""
        if result.error is not None:
            raise result.error

    def standing(self, standings: Any) -> None:
        """See ``importing.Watcher``."""


def made_site(root: Path, records: int) -> Site:
    """Return a site with one bundle of so many records on its stick."""
    site = Site.build(root)
    some = records // 5
    values = [
        report(n, to_timestamp=f"2026-01-06T00:{n // 60 % 60:02d}:{n % 60:02d}.{n:06d}Z")
        for n in range(some)
    ]
    values.append(
        {"license": LICENSE, "trace_transactions": [transaction(n) for n in range(records - some)]}
    )
    site.collect(values)
    site.export()
    return site


def plan_of(site: Site, files: list[Path], *, resume: bool) -> Plan:
    """Return what an import is about."""
    return Plan(
        home.open_home(site.workstation), files, SCHEMAS, site.trust, Keyring.of([("license", LICENSE)]),
        Routes({"beacon": "http://beacon", "api": "http://beacon"}, {}), frozenset(), (),
        timedelta(days=1) // timedelta(microseconds=1), None, resume=resume, strict=False,
        clock=timestamps.system_clock,
    )  # fmt: skip


def measured(ledger: Ledger, site: Site) -> dict[str, float]:
    """Return how long each work takes, in milliseconds."""
    found: dict[str, float] = {}

    def noted(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        made = work()
        found[name] = (time.perf_counter() - start) * 1000
        return made

    def run(files: list[Path], *, resume: bool) -> list[float]:
        clocked, plan = Clocked([time.perf_counter()]), plan_of(site, files, resume=resume)
        importing.run(plan, ledger, site.importer, clocked, Silent(), receipt_to=site.stick)  # type: ignore[arg-type]
        return [*clocked.at, time.perf_counter()]

    begun, sending, sent, ended = run([site.bundle], resume=False)
    found["import: take in a bundle"] = (sending - begun) * 1000
    found["import: deliver it"] = (sent - sending) * 1000
    found["import: receipt and summary"] = (ended - sent) * 1000
    with ledger.database.transaction() as connection:
        connection.execute(
            "INSERT INTO open_record (record, kind, state, changed_at) SELECT number, kind, 'waiting', ?"
            " FROM record JOIN delivered_record ON record = number WHERE number > (SELECT max(number) FROM record) - ?", (NOW, EXPORTED)
        )  # fmt: skip
        connection.execute(
            "DELETE FROM delivered_record WHERE record IN (SELECT record FROM open_record)"
        )
    ledger.set_scope(ledger.bundles(SOURCE))
    noted("a page of what waits", lambda: next(ledger.waiting("usage_report")))
    with ledger.database.transaction() as connection:
        connection.execute(
            "INSERT INTO delivered_record (record, attempts, doubted, changed_at)"
            " SELECT record, attempts, doubted, changed_at FROM open_record WHERE state = 'waiting'"
        )
        connection.execute("DELETE FROM open_record WHERE state = 'waiting'")
    noted("import --resume, nothing left, first", lambda: run([], resume=True))
    noted("import --resume, nothing left", lambda: run([], resume=True))
    noted("status", lambda: looked(ledger))
    asked = reports.Asked(date(2026, 1, 1), date(2026, 1, 31))
    noted("report of a month", lambda: reports.summary(ledger, asked))
    [some] = ledger.database.connection.execute(
        "SELECT id FROM record WHERE number = 77"
    ).fetchone()
    noted("ledger show", lambda: decisions.show(ledger, decisions.find(ledger, some.hex()[:12])[0]))
    noted("ledger list", lambda: decisions.unsettled(ledger, "in_doubt", 100))
    return found


def looked(ledger: Ledger) -> None:
    """Do what ``airgap status`` does."""
    day = timedelta(days=1)
    seen = overview.look(
        ledger, timestamps.system_clock(), gap_over=day, max_age=35 * day, importing=False
    )
    tallies.by_source(ledger, scoped=False)
    list(tallies.undelivered(ledger, ("dead", "in_doubt"), scoped=False))
    for line in seen.sources:
        coverage.spans(ledger, line.standing)


def one(
    size: int, root: Path, server: PostgresServer | None, exported: int, *, seen: bool
) -> dict[str, float]:
    """Fill a ledger and measure."""
    site = made_site(root, exported)
    if server is not None:
        server.reset()
    place = SharedDatabase(server.url) if server else site.workstation / "ledger.sqlite"
    ledger = Ledger(place, SCHEMAS, timestamps.system_clock)
    begun = time.perf_counter()
    fill(ledger, size, home.open_home(site.workstation).folder("receipts"), seen=seen)
    print(f"filled {size:,} in {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    try:
        return measured(ledger, site)
    finally:
        ledger.close()


def stick(bundles: int, root: Path, server: PostgresServer | None) -> dict[str, float]:
    """Import a stick with so many bundles; return milliseconds per bundle."""
    site = Site.build(root)
    fill_stick(site, max(1, bundles // 10), min(10, bundles), 10)
    if server is not None:
        server.reset()
    place = SharedDatabase(server.url) if server else site.workstation / "ledger.sqlite"
    ledger = Ledger(place, SCHEMAS, timestamps.system_clock)
    found: dict[str, float] = {}
    try:
        for run in ("stick", "stick, once more"):
            clocked = Clocked([time.perf_counter()])
            files = media.files([site.stick], (".airgap",))
            importing.run(
                plan_of(site, files, resume=False), ledger, site.importer, clocked, Silent()
            )  # type: ignore[arg-type]
            clocked.at.append(time.perf_counter())
            names = ("take in", "deliver", "receipt and summary")
            for name, (start, end) in zip(names, pairwise(clocked.at), strict=True):
                found[f"{run}: {name}"] = (end - start) * 1000 / bundles
        begun = time.perf_counter()
        looked(ledger)
        found["stick: status"] = (time.perf_counter() - begun) * 1000 / bundles
    finally:
        ledger.close()
    return found


def moved(size: int, root: Path, server: PostgresServer) -> dict[str, float]:
    """Move a file's ledger to the server; return milliseconds, and MiB of memory at the most."""
    site = Site.build(root)

    def filled() -> None:
        ledger = Ledger(site.workstation / "ledger.sqlite", SCHEMAS, timestamps.system_clock)
        fill(ledger, size, home.open_home(site.workstation).folder("receipts"), seen=True)
        ledger.close()

    # In a process of its own: what this one needs at the most counts for those that it starts.
    filling = multiprocessing.get_context("fork").Process(target=filled)
    filling.start()
    filling.join()
    server.reset()
    words = ("ledger", "move", "--home", str(site.workstation), server.url)
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "airgap", *words])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the move ended with {status}")
    return {"ms": (time.perf_counter() - begun) * 1000, "MiB": usage.ru_maxrss / 1024}


Measure = Callable[[int, Path, PostgresServer | None], dict[str, float]]


def table(
    sizes: list[int], what: str, measure: Measure, server: PostgresServer | None
) -> dict[str, dict[str, list[float]]]:
    """Measure at each size, in a file and where there is one on a server; print a table."""
    figures: dict[str, dict[str, list[float]]] = {}
    kinds = ("file", "server") if server else ("file",)
    for kind in kinds:
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(size, Path(folder), server if kind == "server" else None)
            for name, value in found.items():
                figures.setdefault(name, {}).setdefault(kind, []).append(value)
    heads = [f"{kind}, {size:,}" for kind in kinds for size in sizes]
    print(f"\n| {what} | {' | '.join(heads)} | {' | '.join(f'{kind}: grown' for kind in kinds)} |")
    print(f"|---|{'---:|' * (len(heads) + len(kinds))}")
    for name, per in figures.items():
        cells = [f"{value:,.1f}" for values in per.values() for value in values]
        cells += [f"{values[-1] / values[0]:.1f}" for values in per.values()]
        print(f"| {name} | {' | '.join(cells)} |")
    return figures


def main() -> None:
    """Measure, print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--sticks", type=int, nargs="*", default=[], help="bundles on sticks")
    parser.add_argument(
        "--moves", type=int, nargs="*", default=[], help="records moved, with --postgres"
    )
    parser.add_argument("--exported", type=int, default=EXPORTED, help="records in the new bundle")
    parser.add_argument("--postgres", action="store_true", help="beside the file, in PostgreSQL")
    parser.add_argument(
        "--seen", action="store_true", help="begin with bundles that were seen to be delivered"
    )
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    figures: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(running()) if chosen.postgres else None
        if chosen.sizes:
            figures |= table(
                chosen.sizes, "ms", partial(one, exported=chosen.exported, seen=chosen.seen), server
            )
        if chosen.sticks:
            figures |= table(chosen.sticks, "ms per bundle", stick, server)
        for size in chosen.moves if server else ():
            with tempfile.TemporaryDirectory() as folder:
                for name, value in moved(size, Path(folder), server).items():
                    figures.setdefault("move", {}).setdefault(name, []).append(value)
    if "move" in figures:
        print("\n| moved | s | records per second | peak, MiB |\n|---:|---:|---:|---:|")
        for size, ms, peak in zip(chosen.moves, *figures["move"].values(), strict=True):
            print(f"| {size:,} | {ms / 1000:.1f} | {size * 1000 / ms:,.0f} | {peak:.0f} |")
    print(f"\n{os.cpu_count()} cores, Python {platform.python_version()}, "
          f"SQLite {sqlite3.sqlite_version}")  # fmt: skip
    if chosen.json:
        sizes = {"sizes": chosen.sizes, "sticks": chosen.sticks, "moves": chosen.moves}
        chosen.json.write_text(json.dumps({**sizes, "ms": figures}, indent=2))


if __name__ == "__main__":
    main()
