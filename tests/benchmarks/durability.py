"""What durability costs: delivery with the journal on disk at each step, against without.

    python tests/benchmarks/durability.py

Each pair runs side by side, in turns, in one process: the same records, the same code, and a
ledger that differs in one thing only. ``durable`` is what airgap does: each commit is on disk
before a request leaves (WAL, synchronous=FULL). ``not durable`` tells SQLite to trust the
operating system (synchronous=OFF), so a power cut could forget what was sent.

The beacon is either none at all (each request is answered at once, in the process: the journal
stands out as much as it ever can), or a real HTTP server on loopback in a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import LICENSE, report, transaction

from airgap import catalog, timestamps
from airgap.collect.payloads import Rules, records_of
from airgap.credentials import Keyring
from airgap.records import record_id
from airgap.replay.answers import Answer
from airgap.replay.delivery import Delivery, Pace, Surroundings
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.requests import Request, Routes
from airgap.replay.transport import HttpTransport

SCHEMAS = catalog.load()


def values(kind: str, count: int) -> list[dict]:
    """Return requests that hold ``count`` records of a kind."""
    if kind == "usage_report":
        return [
            report(n, to_timestamp=f"2026-01-06T00:{n // 60 % 60:02d}:{n % 60:02d}.{n:06d}Z")
            for n in range(count)
        ]
    return [{"license": LICENSE, "trace_transactions": [transaction(n) for n in range(count)]}]


def filled(path: Path, kind: str, count: int) -> Ledger:
    """Return a ledger in which ``count`` records wait."""
    ledger = Ledger(path, SCHEMAS, timestamps.system_clock)
    connection = ledger.database.connection
    with ledger.database.transaction():
        connection.execute(
            "INSERT INTO bundle VALUES (1, 'b', 's', 1, NULL, 0, '', x'', '{}', '{}', NULL, NULL, NULL)"
        )
        for value in values(kind, count):
            for record in records_of(value, b"", SCHEMAS, Rules(), where="benchmark"):
                identifier = record_id("s", record, SCHEMAS.kind(record.kind))
                ledger._add_page(1, [(identifier, record)], "2026-01-01T00:00:00Z", "benchmark")
    ledger.set_scope([LedgerBundle(1, "b", "s", 1, None, 0)])
    return ledger


def answer_to(body: bytes) -> Answer:
    """Answer as the beacon does."""
    if b"trace_transactions" in body:
        return Answer(200, b'{"inserted_count":%d}' % body.count(b'"tenant_id"'))
    return Answer(204, b"")


class AtOnce:
    """A transport that answers without a network."""

    def __init__(self) -> None:
        self._answers: list[tuple[int, Answer]] = []

    def begin(self, flight: int, request: Request) -> None:
        """Answer at once."""
        self._answers.append((flight, answer_to(request.body)))

    def landed(self, _seconds: float) -> list[tuple[int, Answer]]:
        """Return the answers."""
        answers, self._answers = self._answers, []
        return answers


def serve(ready: multiprocessing.SimpleQueue) -> None:
    """Answer requests on loopback, connections kept alive, until the process is ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    ready.put(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_converse, args=(connection,), daemon=True).start()


def _converse(connection: socket.socket) -> None:
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            part = connection.recv(1 << 16)
            if not part:
                return
            data += part
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(rest) < length:
            rest += connection.recv(1 << 16)
        body, data = rest[:length], rest[length:]
        said = answer_to(body)
        connection.sendall(
            b"HTTP/1.1 %d Any\r\nContent-Length: %d\r\n\r\n%b"
            % (said.status, len(said.body), said.body)
        )


def run(kind: str, count: int, in_flight: int, url: str | None, *, durable: bool) -> float:
    """Deliver; return records per second."""
    # Beside this file's tree and not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        ledger = filled(Path(folder) / "ledger.sqlite", kind, count)
        ledger.database.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        around = Surroundings(time.monotonic, time.sleep, random.random, lambda: False)
        routes = Routes(dict.fromkeys(("beacon", "api"), url or "http://127.0.0.1"), {})
        transport = AtOnce() if url is None else HttpTransport(
            timeout=30, in_flight=in_flight, ca_file=None, clock=timestamps.system_clock
        )  # fmt: skip
        began = time.perf_counter()
        try:
            Delivery(
                ledger, SCHEMAS, Keyring.of([("license", LICENSE)]), routes, transport,
                Pace(in_flight=in_flight, rate=1e6), around, lambda _: None,
            ).run()  # fmt: skip
            seconds = time.perf_counter() - began
        finally:
            if url is not None:
                transport.__exit__(None, None, None)
        assert ledger.states(scoped=True) == {kind: {"delivered": count}}
        ledger.close()
    return count / seconds


def sync_seconds() -> float:
    """Return what one small fdatasync takes here: the floor under every commit."""
    with tempfile.TemporaryFile(dir=Path.cwd()) as file:
        times = []
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Run every pair and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=2000, help="usage reports per run")
    parser.add_argument("--transactions", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    ready: multiprocessing.SimpleQueue = multiprocessing.SimpleQueue()
    server = multiprocessing.Process(target=serve, args=(ready,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ready.get()}"
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}"
    )
    print(
        f"one fdatasync here: {sync_seconds() * 1000:.2f} ms; records per second, median of {options.rounds}\n"
    )
    print(
        f"{'kind':<20}{'beacon':<12}{'in flight':>9}{'durable':>12}{'not durable':>13}{'ratio':>8}"
    )
    figures = []
    cases = [("usage_report", options.records), ("trace_transactions", options.transactions)]
    for kind, count in cases:
        for where, base in (("none", None), ("loopback", url)):
            for in_flight in (1, 4, 16, 64):
                pairs = [
                    [
                        run(kind, count, in_flight, base, durable=durable)
                        for durable in (True, False)
                    ]
                    for _ in range(options.rounds)
                ]
                durable, loose = (statistics.median(column) for column in zip(*pairs, strict=True))
                print(
                    f"{kind:<20}{where:<12}{in_flight:>9}{durable:>12,.0f}{loose:>13,.0f}{durable / loose:>8.2f}",
                    flush=True,
                )
                figures.append(
                    {
                        "kind": kind,
                        "beacon": where,
                        "in_flight": in_flight,
                        "durable": durable,
                        "not_durable": loose,
                    }
                )
    server.kill()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
