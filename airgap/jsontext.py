"""JSON where money is counted: exact integers, no duplicate keys, one canonical form.

orjson alone turns integers beyond 64 bits into floats and keeps the last of duplicate keys;
``json`` alone accepts NaN and lone surrogates. Here both must agree.
"""

import json
from typing import Any

import orjson

_SPACE = b" \t\r\n"


class NotExactError(ValueError):
    """The text is not JSON, or JSON that two readers could understand differently."""


def parse(raw: bytes) -> Any:
    """Return the value of one JSON document.

    Args:
        raw: UTF-8 without a byte order mark.

    Raises:
        NotExactError: not JSON (RFC 8259), a duplicate key, or an integer beyond 64 bits.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise NotExactError(f"not JSON: {error.msg} at column {error.colno}") from None
    try:
        again = orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise NotExactError("nested too deeply") from None
    # Equal but for white space means that no key was dropped and no number changed.
    if again.translate(None, _SPACE) != raw.translate(None, _SPACE):
        _refuse_what_differs(raw)
    return value


def canonical(value: object) -> bytes:
    """Return the canonical form: sorted keys, no white space, UTF-8, no floats.

    Keys are sorted by code point; strings are escaped as RFC 8785 section 3.2.2.2 says.

    Raises:
        NotExactError: a float, an integer beyond 64 bits, or nesting beyond 250 levels.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONEncodeError, TypeError) as error:
        raise NotExactError(str(error)) from None
    if holds_float(value):
        _refuse_floats(value, "")
    return text


def canonical_of_exact(value: object) -> bytes:
    """Return the canonical form of a value that is known to have one; see ``canonical``."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def holds_float(value: object) -> bool:
    """Tell whether there is a number with a fraction or exponent in a decoded value."""
    kind = type(value)
    if kind is dict or kind is list:
        inner: Any = value
        for item in inner.values() if kind is dict else inner:
            found = type(item)
            if found is str or found is int:
                continue
            if holds_float(item):
                return True
        return False
    return isinstance(value, float)


def _refuse_what_differs(raw: bytes) -> None:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise NotExactError("an object has the same key twice")
        return found

    def integer(text: str) -> int:
        value = int(text) if len(text) <= 20 else 2**64
        if not -(2**63) <= value < 2**64:
            raise NotExactError("an integer does not fit 64 bits")
        return value

    try:
        json.loads(raw, object_pairs_hook=pairs, parse_int=integer)
    except RecursionError:
        raise NotExactError("nested too deeply") from None


def _refuse_floats(value: object, path: str) -> None:
    if isinstance(value, float):
        raise NotExactError(
            f"a number with a fraction or exponent at {path or '/'}; counts are integers"
        )
    if isinstance(value, dict):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            _refuse_floats(item, f"{path}/{key}")  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list):
        for index, item in enumerate(value):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            _refuse_floats(item, f"{path}/{index}")
