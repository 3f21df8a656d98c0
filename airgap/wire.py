"""The texts within a protobuf message whose schema nobody knows.

In the wire format (protobuf.dev, "Encoding") a string stands between tags and lengths, and those
may be letters or digits themselves: attributes of an OTLP log record begin with the byte ``2``.
Whoever looks for a number in the plain bytes would take them for a part of it.
"""

from collections.abc import Iterator

_MAX_DEPTH = 16
"""Deepest nesting that is looked into; OTLP's own strings stand at depth 7."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def texts(data: bytes) -> Iterator[bytes]:
    """Yield everything in ``data`` that may be a text of its own, beginning with all of it.

    Nothing tells a string from a message within a message, so what can be read as both is taken
    for both. All that is yielded is at most 17 times as long as ``data``.
    """
    yield data
    # Iterators, since a message may have millions of fields.
    inside = [_fields(data, 0, len(data))] if _is_message(data, 0, len(data)) else []
    while inside:
        for start, end in inside[-1]:
            is_message = len(inside) < _MAX_DEPTH and _is_message(data, start, end)
            if not is_message or _is_utf8(data[start:end]):
                yield data[start:end]
            if is_message:
                inside.append(_fields(data, start, end))
                break
        else:
            inside.pop()


def _is_message(data: bytes, start: int, end: int) -> bool:
    try:
        for _ in _fields(data, start, end):
            pass
    except ValueError:
        return False
    return True


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the length-delimited fields stand that are not empty.

    Raises:
        ValueError: this is no message.
    """
    position = start
    while position < end:
        tag, position = _varint(data, position, end)
        kind = tag & 7
        if tag < 8 or kind > _FIXED32:
            raise ValueError("no field")
        if kind == _VARINT:
            _, position = _varint(data, position, end)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _LENGTH:
            length, position = _varint(data, position, end)
            if 0 < length <= end - position:
                yield position, position + length
            position += length
        # What stands in a group (kinds 3 and 4) is read as if it stood beside it.
        if position > end:
            raise ValueError("a field without its end")


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return a number of at most 10 bytes and where it ends.

    Raises:
        ValueError: there is none.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("no number")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
