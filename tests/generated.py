"""Values made from a schema's own keywords: mostly right ones, and such as are just about wrong.

Deterministic for a seed, and without shrinking: thousands of values cost what a hundred examples of
Hypothesis do.
"""

import copy
import re
from collections.abc import Iterator
from random import Random
from typing import Any

_parse = re._parser.parse  # type: ignore[attr-defined]

NAMES = ("a", "unknown", "", "a b", "é", "x" * 128, "x" * 129, "\n", "kind", "__proto__")
NUMBERS = (
    0, 1, -1, 2, 2**31, 2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1,
    2**64 - 1, 2**64, 10**30, 0.0, -0.0, 1.0, 0.5, 2.0**53, 1e300, float("nan"), float("inf"),
)  # fmt: skip
TIMES = (
    "2026-01-31T09:00:00Z", "2026-01-31T09:00:00Z\n", "\n2026-01-31T09:00:00Z", "2026-01-31T09:00:00Z ",
    "2026-01-31T09:00:60Z", "2016-12-31T23:59:60Z", "2026-01-31T23:59:60+00:00", "2026-01-31T24:00:00Z",
    "2026-01-31T09:60:00Z", "2026-02-29T09:00:00Z", "2024-02-29T09:00:00Z", "1900-02-29T00:00:00Z",
    "2000-02-29T00:00:00Z", "2026-02-30T09:00:00Z", "2026-04-31T09:00:00Z", "2026-13-01T09:00:00Z",
    "2026-00-01T09:00:00Z", "2026-01-00T09:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59-23:59",
    "10000-01-01T00:00:00Z", "-2026-01-31T09:00:00Z", "2026-01-31t09:00:00z", "2026-01-31T09:00:00z",
    "2026-01-31 09:00:00Z", "2026-01-31T09:00:00", "2026-01-31T09:00:00+0000", "2026-01-31T09:00:00+00",
    "2026-01-31T09:00:00-00:00", "2026-01-31T09:00:00+24:00", "2026-01-31T09:00:00+23:60",
    "2026-01-31T09:00:00.Z", "2026-01-31T09:00:00.1Z", "2026-01-31T09:00:00.123456Z",
    "2026-01-31T09:00:00.123456789Z", "2026-01-31T09:00:00.1234567891Z", "2026-01-31T09:00:00,5Z",
    "2026-1-31T09:00:00Z", "2026-031T09:00:00Z", "2026-W05-6T09:00:00Z", "20260131T090000Z",
    # Digits of other scripts:
    "\uff12\uff10\uff12\uff16-01-31T09:00:00Z", "2026-01-31T09:00:\u0660\u0660Z", "2026-01-31T09:00:00.\u0967Z",
)  # fmt: skip
TEXTS = (
    "", "a", "A", " ", "\0", "\n", "a\n", "é", "\u017f", "\u212a", "😀", "\u2028", "*", "**", "utf-8", "base64",
    "af28dfea-5358-463d-a2dc-37df1da72498", "AF28DFEA-5358-463D-A2DC-37DF1DA72498",
    "af28dfea-5358-463d-a2dc-37df1da72498\n", "{af28dfea-5358-463d-a2dc-37df1da7249}",
    "af28dfea5358463da2dc37df1da72498", "urn:uuid:af28dfea-5358-463d-a2dc-37df1da72498",
    "af28dfea-5358-463d-a2dc-37df1da7249g", "\u0660f28dfea-5358-463d-a2dc-37df1da72498",
    "0" * 32, "0" * 64, "0" * 64 + "\n", "bank-a", "-bank", "bank-a.", "license:" + "0" * 32,
    "license:" + "0" * 32 + "\n", "LICENSE:" + "0" * 32, "https://x", "http://x", "30d", "30d\n", "\u0663d",
)  # fmt: skip
OTHERS = (None, True, False, [], {}, [None], [1], {"a": 1}, [[]])


def corpus(schema: dict[str, Any], seed: str, count: int) -> Iterator[Any]:
    """Yield values: what the schema seems to ask for, and the same with one to three faults."""
    random = Random(seed)
    definitions = schema.get("$defs", {})
    for number in range(count):
        value = made(schema, random, definitions)
        for _ in range(random.randint(0, 3) if number else 0):
            value = spoilt(value, schema, random, definitions)
        yield value


def made(schema: dict[str, Any], random: Random, definitions: dict[str, Any]) -> Any:
    """Return a value that most of a schema's keywords agree with."""
    schema = _resolved(schema, random, definitions)
    if "const" in schema:
        return copy.deepcopy(schema["const"])
    if "enum" in schema:
        return copy.deepcopy(random.choice(schema["enum"]))
    if schema.get("examples") and random.random() < 0.3:
        return copy.deepcopy(random.choice(schema["examples"]))
    kind = schema.get("type", "object" if "properties" in schema else "null")
    kind = random.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, random, definitions)
    if kind == "array":
        least = schema.get("minItems", 0)
        most = min(schema.get("maxItems", 3), least + 3)
        items = schema.get("items", {})
        found = [made(items, random, definitions) for _ in range(random.randint(least, most))]
        if schema.get("uniqueItems"):
            return [one for at, one in enumerate(found) if one not in found[:at]]
        return found
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1)
        return random.choice([low, high, min(high, max(low, random.randint(-5, 300)))])
    if kind == "string":
        return _text(schema, random)
    return {"boolean": random.random() < 0.5, "null": None}[kind]


def spoilt(value: Any, schema: dict[str, Any], random: Random, definitions: dict[str, Any]) -> Any:
    """Return a copy of a value with one fault, which may be none after all."""
    holder = [copy.deepcopy(value)]
    places = list(_places(holder, 0, schema, random, definitions))
    parent, key, part = random.choice(places)
    found = parent[key]
    choice = random.randrange(5)
    if choice == 0 and isinstance(found, dict) and found:
        del found[random.choice(list(found))]
    elif choice == 1 and isinstance(found, dict):
        found[random.choice(NAMES)] = made(
            part.get("properties", {}).get("", {}), random, definitions
        )
    elif choice == 2 and isinstance(found, list) and found:
        found.append(copy.deepcopy(random.choice(found)))
    elif choice == 3:
        parent[key] = random.choice(_bounds(part, random, definitions) or [found])
    else:
        same = TIMES if part.get("format") == "date-time" else TEXTS
        parent[key] = random.choice([random.choice(same), *_touched(found, random),
                                     random.choice(NUMBERS), copy.deepcopy(random.choice(OTHERS))])  # fmt: skip
    return holder[0]


def _resolved(
    schema: dict[str, Any], random: Random, definitions: dict[str, Any]
) -> dict[str, Any]:
    """Return a schema without references, and with one of its alternatives."""
    while "$ref" in schema or "anyOf" in schema:
        more = (
            definitions[schema["$ref"].removeprefix("#/$defs/")]
            if "$ref" in schema
            else random.choice(schema["anyOf"])
        )
        rest = {k: v for k, v in schema.items() if k != ("$ref" if "$ref" in schema else "anyOf")}
        together = {**rest.get("properties", {}), **more.get("properties", {})}
        needed = [*rest.get("required", ()), *more.get("required", ())]
        schema = {**rest, **more, "required": needed}
        if together:
            schema["properties"] = together
    return schema


def _object(schema: dict[str, Any], random: Random, definitions: dict[str, Any]) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", ())
    most = schema.get("maxProperties", 10**6)
    value = {
        name: made(properties.get(name, {}), random, definitions)
        for name in [*properties, *(n for n in required if n not in properties)]
        if name in required or (random.random() < 0.3 and len(required) < most)
    }
    more = schema.get("additionalProperties", False)
    if isinstance(more, dict) and (
        random.random() < 0.4 or schema.get("minProperties", 0) > len(value)
    ):
        name = _text(
            {"maxLength": 20, **schema.get("propertyNames", {"pattern": "^[a-z]{1,9}$"})}, random
        )
        value[name] = made(more, random, definitions)
    return value


def _text(schema: dict[str, Any], random: Random) -> str:
    if schema.get("format") == "date-time" and random.random() < 0.5:
        return TIMES[0]
    if "pattern" in schema:
        text = _matching(_parse(schema["pattern"]), random)
        return text or "a" * schema.get("minLength", 0)
    least = schema.get("minLength", 0)
    length = random.randint(least, max(least, min(schema.get("maxLength", 12), 12)))
    return "".join(random.choice("aZ09 -_.é😀") for _ in range(length))


def _matching(parsed: Any, random: Random) -> str:
    """Return text that a parsed pattern matches."""
    out = ""
    for operation, argument in parsed:
        name = str(operation)
        if name == "LITERAL":
            out += chr(argument)
        elif name == "ANY":
            out += random.choice("a0:")
        elif name == "NOT_LITERAL":
            out += random.choice([c for c in "a0/" if ord(c) != argument])
        elif name == "IN":
            out += _member(argument, random)
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = argument
            for _ in range(random.randint(least, min(int(most), least + 3))):
                out += _matching(inner, random)
        elif name == "SUBPATTERN":
            out += _matching(argument[3], random)
        elif name == "BRANCH":
            out += _matching(random.choice(argument[1]), random)
        else:
            assert name == "AT", name
    return out


def _member(members: Any, random: Random) -> str:
    if str(members[0][0]) == "NEGATE":
        return random.choice([c for c in "a0/" if (members[1][1]) != ord(c)])
    operation, argument = random.choice(members)
    return chr(argument if str(operation) == "LITERAL" else random.randint(*argument))


def _places(
    parent: Any, key: Any, schema: dict[str, Any], random: Random, definitions: dict[str, Any]
) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Yield every value in a value by what holds it, with its part of the schema."""
    schema = _resolved(schema, random, definitions)
    yield parent, key, schema
    value = parent[key]
    if isinstance(value, dict):
        more = schema.get("additionalProperties")
        for name in value:
            inner = schema.get("properties", {}).get(name, more)
            yield from _places(
                value, name, inner if isinstance(inner, dict) else {}, random, definitions
            )
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from _places(value, number, schema.get("items", {}), random, definitions)


def _bounds(schema: dict[str, Any], random: Random, definitions: dict[str, Any]) -> list[Any]:
    """Return values at the bounds that a schema sets, and one beyond."""
    found: list[Any] = []
    for word in ("minimum", "maximum"):
        if word in schema:
            found += [schema[word] - 1, schema[word], schema[word] + 1, float(schema[word])]
    for word in ("minLength", "maxLength"):
        if schema.get(word, 10**5) < 10**5:
            found += [c * n for c in "aé😀0" for n in (schema[word], schema[word] + 1)]
    for word in ("minItems", "maxItems"):
        if schema.get(word, 300) < 300:
            one = made(schema.get("items", {}), random, definitions)
            found += [[one] * max(0, schema[word] + more) for more in (-1, 0, 1)]
    for word in ("minProperties", "maxProperties"):
        if schema.get(word, 300) < 300:
            inner = schema.get("additionalProperties")
            one = made(inner if isinstance(inner, dict) else {}, random, definitions)
            found += [{f"n{n}": one for n in range(schema[word] + more)} for more in (-1, 0, 1)]
    if schema.get("uniqueItems"):
        found += [["a", "a"], [1, True], [1, 1.0], [{"a": 1, "b": 2}, {"b": 2, "a": 1}], [0, False]]
    return found


def _touched(value: Any, random: Random) -> list[Any]:
    """Return a value with something small changed."""
    if isinstance(value, str):
        at = random.randint(0, len(value))
        odd = random.choice("\n \0aA0é\u0663😀")
        return [value + odd, odd + value, value[:at] + odd + value[at:], value[:at] + value[at + 1 :],
                value.upper(), value.lower(), value + "\n"]  # fmt: skip
    if isinstance(value, int) and not isinstance(value, bool):
        return [value + 1, value - 1, float(value), str(value), bool(value)]
    return []
