"""Write the golden files of this folder anew: ``python tests/vectors/regenerate.py``.

Everything is fixed: records, keys, clock. ``tests/unit/test_vectors.py`` holds the files to what
this makes, so a change of the format can't go unnoticed.
"""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from airgap import catalog
from airgap.bundle import codec, envelope, layout
from airgap.bundle.envelope import Envelope, Signature
from airgap.bundle.layout import Header
from airgap.bundle.writer import Writer
from airgap.collect import jsonfiles
from airgap.collect.payloads import Rules
from airgap.contents import Contents
from airgap.records import Record, record_id
from airgap.timestamps import to_text
from airgap.trust import keys

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import sealed  # noqa: E402
import stated  # noqa: E402

EXPORTER = keys.from_seed(b"airgap test vector exporter key!")
IMPORTER = keys.from_seed(b"airgap test vector importer key!")
STRANGER = keys.from_seed(b"airgap test vector stranger key!")
MADE_AT = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
SOURCE = "vector.site"
CHUNK_SIZE = 2048
NO_USAGE = {"from": "2026-01-10T00:00:00Z", "to": "2026-01-13T00:00:00Z", "kinds": None}


def records() -> list[Record]:
    """Return the records of ``requests.jsonl``, one of them twice."""
    schemas = catalog.load()
    found = list(jsonfiles.read(HERE / "requests.jsonl", schemas, Rules()))
    return [*found, found[-1].repeated(1)]


def bundle(header: Header, signers: list[keys.PrivateKey]) -> tuple[bytes, Envelope]:
    """Return the bundle of all records, and its envelope."""
    schemas = catalog.load()
    stream = io.BytesIO()
    file_key = None if header.sealing is None else sealed.FileKey(sealed.FILE_KEY)
    writer, contents = Writer(stream, header, file_key), Contents()
    for number, record in enumerate(records()):
        contents.add(record, schemas.kind(record.kind), where=f"record {number}")
        writer.add(record.as_map())
    made = writer.finish(
        {
            "format": layout.FORMAT,
            "file_type": "bundle",
            "source": SOURCE,
            "sequence": 1,
            "previous": None,
            "created_at": to_text(MADE_AT),
            "producer": "airgap vectors",
            **contents.as_map(schemas),
            "pseudonymised": [],
            "no_usage": None,
            "message": None,
        },
        [key.sign for key in signers],
    )
    return stream.getvalue(), made


def no_usage(after: Envelope) -> bytes:
    """Return the bundle after another one: empty, declaring three days without usage."""
    stream = io.BytesIO()
    Writer(stream, Header("bundle", "none")).finish(
        {
            "format": layout.FORMAT,
            "file_type": "bundle",
            "source": SOURCE,
            "sequence": 2,
            "previous": after.document_id,
            "created_at": to_text(MADE_AT),
            "producer": "airgap vectors",
            **Contents().as_map(catalog.load()),
            "pseudonymised": [],
            "no_usage": NO_USAGE,
            "message": "Change 654987",
        },
        [EXPORTER.sign],
    )
    return stream.getvalue()


def receipt(answered: Envelope) -> bytes:
    """Return a receipt that says delivered for all records but the last, which is in doubt."""
    schemas = catalog.load()
    stream = io.BytesIO()
    writer, contents = Writer(stream, Header("receipt", "none")), Contents()
    all_records = records()
    for record in all_records:
        kind = schemas.kind(record.kind)
        delivered = record is not all_records[-1]
        if delivered:
            contents.add(record, kind, where="vector")
        writer.add(
            {
                "id": record_id(SOURCE, record, kind).hex(),
                "outcome": "delivered" if delivered else "in_doubt",
                "status": min(kind.success.status) if delivered else None,
                "at": to_text(MADE_AT),
                "detail": None if delivered else "cut off after sending began: ReadTimeout",
                "answer": None,
            }
        )
    count = len(all_records)
    writer.finish(
        {
            "format": layout.FORMAT,
            "file_type": "receipt",
            "source": SOURCE,
            "importer": "vector.relay",
            "bundle_id": answered.document_id,
            "bundle_sequence": 1,
            "bundle_previous": None,
            "number": 1,
            "previous": None,
            "created_at": to_text(MADE_AT),
            "producer": "airgap vectors",
            "outcomes": {"delivered": count - 1, "dead": 0, "in_doubt": 1, "waiting": 0},
            "totals": contents.totals.as_map(),
        },
        [IMPORTER.sign],
    )
    return stream.getvalue()


def _with_envelope(data: bytes, change: Callable[[Envelope], Envelope | bytes]) -> bytes:
    """Return a file whose envelope was changed and whose footer fits."""
    offset = int.from_bytes(data[-24:-16])
    length = int.from_bytes(data[-16:-8])
    changed = change(envelope.decode(data[offset : offset + length], where="vector"))
    encoded = changed if isinstance(changed, bytes) else changed.encode()
    return data[:offset] + encoded + layout.footer(offset, len(encoded))


def _resigned(data: bytes, fields: dict[str, object], key: keys.PrivateKey = EXPORTER) -> bytes:
    """Return a file whose manifest was changed and properly signed: a lying exporter's."""

    def change(old: Envelope) -> Envelope:
        manifest = {**codec.decode_own(old.payload), **fields}
        unsigned = Envelope(old.payload_type, codec.encode(manifest), ())
        return Envelope(old.payload_type, unsigned.payload, (key.sign(unsigned.message),))

    return _with_envelope(data, change)


def _swapped_chunks(data: bytes, made: Envelope) -> bytes:
    """Return the file with its first two chunks in the other order."""
    chunks = codec.decode_own(made.payload)["chunks"]
    start = len(layout.PREAMBLE) + len(Header("bundle", "none", CHUNK_SIZE).encode())
    sizes = [len(layout.chunk_head(c["size"])) + c["size"] for c in chunks[:2]]
    middle, end = start + sizes[0], start + sum(sizes)
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def refused(data: bytes, made: Envelope) -> dict[str, tuple[bytes, int, str]]:
    """Return files to be refused: content, step of the verification, and why."""
    manifest = codec.decode_own(made.payload)
    flipped = bytearray(data)
    flipped[200] ^= 1
    sixty_four = made.signatures[0].signature
    return {
        "truncated": (data[:-1], 1, "the last byte is missing"),
        "trailing": (data + b"\n", 1, "a byte follows the footer"),
        "version-2": (data[:13] + b"\x02" + data[14:], 1, "the format version is 2"),
        "envelope-keys-in-other-order": (
            _with_envelope(
                data,
                lambda e: codec.encode(
                    {"payload": e.payload, "payload_type": e.payload_type, "signatures": []}
                ),
            ),
            1,
            "the envelope's keys stand in another order",
        ),
        "long-form-length": (
            _with_envelope(data, lambda e: b"\xde\x00\x03" + e.encode()[1:]),
            1,
            "the envelope's map header is longer than needed",
        ),
        "receipt-type": (
            _with_envelope(
                data, lambda e: Envelope(envelope.RECEIPT_TYPE, e.payload, e.signatures)
            ),
            2,
            "the payload type is a receipt's",
        ),
        "unsigned": (
            _with_envelope(data, lambda e: Envelope(e.payload_type, e.payload, ())),
            3,
            "there is no signature",
        ),
        "signed-twice": (
            _with_envelope(data, lambda e: Envelope(e.payload_type, e.payload, e.signatures * 2)),
            3,
            "one key signed twice",
        ),
        "stranger": (
            _with_envelope(
                data, lambda e: Envelope(e.payload_type, e.payload, (STRANGER.sign(e.message),))
            ),
            3,
            "signed by a key that is not trusted",
        ),
        "other-algorithm": (
            _with_envelope(
                data,
                lambda e: Envelope(
                    e.payload_type,
                    e.payload,
                    (Signature(EXPORTER.public.key_id, "none", sixty_four),),
                ),
            ),
            3,
            "the signature names another algorithm than the key's",
        ),
        "payload-signed-without-encoding": (
            _with_envelope(
                data, lambda e: Envelope(e.payload_type, e.payload, (EXPORTER.sign(e.payload),))
            ),
            3,
            "the signature is over the payload alone",
        ),
        "importer-signs-bundle": (
            _resigned(data, {}, IMPORTER),
            5,
            "signed by a trusted key without the role exporter",
        ),
        "flipped-chunk": (bytes(flipped), 6, "one bit of a chunk is flipped"),
        "swapped-chunks": (_swapped_chunks(data, made), 6, "two chunks stand in the other order"),
        "wrong-totals": (
            _resigned(
                data,
                {
                    "totals": {
                        **manifest["totals"],
                        "license_verification": {"records": 2, "sums": {}},
                    }
                },
            ),
            7,
            "the manifest counts a record more than there is",
        ),
        "wrong-period": (
            _resigned(data, {"period": {**manifest["period"], "from": "2026-01-05T00:00:00Z"}}),
            7,
            "the manifest's period begins earlier than its records",
        ),
        "unlisted-credential": (
            _resigned(data, {"credentials": manifest["credentials"][:1]}),
            7,
            "the manifest leaves a credential out",
        ),
        "no-usage-with-records": (
            _resigned(data, {"no_usage": NO_USAGE}),
            7,
            "the manifest declares no usage, and there are records",
        ),
        "float-in-manifest": (
            _resigned(data, {"sequence": 1.0}),
            4,
            "the manifest holds a float",
        ),
    }


def files() -> dict[str, bytes]:
    """Return every golden file by name."""
    schemas = catalog.load()
    plain, made = bundle(Header("bundle", "none", CHUNK_SIZE), [EXPORTER])
    packed, packed_made = bundle(Header("bundle", "zstd", CHUNK_SIZE), [EXPORTER])
    manifest = codec.decode_own(made.payload)
    bad = refused(plain, made)
    shut, shut_made = bundle(sealed.header("none", "recipient", "hybrid"), [EXPORTER])
    hybrid, hybrid_made = bundle(sealed.header("zstd", "bystander", "hybrid"), [EXPORTER])
    answer = receipt(made)
    shut_bad = sealed.refused(
        sealed.plain_chunks(plain, manifest),
        manifest,
        codec.decode_own(
            envelope.decode(
                answer[int.from_bytes(answer[-24:-16]) : -layout.FOOTER_SIZE], where="receipt"
            ).payload
        ),
        {"exporter": EXPORTER, "importer": IMPORTER},
    )
    bad |= {f"sealed-{name}": content for name, content in shut_bad.items()}
    both = replace(packed_made, signatures=(stated.sign(packed_made.message),))
    for name, (signature, why) in stated.refused_signatures(packed_made).items():
        wrong = replace(packed_made, signatures=(signature,))
        bad[name] = (_with_envelope(packed, lambda _, e=wrong: e), 3, why)
    said = stated.statements(made.document_id, EXPORTER, IMPORTER)
    index = {
        "keys": {
            "exporter": {"seed_ascii": "airgap test vector exporter key!"},
            "importer": {"seed_ascii": "airgap test vector importer key!"},
            "stranger": {"seed_ascii": "airgap test vector stranger key!"},
            "quantum": {"seed_ascii": stated.SEED, "key_id": stated.QUANTUM.public.key_id},
        },
        "statements": {name: why for name, (_, why) in said.items()},
        "recipients": {
            name: {**seeds, "key_id": sealed.KEYS[name].public.key_id}
            for name, seeds in sealed.SEEDS.items()
        },
        "accepted": {
            "bundle-none.airgap": {"id": made.document_id},
            "bundle-zstd.airgap": {"id": packed_made.document_id},
            "bundle-hybrid.airgap": {"id": packed_made.document_id},
            "sealed-none.airgap": {
                "id": shut_made.document_id,
                "opened_by": ["recipient", "hybrid"],
                "file_key_ascii": sealed.FILE_KEY.decode(),
            },
            "sealed-zstd.airgap": {
                "id": hybrid_made.document_id,
                "opened_by": ["bystander", "hybrid"],
                "file_key_ascii": sealed.FILE_KEY.decode(),
            },
            "bundle-no-usage.airgap": {"follows": made.document_id},
            "receipt.receipt": {"answers": made.document_id},
        },
        "totals": manifest["totals"],
        "record_ids": [record_id(SOURCE, r, schemas.kind(r.kind)).hex() for r in records()],
        "pre_authentication_encoding": [
            {
                "payload_type": t,
                "payload_hex": p.hex(),
                "encoding_hex": envelope.pre_authentication_encoding(t, p).hex(),
            }
            for t, p in (
                ("", b""),
                ("http://example.com/HelloWorld", b"hello world"),
                ("größe/型", b"\x00\xff"),
            )
        ],
        "refused": {
            f"refused-{name}.airgap": {"step": step, "why": why}
            for name, (_, step, why) in bad.items()
        },
    }
    found = {
        "bundle-none.airgap": plain,
        "bundle-zstd.airgap": packed,
        "bundle-no-usage.airgap": no_usage(made),
        "bundle-hybrid.airgap": _with_envelope(packed, lambda _: both),
        "receipt.receipt": answer,
        **{name: content.encode() for name, (content, _) in said.items()},
        "signed.json": stated.kept(),
        "quantum.pub": stated.QUANTUM.public.pem.encode(),
        "sealed-none.airgap": shut,
        "sealed-zstd.airgap": hybrid,
        "wrapped.json": sealed.kept(),
        **{f"{name}.pub": key.public.pem.encode() for name, key in sealed.KEYS.items()},
        "exporter.pub": EXPORTER.public.pem.encode(),
        "importer.pub": IMPORTER.public.pem.encode(),
        "stranger.pub": STRANGER.public.pem.encode(),
        "index.json": (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    found |= {f"refused-{name}.airgap": content for name, (content, _, _) in bad.items()}
    return found


if __name__ == "__main__":
    for old in HERE.glob("refused-*"):
        old.unlink()
    for name, content in files().items():
        (HERE / name).write_bytes(content)
