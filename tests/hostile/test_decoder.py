"""Files made to hurt the decoder: each refused, in bounded memory and processor time.

Each file is verified in a process of its own under ``RLIMIT_AS`` and ``RLIMIT_CPU`` (see
``bounded.py``). What a trusted key signs is no better: keys are lost and exporters are taken over.
"""

import hashlib
import json
from pathlib import Path

import msgpack
import pytest
import zstandard
from bounded import MEMORY, Bounded, Verdict
from fuzz import recipes
from fuzz.recipes import MEND_FRAME, MEND_SUMMARY, Recipe

from airgap import limits

GOLDEN = {name: (recipes.VECTORS / name).read_bytes() for name in ("bundle-none.airgap", "bundle-zstd.airgap", "receipt.receipt")}  # fmt: skip
PLAIN, PACKED = (recipes.of_file(GOLDEN[f"bundle-{n}.airgap"]) for n in ("none", "zstd"))
RECEIPT = recipes.of_file(GOLDEN["receipt.receipt"])
PLAIN_START = recipes.second_reader.PREAMBLE + PLAIN.header
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@pytest.fixture(scope="module")
def bounded():
    with Bounded() as server:
        yield server


@pytest.fixture
def judge(bounded, tmp_path):
    def ask(data: bytes, how: str = "verify", *, suffix: str = "airgap", **more) -> Verdict:
        path = tmp_path / f"hostile.{suffix}"
        path.write_bytes(data)
        return bounded.ask(path, how, **more)

    return ask


def refused(verdict: Verdict, *words: str, code: int = 5) -> None:
    assert verdict.exit_code == code, verdict
    for word in words:
        assert word in verdict.text, verdict.text


def manifest(recipe: Recipe) -> dict:
    return msgpack.unpackb(recipe.manifest)


def with_manifest(recipe: Recipe, **changes: object) -> Recipe:
    """Return a recipe whose manifest says something else; digests and counts are still put right."""
    value = {**manifest(recipe), **changes}
    return Recipe(recipe.flags, recipe.header, msgpack.packb(value), recipe.chunks)


def with_chunk(recipe: Recipe, chunk: bytes) -> bytes:
    return recipes.build(Recipe(MEND_FRAME, recipe.header, recipe.manifest, (chunk,)))


def nested(count: int, each: int, leaf: bytes) -> bytes:
    """Return ``count`` arrays of ``each`` leaves, within the limits on a map's or array's entries."""
    inner = b"\xdc" + each.to_bytes(2) + leaf * each
    return b"\xdc" + count.to_bytes(2) + inner * count


# ---- the bounds themselves


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_verify_within_the_bounds(judge, name):
    assert judge(GOLDEN[name], suffix=name.rsplit(".", 1)[1]).error is None


def test_the_bounds_are_felt(judge):
    assert judge(b"", "spend").error == "MemoryError"
    assert judge(b"", "spin", seconds=1).error == "SIGXCPU"


# ---- expansion


@pytest.mark.parametrize("how", ["verify", "look"])
@pytest.mark.parametrize("leaf", [b"\x90", b"\x80", b"\xc0"], ids=["arrays", "maps", "nils"])
def test_a_few_kilobytes_that_expand_to_millions_of_empty_values_are_refused(judge, how, leaf):
    chunk = b"\x91" + nested(4000, 4000, leaf)
    assert 15 * 1024**2 < len(chunk) < limits.MAX_CHUNK_SIZE
    data = with_chunk(PACKED, chunk)
    assert len(data) < 16_384
    refused(judge(data, how), "larger than allowed")


@pytest.mark.parametrize("how", ["verify", "look"])
def test_a_record_of_allowed_size_with_millions_of_values_is_refused(judge, how):
    chunk = b"\x91" + nested(1500, 4000, b"\x80")
    assert 5 * 1024**2 < len(chunk) < limits.MAX_RECORD_SIZE
    refused(judge(with_chunk(PACKED, chunk), how), "more than 65536 values")


def test_a_frame_that_states_a_petabyte_is_refused_before_it_is_expanded(judge):
    # Frame header of RFC 8878, 3.1.1.1: no single segment, content size in 8 bytes.
    frame = ZSTD_MAGIC + b"\xc0\x88" + (2**50).to_bytes(8, "little") + b"\x01\x00\x00"
    refused(judge(_with_stored(frame, 2**50 % limits.MAX_CHUNK_SIZE or 1)), "another size")


def test_a_frame_with_the_largest_window_is_refused_or_read_in_bounded_memory(judge):
    # The window descriptor 0xff says 3.75 TiB (RFC 8878, 3.1.1.1.2), the content size 16 bytes.
    frame = ZSTD_MAGIC + b"\x80\xff" + (16).to_bytes(4, "little") + b"\x03\x00\x00"
    refused(judge(_with_stored(frame, 16)), "chunk")


def test_a_frame_that_holds_more_than_it_states_is_refused(judge):
    plain = PACKED.chunks[0]
    frame = bytearray(zstandard.ZstdCompressor(level=3).compress(plain))
    size = zstandard.frame_content_size(bytes(frame))
    at = bytes(frame).index((size - 256).to_bytes(2, "little"), 4, 12)
    frame[at : at + 2] = (size - 256 - 1).to_bytes(2, "little")
    refused(judge(_with_stored(bytes(frame), size - 1)), "can't be decompressed")


@pytest.mark.parametrize(
    "more",
    [b"\x00", zstandard.ZstdCompressor().compress(b"x"), b"\x50\x2a\x4d\x18\x01\x00\x00\x00x"],
    ids=["a byte", "a second frame", "a skippable frame"],
)
def test_what_follows_a_chunks_frame_is_refused(judge, more):
    frame = zstandard.ZstdCompressor().compress(PACKED.chunks[0])
    refused(judge(_with_stored(frame + more, len(PACKED.chunks[0]))), "can't be decompressed")


@pytest.mark.parametrize("frame", [b"\x50\x2a\x4d\x18\x01\x00\x00\x00x", b"", b"x"])
def test_a_chunk_that_is_no_frame_is_refused(judge, frame):
    if frame:
        refused(judge(_with_stored(frame, 1)), "chunk")
    else:
        refused(judge(_with_stored(frame, 1)), "schema", code=3)


def test_a_frame_without_its_size_and_one_with_a_dictionary_are_refused(judge):
    plain = PACKED.chunks[0]
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    refused(judge(_with_stored(unsized, len(plain))), "another size")
    words = zstandard.ZstdCompressionDict(plain * 2, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    packed = zstandard.ZstdCompressor(dict_data=words).compress(plain)
    verdict = judge(_with_stored(packed, len(plain)))
    refused(verdict)


def _with_stored(stored: bytes, expanded: int) -> bytes:
    """Return a signed bundle with one chunk as it is to stand in the file."""
    start = recipes.second_reader.PREAMBLE + PACKED.header
    entry = {
        "sha256": hashlib.sha256(stored).hexdigest(),
        "size": len(stored),
        "expanded": expanded,
        "records": recipes._count(PACKED.chunks[0]),
    }
    payload = {
        **manifest(PACKED),
        "header_sha256": hashlib.sha256(start).hexdigest(),
        "chunks": [entry],
        "records": entry["records"],
    }
    return _file(start, (stored,), msgpack.packb(payload))


def _file(start: bytes, stored: tuple[bytes, ...], payload: bytes) -> bytes:
    kind = recipes.second_reader.PAYLOAD_TYPE.format("bundle")
    return recipes.assemble(start, stored, kind, payload, ("exporter",))


# ---- lengths and depth


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xdd\xff\xff\xff\xff", id="array of 4 billion"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="map of 4 billion"),
        pytest.param(b"\xdb\xff\xff\xff\xff", id="text of 4 GiB"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="binary of 4 GiB"),
        pytest.param(b"\xc9\xff\xff\xff\xff\x05", id="extension of 4 GiB"),
        pytest.param(b"\x91" * 1_000_000, id="a million arrays in each other"),
        pytest.param(b"\x81\xa1a" * 1_000_000, id="a million maps in each other"),
    ],
)
@pytest.mark.parametrize("part", ["chunk", "manifest", "header", "envelope"])
def test_huge_lengths_and_deep_nesting_are_refused_in_every_part(judge, part, value):
    if part == "header":
        data = recipes.build(Recipe(0, value[:1000], PLAIN.manifest, PLAIN.chunks))
    elif part == "manifest":
        data = recipes.build(Recipe(0, PLAIN.header, value, PLAIN.chunks))
    elif part == "chunk":
        data = with_chunk(PLAIN, b"\x91" + value)
    else:
        start = recipes.second_reader.PREAMBLE + PLAIN.header
        data = start + value + recipes.footer(len(start), len(value))
    verdict = judge(data)
    assert verdict.exit_code in (3, 5), verdict


@pytest.mark.parametrize(
    ("offset", "length"),
    [(2**64 - 1, 27), (0, 2**64 - 1), (2**63, 2**63), (14, 0), (0, 0), (13, 1), (2**64 - 26, 26)],
)
def test_a_footer_that_points_elsewhere_is_refused(judge, offset, length):
    refused(judge(GOLDEN["bundle-none.airgap"][:-26] + recipes.footer(offset, length)))


def test_an_envelope_beyond_the_limit_is_refused_before_it_is_read(judge):
    start = recipes.second_reader.PREAMBLE + PLAIN.header
    length = limits.MAX_ENVELOPE_SIZE + 1
    data = start + b"\0" * length + recipes.footer(len(start), length)
    refused(judge(data, memory=8 * 1024**2), "the envelope is too large")


def test_a_sparse_file_beyond_the_limit_is_refused_before_it_is_read(bounded, tmp_path):
    path = tmp_path / "sparse.airgap"
    with path.open("wb") as file:
        file.write(GOLDEN["bundle-none.airgap"])
        try:
            file.truncate(limits.MAX_FILE_SIZE + 1)
        except OSError:
            pytest.skip("this file system has no sparse files of 8 GiB")
    refused(bounded.ask(path, memory=8 * 1024**2), "too large")


def test_the_largest_envelope_that_is_allowed_is_refused_within_the_bounds(judge):
    """All of it empty maps."""
    room = limits.MAX_ENVELOPE_SIZE - 1000
    payload = b"\x81\xa6chunks" + b"\xdd" + (room - 30).to_bytes(4) + b"\x80" * (room - 30)
    refused(judge(_file(PLAIN_START, (), payload)), "values")


@pytest.mark.parametrize("how", ["verify", "look"])
def test_a_manifest_whose_lists_are_long_and_alike_is_refused_in_bounded_time(judge, how):
    """What words the violation must not compare each element with each other one."""
    names = [{"name": number} for number in range(20_000)]
    data = recipes.build(with_manifest(PLAIN, pseudonymised=names))
    refused(judge(data, how), "/pseudonymised", code=3)


@pytest.mark.parametrize("how", ["verify", "look"])
def test_a_manifest_with_a_hundred_thousand_violations_is_refused_in_bounded_time(judge, how):
    wrong = [{"sha256": "x", "more": number} for number in range(limits.MAX_CHUNKS + 1)]
    value = {**manifest(PLAIN), "chunks": wrong}
    refused(judge(_file(PLAIN_START, (), msgpack.packb(value)), how), "/chunks", code=3)


# ---- values that may not be


@pytest.mark.parametrize("part", ["chunk", "manifest", "header"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xcb\x3f\xf0" + b"\0" * 6, id="1.0"),
        pytest.param(b"\xca\x7f\xc0\0\0", id="NaN"),
        pytest.param(b"\xd4\x05x", id="extension"),
        pytest.param(b"\xd6\xff\0\0\0\x01", id="timestamp"),
        pytest.param(b"\xcf" + b"\xff" * 8, id="2**64-1"),
        pytest.param(b"\xcf\x80" + b"\0" * 7, id="2**63"),
        pytest.param(b"\xa1\xff", id="invalid UTF-8"),
        pytest.param(b"\xa3\xed\xa0\x80", id="surrogate"),
        pytest.param(b"\xa2\xc0\x80", id="overlong NUL"),
        pytest.param(b"\xc4\x01x", id="binary"),
        pytest.param(b"\xcc\x01", id="1 in two bytes"),
        pytest.param(b"\xd9\x01x", id="length in two bytes"),
        pytest.param(b"\x82\xa1a\x01\xa1a\x01", id="duplicate keys"),
        pytest.param(b"\x81\x01\x01", id="integer key"),
        pytest.param(b"\x81\xc4\x01a\x01", id="binary key"),
        pytest.param(b"\xc1", id="reserved byte"),
    ],
)
def test_a_value_that_may_not_be_is_refused_wherever_it_stands(judge, part, value):
    """In the place of a value of the golden file, digests and signatures put right."""
    if part == "header":
        header = _put(PLAIN.header, b"\xa7sealing\xc0", b"\xa7sealing" + value)
        recipe = Recipe(0, header, _frame_for(header), PLAIN.chunks)
    elif part == "manifest":
        payload = _put(PLAIN.manifest, b"\xa7message\xc0", b"\xa7message" + value)
        recipe = Recipe(0, PLAIN.header, payload, PLAIN.chunks)
    else:
        chunks = (_put(PLAIN.chunks[0], b"\xaaoccurrence\x00", b"\xaaoccurrence" + value),)
        recipe = Recipe(MEND_FRAME, PLAIN.header, PLAIN.manifest, chunks)
    verdict = judge(recipes.build(recipe))
    assert verdict.exit_code in (3, 5), verdict


def test_a_float_in_a_receipt_is_refused_though_its_schema_takes_it_for_an_integer(judge):
    status = [b"\xa6status" + msgpack.packb(value) for value in (204, 204.0)]
    chunks = (_put(RECEIPT.chunks[0], *status),)
    recipe = Recipe(MEND_FRAME, RECEIPT.header, RECEIPT.manifest, chunks)
    refused(judge(recipes.build(recipe), suffix="receipt"), "fraction or exponent", code=3)


def _put(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


def _frame_for(header: bytes) -> bytes:
    start = recipes.second_reader.PREAMBLE + header
    return msgpack.packb({**manifest(PLAIN), "header_sha256": hashlib.sha256(start).hexdigest()})


# ---- parts of two valid files


def test_chunks_of_one_valid_bundle_under_the_manifest_of_another_are_refused(judge):
    one = recipes.build(PLAIN)
    other = recipes.build(recipes.small(PLAIN))
    offset = int.from_bytes(other[-24:-16])
    tail = other[offset:-26]
    body = one[: int.from_bytes(one[-24:-16])]
    refused(
        judge(one[: len(body)] + tail + recipes.footer(len(body), len(tail))), "chunks are missing"
    )
    # And where the sizes fit: two bundles that differ in one count.
    changed = tuple(c.replace(b"\x0c", b"\x0d", 1) for c in PLAIN.chunks[:1])
    twin = recipes.build(
        Recipe(
            MEND_FRAME | MEND_SUMMARY, PLAIN.header, PLAIN.manifest, (*changed, *PLAIN.chunks[1:])
        )
    )
    assert len(twin) == len(one)
    assert twin[: len(body)] != body
    refused(judge(twin[: len(body)] + one[len(body) :]), "not the one that was signed")
    refused(judge(one[: len(body)] + twin[len(body) :]), "not the one that was signed")


def test_a_chunk_of_another_valid_bundle_is_refused_where_its_size_fits(judge):
    records = [msgpack.packb([record]) for record in msgpack.unpackb(PLAIN.chunks[0])[:2]]
    first = recipes.build(Recipe(3, PLAIN.header, PLAIN.manifest, (records[0], records[1])))
    second = recipes.build(Recipe(3, PLAIN.header, PLAIN.manifest, (records[1], records[0])))
    assert judge(first).error is None
    assert judge(second).error is None
    start = len(PLAIN_START)
    end = int.from_bytes(first[-24:-16])
    assert len(first) == len(second)
    refused(judge(second[:end] + first[end:]))
    refused(judge(first[:start] + second[start:end] + first[end:]))


def test_chunks_left_out_doubled_or_in_another_order_are_refused(judge):
    data = recipes.build(PLAIN)
    end = int.from_bytes(data[-24:-16])
    packed = [msgpack.packb(chunk) for chunk in PLAIN.chunks]
    assert b"".join(packed) == data[len(PLAIN_START) : end]
    tail = data[end:-26]
    for body in (packed[1:], packed[:-1], [*packed, packed[0]], packed[::-1], []):
        joined = PLAIN_START + b"".join(body)
        refused(judge(joined + tail + recipes.footer(len(joined), len(tail))))


def test_the_header_of_another_valid_bundle_is_refused(judge):
    assert judge(recipes.build(PLAIN)).error is None
    other = _put(PLAIN.header, b"\xa4none", b"\xa4zstd")
    data = recipes.build(PLAIN)
    swapped = data.replace(PLAIN.header, other, 1)
    refused(judge(swapped), "not the one that was signed")


def test_a_receipts_envelope_in_a_bundle_and_the_reverse_are_refused(judge):
    for start, envelope in ((PLAIN, RECEIPT), (RECEIPT, PLAIN)):
        head = recipes.second_reader.PREAMBLE + start.header
        data = recipes.build(envelope)
        tail = data[int.from_bytes(data[-24:-16]) : -26]
        mixed = head + tail + recipes.footer(len(head), len(tail))
        suffix = "airgap" if start is PLAIN else "receipt"
        refused(judge(mixed, suffix=suffix), "another type")


# ---- versions and algorithms


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_format_version_is_refused_though_everything_else_is_signed(judge, version):
    data = GOLDEN["bundle-none.airgap"]
    refused(judge(data[:13] + bytes([version]) + data[14:]), "another format version")


@pytest.mark.parametrize("name", ["airgap/0", "airgap/2", "airgap/1 ", "AIRGAP/1", ""])
@pytest.mark.parametrize("part", ["header", "manifest"])
def test_another_format_name_is_refused_though_it_is_signed(judge, part, name):
    old, new = msgpack.packb("airgap/1"), msgpack.packb(name)
    if part == "header":
        header = _put(PLAIN.header, old, new)
        recipe = Recipe(0, header, _frame_for(header), PLAIN.chunks)
    else:
        recipe = Recipe(0, PLAIN.header, _put(PLAIN.manifest, old, new), PLAIN.chunks)
    refused(judge(recipes.build(recipe)), "/format", code=3)


@pytest.mark.parametrize(
    "algorithm",
    [
        "none",
        "",
        "ED25519",
        "ed25519ph",
        "ed448",
        "ml-dsa-65",
        "ed25519+ml-dsa-65",
        "hmac-sha256",
        "rs256",
    ],
)
def test_a_signature_that_names_another_algorithm_than_its_key_is_refused(judge, algorithm):
    refused(judge(_with_signature(algorithm=algorithm)), "ed25519 signature", code=4)


def test_a_signature_made_with_the_public_key_as_a_secret_is_refused(judge):
    """As tokens were forged where HMAC was verified with the bytes of an RSA key."""
    import hmac

    public = (recipes.VECTORS / "exporter.pub").read_bytes()
    message = recipes.second_reader.pre_authentication_encoding(_TYPE, PLAIN.manifest)
    forged = hmac.digest(public, message, "sha256")
    for signature in (forged, forged * 2, b"", b"\0" * 64, b"\x01" + b"\0" * 63):
        for algorithm in ("ed25519", "hmac-sha256"):
            data = _with_signature(algorithm=algorithm, signature=signature)
            refused(judge(data), "is wrong", code=4)


def test_a_signature_with_s_beyond_the_order_is_refused(judge):
    """The same signature written another way (RFC 8032, 5.1.7 demands S < L)."""
    order = 2**252 + 27742317777372353535851937790883648493
    good = _signature()
    s = int.from_bytes(good[32:], "little") + order
    refused(
        judge(_with_signature(signature=good[:32] + s.to_bytes(32, "little"))), "is wrong", code=4
    )


def test_a_signature_under_another_keys_id_is_refused(judge):
    importer, stranger = (recipes.key(name)[1] for name in ("importer", "stranger"))
    refused(judge(_with_signature(key_id=importer)), "is wrong", code=4)
    refused(judge(_with_signature(key_id=stranger)), "not in the trust store", code=4)
    refused(judge(_with_signature(key_id=recipes.key("exporter")[1].upper())), "not in the", code=4)


def test_nine_signatures_and_a_signature_of_megabytes_are_refused(judge):
    good = {"key_id": recipes.key("exporter")[1], "algorithm": "ed25519", "signature": _signature()}
    refused(judge(_with_signatures([good] * 9)))
    many = [{**good, "key_id": f"{n:064x}"} for n in range(8)]
    refused(judge(_with_signatures(many)), "not in the trust store", code=4)
    refused(judge(_with_signature(signature=b"\0" * 10_000_000)), "is wrong", code=4)
    refused(judge(_with_signature(key_id="\u202e" * 1_000_000)), "not in the", code=4)


_TYPE = recipes.second_reader.PAYLOAD_TYPE.format("bundle")


def _signature() -> bytes:
    message = recipes.second_reader.pre_authentication_encoding(_TYPE, _payload())
    return recipes.key("exporter")[0].sign(message)


def _payload() -> bytes:
    return recipes.second_reader.decode(_envelope(), (str, bytes))["payload"]


def _envelope() -> bytes:
    data = GOLDEN["bundle-none.airgap"]
    return data[int.from_bytes(data[-24:-16]) : -26]


def _with_signature(**changes: object) -> bytes:
    good = {"key_id": recipes.key("exporter")[1], "algorithm": "ed25519", "signature": _signature()}
    return _with_signatures([{**good, **changes}])


def _with_signatures(signatures: list[dict]) -> bytes:
    data = GOLDEN["bundle-none.airgap"]
    body = data[: int.from_bytes(data[-24:-16])]
    value = {"payload_type": _TYPE, "payload": _payload(), "signatures": signatures}
    envelope = msgpack.packb(value)
    return body + envelope + recipes.footer(len(body), len(envelope))


# ---- the trust store


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"[" * 3_000_000, id="deep"),
        pytest.param(b'{"keys":' * 300_000, id="deep objects"),
        pytest.param(b'{"format":"airgap-trust/1","keys":[' + b"{}," * 700_000 + b"{}]}", id="millions of entries"),
        pytest.param(b'{"format":"airgap-trust/1","keys":[' + b"0," * 1_500_000 + b"0]}", id="millions of numbers"),
        pytest.param(b'{"format":' + b"9" * 4_000_000 + b"}", id="a long number"),
        pytest.param(b'{"format":"' + b"\\u0000" * 1_000_000 + b'"}', id="a long text"),
        pytest.param(b"{" + b'"a":1,' * 300_000 + b'"a":1}', id="duplicate keys"),
        pytest.param(b" " * (8 * 1024**2 + 1), id="too large"),
    ],
)  # fmt: skip
def test_a_trust_store_made_to_hurt_is_refused_in_bounded_memory_and_time(judge, text):
    # Much of it is only reserved by the JSON parser: a few bytes for each byte of text.
    refused(judge(text, "trust", memory=6 * MEMORY), "trust store", code=4)


def test_what_is_said_of_a_hostile_file_stays_short(judge):
    name = "\x1b[2J" + "x" * 100_000
    for data in (
        recipes.build(with_manifest(PLAIN, **{name: 1})),
        recipes.build(with_manifest(PLAIN, source=name)),
        with_chunk(PLAIN, msgpack.packb([{name: 1}])),
    ):
        verdict = judge(data)
        refused(verdict, code=3)
        assert len(verdict.text) < 5000
        assert "\x1b" not in json.loads(verdict.text)["message"]


def test_every_golden_file_that_is_to_be_refused_is_refused_within_the_bounds(bounded):
    names = sorted(Path(recipes.VECTORS).glob("refused-*.airgap"))
    assert len(names) > 15
    for path in names:
        assert bounded.ask(path).exit_code in (3, 4, 5), path
