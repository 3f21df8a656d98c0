"""A chunk's elements, decoded many at a time: the same verdict as one at a time, for less.

What can't be vouched for in passing is left to ``codec.rest_of_records``, which looks at one element
at a time and says what is wrong with it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import zstandard

from airgap.bundle import codec
from airgap.bundle.layout import Compression
from airgap.errors import DamagedError

# An element that ends in the piece after the one that it begins in is short enough to be decoded unseen.
_PIECE = codec.MOST_UNSEEN // 2
# Decoded, each byte can be a value of 64 bytes and more: a block takes nine megabytes at worst.
_BLOCK = 4 * _PIECE
# IEEE 754 binary64, big-endian: the whole numbers of up to 64 bits, and some more.
_FLOAT = b"\xcb"
_WHOLE_FLOAT = re.compile(rb"\xcb[\x00\x3f-\x43\x80\xbf-\xc3]")


@dataclass(frozen=True, slots=True)
class Block:
    """Elements that follow each other.

    Args:
        elements: at least one; each in its one encoding, and within the limits but the one on
            integers: those from 2^63 to 2^64 - 1 may be among them.
        encoded: their encodings, one after the other.
        first: the number of the first one in its chunk.
        where: file and chunk, for messages.
    """

    elements: list[Any]
    encoded: bytes
    first: int
    where: str

    @property
    def is_exact(self) -> bool:
        """Whether there is no float in them that is a whole number of up to 64 bits.

        JSON Schema takes such a float for an integer; others it refuses itself.
        """
        # Nearly always there is no such byte, which is found out much sooner.
        return _FLOAT not in self.encoded or _WHOLE_FLOAT.search(self.encoded) is None

    def checked(self) -> Iterator[Any]:
        """Yield the elements, each within all limits.

        Raises:
            DamagedError: an integer is too large.
        """
        if not codec.may_hold_large_integer(self.encoded):
            yield from self.elements
            return
        for number, element in enumerate(self.elements, self.first):
            codec.require_small_integers(element, number, where=self.where)
            yield element


def decode_blocks(data: bytes, count: int, *, where: str) -> Iterator[Block]:
    """Yield the elements of a chunk's array, in order.

    Memory stays within some 20 megabytes, whatever is in there.

    Args:
        data: the decompressed chunk.
        count: how many elements the manifest says.
        where: file and chunk, for the message.

    Raises:
        DamagedError: as ``codec.decode_records``, at the same element.
    """
    start = fed = codec.start_of_records(data, count, where=where)
    unpacker = codec.unpacker(most=2 * _PIECE)
    packer = msgpack.Packer(use_bin_type=True, strict_types=True)
    left = count
    while left:
        try:
            elements = _gathered(unpacker, data[fed : fed + _BLOCK])
            same = packer.pack(elements)[len(codec.array_header(len(elements))) :]
        except (ValueError, RecursionError, OverflowError, msgpack.UnpackException):
            break
        end = start + len(same)
        if not 0 < len(elements) <= left or data[start:end] != same:
            break
        yield Block(elements, same, count - left, where)
        fed += _BLOCK
        start, left = end, left - len(elements)
    rest = codec.rest_of_records(data[start:], left, first=count - left, where=where)
    for number, element in enumerate(rest, count - left):
        yield Block([element], codec.encode(element), number, where)


def expand(data: bytes, size: int, compression: Compression, *, where: str) -> bytes:
    """Return a chunk after decompression.

    Args:
        data: the chunk before it was sealed.
        size: bytes that it must have then.
        compression: of the file.
        where: file and chunk, for the message.

    Raises:
        DamagedError: it can't be decompressed, or has another size.
    """
    if compression == "zstd":
        try:
            # The frame's own size is checked first: zstandard allocates what it says.
            if zstandard.frame_content_size(data) != size:
                raise DamagedError(
                    "a chunk expands to another size than the manifest says", where=where
                )
            data = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise DamagedError(f"a chunk can't be decompressed: {error}", where=where) from None
    if len(data) != size:
        raise DamagedError(
            "a chunk expands to another size than the manifest says",
            where=where,
            expected=str(size),
            found=str(len(data)),
        )
    return data


def _gathered(unpacker: Any, data: bytes) -> list[Any]:
    """Return the elements that end in some bytes, or none if one is larger than a piece of them."""
    elements: list[Any] = []
    for at in range(0, len(data), _PIECE):
        found = len(elements)
        unpacker.feed(data[at : at + _PIECE])
        elements.extend(unpacker)
        if len(elements) == found:
            return []
    return elements
