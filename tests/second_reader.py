"""A second, independent reader of the airgap file format, written from schemas/README.md alone.

It shares no code with the project, so that what both agree on is the specification and not a
common mistake. It covers the steps 1 to 7 of the section Verification, plus what a receiver checks
between a receipt and its bundle. Of JSON Schema it knows the few keywords that the schemas beside
the specification use, and refuses to work with any other, so it is never silently lax.

Left out: the chain of bundles (it takes a memory of earlier ones), the file trust.json, and
writing. The whole file is held in memory. zstandard is needed for compressed files only.
"""

import base64
import hashlib
import hmac
import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from operator import add
from pathlib import Path
from typing import Any, Self

import msgpack
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PREAMBLE = b"\xc4\x0c\x89airgap\r\n\x1a\n\x01"
FOOTER = struct.Struct(">2sQQ8s")
FOOTER_ENDS = (b"\xc4\x18", b"airgap.\n")
PAYLOAD_TYPE = "application/vnd.airgap.{}.v1+msgpack"
ROLES = {"bundle": "exporter", "receipt": "importer"}
ANSWER = 8  # the number that Refused gives to what comes after the seven steps

MAX_FILE, MAX_HEADER, MAX_ENVELOPE, MAX_SIGNATURES = 8_589_934_592, 32_768, 16_777_216, 8
MAX_DEPTH, MAX_ENTRIES, MAX_TEXT, MAX_ELEMENT = 8, 4_096, 4_194_304, 6_291_456
MAX_INTEGER = 2**63 - 1


class Refused(Exception):  # noqa: N818 - what happened to the file, not a fault of the program
    """The file fails a step of the verification; nothing of it may be acted on."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"step {step}: {why}")
        self.step = step
        self.why = why


@dataclass(frozen=True)
class TrustedKey:
    """A public key and what it may sign; the time is from not_before up to, not at, not_after."""

    public_key: Ed25519PublicKey
    roles: frozenset[str]
    sources: frozenset[str]
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: bool = False
    mldsa65: MLDSA65PublicKey | None = None

    def __post_init__(self) -> None:
        raw = self.public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        _need(is_sound_point(raw), "the public key is not a canonical point of large order")

    @property
    def algorithm(self) -> str:
        """The one that it verifies."""
        return "ed25519" if self.mldsa65 is None else "ed25519+ml-dsa-65"

    @property
    def key_id(self) -> str:
        """Computed, never taken over, so a key cannot stand under the id of another."""
        halves = [half for half in (self.public_key, self.mldsa65) if half is not None]
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return _sha256(b"".join(half.public_bytes(*form) for half in halves))

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise InvalidSignature unless every half of the signature holds."""
        if self.mldsa65 is None:
            self.public_key.verify(signature, message)
            return
        both = b"airgap ed25519+ml-dsa-65 v1\x00" + message
        self.public_key.verify(signature[:64], both)
        self.mldsa65.verify(signature[64:], both)

    def may_sign(self, source: str, at: datetime) -> bool:
        """Whether the key counts for this source at this time."""
        return (
            not self.sources.isdisjoint({source, "*"})
            and (self.not_before is None or self.not_before <= at)
            and (self.not_after is None or at < self.not_after)
        )


@dataclass(frozen=True)
class OpeningKey:
    """A recipient's private key; one with an ML-KEM-768 half is a hybrid one."""

    x25519: X25519PrivateKey
    mlkem768: MLKEM768PrivateKey | None = None

    @property
    def suite(self) -> str:
        """What a header calls its suite."""
        return "x25519" if self.mlkem768 is None else "mlkem768-x25519"

    @property
    def key_id(self) -> str:
        """Over the halves' SubjectPublicKeyInfos, one after the other."""
        halves = [half for half in (self.mlkem768, self.x25519) if half is not None]
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return _sha256(b"".join(half.public_key().public_bytes(*form) for half in halves))

    def unwrap(self, wrapped: bytes, info: bytes, aad: bytes = b"") -> bytes:
        """HPKE's opening in base mode (RFC 9180), with HKDF-SHA256 and ChaCha20-Poly1305."""
        size = 32 if self.mlkem768 is None else 1120
        enc, ciphertext = wrapped[:size], wrapped[size:]
        kem = 0x0020 if self.mlkem768 is None else 0x647A
        key, nonce = _hpke_schedule(kem, self._decapsulate(enc), info)
        try:
            return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)
        except InvalidTag:
            raise ValueError("the wrapped key does not open") from None

    def _decapsulate(self, enc: bytes) -> bytes:
        own = self.x25519.public_key().public_bytes_raw()
        theirs = enc[-32:]
        shared = self.x25519.exchange(X25519PublicKey.from_public_bytes(theirs))
        if self.mlkem768 is None:  # RFC 9180, 4.1
            suite = b"KEM" + (0x0020).to_bytes(2)
            prk = _labeled_extract(suite, b"", b"eae_prk", shared)
            return _labeled_expand(suite, prk, b"shared_secret", theirs + own, 32)
        quantum_safe = self.mlkem768.decapsulate(enc[:-32])
        return hashlib.sha3_256(quantum_safe + shared + theirs + own + b"\\.//^\\").digest()


@dataclass(frozen=True)
class Rules:
    """The endpoint catalogue's kinds and all JSON Schemas, by file name without its endings."""

    kinds: Mapping[str, Any]
    schemas: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the folder that holds the specification."""
        catalogue = json.loads((folder / "endpoints.json").read_bytes())
        files = [*folder.glob("*.schema.json"), *folder.glob("kinds/*.schema.json")]
        schemas = {f.name.removesuffix(".schema.json"): json.loads(f.read_bytes()) for f in files}
        return cls(catalogue["kinds"], schemas)


@dataclass(frozen=True)
class Document:
    """A verified bundle or receipt."""

    id: str
    file_type: str
    manifest: Mapping[str, Any]
    elements: tuple[Mapping[str, Any], ...]
    record_ids: tuple[str, ...]
    signers: frozenset[str]


def read(
    path: Path, keys: Iterable[TrustedKey], rules: Rules, opening: Iterable[OpeningKey] = ()
) -> Document:
    """Verify a file; too big a one is refused before it is read."""
    if path.stat().st_size > MAX_FILE:
        raise Refused(1, "the file is larger than the limit")
    return verify(path.read_bytes(), keys, rules, opening)


def verify(
    data: bytes, keys: Iterable[TrustedKey], rules: Rules, opening: Iterable[OpeningKey] = ()
) -> Document:
    """Take the seven steps in order; the first that fails raises Refused with its number."""
    with _step(1):
        header, header_end, envelope, envelope_start = _frame(data, rules)
    file_type: str = header["file_type"]
    with _step(2):
        expected = PAYLOAD_TYPE.format(file_type)
        _need(envelope["payload_type"] == expected, "payload_type is not the file's")
    message = pre_authentication_encoding(envelope["payload_type"], envelope["payload"])
    with _step(3):
        signers = _signers(envelope["signatures"], message, {key.key_id: key for key in keys})
    with _step(4):
        manifest = decode(envelope["payload"])
        check_schema(rules.schemas[f"{file_type}-manifest"], manifest)
        _need(manifest["header_sha256"] == _sha256(data[:header_end]), "header_sha256 is wrong")
        chunks = _chunks(data, manifest, header_end, envelope_start)
        _need(header["sealing"] is None or len(chunks) > 0, "nothing is sealed")
    with _step(5):
        source, at = manifest["source"], datetime.fromisoformat(manifest["created_at"])
        _need(all(key.may_sign(source, at) for key in signers), "a signer may not sign this")
        _need(any(ROLES[file_type] in key.roles for key in signers), "no signer has the role")
    with _step(6):
        chunk_key = _chunk_key(header["sealing"], manifest, opening)
        elements = tuple(
            element
            for number, (entry, chunk) in enumerate(zip(manifest["chunks"], chunks, strict=True))
            for element in _elements(
                entry, chunk, header, rules, _opener(chunk_key, number, len(chunks))
            )
        )
    with _step(7):
        if file_type == "bundle":
            kinds = {record["kind"] for record in elements}
            _need(manifest["schemas"].keys() == kinds, "schemas are not those of the kinds")
            for field, value in _summary(elements, rules).items():
                _need(manifest[field] == value, f"{field} is not that of the records")
            ids = tuple(record_id(source, record, rules) for record in elements)
            _check_no_usage(manifest)
        else:
            counted = Counter(outcome["outcome"] for outcome in elements)
            _need(all(counted[k] == n for k, n in manifest["outcomes"].items()), "outcomes differ")
            ids = tuple(outcome["id"] for outcome in elements)
            _need((manifest["number"] == 1) == (manifest["previous"] is None), "previous is wrong")
            first = manifest["bundle_sequence"] == 1
            _need(first == (manifest["bundle_previous"] is None), "bundle_previous is wrong")
    return Document(
        _sha256(message), file_type, manifest, elements, ids, frozenset(k.key_id for k in signers)
    )


def check_answer(receipt: Document, bundle: Document, rules: Rules) -> None:
    """What the receiver checks: a receipt alone can't prove its totals, for it has no payloads."""
    with _step(ANSWER):
        told, sent = receipt.manifest, bundle.manifest
        _need(told["bundle_id"] == bundle.id, "the receipt is for another bundle")
        _need(told["source"] == sent["source"], "the receipt is for another source")
        _need(told["bundle_sequence"] == sent["sequence"], "the sequence is not the bundle's")
        _need(told["bundle_previous"] == sent["previous"], "the bundle follows another one")
        records = dict(zip(bundle.record_ids, bundle.elements, strict=True))
        _need(sorted(receipt.record_ids) == sorted(bundle.record_ids), "the records are not its")
        delivered = [records[o["id"]] for o in receipt.elements if o["outcome"] == "delivered"]
        _need(told["totals"] == totals(delivered, rules), "totals are not those delivered")


def decode(data: bytes, allowed: tuple[type, ...] = (type(None), bool, int, str)) -> Any:
    """One msgpack value; the check of types is apart, as floats survive being encoded again."""
    value = msgpack.unpackb(data)
    _check_value(value, allowed, 1)
    _need(msgpack.packb(value) == data, "a value is not in its one encoding")
    return value


def canonical_json(value: object) -> bytes:
    """The form that record ids are made of."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE's; the lengths keep type and payload from running into each other."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def fingerprint(kind: str, credential: str) -> str:
    """What stands for a credential in a file."""
    digest = _sha256(b"\0".join([b"airgap credential v1", kind.encode(), credential.encode()]))
    return f"{kind}:{digest[:32]}"


def record_id(source: str, record: Mapping[str, Any], rules: Rules) -> str:
    """It follows from the content, or from the payload's own identity where the kind has one."""
    kind, payload = record["kind"], record["payload"]
    identity = rules.kinds[kind]["identity"]
    named = [record["dialect"], record["credential"], record["occurrence"], payload]
    if identity is not None:
        named = [payload[identity].lower()]
    return _sha256(canonical_json(["airgap-record-v1", source, kind, *named]))[:32]


def totals(records: Iterable[Mapping[str, Any]], rules: Rules) -> dict[str, dict[str, Any]]:
    """Exact counts and sums per kind."""
    result: dict[str, dict[str, Any]] = {}
    for record in records:
        payload, measures = record["payload"], rules.kinds[record["kind"]]["sums"]
        entry = result.setdefault(record["kind"], {"records": 0, "sums": {}})
        entry["records"] += 1
        summands = [(name, payload[name]) for name in measures["fields"]]
        for name in measures["maps"]:
            summands += payload[name].items()
        for name, value in summands:
            entry["sums"][name] = entry["sums"].get(name, 0) + value
            _need(entry["sums"][name] <= MAX_INTEGER, "a sum is too large")
    return result


def is_sound_point(raw: bytes, p: int = 2**255 - 19) -> bool:
    """Whether an Ed25519 key is canonical, on the curve and not of small order (RFC 8032, 5.1)."""
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    d = -121665 * pow(121666, -1, p)

    def x_squared(y: int) -> int:
        return (y * y - 1) * pow(d * y * y + 1, -1, p) % p

    if y >= p or pow(x_squared(y), (p - 1) // 2, p) == p - 1:
        return False
    for _ in range(3):  # eight times a point of small order is the neutral one, whose y is 1
        xx = x_squared(y)
        y = (y * y + xx) * pow(1 - d * xx * y * y, -1, p) % p
    return y != 1


# What each keyword of JSON Schema that the format uses says, and of which type of value.
_NAMES = ("object", "array", "string", "integer", "boolean", "null")
_TYPES = dict(zip((dict, list, str, int, bool, type(None)), _NAMES, strict=True))
_KEYWORDS: Mapping[str, tuple[type, Callable[[Any, Any], bool]]] = {
    "type": (object, lambda want, v: _TYPES[type(v)] in (want if type(want) is list else [want])),
    "const": (object, lambda want, v: type(v) is str and v == want),
    "enum": (object, lambda want, v: type(v) is str and v in want),
    "minimum": (int, lambda want, v: v >= want),
    "maximum": (int, lambda want, v: v <= want),
    "minLength": (str, lambda want, v: len(v) >= want),
    "maxLength": (str, lambda want, v: len(v) <= want),
    # All patterns are anchored; a full match keeps their $ from passing over a line feed.
    "pattern": (str, lambda want, v: re.fullmatch(want, v) is not None),
    # Where there is a format there is a pattern, so that only the calendar is left to check.
    "format": (str, lambda want, v: want == "uuid" or bool(datetime.fromisoformat(v))),
    "minItems": (list, lambda want, v: len(v) >= want),
    "maxItems": (list, lambda want, v: len(v) <= want),
    "uniqueItems": (list, lambda _, v: len(set(map(canonical_json, v))) == len(v)),
    "maxProperties": (dict, lambda want, v: len(v) <= want),
    "required": (dict, lambda want, v: v.keys() >= set(want)),
}
# Keywords that check_schema itself follows, and those that only tell people something.
_ELSEWHERE = {"properties", "additionalProperties", "propertyNames", "items"}
_ELSEWHERE |= {"$schema", "$id", "title", "description", "examples"}


def check_schema(schema: Mapping[str, Any], value: Any) -> None:
    """JSON Schema as far as the format uses it; any other keyword is a KeyError."""
    for keyword, wanted in schema.items():
        if keyword not in _ELSEWHERE:
            applies_to, holds = _KEYWORDS[keyword]
            _need(not isinstance(value, applies_to) or holds(wanted, value), f"{keyword} fails")
    if isinstance(value, list):
        for item in value:
            check_schema(schema.get("items", {}), item)
    elif isinstance(value, dict):
        for name, item in value.items():
            check_schema(schema.get("propertyNames", {}), name)
            other = schema.get("additionalProperties", {})
            below = schema.get("properties", {}).get(name, other)
            _need(below is not False, f"there is no field {name!r}")
            check_schema(below, item)


@contextmanager
def _step(number: int) -> Iterator[None]:
    """Give whatever goes wrong inside the number of the step."""
    try:
        yield
    except (ValueError, OverflowError, msgpack.UnpackException) as error:
        raise Refused(number, str(error) or type(error).__name__) from error


def _need(condition: bool, why: str) -> None:
    if not condition:
        raise ValueError(why)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_value(value: Any, allowed: tuple[type, ...], depth: int) -> None:
    _need(depth <= MAX_DEPTH or not isinstance(value, dict | list), "nested too deeply")
    if isinstance(value, dict):
        _need(len(value) <= MAX_ENTRIES, "a map has too many entries")
        for key, item in value.items():
            _check_value(key, (str,), depth + 1)
            _check_value(item, allowed, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_value(item, allowed, depth + 1)
    else:
        _need(type(value) in allowed, f"a value is a {type(value).__name__}")
        _need(not isinstance(value, int) or value <= MAX_INTEGER, "an integer is too large")
        _need(not isinstance(value, str) or len(value.encode()) <= MAX_TEXT, "a text is too long")


def _frame(data: bytes, rules: Rules) -> tuple[dict[str, Any], int, dict[str, Any], int]:
    """The header and where it ends, the envelope and where it starts."""
    _need(len(PREAMBLE) + FOOTER.size <= len(data) <= MAX_FILE, "the file's size is out of bounds")
    _need(data.startswith(PREAMBLE), "the preamble is not that of version 1")
    footer_start = len(data) - FOOTER.size
    head, start, length, tail = FOOTER.unpack_from(data, footer_start)
    _need((head, tail) == FOOTER_ENDS, "the footer is not one")
    _need(start + length == footer_start, "the envelope does not end where the footer begins")
    _need(start > len(PREAMBLE) and length <= MAX_ENVELOPE, "the envelope is out of bounds")

    unpacker = msgpack.Unpacker()
    unpacker.feed(data[len(PREAMBLE) : min(start, len(PREAMBLE) + MAX_HEADER)])
    unpacker.skip()
    header_end = len(PREAMBLE) + unpacker.tell()
    header = decode(data[len(PREAMBLE) : header_end])
    check_schema(rules.schemas["header"], header)
    if header["sealing"] is not None:
        _need(header["file_type"] == "bundle", "a receipt is sealed")
        ids = [recipient["key_id"] for recipient in header["sealing"]["recipients"]]
        _need(len(set(ids)) == len(ids), "a recipient is named twice")

    envelope = decode(data[start:footer_start], (str, bytes))
    _check_fields(envelope, {"payload_type": str, "payload": bytes, "signatures": list})
    _need(len(envelope["signatures"]) <= MAX_SIGNATURES, "too many signatures")
    for signature in envelope["signatures"]:
        _check_fields(signature, {"key_id": str, "algorithm": str, "signature": bytes})
    return header, header_end, envelope, start


def _check_fields(value: Any, fields: Mapping[str, type]) -> None:
    """A map of just these fields, in this order."""
    _need(isinstance(value, dict) and list(value) == list(fields), "not the fields in their order")
    _need(all(type(value[name]) is fields[name] for name in fields), "a field has a wrong type")


def _signers(
    signatures: list[dict[str, Any]], message: bytes, trusted: Mapping[str, TrustedKey]
) -> list[TrustedKey]:
    """The keys that signed; one signature that does not count spoils the file."""
    _need(len(signatures) > 0, "there is no signature")
    _need(len({s["key_id"] for s in signatures}) == len(signatures), "a key signed twice")
    for signature in signatures:
        key = trusted.get(signature["key_id"])
        if key is None or key.revoked:
            raise ValueError("signed by a key that is not trusted")
        _need(signature["algorithm"] == key.algorithm, "the algorithm is not the key's")
        try:
            key.verify(signature["signature"], message)
        except InvalidSignature:
            raise ValueError("a signature does not hold") from None
    return [trusted[s["key_id"]] for s in signatures]


def _chunks(data: bytes, manifest: Mapping[str, Any], start: int, end: int) -> list[bytes]:
    """The chunks with their bin headers, cut out as the listed sizes say, not yet looked into."""
    sizes = [chunk["size"] for chunk in manifest["chunks"]]
    headers = [2 if size < 2**8 else 3 if size < 2**16 else 5 for size in sizes]
    ends = list(accumulate(map(add, headers, sizes), initial=start))
    _need(ends[-1] == end, "the chunks do not fill the space between header and envelope")
    _need(manifest["records"] == sum(c["records"] for c in manifest["chunks"]), "records differ")
    return [data[first:last] for first, last in pairwise(ends)]


def _chunk_key(
    sealing: Mapping[str, Any] | None, manifest: Mapping[str, Any], opening: Iterable[OpeningKey]
) -> bytes | None:
    """What opens the chunks, if one of the keys is a recipient's; None where nothing is sealed."""
    if sealing is None:
        return None
    told = {recipient["key_id"]: recipient for recipient in sealing["recipients"]}
    key = next((key for key in opening if key.key_id in told), None)
    if key is None:
        raise ValueError("sealed to others")
    entry = told[key.key_id]
    _need(entry["suite"] == key.suite, "the suite is not the key's")
    names = ("airgap file key v1", manifest["source"], str(manifest["sequence"]))
    file_key = key.unwrap(bytes.fromhex(entry["wrapped"]), "\0".join(names).encode())
    _need(len(file_key) == 32, "a file key has 32 bytes")
    commitment = _hkdf(file_key, b"airgap key commitment v1").hex()
    _need(commitment == sealing["commitment"], "the header commits to another key")
    return _hkdf(file_key, b"airgap chunk key v1")


def _opener(key: bytes | None, number: int, count: int) -> Callable[[bytes], bytes]:
    """What makes a sealed chunk of this place, of so many, the chunk."""

    def opened(chunk: bytes) -> bytes:
        if key is None:
            return chunk
        nonce = number.to_bytes(11) + bytes([number == count - 1])
        try:
            return ChaCha20Poly1305(key).decrypt(nonce, chunk, None)
        except InvalidTag:
            raise ValueError("a chunk does not open in its place") from None

    return opened


def _hkdf(key: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 without salt (RFC 5869), 32 bytes."""
    prk = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + key, "sha256")


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    told = size.to_bytes(2) + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, told + b"\x01", "sha256")[:size]


def _hpke_schedule(kem: int, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and nonce of the first message in base mode (RFC 9180, 5.1)."""
    suite = b"HPKE" + kem.to_bytes(2) + (1).to_bytes(2) + (3).to_bytes(2)
    told = b"\0" + _labeled_extract(suite, b"", b"psk_id_hash", b"")
    told += _labeled_extract(suite, b"", b"info_hash", info)
    secret = _labeled_extract(suite, shared, b"secret", b"")
    return (
        _labeled_expand(suite, secret, b"key", told, 32),
        _labeled_expand(suite, secret, b"base_nonce", told, 12),
    )


def _elements(
    entry: Mapping[str, Any],
    packed: bytes,
    header: Mapping[str, Any],
    rules: Rules,
    opened: Callable[[bytes], bytes],
) -> Iterator[dict[str, Any]]:
    chunk = decode(packed, (bytes,))
    _need(type(chunk) is bytes and _sha256(chunk) == entry["sha256"], "a chunk has another digest")
    chunk = opened(chunk)
    array = chunk if header["compression"] == "none" else _expand(chunk, entry["expanded"])
    _need(len(array) == entry["expanded"], "a chunk does not have its size")
    elements = decode(array)
    _need(isinstance(elements, list) and len(elements) == entry["records"], "not as many elements")
    for element in elements:
        _need(len(msgpack.packb(element)) <= MAX_ELEMENT, "an element is too large")
        if header["file_type"] == "bundle":
            _check_record(element, rules)
        else:
            check_schema(rules.schemas["outcome"], element)
        yield element


def _expand(chunk: bytes, expanded: int) -> bytes:
    """One zstd frame; its stated size is compared first, so no more is ever allocated."""
    import zstandard

    try:
        _need(zstandard.frame_content_size(chunk) == expanded, "a frame states another size")
        return zstandard.ZstdDecompressor().decompress(chunk, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _check_record(record: Any, rules: Rules) -> None:
    schema = rules.schemas["record"]
    check_schema(schema, record)
    kind = rules.kinds.get(record["kind"], {"dialects": {}})
    dialect = kind["dialects"].get(record["dialect"])
    _need(dialect is not None, "a record's kind and dialect are not in the catalogue")
    credential_type = record["credential"].partition(":")[0]
    _need(dialect["credential"]["type"] == credential_type, "the credential is of another type")
    _need(kind["identity"] is None or record["occurrence"] == 0, "an identity occurs again")
    check_schema(rules.schemas[record["kind"]], record["payload"])
    if kind["body"] == "raw":
        _check_raw(record["payload"])


def _check_raw(payload: Mapping[str, Any]) -> None:
    """A captured body has one form: text where it is plain JSON, else canonical base64."""
    form = (payload["content_type"], payload["content_encoding"])
    is_text = form == ("application/json", "identity")
    _need((payload["encoding"] == "utf-8") == is_text, "a body is in another form")
    if not is_text:
        body = payload["body"].encode()
        _need(base64.b64encode(base64.b64decode(body, validate=True)) == body, "not canonical")


def _summary(records: tuple[dict[str, Any], ...], rules: Rules) -> dict[str, Any]:
    """What a bundle's manifest says of its records."""
    times: list[datetime] = []
    allowed: set[str] = set()
    for record in records:
        kind, payload = record["kind"], record["payload"]
        window = rules.kinds[kind]["period"] or {}
        times += (
            datetime.fromisoformat(payload[field]).astimezone(UTC) for field in window.values()
        )
        for name, schema in rules.schemas[kind]["properties"].items():
            if isinstance(schema.get("additionalProperties"), dict):
                unlisted = payload.get(name, {}).keys() - schema.get("properties", {}).keys()
                allowed |= {f"{kind}/{name}/{entry}" for entry in unlisted}
    period = {"from": _instant(min(times)), "to": _instant(max(times))} if times else None
    return {
        "totals": totals(records, rules),
        "period": period,
        "credentials": sorted({record["credential"] for record in records}),
        "allowed": sorted(allowed),
    }


def _check_no_usage(manifest: Mapping[str, Any]) -> None:
    """Who declares a time without usage reports nothing beside it."""
    told = manifest["no_usage"]
    if told is not None:
        _need(manifest["records"] == 0, "no usage is declared, and there are records")
        ends = datetime.fromisoformat(told["from"]), datetime.fromisoformat(told["to"])
        _need(ends[0] < ends[1], "the time without usage ends before it starts")


def _instant(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
