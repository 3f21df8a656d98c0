"""The door: which requests come in, and what they become. Everything else is refused unread.

A request comes in when its path ends in a documented one, behind a prefix of plain segments, and its
kind is one that is captured. Credentials become fingerprints here. Nothing of a request to any other
path is kept or said: with tracing left on, servers send the inputs and outputs of runs. Of a report
that is refused, what is said names its fields at most.
"""

import asyncio
import base64
import contextlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import orjson

from airgap import credentials, jsontext
from airgap.capture.contract import Answer, Head
from airgap.capture.keeping import Keeper
from airgap.captured import Received
from airgap.catalog import Catalog, Kind
from airgap.collect import bodies, otlp
from airgap.collect.payloads import Rules, records_of
from airgap.collect.pseudonyms import Pseudonyms
from airgap.errors import AirgapError, InputRefusedError
from airgap.records import Record
from airgap.sightings import Sighting

_PREFIX = r"(?:/[A-Za-z0-9._~-]{1,128}){0,8}"
_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"
_MOST_REASONS = 100
_SMALL = 64 * 1024
_RUN_DATA = re.compile(r"/(runs|sessions|feedback|datasets|otel|info)(/|$)")


@dataclass(frozen=True, slots=True)
class Site:
    """What the site decided about capture.

    Args:
        kinds: names of the kinds that come in.
        rules: see ``payloads.Rules``.
        logs: what of OTLP logs may leave, or None where they don't come in.
        pseudonyms: names that get pseudonyms, or None.
        token: what a request must show, as the first segment of its path or as a bearer token
            (RFC 6750, section 2.1), or None.
    """

    kinds: frozenset[str]
    rules: Rules
    logs: otlp.LogPolicy | None = None
    pseudonyms: Pseudonyms | None = None
    token: str | None = None


@dataclass(slots=True)
class Count:
    """What came, to be said at the end."""

    kept: Counter[str] = field(default_factory=Counter[str])
    """Records that were new, by kind."""
    known: int = 0
    replaced: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    """Requests that were refused, by reason; the rarer of very many reasons together."""

    def refuse(self, why: str) -> None:
        """Count a refused request; a client can't make this grow with reasons of its own."""
        known = why in self.refused or len(self.refused) < _MOST_REASONS
        self.refused[why if known else "other reasons"] += 1


class Door:
    """Answers requests as the beacon does, and keeps what they report.

    Args:
        catalog: schemas and endpoints.
        site: the site's decisions.
        keeper: keeps records durably.
        warn: says something to the operator.
    """

    def __init__(
        self, catalog: Catalog, site: Site, keeper: Keeper, warn: Callable[[str], None]
    ) -> None:
        self._catalog = catalog
        self._site = site
        self._keeper = keeper
        self._warn = warn
        self._warned: set[str] = set()
        self._paths = [
            (re.compile(_PREFIX + re.escape(dialect.path)), kind)
            for kind in catalog.kinds.values()
            if kind.name in site.kinds
            for dialect in kind.dialects.values()
        ]
        self._large = asyncio.Semaphore(1)
        self.count = Count()

    def refuse(self, head: Head) -> Answer | None:
        """Return the answer to a request whose body is not wanted, or None."""
        path = self._inner_path(head)
        if path is None:
            return self._refused(401, "no token, or a wrong one")
        kind = self._kind(path)
        if kind is None:
            if _RUN_DATA.search(path):
                self._warn_once(
                    "run data",
                    "run data or other requests to LangSmith arrive here and are refused unread: "
                    "tracing is on. Set LANGSMITH_TRACING=false on that server",
                )
            return self._refused(404, "not a path that is captured here")
        if head.method != "POST":
            return self._refused(405, "POST only")
        media_type = _media_type(head)
        wanted = {_JSON, _PROTOBUF} if kind.body == "raw" else {_JSON}
        if media_type not in wanted:
            return self._refused(415, f"the content type is none of {', '.join(sorted(wanted))}")
        coding = head.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ({"identity", "gzip"} if kind.body == "raw" else {"identity"}):
            return self._refused(415, "the content encoding is not taken here")
        return None

    async def answer(self, head: Head, body: bytes) -> Answer:
        """Keep what a request reports, and answer as the beacon does."""
        kind = self._kind(self._inner_path(head) or "")
        assert kind is not None, "refuse was asked before"
        try:
            sightings = await self._read(kind, head, body)
            received = await self._keeper.keep(sightings)
        except InputRefusedError as error:
            return self._not_taken(422, error)
        except AirgapError as error:
            return self._not_taken(503, error)
        self._add(kind, received)
        return _success(kind, received, head)

    def health(self) -> Answer:
        """Answer ``/healthz``: whether reports can be kept; nothing about them."""
        return Answer(200 if self._keeper.works else 503, orjson.dumps({"ok": self._keeper.works}))

    def _inner_path(self, head: Head) -> str | None:
        """Return the path without the token, or None where the token is not there."""
        token, path = self._site.token, head.path
        if token is None:
            return path
        first, rest = path[1:].partition("/")[::2]
        if hmac.compare_digest(first.encode("utf-8", "replace"), token.encode()):
            return f"/{rest}"
        scheme, _, shown = head.headers.get("authorization", "").partition(" ")
        if hmac.compare_digest(shown.encode("utf-8", "replace"), token.encode()):
            # The scheme's name is the same in any case (RFC 9110, section 11.1).
            return path if scheme.lower() == "bearer" else None
        return None

    def _kind(self, path: str) -> Kind | None:
        """Return the kind whose documented path it is; no two kinds share one."""
        return next((kind for form, kind in self._paths if form.fullmatch(path)), None)

    async def _read(self, kind: Kind, head: Head, body: bytes) -> list[Sighting]:
        """Do what ``_understood`` does; what may take long holds up no other client.

        A small body may unpack to 64 MiB, which take half a minute to search.
        """
        if len(body) <= _SMALL and "content-encoding" not in head.headers:
            return self._understood(kind, head, body)
        async with self._large:
            return await asyncio.to_thread(self._understood, kind, head, body)

    def _understood(self, kind: Kind, head: Head, body: bytes) -> list[Sighting]:
        """Return the checked records of a request.

        Raises:
            InputRefusedError: see ``payloads.records_of``.
        """
        where = f"a request to {kind.name}"
        if kind.body == "raw":
            found: Iterable[Record] = self._raw(kind, head, body, where)
        else:
            try:
                value = jsontext.parse(body.strip())
            except jsontext.NotExactError as error:
                raise InputRefusedError(str(error), where=where) from None
            rules = Rules(kind.name, self._site.rules.defaults, self._site.rules.allowed)
            found = records_of(_reported(value), body, self._catalog, rules, where=where)
        sightings = [_sighting(record) for record in found]
        pseudonyms = self._site.pseudonyms
        return [pseudonyms.applied(s) for s in sightings] if pseudonyms else sightings

    def _raw(self, kind: Kind, head: Head, body: bytes, where: str) -> Iterable[Record]:
        media_type = _media_type(head)
        coding = head.headers.get("content-encoding", "identity").strip().lower()
        text = media_type == _JSON and coding == "identity"
        try:
            written = body.decode() if text else base64.b64encode(body).decode()
        except UnicodeDecodeError:
            raise InputRefusedError("the body is not UTF-8", where=where) from None
        payload: dict[str, Any] | None = {
            "content_type": media_type,
            "content_encoding": coding,
            "encoding": "utf-8" if text else "base64",
            "body": written,
        }
        if kind.name == "otlp_logs":
            assert payload is not None
            logs = self._site.logs
            payload = otlp.filtered(payload, logs, where=where) if logs else None
        if payload is None:
            return []
        names = {d.credential.name for d in kind.dialects.values()}
        headers = {n: head.headers[n.lower()] for n in names if n.lower() in head.headers}
        wrapped = {"kind": kind.name, "payload": payload, "headers": headers}
        return records_of(wrapped, b"", self._catalog, self._site.rules, where=where)

    def _add(self, kind: Kind, received: Received) -> None:
        self.count.kept[kind.name] += received.new
        self.count.known += received.known
        self.count.replaced += received.replaced

    def _refused(self, status: int, why: str) -> Answer:
        self.count.refuse(why)
        return Answer(status, orjson.dumps({"detail": why}))

    def _not_taken(self, status: int, error: AirgapError) -> Answer:
        """Answer what could not be kept; of the request's content the message has names at most.

        Names of fields are as much the client's as values are, so what looks like a key is masked.
        """
        message, hint = (credentials.redact(t, self._catalog) for t in (error.message, error.hint))
        about = f"{error.where} {message}"
        # The many that clients cause never keep one about the outbox from being said.
        if status != 422 or len(self._warned) < _MOST_REASONS:
            self._warn_once(about, f"{message} ({error.where or 'the outbox'}): {hint}")
        return self._refused(status, message)

    def _warn_once(self, about: str, text: str) -> None:
        if about not in self._warned:
            # Standard error may be a file on the disk that is full; clients are answered all the same.
            with contextlib.suppress(OSError):
                self._warn(text)
                self._warned.add(about)


def _sighting(record: Record) -> Sighting:
    """Return a record's sighting; a body that was packed is known again by what is in it.

    A client that sends again packs again, and gzip writes down when (RFC 1952, section 2.3.1).
    """
    payload = record.payload
    if payload.get("content_encoding") != "gzip":
        return Sighting.of(record)
    inside = sha256(bodies.unpacked(payload)).hexdigest()
    plain = {"content_type": payload["content_type"], "unpacked": inside}
    return Sighting(record, replace(record, payload=plain))


def _media_type(head: Head) -> str:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()


def _reported(value: object) -> object:
    """Return a body; what says more about it is for files, not for the network."""
    if isinstance(value, dict) and "kind" in value:
        raise InputRefusedError("a body names its kind", expected="a documented request body")
    return value


def _success(kind: Kind, received: Received, head: Head) -> Answer:
    """Return the documented answer; OTLP's has the request's content type (OTLP 1.x, OTLP/HTTP)."""
    status = min(kind.success.status)
    if kind.body == "raw":
        media_type = _media_type(head)
        return Answer(status, b"" if media_type == _PROTOBUF else b"{}", media_type)
    if kind.success.count is not None:
        return Answer(status, orjson.dumps({kind.success.count: received.new}))
    return Answer(204)
