"""Writer and reader: deterministic, complete, bounded."""

import io
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import REPOSITORY, bundle_fields

from airgap import catalog, limits
from airgap.bundle import reader
from airgap.bundle.layout import Header
from airgap.bundle.sealing import FileKey, Sealing, Wrapped
from airgap.bundle.writer import Writer
from airgap.errors import DamagedError, InputRefusedError
from airgap.trust import keys

SCHEMAS = catalog.load()
KEY = keys.from_seed(bytes(32))
_ELEMENTS = st.lists(
    st.dictionaries(
        st.text(max_size=5), st.integers(-(2**63), 2**63 - 1) | st.text(max_size=50), max_size=5
    ),
    max_size=30,
)


def write(elements, header):
    stream = io.BytesIO()
    writer = Writer(stream, header)
    for element in elements:
        writer.add(element)
    writer.finish(bundle_fields(), [KEY.sign])
    return stream


def read(stream):
    file = reader.open_file(stream, name="test", catalog=SCHEMAS)
    return list(reader.elements(file, reader.decode_manifest(file, SCHEMAS)))


@given(_ELEMENTS, st.sampled_from(["zstd", "none"]), st.integers(1, 300))
@settings(max_examples=60)
def test_what_is_written_is_read_and_written_alike_again(elements, compression, chunk_size):
    header = Header("bundle", compression, chunk_size)
    stream = write(elements, header)
    assert read(stream) == elements
    assert write(elements, header).getvalue() == stream.getvalue()


def test_a_bundle_without_records_is_a_bundle():
    assert read(write([], Header("bundle"))) == []


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_size_bound_holds(compression):
    stream = io.BytesIO()
    writer = Writer(stream, Header("bundle", compression, 1000))
    for number in range(500):
        writer.add({"n": str(number) * 7})
    bound = writer.size_at_most
    writer.finish(bundle_fields(), [KEY.sign])
    assert len(stream.getvalue()) <= bound


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_writing_and_reading_keep_memory_bounded(sealed):
    element = {"text": "x" * 1000}
    stream = io.BytesIO()
    file_key = FileKey(b"k" * 32) if sealed else None
    entry = Wrapped("0" * 64, "x25519", bytes(80))
    sealing = Sealing(file_key.commitment, (entry,)) if sealed else None
    tracemalloc.start()
    writer = Writer(stream, Header("bundle", sealing=sealing), file_key)
    for _ in range(20_000):
        writer.add(element)
    writer.finish(bundle_fields(), [KEY.sign])
    file = reader.open_file(stream, name="test", catalog=SCHEMAS)
    manifest = reader.decode_manifest(file, SCHEMAS)
    assert sum(1 for _ in reader.elements(file, manifest, file_key)) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 20 MB of records; a chunk is 1 MiB, and the file itself is a few KB of zstd.
    assert peak < 8 * 1024**2


def test_a_record_beyond_the_limit_is_refused_when_written():
    writer = Writer(io.BytesIO(), Header("bundle"))
    with pytest.raises(InputRefusedError, match="too large"):
        writer.add({"text": "x" * limits.MAX_RECORD_SIZE})


@pytest.mark.parametrize("lie", [-1, 1, 2**30])
def test_a_chunk_that_expands_to_another_size_is_refused_before_it_is_expanded(lie):
    stream = write([{"a": 1}], Header("bundle"))
    file = reader.open_file(stream, name="test", catalog=SCHEMAS)
    manifest = reader.decode_manifest(file, SCHEMAS)
    manifest["chunks"][0]["expanded"] += lie
    with pytest.raises(DamagedError, match="expands to another size"):
        list(reader.elements(file, manifest))


def test_the_specification_gives_the_limits_that_the_code_holds():
    page = (REPOSITORY / "schemas" / "README.md").read_text()
    table = dict(re.findall(r"^\| ([a-z][^|]+?) \| ([0-9,]+)", page, re.MULTILINE))
    given_limits = {name: int(value.replace(",", "")) for name, value in table.items()}
    assert given_limits == {
        "file": limits.MAX_FILE_SIZE,
        "header": limits.MAX_HEADER_SIZE,
        "recipients": limits.MAX_RECIPIENTS,
        "envelope": limits.MAX_ENVELOPE_SIZE,
        "chunk, in the file and expanded": limits.MAX_CHUNK_SIZE,
        "chunks": limits.MAX_CHUNKS,
        "signatures": limits.MAX_SIGNATURES,
        "depth of nesting": limits.MAX_DEPTH,
        "entries of one map": limits.MAX_MAP_ENTRIES,
        "text": limits.MAX_STRING_LENGTH,
        "record or outcome": limits.MAX_RECORD_SIZE,
    }
    for name in ("bundle", "receipt"):
        schema = SCHEMAS.schema(f"{name}-manifest")["properties"]["chunks"]
        assert schema["maxItems"] == limits.MAX_CHUNKS
        for field in ("size", "expanded"):
            assert schema["items"]["properties"][field]["maximum"] == limits.MAX_CHUNK_SIZE
