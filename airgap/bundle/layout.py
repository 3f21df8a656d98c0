"""The file's fixed parts: preamble, header, chunk frames and footer.

    preamble   bin 8 of 12 bytes: 0x89 "airgap" CR LF 0x1A LF, version
    header     map
    chunk*     bin
    envelope   map
    footer     bin 8 of 24 bytes: offset and length of the envelope (big-endian), "airgap.\\n"

Each is one msgpack object. The signature of the first byte and the line ends makes damage by a
text-mode transfer visible at once, as PNG does (ISO/IEC 15948, 5.2).
"""

from dataclasses import dataclass
from typing import Literal

from airgap import limits
from airgap.bundle import codec
from airgap.bundle.sealing import Sealing
from airgap.catalog import Catalog, JsonObject
from airgap.errors import DamagedError

FORMAT = "airgap/1"
VERSION = 1
_MAGIC = b"\x89airgap\r\n\x1a\n"
PREAMBLE = b"\xc4\x0c" + _MAGIC + bytes([VERSION])
_END_MAGIC = b"airgap.\n"
FOOTER_SIZE = 26

FileType = Literal["bundle", "receipt"]
Compression = Literal["zstd", "none"]


@dataclass(frozen=True, slots=True)
class Header:
    """The header map."""

    file_type: FileType
    compression: Compression = "zstd"
    chunk_size: int = limits.CHUNK_TARGET
    sealing: Sealing | None = None

    def as_map(self) -> JsonObject:
        """Return the header as it stands in the file (``schemas/header.schema.json``)."""
        return {
            "format": FORMAT,
            "file_type": self.file_type,
            "compression": self.compression,
            "chunk_size": self.chunk_size,
            "sealing": None if self.sealing is None else self.sealing.as_map(),
        }

    def encode(self) -> bytes:
        """Return the header's bytes."""
        return codec.encode(self.as_map())


def decode_header(data: bytes, catalog: Catalog, *, where: str) -> Header:
    """Return the header that ``data`` encodes.

    Raises:
        DamagedError: it can't be decoded, or names a recipient twice, or seals a receipt.
        InputRefusedError: it breaks its schema, for instance by an unknown compression.
    """
    most = 32 + 7 * limits.MAX_RECIPIENTS
    value = codec.decode(data, what="header", where=where, max_objects=most)
    catalog.require("header", value, where=f"{where}, header", hint="a newer airgap may read it")
    sealing = None if value["sealing"] is None else Sealing.from_map(value["sealing"])
    if sealing is not None:
        if value["file_type"] != "bundle":
            raise DamagedError("a receipt is sealed", where=where, expected="sealing null")
        if len({r.key_id for r in sealing.recipients}) != len(sealing.recipients):
            raise DamagedError("the header names a recipient twice", where=f"{where}, header")
    return Header(value["file_type"], value["compression"], value["chunk_size"], sealing)


def check_preamble(data: bytes, *, where: str) -> None:
    """Check a file's first bytes.

    Raises:
        DamagedError: it is not an airgap file, one of another version, or changed in transfer.
    """
    if data == PREAMBLE:
        return
    if data[:-1] == PREAMBLE[:-1] and len(data) == len(PREAMBLE):
        raise DamagedError(
            "the file has another format version",
            where=where,
            expected=str(VERSION),
            found=str(data[-1]),
            hint="import it with the airgap release that knows this version",
        )
    raise DamagedError(
        "this is not an airgap file, or its beginning is damaged",
        where=where,
        hint="copy the file from its origin again, in binary mode",
    )


def chunk_head(size: int) -> bytes:
    """Return the msgpack bin header of a chunk of ``size`` bytes."""
    if size < 2**8:
        return b"\xc4" + size.to_bytes(1)
    if size < 2**16:
        return b"\xc5" + size.to_bytes(2)
    return b"\xc6" + size.to_bytes(4)


def footer(offset: int, length: int) -> bytes:
    """Return the footer for an envelope of ``length`` bytes that begins at ``offset``."""
    return b"\xc4\x18" + offset.to_bytes(8) + length.to_bytes(8) + _END_MAGIC


def parse_footer(data: bytes, file_size: int, *, where: str) -> tuple[int, int]:
    """Return offset and length of the envelope.

    Args:
        data: the file's last 26 bytes.
        file_size: the file's size; the envelope must end where the footer begins.
        where: the file, for the message.

    Raises:
        DamagedError: it is not a footer, or points elsewhere.
    """
    offset, length = int.from_bytes(data[2:10]), int.from_bytes(data[10:18])
    if data != footer(offset, length) or offset + length + FOOTER_SIZE != file_size:
        raise DamagedError(
            "the file's end is missing or damaged",
            where=where,
            expected="the footer as the last 26 bytes",
            hint="the copy was cut short or something was appended; copy the file again",
        )
    if length > limits.MAX_ENVELOPE_SIZE:
        raise DamagedError(
            "the envelope is too large",
            where=where,
            expected=f"at most {limits.MAX_ENVELOPE_SIZE} bytes",
            found=str(length),
        )
    return offset, length
