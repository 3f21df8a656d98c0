"""The schemas are the single source, and two validators agree on them."""

import json
import socket
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import REPOSITORY

from airgap import catalog as catalog_module
from airgap.catalog import _reference_validator
from airgap.errors import AirgapError, InputRefusedError

SCHEMAS = REPOSITORY / "schemas"
NAMES = sorted(
    str(p.relative_to(SCHEMAS))[: -len(".schema.json")]
    for p in SCHEMAS.rglob("*.schema.json")
    if p.parent.name != "output"
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


@pytest.mark.parametrize("kind", list(CATALOG.kinds))
def test_the_payload_made_of_a_schemas_examples_passes_it(kind):
    CATALOG.require(f"kinds/{kind}", _example(CATALOG.schema(f"kinds/{kind}")), where="example")


_ODD = st.sampled_from(
    [
        None, True, False, 0, -1, 1, 2**63 - 1, 2**63, 2**64, "", "a", "A", "x" * 300, [], {}, [1],
        "2026-01-31T09:00:00Z", "2026-01-31T09:00:00Z\n", "2026-01-31T09:00:60Z", "2026-02-30T09:00:00Z",
        "0000-01-01T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31t09:00:00z", "2026-01-31T09:00:00+0000",
        "2026-01-31T09:00:00.1234567891Z", "2026-01-31T09:00:00-00:00", "2026-01-31T09:00:00+23:59",
        "af28dfea-5358-463d-a2dc-37df1da72498", "af28dfea-5358-463d-a2dc-37df1da72498\n",
        "AF28DFEA-5358-463D-A2DC-37DF1DA72498", "{af28dfea-5358-463d-a2dc-37df1da7249}",
        "af28dfea5358463da2dc37df1da72498", "0" * 64, "0" * 64 + "\n", "bank-a\n", "-bank", "bank-a",
        "license:" + "0" * 32, "license:" + "0" * 32 + "\n", "utf-8", "*", "😀",
    ]
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_jsonschema_and_jsonschema_rs_come_to_the_same_verdict(name, data):
    schema = CATALOG.schema(name)
    value = (
        _example(schema)
        if name != "endpoints"
        else json.loads((SCHEMAS / "endpoints.json").read_bytes())
    )
    target = value
    for _ in range(data.draw(st.integers(0, 3))):
        if isinstance(target, dict) and target:
            target = target[data.draw(st.sampled_from(sorted(target)))]
    if isinstance(target, dict):
        field = data.draw(st.sampled_from([*sorted(target), "unknown", "bad name"]))
        if data.draw(st.booleans()):
            target.pop(field, None)
        else:
            target[field] = data.draw(_ODD)
    reference = _reference_validator(schema).is_valid(value)
    assert CATALOG.is_valid(name, value) == reference


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
