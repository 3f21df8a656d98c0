"""Recipes: what a forger with a trusted key would write, as bytes that a fuzzer can change.

A recipe is a msgpack array of flags, header, manifest and chunks, the last three as they are before
compression, digests and signatures. ``build`` makes a file of it: it puts digests, sizes and (where
the flags say so) totals right and signs, so that what was changed is reached and not only refused
for a digest. It does so without the project's own code, but for the golden files' published keys.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import second_reader
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TESTS = Path(__file__).resolve().parent.parent
VECTORS = TESTS / "vectors"
RULES = second_reader.Rules.load(TESTS.parent / "schemas")

MEND_FRAME = 1
"""Header digest, chunk digests, sizes and counts of the manifest are put right."""
MEND_SUMMARY = 2
"""Totals, period, credentials, names and counts of outcomes are put right, where they can be."""
SIGNERS = 4
"""From this bit on, two bits: exporter or importer as the file's type wants; both; the stranger; nobody."""
OTHER_TYPE = 16
"""The envelope names the other type of payload."""
LIMITED = 32
"""It is verified with keys that are trusted for one source and a short time only."""
MOST_FLAGS = 64


@dataclass(frozen=True)
class Recipe:
    """What a file is made of; see the module."""

    flags: int
    header: bytes
    manifest: bytes
    chunks: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the recipe as a fuzzer's input."""
        return msgpack.packb([self.flags, self.header, self.manifest, list(self.chunks)])


def decode(data: bytes) -> Recipe | None:
    """Return the recipe in a fuzzer's input, or None where it is none."""
    try:
        flags, header, manifest, chunks = msgpack.unpackb(data)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no recipe
        return None
    if not (isinstance(flags, int) and isinstance(chunks, list)):
        return None
    if not all(isinstance(part, bytes) for part in (header, manifest, *chunks)):
        return None
    return Recipe(flags % MOST_FLAGS, header, manifest, tuple(chunks))


def of_file(data: bytes, flags: int = MEND_FRAME | MEND_SUMMARY) -> Recipe:
    """Return the recipe of a golden file."""
    header, start, envelope, _ = second_reader._frame(data, RULES)
    manifest = second_reader.decode(envelope["payload"])
    offset = struct.unpack(">Q", data[-24:-16])[0]
    chunks = []
    for chunk in second_reader._chunks(data, manifest, start, offset):
        body = second_reader.decode(chunk, (bytes,))
        chunks.append(
            body
            if header["compression"] == "none"
            else zstandard.ZstdDecompressor().decompress(body)
        )
    return Recipe(
        flags, data[len(second_reader.PREAMBLE) : start], envelope["payload"], tuple(chunks)
    )


@cache
def key(name: str) -> tuple[Ed25519PrivateKey, str]:
    """Return a published test key of the golden files, and its id."""
    private = Ed25519PrivateKey.from_private_bytes(f"airgap test vector {name} key!".encode())
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private, hashlib.sha256(der).hexdigest()


def build(recipe: Recipe) -> bytes:
    """Return the file."""
    header = lenient(recipe.header)
    header = header if isinstance(header, dict) else {}
    start = second_reader.PREAMBLE + recipe.header
    stored = recipe.chunks
    if header.get("compression") == "zstd":
        stored = tuple(zstandard.ZstdCompressor(level=3).compress(c) for c in stored)
    payload = recipe.manifest
    manifest = lenient(payload)
    if isinstance(manifest, dict) and recipe.flags & (MEND_FRAME | MEND_SUMMARY):
        if recipe.flags & MEND_SUMMARY:
            manifest |= _summary(recipe.chunks, manifest)
        if recipe.flags & MEND_FRAME:
            manifest |= _frame(start, stored, recipe.chunks)
        try:
            payload = msgpack.packb(manifest)
        except (ValueError, TypeError, OverflowError):
            payload = recipe.manifest
    is_receipt = header.get("file_type") == "receipt"
    named = "receipt" if is_receipt != bool(recipe.flags & OTHER_TYPE) else "bundle"
    return assemble(
        start,
        stored,
        second_reader.PAYLOAD_TYPE.format(named),
        payload,
        _signers(recipe.flags, is_receipt=is_receipt),
    )


def assemble(
    start: bytes, stored: tuple[bytes, ...], kind: str, payload: bytes, signers: tuple[str, ...]
) -> bytes:
    """Return a file of its parts, signed by keys of the golden files."""
    message = second_reader.pre_authentication_encoding(kind, payload)
    signatures = [
        {
            "key_id": key(name)[1],
            "algorithm": "ed25519",
            "signature": key(name)[0].sign(message),
        }
        for name in signers
    ]
    body = start + b"".join(msgpack.packb(chunk) for chunk in stored)
    envelope = msgpack.packb({"payload_type": kind, "payload": payload, "signatures": signatures})
    return body + envelope + footer(len(body), len(envelope))


def footer(offset: int, length: int) -> bytes:
    """Return a file's last 26 bytes."""
    head, tail = second_reader.FOOTER_ENDS
    return second_reader.FOOTER.pack(head, offset, length, tail)


def lenient(data: bytes) -> Any:
    """Return a value whatever it is, None where it is not even msgpack."""
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except Exception:  # noqa: BLE001
        return None


def _signers(flags: int, *, is_receipt: bool) -> tuple[str, ...]:
    wanted = "importer" if is_receipt else "exporter"
    both = (wanted, "exporter" if is_receipt else "importer")
    return [(wanted,), both, ("stranger",), ()][flags // SIGNERS % 4]


def _frame(
    start: bytes, stored: tuple[bytes, ...], expanded: tuple[bytes, ...]
) -> dict[str, object]:
    counts = [_count(data) for data in expanded]
    return {
        "header_sha256": hashlib.sha256(start).hexdigest(),
        "records": sum(counts),
        "chunks": [
            {
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "expanded": len(plain),
                "records": count,
            }
            for data, plain, count in zip(stored, expanded, counts, strict=True)
        ],
    }


def _count(chunk: bytes) -> int:
    """Return what a chunk's array header says, whether or not the elements are there."""
    if not chunk:
        return 0
    if 0x90 <= chunk[0] <= 0x9F:
        return chunk[0] & 15
    width = {0xDC: 2, 0xDD: 4}.get(chunk[0], 0)
    return int.from_bytes(chunk[1 : 1 + width])


def _summary(chunks: tuple[bytes, ...], manifest: dict[Any, Any]) -> dict[str, Any]:
    """Return what the elements add up to; nothing where they do not."""
    try:
        elements = [element for chunk in chunks for element in msgpack.unpackb(chunk)]
        if "outcomes" in manifest:
            names = ("delivered", "dead", "in_doubt", "waiting")
            found = [element["outcome"] for element in elements]
            return {
                "outcomes": {name: found.count(name) for name in names},
                "totals": second_reader.totals(_delivered(elements), RULES),
            }
        digest = "0" * 64
        return {
            **second_reader._summary(tuple(elements), RULES),
            "schemas": {element["kind"]: digest for element in elements},
        }
    except Exception:  # noqa: BLE001 - then it stays as it is
        return {}


@cache
def _sent() -> dict[str, Any]:
    """Return the records of the bundle that the golden receipt answers, by id."""
    recipe = of_file((VECTORS / "bundle-none.airgap").read_bytes())
    source = second_reader.decode(recipe.manifest)["source"]
    records = [element for chunk in recipe.chunks for element in msgpack.unpackb(chunk)]
    return {second_reader.record_id(source, record, RULES): record for record in records}


def _delivered(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records that a receipt says are delivered, as far as they were ever sent."""
    ids = [outcome["id"] for outcome in outcomes if outcome["outcome"] == "delivered"]
    return [_sent()[name] for name in ids if name in _sent()]


def golden() -> Iterator[bytes]:
    """Yield the golden files that verify."""
    for name in ("bundle-none", "bundle-zstd", "bundle-no-usage"):
        yield (VECTORS / f"{name}.airgap").read_bytes()
    yield (VECTORS / "receipt.receipt").read_bytes()


def sealed_and_hybrid() -> Iterator[bytes]:
    """Yield the golden files that verify but can't be signed anew here: sealed, or by a hybrid key.

    The last one is refused for another recipient only: the hybrid one's entry is right.
    """
    names = ("sealed-none", "sealed-zstd", "bundle-hybrid", "refused-sealed-another-file-key")
    for name in names:
        yield (VECTORS / f"{name}.airgap").read_bytes()


def small(recipe: Recipe, records: int = 2) -> Recipe:
    """Return a recipe with only so many elements of the first chunk: quick to try."""
    if not recipe.chunks:
        return recipe
    kept = msgpack.unpackb(recipe.chunks[0])[:records]
    return replace(recipe, chunks=(msgpack.packb(kept),))


def one_of_each(recipe: Recipe) -> list[Recipe]:
    """Return recipes of one element each, one per kind of record or outcome."""
    found: dict[str, bytes] = {}
    for chunk in recipe.chunks:
        for element in msgpack.unpackb(chunk):
            found.setdefault(element.get("kind") or element["outcome"], msgpack.packb([element]))
    return [replace(recipe, chunks=(chunk,)) for chunk in found.values()]
