"""The capture endpoint as a process: killed, on a full disk, beside other commands, and lied to."""

import base64
import gzip
import http.client
import json
import logging
import os
import random
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import forking
import pytest
from support import LICENSE, SOURCE, report, run, transaction, write_lines

from airgap import captured, catalog
from airgap.bundle.layout import Header
from airgap.collect.payloads import Rules, records_of
from airgap.export import Maker, make_bundles
from airgap.home import open_home
from airgap.outbox import Outbox
from airgap.sightings import Sighting

RUNS = "langgraph.platform.runs"
USAGE, TRACES = "/v1/metadata/submit", "/v1/beacon/ingest-traces"
METRICS = "/v1/beacon/v1/metrics"
T0 = datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC)
SECRETS = {
    "license": "lcl_EXAMPLE_seeded_0123456789",
    "api key": "lsv2_pt_EXAMPLE_seeded_0123456789",
    "address": "seeded.person@bank.example",
    "card": "4111 1111 1111 1111",
}


def usage(number, count=1, **changes):
    """Return a usage report whose start is its own to the microsecond."""
    start = T0 + timedelta(microseconds=number)
    times = {
        "from_timestamp": start.isoformat(),
        "to_timestamp": (start + timedelta(minutes=5)).isoformat(),
    }
    return report(count, **times, **changes)


def traces(*numbers, **changes):
    made = [transaction(n, trace_count=1, **changes) for n in numbers]
    return {"license": LICENSE, "trace_transactions": made}


class Capture:
    """``airgap capture`` as a process of its own."""

    def __init__(self, home, folder, *options, listen="127.0.0.1:0", start=None, env=None, **more):
        self.out = folder / f"capture-{time.monotonic_ns()}.txt"
        self.err = self.out.with_suffix(".err")
        command = ["capture", "--home", home, "--listen", listen, *options]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            if start is None:
                assert env is None, "what the fork server starts has this process's environment"
                assert not more
                self.process = forking.shared().start(*command, out=out.fileno(), err=err.fileno())
                return
            self.process = subprocess.Popen(
                [sys.executable, *start, "-m", "airgap", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(env or {})},
                **more,
            )

    def ready(self):
        end = time.monotonic() + 20
        while not (found := re.search(r"^Listening on (\S+)\n", self.said(), re.MULTILINE)):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end
            time.sleep(0.01)
        self.url = found[1]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def said(self):
        return self.out.read_text() + self.err.read_text()

    def warnings(self):
        return [line for line in self.err.read_text().splitlines() if "airgap: warning: " in line]

    def connection(self, **options):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20, **options)

    def post(self, path, value, **headers):
        """Post one request on a connection of its own; return status and body."""
        one = self.connection()
        try:
            return asked(one, path, value, **headers)
        finally:
            one.close()

    def stop(self, code=0):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == code, self.said()
        assert "Traceback" not in self.said()
        return self.said()

    def kill(self):
        self.process.kill()
        self.process.wait()


def asked(one, path, value, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    shown = {"Content-Type": "application/json"}
    shown |= {name.replace("_", "-"): text for name, text in headers.items()}
    one.request("POST", path, body, shown)
    answer = one.getresponse()
    return answer.status, answer.read()


@contextmanager
def capturing(site, *options, **more):
    one = Capture(site.isolated, site.root, *options, **more)
    try:
        yield one.ready()
    finally:
        if one.process.poll() is None:
            one.kill()


def kept(site):
    """Return the ids of trace transactions and the usage reports that are in the outbox."""
    outbox = Outbox(site.isolated / "outbox.sqlite", SOURCE, catalog.load())
    try:
        captured.take(outbox, datetime(2026, 3, 1, tzinfo=UTC))
        records = [record for _, record in outbox.records(1)]
    finally:
        outbox.close()
    ids = [r.payload["id"] for r in records if r.kind == "trace_transactions"]
    reports = [r.payload for r in records if r.kind == "usage_report"]
    return ids, reports


# ---- (a) killed under load


class Clients:
    """Threads that post distinct requests, each again until it has a good answer."""

    def __init__(self, port, seed, threads=8):
        self._port, self._seed = port, seed
        self._stop = threading.Event()
        self.ids: set[str] = set()
        self.starts: dict[str, int] = {}
        self.odd: list[object] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self, number):
        chance = random.Random(f"{self._seed} {number}")
        turn = number * 1_000_000
        while not self._stop.is_set():
            turn += 10
            if chance.random() < 0.5:
                body = usage(turn, chance.randrange(1, 10))
                self._until_taken(USAGE, body)
                with self._lock:
                    self.starts[body["from_timestamp"]] = body["measures"][RUNS]
            else:
                body = traces(*range(turn, turn + chance.randrange(1, 5)))
                self._until_taken(TRACES, body)
                with self._lock:
                    self.ids |= {t["id"] for t in body["trace_transactions"]}

    def _until_taken(self, path, body):
        """Try for as long as it takes, also after the end: what was tried may be on disk."""
        while True:
            one = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            try:
                status, said = asked(one, path, body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            finally:
                one.close()
            if status in (200, 204):
                return
            if status != 503:
                self.odd.append((status, said))
                return


def assert_killed_and_nothing_lost(site, rounds, seed, longest):
    chance = random.Random(seed)
    with capturing(site) as first:
        port = first.port
        with Clients(port, seed) as clients:
            one = first
            for _ in range(rounds):
                time.sleep(chance.uniform(0.05, longest))
                one.kill()
                one = Capture(site.isolated, site.root, listen=f"127.0.0.1:{port}").ready()
        one.stop()
    assert clients.odd == []
    ids, reports = kept(site)
    assert len(ids) == len(set(ids))
    assert set(ids) == clients.ids
    assert len(reports) == len(clients.starts)
    assert {r["from_timestamp"]: r["measures"][RUNS] for r in reports} == clients.starts
    assert len(ids) > 10
    assert len(reports) > 10
    totals = {name: kind["records"] for name, kind in site.status()["waiting"].items()}
    assert totals == {"trace_transactions": len(ids), "usage_report": len(reports)}


def test_killed_under_load_nothing_that_was_answered_is_lost_or_counted_twice(site):
    assert_killed_and_nothing_lost(site, rounds=3, seed=1, longest=0.4)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_killed_under_load_again_and_again(site, seed):
    assert_killed_and_nothing_lost(site, rounds=25, seed=seed, longest=1.5)


def test_a_report_that_is_sent_again_with_more_counts_once_across_a_kill(site):
    with capturing(site) as one:
        assert one.post(USAGE, usage(1, 3))[0] == 204
        one.kill()
    with capturing(site) as one:
        later = usage(1, 5)
        later["to_timestamp"] = (T0 + timedelta(minutes=10)).isoformat()
        assert one.post(USAGE, later)[0] == 204
        assert one.post(USAGE, later)[0] == 204
        one.stop()
    _, [report_] = kept(site)
    assert report_["measures"][RUNS] == 5


# ---- (b) a full disk


def limited(one, size):
    resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_on_a_full_disk_it_says_503_goes_on_and_recovers(site):
    with capturing(site) as one:
        assert one.post(USAGE, usage(1))[0] == 204
        limited(one, 1000)
        for number in (2, 3):
            status, said = one.post(USAGE, usage(number))
            assert status == 503
            assert b"can't be written" in said
            assert one.post(TRACES, traces(number))[0] == 503
        health = one.connection()
        health.request("GET", "/healthz")
        assert health.getresponse().status == 503
        health.close()
        limited(one, resource.RLIM_INFINITY)
        for number in (2, 3):
            assert one.post(USAGE, usage(number))[0] == 204
        assert one.post(TRACES, traces(2))[0] == 200
        health.request("GET", "/healthz")
        assert health.getresponse().status == 200
        health.close()
        assert len(one.warnings()) == 1
        one.stop()
    ids, reports = kept(site)
    assert (len(ids), len(reports)) == (1, 3)


def test_one_request_that_cannot_be_kept_does_not_take_others_with_it(site):
    """Bodies at the edges of every bound, among good ones: the good ones are kept."""
    edges = [
        report(2**63 - 1),
        report(2**63),
        report(2**64),
        report(10**30),
        report(-1),
        report(1, tags={"langgraph.platform.host": "\0"}),
        report(1, tags={"langgraph.platform.host": "x" * 1_000_000}),
        report(1, from_timestamp="0001-01-01T00:00:00.000001+23:59"),
        report(1, from_timestamp="9999-12-31T23:59:59.999999-23:59"),
        report(1, from_timestamp="2026-01-31T23:59:60Z"),
        usage(77, 2**53 - 1),
        usage(78, 2**53 - 1),
        usage(79, 2**53),
        traces(5, 5),
        traces(),
        traces(*range(100, 700)),
        {"license": LICENSE, "trace_transactions": [transaction(6), transaction(6, trace_count=9)]},
        {"license": LICENSE, "trace_transactions": [transaction(8, trace_count=2**53)]},
        b'{"license": "' + LICENSE.encode() + b'", "from_timestamp": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 100_000,
        b"\xff\xfe",
        b"",
    ]
    with capturing(site) as one:
        for number, value in enumerate(edges):
            for path in (USAGE, TRACES):
                status, said = one.post(path, value)
                assert status in (200, 204, 422), (number, path, status, said)
            assert one.post(USAGE, usage(1000 + number))[0] == 204
        one.stop()
    site.export("--compression", "none")


def test_many_made_up_names_are_counted_and_said_within_bounds(site):
    with capturing(site, "--json") as one:
        connection = one.connection()
        for number in range(300):
            body = usage(1, measures={f"made.up.{number}": 1})
            assert asked(connection, USAGE, body)[0] == 422
        connection.close()
        limited(one, 1000)  # standard error can't be written either
        assert one.post(USAGE, usage(1))[0] == 503
        assert one.post("/runs/multipart", {})[0] == 404
        limited(one, 60_000)
        assert one.post(USAGE, usage(1))[0] == 503
        said = one.warnings()
        limited(one, resource.RLIM_INFINITY)
        one.stop()
    assert 101 <= len(said) <= 103
    assert "can't be written" in said[-1], "the disk is spoken of, whatever clients sent"
    refused = json.loads(one.out.read_text().splitlines()[-1])["refused"]
    assert refused["other reasons"] == 203


def test_a_small_request_that_unpacks_to_much_holds_up_no_other(site):
    body = gzip.compress(b'{"resourceMetrics":[' + b'{"a@b%41":"a@b%41"},' * 200_000 + b"0]}")
    order = []

    with capturing(site) as one:

        def bomb():
            headers = {"Content_Encoding": "gzip", "X_Langchain_License_Key": LICENSE}
            order.append(one.post(METRICS, body, **headers)[0])

        thread = threading.Thread(target=bomb)
        thread.start()
        time.sleep(0.3)
        for number in range(5):
            assert one.post(USAGE, usage(number))[0] == 204
            order.append(number)
        thread.join(60)
        one.stop()
    assert len(body) < 20_000
    assert order == [0, 1, 2, 3, 4, 200]


# ---- (c) secrets


def planted_requests(secret):
    """Yield (method, path, body, headers) with the secret in every place of every sort of request."""
    quoted, header = quote(secret), secret
    kinds = {
        USAGE: (usage(1), "application/json"),
        "/v1/beacon/metadata/submit": (
            {"license_key": LICENSE, **{k: v for k, v in usage(2).items() if k != "license"}},
            "application/json",
        ),
        TRACES: (traces(1), "application/json"),
        "/v1/beacon/usage-snapshot": (
            {
                "license_key": LICENSE,
                "from_timestamp": "2026-01-06T00:00:00Z",
                "to_timestamp": "2026-01-07T00:00:00Z",
                "measures": {"users": 1},
            },
            "application/json",
        ),
        METRICS: ({"resourceMetrics": []}, "application/json"),
        "/v1/beacon/v1/logs": ({"resourceLogs": []}, "application/json"),
        "/v1/beacon/v1/traces": ({"resourceSpans": []}, "application/json"),
        "/v1/beacon/verify": ({"license": LICENSE}, "application/json"),
        "/runs/multipart": ({"inputs": 1}, "multipart/form-data; boundary=x"),
        "/otel/v1/traces": ({"resourceSpans": []}, "application/json"),
        "/unknown": ({}, "text/plain"),
    }
    for path, (value, media_type) in kinds.items():
        shown = {"Content-Type": media_type, "X-Langchain-License-Key": LICENSE}
        good = json.dumps(value).encode()
        for name in ("Authorization", "Cookie", "User-Agent", "Referer", "X-Api-Key", "Expect", "Accept",
                     "X-Anything", "Content-Type", "Content-Encoding", "X-Langchain-License-Key"):  # fmt: skip
            yield "POST", path, good, {**shown, name: header}
        yield "POST", path, good, {**shown, "Content-Type": f"{media_type}; x={header}"}
        for target in (
            f"/{quoted}{path}",
            f"{path}/{quoted}",
            f"{path}?key={quoted}",
            f"{path}#{quoted}",
        ):
            yield "POST", target, good, shown
        yield "POST", f"/{secret.replace(' ', '')}{path}", good, shown
        yield "GET", f"{path}?{quoted}", b"", shown
        for body in bodies(value, secret):
            yield "POST", path, body, shown
            yield "POST", path, gzip.compress(body), {**shown, "Content-Encoding": "gzip"}
            yield "POST", path, body, {**shown, "Content-Type": "application/x-protobuf"}
            if len(body) % 3 == 0:
                yield "PUT", path, body, shown


def bodies(value, secret):
    text = json.dumps(value)
    inner = json.dumps(secret)
    yield json.dumps({**value, "x": secret}).encode()
    yield json.dumps({**value, secret: 1}).encode()
    yield json.dumps({**value, "kind": secret, "payload": {}}).encode()
    yield (text[:-1] + f", {inner}: 1, {inner}: 2}}").encode()
    yield (text[:-1] + f", {inner}: 1.5}}").encode()
    yield (text[:-1] + f", {inner}: NaN}}").encode()
    yield (text[:-1] + f", {inner}").encode()
    yield f"{secret}{text}".encode()
    yield json.dumps([secret]).encode()
    yield secret.encode()
    yield b"\xff" + secret.encode()
    yield f"--x\r\nContent-Disposition: form-data; name={inner}\r\n\r\n{secret}\r\n--x--".encode()
    for name in value:
        yield json.dumps({**value, name: secret}).encode()
        yield json.dumps({**value, name: {secret: secret}}).encode()
        yield json.dumps({**value, name: [{secret: secret}]}).encode()
        if isinstance(value[name], dict):
            yield json.dumps({**value, name: {**value[name], secret: "x"}}).encode()
            yield json.dumps({**value, name: {**value[name], "y": secret}}).encode()
        if isinstance(value[name], list) and value[name]:
            for field in value[name][0]:
                yield json.dumps({**value, name: [{**value[name][0], field: secret}]}).encode()


def assert_nowhere(site, secret, *said):
    parts = [text.encode() for text in said]
    for folder in (site.isolated, site.stick):
        parts += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    found = b"\n".join(parts)
    for form in {secret, secret.replace(" ", ""), quote(secret)}:
        at = found.find(form.encode())
        assert at < 0, found[max(0, at - 200) : at + 100]
    encoded = base64.b64encode(secret.encode())[:-4]
    assert encoded not in found


@pytest.mark.parametrize("name", SECRETS)
def test_no_place_of_a_request_lets_a_secret_in(site, name):
    secret = SECRETS[name]
    count = 0
    with capturing(site, "--accept", "otlp_logs", "--accept", "otlp_traces") as one:
        connection = one.connection()
        for method, path, body, headers in planted_requests(secret):
            try:
                connection.request(method, path, body, headers)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
            count += 1
        connection.close()
        said = one.stop()
    assert count > 300
    said += site.export("--compression", "none").output
    for bundle in site.stick.glob("*.airgap"):
        said += run("cat", "--home", site.isolated, bundle).output
    assert_nowhere(site, secret, said)


def test_run_data_is_refused_unread_with_one_warning(site):
    words = "what a customer asked"
    with capturing(site) as one:
        for path in ("/runs/multipart", "/runs/batch", "/otel/v1/traces", "/info", "/api/v1/runs"):
            status, said = one.post(path, {"inputs": words, "outputs": words})
            assert (status, words.encode() in said) == (404, False)
            big = words.encode() * 50_000
            assert one.post(path, big, Content_Type="multipart/form-data; boundary=x")[0] == 404
        assert len(one.warnings()) == 1
        assert "tracing is on" in one.warnings()[0]
        said = one.stop()
    assert_nowhere(site, words, said)


# ---- (d) beside other commands


@pytest.mark.parametrize(
    ("turns", "threads"), [(3, 3), pytest.param(40, 8, marks=pytest.mark.soak)]
)
def test_collecting_and_exporting_at_the_same_time(site, turns, threads):
    with capturing(site) as one, Clients(one.port, 4, threads) as clients:
        for turn in range(turns):
            path = write_lines(
                site.root / f"{turn}.jsonl",
                [transaction(900_000_000 + turn * 10 + n) for n in range(5)],
            )
            run("collect", "--home", site.isolated, path, "--license-file", site.license_file)
            site.export("--compression", "none")
        clients.__exit__()
        one.stop()
    site.export("--compression", "none")
    assert clients.odd == []
    assert site.status()["waiting"] == {}
    ids, reports = kept(site)
    assert len(ids) == len(set(ids)) == len(clients.ids) + 5 * turns
    assert {r["from_timestamp"]: r["measures"][RUNS] for r in reports} == clients.starts
    assert len(reports) == len(clients.starts) > 0
    left = [
        line
        for bundle in site.stick.glob("*.airgap")
        for line in run("cat", "--home", site.isolated, bundle).stdout.splitlines()
    ]
    assert len(left) == len(reports) + len(ids), "each left once"


class Arriving:
    """A key during whose every signature one more transaction is taken in."""

    def __init__(self, site):
        self.site, self.outbox = (
            site,
            Outbox(site.isolated / "outbox.sqlite", SOURCE, catalog.load()),
        )
        self.arrived = 0

    def sign(self, message):
        assert self.arrived < 100, "the export does not end"
        self.arrived += 1
        sent = records_of(traces(self.arrived), b"", self.outbox.catalog, Rules(), where="test")
        captured.receive(self.outbox, [[Sighting.of(one) for one in sent]], T0)
        return self.site.exporter.sign(message)


def test_an_export_ends_however_much_comes_in_meanwhile(site):
    """What came after it began waits for the next one, and none is a bundle by itself."""
    site.collect([transaction(900 + n) for n in range(3)], "--license-file", site.license_file)
    with closing(Outbox(site.isolated / "outbox.sqlite", SOURCE, catalog.load())) as outbox:
        key = Arriving(site)
        maker = Maker(
            open_home(site.isolated), outbox, (key,), site.trust, outbox.catalog, T0, Header("bundle"), None
        )  # fmt: skip
        assert [made.totals.records for made in make_bundles(maker)] == [3]
        key.outbox.close()
        assert (key.arrived, outbox.waiting().records) == (1, 1)
    site.export()
    assert site.status()["waiting"] == {}


# ---- (e) signals and systemd


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_the_end_everything_that_was_answered_is_kept(site, number):
    with capturing(site) as one:
        answered = []

        def client(first):
            turn = first
            with suppress(OSError, http.client.HTTPException):
                while True:
                    turn += 1
                    if one.post(USAGE, usage(turn))[0] == 204:
                        answered.append(usage(turn)["from_timestamp"])

        threads = [threading.Thread(target=client, args=(n * 10_000,)) for n in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        one.process.send_signal(number)
        assert one.process.wait(20) == 0
        for thread in threads:
            thread.join(20)
        assert "Traceback" not in one.said()
    found = {r["from_timestamp"] for r in kept(site)[1]}
    assert len(answered) > 3
    assert set(answered) <= found
    audit = json.loads(run("audit", "verify", "--home", site.isolated, "--json").stdout)
    assert audit["unended"] == {}


_HANDOVER = """\
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[2]))
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


def test_systemd_hands_over_its_socket_and_is_told(site):
    with ExitStack() as stack:
        told = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        told.bind(str(site.root / "notify"))
        told.settimeout(20)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        one = stack.enter_context(
            capturing(
                site,
                listen="127.0.0.1:1",
                start=["-c", _HANDOVER, str(listener.fileno()), "0"],
                env={"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(site.root / "notify")},
                pass_fds=(listener.fileno(),),
            )
        )
        assert told.recv(100) == b"READY=1"
        assert one.port == listener.getsockname()[1]
        assert one.post(USAGE, usage(1))[0] == 204
        one.stop()
        assert told.recv(100) == b"STOPPING=1"
        with socket.create_connection(listener.getsockname(), timeout=5):
            pass  # the socket stays systemd's: nobody is refused while the service restarts


def test_a_socket_that_was_handed_to_another_process_is_left_alone(site):
    with socket.create_server(("127.0.0.1", 0)) as listener, capturing(
        site,
        start=["-c", _HANDOVER, str(listener.fileno()), "1"],
        env={"LISTEN_FDS": "1"},
        pass_fds=(listener.fileno(),),
    ) as one:  # fmt: skip
        assert one.port != listener.getsockname()[1]
        one.stop()


# ---- (f) tokens


def test_a_token(site):
    token = "EXAMPLE-token_0123456789"
    path = site.root / "token"
    path.write_text(token + "\n")
    with capturing(site, "--token-file", path) as one:
        refused = [
            one.post(USAGE, usage(1)),
            one.post(f"/{token[:-1]}{USAGE}", usage(1)),
            one.post(f"/{token}x{USAGE}", usage(1)),
            one.post(f"/x/{token}{USAGE}", usage(1)),
            one.post(f"{USAGE}?token={token}", usage(1)),
            one.post(USAGE, usage(1), Authorization=f"Bearer {token}x"),
            one.post(USAGE, usage(1), Authorization=f"Basic {token}"),
            one.post(USAGE, usage(1), Authorization=token),
            one.post(USAGE, usage(1), Authorization="Bearer \xff"),
            one.post("/runs/multipart", {}),
        ]
        assert {status for status, _ in refused} == {401}
        assert one.post(f"/{token}{USAGE}", usage(1))[0] == 204
        assert one.post(USAGE, usage(2), Authorization=f"Bearer {token}")[0] == 204
        assert one.post(f"/tenant{USAGE}", usage(3), Authorization=f"bearer {token}")[0] == 204
        assert one.post(f"/{token}/unknown", {})[0] == 404
        said = one.stop()
    assert len(kept(site)[1]) == 3
    assert_nowhere(site, token, said)


@pytest.mark.parametrize(
    "text", ["", "short", "with spaces in it 123456", "with/slashes/0123456789"]
)
def test_a_token_that_is_none_is_refused(site, text):
    (site.root / "token").write_text(text)
    one = Capture(site.isolated, site.root, "--token-file", site.root / "token")
    assert one.process.wait(20) in (2, 3)
    assert one.err.read_text().count("airgap: error: ") == 1
    assert not text or text not in one.said()


# ---- (g) files and ports


def test_tls(site, pem):
    certificate, key = pem
    with capturing(site, "--tls-certificate", certificate, "--tls-key", key) as one:
        assert one.url.startswith("https://")
        context = ssl.create_default_context(cafile=certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", one.port, context=context, timeout=20)
        assert asked(connection, USAGE, usage(1))[0] == 204
        connection.close()
        one.stop()
    assert len(kept(site)[1]) == 1


@pytest.fixture
def pem(tmp_path):
    return certificate(tmp_path, "good")


def certificate(folder, name, passphrase=None):
    """Write a certificate for 127.0.0.1 and its key; return both paths."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    locked = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    return paths


def test_certificates_and_keys_that_cannot_be_used(site, pem, tmp_path):
    good, key = pem
    other = certificate(tmp_path, "other")
    locked = certificate(tmp_path, "locked", b"EXAMPLE-passphrase")
    (tmp_path / "empty").touch()
    cases = [
        (good, other[1]), locked, (tmp_path / "missing", key), (good, tmp_path / "missing"),
        (key, good), (tmp_path / "empty", key), (good, tmp_path / "empty"), (tmp_path, key), (good,),
    ]  # fmt: skip
    running = [
        Capture(
            site.isolated,
            site.root,
            *(
                a
                for pair in zip(("--tls-certificate", "--tls-key"), case, strict=False)
                for a in pair
            ),
        )
        for case in cases
    ]
    for case, one in zip(cases, running, strict=True):
        assert one.process.wait(30) == 2, (case, one.said())
        assert one.out.read_text() == ""
        assert one.err.read_text().count("airgap: error: ") == 1, one.said()
        assert "Traceback" not in one.said()


def test_a_port_that_is_taken(site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = Capture(site.isolated, site.root, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        assert one.process.wait(20) == 2
    assert one.err.read_text().count("airgap: error: can't listen") == 1


# ---- (h) OpenTelemetry's own exporters


@contextmanager
def recording():
    """Provide a session of requests, and the bodies that went through it."""
    import requests

    sent = []

    class Recording(requests.Session):
        def send(self, request, **options):
            sent.append((request.headers.get("Content-Encoding", "identity"), request.body))
            return super().send(request, **options)

    session = Recording()
    session.trust_env = False
    try:
        yield session, sent
    finally:
        session.close()


def exporter(signal_name, form, compressed, url, session):
    headers = {"X-Langchain-License-Key": LICENSE}
    if form == "protobuf":
        from opentelemetry.exporter.otlp.proto import http as package
        from opentelemetry.exporter.otlp.proto.http import (
            _log_exporter,
            metric_exporter,
            trace_exporter,
        )

        kind = package.Compression.Gzip if compressed else package.Compression.NoCompression
        more = {"session": session}
    else:
        from opentelemetry.exporter.http.transport._requests import RequestsHTTPTransport
        from opentelemetry.exporter.otlp.common.http import Compression
        from opentelemetry.exporter.otlp.json.http import (
            _log_exporter,
            metric_exporter,
            trace_exporter,
        )

        kind = Compression.GZIP if compressed else Compression.NONE
        more = {"_transport": RequestsHTTPTransport(session=session)}
    made = {
        "metrics": getattr(metric_exporter, "OTLPMetricExporter", None)
        or getattr(metric_exporter, "OTLPJSONMetricExporter", None),
        "traces": getattr(trace_exporter, "OTLPSpanExporter", None)
        or getattr(trace_exporter, "OTLPJSONSpanExporter", None),
        "logs": getattr(_log_exporter, "OTLPLogExporter", None)
        or getattr(_log_exporter, "OTLPJSONLogExporter", None),
    }[signal_name]
    return made(
        endpoint=f"{url}/v1/beacon/v1/{signal_name}",
        headers=headers,
        timeout=5,
        compression=kind,
        **more,
    )


def send_metrics(made, number):
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(made, export_interval_millis=3_600_000)
    provider = MeterProvider(metric_readers=[reader])
    meter = provider.get_meter("langgraph")
    meter.create_counter("runs").add(number, {"plan": "enterprise"})
    meter.create_histogram("seconds").record(0.5)
    provider.shutdown()


def send_traces(made):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    provider.get_tracer("langgraph").start_span("a span").end()
    provider.shutdown()


def send_logs(made, text):
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(made))
    provider.get_logger("langgraph").emit(
        LogRecord(
            timestamp=1_769_846_400_000_000_000,
            observed_timestamp=1_769_846_400_000_000_000,
            severity_number=SeverityNumber.ERROR,
            severity_text="ERROR",
            body=f"run failed: {text}",
            attributes={"exception.message": text, "exception.stacktrace": text, "code": "E7"},
        )
    )
    provider.shutdown()


FORMS = [(form, compressed) for form in ("protobuf", "json") for compressed in (False, True)]


@pytest.fixture
def quiet_exporters():
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    yield
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


def delivered(site, beacon, kind):
    site.export("--compression", "none")
    site.import_(beacon.url)
    assert beacon.requests.keys() == {200}
    return [s for s in beacon.seen if s.kind == kind]


def test_metrics_of_opentelemetry_reach_the_beacon_byte_for_byte(site, beacon, quiet_exporters):
    with recording() as (session, sent), capturing(site) as one:
        for number, (form, compressed) in enumerate(FORMS):
            send_metrics(exporter("metrics", form, compressed, one.url, session), number + 1)
            assert len(sent) == number + 1
        for form, compressed in FORMS:
            send_traces(exporter("traces", form, compressed, one.url, session))
            send_logs(exporter("logs", form, compressed, one.url, session), "what a customer asked")
        one.stop()
    seen = delivered(site, beacon, "otlp_metrics")
    assert len(beacon.seen) == len(seen) == 4, "traces and logs were not asked for"
    got = [(s.headers.get("content-encoding", "identity"), s.body) for s in seen]
    assert sorted(got) == sorted(sent[:4])
    assert {s.headers["x-langchain-license-key"] for s in seen} == {LICENSE}


def test_traces_that_were_asked_for_reach_the_beacon_byte_for_byte(site, beacon, quiet_exporters):
    with recording() as (session, sent), capturing(site, "--accept", "otlp_traces") as one:
        for form, compressed in FORMS:
            send_traces(exporter("traces", form, compressed, one.url, session))
        one.stop()
    assert sorted(s.body for s in delivered(site, beacon, "otlp_traces")) == sorted(
        b for _, b in sent
    )


def test_logs_that_were_asked_for_hold_nothing_of_an_exception(site, beacon, quiet_exporters):
    words = "what a customer asked"
    options = (
        "--accept",
        "otlp_logs",
        "--log-attribute",
        "code",
        "--log-template",
        "run failed: {}",
    )
    with recording() as (session, sent), capturing(site, *options) as one:
        for form, compressed in FORMS:
            send_logs(exporter("logs", form, compressed, one.url, session), words)
        said = one.stop()
    assert len(sent) == 4
    seen = delivered(site, beacon, "otlp_logs")
    # What is left of a log is the same whether it was compressed or not, and counts once.
    assert len(seen) == 2
    for body in (s.body for s in seen):
        assert b"run failed: {}" in body
        assert b"E7" in body
        assert b"exception" not in body
    assert_nowhere(site, words, said)
