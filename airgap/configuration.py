"""``airgap.toml`` as text: what is in it, on which line, and every mistake in words.

The schema ``airgap-toml`` says what may be there. It is checked here without a validator's library, since
every command checks the whole file when it starts; a test holds both to the same verdicts.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from airgap.catalog import JsonObject
from airgap.errors import UsageError
from airgap.text import printable

FILE = "airgap.toml"
"""The file's name in a home."""

_MOST_SHOWN = 20
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_WORDS = {
    "object": "a table",
    "array": "a list",
    "string": "text in quotes",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
}

Path = tuple[str, ...]
"""Where a setting stands: ``("import", "timeout")``; places in a list count from 0."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something in the file that can't be meant.

    Args:
        path: the setting.
        problem: what is wrong with it, without its value where that could be a secret.
        expected: what would be accepted.
        found: what is there.
        near: what was probably meant, or None.
    """

    path: Path
    problem: str
    expected: str
    found: str
    near: str | None = None

    @property
    def name(self) -> str:
        """The setting as people write it: ``import.timeout``."""
        return printable(".".join(self.path), 200)


def parse(text: str, *, where: str) -> dict[str, Any]:
    """Return what a configuration file says.

    Raises:
        UsageError: it is not TOML; with the line where reading stopped.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = printable(str(error) if isinstance(error, ValueError) else "nested too deeply", 300)
        at = re.search(r"\(at line ([0-9]+), column ([0-9]+)\)$", said)
        raise UsageError(
            f"the configuration can't be read: {said[: at.start()].strip() if at else said}",
            where=f"{where}, line {at[1]}, column {at[2]}" if at else where,
            expected="TOML 1.0: NAME = VALUE, with text in quotes, and [COMMAND] above its settings",
            hint="correct the line; airgap config check looks at the whole file",
        ) from None


def lines(text: str) -> dict[Path, int]:
    """Return the line, counted from 1, on which each table and setting begins.

    The text is read statement by statement with the TOML reader itself, so that text which only looks
    like a setting, within a string of many lines, counts as none.

    Args:
        text: a file that ``parse`` accepts.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    pending: list[str] = []
    first = 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not pending:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            first = number
        pending.append(line)
        try:
            value = tomllib.loads("\n".join(pending))
        except tomllib.TOMLDecodeError:
            continue  # a value of several lines
        header = pending[0].lstrip().startswith("[")
        table = max(_paths(value), key=len) if header else table
        for path in _paths(value):
            found.setdefault(path if header else (*table, *path), first)
        pending = []
    return found


def _paths(value: object, start: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield (*start, name)
            yield from _paths(inner, (*start, name))


def line_of(path: Path, known: Mapping[Path, int]) -> int | None:
    """Return the line of a setting, or of the nearest table around it that has one."""
    while path:
        if path in known:
            return known[path]
        path = path[:-1]
    return None


def inner(settings: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the table of a command, empty where there is none."""
    found: Any = settings
    for word in words:
        found = found.get(word) if isinstance(found, dict) else None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def branch(schema: JsonObject, words: Sequence[str]) -> JsonObject:
    """Return the schema of a command's table; one without settings where it has none."""
    found = schema
    for word in words:
        found = _table_of(found).get("properties", {}).get(word, {})
    return _table_of(found)


def options_of(schema: JsonObject, words: Sequence[str]) -> dict[str, JsonObject]:
    """Return a command's settings by name, each with its schema."""
    found = branch(schema, words)
    return {
        name: entry
        for name, entry in found.get("properties", {}).items()
        if "x-environment" in entry
    }


def commands_of(schema: JsonObject, words: Path = ()) -> Iterator[Path]:
    """Yield the words of every command that has settings."""
    if words and options_of(schema, words):
        yield words
    for name, entry in branch(schema, words).get("properties", {}).items():
        if (
            "x-environment" not in entry
            and _table_of(entry).get("properties")
            and name != "profiles"
        ):
            yield from commands_of(schema, (*words, name))


def _table_of(schema: JsonObject) -> JsonObject:
    return next((s for s in schema.get("anyOf", ()) if s.get("type") == "object"), schema)


def mistakes(settings: object, schema: JsonObject, path: Path = ()) -> Iterator[Mistake]:
    """Yield everything in a file that its schema does not allow.

    Args:
        settings: the file's content, or a part of it.
        schema: of the keywords that the schema ``airgap-toml`` uses.
        path: where that part stands.
    """
    choices = schema.get("anyOf")
    if choices:
        fitting = [choice for choice in choices if _is(settings, choice["type"])]
        if fitting:
            yield from mistakes(settings, fitting[0], path)
        else:
            expected = " or ".join(_WORDS[choice["type"]] for choice in choices)
            yield Mistake(path, "has a value of another type", expected, _kind(settings))
        return
    if "type" in schema and not _is(settings, schema["type"]):
        expected = _wanted(schema) or _WORDS[schema["type"]]
        yield Mistake(path, "has a value of another type", expected, _kind(settings))
    elif isinstance(settings, dict):
        yield from _in_table(cast("dict[str, Any]", settings), schema, path)
    elif isinstance(settings, list):
        for number, item in enumerate(cast("list[object]", settings)):
            yield from mistakes(item, schema.get("items", {}), (*path, str(number)))
    else:
        yield from _in_value(settings, schema, path)


def _in_table(table: dict[str, Any], schema: JsonObject, path: Path) -> Iterator[Mistake]:
    known: JsonObject = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in table:
            yield Mistake((*path, name), "is missing", _wanted(known[name]) or name, "nothing")
    names: JsonObject = schema.get("propertyNames", {})
    others = schema.get("additionalProperties", True)
    for name, value in table.items():
        if name in known:
            yield from mistakes(value, known[name], (*path, name))
        elif others is False:
            found = "a table" if isinstance(value, dict) else "a setting"
            near = nearest(name, known)
            expected = near or ", ".join(sorted(known))
            yield Mistake((*path, name), "is not known", expected, found, near)
        else:
            if "pattern" in names and not _matches(names["pattern"], name):
                yield Mistake((*path, name), "is no name", names["description"], "another name")
            if isinstance(others, dict):
                yield from mistakes(value, cast("JsonObject", others), (*path, name))


def _in_value(value: object, schema: JsonObject, path: Path) -> Iterator[Mistake]:
    expected, found = _wanted(schema), _kind(value)
    if "enum" in schema and value not in schema["enum"]:
        near = nearest(value, schema["enum"]) if isinstance(value, str) else None
        yield Mistake(path, "has another value than there is", expected, found, near)
    elif isinstance(value, str):
        size, pattern = len(value), schema.get("pattern")
        if not schema.get("minLength", 0) <= size <= schema.get("maxLength", size) or (
            pattern is not None and not _matches(pattern, value)
        ):
            yield Mistake(path, "has a value that it can't have", expected or "other text", found)
    elif isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        expected = f"a number from {schema['minimum']} to {schema['maximum']}"
        yield Mistake(path, "is out of range", expected, str(value))


def _is(value: object, type_: str) -> bool:
    if isinstance(value, bool):
        return type_ == "boolean"
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, _TYPES[type_])


def _matches(pattern: str, text: str) -> bool:
    # ECMA-262's `$`, as in the other schemas: no line feed may precede it.
    return re.search(re.sub(r"(?<!\\)\$", r"\\Z", pattern), text) is not None


def _wanted(schema: JsonObject) -> str:
    """Return what a schema wants, in words."""
    if "enum" in schema:
        return ", ".join(f'"{value}"' for value in schema["enum"])
    examples = schema.get("examples")
    word = _WORDS.get(schema.get("type", ""), "")
    if schema.get("type") == "array" and (inside := _wanted(schema.get("items", {}))):
        word = f"a list of: {inside}"
    if examples:
        example = examples[0]
        return f"{word}, for instance {_toml(example)}"
    return word


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, cast('list[object]', value)))}]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _kind(value: object) -> str:
    """Return a value for a message: text by its length only, since it could be a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, list):
        return f"a list of {len(cast('list[object]', value))}"
    return "a table" if isinstance(value, dict) else "a date or time"


def nearest(name: str, known: Sequence[str] | Mapping[str, object]) -> str | None:
    """Return the known name that was probably meant."""
    from difflib import get_close_matches

    close = get_close_matches(name.replace("-", "_").lower(), list(known), 1, 0.6) or (
        get_close_matches(name.lower(), list(known), 1, 0.6)
    )
    return close[0] if close else None


def elsewhere(mistake: Mistake, schema: JsonObject) -> str | None:
    """Return the table to which an unknown name belongs, where it is the only one or the likely one."""
    name = mistake.path[-1].replace("-", "_")
    if mistake.problem != "is not known":
        return None
    found = [words for words in commands_of(schema) if name in options_of(schema, words)]
    return f"[{'.'.join(found[0])}]" if len(found) == 1 else None


def refusal(
    found: Sequence[Mistake], known: Mapping[Path, int], schema: JsonObject, *, where: str
) -> UsageError:
    """Return the error that says mistakes: the first in full, the others a line each."""
    first, *others = found
    hint = "correct it; airgap config check shows every mistake"
    if first.problem == "is not known":
        hint = "take it out; what is decided each time, such as --force, stands on the command line"
    if first.near:
        hint = f"did you mean {first.near}?"
    elif table := elsewhere(first, schema):
        hint = f"did you mean it to stand under {table}?"
    more = [
        f"{place(one, known)}: {one.problem}" + (f"; did you mean {one.near}?" if one.near else "")
        for one in others[:_MOST_SHOWN]
    ]
    if len(others) > _MOST_SHOWN:
        more.append(f"and {len(others) - _MOST_SHOWN} more: airgap config check")
    return UsageError(
        f"{first.name} in {FILE} {first.problem}",
        where=f"{where}, {place(first, known)}",
        expected=first.expected,
        found=first.found,
        hint=hint,
        details=more,
    )


def place(mistake: Mistake, known: Mapping[Path, int]) -> str:
    """Return ``line 7, import.timeout``."""
    line = line_of(mistake.path, known)
    return f"line {line}, {mistake.name}" if line else mistake.name
