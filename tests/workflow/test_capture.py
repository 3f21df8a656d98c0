"""The capture endpoint by itself: what it answered is kept, whatever happens, and nothing else is."""

import base64
import copy
import itertools
import json
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from captures import bundled, capture, post, window
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.json.http.metric_exporter import (
    OTLPMetricExporter as JsonMetrics,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from support import LICENSE, Site, run, transaction

from airgap.replay.rehearsal import RehearsalBeacon

SECRETS = (
    "lcl_EXAMPLE_seeded_0123456789",
    "lsv2_pt_EXAMPLE_seeded_0123456789",
    "seeded.person@bank.example",
    "4111 1111 1111 1111",
)
OTLP = "/v1/beacon/v1/"


def kept(site: Site) -> bytes:
    """Return everything that the isolated home and the stick hold."""
    paths = [p for folder in (site.isolated, site.stick) for p in folder.rglob("*")]
    return b"\n".join(p.read_bytes() for p in paths if p.is_file())


@contextmanager
def recorder(target: str) -> Iterator[tuple[str, list[tuple[str, bytes, dict[str, str]]]]]:
    """Stand between an exporter and the endpoint, and keep what was sent."""
    seen: list[tuple[str, bytes, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {k.lower(): v for k, v in self.headers.items() if k.lower() != "host"}
            seen.append((self.path, body, headers))
            answer = httpx.post(target + self.path, content=body, headers=headers, trust_env=False)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("content-type", "text/plain"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def measure(exporter: Any) -> None:
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
    provider.get_meter("m").create_counter("runs").add(3)
    provider.shutdown()


def trace(exporter: Any, error: str | None = None) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("t").start_as_current_span("run") as span:
        if error:
            span.add_event("exception", {"exception.message": error})
    provider.shutdown()


def log(exporter: Any, error: str) -> None:
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    attributes = {"exception.message": error, "exception.stacktrace": f"Traceback: {error}"}
    provider.get_logger("app").emit(
        LogRecord(
            timestamp=1_770_000_000_000_000_000,
            body=f"run {error} failed",
            severity_number=SeverityNumber.ERROR,
            severity_text="ERROR",
            attributes=attributes,
        )
    )
    provider.shutdown()


def test_what_opentelemetrys_exporters_send_reaches_the_beacon_byte_for_byte(
    site: Site, beacon: RehearsalBeacon
):
    headers = {"X-Langchain-License-Key": LICENSE}
    with (
        capture(site, "--accept", "otlp_traces") as endpoint,
        recorder(endpoint.url) as (url, seen),
    ):
        for compression in (Compression.NoCompression, Compression.Gzip):
            options = {"headers": headers, "compression": compression}
            measure(OTLPMetricExporter(f"{url}{OTLP}metrics", **options))
            trace(OTLPSpanExporter(f"{url}{OTLP}traces", **options))
        measure(JsonMetrics(endpoint=f"{url}{OTLP}metrics", headers=headers))
        assert endpoint.end() == 0
    assert len(seen) == 5
    assert len({(h["content-type"], h.get("content-encoding")) for _, _, h in seen}) >= 3
    site.export()
    site.import_(beacon.url)
    arrived = [
        (s.path, s.body, s.headers["content-type"], s.headers.get("content-encoding"))
        for s in beacon.seen
    ]
    sent = [(p, b, h["content-type"], h.get("content-encoding")) for p, b, h in seen]
    assert sorted(arrived, key=repr) == sorted(
        [(p, b, t, e if e == "gzip" else None) for p, b, t, e in sent], key=repr
    )


def test_traces_and_logs_come_in_only_when_asked_for_and_logs_without_what_was_not_named(
    site: Site,
):
    error = "patient 4711 has no bed"
    headers = {"X-Langchain-License-Key": LICENSE}
    with capture(site) as endpoint:
        for name, exporter, make in (
            ("traces", OTLPSpanExporter, trace),
            ("logs", OTLPLogExporter, log),
        ):
            make(exporter(f"{endpoint.url}{OTLP}{name}", headers=headers), error)
        assert endpoint.end() == 0
    assert run("export", "--home", site.isolated, "--to", site.stick).stdout.startswith("Nothing")
    options = ("--accept", "otlp_logs", "--log-template", "run {} failed")
    with capture(site, *options) as endpoint:
        log(OTLPLogExporter(f"{endpoint.url}{OTLP}logs", headers=headers), error)
        assert endpoint.end() == 0
    [record] = bundled(site)
    body = base64.b64decode(record["payload"]["body"])
    assert b"run {} failed" in body
    assert b"ERROR" in body
    for secret in (b"4711", b"Traceback", b"test_capture", b"exception"):
        assert secret not in body
        assert secret not in kept(site)


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_every_report_that_was_answered_is_kept_once_however_often_the_endpoint_is_killed(
    site: Site, kills: int
):
    """Clients send on and on; the process is killed at any moment and started again."""
    moments = random.Random(7)
    answered: list[tuple[str, str]] = []
    sent: set[tuple[str, str]] = set()
    numbers = itertools.count()
    lock, stop = threading.Lock(), threading.Event()

    def client(url: str) -> None:
        with httpx.Client(timeout=10, trust_env=False) as session:
            while not stop.is_set():
                with lock:
                    number = next(numbers)
                if number % 2:
                    key = ("trace_transactions", transaction(number)["id"])
                    body = {"license": LICENSE, "trace_transactions": [transaction(number)]}
                    path = "/v1/beacon/ingest-traces"
                else:
                    key = ("usage_report", window(number)["from_timestamp"])
                    body, path = window(number), "/v1/metadata/submit"
                with lock:
                    sent.add(key)
                try:
                    answer = session.post(url + path, json=body)
                except httpx.HTTPError:
                    stop.wait(0.02)
                    continue
                if answer.is_success:
                    with lock:
                        answered.append(key)

    with capture(site) as endpoint:
        threads = [threading.Thread(target=client, args=(endpoint.url,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            before, wanted = len(answered), moments.randrange(20, 120)
            while len(answered) < before + wanted:
                stop.wait(0.005)
            endpoint.end(signal.SIGKILL)
            endpoint.start()
        stop.set()
        for thread in threads:
            thread.join()
        assert endpoint.end() == 0
    assert len(answered) > 200
    records = [
        (r["kind"], r["payload"].get("id") or r["payload"]["from_timestamp"]) for r in bundled(site)
    ]
    assert len(set(records)) == len(records), "nothing twice"
    assert set(answered) <= set(records), "what was answered is there"
    assert set(records) <= sent


def test_collect_and_export_work_while_the_endpoint_runs(site: Site, beacon: RehearsalBeacon):
    with capture(site) as endpoint:
        for number in range(0, 40, 2):
            assert post(endpoint.url, "/v1/metadata/submit", window(number)).status_code == 204
            if number % 10 == 0:
                site.collect([window(number + 1)])
                site.export()
        assert endpoint.end() == 0
    site.export()
    site.import_(beacon.url)
    assert beacon.totals.as_map()["usage_report"]["records"] == 24


def test_no_secret_that_a_client_sends_is_kept_or_said(site: Site):
    body = window(1, tags={"langgraph.platform.host": "x", "langgraph.platform.plan": "y"})
    bodies: dict[str, Any] = {
        "/v1/metadata/submit": body,
        "/v1/beacon/ingest-traces": {"license": LICENSE, "trace_transactions": [transaction(1)]},
        "/v1/beacon/usage-snapshot": {
            "license_key": LICENSE,
            "from_timestamp": "2026-01-06T00:00:00Z",
            "to_timestamp": "2026-01-07T00:00:00Z",
            "measures": {"users": 1},
        },
        f"{OTLP}metrics": {"resourceMetrics": [{"resource": {"attributes": []}}]},
        "/runs/multipart": {"inputs": "x"},
        "/otel/v1/traces": {"resourceSpans": []},
    }
    own = {"X-Langchain-License-Key": LICENSE}
    statuses = set()
    with capture(site) as endpoint:
        for secret in SECRETS:
            quoted = secret.replace(" ", "%20")
            for path, good in bodies.items():
                statuses.add(post(endpoint.url, f"/{quoted}{path}", good, **own).status_code)
                statuses.add(post(endpoint.url, f"{path}?x={quoted}", good, **own).status_code)
                for name in ("User-Agent", "Cookie", "Authorization", "X-Other", "Accept"):
                    post(endpoint.url, path, good, **own, **{name: secret})
                for place in list(good):
                    if place not in ("license", "license_key", "api_key"):
                        changed = copy.deepcopy(good)
                        changed[place] = secret
                        statuses.add(post(endpoint.url, path, changed, **own).status_code)
                        changed[place] = {secret: secret}
                        statuses.add(post(endpoint.url, path, changed, **own).status_code)
                statuses.add(post(endpoint.url, path, {**good, secret: "x"}, **own).status_code)
                statuses.add(post(endpoint.url, path, secret.encode(), **own).status_code)
            post(endpoint.url, "/v1/metadata/submit", window(2, api_key=secret))
        assert endpoint.end() == 0
    assert 422 in statuses
    site.export()
    found = kept(site) + endpoint.said.encode()
    for secret in SECRETS:
        assert secret.encode() not in found
        assert secret.replace(" ", "%20").encode() not in found


def test_a_disk_that_is_full_is_told_to_clients_and_nothing_that_was_answered_is_lost(site: Site):
    big = {"langgraph.platform.host": "x" * 250}
    with capture(site) as endpoint:
        limit = 600 * 1024
        assert endpoint.process is not None
        _, hard = resource.prlimit(endpoint.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(endpoint.process.pid, resource.RLIMIT_FSIZE, (limit, hard))
        answers = []
        for number in range(2000):
            answers.append(post(endpoint.url, "/v1/metadata/submit", window(number, tags=big)))
            if answers[-1].status_code == 503:
                break
        assert answers[-1].status_code == 503
        assert httpx.get(f"{endpoint.url}/healthz").status_code == 503
        resource.prlimit(endpoint.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert post(endpoint.url, "/v1/metadata/submit", window(5000)).status_code == 204
        assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
        assert endpoint.end() == 0
    assert "can't be written" in endpoint.said
    good = sum(a.status_code == 204 for a in answers) + 1
    assert len(bundled(site)) == good


def test_a_token_keeps_others_out_and_stands_in_the_path_or_in_a_header(site: Site):
    token = "EXAMPLE-token-0123456789"
    path = site.root / "token"
    path.write_text(token)
    with capture(site, "--token-file", path) as endpoint:
        for prefix in ("", "/wrong-token-0123456789", f"/{token}x"):
            assert post(endpoint.url, f"{prefix}/v1/metadata/submit", window(1)).status_code == 401
        assert post(endpoint.url, f"/{token}/v1/metadata/submit", window(1)).status_code == 204
        bearer = {"Authorization": f"Bearer {token}"}
        assert post(endpoint.url, "/v1/metadata/submit", window(2), **bearer).status_code == 204
        assert endpoint.end() == 0
    assert token not in endpoint.said
    assert token.encode() not in kept(site)
    path.write_text(LICENSE)
    refused = run("capture", "--home", site.isolated, "--token-file", path, code=2)
    assert "licence or API key" in refused.stderr


def test_sockets_and_readiness_are_those_of_systemd(site: Site, tmp_path: Path):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(20)
            script = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    script,
                    str(listener.fileno()),
                    sys.executable,
                    "-m",
                    "airgap",
                    "capture",
                    "--home",
                    str(site.isolated),
                    "--quiet",
                ],
                pass_fds=[listener.fileno()],
                env={"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify"), "PATH": ""},
                stdout=subprocess.DEVNULL,
            )
            assert manager.recv(100) == b"READY=1"
            url = f"http://127.0.0.1:{port}"
            assert post(url, "/v1/metadata/submit", window(1)).status_code == 204
            process.send_signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(20) == 0
    assert len(bundled(site)) == 1


def test_what_may_leave_is_decided_by_the_sites_own_file_too(site: Site):
    with (site.isolated / "airgap.toml").open("a") as file:
        file.write('\n[capture]\nallow = ["usage_report/measures/a.new.measure"]\n')
        file.write('pseudonymise = ["langgraph.platform.tenant_id"]\n')
    tenant = "3a1c2b6f-4430-4b92-8a5b-79b8b567bbc1"
    body = window(1, measures={"a.new.measure": 4}, tags={"langgraph.platform.tenant_id": tenant})
    with capture(site) as endpoint:
        assert post(endpoint.url, "/v1/metadata/submit", body).status_code == 204
        assert endpoint.end() == 0
    [record] = bundled(site)
    assert record["payload"]["measures"] == {"a.new.measure": 4}
    assert tenant.encode() not in kept(site)
    shown = run("inspect", "--home", site.isolated, site.bundle).stdout
    assert "Allowed:  usage_report/measures/a.new.measure" in shown
    assert "usage_report/tags/langgraph.platform.tenant_id" in shown


def test_reasons_of_refusals_do_not_pile_up(site: Site):
    with capture(site, "--json") as endpoint:
        for number in range(130):
            unknown = window(number, tags={f"a.new.tag.{number}": "x"})
            assert post(endpoint.url, "/v1/metadata/submit", unknown).status_code == 422
        assert endpoint.end() == 0
    assert endpoint.said.count("airgap: warning") == 100
    [result] = [line for line in endpoint.said.splitlines() if line.startswith("{")]
    assert len(json.loads(result)["refused"]) == 20


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"{", 422),
        (b'{"kind": "usage_report", "payload": {}}', 422),
        (b'{"api_key": "lsv2_pt_EXAMPLE_not_a_real_key", "api_key": "x"}', 422),
        (json.dumps(window(1, license=LICENSE)).encode(), 422),
        (json.dumps(window(1, measures={"x": 1.5})).encode(), 422),
        (json.dumps(window(1, measures={"a.new.measure": 1})).encode(), 422),
        (json.dumps({k: v for k, v in window(1).items() if k != "api_key"}).encode(), 422),
        (json.dumps(window(1)).encode(), 204),
    ],
)
def test_what_is_no_documented_report_is_refused_and_named(site: Site, body: bytes, status: int):
    with capture(site) as endpoint:
        answer = post(endpoint.url, "/v1/metadata/submit", body)
        assert answer.status_code == status
        assert endpoint.end() == 0
    assert ("warning" in endpoint.said) == (status != 204)
    assert (len(bundled(site)) if status == 204 else 0) == int(status == 204)
