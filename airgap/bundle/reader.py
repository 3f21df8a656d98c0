"""Read a bundle or a receipt: structure first, then elements chunk by chunk.

``open_file`` checks everything that needs no key and no catalogue of kinds: preamble, header,
footer, envelope. It trusts nothing: whose signature counts is ``airgap.trust``'s business, and
the order of the checks is ``airgap.verify``'s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, BinaryIO

import msgpack

from airgap import limits
from airgap.bundle import codec, envelope, layout
from airgap.bundle.blocks import Block, decode_blocks, expand
from airgap.bundle.envelope import Envelope
from airgap.bundle.layout import Header
from airgap.bundle.sealing import FileKey
from airgap.catalog import Catalog, JsonObject
from airgap.errors import DamagedError, InputRefusedError


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file whose structure holds. Nothing in it is verified.

    Args:
        stream: the seekable file; it must not change while it is read.
        name: what messages call it.
        header: its header.
        header_size: bytes before the first chunk.
        header_sha256: digest of those bytes.
        envelope: manifest bytes and signatures.
        envelope_offset: where the chunks end.
    """

    stream: BinaryIO
    name: str
    header: Header
    header_size: int
    header_sha256: str
    envelope: Envelope
    envelope_offset: int


def open_file(stream: BinaryIO, *, name: str, catalog: Catalog) -> OpenFile:
    """Return a file's parts after the checks that need no key.

    Raises:
        DamagedError: the structure does not hold.
        InputRefusedError: the header breaks its schema.
    """
    size = stream.seek(0, 2)
    smallest = len(layout.PREAMBLE) + layout.FOOTER_SIZE
    stream.seek(0)
    start = stream.read(len(layout.PREAMBLE))
    if len(start) == len(layout.PREAMBLE) or not layout.PREAMBLE.startswith(start):
        layout.check_preamble(start, where=name)
    if size < smallest or size > limits.MAX_FILE_SIZE:
        raise DamagedError(
            "the file is cut short" if size < smallest else "the file is too large",
            where=name,
            expected=f"{smallest} to {limits.MAX_FILE_SIZE} bytes",
            found=f"{size} bytes",
            hint="copy the file from its origin again",
        )
    stream.seek(size - layout.FOOTER_SIZE)
    offset, length = layout.parse_footer(stream.read(layout.FOOTER_SIZE), size, where=name)
    if offset < len(layout.PREAMBLE):
        raise DamagedError("the envelope is said to lie before the chunks", where=name)
    stream.seek(len(layout.PREAMBLE))
    beginning = stream.read(min(limits.MAX_HEADER_SIZE, offset - len(layout.PREAMBLE)))
    header_data = _first_object(beginning, where=name)
    header = layout.decode_header(header_data, catalog, where=name)
    stream.seek(offset)
    return OpenFile(
        stream,
        name,
        header,
        len(layout.PREAMBLE) + len(header_data),
        sha256(layout.PREAMBLE + header_data).hexdigest(),
        envelope.decode(stream.read(length), where=name),
        offset,
    )


def decode_manifest(file: OpenFile, catalog: Catalog) -> JsonObject:
    """Return the manifest; to be called once a trusted signature over its bytes holds.

    Raises:
        DamagedError: it can't be decoded, or contradicts the file around it.
        InputRefusedError: it breaks its schema.
    """
    manifest: JsonObject = codec.decode(
        file.envelope.payload,
        what="manifest",
        where=file.name,
        max_objects=1024 + 16_384 + 9 * limits.MAX_CHUNKS,
    )
    schema = f"{file.header.file_type}-manifest"
    catalog.require(schema, manifest, where=f"{file.name}, manifest")
    if manifest["header_sha256"] != file.header_sha256:
        raise DamagedError(
            "preamble or header is not the one that was signed",
            where=file.name,
            expected=manifest["header_sha256"],
            found=file.header_sha256,
            hint="copy the file from its origin again",
        )
    end = file.header_size + sum(
        len(layout.chunk_head(c["size"])) + c["size"] for c in manifest["chunks"]
    )
    if end != file.envelope_offset:
        raise DamagedError(
            "chunks are missing, or there is something between them",
            where=file.name,
            expected=f"chunks that end at byte {end}",
            found=f"byte {file.envelope_offset}",
            hint="copy the file from its origin again",
        )
    if file.header.sealing is not None and not manifest["chunks"]:
        raise DamagedError(
            "the file is sealed, and there is nothing in it",
            where=file.name,
            expected="at least one chunk, the last of which says that it is",
        )
    counted = sum(c["records"] for c in manifest["chunks"])
    if counted != manifest["records"]:
        raise DamagedError(
            "the manifest's number of records is not the sum of its chunks",
            where=file.name,
            expected=str(manifest["records"]),
            found=str(counted),
        )
    return manifest


def elements(
    file: OpenFile, manifest: JsonObject, file_key: FileKey | None = None
) -> Iterator[Any]:
    """Yield every element, in order; arguments and errors as ``blocks``."""
    for block in blocks(file, manifest, file_key):
        yield from block.checked()


def blocks(
    file: OpenFile, manifest: JsonObject, file_key: FileKey | None = None
) -> Iterator[Block]:
    """Yield all elements, in order, many at a time; each chunk's digest is checked before anything else.

    Args:
        file: the file.
        manifest: its manifest.
        file_key: what opens the chunks of a sealed file; needed there, and only there.

    Raises:
        DamagedError: a chunk is not the one that was signed, or can't be opened or decoded.
    """
    for number, opened in enumerate(opened_chunks(file, manifest, file_key)):
        chunk, where = manifest["chunks"][number], f"{file.name}, chunk {number}"
        expanded = expand(opened, chunk["expanded"], file.header.compression, where=where)
        yield from decode_blocks(expanded, chunk["records"], where=where)


def opened_chunks(
    file: OpenFile, manifest: JsonObject, file_key: FileKey | None = None
) -> Iterator[bytes]:
    """Yield every chunk as it was before it was sealed; arguments and errors as ``blocks``."""
    if (file.header.sealing is None) != (file_key is None):
        raise ValueError("a file key goes with a file that is sealed")
    last = len(manifest["chunks"]) - 1
    for number, data in enumerate(chunks(file, manifest)):
        where = f"{file.name}, chunk {number}"
        yield (
            data
            if file_key is None
            else file_key.open(number, data, last=number == last, where=where)
        )


def seen_chunks(
    file: OpenFile, manifest: JsonObject, file_key: FileKey | None
) -> list[tuple[bytes, int, int]]:
    """Return of every chunk what tells it from others.

    SHA-256 before it was sealed, bytes after decompression, and records. Arguments and errors as
    ``blocks``; what is in the chunks is not looked into.
    """
    opened = opened_chunks(file, manifest, file_key)
    return [
        (sha256(data).digest(), chunk["expanded"], chunk["records"])
        for data, chunk in zip(opened, manifest["chunks"], strict=True)
    ]


def chunks(file: OpenFile, manifest: JsonObject) -> Iterator[bytes]:
    """Yield every chunk as it stands in the file, in order, after a check of its digest.

    Raises:
        DamagedError: a chunk is not the one that was signed.
    """
    file.stream.seek(file.header_size)
    for number, chunk in enumerate(manifest["chunks"]):
        head = layout.chunk_head(chunk["size"])
        same = file.stream.read(len(head)) == head
        data = file.stream.read(chunk["size"])
        if not same or sha256(data).hexdigest() != chunk["sha256"]:
            raise DamagedError(
                "a chunk is not the one that was signed",
                where=f"{file.name}, chunk {number}",
                expected=chunk["sha256"],
                found="other bytes",
                hint="copy the file from its origin again",
            )
        yield data


def _first_object(data: bytes, *, where: str) -> bytes:
    """Return the bytes of the one header encoding that ``data`` begins with."""
    unpacker = msgpack.Unpacker(
        raw=False,
        max_buffer_size=limits.MAX_HEADER_SIZE,
        max_map_len=16,
        max_array_len=limits.MAX_RECIPIENTS,
    )
    unpacker.feed(data)
    try:
        unpacker.skip()
    except (ValueError, msgpack.UnpackException):
        raise InputRefusedError("the header can't be decoded", where=where) from None
    return data[: unpacker.tell()]
