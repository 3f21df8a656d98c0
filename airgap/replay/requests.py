"""Records into the requests that a connected installation would have sent."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from urllib.parse import urlsplit

import orjson

from airgap import __version__
from airgap.catalog import Catalog, Dialect, JsonObject, Kind
from airgap.credentials import Keyring, mask
from airgap.errors import InputRefusedError, UsageError
from airgap.replay.ledger_layout import Entry
from airgap.text import printable

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LONGEST_LABEL = 63
_PATH = re.compile(r"[A-Za-z0-9._~/%-]{0,256}")


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that leave in one request: same kind, dialect and credential.

    Args:
        kind: their kind.
        dialect: the request's documented form.
        credential: fingerprint of the credential to put back.
        entries: the records, in ledger order.
    """

    kind: Kind
    dialect: Dialect
    credential: str
    entries: tuple[Entry, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The records' numbers in the ledger."""
        return tuple(entry.number for entry in self.entries)

    @property
    def doubted(self) -> int:
        """How many of the records may have been counted by an earlier attempt."""
        return sum(entry.doubted for entry in self.entries)

    def after_doubt(self) -> "Batch":
        """Return the same batch after an attempt that may have been counted."""
        return replace(self, entries=tuple(replace(entry, doubted=True) for entry in self.entries))

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return two batches of half the records each."""
        middle = len(self.entries) // 2
        return (
            Batch(self.kind, self.dialect, self.credential, self.entries[:middle]),
            Batch(self.kind, self.dialect, self.credential, self.entries[middle:]),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One HTTP request, ready to leave. Its ``repr`` shows no header and no body."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Request({self.url})"


@dataclass(frozen=True, slots=True)
class Routes:
    """Where requests go.

    Args:
        bases: base URL by the catalogue's name for it.
        dialects: dialect by kind, where the site wants another than the record's own.
    """

    bases: Mapping[str, str]
    dialects: Mapping[str, str]


def routes_of(
    catalog: Catalog, urls: Mapping[str, str | None], dialects: Iterable[str] = ()
) -> Routes:
    """Return where requests go, the documented places where nothing else is said.

    Args:
        catalog: schemas, kinds and documented base URLs.
        urls: base URL by the catalogue's name for it, or None.
        dialects: ``KIND=DIALECT``.

    Raises:
        UsageError: a URL can't be used, or a kind or dialect is unknown.
    """
    bases = {name: check_base(urls.get(name) or url) for name, url in catalog.bases.items()}
    chosen: dict[str, str] = {}
    for item in dialects:
        kind, _, name = item.partition("=")
        if name not in catalog.kind(kind).dialects:
            raise UsageError(
                f"{kind} has no such dialect",
                expected=", ".join(catalog.kind(kind).dialects),
                found=name or "none",
            )
        chosen[kind] = name
    return Routes(bases, chosen)


def check_base(url: str) -> str:
    """Return a base URL without its last slash.

    Raises:
        UsageError: not http or https, with a query or user, or http to another machine.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    if (
        parts.scheme not in ("http", "https")
        or port == 0
        or not (_HOST.fullmatch(host) or ":" in host)
        or any(len(label) > _LONGEST_LABEL for label in host.split("."))
        or not _PATH.fullmatch(parts.path)
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or (parts.scheme == "http" and host not in _LOOPBACK)
    ):
        raise UsageError(
            "this base URL can't be used",
            where=printable(url) if "@" not in url else "(a URL with a user)",
            expected="https://HOST, or http:// to this machine only",
            hint="a key never travels over plain HTTP to another machine",
        )
    return url.rstrip("/")


def batches(entries: Iterable[Entry], kind: Kind, routes: Routes) -> Iterator[Batch]:
    """Group waiting records of one kind into requests, in order.

    Raises:
        UsageError: the configured dialect is not the kind's, or needs another credential.
    """
    pending: list[Entry] = []
    for entry in entries:
        full = len(pending) >= kind.batch_max
        if pending and (full or not _alike(pending[0], entry)):
            yield _batch(pending, kind, routes)
            pending = []
        pending.append(entry)
    if pending:
        yield _batch(pending, kind, routes)


def build(batch: Batch, secret: str, routes: Routes) -> Request:
    """Return the request of a batch.

    Args:
        batch: the records.
        secret: the credential to put back, or what masks it.
        routes: where it goes.

    Raises:
        InputRefusedError: an OTLP body is not what its encoding says.
    """
    place = batch.dialect.credential
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"airgap/{__version__}",
        "Idempotency-Key": idempotency_key(batch),
    }
    if place.location == "header":
        headers[place.name] = secret
    if batch.kind.body == "raw":
        payload = batch.entries[0].record.payload
        headers["Content-Type"] = payload["content_type"]
        if payload["content_encoding"] != "identity":
            headers["Content-Encoding"] = payload["content_encoding"]
        body = _raw_body(payload["encoding"], payload["body"])
    else:
        fields: JsonObject = {place.name: secret} if place.location == "body" else {}
        if batch.kind.batch_field is not None:
            fields |= {batch.kind.batch_field: [e.record.payload for e in batch.entries]}
        else:
            fields |= batch.entries[0].record.payload
        # A verification whose credential is a header has no body at all.
        body = orjson.dumps(fields) if fields else b""
        if not fields:
            del headers["Content-Type"]
    return Request(routes.bases[batch.dialect.base] + batch.dialect.path, headers, body)


def idempotency_key(batch: Batch) -> str:
    """Return the record's id, or for several records a digest of their ids; hexadecimal."""
    if len(batch.entries) == 1:
        return batch.entries[0].id.hex()
    return sha256(b"".join(entry.id for entry in batch.entries)).hexdigest()[:32]


def plan(
    entries_of: Mapping[str, Iterable[Entry]], catalog: Catalog, keyring: Keyring, routes: Routes
) -> Iterator[tuple[Batch, Request]]:
    """Yield every request that would leave, with masks in place of credentials.

    Raises:
        TrustError: a credential is missing, as it would be when sending.
    """
    for kind in catalog.kinds.values():
        for batch in batches(entries_of.get(kind.name, ()), kind, routes):
            keyring.secret(batch.credential)
            yield batch, build(batch, mask(batch.credential), routes)


def _alike(one: Entry, other: Entry) -> bool:
    return (one.record.dialect, one.record.credential) == (
        other.record.dialect,
        other.record.credential,
    )


def _batch(entries: list[Entry], kind: Kind, routes: Routes) -> Batch:
    record = entries[0].record
    dialect = choose_dialect(kind, record.dialect, record.credential, routes)
    return Batch(kind, dialect, record.credential, tuple(entries))


def choose_dialect(kind: Kind, recorded: str, credential: str, routes: Routes) -> Dialect:
    """Return the dialect to send a record in: the site's choice, or the record's own.

    Raises:
        UsageError: the site's choice needs another type of credential.
    """
    name, type_ = routes.dialects.get(kind.name, recorded), credential.partition(":")[0]
    dialect = kind.dialects.get(name)
    if dialect is None or dialect.credential.type != type_:
        raise UsageError(
            f"{kind.name} can't be sent in the dialect {name}",
            expected=", ".join(
                d.name for d in kind.dialects.values() if d.credential.type == type_
            ),
            found=name,
            hint="correct --dialect; records with another type of credential are among these",
        )
    return dialect


def _raw_body(encoding: str, body: str) -> bytes:
    if encoding == "utf-8":
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise InputRefusedError("an OTLP body is not base64") from None
