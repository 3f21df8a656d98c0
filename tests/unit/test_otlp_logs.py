"""Logs that leave hold what the operator has named, and nothing else of what the customer wrote."""

import base64
import gzip
import json
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.json.common._log_encoder import encode_logs as to_json
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs as to_protobuf
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from airgap.collect import templates
from airgap.collect.otlp import LogPolicy, filtered
from airgap.collect.payloads import Rules, records_of
from airgap.errors import InputRefusedError, UsageError

JSON, PROTOBUF = "application/json", "application/x-protobuf"
SECRET = "Müller-owes-12345"
POLICY = LogPolicy(
    frozenset({"service.name", "exception.type", "http.status", "ratio", "ok", "run.ended"}),
    ("Run {} failed after {} ms", "Worker started"),
)
NOTHING = LogPolicy(frozenset(), ())


def payload(body: bytes, content_type: str = JSON, *, packed: bool = False) -> dict:
    plain = content_type == JSON and not packed
    data = gzip.compress(body) if packed else body
    return {
        "content_type": content_type,
        "content_encoding": "gzip" if packed else "identity",
        "encoding": "utf-8" if plain else "base64",
        "body": data.decode() if plain else base64.b64encode(data).decode(),
    }


def json_payload(value: object) -> dict:
    return payload(json.dumps(value).encode())


def text(value: str) -> dict:
    return {"stringValue": value}


def attribute(key: str, value: dict | None) -> dict:
    return {"key": key, "value": value}


def export(*logs: dict, **changes: object) -> dict:
    scope = {"scope": {"name": "worker", "version": "1.0"}, "logRecords": list(logs), **changes}
    return {"resourceLogs": [{"scopeLogs": [scope]}]}


def logs_of(result: dict | None) -> list[dict]:
    assert result is not None
    value = json.loads(result["body"])
    return [log for r in value["resourceLogs"] for s in r["scopeLogs"] for log in s["logRecords"]]


def after(log: dict, policy: LogPolicy = POLICY) -> dict:
    """Return what is left of one log record in JSON."""
    [left] = logs_of(filtered(json_payload(export(log)), policy, where="line 1"))
    return left


def decoded(result: dict) -> bytes:
    assert result["content_encoding"] == "identity"
    return base64.b64decode(result["body"]) if result["encoding"] == "base64" else result["body"].encode()  # fmt: skip


# ---- what leaves


def test_a_traceback_in_an_attribute_that_was_not_allowed_never_leaves():
    log = {
        "timeUnixNano": "1767657600000000001",
        "attributes": [
            attribute("exception.stacktrace", text(f"Traceback: {SECRET}")),
            attribute("exception.message", text(SECRET)),
            attribute("exception.type", text("ValueError")),
        ],
        "body": text(f"charge of {SECRET} failed"),
    }
    assert after(log) == {
        "timeUnixNano": "1767657600000000001",
        "attributes": [attribute("exception.type", text("ValueError"))],
    }
    assert after(log, NOTHING) == {"timeUnixNano": "1767657600000000001"}


def test_what_has_a_fixed_form_is_kept():
    log = {
        "timeUnixNano": "1767657600000000001",
        "observedTimeUnixNano": "18446744073709551615",
        "severityNumber": 17,
        "severityText": "ERROR",
        "droppedAttributesCount": 3,
        "flags": 1,
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
    }
    assert after(log, NOTHING) == log


def test_a_body_leaves_only_as_the_template_that_it_fits():
    assert after({"body": text(f"Run {SECRET} failed after 7 ms")}) == {
        "body": text("Run {} failed after {} ms")
    }
    assert after({"body": text("Worker started")}) == {"body": text("Worker started")}
    for body in (
        text("Worker started "),
        text(f"{SECRET} Worker started"),
        text("Run failed after ms"),
        {"arrayValue": {"values": [text("Worker started")]}},
        {"kvlistValue": {"values": [attribute("a", text("Worker started"))]}},
        {"bytesValue": "V29ya2Vy"},
        {"intValue": "5"},
        {},
        None,
    ):
        assert after({"body": body}) == {}


def test_the_first_template_that_fits_is_taken():
    policy = LogPolicy(frozenset(), ("a{}", "{}b", "ab"))
    assert after({"body": text("ab")}, policy) == {"body": text("a{}")}
    assert after({"body": text("xb")}, policy) == {"body": text("{}b")}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"stringValue": ""}, {"stringValue": ""}),
        ({"boolValue": False}, {"boolValue": False}),
        ({"intValue": 7}, {"intValue": "7"}),
        ({"intValue": "-9223372036854775808"}, {"intValue": "-9223372036854775808"}),
        ({"doubleValue": 0.5}, {"doubleValue": 0.5}),
        ({"doubleValue": 1}, {"doubleValue": 1.0}),
        ({"doubleValue": "-Infinity"}, {"doubleValue": "-Infinity"}),
        ({"doubleValue": "NaN"}, {"doubleValue": "NaN"}),
        ({"stringValue": "a", "arrayValue": None, "other": 1}, {"stringValue": "a"}),
        ({"arrayValue": {"values": [text(SECRET)]}}, None),
        ({"kvlistValue": {"values": [attribute("ok", text(SECRET))]}}, None),
        ({"bytesValue": "c2VjcmV0"}, None),
        ({"unknownValue": SECRET}, None),
        ({}, None),
        (None, None),
    ],
)
def test_an_allowed_attribute_is_kept_where_it_is_scalar(value, kept):
    left = after({"attributes": [attribute("ok", value)]})
    assert left == ({"attributes": [attribute("ok", kept)]} if kept else {})


@pytest.mark.parametrize("level", ["TRACE", "info", "Information", "WARN2", "critical", "ERROR4"])
def test_a_known_level_is_kept_as_it_was_written(level):
    assert after({"severityText": level}) == {"severityText": level}


@pytest.mark.parametrize("level", [SECRET, "ERROR ", "ERROR5", "\u0131nfo", "error: x"])
def test_a_severity_text_that_is_no_level_never_leaves(level):
    assert after({"severityText": level}) == {}


def test_numbers_without_a_meaning_leave_nothing_that_was_hidden_in_them():
    assert after({"severityNumber": 25}) == {}
    assert after({"severityNumber": -4}) == {}
    assert after({"flags": 0x41424301}) == {"flags": 1}


def test_an_event_is_named_only_where_its_name_was_allowed():
    assert after({"eventName": "run.ended"}) == {"eventName": "run.ended"}
    assert after({"eventName": SECRET}) == {}


def test_only_the_url_of_a_published_schema_is_kept():
    good = "https://opentelemetry.io/schemas/1.27.0"
    for url, kept in (
        (good, good),
        (f"{good}?{SECRET}", None),
        (f"https://opentelemetry.io/schemas/{SECRET}", None),
        ("https://schemas.example/1.0.0", None),
        (f"https://opentelemetry.io.example/{SECRET}", None),
    ):
        value = export({}, schemaUrl=url)
        value["resourceLogs"][0]["schemaUrl"] = url
        [resource] = json.loads(filtered(json_payload(value), POLICY, where="x")["body"])[
            "resourceLogs"
        ]
        assert resource.get("schemaUrl") == resource["scopeLogs"][0].get("schemaUrl") == kept


def test_resource_and_scope_attributes_are_filtered_like_a_records_own():
    value = export(
        {},
        scope={
            "name": "worker",
            "version": "1.0",
            "attributes": [attribute("ok", {"boolValue": True}), attribute("x", text(SECRET))],
            "droppedAttributesCount": 2,
            "secret": SECRET,
        },
    )
    value["resourceLogs"][0]["resource"] = {
        "attributes": [
            attribute("service.name", text("api")),
            attribute("host.name", text(SECRET)),
        ],
        "entityRefs": [{"type": SECRET}],
    }
    result = filtered(json_payload(value), POLICY, where="x")
    assert json.loads(result["body"]) == {
        "resourceLogs": [
            {
                "resource": {"attributes": [attribute("service.name", text("api"))]},
                "scopeLogs": [
                    {
                        "scope": {
                            "name": "worker",
                            "version": "1.0",
                            "attributes": [attribute("ok", {"boolValue": True})],
                            "droppedAttributesCount": 2,
                        },
                        "logRecords": [{}],
                    }
                ],
            }
        ]
    }


def test_unknown_names_and_unknown_protobuf_fields_stay_behind():
    value = export({"secret": SECRET, "resource_logs": SECRET}, secret=SECRET)
    value["secret"] = value["resourceLogs"][0]["secret"] = SECRET
    assert SECRET not in json.dumps(filtered(json_payload(value), POLICY, where="x"))
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    data = request.SerializeToString()
    unknown = b"\xfa\x3f" + bytes([len(SECRET.encode())]) + SECRET.encode()
    request.resource_logs[0].scope_logs[0].log_records[0].MergeFromString(unknown)
    assert SECRET.encode() in request.SerializeToString()
    result = filtered(payload(request.SerializeToString() + unknown, PROTOBUF), POLICY, where="x")
    assert decoded(result) == data


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"resourceLogs": []},
        {"resourceLogs": None},
        {"resourceLogs": [{"scopeLogs": []}]},
        {"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {"name": "a"}}]}]},
    ],
)
def test_nothing_leaves_where_there_is_no_log(value):
    assert filtered(json_payload(value), POLICY, where="x") is None
    assert filtered(payload(b"", PROTOBUF), POLICY, where="x") is None


# ---- what can't be read is refused


@pytest.mark.parametrize(
    "log",
    [
        {"timeUnixNano": "soon"},
        {"timeUnixNano": 1.5},
        {"timeUnixNano": -1},
        {"timeUnixNano": "18446744073709551616"},
        {"timeUnixNano": "1_0"},
        {"timeUnixNano": "\u0661"},
        {"timeUnixNano": True},
        {"severityNumber": "SEVERITY_NUMBER_INFO"},
        {"severityText": 5},
        {"flags": -1},
        {"droppedAttributesCount": 2**32},
        {"traceId": "0af7651916cd43dd8448eb211c80319"},
        {"traceId": "0af7651916cd43dd8448eb211c80319g"},
        {"traceId": "CvdlGRbNQ92ESOshHIAxnA=="},
        {"spanId": "b7ad6b716920333 "},
        {"spanId": 1234567812345678},
        {"body": "text"},
        {"body": [text("a")]},
        {"body": {"stringValue": "a", "intValue": "1"}},
        {"attributes": {"ok": "a"}},
        {"attributes": ["ok"]},
        {"attributes": [None]},
        {"attributes": [{"key": 1}]},
        {"attributes": [attribute("x", {"boolValue": "true"})]},
        {"attributes": [attribute("x", {"intValue": "9223372036854775808"})]},
        {"attributes": [attribute("x", {"doubleValue": "0.5"})]},
        {"attributes": [attribute("x", {"stringValue": 5})]},
    ],
)
def test_a_log_of_another_form_is_refused_and_not_shown(log):
    with pytest.raises(InputRefusedError) as caught:
        after({**log, "eventName": SECRET})
    assert caught.value.where == "line 1"
    assert SECRET not in json.dumps(caught.value.as_json())


_GOOD = b'{"resourceLogs":[]}'


@pytest.mark.parametrize(
    "changes",
    [
        {"body": "{"},
        {"body": "[]"},
        {"body": '{"resourceLogs":{}}'},
        {"body": '{"resourceLogs":[1]}'},
        {"body": '{"resourceLogs":[],"resourceLogs":[]}'},
        {"body": "[" * 5000},
        {"body": "\ud800"},
        {"body": None},
        {"body": "e30", "encoding": "base64"},
        {"body": "e3 0=", "encoding": "base64"},
        {"content_type": "text/plain"},
        {"content_type": None},
        payload(_GOOD, packed=True) | {"encoding": "utf-8"},
        payload(_GOOD, packed=True) | {"body": base64.b64encode(gzip.compress(_GOOD) * 2).decode()},
        payload(_GOOD, packed=True)
        | {"body": base64.b64encode(gzip.compress(_GOOD)[:-1]).decode()},
        payload(_GOOD, packed=True) | {"body": base64.b64encode(zlib.compress(_GOOD)).decode()},
        payload(b"\xff\xff", PROTOBUF),
        payload(b"\x0a\x05abc", PROTOBUF),
        payload(b'{"resourceLogs":[]}', PROTOBUF),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(changes):
    with pytest.raises(InputRefusedError):
        filtered({**payload(_GOOD), **changes}, POLICY, where="x")


def test_a_body_that_unpacks_to_more_than_64_mebibytes_is_refused():
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join([packer.compress(b" " * 1024**2) for _ in range(65)])
    packed = base64.b64encode(bomb + packer.flush()).decode()
    with pytest.raises(InputRefusedError, match="64 MiB"):
        filtered(payload(_GOOD, packed=True) | {"body": packed}, POLICY, where="x")


def test_a_bomb_of_empty_log_records_is_refused():
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for _ in range(100_000):
        records.add()
    with pytest.raises(InputRefusedError, match="more than 100,000"):
        filtered(payload(request.SerializeToString(), PROTOBUF, packed=True), POLICY, where="x")
    many = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + b"{}," * 2_000_000 + b"{}]}]}]}"
    with pytest.raises(InputRefusedError, match="more than 2,000,000"):
        filtered(payload(many, packed=True), POLICY, where="x")


@pytest.mark.parametrize("field", ["trace_id", "span_id"])
def test_an_id_of_another_length_is_refused_in_protobuf_too(field):
    request = ExportLogsServiceRequest()
    log = request.resource_logs.add().scope_logs.add().log_records.add()
    setattr(log, field, SECRET.encode())
    with pytest.raises(InputRefusedError):
        filtered(payload(request.SerializeToString(), PROTOBUF), POLICY, where="x")


def test_without_the_library_protobuf_is_refused_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.logs.v1", None)
    with pytest.raises(UsageError) as caught:
        filtered(payload(b"", PROTOBUF), POLICY, where="x")
    assert "airgap[otlp]" in caught.value.hint
    assert after({"flags": 1}) == {"flags": 1}


# ---- templates


@given(st.lists(st.text("ab{}", max_size=4), min_size=1, max_size=4), st.data())
def test_a_template_fits_what_it_was_filled_with(pieces, data):
    template = "{}".join(pieces)
    places = template.count("{}")
    texts = [data.draw(st.text("abc\n", max_size=3)) for _ in range(places)]
    filled = "".join(
        piece + fill for piece, fill in zip(template.split("{}"), [*texts, ""], strict=True)
    )
    assert templates.matches(template, filled)


@given(st.text("ab", max_size=5), st.text("ab", max_size=3), st.text("ab", max_size=12))
def test_a_template_fits_nothing_that_does_not_begin_and_end_like_it(first, last, body):
    expected = body.startswith(first) and body.endswith(last) and len(body) >= len(first + last)
    assert templates.matches(f"{first}{{}}{last}", body) == expected
    assert templates.matches(first, body) == (first == body)


def test_a_hostile_text_against_a_hostile_template_ends():
    assert not templates.matches("{}a" * 1_000 + "{}b{}", "a" * 4 * 1024**2)
    assert not templates.matches("{}" + "a" * 5_000 + "b{}", "a" * 4 * 1024**2)


# ---- both encodings, whatever was logged

_KEY = st.sampled_from(["service.name", "ok", "http.status", "message", "user", ""])
_SCALAR = (
    st.text(max_size=8).map(text)
    | st.booleans().map(lambda v: {"boolValue": v})
    | st.integers(-(2**63), 2**63 - 1).map(lambda v: {"intValue": str(v)})
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda v: {"doubleValue": v})
)
_NESTED = st.recursive(
    st.just(text(SECRET)),
    lambda v: (
        st.lists(v, max_size=2).map(lambda x: {"arrayValue": {"values": x}})
        | st.lists(v.map(lambda x: attribute("ok", x)), max_size=2).map(
            lambda x: {"kvlistValue": {"values": x}}
        )
    ),
    max_leaves=4,
).filter(lambda v: "stringValue" not in v)
_ATTRIBUTE = st.builds(attribute, _KEY, _SCALAR | _NESTED) | st.builds(
    attribute, st.sampled_from(["message", SECRET, f"ok.{SECRET}"]), st.just(text(SECRET))
)
_ATTRIBUTES = st.lists(_ATTRIBUTE, max_size=4)
_BODY = st.sampled_from(
    ["Worker started", f"Run {SECRET} failed after {SECRET} ms", SECRET, f"Worker started{SECRET}"]
).map(text) | st.one_of(_SCALAR, _NESTED)
_HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)
_COUNT = st.integers(1, 2**32 - 1)
_LOG = st.fixed_dictionaries(
    {},
    optional={
        "timeUnixNano": st.integers(1, 2**64 - 1).map(str),
        "observedTimeUnixNano": st.integers(1, 2**64 - 1).map(str),
        "severityNumber": st.integers(1, 40),
        "severityText": st.sampled_from(["INFO", "warning", SECRET]),
        "body": _BODY,
        "attributes": _ATTRIBUTES,
        "droppedAttributesCount": _COUNT,
        "flags": _COUNT,
        "traceId": _HEX,
        "spanId": _HEX.map(lambda h: h[:16]),
        "eventName": st.sampled_from(["run.ended", SECRET]),
    },
)
_URL = st.sampled_from(["https://opentelemetry.io/schemas/1.27.0", f"https://{SECRET}.example/1"])
_ABOUT = st.fixed_dictionaries(
    {}, optional={"attributes": _ATTRIBUTES, "droppedAttributesCount": _COUNT}
)
_SCOPE = st.fixed_dictionaries(
    {"logRecords": st.lists(_LOG, max_size=3)},
    optional={
        "scope": _ABOUT.map(lambda a: {"name": "n", **a}),
        "schemaUrl": _URL,
    },
)
_EXPORT = st.lists(
    st.fixed_dictionaries(
        {"scopeLogs": st.lists(_SCOPE, max_size=2)},
        optional={"resource": _ABOUT, "schemaUrl": _URL},
    ),
    max_size=2,
).map(lambda r: {"resourceLogs": r})


def protobuf_of(value: dict) -> bytes:
    """Return an OTLP/JSON export in protobuf, by the library's own mapping of JSON."""
    from google.protobuf import json_format

    value = json.loads(json.dumps(value))
    for resource in value.get("resourceLogs", []):
        for scope in resource.get("scopeLogs", []):
            for log in scope.get("logRecords", []):
                for name in ("traceId", "spanId"):  # the one difference of OTLP's mapping
                    if name in log:
                        log[name] = base64.b64encode(bytes.fromhex(log[name])).decode()
    return json_format.ParseDict(value, ExportLogsServiceRequest()).SerializeToString()


@given(_EXPORT, st.booleans())
def test_a_seeded_secret_is_never_in_what_leaves_and_both_encodings_keep_the_same(value, packed):
    data = json.dumps(value).encode()
    from_json = filtered(payload(data, packed=packed), POLICY, where="x")
    from_protobuf = filtered(
        payload(protobuf_of(value), PROTOBUF, packed=packed), POLICY, where="x"
    )
    assert (from_json is None) == (from_protobuf is None)
    if from_json is None or from_protobuf is None:
        assert not any(s["logRecords"] for r in value["resourceLogs"] for s in r["scopeLogs"])
        return
    for result in (from_json, from_protobuf):
        assert SECRET.encode() not in decoded(result)
        assert SECRET.encode("unicode_escape") not in decoded(result)
        assert filtered(result, POLICY, where="x") == result
    assert protobuf_of(json.loads(from_json["body"])) == decoded(from_protobuf)
    again = json.dumps(value, indent=1, ensure_ascii=False).encode()
    assert filtered(payload(again), POLICY, where="x") == from_json
    kept = logs_of(from_json)
    given_logs = [x for r in value["resourceLogs"] for s in r["scopeLogs"] for x in s["logRecords"]]
    assert [log.get("timeUnixNano") for log in kept] == [x.get("timeUnixNano") for x in given_logs]


@given(st.binary(max_size=120), st.sampled_from([JSON, PROTOBUF]))
def test_any_bytes_are_filtered_or_refused(data, content_type):
    value = payload(data, content_type, packed=True)
    try:
        result = filtered(value, POLICY, where="x")
    except InputRefusedError:
        return
    assert result is None or filtered(result, POLICY, where="x") == result


# ---- with OpenTelemetry's own SDK and encoders


@pytest.fixture
def batch():
    """One log record of an exception, as the SDK makes it."""
    exporter = InMemoryLogRecordExporter()
    resource = Resource({"service.name": "api", "host.name": SECRET})
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    try:
        raise ValueError(f"the account of {SECRET} is closed")
    except ValueError as error:
        provider.get_logger("worker", "1.2.3").emit(
            timestamp=1_767_657_600_000_000_000,
            severity_text="ERROR",
            body=f"Run {SECRET} failed after 12 ms",
            attributes={"http.status": 500, "ratio": 0.5, "user": SECRET, "ok": [SECRET]},
            exception=error,
        )
    provider.shutdown()
    return exporter.get_finished_logs()


def test_an_exception_that_the_sdk_logged_leaves_as_its_type_alone(batch, schemas):
    as_json = json.dumps(to_json(batch).to_dict()).encode()
    as_protobuf = to_protobuf(batch).SerializeToString()
    for data in (as_json, as_protobuf):
        assert b"Traceback" in data
        assert b"12345" in data
    first = filtered(payload(as_json), POLICY, where="x")
    second = filtered(payload(as_protobuf, PROTOBUF, packed=True), POLICY, where="x")
    [log] = logs_of(first)
    found = {a["key"]: a["value"] for a in log["attributes"]}
    assert found == {
        "exception.type": text("ValueError"),
        "http.status": {"intValue": "500"},
        "ratio": {"doubleValue": 0.5},
    }
    assert log["body"] == text("Run {} failed after {} ms")
    assert log["severityText"] == "ERROR"
    assert protobuf_of(json.loads(first["body"])) == decoded(second)
    for result in (first, second):
        assert b"12345" not in decoded(result)
        assert b"Traceback" not in decoded(result)
        line = {"kind": "otlp_logs", "payload": result, "credential": "license:" + "0" * 32}
        [record] = records_of(line, json.dumps(line).encode(), schemas, Rules(), where="x")
        assert record.payload == result
