"""msgpack with every bound of ``limits`` held, and one encoding for each value.

Reads what the specification allows and nothing else: maps with distinct text keys, arrays, text,
binary, 64-bit integers, booleans and nil; no floats, no extension types, no encoding longer than
needed. A value is decoded, encoded again and compared, which catches duplicate keys and every
second way to write the same value.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgpack

from airgap import limits
from airgap.errors import DamagedError

# What follows a first byte (the msgpack specification, "Formats"): so many bytes, a length in so
# many bytes, so many values, or a count in so many bytes of so many values each.
_BYTES_FOLLOW = {
    **dict.fromkeys((*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3), 0),
    **{first: first & 0x1F for first in range(0xA0, 0xC0)},
    **dict(zip(range(0xCC, 0xD4), (1, 2, 4, 8) * 2, strict=True)),
}
_LENGTH_FOLLOWS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINARY = (0xC4, 0xC5, 0xC6)
_VALUES_FOLLOW = {
    **{first: 2 * (first & 0x0F) for first in range(0x80, 0x90)},
    **{first: first & 0x0F for first in range(0x90, 0xA0)},
}
_COUNT_FOLLOWS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_UNKNOWN = -1
_UNSIGNED_64 = 0xCF
MOST_UNSEEN = 65_536
"""Bytes of a record beyond which it is looked through before it is built: it could hold a value in each
byte, and each takes 64 bytes of memory and more. No schema lets a record hold as many values."""
_LARGE_INTEGER = re.compile(rb"\xcf[\x80-\xff]")


def encode(value: object) -> bytes:
    """Return the one encoding of a value."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, strict_types=True)
    return packed


def decode_own(data: bytes) -> Any:
    """Return a value that this program encoded and kept on its own disk; no bounds are checked."""
    return msgpack.unpackb(data, raw=False)


def array_header(count: int) -> bytes:
    """Return the encoding's first bytes of an array of ``count`` elements."""
    if count < 16:
        return bytes([0x90 | count])
    if count < 2**16:
        return b"\xdc" + count.to_bytes(2)
    return b"\xdd" + count.to_bytes(4)


def decode(data: bytes, *, what: str, where: str, max_objects: int, binary: bool = False) -> Any:
    """Return the one value that ``data`` encodes.

    Args:
        data: all bytes of the value, and no more.
        what: the part's name, for the message.
        where: the file, for the message.
        max_objects: most values in it, nested ones included; memory stays within a small
            multiple of that and of the data's length.
        binary: whether binary values may occur.

    Raises:
        DamagedError: not msgpack, outside the limits, or not in its one encoding.
    """
    problem = _scan(data, max_objects, binary=binary)
    if problem is None:
        try:
            value = msgpack.unpackb(
                data,
                raw=False,
                object_hook=_text_keys,
                ext_hook=_no_ext,
                max_str_len=limits.MAX_STRING_LENGTH,
                max_map_len=limits.MAX_MAP_ENTRIES,
            )
        except (ValueError, RecursionError, msgpack.UnpackException) as error:
            problem = f"{type(error).__name__}"
        else:
            if _same(value, data):
                return value
            problem = "not its one encoding (a duplicate key, or a length longer than needed)"
    raise _damaged(what, where, problem)


def decode_records(data: bytes, count: int, *, where: str) -> Iterator[Any]:
    """Yield the elements of a chunk's array, one at a time.

    Args:
        data: the decompressed chunk.
        count: how many elements the manifest says.
        where: file and chunk, for the message.

    Raises:
        DamagedError: as ``decode``, or another number of elements.
    """
    start = start_of_records(data, count, where=where)
    yield from rest_of_records(data[start:], count, first=0, where=where)


def start_of_records(data: bytes, count: int, *, where: str) -> int:
    """Return where the first element of a chunk's array begins.

    Raises:
        DamagedError: it is no array of ``count`` elements.
    """
    try:
        found = unpacker(data[:5]).read_array_header()
    except (ValueError, msgpack.UnpackException):
        raise _damaged("chunk", where, "it does not begin with an array") from None
    head = array_header(count)
    if found != count or not data.startswith(head):
        raise _damaged("chunk", where, f"{found} records instead of {count}")
    return len(head)


def rest_of_records(data: bytes, count: int, *, first: int, where: str) -> Iterator[Any]:
    """Yield elements, one at a time.

    Args:
        data: their encodings, and no more.
        count: how many there should be.
        first: the number of the first one in its chunk, for the message.
        where: file and chunk, for the message.

    Raises:
        DamagedError: as ``decode``, or another number of elements.
    """
    builder, scout = unpacker(data), unpacker(data)
    start = 0
    suspect = may_hold_large_integer(data)
    for position in range(first, first + count):
        try:
            scout.skip()
            piece = data[start : (end := scout.tell())]
            problem = None
            if len(piece) > MOST_UNSEEN or (suspect and may_hold_large_integer(piece)):
                problem = _beforehand(piece)
            value = None if problem else builder.unpack()
        except (ValueError, RecursionError, msgpack.UnpackException) as error:
            problem = type(error).__name__
        if problem:
            raise _damaged("chunk", where, f"record {position}: {problem}")
        if not _same(value, piece):
            raise _damaged("chunk", where, f"record {position} is not in its one encoding")
        start = end
        yield value
    if start != len(data):
        raise _damaged("chunk", where, f"{len(data) - start} bytes after the last record")


def unpacker(data: bytes = b"", *, most: int | None = None) -> Any:
    """Return what reads elements, with all bounds but those on their number and nesting.

    Args:
        data: the first bytes to read.
        most: how many bytes it may have waiting, or None for those of ``data``.
    """
    made = msgpack.Unpacker(
        raw=False,
        strict_map_key=True,
        ext_hook=_no_ext,
        max_buffer_size=max(len(data), 1) if most is None else most,
        max_str_len=limits.MAX_STRING_LENGTH,
        max_bin_len=0,
        max_array_len=limits.MAX_MAP_ENTRIES,
        max_map_len=limits.MAX_MAP_ENTRIES,
        max_ext_len=0,
    )
    made.feed(data)
    return made


def require_small_integers(element: object, number: int, *, where: str) -> None:
    """Refuse an integer beyond 2^63 - 1 in an element.

    Args:
        element: decoded.
        number: its number in its chunk, for the message.
        where: file and chunk, for the message.

    Raises:
        DamagedError: there is one.
    """
    data = encode(element)
    problem = _beforehand(data) if may_hold_large_integer(data) else None
    if problem:
        raise _damaged("chunk", where, f"record {number}: {problem}")


def _beforehand(data: bytes) -> str | None:
    """Return what is wrong with an encoded record as far as it can be told without building it."""
    if len(data) > limits.MAX_RECORD_SIZE:
        return "larger than allowed"
    return _scan(data, MOST_UNSEEN, binary=False)


def may_hold_large_integer(data: bytes) -> bool:
    """Tell whether an integer beyond 2^63 - 1 may be in there; text has such bytes too."""
    return bytes([_UNSIGNED_64]) in data and _LARGE_INTEGER.search(data) is not None


def _same(value: object, data: bytes) -> bool:
    try:
        return encode(value) == data
    except (ValueError, TypeError, OverflowError):
        return False


def _text_keys(value: dict[Any, Any]) -> dict[Any, Any]:
    # strict_map_key lets binary keys through.
    if not all(isinstance(key, str) for key in value):
        raise ValueError("a key that is not text")
    return value


def _no_ext(_code: int, _data: bytes) -> Any:
    raise ValueError("extension type")


def _damaged(what: str, where: str, problem: str) -> DamagedError:
    return DamagedError(
        f"the {what} can't be decoded: {problem}",
        where=where,
        hint="copy the file from its origin again; nothing of it was taken over",
    )


def _scan(data: bytes, max_objects: int, *, binary: bool) -> str | None:
    """Walk the encoding without building it; return what is wrong with it, or None."""
    position, objects = 0, 0
    left = [1]
    while left:
        if left[-1] == 0:
            left.pop()
            continue
        left[-1] -= 1
        objects += 1
        if objects > max_objects:
            return f"more than {max_objects} values"
        if position >= len(data):
            return "it ends too early"
        if data[position] in _BINARY and not binary:
            return "binary where text belongs"
        position, values = _head(data, position)
        if values == _UNKNOWN:
            return "a float, an extension type, or an integer beyond 2^63 - 1"
        if values is not None:
            if len(left) > limits.MAX_DEPTH:
                return f"nested deeper than {limits.MAX_DEPTH}"
            left.append(values)
    if position != len(data):
        return "bytes after its end" if position < len(data) else "it ends too early"
    return None


def _head(data: bytes, position: int) -> tuple[int, int | None]:
    """Return where the value's next part is, and how many values it holds, or ``_UNKNOWN``.

    A map or an array may hold none; what is neither has None. Unknown are floats, extension types
    and integers beyond 2^63 - 1.
    """
    first = data[position]
    position += 1
    if first == _UNSIGNED_64 and data[position : position + 1] >= b"\x80":
        return position, _UNKNOWN
    if first in _BYTES_FOLLOW:
        return position + _BYTES_FOLLOW[first], None
    if first in _LENGTH_FOLLOWS:
        end = position + _LENGTH_FOLLOWS[first]
        return end + int.from_bytes(data[position:end]), None
    if first in _VALUES_FOLLOW:
        return position, _VALUES_FOLLOW[first]
    if first in _COUNT_FOLLOWS:
        width, each = _COUNT_FOLLOWS[first]
        return position + width, each * int.from_bytes(data[position : position + width])
    return position, _UNKNOWN
