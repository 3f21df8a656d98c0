"""The field dictionary names every field that can leave, and says why."""

import json

import pytest
from support import REPOSITORY, run

from airgap import catalog, dictionary

SCHEMAS = catalog.load()
PAGE = REPOSITORY / "schemas" / "FIELDS.md"


def named(schema, path=""):
    """Yield every property of a schema, however deep, as the dictionary writes its place."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from named(inner, f"{path}{name}/")
        for place, suffix in (("items", "[]"), ("additionalProperties", "/*")):
            if isinstance(inner.get(place), dict):
                yield from named(inner[place], f"{path}{name}{suffix}/")


def test_the_page_of_fields_is_what_the_schemas_say():
    """Made anew by: airgap fields --markdown > schemas/FIELDS.md."""
    assert PAGE.read_text() == run("fields", "--markdown").stdout


@pytest.mark.parametrize("part", dictionary.parts(SCHEMAS), ids=lambda part: part.name)
def test_every_field_of_a_schema_is_in_the_dictionary_with_its_reason(part):
    name = part.name if part.name in dictionary.AROUND else f"kinds/{part.name}"
    assert [one.path for one in part.fields] == list(named(SCHEMAS.schema(name)))
    assert all(one.why and one.form for one in part.fields)
    shown = run("fields", part.name).stdout
    for one in part.fields:
        assert f"\n  {one.path}\n" in shown


def test_every_kind_is_in_the_dictionary_and_every_field_of_one_has_an_example():
    parts = {part.name: part for part in dictionary.parts(SCHEMAS)}
    for kind in SCHEMAS.kinds:
        for one in parts[kind].fields:
            if "/" in one.path or one.path not in ("tags", "measures", "logs"):
                assert one.example is not None, f"{kind}: {one.path}"
                json.loads(one.example)


def test_a_kind_that_is_not_there_is_named_with_those_that_are():
    refused = run("fields", "nothing", code=2)
    assert "usage_report" in refused.output
