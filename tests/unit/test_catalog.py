"""The schemas are the single source, and two validators agree on them."""

import json
import re
import socket
from pathlib import Path

import generated
import jsonschema
import outputs
import pytest
from support import REPOSITORY

from airgap import catalog as catalog_module
from airgap.catalog import _fast_validator, _reference_validator
from airgap.errors import AirgapError, InputRefusedError

SCHEMAS = REPOSITORY / "schemas"
NAMES = sorted(
    str(p.relative_to(SCHEMAS))[: -len(".schema.json")]
    for p in SCHEMAS.rglob("*.schema.json")
    if p.parent.name != "output"
)
OUTPUTS = sorted(
    p.name.removesuffix(".schema.json")
    for p in outputs.FOLDER.glob("*.schema.json")
    if p.name != "common.schema.json"
)
CATALOG = catalog_module.load()


def _example(schema):
    """Return a value that passes, made of the schema's own examples."""
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        required = schema.get("required", list(schema.get("properties", {})))
        return {name: _example(schema["properties"][name]) for name in required}
    if kind == "array":
        return [_example(schema["items"])] if schema.get("minItems") else []
    if kind == "integer":
        return schema.get("minimum", 0)
    if schema.get("format") == "date-time":
        return "2026-01-31T09:00:00Z"
    if "64" in schema.get("pattern", ""):
        return "0" * 64
    return {"string": "a", "boolean": False, "null": None}[kind]


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_a_valid_schema_with_only_known_keywords(name):
    schema = CATALOG.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    known = set(
        "$schema $id title description type properties required additionalProperties propertyNames"
        " maxProperties minProperties items minItems maxItems uniqueItems enum const pattern format"
        " minLength maxLength minimum maximum examples anyOf default x-environment".split()
    )

    def walk(part):
        assert part.keys() <= known, part.keys() - known
        for inner in part.get("properties", {}).values():
            walk(inner)
        for key in ("additionalProperties", "propertyNames", "items"):
            if isinstance(part.get(key), dict):
                walk(part[key])
        for inner in part.get("anyOf", ()):
            walk(inner)

    walk(schema)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("kinds/")])
def test_every_field_that_leaves_says_what_it_is(name):
    for field in CATALOG.schema(name)["properties"].values():
        assert field["description"]
        for inner in field.get("properties", {}).values():
            assert inner["description"]


def test_endpoint_catalogue_passes_its_own_schema_and_names_schemas_that_exist():
    endpoints = json.loads((SCHEMAS / "endpoints.json").read_bytes())
    CATALOG.require("endpoints", endpoints, where="endpoints.json")
    assert {f"kinds/{kind}" for kind in endpoints["kinds"]} == {
        n for n in NAMES if n.startswith("kinds/")
    }


@pytest.mark.parametrize(
    "name", ["record", "outcome", *(f"kinds/{kind}" for kind in CATALOG.kinds)]
)
def test_what_checks_many_at_a_time_relies_on_this_of_the_schemas(name):
    """Every number is an integer of 64 bits and has bounds; every listed name may be a name."""
    parts = [CATALOG.schema(name)]
    while parts:
        part = parts.pop()
        types = part["type"] if isinstance(part.get("type"), list) else [part.get("type")]
        assert types != [None] or "enum" in part, part
        assert "number" not in types
        if "integer" in types:
            assert -(2**63) <= part["minimum"] <= part["maximum"] < 2**63, part
        pattern = part.get("propertyNames", {}).get("pattern", "")
        assert all(re.search(pattern, word) for word in part.get("properties", ()))
        if name != "record":
            assert types != ["object"] or "additionalProperties" in part
        parts.extend(part.get("properties", {}).values())
        parts.extend(
            p for k in ("items", "additionalProperties") if isinstance(p := part.get(k), dict)
        )


@pytest.mark.parametrize("kind", list(CATALOG.kinds))
def test_the_payload_made_of_a_schemas_examples_passes_it(kind):
    CATALOG.require(f"kinds/{kind}", _example(CATALOG.schema(f"kinds/{kind}")), where="example")


def disagreements(name: str, count: int) -> list[str]:
    """Return where the two validators part, on a corpus of valid and invalid values for a schema."""
    schema = CATALOG.schema(name) if name in NAMES else outputs.whole(name)
    fast, reference = _fast_validator(schema), _reference_validator(schema)
    found, verdicts = [], set()
    for value in generated.corpus(schema, name, count):
        try:
            verdict = fast.is_valid(value)
        except ValueError:  # as Catalog.is_valid takes it: no value of JSON, such as NaN
            verdict = False
        verdicts.add(verdict)
        errors = [f"{e.json_path}: {e.message}"[:200] for e in reference.iter_errors(value)]
        if verdict == bool(errors):
            found.append(f"{name}: {errors or 'valid'} to jsonschema alone in {value!r}"[:1000])
    assert verdicts == {True, False}, "the corpus shows nothing"
    return found


@pytest.mark.parametrize("name", [*NAMES, *OUTPUTS])
def test_jsonschema_and_jsonschema_rs_come_to_the_same_verdict(name):
    assert disagreements(name, 100 if name in NAMES else 30) == []


@pytest.mark.parametrize("place", ["kinds/usage_report", "outcome", "output-doctor"])
def test_the_two_validators_agree_on_every_odd_time(place):
    """One by one, since each implementation has its own idea of a date-time."""
    field = {"kinds/usage_report": "to_timestamp"}.get(place, "at")
    schema = CATALOG.schema(place) if place in NAMES else outputs.whole("doctor")
    part = {"properties": {field: schema["properties"][field]}}
    fast, reference = _fast_validator(part), _reference_validator(part)
    verdicts = [
        (text, fast.is_valid({field: text}), reference.is_valid({field: text}))
        for text in (*generated.TIMES, *generated.TEXTS)
    ]
    assert [text for text, one, other in verdicts if one != other] == []
    assert 3 < sum(one for _, one, _ in verdicts) < 20


def test_no_schema_trusts_a_validators_own_idea_of_a_format():
    for path in sorted(SCHEMAS.rglob("*.schema.json")):
        parts = [json.loads(path.read_bytes())]
        while parts:
            part = parts.pop()
            if isinstance(part, dict):
                assert "pattern" in part or not isinstance(part.get("format"), str), path
            parts.extend(
                part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
            )


@pytest.mark.soak
def test_the_two_validators_agree_on_ten_thousand_values_for_each_schema():
    for name in (*NAMES, *OUTPUTS):
        assert disagreements(name, 10_000) == []


def test_validation_never_opens_a_connection_for_a_reference(monkeypatch):
    def refuse(*_args):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    schema = {"$ref": "http://127.0.0.1:9/schema.json"}
    with pytest.raises(Exception, match=r"(?i)resol|retriev|unresolvable|ref"):
        list(_reference_validator(schema).iter_errors({}))
    with pytest.raises(Exception, match=r"(?i)resol|retriev|offline|ref"):
        catalog_module._fast_validator(schema)


def test_a_violation_is_named_by_path_expected_and_found_without_the_value():
    payload = _example(CATALOG.schema("kinds/usage_report"))
    payload["measures"] = {"langgraph.platform.runs": "lcl_EXAMPLE_secret"}
    with pytest.raises(InputRefusedError) as caught:
        CATALOG.require("kinds/usage_report", payload, where="usage.jsonl, line 3")
    error = caught.value
    assert "/measures/langgraph.platform.runs" in error.message
    assert (error.where, error.expected) == ("usage.jsonl, line 3", "integer")
    assert "EXAMPLE_secret" not in json.dumps(error.as_json())


def test_no_documented_path_is_the_end_of_another_kinds():
    """The capture endpoint takes a path behind any prefix, and tells the kind by it."""
    paths = [(d.path, kind.name) for kind in CATALOG.kinds.values() for d in kind.dialects.values()]
    assert not [
        (one, other)
        for one, kind in paths
        for other, other_kind in paths
        if kind != other_kind and one.endswith(other)
    ]


def test_schemas_of_a_stranger_beside_the_package_are_not_loaded(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "airgap"
    package.mkdir(parents=True)
    (tmp_path / "site-packages" / "schemas").mkdir()
    (tmp_path / "site-packages" / "schemas" / "endpoints.json").write_text("{}")
    monkeypatch.setattr(catalog_module.resources, "files", lambda _: Path(package))
    with pytest.raises(AirgapError, match="schemas are missing"):
        catalog_module.load.__wrapped__()


def test_samples_are_valid_requests_with_made_up_keys():
    lines = CATALOG.sample_bytes().splitlines()
    assert len(lines) > 20
    assert all(b"EXAMPLE" in line for line in lines)


def test_every_table_becomes_a_kind_whose_payload_it_fills():
    """The fields of ``tables.json`` are those that the kind's schema requires, and no others."""
    tables = json.loads((SCHEMAS / "tables.json").read_bytes())
    CATALOG.require("tables", tables, where="tables.json")
    assert CATALOG.tables == tables["tables"]
    for name, table in tables["tables"].items():
        schema = CATALOG.schema(f"kinds/{table['kind']}")
        filled = set(table["fields"])
        if table["measures"] is not None:
            filled.add(table["measures"]["field"])
        assert filled == set(schema["properties"]), name
        columns = [c for f in table["fields"].values() for c in f["columns"]]
        assert not set(columns) & set(table["left"]), name
