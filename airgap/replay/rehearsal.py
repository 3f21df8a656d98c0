"""The rehearsal beacon: a real HTTP server that checks every request and answers as documented.

It stands in for the beacon on loopback, so that a site can practise and tests can count. It
knows nothing but the catalogue: path, credential, body and schema must be those of a kind.
"""

import base64
import gzip
import hmac
import json
import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import orjson

from airgap import __version__, jsontext
from airgap.catalog import Catalog, Dialect, JsonObject, Kind
from airgap.credentials import fingerprint
from airgap.records import Totals
from airgap.text import printable

_MAX_BODY = 64 * 1024**2
_ORG_ID = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that was answered.

    Args:
        path: its path.
        status: the answer's status.
        kind: the kind, or empty.
        records: how many records it held.
        body: the body as it came, credential included; kept only where asked for.
        headers: its headers, names in lower case; kept only where asked for.
        note: why it was refused, or empty.
    """

    path: str
    status: int
    kind: str = ""
    records: int = 0
    body: bytes = b""
    headers: JsonObject = field(default_factory=dict)
    note: str = ""


class RehearsalBeacon:
    """The server. Use it as a context: it listens inside and is gone afterwards.

    Args:
        catalog: what it checks against.
        port: TCP port on the loopback interface; 0 takes a free one.
        keep_requests: whether ``seen`` keeps bodies and headers, which hold credentials.
        on_request: called after each answer, from the server's threads.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        port: int = 0,
        keep_requests: bool = False,
        on_request: Any = None,
    ) -> None:
        self._catalog = catalog
        self._keep = keep_requests
        self._on_request = on_request
        self._lock = threading.Lock()
        self._transactions: set[str] = set()
        self.seen: list[Seen] = []
        """Requests in the order of their answers."""
        self.requests: Counter[int] = Counter()
        """How many requests had which status."""
        self.totals = Totals()
        """Totals of what was accepted."""
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def url(self) -> str:
        """Base URL, for both of the catalogue's bases."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(
        self, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, JsonObject | None]:
        """Return status and answer of a request, and remember it."""
        kept = (body, headers) if self._keep else (b"", {})
        try:
            kind, payloads, secret = self._understand(path, headers, body)
        except _RefusedError as error:
            self._remember(Seen(path, error.status, "", 0, *kept, note=error.note))
            return error.status, {"detail": error.note}
        with self._lock:
            new = self._count(kind, payloads)
        status = min(kind.success.status)
        self._remember(Seen(path, status, kind.name, len(payloads), *kept))
        return status, _documented_answer(kind, new, secret)

    def _remember(self, seen: Seen) -> None:
        with self._lock:
            self.requests[seen.status] += 1
            self.seen.append(seen)
            if not self._keep:
                del self.seen[:-1000]
        if self._on_request is not None:
            self._on_request(seen)

    def _count(self, kind: Kind, payloads: list[JsonObject]) -> int:
        new = 0
        for payload in payloads:
            if kind.identity is not None:
                if payload[kind.identity] in self._transactions:
                    continue
                self._transactions.add(payload[kind.identity])
            new += 1
            self.totals.add(kind, payload)
        return new

    def _understand(
        self, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[Kind, list[JsonObject], str]:
        candidates = [
            (kind, dialect)
            for kind in self._catalog.kinds.values()
            for dialect in kind.dialects.values()
            if dialect.path == path
        ]
        if len(candidates) > 1:
            candidates = [pair for pair in candidates if _fits(pair[1], headers, body)]
            if not candidates:
                raise _RefusedError(401, "no credential in any of its documented places")
        if not candidates:
            raise _RefusedError(404, f"no documented endpoint has the path {printable(path)}")
        return self._check(*candidates[0], headers, body)

    def _check(
        self, kind: Kind, dialect: Dialect, headers: dict[str, str], body: bytes
    ) -> tuple[Kind, list[JsonObject], str]:
        place = dialect.credential
        if kind.body == "raw":
            secret = headers.get(place.name.lower(), "")
            payloads = [_raw_payload(headers, body)]
        else:
            fields = _json_object(body) if body else {}
            secret = (
                headers.get(place.name.lower(), "")
                if place.location == "header"
                else fields.pop(place.name, "")
            )
            payloads = fields.pop(kind.batch_field, None) if kind.batch_field else [fields]
            if kind.batch_field and fields:
                raise _RefusedError(422, f"unknown fields {', '.join(map(printable, fields))}")
        if not isinstance(secret, str) or not secret or not secret.isprintable():
            raise _RefusedError(401, f"no credential in {place.location} {place.name}")
        if not isinstance(payloads, list) or not payloads or len(payloads) > kind.batch_max:
            raise _RefusedError(422, f"expected 1 to {kind.batch_max} records")
        for payload in payloads:
            if not self._catalog.is_valid(f"kinds/{kind.name}", payload):
                problem = self._catalog.problems(f"kinds/{kind.name}", payload)[0]
                raise _RefusedError(
                    422,
                    f"{kind.name} {problem.path}: expected {problem.expected}, found {problem.found}",
                )
        return kind, payloads, secret


class _RefusedError(Exception):
    def __init__(self, status: int, note: str) -> None:
        super().__init__(note)
        self.status = status
        self.note = note


def _fits(dialect: Dialect, headers: dict[str, str], body: bytes) -> bool:
    """Tell which of several dialects with one path a request is in, by its credential."""
    place = dialect.credential
    if place.location == "header":
        return place.name.lower() in headers
    return place.name in _json_object(body)


def _json_object(body: bytes) -> JsonObject:
    try:
        value = jsontext.parse(body)
        jsontext.canonical(value)
    except jsontext.NotExactError as error:
        raise _RefusedError(400, str(error)) from None
    if not isinstance(value, dict):
        raise _RefusedError(422, "the body is not an object")
    return value


def _raw_payload(headers: dict[str, str], body: bytes) -> JsonObject:
    """Return an OTLP body as its schema describes it; JSON must be JSON, gzip must unpack."""
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    coding = headers.get("content-encoding", "identity")
    plain = body
    if coding == "gzip":
        try:
            plain = gzip.decompress(body)
        except (OSError, EOFError, zlib.error):
            raise _RefusedError(400, "the body is not gzip") from None
    if media_type == "application/json":
        try:
            orjson.loads(plain)
        except ValueError:
            raise _RefusedError(400, "the body is not JSON") from None
    text = media_type == "application/json" and coding == "identity"
    return {
        "content_type": media_type,
        "content_encoding": coding,
        "encoding": "utf-8" if text else "base64",
        "body": body.decode() if text else base64.b64encode(body).decode(),
    }


def _documented_answer(kind: Kind, new: int, secret: str) -> JsonObject | None:
    if kind.success.count is not None:
        return {kind.success.count: new}
    if "token" in kind.success.keep:
        return {"token": _token(fingerprint("license", secret))}
    if "org_id" in kind.success.keep:
        return {"org_config": {"org_id": _ORG_ID}}
    return None


def _token(subject: str) -> str:
    """Return a JWT (RFC 7519) that says what it is: not one of the real beacon's."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    head = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    claims = part(json.dumps({"iss": "airgap rehearsal", "sub": subject}).encode())
    signature = hmac.new(b"airgap rehearsal", f"{head}.{claims}".encode(), sha256).digest()
    return f"{head}.{claims}.{part(signature)}"


def _handler(beacon: RehearsalBeacon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = f"airgap-rehearsal/{__version__}"
        timeout = 60
        # One packet per answer: a body that follows its headers waits for the client's ACK.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or int(length) > _MAX_BODY:
                self.close_connection = True
                self._reply(413, {"detail": "the body is too large or has no length"})
                return
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._reply(*beacon.answer(self.path, headers, body))

        def do_GET(self) -> None:
            self._reply(
                *((200, {"ok": True}) if self.path == "/ok" else (404, {"detail": "POST only"}))
            )

        def _reply(self, status: int, answer: JsonObject | None) -> None:
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            if data:
                self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
