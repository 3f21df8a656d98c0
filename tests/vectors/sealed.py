"""The sealed golden files; ``regenerate.py`` writes them with the others.

HPKE takes its randomness from the library, so wrapped file keys can't be made the same twice: those
in ``wrapped.json`` are kept as long as they open, and made anew where one is missing.
"""

import json
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from airgap.bundle import codec, layout, sealing
from airgap.bundle.envelope import PAYLOAD_TYPES, Envelope
from airgap.bundle.layout import Header
from airgap.bundle.sealing import Context, FileKey, Sealing, Wrapped
from airgap.catalog import JsonObject
from airgap.errors import DamagedError
from airgap.trust import keys, recipients
from airgap.trust.recipients import RecipientKey

HERE = Path(__file__).parent
SOURCE = "vector.site"
SEEDS = {
    "recipient": {"x25519_ascii": "airgap test vector recipient 1 !"},
    "hybrid": {
        "x25519_ascii": "airgap test vector recipient 2 !",
        "mlkem768_seed_ascii": "airgap test vector recipient 2, seed of its ML-KEM-768 half d,z!",
    },
    "bystander": {"x25519_ascii": "airgap test vector recipient 3 !"},
}
KEYS: dict[str, RecipientKey] = {
    name: recipients.from_seeds(
        seeds["x25519_ascii"].encode(),
        seeds["mlkem768_seed_ascii"].encode() if "mlkem768_seed_ascii" in seeds else None,
    )
    for name, seeds in SEEDS.items()
}
FILE_KEY = b"airgap test vector file key 1 !!"
OTHER_FILE_KEY = b"airgap test vector file key 2 !!"
FIRST = Context(SOURCE, 1)
_KEPT: dict[str, str] = (
    json.loads((HERE / "wrapped.json").read_bytes()) if (HERE / "wrapped.json").exists() else {}
)
_USED: dict[str, str] = {}
Chunk = tuple[bytes, int, int]
"""Bytes on the medium, size of the array, number of elements."""


def wrapped(name: str, key: bytes = FILE_KEY, context: Context = FIRST) -> Wrapped:
    """Return a file key wrapped to one of the test keys; the kept one where it opens."""
    told = f"{name}, {key.decode()}, {context.source}, {context.sequence}"
    public = KEYS[name].public
    if told in _KEPT:
        entry = Wrapped(public.key_id, public.suite, bytes.fromhex(_KEPT[told]))
        try:
            KEYS[name].unwrap(Sealing(FileKey(key).commitment, (entry,)), context, where=told)
        except DamagedError:
            entry = public.wrap(key, context)
    else:
        entry = public.wrap(key, context)
    _USED[told] = entry.data.hex()
    return entry


def header(compression: str, *names: str) -> Header:
    """Return the header of a bundle sealed to test keys."""
    told = Sealing(FileKey(FILE_KEY).commitment, tuple(wrapped(name) for name in names))
    return Header("bundle", compression, 2048, told)  # type: ignore[arg-type]


def assembled(
    header: JsonObject, chunks: list[Chunk], fields: JsonObject, key: keys.PrivateKey
) -> bytes:
    """Return a properly signed file of any parts: what a lying exporter could make."""
    start = layout.PREAMBLE + codec.encode(header)
    manifest = {
        **fields,
        "header_sha256": sha256(start).hexdigest(),
        "records": sum(count for _, _, count in chunks),
        "chunks": [
            {
                "sha256": sha256(data).hexdigest(),
                "size": len(data),
                "expanded": expanded,
                "records": count,
            }
            for data, expanded, count in chunks
        ],
    }
    file_type = "receipt" if fields["file_type"] == "receipt" else "bundle"
    unsigned = Envelope(PAYLOAD_TYPES[file_type], codec.encode(manifest), ())
    signed = Envelope(unsigned.payload_type, unsigned.payload, (key.sign(unsigned.message),))
    body = b"".join(chain.from_iterable((layout.chunk_head(len(d)), d) for d, _, _ in chunks))
    data, end = signed.encode(), len(start) + len(body)
    return start + body + data + layout.footer(end, len(data))


def plain_chunks(data: bytes, fields: JsonObject) -> list[Chunk]:
    """Return the chunks of an uncompressed, unsealed file."""
    position, found = len(data), []
    position = int.from_bytes(data[-24:-16])
    for chunk in reversed(fields["chunks"]):
        found.append(
            (data[position - chunk["size"] : position], chunk["expanded"], chunk["records"])
        )
        position -= len(layout.chunk_head(chunk["size"])) + chunk["size"]
    return found[::-1]


def sealed_chunks(
    plain: list[Chunk], places: list[tuple[int, bool]] | None = None, key: bytes = FILE_KEY
) -> list[Chunk]:
    """Return chunks sealed, each for the place and with the mark given, or for its own."""
    own = [(number, number == len(plain) - 1) for number in range(len(plain))]
    file_key = FileKey(key)
    return [
        (file_key.seal(number, data, last=last), expanded, count)
        for (number, last), (data, expanded, count) in zip(places or own, plain, strict=True)
    ]


def refused(
    plain: list[Chunk], fields: JsonObject, receipt: JsonObject, signs: dict[str, keys.PrivateKey]
) -> dict[str, tuple[bytes, int, str]]:
    """Return sealed files to be refused by who has the test keys: content, step, and why."""
    good = header("none", "recipient", "hybrid")
    told = good.as_map()
    chunks = sealed_chunks(plain)
    own = [(number, number == len(plain) - 1) for number in range(len(plain))]

    def file(chunks: list[Chunk] = chunks, **sealing: Any) -> bytes:
        changed = {**told, "sealing": {**told["sealing"], **sealing}}
        return assembled(changed, chunks, fields, signs["exporter"])

    def entries(*those: Wrapped) -> list[JsonObject]:
        return Sealing("", those).as_map()["recipients"]  # type: ignore[no-any-return]

    complete = file()
    swapped = [chunks[1], chunks[0], *chunks[2:]]
    cut = [(chunks[0][0][:-1], *chunks[0][1:]), *chunks[1:]]
    short = [(b"8 bytes!", *chunks[0][1:]), *chunks[1:]]
    other_header = layout.PREAMBLE + header("none", "recipient").encode()
    start = len(layout.PREAMBLE) + len(good.encode())
    mixed = Wrapped(KEYS["recipient"].public.key_id, "mlkem768-x25519", wrapped("recipient").data)
    return {
        "recipient-twice": (
            file(recipients=entries(wrapped("recipient"), wrapped("recipient"))),
            1,
            "the header names one recipient twice",
        ),
        "no-recipients": (file(recipients=[]), 1, "the header names no recipient"),
        "other-cipher": (file(aead="none"), 1, "the header names an unknown cipher"),
        "short-entry": (
            file(
                recipients=[
                    {
                        **told["sealing"]["recipients"][0],
                        "wrapped": wrapped("recipient").data.hex()[:-2],
                    }
                ]
            ),
            1,
            "a wrapped file key is a byte too short",
        ),
        "receipt": (
            assembled(
                {**told, "file_type": "receipt"}, sealed_chunks(plain), receipt, signs["importer"]
            ),
            1,
            "a receipt is sealed",
        ),
        "recipient-removed-after-signing": (
            _moved(complete, other_header, start),
            4,
            "the header's second recipient was taken out and nothing signed again",
        ),
        "without-chunks": (file([]), 4, "the file is sealed and holds no chunk"),
        "to-others": (
            file(recipients=entries(wrapped("bystander"))),
            6,
            "it is sealed to neither of the test keys recipient and hybrid",
        ),
        "entry-for-another-key": (
            file(
                recipients=entries(
                    Wrapped(KEYS["recipient"].public.key_id, "x25519", wrapped("bystander").data)
                )
            ),
            6,
            "the entry of recipient is wrapped to another key",
        ),
        "entry-in-another-suite": (
            file(recipients=entries(mixed)),
            6,
            "the entry of recipient, whose key is x25519, names the hybrid suite",
        ),
        "entry-of-another-bundle": (
            file(recipients=entries(wrapped("recipient", OTHER_FILE_KEY, Context(SOURCE, 2)))),
            6,
            "the entry was taken from the next bundle",
        ),
        "entry-of-another-sequence": (
            file(recipients=entries(wrapped("recipient", FILE_KEY, Context(SOURCE, 2)))),
            6,
            "the right file key, wrapped for the next bundle of the source",
        ),
        "entry-of-another-source": (
            file(recipients=entries(wrapped("recipient", FILE_KEY, Context("other.site", 1)))),
            6,
            "the right file key, wrapped for another source: sealed chunks signed by another exporter",
        ),
        "another-file-key": (
            file(recipients=entries(wrapped("recipient", OTHER_FILE_KEY), wrapped("hybrid"))),
            6,
            "recipient is given another file key than hybrid",
        ),
        "wrong-commitment": (
            file(commitment=FileKey(OTHER_FILE_KEY).commitment),
            6,
            "the header commits to another file key",
        ),
        "not-sealed": (file(plain), 6, "the header says sealed, and the chunks are not"),
        "swapped-chunks": (file(swapped), 6, "two chunks in the other order, signed again"),
        "repeated-chunk": (
            file([chunks[0], chunks[0], *chunks[2:]]),
            6,
            "the first chunk stands in the second's place, signed again",
        ),
        "first-chunk-dropped": (file(chunks[1:]), 6, "the first chunk is missing, signed again"),
        "last-chunk-dropped": (file(chunks[:-1]), 6, "the last chunk is missing, signed again"),
        "last-mark-missing": (
            file(sealed_chunks(plain, [(number, False) for number, _ in own])),
            6,
            "no chunk is marked as the last one",
        ),
        "last-mark-early": (
            file(sealed_chunks(plain, [(0, True), *own[1:]])),
            6,
            "the first chunk is marked as the last one as well",
        ),
        "counted-from-one": (
            file(sealed_chunks(plain, [(number + 1, last) for number, last in own])),
            6,
            "chunks are numbered from 1",
        ),
        "cut-tag": (file(cut), 6, "the last byte of a chunk's tag is cut off, signed again"),
        "shorter-than-a-tag": (file(short), 6, "a chunk is shorter than a tag"),
        "chunk-of-another-key": (
            file([sealed_chunks(plain, key=OTHER_FILE_KEY)[0], *chunks[1:]]),
            6,
            "a chunk is sealed with another file's key",
        ),
        "wrong-totals": (
            assembled(
                told,
                chunks,
                {
                    **fields,
                    "totals": {
                        **fields["totals"],
                        "license_verification": {"records": 2, "sums": {}},
                    },
                },
                signs["exporter"],
            ),
            7,
            "the manifest counts a record more than there is",
        ),
    }


def kept() -> bytes:
    """Return ``wrapped.json``: what was used of it, and what was made anew."""
    return (json.dumps(dict(sorted(_USED.items())), indent=2) + "\n").encode()


def _moved(data: bytes, header: bytes, start: int) -> bytes:
    """Return a file with another header before its chunks, and a footer that fits."""
    offset, length = int.from_bytes(data[-24:-16]), int.from_bytes(data[-16:-8])
    footer = layout.footer(offset - start + len(header), length)
    return header + data[start : -layout.FOOTER_SIZE] + footer


assert sealing.FILE_KEY_SIZE == len(FILE_KEY) == len(OTHER_FILE_KEY)
