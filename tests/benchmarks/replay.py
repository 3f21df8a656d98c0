"""How fast delivery is: beside bare loops of HTTP clients against the same server, in one run.

    python tests/benchmarks/replay.py [--json FILE]

The server is a real HTTP/1.1 server on loopback in a process of its own, which answers as the beacon
does, after a latency where one is asked for. A bare loop sends the very requests that airgap sends,
made beforehand, keeps no ledger and judges no answer. airgap delivers out of a ledger at full
durability: each request is on disk as being sent before it leaves, each answer when it came. "not
durable" is the same without waiting for the disk, which airgap never does: what the disk takes.

Bare loops of clients that are not installed (aiohttp, which airgap does not use) are left out. The
loop over raw sockets is no client, since it reads no answer: it shows what the server can do.
"""

import argparse
import asyncio
import http.client
import itertools
import json
import multiprocessing
import os
import platform
import random
import socket
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pycurl
from durability import SCHEMAS, answer_to, filled, sync_seconds, values
from support import LICENSE, Site

from airgap import timestamps
from airgap.credentials import Keyring
from airgap.replay.delivery import Delivery, Pace, Surroundings
from airgap.replay.ledger import Ledger
from airgap.replay.requests import Request, Routes, batches, build
from airgap.replay.transport import HttpTransport
from airgap.verify import verify_bundle

KEYRING = Keyring.of([("license", LICENSE)])
NO_LIMIT = 1e6


# ---- the server


class Conversation(asyncio.Protocol):
    """One connection, kept alive: each request that came whole is answered after the latency."""

    latency = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Answer what is whole now."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(self._data) < end + 4 + length:
                return
            body = self._data[end + 4 : end + 4 + length]
            self._data = self._data[end + 4 + length :]
            said = answer_to(body)
            answer = b"HTTP/1.1 204 No Content\r\n\r\n" if said.status == 204 else (
                b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (said.status, len(said.body), said.body)
            )  # fmt: skip
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self._transport.write, answer)
            else:
                self._transport.write(answer)


def serve(latency: float, ready: "multiprocessing.SimpleQueue[int]") -> None:
    """Serve on loopback until the process is ended."""

    async def run() -> None:
        Conversation.latency = latency
        server = await asyncio.get_running_loop().create_server(Conversation, "127.0.0.1", 0)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def started(latency: float) -> tuple[multiprocessing.Process, str]:
    """Return a server's process and its URL."""
    ready: multiprocessing.SimpleQueue[int] = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(target=serve, args=(latency, ready), daemon=True)
    process.start()
    return process, f"http://127.0.0.1:{ready.get()}"


# ---- bare loops


def in_threads(requests: list[Request], in_flight: int, open_: Callable[[], Callable]) -> None:
    """Send all requests from so many threads; what ``open_`` returns sends one."""
    queue = iter(requests)
    lock = threading.Lock()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            send = open_()
            while True:
                with lock:
                    request = next(queue, None)
                if request is None:
                    return
                assert send(request) in (200, 204)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def by_raw_sockets(requests: list[Request], in_flight: int) -> None:
    """Write bytes and read one packet."""
    parts = urlsplit(requests[0].url)
    messages = {}
    for one in requests:
        lines = "".join(f"{name}: {value}\r\n" for name, value in one.headers.items())
        head = f"POST {urlsplit(one.url).path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(one.body)}\r\n{lines}\r\n"
        messages[id(one)] = head.encode() + one.body

    def open_() -> Callable:
        connection = socket.create_connection((parts.hostname, parts.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send(request: Request) -> int:
            connection.sendall(messages[id(request)])
            return int(connection.recv(65536)[9:12])

        return send

    in_threads(requests, in_flight, open_)


def by_pycurl(requests: list[Request], in_flight: int) -> None:
    """Libcurl's multi interface: all of it in one thread."""
    multi = pycurl.CurlMulti()
    queue = iter(requests)

    def load(handle: pycurl.Curl, request: Request) -> None:
        handle.setopt(pycurl.HTTPHEADER, [f"{n}: {v}" for n, v in request.headers.items()])
        handle.setopt(pycurl.POSTFIELDS, request.body)
        multi.add_handle(handle)

    handles = []
    for request in itertools.islice(queue, in_flight):
        handle = pycurl.Curl()
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.POST, 1)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.WRITEFUNCTION, len)
        load(handle, request)
        handles.append(handle)
    flying = len(handles)
    while flying:
        multi.perform()
        _, whole, broken = multi.info_read()
        assert not broken
        for handle in whole:
            assert handle.getinfo(pycurl.RESPONSE_CODE) in (200, 204)
            multi.remove_handle(handle)
            flying -= 1
            if (request := next(queue, None)) is not None:
                load(handle, request)
                flying += 1
        if flying and not whole:
            multi.select(1.0)


def by_http_client(requests: list[Request], in_flight: int) -> None:
    """The standard library's client, kept alive, in threads."""
    parts = urlsplit(requests[0].url)

    def open_() -> Callable:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send(request: Request) -> int:
            path = urlsplit(request.url).path
            connection.request("POST", path, request.body, dict(request.headers))
            response = connection.getresponse()
            response.read()
            return response.status

        return send

    in_threads(requests, in_flight, open_)


def by_urllib3(requests: list[Request], in_flight: int) -> None:
    """A pool of urllib3's, in threads."""
    import urllib3

    parts = urlsplit(requests[0].url)
    pool = urllib3.HTTPConnectionPool(
        parts.hostname or "", parts.port, maxsize=in_flight, block=True
    )

    def send(request: Request) -> int:
        path = urlsplit(request.url).path
        return pool.urlopen(
            "POST", path, body=request.body, headers=request.headers, retries=False
        ).status

    in_threads(requests, in_flight, lambda: send)


def by_httpx(requests: list[Request], in_flight: int) -> None:
    """A client of httpx's, in threads."""
    import httpx

    with httpx.Client(limits=httpx.Limits(max_connections=in_flight), trust_env=False) as client:

        def send(request: Request) -> int:
            return client.post(
                request.url, content=request.body, headers=request.headers
            ).status_code

        in_threads(requests, in_flight, lambda: send)


def by_aiohttp(requests: list[Request], in_flight: int) -> None:
    """A session of aiohttp's, in one event loop."""
    import aiohttp

    async def run() -> None:
        queue = iter(requests)
        connector = aiohttp.TCPConnector(limit=in_flight)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def work() -> None:
                for request in queue:
                    async with session.post(
                        request.url, data=request.body, headers=request.headers
                    ) as response:
                        await response.read()
                        assert response.status in (200, 204)

            await asyncio.gather(*(work() for _ in range(in_flight)))

    asyncio.run(run())


BARE: dict[str, Callable[[list[Request], int], None]] = {
    "pycurl": by_pycurl,
    "http.client": by_http_client,
    "aiohttp": by_aiohttp,
    "urllib3": by_urllib3,
    "httpx": by_httpx,
}
SLOW = ("urllib3", "httpx")


# ---- airgap


def requests_of(kind: str, count: int, url: str) -> list[Request]:
    """Return the requests that airgap would send."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        ledger = filled(Path(folder) / "ledger.sqlite", kind, count)
        try:
            return [
                build(batch, LICENSE, routes(url))
                for batch in batches(ledger.waiting(kind), SCHEMAS.kind(kind), routes(url))
            ]
        finally:
            ledger.close()


def routes(url: str) -> Routes:
    """Return where requests go."""
    return Routes(dict.fromkeys(("beacon", "api"), url), {})


def deliver(kind: str, count: int, in_flight: int, url: str, *, durable: bool = True) -> float:
    """Deliver out of a ledger; return seconds."""
    # Beside this file's tree and not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        ledger = filled(Path(folder) / "ledger.sqlite", kind, count)
        if not durable:
            ledger.database.connection.execute("PRAGMA synchronous = OFF")
        around = Surroundings(time.monotonic, time.sleep, random.random, lambda: False)
        pace = Pace(in_flight=in_flight, rate=NO_LIMIT)
        transport = HttpTransport(
            timeout=30, in_flight=in_flight, ca_file=None, clock=timestamps.system_clock
        )
        with transport:
            began = time.perf_counter()
            Delivery(
                ledger, SCHEMAS, KEYRING, routes(url), transport, pace, around, lambda _: None
            ).run()
            seconds = time.perf_counter() - began
        assert ledger.states(scoped=True) == {kind: {"delivered": count}}
        ledger.close()
    return seconds


def timed(work: Callable[..., object], *arguments: object) -> float:
    """Return seconds."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def there(name: str) -> bool:
    """Tell whether a client is installed."""
    try:
        __import__(name)
    except ImportError:
        return False
    return True


# ---- the cases


def single_records(options: argparse.Namespace, url: str) -> list[dict]:
    """Compare usage reports per second."""
    requests = requests_of("usage_report", options.records, url)
    names = [name for name in BARE if there(name)]
    figures = []
    for in_flight in options.in_flight:
        rates: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            loops = {"raw sockets": by_raw_sockets, **{name: BARE[name] for name in names}}
            for name, loop in loops.items():
                part = requests[: len(requests) // 5] if name in SLOW else requests
                seconds = timed(loop, part, in_flight)
                rates.setdefault(name, []).append(len(part) / seconds)
            for name, durable in (("airgap", True), ("not durable", False)):
                seconds = deliver("usage_report", options.records, in_flight, url, durable=durable)
                rates.setdefault(name, []).append(options.records / seconds)
        found = {name: statistics.median(each) for name, each in rates.items()}
        fastest = max(names, key=lambda name: found[name])
        print(f"\nusage reports per second, {in_flight} in flight; the fastest client: {fastest}")
        for name, rate in found.items():
            ratio = found["airgap"] / rate
            print(f"  {name:<14}{rate:>10,.0f}{ratio:>8.2f}" + (" <-" if name == fastest else ""))
            figures.append(
                {"what": "usage reports per second", "in_flight": in_flight, "name": name,
                 "rate": rate, "airgap_ratio": ratio, "fastest": name == fastest}
            )  # fmt: skip
    return figures


def with_latency(options: argparse.Namespace) -> list[dict]:
    """Compare with what the latency allows."""
    server, url = started(options.latency)
    figures = []
    print(f"\nusage reports per second, a latency of {options.latency * 1000:g} ms")
    print(f"  {'in flight':<14}{'possible':>10}{'airgap':>10}{'ratio':>8}")
    for in_flight in options.in_flight:
        possible = in_flight / options.latency
        count = max(in_flight, int(possible * options.seconds))
        rate = count / deliver("usage_report", count, in_flight, url)
        print(f"  {in_flight:<14}{possible:>10,.0f}{rate:>10,.0f}{rate / possible:>8.2f}")
        figures.append(
            {"what": "with latency", "in_flight": in_flight, "latency": options.latency,
             "possible": possible, "rate": rate, "ratio": rate / possible}
        )  # fmt: skip
    server.kill()
    return figures


def batched(options: argparse.Namespace, url: str) -> list[dict]:
    """Compare transactions per second."""
    count = options.transactions
    requests = requests_of("trace_transactions", count, url)
    figures = []
    print(f"\ntrace transactions per second, {len(requests)} requests")
    print(f"  {'in flight':<14}{'pycurl':>10}{'airgap':>10}{'ratio':>8}")
    for in_flight in options.in_flight:
        pairs = [
            (
                count / timed(by_pycurl, requests, in_flight),
                count / deliver("trace_transactions", count, in_flight, url),
            )
            for _ in range(options.rounds)
        ]
        bare, rate = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"  {in_flight:<14}{bare:>10,.0f}{rate:>10,.0f}{rate / bare:>8.2f}")
        figures.append(
            {"what": "trace transactions per second", "in_flight": in_flight, "bare": bare,
             "rate": rate, "ratio": rate / bare}
        )  # fmt: skip
    return figures


def imported(options: argparse.Namespace) -> list[dict]:
    """Compare taking a verified bundle into the ledger with verifying it."""
    figures = []
    print("\nrecords of a bundle per second, taken into the ledger at full durability")
    print(f"  {'kind':<20}{'verified':>10}{'taken in':>10}{'both':>10}")
    for kind in ("usage_report", "trace_transactions"):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            site = Site.build(Path(folder))
            site.collect(values(kind, options.bundle))
            site.export()
            rates = []
            for number in range(options.rounds):
                ledger = Ledger(Path(folder) / f"{number}.sqlite", SCHEMAS, timestamps.system_clock)
                with site.bundle.open("rb") as stream:
                    began = time.perf_counter()
                    bundle = verify_bundle(
                        stream, name="benchmark", trust=site.trust, catalog=SCHEMAS, approvals=()
                    )
                    verified = time.perf_counter()
                    ledger.add_bundle(bundle)
                    ended = time.perf_counter()
                ledger.close()
                times = (verified - began, ended - verified, ended - began)
                rates.append([options.bundle / seconds for seconds in times])
        one, two, both = (statistics.median(column) for column in zip(*rates, strict=True))
        print(f"  {kind:<20}{one:>10,.0f}{two:>10,.0f}{both:>10,.0f}")
        figures.append(
            {"what": "import", "kind": kind, "verified": one, "taken_in": two, "rate": both}
        )
    return figures


def main() -> None:
    """Run every case and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=4000, help="usage reports per run")
    parser.add_argument("--transactions", type=int, default=50_000)
    parser.add_argument("--bundle", type=int, default=10_000, help="records of a bundle")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--seconds", type=float, default=12.0, help="of a run with latency")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {pycurl.version.split(' OpenSSL')[0]}, "
        f"{os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}; median of {options.rounds} in turns"
    )
    print(f"one fdatasync here: {sync_seconds() * 1000:.2f} ms")
    server, url = started(0.0)
    figures = single_records(options, url) + batched(options, url)
    server.kill()
    figures += with_latency(options) + imported(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
