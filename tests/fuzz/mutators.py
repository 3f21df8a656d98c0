"""Changes to a fuzzer's input that know what it is: bytes, text, a file, or a recipe.

All randomness comes from the generator that is passed in, so that a seed says what is tried.
"""

import base64
import contextlib
import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgpack
from fuzz import recipes
from fuzz.recipes import Recipe

Mutator = Callable[[bytes, Sequence[bytes], random.Random], bytes]
"""Given an input, other inputs, and randomness, returns a changed input."""

NUMBERS = (
    *(-1, 0, 1, 2, 15, 16, 31, 32, 127, 128, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1),
    *(
        2**32,
        2**53,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64 - 1,
        -32,
        -33,
        -128,
        -129,
        -(2**31),
        -(2**63),
    ),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0.0, 1.0, -0.0, float("nan"), float("inf"), 2.0**63, "", "\0", "a" * 65),
    *(
        "a" * 5000,
        "\u202e",
        "\x1b[2J\r",
        "[/x][bold]",
        "%s{0}",
        "\n\nOK",
        "é",
        "é",
        "\U0001f600",
        b"",
        b"\0",
        [],
        {},
        [[]],
        {"": None},
        "*",
    ),
    *("0" * 64, "F" * 64, "license:" + "0" * 32, "api_key:" + "0" * 32, "usage_report", "bundle"),
    *(
        "2026-01-31T11:59:59.999999Z",
        "2026-02-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "receipt",
    ),
    *("9999-12-31T23:59:59.999999-23:59", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "zstd"),
    *("2026-01-01T23:59:60Z", "2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00Z\n", "none"),
    *(
        "\uff12\uff10\uff12\uff16-01-01T00:00:00Z",
        "delivered",
        "dead",
        "in_doubt",
        "waiting",
        "langgraph-api",
        "api-key",
    ),
    *(
        msgpack.ExtType(5, b"x"),
        msgpack.Timestamp(1),
        "documents",
        "trace_transactions",
        "otlp_logs",
    ),
)
_JSON_VALUES = tuple(
    v for v in VALUES if not isinstance(v, bytes | msgpack.ExtType | msgpack.Timestamp)
)
TOKENS = (
    b"\xc1", b"\xc7\x01\x05x", b"\xd4\x05x", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 20, b"\x81\xa1a" * 20, b"\xcb" + b"\0" * 8,
    b"\xca\0\0\0\0", b"\xcc\x01", b"\xd9\x01a", b"\xdc\0\1", b"\xde\0\1", b"\xff", b"\xa3\xed\xa0\x80",
    b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\4\0\0\0abcd", b"\x80", b"\x90", b"\xc0", b"\xc4\0",
)  # fmt: skip
TEXT = (
    b'"', b'""', b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"\xed\xa0\x80", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\0", b"\n", b"\r\n", b",", b";", b"\t", b"[" * 300, b'{"a":' * 300, b"]", b"}", b"{", b":", b"null", b"true",
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1.0", b"-0", b"-0.0", b"1E2", b"9007199254740993", b"0x1", b"01",
    b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"/**/",
    b'"a":1,"a":2', b"\xe2\x80\xa8", b"\xc2\xa0", b"\x1b[2J", b"+", b"\xd9\xa1", b"\xf4\x90\x80\x80", b" ", b"(null)",
)  # fmt: skip


def of_bytes(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change bytes without knowing what they are."""
    return _bytes(data, others, rng, TOKENS)


def of_text(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change text; most of the time it stays text."""
    if rng.random() < 0.1:
        return _bytes(data, others, rng, TEXT)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(changed) + 1)
        to = min(len(changed), at + rng.choice((1, 1, 2, 4, 8, 32, 256)))
        match rng.randrange(8):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(7)
            case 1 if at < len(changed):
                changed[at] = rng.choice(_LETTERS)
            case 2:
                del changed[at:to]
            case 3:
                changed[at:at] = rng.choice(TEXT)
            case 4:
                changed[at:to] = rng.choice(TEXT)
            case 5:
                changed[at:at] = changed[at:to] * rng.choice((1, 2, 30))
            case 6 if others:
                other = rng.choice(others)
                begin = rng.randrange(len(other) + 1)
                changed[at:to] = other[begin : begin + rng.choice((1, 8, 64, 4096))]
            case 7:
                changed[at:to] = str(rng.choice(NUMBERS)).encode()
    return bytes(changed[: 2**20])


_LETTERS = b" \t\n\r\"',;:.-+_/\\{}[]()0123456789aAeEfFtTzZxXuUlLnN=*|#"


def of_json(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change a value of a JSON document, or its text."""
    if rng.random() < 0.3:
        return of_text(data, others, rng)
    try:
        wrapped = [json.loads(data)]
    except (ValueError, RecursionError):
        return of_text(data, others, rng)
    try:
        other = json.loads(rng.choice(others))
    except (ValueError, RecursionError, IndexError):
        other = None
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        wrapped = json.loads(json.dumps(wrapped))
        _change_value(wrapped, other, rng, _JSON_VALUES)
    indent, ascii_only = rng.choice((None, None, 1)), rng.random() < 0.5
    separators = rng.choice(((",", ":"), None))
    try:
        text = json.dumps(wrapped[0], indent=indent, ensure_ascii=ascii_only, separators=separators)
        return text.encode(errors="surrogatepass")[: 2**20]
    except (TypeError, ValueError, RecursionError):
        return of_text(data, others, rng)


def of_lines(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change lines of JSON: one of them, or their order."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.2:
        lines.insert(at, rng.choice([*others, b""])[:4096])
    lines[at] = of_json(lines[at], others, rng)
    return b"\n".join(lines)


def of_body(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change a request: rarely its first byte, which says what it is; else its body, also packed."""
    first, body = data[:1] or b"\0", data[1:]
    if rng.random() < 0.1:
        first = rng.choice(others)[:1] if others else bytes([rng.randrange(256)])
    packed = body[:2] == b"\x1f\x8b"
    if packed and rng.random() < 0.8:
        with contextlib.suppress(zlib.error):
            body = zlib.decompressobj(31).decompress(body, 2**20)
    mutate = of_json if body[:1] in (b"{", b"[") else of_bytes
    body = mutate(body, [other[1:] for other in others[:20]], rng)
    if first[0] & 0x40 and rng.random() < 0.9:
        body = gzip.compress(body, 1, mtime=0)
    return first + body


def of_key(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change a key's file: its text, or what is in its one block or line, in that form or another."""
    if rng.random() < 0.3:
        return of_text(data, others, rng)
    lines = data.splitlines() or [b""]
    head, foot, raw = lines[0], lines[-1], data
    words = head.split(b" ")
    with contextlib.suppress(ValueError):
        raw = base64.b64decode(
            words[1] if len(lines) == 1 and len(words) > 1 else b"".join(lines[1:-1])
        )
    if rng.random() < 0.2:
        point = rng.choice(
            (0, 1, 2, *(2**255 - 19 + n for n in (-1, 0, 1)), 2**256 - 1, rng.getrandbits(256))
        )
        raw = bytes.fromhex("302a300506032b6570032100") + point.to_bytes(32, "little")
        head, foot = b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----"
    if rng.random() < 0.8:
        raw = of_bytes(raw, [], rng)
    if head.startswith(b"-----"):
        return head + b"\n" + base64.encodebytes(raw) + foot + b"\n"
    name = raw[4 : 4 + int.from_bytes(raw[:4])] if rng.random() < 0.8 else words[0]
    return name[:100] + b" " + base64.b64encode(raw) + b" comment\n"


def of_recipe(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change a recipe: one of its values, its chunks, its flags; sometimes its raw bytes."""
    recipe = recipes.decode(data)
    if recipe is None:
        recipe = recipes.decode(rng.choice(others)) if others else None
        if recipe is None:
            return of_bytes(data, others, rng)
    other = recipes.decode(rng.choice(others)) if others else None
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        recipe = _one_change(recipe, other or recipe, rng)
    return recipe.encode()


def of_file(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change a file: its bytes, or swap a part with another file's, so that the frame still fits."""
    if rng.random() < 0.2 or not others:
        return of_bytes(data, others, rng)
    mine, theirs = _parts(data), _parts(rng.choice(others))
    if mine is None or theirs is None:
        return of_bytes(data, others, rng)
    place = rng.randrange(3)
    mine[place] = theirs[place] if rng.random() < 0.7 else of_bytes(mine[place], others, rng)
    start, envelope = b"".join(mine[:2]), mine[2]
    return start + envelope + recipes.footer(len(start), len(envelope))


def _parts(data: bytes) -> list[bytes] | None:
    """Return preamble with header, chunks, envelope."""
    offset, length = int.from_bytes(data[-24:-16]), int.from_bytes(data[-16:-8])
    if len(data) < 40 or offset + length + 26 != len(data) or offset < 20:
        return None
    unpacker = msgpack.Unpacker(max_buffer_size=2**20)
    unpacker.feed(data[14 : min(offset, 14 + 1024)])
    try:
        unpacker.skip()
    except Exception:  # noqa: BLE001
        return None
    start = 14 + unpacker.tell()
    return [data[:start], data[start:offset], data[offset:-26]]


def _bytes(
    data: bytes, others: Sequence[bytes], rng: random.Random, tokens: Sequence[bytes]
) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(changed) + 1)
        to = min(len(changed), at + rng.choice((1, 1, 2, 4, 8, 32, 256)))
        match rng.randrange(9):
            case 0 | 1 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 2 if at < len(changed):
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 3:
                del changed[at:to]
            case 4:
                changed[at:at] = rng.choice(tokens)
            case 5:
                changed[at:to] = rng.choice(tokens)
            case 6:
                changed[at:at] = changed[at:to] * rng.choice((1, 2, 30))
            case 7 if others:
                other = rng.choice(others)
                begin = rng.randrange(len(other) + 1)
                changed[at:to] = other[begin : begin + rng.choice((1, 8, 64, 4096))]
            case 8:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice(NUMBERS) % 2 ** (8 * width)
                changed[at : at + width] = number.to_bytes(width)
    return bytes(changed[: 2**20])


def _one_change(recipe: Recipe, other: Recipe, rng: random.Random) -> Recipe:
    chunks = list(recipe.chunks)
    match rng.randrange(14):
        case 0:
            return replace(recipe, flags=rng.randrange(recipes.MOST_FLAGS))
        case 1:
            return replace(recipe, flags=rng.choice((0, 1, 3, 3, 3, 3 | recipes.LIMITED)))
        case 2:
            return replace(recipe, header=_changed(recipe.header, other.header, rng))
        case 3 | 4 | 5:
            return replace(recipe, manifest=_changed(recipe.manifest, other.manifest, rng))
        case 6:
            return replace(recipe, manifest=other.manifest)
        case 7:
            return replace(recipe, header=other.header)
        case 8 if chunks:
            rng.shuffle(chunks)
        case 9 if chunks:
            del chunks[rng.randrange(len(chunks))]
        case 10 if other.chunks:
            chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(other.chunks))
        case _ if chunks:
            at = rng.randrange(len(chunks))
            chunks[at] = _changed(chunks[at], rng.choice(other.chunks or (b"\x90",)), rng)
    return replace(recipe, chunks=tuple(chunks[:40]))


def _changed(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Change an encoded value: one value within it, or its bytes."""
    value = recipes.lenient(data)
    if rng.random() < 0.15 or not isinstance(value, dict | list):
        return of_bytes(data, [other], rng)[: 2**18]
    wrapped = [value]
    _change_value(wrapped, recipes.lenient(other), rng, VALUES)
    try:
        return msgpack.packb(wrapped[0])
    except (ValueError, TypeError, OverflowError):
        return data


def _change_value(root: list[Any], other: Any, rng: random.Random, values: Sequence[Any]) -> None:
    """Change one value somewhere below ``root``, in place."""
    places = list(_places(root))
    holder, name = rng.choice(places)
    old = holder[name]
    match rng.randrange(10):
        case 0 | 1:
            holder[name] = rng.choice(values)
        case 2:
            holder[name] = rng.choice(NUMBERS)
        case 3 if isinstance(old, int):
            holder[name] = old + rng.choice((-1, 1, 2**32, -(2**63)))
        case 3 | 4 if isinstance(old, str):
            at = rng.randrange(len(old) + 1)
            holder[name] = (
                old[:at] + rng.choice(("", "x", "\0", "é", "\u2028", "A", "-", "0")) + old[at + 1 :]
            )
        case 5 if holder is not root:
            del holder[name]
        case 6 if isinstance(old, dict):
            old[rng.choice(("extra", "", "a" * 300, 1, "langgraph.platform.runs", "kinds"))] = (
                rng.choice(values)
            )
        case 6 if isinstance(old, list):
            old.insert(rng.randrange(len(old) + 1), rng.choice((*values, *old, *old)))
        case 7 if isinstance(old, dict):
            items = list(old.items())
            rng.shuffle(items)
            old.clear()
            old.update(items)
        case 7 if isinstance(old, list):
            rng.shuffle(old)
        case 8:
            theirs, key = rng.choice(list(_places([other])))
            holder[name] = theirs[key]
        case _:
            source, key = rng.choice(places)
            if source is not root and not isinstance(source[key], dict | list):
                holder[name] = source[key]


def _places(holder: Any) -> list[tuple[Any, Any]]:
    """Return every place below a map or an array."""
    found: list[tuple[Any, Any]] = []
    below = [holder]
    while below:
        one = below.pop()
        names = list(one) if isinstance(one, dict) else range(len(one))
        for name in names:
            found.append((one, name))
            if isinstance(one[name], dict | list) and one[name]:
                below.append(one[name])
    return found
