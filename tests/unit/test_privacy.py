"""E-mail addresses and payment card numbers do not leave, and nothing else is taken for them."""

import base64
import gzip
import json
import re
import sys
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from support import report

from airgap import privacy, wire
from airgap.collect.payloads import Rules, records_of
from airgap.errors import InputRefusedError

ADDRESS, CARD = "an e-mail address", "a payment card number"
ADDRESSES = [
    "alice@example.com",
    "a@b.cd",
    "first.last+tag@mail.example.co.uk",
    "o_k-@163.com",
    "ALICE@EXAMPLE.COM",
    "josé@example.com",
    "алиса@пример.рф",
    "用户@例子.中国",
    "bob@xn--e1afmkfd.xn--p1ai",
    "git@github.com",  # of that form, so it is one
]
# The networks' published test numbers, and made-up ones with a right last digit.
CARDS = [
    "4111111111111111",
    "4222222222222",
    "4000000000000000006",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "371449635398431",
    "30569309025904",
    "38520000023237",
    "36227206271667",
    "6011111111111117",
    "3530111333300000",
    "6200000000000005",
    "6759649826438453",
    "6304000000000000",
    "2200000000000004",
    "5019717010103742",
]
GROUPED = [
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "3782 822463 10005",
    "3056-930902-5904",
    "4000 0000 0000 0000 006",
    "4222 2222 2222 2",
]
PLANTS = [(text, ADDRESS) for text in ADDRESSES] + [(text, CARD) for text in CARDS + GROUPED]


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


@pytest.mark.parametrize(("plant", "name"), PLANTS)
def test_it_is_found_in_every_dress(plant, name):
    for text in (
        plant,
        f"<{plant}>",
        f"customer={plant}; declined",
        f"{plant}.",
        f"Traceback:\n  {plant}\n",
        quote(plant, safe=""),
        quote(quote(plant, safe=""), safe=""),
        f"?to={quote(plant)}&x=1",
        escaped(plant),
        f"\\n{plant}",
        json.dumps(json.dumps({"a\n": f"\n{plant}"})),
    ):
        assert privacy.find(text.encode()) == name, text
    for value in (
        {"deep": [{"er": plant}]},
        {plant: 1},
        [plant, plant],
        plant,
        {"a": f"\t{plant}\n"},
        {"url": f"https://h.example/{quote(plant, safe='')}"},
        {"json": json.dumps({"in": f"json\n{plant}"})},
    ):
        assert privacy.find(json.dumps(value).encode()) == name
        assert privacy.find(json.dumps(value, ensure_ascii=False, indent=1).encode()) == name
    assert privacy.find(f'{{"a": "{escaped(plant)}"}}'.encode()) == name
    assert privacy.find(f'{{"a": "https:\\/\\/x\\/{plant}"}}'.encode()) == name


def test_the_first_of_two_equal_keys_is_seen_although_a_parser_drops_it():
    assert privacy.find(b'{"a":"alice@example.com","a":"b"}') == ADDRESS


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # the last digit is wrong
        "9111111111111111",  # nobody issues these
        "411111111111111",  # too short for its issuer
        "04111111111111111",
        "41111111111111110",
        "x4111111111111111",
        "4111111111111111a",
        "0x4111111111111111",
        "0.4111111111111111",
        "sha256:4111111111111111deadbeef",
        "00-0af7651916cd43dd8448eb211c80319c-4111111111111111-01",  # traceparent
        "deadbeef-beef-4123-8123-412345678901",
        "1767657600000000000",
        "1767657600000000",
        "1767657600000",
        "git@host",
        "git@",
        "user@localhost:5432",
        "@example.com",
        "\n@app.route('/x')\n@dataclass.field",
        '{"a":"\\n@app.route"}',
        '{"a":"{\\"b\\":\\"\\\\n@app.route\\"}"}',
        "%0A@app.route",
        "'@scope/package'",
        "@langchain/core@0.3.4",
        "langgraph@1.2.0",
        "langgraph@1.2.0rc1",
        "langgraph@1.2.0.dev1",
        "core@v1.0.dev",
        "image@sha256:0af7651916cd43dd8448eb211c80319c",
        "a@b.c",
        "“@example.com”",
        "https://beacon.example:8443/v1/beacon",
        "http://10.0.0.1:80/",
        '{"n": 4111111111111111, "m": [4111111111111111]}',
        " [4111111111111111]",
    ],
)
def test_what_only_looks_alike_is_no_alarm(text):
    assert privacy.find(text.encode()) is None


_TEXT = st.text(max_size=60)
_PLANT = st.sampled_from(PLANTS)


@given(_TEXT, _PLANT, _TEXT, st.sampled_from(' "\n,;()<>|'))
def test_it_is_found_in_any_text(before, plant, after, edge):
    text = f"{before}{edge}{plant[0]}{edge}{after}"
    assert privacy.find(text.encode(errors="replace")) is not None


@given(st.dictionaries(_TEXT, _TEXT, max_size=4), _TEXT, _PLANT, st.booleans())
def test_it_is_found_in_any_json(value, key, plant, ascii_only):
    text = json.dumps({**value, key: [f" {plant[0]} "]}, ensure_ascii=ascii_only)
    assert privacy.find(text.encode(errors="replace")) is not None


@given(st.binary(max_size=60), _PLANT, st.binary(max_size=60))
def test_it_is_found_between_any_bytes(before, plant, after):
    assert privacy.find(before + b"\0" + plant[0].encode() + b"\0" + after) is not None


@given(_TEXT, _PLANT, st.integers(0, 130), st.booleans(), st.booleans())
def test_it_is_found_in_protobuf_whatever_the_tags_and_lengths_are(other, plant, pad, first, fold):
    plain = " " * pad
    text = f"{plant[0]} {plain}" if first else f"{plain} {plant[0]}"
    request = logs_service_pb2.ExportLogsServiceRequest()
    log = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1, flags=69)
    (log.body.kvlist_value.values.add().value if fold else log.body).string_value = text
    # The tag of attributes is the digit 2, that of the event's name the letter b.
    log.attributes.add(key="1" * 50).value.string_value = other.encode(errors="replace").decode()
    log.event_name = "e" * 52
    assert privacy.find(request.SerializeToString()) is not None


_HEX = st.text("0123456789abcdef", min_size=16, max_size=64)
_HARMLESS = (
    st.uuids().map(str)
    | st.uuids().map(lambda u: u.hex)
    | _HEX.map(lambda h: f"a{h}")
    | st.integers(10**18, 2_199_999_999_999_999_999).map(str)  # 2001 to 2039
    | st.tuples(*[st.integers(0, 999)] * 3).map(lambda v: "langgraph@{}.{}.{}".format(*v))
    | st.from_regex(r"\A[0-9]{8}-([0-9]{4}-){3}[0-9]{12}\Z")
    | st.from_regex(r"\A00-[0-9]{32}-[0-9]{16}-01\Z")
    | st.floats(0, 1).map(str)
)


@given(
    st.lists(_HARMLESS, max_size=8),
    st.lists(st.integers(0, 2**63 - 1)),
    st.sampled_from([", ", "\n", '"', "="]),
)
def test_ids_times_versions_and_measures_are_no_alarm(texts, numbers, edge):
    assert privacy.find(edge.join(texts).encode()) is None
    value = {"texts": texts, "numbers": numbers, **dict.fromkeys(texts, 1)}
    assert privacy.find(json.dumps(value).encode()) is None


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.integers(1, 50))
def test_raw_ids_in_protobuf_are_no_alarm(trace, span, number):
    request = trace_service_pb2.ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for _ in range(number):
        spans.add(trace_id=trace, span_id=span, parent_span_id=span, name="run", kind=1)
    assert privacy.find(request.SerializeToString()) is None


# ---- work


HOSTILE = [
    b"\\", b"%25", b"@", b"a@a.", b"4", b"4000 ", b"400000-", b"a.", b"@a.", b"\\n", b"\\u0040",
    b"%34", b"\x12\x00", b"\x0a\x06aaaaaa", b"\x13", b'"', b"[", b"4000-4000-4000-4000 ", b"\xff",
]  # fmt: skip


def work(data: bytes) -> int:
    """Return how many functions were called and generators resumed while ``data`` was searched."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        privacy.find(data)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("unit", HOSTILE)
def test_twice_the_hostile_text_is_twice_the_work(unit):
    once, twice = (work(unit * (size // len(unit))) for size in (20_000, 40_000))
    assert twice <= 2 * once + 1_000
    assert once <= 40 * 20_000


def test_every_pattern_looks_at_a_bounded_number_of_bytes_from_where_it_starts():
    patterns = [
        pattern
        for value in vars(privacy).values()
        for pattern in (value if isinstance(value, tuple) else [value])
        if isinstance(pattern, re.Pattern) and pattern is not privacy._JSON_STRING
    ]
    assert len(patterns) > 8
    for pattern in patterns:
        _, widest = re._parser.parse(pattern.pattern, pattern.flags).getwidth()
        assert widest <= 600, pattern.pattern


@pytest.mark.parametrize("unit", [b"@", b"\\u0040", b"\x0a\x06aaaaaa", b"@a."])
def test_four_mebibytes_of_hostile_text_end(unit):
    assert privacy.find(unit * (4 * 1024**2 // len(unit))) is None


@given(st.binary(max_size=300))
def test_what_is_read_of_protobuf_is_bounded(data):
    assert sum(map(len, wire.texts(data))) <= 17 * len(data)


def test_messages_within_messages_are_bounded_too():
    data = b"A" * 100
    for _ in range(60):
        length = len(data)
        head = [length] if length < 128 else [length & 127 | 128, length >> 7]
        data = b"\x12" + bytes(head) + data
    assert sum(map(len, wire.texts(data))) <= 17 * len(data)
    assert privacy.find(data.replace(b"A" * 17, b" 4111111111111111")) == CARD


# ---- what collect does with it


def collected(value: object, schemas: object) -> list:
    raw = json.dumps(value).encode()
    rules = Rules(defaults={"license": "license:" + "0" * 32})
    return list(records_of(value, raw, schemas, rules, where="line 1"))


def otlp(body: str | bytes, *, packed: bool = False) -> dict:
    json_text = isinstance(body, str)
    data = body.encode() if json_text else body
    plain = json_text and not packed
    return {
        "kind": "otlp_traces",
        "payload": {
            "content_type": "application/json" if json_text else "application/x-protobuf",
            "content_encoding": "gzip" if packed else "identity",
            "encoding": "utf-8" if plain else "base64",
            "body": body
            if plain
            else base64.b64encode(gzip.compress(data) if packed else data).decode(),
        },
    }


def spans(**fields: object) -> str:
    span = {"traceId": "4" * 32, "spanId": "4111111111111111", **fields}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})


def protobuf_spans(name: str) -> bytes:
    request = trace_service_pb2.ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(
        name=name, span_id=b"41111111", trace_id=b"4111111111111111"[:16], kind=2
    )
    return request.SerializeToString()


@pytest.mark.parametrize(("plant", "name"), [PLANTS[0], (CARDS[0], CARD)])
def test_collect_refuses_personal_data_wherever_it_stands_and_never_shows_it(plant, name, schemas):
    tags = {"langgraph.platform.host": plant, "langgraph.platform.plan": "x"}
    for value in (
        report(1, tags=tags),
        report(1, logs=[{"message": f"for {plant}"}]),
        otlp(spans(name=plant)),
        otlp(spans(name=plant), packed=True),
        otlp(spans(name=f"{escaped(plant)}").replace("\\\\u", "\\u")),
        otlp(protobuf_spans(f"{plant} {'x' * 40}")),
        otlp(protobuf_spans(f"for {plant}"), packed=True),
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": plant}]}]}]},
    ):
        with pytest.raises(InputRefusedError) as caught:
            collected(value, schemas)
        assert name in caught.value.message
        assert plant not in json.dumps(caught.value.as_json())
        assert caught.value.where == "line 1"


@pytest.mark.parametrize(
    "fields",
    [
        {"parentSpanId": "4111111111111111"},
        {"links": [{"traceId": "4" * 32, "spanId": "4111111111111111"}]},
        {"startTimeUnixNano": "4000000000000000006"},
        {"attributes": [{"key": "bytes", "value": {"intValue": "4111111111111111"}}]},
    ],
)
def test_ids_and_numbers_that_are_all_digits_are_no_alarm_in_otlp(fields, schemas):
    assert len(collected(otlp(spans(**fields)), schemas)) == 1
    assert len(collected(otlp(spans(**fields), packed=True), schemas)) == 1
    assert len(collected(json.loads(spans(**fields)), schemas)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": [{"key": "n", "value": {"stringValue": '"spanId":"4111111111111111"'}}]},
        {"attributes": [{"key": "spanId", "value": {"stringValue": "4111111111111111"}}]},
        {'a"spanId': "4111111111111111"},
        {"spanId": "4111-1111-1111-1111"},
    ],
)
def test_a_card_that_only_seems_to_be_an_id_is_refused(fields, schemas):
    with pytest.raises(InputRefusedError, match=CARD):
        collected(otlp(spans(**fields)), schemas)


@pytest.mark.parametrize("form", privacy._CARD_FORMS)
def test_every_form_of_a_card_is_seen_by_the_look_that_comes_first(form):
    for card in (
        "4111111111111",
        "4111111111111111",
        "4111 1111 1111 1",
        "3782-822463-10005",
        "3782 822463 10005",
        "4111 1111 11111",
        "6304000 0000000",
        "630400 0000000000000",
        "6759-6498-2643-8453-123",
    ):
        if form.fullmatch(card.encode()):
            assert privacy._may_hold_card(b"x " + card.encode() + b" y")


def test_what_comes_first_looks_at_data_without_taking_it_apart(monkeypatch):
    monkeypatch.setattr(privacy, "_texts", None)
    assert (
        privacy.find(b'{"langgraph.platform.runs": 12, "at": "2026-01-06T00:00:00.123456Z"}')
        is None
    )
    for data in (
        b'{"a": "b@c.de"}',
        b'{"a": "b\\u0040c.de"}',
        b'{"a": "b%40c.de"}',
        b'{"a": "4111 1111 1111 1111"}',
    ):
        with pytest.raises(TypeError):
            privacy.find(data)


def test_a_message_that_begins_as_json_does_is_searched_as_a_message():
    # Field 4 with a card in it, whose tag is a quotation mark, and field 6 behind it, whose tag is a 2.
    card = b"4111111111111111"
    data = b'"' + bytes([len(card)]) + card + b"2\x01x"
    assert privacy.find(data) == "a payment card number"
