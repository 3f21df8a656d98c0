"""What the fuzzer tries: one function per way in, each of which raises on any defect.

A target takes bytes. Errors of the project's own (``AirgapError``, and the one documented
``ValueError`` of a parser) are how bad input is refused; every other exception, and every assertion
here, is a finding. Bounds on memory and time are the business of ``run.py``.
"""

import base64
import contextlib
import csv
import hashlib
import io
import json
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from typing import Any

import msgpack
import second_reader
import support
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fuzz import recipes, scratch

from airgap import catalog, jsontext, timestamps, verify
from airgap.bundle import blocks, codec, envelope, layout
from airgap.bundle.envelope import Envelope
from airgap.bundle.sealing import Context, FileKey, Sealing
from airgap.capture.contract import Head
from airgap.capture.door import Door, Site
from airgap.collect import (
    bodies,
    csvfiles,
    csvtext,
    jsonfiles,
    otlp,
    otlp_json,
    otlp_protobuf,
    tables,
)
from airgap.collect.otlp import LogPolicy
from airgap.collect.otlp_model import Attributes
from airgap.collect.payloads import Rules
from airgap.errors import AirgapError
from airgap.records import Record, check_record
from airgap.trust import approvals, keys, recipients, roots, statement, succession
from airgap.trust import store as trust_store
from airgap.trust.approvals import Reviews
from airgap.trust.entries import Place, Root

SCHEMAS = catalog.load()
_QUANTUM = "airgap test vector quantum  key!"
FINGERPRINT = "license:" + "0" * 32
_STATED = timestamps.parse("2026-01-31T12:00:00Z")
PLAIN = (type(None), bool, int, str)


_BOUND = "2026-01-31T12:00:00Z"
"""When the golden files were made, so that both sides of a bound are near."""
_ENTRIES = {
    False: {"exporter": {}, "importer": {}},
    True: {
        "exporter": {
            "sources": ("vector.site",),
            "not_before": _BOUND,
            "not_after": "2026-02-01T00:00:00Z",
        },
        "importer": {"sources": ("a", "vector.site"), "not_after": _BOUND},
    },
}


@cache
def golden_trust(*, limited: bool = False) -> trust_store.TrustStore:
    """Return a trust store with the golden files' exporter and importer, if wanted with bounds."""
    store = trust_store.TrustStore({})
    for name, limits in _ENTRIES[limited].items():
        key = keys.from_seed(f"airgap test vector {name} key!".encode())
        changes = {k: timestamps.parse(v) if isinstance(v, str) else v for k, v in limits.items()}
        store = store.with_key(support.trusted(key, name, **changes))
    quantum = keys.from_seed(_QUANTUM.encode(), keys.HYBRID)
    return store.with_key(support.trusted(quantum, "exporter"))


@cache
def second_keys(*, limited: bool = False) -> tuple[second_reader.TrustedKey, ...]:
    """Return the same as the second reader has them."""
    found = []
    for name, limits in _ENTRIES[limited].items():
        changes = {k: datetime.fromisoformat(v) for k, v in limits.items() if isinstance(v, str)}
        sources = frozenset(limits.get("sources", ("*",)))
        public = recipes.key(name)[0].public_key()
        found.append(second_reader.TrustedKey(public, frozenset({name}), sources, **changes))
    halves = (
        Ed25519PrivateKey.from_private_bytes(_QUANTUM.encode()).public_key(),
        MLDSA65PrivateKey.from_seed_bytes(_QUANTUM.encode()).public_key(),
    )
    exporter = frozenset({"exporter"})
    found.append(second_reader.TrustedKey(halves[0], exporter, frozenset("*"), mldsa65=halves[1]))
    return tuple(found)


@cache
def _opening() -> tuple[recipients.RecipientKey, second_reader.OpeningKey]:
    """Return the golden files' hybrid recipient, who can open all that are sealed, for each reader."""
    index = json.loads((recipes.VECTORS / "index.json").read_bytes())["recipients"]["hybrid"]
    seeds = index["x25519_ascii"].encode(), index["mlkem768_seed_ascii"].encode()
    other = second_reader.OpeningKey(
        X25519PrivateKey.from_private_bytes(seeds[0]), MLKEM768PrivateKey.from_seed_bytes(seeds[1])
    )
    return recipients.from_seeds(*seeds), other


def _open(sealing: Sealing, context: Context, where: str) -> FileKey:
    key = _opening()[0]
    if key.public.key_id not in {recipient.key_id for recipient in sealing.recipients}:
        raise recipients.cannot_open(sealing, [key.public.key_id], where=where)
    return key.unwrap(sealing, context, where=where)


@cache
def _golden() -> frozenset[bytes]:
    return frozenset((*recipes.golden(), *recipes.sealed_and_hybrid()))


# ---- files


def file(data: bytes) -> None:
    """Hold any bytes to be refused that are not a golden file, by both readers."""
    assert _verified(data) == (data in _golden()), "accepted, though nobody signed it"


def resigned(data: bytes) -> None:
    """Hold what a trusted key signed to be refused, or right in everything, by both readers."""
    recipe = recipes.decode(data)
    if recipe is not None:
        _verified(recipes.build(recipe), limited=bool(recipe.flags & recipes.LIMITED))


def _verified(data: bytes, *, limited: bool = False) -> bool:
    """Ask both readers; hold what they accept to every invariant; tell whether they did."""
    ours = _ours(data, limited=limited)
    try:
        theirs = second_reader.verify(
            data, second_keys(limited=limited), recipes.RULES, [_opening()[1]]
        )
    except second_reader.Refused as refused:
        assert isinstance(ours, AirgapError), f"airgap accepts what the other refuses: {refused}"
        return False
    assert not isinstance(ours, AirgapError), f"airgap alone refuses: {ours}, {ours.where}"
    _hold(data, ours, theirs)
    return True


def _ours(
    data: bytes, *, limited: bool = False
) -> verify.VerifiedBundle | verify.VerifiedReceipt | AirgapError:
    """Return what ``verify`` says; the type of the file is asked of the file, as commands do."""
    stream, trusted = io.BytesIO(data), golden_trust(limited=limited)
    try:
        opened, _ = verify.peek(stream, name="fuzz", catalog=SCHEMAS)
    except AirgapError as error:
        for check in (verify.verify_bundle, verify.verify_receipt):
            try:
                check(stream, name="fuzz", trust=trusted, catalog=SCHEMAS)
            except AirgapError as other:
                _hold_error(other)
            else:
                raise AssertionError(f"verified, though peek refuses it: {error}") from error
        return error
    is_bundle = opened.header.file_type == "bundle"
    # As an import does: held against what the trust store demands.
    right, wrong = (
        partial(verify.verify_bundle, approvals=(), opener=_open),
        verify.verify_receipt,
    )
    if not is_bundle:
        right, wrong = wrong, right
    try:
        wrong(stream, name="fuzz", trust=trusted, catalog=SCHEMAS)
    except AirgapError as error:
        _hold_error(error)
    else:
        raise AssertionError("verified as a bundle and as a receipt")
    try:
        return right(stream, name="fuzz", trust=trusted, catalog=SCHEMAS)
    except AirgapError as error:
        _hold_error(error)
        return error


def _hold_error(error: AirgapError) -> None:
    assert error.exit_code in (2, 3, 4, 5), error
    assert error.message, error
    assert error.hint, error
    text = json.dumps(error.as_json())
    assert len(text) < 20_000, "an error of more than a screen"


def _hold(
    data: bytes,
    ours: verify.VerifiedBundle | verify.VerifiedReceipt,
    theirs: second_reader.Document,
) -> None:
    manifest = ours.manifest
    assert codec.encode(manifest) == ours.envelope.payload
    assert manifest == theirs.manifest
    assert ours.document_id == theirs.id
    assert {signer.public.key_id for signer in ours.signers} == theirs.signers
    assert ours.source == manifest["source"]
    if isinstance(ours, verify.VerifiedBundle):
        found = list(ours.records())
        elements = [record.as_map() for _, record in found]
        assert [name.hex() for name, _ in found] == list(theirs.record_ids)
        assert ours.totals.as_map() == second_reader.totals(elements, recipes.RULES)
        assert ours.totals.records == len(elements)
        assert ours.no_usage is None or not elements
        assert ours.timeline is not None
        assert ours.created_at.tzinfo is not None
    else:
        elements = list(ours.outcomes())
        assert [element["id"] for element in elements] == list(theirs.record_ids)
        assert sum(manifest["outcomes"].values()) == len(elements)
    assert elements == list(theirs.elements), "other elements, or in another order"
    assert len(elements) == manifest["records"]
    # Made anew of what was read, it is the same file.
    offset = struct.unpack(">Q", data[-24:-16])[0]
    encoded = ours.envelope.encode()
    assert data[offset:] == encoded + layout.footer(offset, len(encoded))
    at = len(data) - len(data[offset:])
    for chunk in reversed(manifest["chunks"]):
        at -= len(layout.chunk_head(chunk["size"])) + chunk["size"]
    assert hashlib.sha256(data[:at]).hexdigest() == manifest["header_sha256"]


# ---- parts of files


def encoding(data: bytes) -> None:
    """Hold decoding to one encoding for each value, and to what the other reader takes."""
    binary = len(data) % 2 == 1
    theirs: list[Any] = []
    with contextlib.suppress(ValueError, OverflowError, msgpack.UnpackException):
        theirs = [second_reader.decode(data, (*PLAIN, bytes) if binary else PLAIN)]
    try:
        value = codec.decode(data, what="value", where="fuzz", max_objects=1000, binary=binary)
    except AirgapError as error:
        assert not theirs or "more than 1000 values" in error.message, f"refused alone: {error}"
    else:
        assert theirs == [value], "accepted alone"
        assert codec.encode(value) == data
    count = data[0] & 15 if data else 1
    found, many = [], []
    try:
        found.extend(codec.decode_records(data, count, where="fuzz"))
    except AirgapError as error:
        try:
            for block in blocks.decode_blocks(data, count, where="fuzz"):
                many.extend(block.checked())
        except AirgapError as other:
            assert (other.message, len(many)) == (error.message, len(found)), "another refusal"
            return
        raise AssertionError("accepted together alone") from None
    for block in blocks.decode_blocks(data, count, where="fuzz"):
        many.extend(block.checked())
    assert list(map(codec.encode, many)) == list(map(codec.encode, found))
    assert codec.array_header(count) + b"".join(map(codec.encode, found)) == data


def signatures(data: bytes) -> None:
    """Hold the envelope to its one form, and its signatures to the trust store."""
    try:
        found = envelope.decode(data, where="fuzz")
    except AirgapError:
        return
    assert found.encode() == data
    length = len(found.payload_type.encode())
    assert found.message.startswith(b"DSSEv1 %d " % length)
    assert found.message.endswith(b" %d %b" % (len(found.payload), found.payload))
    try:
        signers = golden_trust().check_signatures(found, where="fuzz")
    except AirgapError as error:
        _hold_error(error)
        return
    for signature, signer in zip(found.signatures, signers, strict=True):
        assert signature.key_id == signer.public.key_id
        assert signature.algorithm == signer.public.algorithm
        if signer.public.algorithm == keys.HYBRID:
            assert data in {made[struct.unpack(">Q", made[-24:-16])[0] : -26] for made in _golden()}
            continue
        [holder] = (key for key, name in _HOLDERS if name == signer.public.key_id)
        assert holder.sign(found.message) == signature.signature, "accepted, though not signed"


_HOLDERS = [recipes.key(name) for name in ("exporter", "importer")]


# ---- the trust store and keys


def trust(data: bytes) -> None:
    """Hold a trust store to be refused, or to mean the same when it is written and read again."""
    path = scratch.folder() / "trust.json"
    try:
        path.write_bytes(data)
        try:
            found = trust_store.load(path, SCHEMAS)
        except AirgapError as error:
            _hold_error(error)
            return
        for key_id, entry in found.keys.items():
            assert entry.public.key_id == key_id
            _hold_key(entry.public)
            assert entry.roles
        trust_store.save(path, found)
        assert trust_store.load(path, SCHEMAS) == replace(found, version=found.version + 1)
    finally:
        path.unlink(missing_ok=True)


@cache
def _private(name: str) -> keys.PrivateKey:
    return keys.from_seed(f"airgap test vector {name} key!".encode())


@cache
def golden_statements() -> dict[statement.Kind, Envelope]:
    """Return one statement of each kind that is believed, by the golden files' published keys."""
    exporter, importer, stranger = map(_private, ("exporter", "importer", "stranger"))
    root = Root(2, ((exporter.public, ""), (importer.public, "")))
    signed = statement.make(
        "trust",
        replace(golden_trust(), version=5, root=root).as_map(),
        [exporter.sign, importer.sign],
        SCHEMAS,
    )
    value = {
        "bundle_id": "0" * 64,
        "source": "vector.site",
        "sequence": 1,
        "decision": "approve",
        "review_sha256": None,
        "comment": None,
    }
    _, approval = approvals.make(value, importer.sign, SCHEMAS, now=_STATED)
    heir = succession.make(exporter, stranger, "vector.site", 2, SCHEMAS, _STATED)
    return {"trust": signed, "approval": approval, "succession": heir}


def statements(data: bytes) -> None:
    """Hold a statement to be refused, to count for nothing, or to say what a golden one says."""
    golden = {made.encode() for made in golden_statements().values()}
    trust = golden_trust()
    reviewer = replace(trust.keys[_private("importer").public.key_id], roles=("reviewer",))
    heard = trust.changed(reviewer)
    believed = False
    with _named_errors():
        named = [_private(name).public.key_id for name in ("exporter", "importer")]
        following = roots.follows(
            trust_store.TrustStore({}), data, SCHEMAS, _STATED, named=named, where="fuzz"
        )
        believed = following is not None
    with _named_errors():
        found = approvals.read(data, SCHEMAS, name="fuzz")
        place = Place("vector.site", _STATED, 1)
        reviews = Reviews.of([found], "0" * 64, place, (), heard)
        believed |= bool(reviews.approved or reviews.denied)
    with _named_errors():
        succession.follow(trust, data, SCHEMAS, _STATED, where="fuzz")
        believed = True
    if believed:
        payloads = {made.payload for made in golden_statements().values()}
        assert envelope.decode(data, where="fuzz").payload in payloads
    assert believed or data not in golden


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except AirgapError as error:
        _hold_error(error)


def public_key(data: bytes) -> None:
    """Hold a file of a public key to be refused, or to be one sound key that reads alike again."""
    try:
        found = keys.public_from_bytes(data, where="fuzz")
    except AirgapError as error:
        _hold_error(error)
        return
    _hold_key(found)
    assert keys.public_from_bytes(found.pem.encode(), where="fuzz") == found


def private_key(data: bytes) -> None:
    """Hold a file of a private key to be refused, or to be a key that signs; none asks for much time."""
    try:
        found = keys.private_from_bytes(data, lambda _: None, where="fuzz")
    except AirgapError as error:
        _hold_error(error)
        return
    _hold_key(found.public)
    assert found.public.verifies(found.sign(b"message").signature, b"message")
    again = keys.private_from_bytes(keys.to_pem(found, None), lambda _: None, where="fuzz")
    assert again.public == found.public


def _hold_key(found: keys.PublicKey) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    parts = found.pem.encode().split(b"-----BEGIN")[1:]
    key, *second = (load_pem_public_key(b"-----BEGIN" + part) for part in parts)
    assert second_reader.is_sound_point(key.public_bytes_raw()), "a key that anyone can sign for"
    other = second_reader.TrustedKey(key, frozenset(), frozenset(), mldsa65=(second or [None])[0])
    assert (other.key_id, other.algorithm) == (found.key_id, found.algorithm)
    assert not found.verifies(b"\0" * 64, b"")


# ---- JSON


def json_value(data: bytes) -> None:
    """Hold the parser to RFC 8259 as ``json`` reads it, less what two readers understand differently."""
    try:
        value = jsontext.parse(data)
    except jsontext.NotExactError:
        assert not _is_exact_json(data), "refused, though exact"
        return
    expected = json.loads(data, object_pairs_hook=_distinct)
    assert _alike(value, expected), "read as another value"
    assert _is_exact_json(data), "accepted, though not exact"
    try:
        text = jsontext.canonical(value)
    except jsontext.NotExactError:
        # A float, or deeper than orjson writes; 255 levels hold nothing that may leave.
        assert _has_float(value) or data.count(b"[") + data.count(b"{") > 250
        return
    assert not _has_float(value)
    assert text == second_reader.canonical_json(value)
    assert jsontext.parse(text) == value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a key twice"
    return dict(pairs)


def _is_exact_json(data: bytes) -> bool:
    """Tell by the standard library whether it is JSON that has one meaning."""

    def refuse(_: object) -> None:
        raise ValueError

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) != len(items):
            raise ValueError
        return dict(items)

    def integer(text: str) -> int:
        if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
            raise ValueError
        return int(text)

    def number(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError
        return float(text)

    try:
        text = data.decode()
        value = json.loads(
            text,
            parse_constant=refuse,
            object_pairs_hook=pairs,
            parse_int=integer,
            parse_float=number,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return _depth(value) <= 250


def _depth(value: Any) -> int:
    deepest, below = 0, [(value, 1)]
    while below:
        one, depth = below.pop()
        if isinstance(one, dict | list):
            deepest = max(deepest, depth)
            items = one.values() if isinstance(one, dict) else one
            below += [(item, depth + 1) for item in items]
    return deepest


def _alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_alike(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    return bool(one == other)


def _has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list) else isinstance(value, float)


# ---- sources

_RULES = Rules(defaults={"license": FINGERPRINT, "api_key": "api_key:" + "0" * 32})


def json_lines(data: bytes) -> None:
    """Hold a file of requests to be refused, or to give records that pass every check."""
    for name in ("fuzz.jsonl", "fuzz.json"):
        try:
            shown = jsonfiles.read_stream(io.BytesIO(data), name, SCHEMAS, _RULES)
            found = [one.record for one in shown]
        except AirgapError as error:
            _hold_error(error)
        else:
            _hold_records(found)


def _hold_records(found: list[Record]) -> None:
    for record in found:
        second_reader._check_record(record.as_map(), recipes.RULES)
        check_record(record, SCHEMAS, where="fuzz")
        text = jsontext.canonical(record.as_map())
        for pattern in SCHEMAS.credential_patterns.values():
            assert not pattern.search(text), "a credential"
        assert second_reader.decode(codec.encode(record.as_map())) == record.as_map()


def csv_rows(data: bytes) -> None:
    """Hold CSV to be refused, or to mean to the standard library what it means here."""
    csvfiles.is_csv("fuzz", data[:4096])
    for reading in (csvfiles.Reading(), csvfiles.Reading(table="remote_metrics", null="NULL")):
        try:
            rows = csvfiles.read_stream(io.BytesIO(data), "fuzz", _tables(), reading)
            found = list(tables.sightings(rows, SCHEMAS, _RULES, tables.Skipped()))
        except AirgapError as error:
            _hold_error(error)
        else:
            _hold_records([sighting.record for sighting in found])
    _same_fields(data)


@cache
def _tables() -> dict[str, tables.Table]:
    return tables.load(SCHEMAS)


def _same_fields(data: bytes) -> None:
    text = data[:500].decode("latin-1").partition("\n")[0].replace("\r", "").replace("\0", "")
    try:
        ours = csvtext.fields(text, ",")
    except csvtext.BrokenQuotesError:
        return
    if text:
        assert [ours] == list(csv.reader([text], strict=True))


# ---- the capture endpoint

_SITE = Site(
    kinds=frozenset(SCHEMAS.kinds),
    token=None,
    rules=_RULES,
    pseudonyms=None,
    logs=LogPolicy(templates=("Run {} ended",), attributes=frozenset({"service.name"})),
)
_TYPES = ("application/json", "application/x-protobuf")
_CODINGS = ("identity", "gzip")


@cache
def _door() -> Door:
    keeper: Any = None
    return Door(SCHEMAS, _SITE, keeper, lambda _: None)


def captured(data: bytes) -> None:
    """Hold a request's body to be refused, or to give records that pass every check.

    The first byte says which path, content type and coding; the rest is the body.
    """
    if not data:
        return
    paths = [d.path for kind in SCHEMAS.kinds.values() for d in kind.dialects.values()]
    path = paths[data[0] % len(paths)]
    head = Head(
        "POST",
        path,
        {
            "content-type": _TYPES[data[0] >> 7],
            "content-encoding": _CODINGS[data[0] >> 6 & 1],
            "x-langchain-license-key": "lcl_EXAMPLE_not_a_real_key",
            "x-api-key": "lsv2_pt_EXAMPLE_not_a_real_key",
        },
        "127.0.0.1",
    )
    door = _door()
    if door.refuse(head) is not None:
        return
    kind = door._kind(path)
    assert kind is not None
    try:
        found = door._understood(kind, head, data[1:])
    except AirgapError as error:
        _hold_error(error)
        return
    _hold_records([sighting.record for sighting in found])


def logs(data: bytes) -> None:
    """Hold what is left of logs to what the site named, in both of OTLP's forms, the same each time."""
    policy = _SITE.logs
    assert policy is not None
    is_json = data[:1] in (b"{", b"")
    content_type, form = _TYPES[not is_json], otlp_json if is_json else otlp_protobuf
    body = data.decode(errors="replace") if is_json else base64.b64encode(data).decode()
    payload = {
        "content_type": content_type,
        "content_encoding": "identity",
        "encoding": "utf-8" if is_json else "base64",
        "body": body,
    }
    try:
        left = otlp.filtered(payload, policy, where="fuzz")
    except AirgapError as error:
        _hold_error(error)
        return
    if left is None:
        return
    assert otlp.filtered(left, policy, where="fuzz") == left, "filtered again it is another"
    found = form.read(bodies.unpacked(left))
    for resource in found:
        _hold_named(resource.attributes, policy)
        for scope in resource.scopes:
            _hold_named(scope.attributes, policy)
            for log in scope.logs:
                _hold_named(log.attributes, policy)
                assert log.body in (None, *policy.templates), "a message that nobody named"
                assert log.event_name in ("", *policy.attributes)
                assert len(log.severity_text) < 16
    # What one form says the other can say; a double that is no number has no JSON of its own.
    assert otlp_json.write(otlp_json.read(otlp_json.write(found))) == otlp_json.write(found)
    assert otlp_protobuf.read(otlp_protobuf.write(found)) == found or b"nan" in repr(found).encode()


def _hold_named(attributes: Attributes, policy: LogPolicy) -> None:
    assert {key for key, _ in attributes} <= policy.attributes, "an attribute that nobody named"


# ---- small things


def times(data: bytes) -> None:
    """Hold a date-time to one meaning, the same to both validators and to both readers."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        moment = timestamps.parse(text)
    except ValueError:
        return
    assert timestamps.is_date_time(text)
    again = timestamps.to_text(moment, precise=True)
    assert timestamps.parse(again) == moment
    assert datetime.fromisoformat(text) == moment, text
