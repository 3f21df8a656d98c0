"""The fuzzer's targets by name, each with its seeds and the way in which its input is changed."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgpack
from fuzz import mutators, recipes, sides, targets

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
    first, second = store.keys
    at = timestamps.parse("2026-02-01T00:00:00Z")
    bounded = replace(store.keys[second], not_before=at, not_after=at, sources=("a", "b.c"))
    lost = replace(store.keys[first], revoked=Revocation(at, "lost", None, 7))
    root = Root(1, ((lost.public, "first"), (bounded.public, "second")))
    other = trust_store.TrustStore(
        {first: lost, second: bounded}, 3, at, root, {"*": Policy("*", 1, 2)}
    )
    path, found = targets._scratch(), []
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
    return [path.read_bytes() for path in sorted(recipes.VECTORS.glob("*.pub"))]


def _lines() -> list[bytes]:
    lines = targets.SCHEMAS.sample_bytes() + (recipes.VECTORS / "requests.jsonl").read_bytes()
    return lines.splitlines(keepends=True)


def _bodies() -> list[bytes]:
    found = [bytes([number]) + line for line in _lines() for number in range(12)]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [_LOG]}]}]}
    for body in (logs, {"resourceMetrics": []}, {"resourceSpans": []}):
        text = json.dumps(body).encode()
        for number in range(12):
            found += [bytes([number]) + text, bytes([number | 0x40]) + gzip.compress(text, mtime=0)]
    packed = otlp_protobuf.write(otlp_json.read(json.dumps(logs).encode()))
    for number in range(12):
        found += [
            bytes([number | 0x80]) + packed,
            bytes([number | 0xC0]) + gzip.compress(packed, mtime=0),
        ]
    return found


_LOG = {
    "timeUnixNano": "1767690000000000000",
    "severityNumber": 9,
    "severityText": "INFO",
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "body": {"stringValue": "Run 7 ended"},
    "attributes": [{"key": "service.name", "value": {"stringValue": "graph"}}],
}


TARGETS: dict[str, Target] = {
    "file": Target(targets.file, mutators.of_file, _files, 500),
    "resigned": Target(targets.resigned, mutators.of_recipe, _recipes, 500),
    "taken_in": Target(sides.taken_in, mutators.of_recipe, _recipes, 150),
    "answered": Target(sides.answered, mutators.of_recipe, _receipts, 300),
    "shown": Target(sides.shown, mutators.of_recipe, _recipes, 60),
    "encoding": Target(targets.encoding, mutators.of_bytes, _encodings, 1500),
    "signatures": Target(targets.signatures, mutators.of_bytes, _envelopes, 1500),
    "trust": Target(targets.trust, mutators.of_json, _stores, 400),
    "statements": Target(targets.statements, mutators.of_bytes, _statements, 600),
    "public_key": Target(targets.public_key, mutators.of_key, _keys, 1500),
    "json_value": Target(targets.json_value, mutators.of_json, _lines, 3000),
    "json_lines": Target(targets.json_lines, mutators.of_lines, _lines, 300),
    "csv_rows": Target(targets.csv_rows, mutators.of_text, list, 1500),
    "captured": Target(targets.captured, mutators.of_body, _bodies, 500),
    "times": Target(targets.times, mutators.of_text, list, 2000),
}
