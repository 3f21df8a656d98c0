"""msgpack with every bound of ``limits`` held, and one encoding for each value.

Reads what the specification allows and nothing else: maps with distinct text keys, arrays, text,
binary, 64-bit integers, booleans and nil; no floats, no extension types, no encoding longer than
needed. A value is decoded, encoded again and compared, which catches duplicate keys and every
second way to write the same value.
"""

from collections.abc import Iterator
from typing import Any

import msgpack

from airgap import limits
from airgap.errors import DamagedError

# The first byte says what follows (the msgpack specification, "Formats").
_FIXMAP, _FIXARRAY, _FIXSTR = range(0x80, 0x90), range(0x90, 0xA0), range(0xA0, 0xC0)
_PLAIN = {0xC0, 0xC2, 0xC3, *range(0x80), *range(0xE0, 0x100)}
_NUMBER = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY = {0xDC: 2, 0xDD: 4}
_MAP = {0xDE: 2, 0xDF: 4}


def encode(value: object) -> bytes:
    """Return the one encoding of a value."""
    return msgpack.packb(value, use_bin_type=True, strict_types=True)


def decode_own(data: bytes) -> Any:  # noqa: ANN401
    """Return a value that this program encoded and kept on its own disk; no bounds are checked."""
    return msgpack.unpackb(data, raw=False)


def array_header(count: int) -> bytes:
    """Return the encoding's first bytes of an array of ``count`` elements."""
    if count < 16:
        return bytes([0x90 | count])
    if count < 2**16:
        return b"\xdc" + count.to_bytes(2)
    return b"\xdd" + count.to_bytes(4)


def decode(data: bytes, *, what: str, where: str, max_objects: int) -> Any:  # noqa: ANN401
    """Return the one value that ``data`` encodes.

    Args:
        data: all bytes of the value, and no more.
        what: the part's name, for the message.
        where: the file, for the message.
        max_objects: most values in it, nested ones included; memory stays within a small
            multiple of that and of the data's length.

    Raises:
        DamagedError: not msgpack, outside the limits, or not in its one encoding.
    """
    problem = _scan(data, max_objects)
    if problem is None:
        try:
            value = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_ext)
        except (ValueError, RecursionError, msgpack.UnpackException) as error:
            problem = f"{type(error).__name__}"
        else:
            if _same(value, data):
                return value
            problem = "it is not in its one encoding (a duplicate key, or a length written longer than needed)"
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
    unpacker = msgpack.Unpacker(
        raw=False,
        strict_map_key=True,
        ext_hook=_no_ext,
        max_buffer_size=max(len(data), 1),
        max_str_len=limits.MAX_STRING_LENGTH,
        max_bin_len=0,
        max_array_len=limits.MAX_MAP_ENTRIES,
        max_map_len=limits.MAX_MAP_ENTRIES,
        max_ext_len=0,
    )
    unpacker.feed(data)
    try:
        found = unpacker.read_array_header()
    except (ValueError, msgpack.UnpackException):
        raise _damaged("chunk", where, "it does not begin with an array") from None
    start = unpacker.tell()
    if found != count or data[:start] != array_header(count):
        raise _damaged("chunk", where, f"{found} records instead of {count}")
    for position in range(count):
        try:
            value = unpacker.unpack()
        except (ValueError, RecursionError, msgpack.UnpackException) as error:
            raise _damaged("chunk", where, f"record {position}: {type(error).__name__}") from None
        end = unpacker.tell()
        if not _same(value, data[start:end]):
            raise _damaged("chunk", where, f"record {position} is not in its one encoding")
        start = end
        yield value
    if start != len(data):
        raise _damaged("chunk", where, f"{len(data) - start} bytes after the last record")


def _same(value: object, data: bytes) -> bool:
    try:
        return encode(value) == data
    except (ValueError, TypeError, OverflowError):
        return False


def _no_ext(code: int, data: bytes) -> Any:  # noqa: ANN401
    raise ValueError("extension type")


def _damaged(what: str, where: str, problem: str) -> DamagedError:
    return DamagedError(
        f"the {what} can't be decoded: {problem}",
        where=where,
        hint="copy the file from its origin again; nothing of it was taken over",
    )


def _scan(data: bytes, max_objects: int) -> str | None:
    """Walk the encoding without building it; return what is wrong with it, or None."""
    position, objects, total = 0, 0, len(data)
    open_counts = [1]
    while open_counts:
        if open_counts[-1] == 0:
            open_counts.pop()
            continue
        open_counts[-1] -= 1
        objects += 1
        if objects > max_objects:
            return f"more than {max_objects} values"
        if position >= total:
            return "it ends too early"
        first = data[position]
        position += 1
        children = None
        if first in _PLAIN:
            continue
        if first in _NUMBER:
            position += _NUMBER[first]
        elif first in _FIXSTR:
            position += first & 0x1F
        elif first in _BYTES:
            width = _BYTES[first]
            position += width + int.from_bytes(data[position : position + width])
        elif first in _FIXARRAY:
            children = first & 0x0F
        elif first in _FIXMAP:
            children = 2 * (first & 0x0F)
        elif first in _ARRAY:
            children = int.from_bytes(data[position : position + _ARRAY[first]])
            position += _ARRAY[first]
        elif first in _MAP:
            children = 2 * int.from_bytes(data[position : position + _MAP[first]])
            position += _MAP[first]
        else:
            return f"a float or an extension type (byte 0x{first:02x})"
        if children is not None:
            if len(open_counts) > limits.MAX_DEPTH:
                return f"nested deeper than {limits.MAX_DEPTH}"
            open_counts.append(children)
    if position != total:
        return "bytes after its end" if position < total else "it ends too early"
    return None
