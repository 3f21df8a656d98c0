"""The field dictionary: every field that can leave, why, what it can be, and an example.

It follows from the schemas alone, so it can't differ from what verification lets pass.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airgap.catalog import Catalog, JsonObject

AROUND = {
    "record": "Around each record",
    "header": "At the head of each file, before the chunks",
    "bundle-manifest": "In the manifest, which is signed",
}
"""What leaves beside the kinds' own fields: schema, and where it stands."""

_FORMS = {
    "integer": "whole number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
}


@dataclass(frozen=True, slots=True)
class FieldEntry:
    """One field.

    Args:
        path: where it stands, as ``tags/NAME`` or ``chunks[]/size``; ``*`` is any name.
        why: what its schema says of it.
        form: what its schema lets it be.
        example: one of the schema's examples as JSON, or None where it has none.
    """

    path: str
    why: str
    form: str
    example: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """One kind, or what stands around the records.

    Args:
        name: the kind, or the schema's name.
        title: for people.
        why: what the schema says of it.
        goes_to: addresses to which the importer sends it; none of what stands around records.
        fields: its fields, in the schema's order.
        open_maps: maps in which other names can stand that the site lets leave by name (``--allow``).
    """

    name: str
    title: str
    why: str
    goes_to: tuple[str, ...]
    fields: tuple[FieldEntry, ...]
    open_maps: tuple[str, ...] = ()


def parts(catalog: Catalog) -> list[Part]:
    """Return every kind, in the order of delivery, and then what stands around the records."""
    found: list[Part] = []
    for kind in catalog.kinds.values():
        schema = catalog.schema(f"kinds/{kind.name}")
        found.append(
            Part(
                kind.name,
                str(schema["title"]),
                str(schema["description"]),
                tuple(sorted({f"{catalog.bases[d.base]}{d.path}" for d in kind.dialects.values()})),
                tuple(_fields(schema)),
                tuple(kind.open_maps),
            )
        )
    for name, title in AROUND.items():
        schema = catalog.schema(name)
        found.append(Part(name, title, str(schema["description"]), (), tuple(_fields(schema))))
    return found


def form(schema: JsonObject) -> tuple[str, bool]:
    """Return what a schema lets a value be, and whether that is any text."""
    types = schema.get("type", [])
    kinds = [types] if isinstance(types, str) else list(types)
    if "const" in schema:
        return f"always {schema['const']}", False
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}", False
    if schema.get("format") == "date-time":
        return "time", False
    if schema.get("format") == "uuid":
        return "UUID" + (" or nothing" if "null" in kinds else ""), False
    if "string" in kinds:
        if "pattern" in schema:
            return "text of one form", False
        return f"any text of up to {schema.get('maxLength', 0):,} characters", True
    if schema.get("maxItems") == 0:
        return "an empty list", False
    return _FORMS.get("".join(kinds[:1]), "value"), False


def markdown(catalog: Catalog) -> str:
    """Return the dictionary as a page: ``schemas/FIELDS.md`` is this, and a test holds it so."""
    lines = [
        "# Every field that can leave",
        "",
        "Made from the schemas by `airgap fields --markdown`; `airgap fields KIND` shows the same in a",
        "terminal. A field that is not named here stops a source, but for tags and measures that the site",
        "lets leave by name (`--allow`); the manifest lists those. No field is for a key: keys are taken",
        "out at collection, and a fingerprint stays.",
    ]
    for part in parts(catalog):
        lines += ["", f"## {part.title} (`{part.name}`)", "", _cell(part.why)]
        if part.goes_to:
            lines += ["", "Sent to " + " or ".join(f"`{one}`" for one in part.goes_to) + "."]
        if not part.fields:
            lines += ["", "It has no field: nothing but the key is in the request."]
            continue
        lines += ["", "| field | why | can be | example |", "|---|---|---|---|"]
        for one in part.fields:
            example = "" if one.example is None else f"`{_cell(one.example)}`"
            lines.append(f"| `{one.path}` | {_cell(one.why)} | {_cell(one.form)} | {example} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _fields(schema: JsonObject, path: str = "") -> Iterator[FieldEntry]:
    for name, inner in schema.get("properties", {}).items():
        yield from _field(inner, f"{path}{name}")


def _field(schema: Any, path: str) -> Iterator[FieldEntry]:
    examples = schema.get("examples", ())
    example = json.dumps(examples[0], ensure_ascii=False) if examples else None
    below = [*_fields(schema, f"{path}/")]
    for place, suffix in (("items", "[]"), ("additionalProperties", "/*")):
        inner = schema.get(place)
        if isinstance(inner, dict) and inner.get("properties"):
            below += _fields(inner, f"{path}{suffix}/")
    yield FieldEntry(path, str(schema.get("description", "")), form(schema)[0], example)
    yield from below
