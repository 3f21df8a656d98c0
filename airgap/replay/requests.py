"""Records into the requests that a connected installation would have sent."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from urllib.parse import urlsplit

import orjson

from airgap import __version__
from airgap.catalog import Catalog, Dialect, JsonObject, Kind
from airgap.credentials import Keyring, mask
from airgap.errors import InputRefusedError, UsageError
from airgap.replay.ledger import Entry

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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


def check_base(url: str, *, allow_plain: bool = False) -> str:
    """Return a base URL without its last slash.

    Raises:
        UsageError: not http or https, with a query or user, or http to another machine.
    """
    parts = urlsplit(url)
    plain = parts.scheme == "http" and parts.hostname not in _LOOPBACK
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or parts.username
        or (plain and not allow_plain)
    ):
        raise UsageError(
            "this base URL can't be used",
            where=url if "@" not in url else "(a URL with a user)",
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
    name = routes.dialects.get(kind.name, record.dialect)
    dialect = kind.dialects.get(name)
    if dialect is None or dialect.credential.type != record.credential.partition(":")[0]:
        raise UsageError(
            f"{kind.name} can't be sent in the dialect {name}",
            expected=", ".join(
                d.name
                for d in kind.dialects.values()
                if d.credential.type == record.credential.partition(":")[0]
            ),
            found=name,
            hint="correct --dialect or the dialects table of airgap.toml",
        )
    return Batch(kind, dialect, record.credential, tuple(entries))


def _raw_body(encoding: str, body: str) -> bytes:
    if encoding == "utf-8":
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise InputRefusedError("an OTLP body is not base64") from None
