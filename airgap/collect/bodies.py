"""The bodies of OTLP requests, as they were before they were packed and encoded."""

import base64
import re
import zlib

from airgap.catalog import JsonObject
from airgap.errors import InputRefusedError

_MAX_UNPACKED = 64 * 1024**2
_BETWEEN = rb'"[ \t\r\n]{0,64}:[ \t\r\n]{0,64}"'
# A quote after a backslash stands within a string.
_ID = re.compile(
    rb'((?<!\\)"(?:traceId|spanId|parentSpanId)' + _BETWEEN + rb')(?:[0-9A-Fa-f]{16}){1,2}"'
)
_NUMBER = re.compile(
    rb'((?<!\\)"(?:intValue|asInt|count|zeroCount|[a-zA-Z]{0,16}[tT]imeUnixNano)'
    + _BETWEEN
    + rb')-?[0-9]{1,20}"'
)


class NotReadableError(ValueError):
    """A body is not what its payload says. The message shows nothing of it."""


def unpacked(payload: JsonObject) -> bytes:
    """Return the body's bytes, decoded and unpacked.

    Args:
        payload: of an OTLP kind.

    Raises:
        NotReadableError: no text, no base64, or not one whole gzip stream of at most 64 MiB
            unpacked.
    """
    body = payload.get("body")
    if not isinstance(body, str):
        raise NotReadableError("the body is no text")
    try:
        data = body.encode()
        if payload.get("encoding") == "base64":
            data = base64.b64decode(data, validate=True)
    except ValueError:
        raise NotReadableError("the body is no base64") from None
    if payload.get("content_encoding") == "gzip":
        unpacker = zlib.decompressobj(wbits=31)
        try:
            data = unpacker.decompress(data, _MAX_UNPACKED)
        except zlib.error:
            raise NotReadableError("not gzip") from None
        if not unpacker.eof or unpacker.unused_data:
            raise NotReadableError("not one whole gzip stream of at most 64 MiB")
    if len(data) > _MAX_UNPACKED:
        raise NotReadableError("more than 64 MiB")
    return data


def unreadable(where: str) -> InputRefusedError:
    """Return the error for a body that nobody can look into."""
    return InputRefusedError(
        "an OTLP body is not what its encoding says",
        where=where,
        expected="base64 where encoding says so, one gzip stream of at most 64 MiB, JSON",
        hint="correct it at its source; nobody could look into it before it leaves",
    )


def without_numbers(text: bytes) -> bytes:
    """Return OTLP/JSON without the ids and numbers that it writes as strings.

    One in some thousand random span ids is all digits, and some of those look like card numbers;
    64-bit numbers are strings too (OTLP specification, "JSON Protobuf Encoding"). Protobuf has
    both in binary. What has not exactly that form stays.
    """
    return _NUMBER.sub(rb'\1"', _ID.sub(rb'\1"', text))
