"""The fuzzer's targets by name, each with its seeds and the way in which its input is changed."""

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgpack
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from fuzz import mutators, recipes, scratch, sides, targets

from airgap import timestamps
from airgap.collect import otlp_json, otlp_protobuf
from airgap.trust import store as trust_store
from airgap.trust.entries import Policy, Revocation, Root


@dataclass(frozen=True)
class Target:
    """A target, how its input is changed, and what it begins with beside the corpus."""

    run: Callable[[bytes], None]
    mutate: mutators.Mutator
    seeds: Callable[[], list[bytes]]
    inputs: int
    """How many inputs the default suite tries."""


def _files() -> list[bytes]:
    return [
        path.read_bytes()
        for path in sorted(recipes.VECTORS.glob("*.*"))
        if path.suffix in (".airgap", ".receipt")
    ]


def _recipes() -> list[bytes]:
    found = []
    for data in recipes.golden():
        whole = recipes.of_file(data)
        found += [whole, recipes.small(whole), *recipes.one_of_each(whole)]
        found.append(replace(whole, flags=recipes.MEND_FRAME))
        found.append(replace(recipes.small(whole), flags=3 | recipes.LIMITED))
    return [recipe.encode() for recipe in found]


def _receipts() -> list[bytes]:
    found = []
    for recipe in map(recipes.of_file, recipes.golden()):
        if b"receipt" in recipe.header:
            for outcome in ("delivered", "dead", "waiting"):
                elements = [
                    [{**element, "outcome": outcome} for element in msgpack.unpackb(chunk)]
                    for chunk in recipe.chunks
                ]
                chunks = tuple(map(msgpack.packb, elements))
                found += [recipe, replace(recipe, chunks=chunks)]
            found.append(replace(recipe, flags=recipes.MEND_FRAME))
    return [recipe.encode() for recipe in found]


def _envelopes() -> list[bytes]:
    return [data[int.from_bytes(data[-24:-16]) : -26] for data in _files()]


def _encodings() -> list[bytes]:
    found = _envelopes()
    for recipe in map(recipes.of_file, recipes.golden()):
        found += [recipe.header, recipe.manifest, *recipe.chunks]
    return found


def _stores() -> list[bytes]:
    store = targets.golden_trust()
    first, second, _ = store.keys
    at = timestamps.parse("2026-02-01T00:00:00Z")
    bounded = replace(store.keys[second], not_before=at, not_after=at, sources=("a", "b.c"))
    lost = replace(store.keys[first], revoked=Revocation(at, "lost", None, 7))
    root = Root(1, ((lost.public, "first"), (bounded.public, "second")))
    other = trust_store.TrustStore(
        {first: lost, second: bounded}, 3, at, root, {"*": Policy("*", 1, 2)}
    )
    path, found = scratch.folder() / "trust.json", []
    try:
        for one in (trust_store.TrustStore({}), store, other):
            trust_store.save(path, one)
            found.append(path.read_bytes())
    finally:
        path.unlink(missing_ok=True)
    return found


def _statements() -> list[bytes]:
    return [made.encode() for made in targets.golden_statements().values()]


def _keys() -> list[bytes]:
    """Return public keys of every algorithm that a file of one may hold."""
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    block = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    found = [path.read_bytes() for path in sorted(recipes.VECTORS.glob("*.pub"))]
    for private in _private_keys():
        found.append(private.public_key().public_bytes(*block))
        if not isinstance(private, ed448.Ed448PrivateKey):
            found.append(private.public_key().public_bytes(*form) + b"\n")
    return found


def _private_keys() -> list[Any]:
    return [
        recipes.key("exporter")[0],
        ec.derive_private_key(7, ec.SECP256R1()),
        ec.derive_private_key(7, ec.SECP521R1()),
        ed448.Ed448PrivateKey.from_private_bytes(bytes(57)),
    ]


def _private() -> list[bytes]:
    """Return private keys as PKCS#8 and as OpenSSH keeps them; the golden files' and made-up ones."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    found = [k.private_bytes(*form, serialization.NoEncryption()) for k in _private_keys()]
    for key in _private_keys()[:2]:
        form2 = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        public = base64.b64decode(key.public_key().public_bytes(*form2).split(b" ")[1])
        found += [_openssh(public, name) for name in (b"none", b"aes256-ctr")]
    return found


def _openssh(public: bytes, cipher: bytes) -> bytes:
    """Return a file as OpenSSH's PROTOCOL.key says, with nothing random in it."""

    def text(data: bytes) -> bytes:
        return len(data).to_bytes(4) + data

    kdf = b"none" if cipher == b"none" else b"bcrypt"
    secret = bytes(8) + public + text(bytes(range(32)) + public[-32:]) + text(b"comment")
    secret += bytes(range(1, 9 - len(secret) % 8))
    options = b"" if cipher == b"none" else text(bytes(16)) + (16).to_bytes(4)
    data = b"openssh-key-v1\0" + text(cipher) + text(kdf) + text(options) + (1).to_bytes(4)
    data += text(public) + text(secret)
    head, tail = (b"-----%b OPENSSH PRIVATE KEY-----" % word for word in (b"BEGIN", b"END"))
    return head + b"\n" + base64.encodebytes(data) + tail + b"\n"


def _lines() -> list[bytes]:
    lines = targets.SCHEMAS.sample_bytes() + (recipes.VECTORS / "requests.jsonl").read_bytes()
    return lines.splitlines(keepends=True)


def _bodies() -> list[bytes]:
    found = [bytes([number]) + line for line in _lines() for number in range(12)]
    for body in (_LOGS, {"resourceMetrics": []}, {"resourceSpans": []}):
        text = json.dumps(body).encode()
        for number in range(12):
            found += [bytes([number]) + text, bytes([number | 0x40]) + gzip.compress(text, mtime=0)]
    packed = otlp_protobuf.write(otlp_json.read(json.dumps(_LOGS).encode()))
    for number in range(12):
        found.append(bytes([number | 0x80]) + packed)
        found.append(bytes([number | 0xC0]) + gzip.compress(packed, mtime=0))
    return found


def _logs() -> list[bytes]:
    text = json.dumps(_LOGS).encode()
    return [text, otlp_protobuf.write(otlp_json.read(text))]


def _log_mutator(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    return (mutators.of_json if data[:1] == b"{" else mutators.of_bytes)(data, others, rng)


_VALUES = (
    {"stringValue": "graph"},
    {"intValue": "9223372036854775807"},
    {"doubleValue": 0.1},
    {"boolValue": True},
    {"arrayValue": {"values": [{"stringValue": "a"}]}},
    {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": 1}}]}},
    {"bytesValue": "AAAA"},
)
_ATTRIBUTES = [{"key": key, "value": v} for key in ("service.name", "other") for v in _VALUES]
_LOG = {
    "timeUnixNano": "1767690000000000000",
    "observedTimeUnixNano": 1767690000000000001,
    "severityNumber": 9,
    "severityText": "INFO",
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "flags": 257,
    "droppedAttributesCount": 1,
    "eventName": "service.name",
    "body": {"stringValue": "Run 7 ended"},
    "attributes": _ATTRIBUTES,
}
_SCOPE = {
    "scope": {"name": "graph", "version": "1", "attributes": _ATTRIBUTES},
    "schemaUrl": "https://opentelemetry.io/schemas/1.24.0",
    "logRecords": [_LOG, {**_LOG, "body": {"stringValue": "secret"}}, {}],
}
_LOGS = {
    "resourceLogs": [
        {
            "resource": {"attributes": _ATTRIBUTES},
            "schemaUrl": "https://example.com/secret",
            "scopeLogs": [_SCOPE],
        }
    ]
}


TARGETS: dict[str, Target] = {
    "file": Target(targets.file, mutators.of_file, _files, 300),
    "resigned": Target(targets.resigned, mutators.of_recipe, _recipes, 400),
    "taken_in": Target(sides.taken_in, mutators.of_recipe, _recipes, 100),
    "answered": Target(sides.answered, mutators.of_recipe, _receipts, 250),
    "shown": Target(sides.shown, mutators.of_recipe, _recipes, 50),
    "encoding": Target(targets.encoding, mutators.of_bytes, _encodings, 1000),
    "signatures": Target(targets.signatures, mutators.of_bytes, _envelopes, 800),
    "trust": Target(targets.trust, mutators.of_json, _stores, 300),
    "statements": Target(targets.statements, mutators.of_bytes, _statements, 400),
    "public_key": Target(targets.public_key, mutators.of_key, _keys, 700),
    "private_key": Target(targets.private_key, mutators.of_key, _private, 300),
    "json_value": Target(targets.json_value, mutators.of_json, _lines, 1500),
    "json_lines": Target(targets.json_lines, mutators.of_lines, _lines, 250),
    "csv_rows": Target(targets.csv_rows, mutators.of_text, list, 700),
    "captured": Target(targets.captured, mutators.of_body, _bodies, 200),
    "logs": Target(targets.logs, _log_mutator, _logs, 200),
    "times": Target(targets.times, mutators.of_text, list, 700),
}
