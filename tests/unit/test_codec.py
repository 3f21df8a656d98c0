"""The encoding: one form for each value, bounded, nothing unknown."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import limits
from airgap.bundle import codec
from airgap.errors import DamagedError

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


def decode(data: bytes) -> object:
    return codec.decode(data, what="test", where="here", max_objects=10_000, binary=True)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(_VALUES.filter(lambda v: _depth(v) <= limits.MAX_DEPTH))
def test_every_value_comes_back_as_it_was(value):
    assert decode(codec.encode(value)) == value


@given(_VALUES, st.data())
def test_no_two_encodings_decode_to_the_same_value(value, data):
    encoded = bytearray(codec.encode(value))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode(bytes(encoded))
    except DamagedError:
        return
    assert codec.encode(changed) == bytes(encoded)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_value_or_the_one_error(data):
    try:
        value = decode(data)
    except DamagedError:
        return
    assert codec.encode(value) == data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("float", msgpack.packb(1.0)),
        ("extension", msgpack.packb(msgpack.ExtType(5, b"x"))),
        ("timestamp", msgpack.packb(msgpack.Timestamp(1))),
        ("duplicate key", b"\x82\xa1a\x01\xa1a\x02"),
        ("integer key", b"\x81\x01\x02"),
        ("binary key", b"\x81\xc4\x01a\x02"),
        ("long form of 1", b"\xcc\x01"),
        ("signed form of 1", b"\xd0\x01"),
        ("long form of a text's length", b"\xd9\x01a"),
        ("long form of an array's count", b"\xdc\x00\x00"),
        ("invalid UTF-8", b"\xa1\xff"),
        ("surrogate", b"\xa3\xed\xa0\x80"),
        ("reserved byte", b"\xc1"),
        ("two values", b"\x01\x02"),
        ("nothing", b""),
        ("an integer beyond 64 bits with a sign", b"\xcf\x80" + bytes(7)),
        ("count beyond the data", b"\xdd\xff\xff\xff\xff"),
        ("length beyond the data", b"\xc6\xff\xff\xff\xff"),
    ],
)
def test_decode_refuses(name, data):
    with pytest.raises(DamagedError):
        decode(data)


def test_decode_refuses_a_map_or_text_beyond_the_limits():
    many = {str(number): None for number in range(limits.MAX_MAP_ENTRIES + 1)}
    for value in (many, "x" * (limits.MAX_STRING_LENGTH + 1)):
        with pytest.raises(DamagedError):
            decode(codec.encode(value))


def test_a_record_beyond_the_limit_is_refused_when_read():
    big = {str(number): "x" * (limits.MAX_STRING_LENGTH // 2) for number in range(4)}
    with pytest.raises(DamagedError, match="larger than allowed"):
        list(codec.decode_records(b"\x91" + codec.encode(big), 1, where="here"))


def test_decode_refuses_a_million_nested_arrays_without_building_them():
    with pytest.raises(DamagedError, match="nested deeper"):
        decode(b"\x91" * 1_000_000)


@pytest.mark.parametrize("innermost", [b"\x90", b"\x80", b"\x91\xc0"])
def test_decode_takes_the_deepest_nesting_that_is_allowed_and_no_deeper(innermost):
    decode(b"\x91" * (limits.MAX_DEPTH - 1) + innermost)
    with pytest.raises(DamagedError, match="nested deeper"):
        decode(b"\x91" * limits.MAX_DEPTH + innermost)


def test_decode_refuses_more_values_than_allowed_without_building_them():
    with pytest.raises(DamagedError, match="more than 10000 values"):
        decode(b"\xdd\x00\x0f\x42\x40" + b"\x90" * 1_000_000)


def test_text_with_the_bytes_of_a_large_integer_and_the_largest_integer_are_read():
    for value in ("Ï\x80 \u03c0 \u03c1", 2**63 - 1, -(2**63)):
        encoded = codec.encode({"a": value})
        assert decode(encoded) == {"a": value}
        assert list(codec.decode_records(b"\x91" + encoded, 1, where="here")) == [{"a": value}]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"\x91\x80", 2),
        (b"\x92\x80\x80", 1),
        (b"\x91\x80\x80", 1),
        (b"\xdc\x00\x01\x80", 1),
        (b"\x80", 1),
        (b"", 1),
        (b"\x91\x82\xa1a\x01\xa1a\x02", 1),
        (b"\x91\xc4\x01a", 1),
        (b"\x91\xc7\x01\x05x", 1),
        (b"\x91\x81\xa1a\xcf\x80" + bytes(7), 1),
    ],
)
def test_records_of_a_chunk_are_refused(data, count):
    with pytest.raises(DamagedError):
        list(codec.decode_records(data, count, where="here"))
