"""JSON where money is counted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import jsontext

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_VALUES)
def test_canonical_form_is_the_one_that_the_specification_gives_for_python(value):
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert jsontext.canonical(value) == expected.encode()


@given(_VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_parse_understands_every_way_to_write_a_value(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert jsontext.parse(text.encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":1, "a":1}',
        '{"a":{"b":1,"\\u0062":2}}',
        "18446744073709551616",
        "-9223372036854775809",
        '{"n": 100000000000000000000000000000}',
        "NaN",
        "Infinity",
        '"\\ud800"',
        "\ufeff1",
        "01",
        "[1,]",
        "{",
        "",
        "[" * 2000 + "]" * 2000,
    ],
)
def test_parse_refuses_what_two_readers_could_understand_differently(text):
    with pytest.raises(jsontext.NotExactError):
        jsontext.parse(text.encode())


@pytest.mark.parametrize(
    "text", ["1.0", "1e3", "-0.0", '{"a":[{"b":1.5}]}', '{"a":1E400}', "[0.1]"]
)
def test_a_number_with_fraction_or_exponent_never_becomes_canonical(text):
    with pytest.raises(jsontext.NotExactError):
        jsontext.canonical(jsontext.parse(text.encode()))


@pytest.mark.parametrize("value", [{"at": ":1.5"}, ["x,1.5"], "[2e9]", 9007199254740993, 2**63 - 1])
def test_text_that_looks_like_a_fraction_and_large_integers_pass(value):
    assert json.loads(jsontext.canonical(value)) == value
