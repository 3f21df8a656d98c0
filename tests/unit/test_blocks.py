"""Many elements at a time: the same elements, and the same refusal at the same element, as one by one."""

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import limits
from airgap.bundle import blocks, codec
from airgap.errors import DamagedError

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([1.0, 0.5, -0.0, 2.0**62])
    | st.text(max_size=12)
    | st.sampled_from(["π" * 9, b"", b"x", 2**63, 2**63 - 1, msgpack.ExtType(5, b"x")])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
_ODD = (
    b"\xcc\x01", b"\xd0\x01", b"\xd9\x01x", b"\xdc\x00\x01\x01", b"\x82\xa1a\x01\xa1a\x01", b"\x81\x01\x01",
    b"\x81\xc4\x01a\x01", b"\xca\x3f\x80\x00\x00", b"\xcf" + b"\xff" * 8, b"\xd6\xff\0\0\0\x01", b"\xa1\xff",
    b"\xc1", b"\x91" * 600 + b"\x01", b"\xdd\xff\xff\xff\xff",
)  # fmt: skip
_PIECES = st.lists(_VALUES.map(msgpack.packb), max_size=24)


def outcome(elements):
    """Return what an iterator yields, and the message that it ends with."""
    found = []
    try:
        found.extend(repr(element) for element in elements)
    except DamagedError as error:
        return found, (error.message, error.where)
    return found, None


def both(data, count):
    """Return the outcome of one at a time and of many at a time."""
    one = outcome(codec.decode_records(data, count, where="here"))
    made = blocks.decode_blocks(data, count, where="here")
    return one, outcome(element for block in made for element in block.checked())


@pytest.fixture(params=[blocks._PIECE, 16, 5], ids=["whole", "pieces", "small pieces"])
def _pieces(request, monkeypatch):
    monkeypatch.setattr(blocks, "_PIECE", request.param)
    monkeypatch.setattr(blocks, "_BLOCK", 4 * request.param)


@pytest.mark.usefixtures("_pieces")
def test_many_at_a_time_come_to_what_one_at_a_time_comes_to():
    @given(_PIECES, st.none() | st.sampled_from(_ODD), st.data())
    def hold(pieces, odd, data):
        if odd is not None:
            pieces.insert(data.draw(st.integers(0, len(pieces))), odd)
        count = max(0, len(pieces) + data.draw(st.sampled_from([0, 0, 0, 0, 1, -1])))
        encoded = bytearray(codec.array_header(len(pieces)) + b"".join(pieces))
        if data.draw(st.integers(0, 3)) == 0:
            at = data.draw(st.integers(0, len(encoded) - 1))
            encoded[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        one, many = both(bytes(encoded), count)
        assert one == many

    hold()


def test_elements_of_every_size_around_a_piece_are_read_alike():
    sizes = [blocks._PIECE + n for n in (-9, -5, 0, 7)] + [codec.MOST_UNSEEN + n for n in (-4, 1)]
    for size in sizes:
        elements = [{"a": 1}, {"text": "x" * size}, {"b": 2}, {"text": "y" * size}] * 3
        one, many = both(msgpack.packb(elements), 12)
        assert one == many
        assert one == ([repr(e) for e in elements], None)


def test_an_element_with_a_value_in_each_byte_is_refused_as_before_wherever_it_begins():
    """It may not be built unseen, whichever pieces it lies in."""
    many = [[None] * 4000] * 17
    assert len(msgpack.packb(many)) > codec.MOST_UNSEEN
    for before in (0, 1, blocks._PIECE - 2, blocks._PIECE + 2):
        data = msgpack.packb([*(["x" * before] if before else []), many])
        one, found = both(data, 2 if before else 1)
        assert one == found
        assert "more than 65536 values" in one[1][0]


def test_common_blocks_are_full_and_only_a_whole_float_makes_one_inexact():
    elements = [{"n": n, "text": "x" * 40} for n in range(2000)]
    made = list(blocks.decode_blocks(msgpack.packb(elements), 2000, where="here"))
    assert [e for block in made for e in block.elements] == elements
    assert len(made) < 10
    assert all(block.is_exact for block in made)
    for odd in (1.0, 0.0, -0.0, -1.0, 2.0**62, -(2.0**63), 5e15):
        [block] = blocks.decode_blocks(msgpack.packb([{"n": odd}]), 1, where="here")
        assert not block.is_exact


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_whole_float_is_seen(number):
    data = msgpack.packb([[float(number)]])
    assert not any(block.is_exact for block in blocks.decode_blocks(data, 1, where="here"))


def test_a_chunk_of_empty_arrays_takes_few_megabytes():
    """Decoded at once it would take more than 100 MiB."""
    data = codec.array_header(2**20) + b"\x90" * 2**20
    tracemalloc.start()
    count = sum(len(block.elements) for block in blocks.decode_blocks(data, 2**20, where="here"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2**20
    assert peak < 24 * 1024**2
    assert limits.CHUNK_TARGET == 2**20
