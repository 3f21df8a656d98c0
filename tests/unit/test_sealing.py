"""Sealing: what was put in comes out, only in its place, only with a recipient's key, and whole."""

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import bundle_fields

from airgap import catalog, limits
from airgap.bundle import layout, reader
from airgap.bundle.layout import Header
from airgap.bundle.sealing import TAG_SIZE, Context, FileKey, Sealing, Wrapped, checked
from airgap.bundle.writer import Writer
from airgap.errors import AirgapError, DamagedError, SealedError, TrustError
from airgap.trust import keys, recipients

SCHEMAS = catalog.load()
SIGNER = keys.from_seed(bytes(32))
CONTEXT = Context("bank-a.prod", 1)
X25519 = [recipients.from_seeds(bytes([n]) * 32) for n in range(1, 5)]
HYBRID = [recipients.from_seeds(bytes([n]) * 32, bytes([n]) * 64) for n in range(5, 9)]
_ELEMENTS = st.lists(
    st.dictionaries(
        st.text(max_size=5), st.integers(-(2**63), 2**63 - 1) | st.text(max_size=50), max_size=5
    ),
    min_size=1,
    max_size=30,
)


def sealed(elements, compression="none", chunk_size=64, to=(X25519[0],), key=b"k" * 32):
    """Return a sealed file that a Writer made."""
    file_key = FileKey(key)
    told = tuple(file_key.wrapped_by(r.public.wrap, CONTEXT) for r in to)
    header = Header("bundle", compression, chunk_size, Sealing(file_key.commitment, told))
    stream = io.BytesIO()
    writer = Writer(stream, header, file_key)
    for element in elements:
        writer.add(element)
    bound = writer.size_at_most
    writer.finish(bundle_fields(), [SIGNER.sign])
    assert len(stream.getvalue()) <= bound
    return stream


def opened(stream, key):
    """Return a sealed file's elements, opened with a recipient's key."""
    file = reader.open_file(stream, name="test", catalog=SCHEMAS)
    manifest = reader.decode_manifest(file, SCHEMAS)
    file_key = key.unwrap(file.header.sealing, CONTEXT, where="test")
    return list(reader.elements(file, manifest, file_key))


@given(
    _ELEMENTS,
    st.sampled_from(["zstd", "none"]),
    st.integers(1, 300),
    st.lists(st.sampled_from([*X25519, *HYBRID]), min_size=1, max_size=8, unique_by=id),
    st.binary(min_size=32, max_size=32),
)
@settings(max_examples=40, deadline=None)
def test_what_is_sealed_is_opened_by_every_recipient_and_by_no_other(
    elements, compression, chunk_size, to, key
):
    stream = sealed(elements, compression, chunk_size, to, key)
    for one in to:
        assert opened(stream, one) == elements
    for other in (*X25519, *HYBRID):
        if other not in to:
            with pytest.raises(SealedError, match="no key here opens it"):
                opened(stream, other)
            break


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_chunks_open_only_complete_and_in_their_order(chunks, data):
    key = FileKey(b"k" * 32)
    last = len(chunks) - 1
    shut = [key.seal(n, chunk, last=n == last) for n, chunk in enumerate(chunks)]

    def whole(those):
        end = len(those) - 1
        return [key.open(n, c, last=n == end, where="test") for n, c in enumerate(those)]

    assert whole(shut) == chunks
    order = data.draw(st.lists(st.integers(0, last), min_size=1, max_size=7))
    if order != list(range(len(chunks))):
        with pytest.raises(DamagedError, match="does not open in its place"):
            whole([shut[n] for n in order])


def test_no_two_chunks_of_a_file_share_a_nonce_and_sealing_hides_the_content():
    key = FileKey(b"k" * 32)
    seen = {key.seal(n, b"same", last=last) for n in range(300) for last in (False, True)}
    assert len(seen) == 600
    assert {len(s) for s in seen} == {4 + TAG_SIZE}
    text = {"text": "the customer's own words"}
    assert b"customer" not in sealed([text] * 9).getvalue()


def test_every_byte_of_a_sealed_chunk_counts_and_every_cut_is_refused():
    key = FileKey(b"k" * 32)
    good = key.seal(0, b"a record", last=True)
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1
        for variant in (bytes(bad), good[:position], good[:position] + good[position + 1 :]):
            with pytest.raises(DamagedError):
                key.open(0, variant, last=True, where="test")
    assert key.open(0, good, last=True, where="test") == b"a record"


@pytest.mark.parametrize("own", [X25519[0], HYBRID[0]], ids=["x25519", "hybrid"])
def test_a_wrapped_file_key_opens_only_unchanged_and_in_its_place(own):
    key = FileKey(b"k" * 32)
    entry = key.wrapped_by(own.public.wrap, CONTEXT)
    good = Sealing(key.commitment, (entry,))
    assert own.unwrap(good, CONTEXT, where="test").commitment == key.commitment
    step = 1 if len(entry.data) < 100 else 37
    for position in range(0, len(entry.data), step):
        bad = bytearray(entry.data)
        bad[position] ^= 0x80
        # X25519 ignores the top bit of a coordinate, and HPKE binds it all the same.
        for data in (bytes(bad), entry.data[:position]):
            with pytest.raises(DamagedError, match="does not open with the key that it names"):
                own.unwrap(
                    replace(good, recipients=(replace(entry, data=data),)), CONTEXT, where="test"
                )
    for elsewhere in (Context("bank-a.prod", 2), Context("bank-b.prod", 1)):
        with pytest.raises(DamagedError, match="does not open") as caught:
            own.unwrap(good, elsewhere, where="test")
        assert "taken from another bundle" in caught.value.found


def test_a_file_key_that_the_header_does_not_commit_to_is_refused():
    good = FileKey(b"k" * 32)
    told = Sealing(good.commitment, ())
    assert checked(b"k" * 32, told, where="test").commitment == good.commitment
    for other in (b"K" * 32, b"k" * 31, b"k" * 33, b""):
        with pytest.raises(DamagedError, match="not the one that the header commits to"):
            checked(other, told, where="test")


def test_the_low_order_points_as_encapsulated_key_open_nothing():
    """RFC 9180, 7.1.4: the all-zero shared secret must not be used."""
    own = X25519[0]
    for u in recipients._SMALL_ORDER_U:
        entry = Wrapped(own.public.key_id, "x25519", u.to_bytes(32, "little") + bytes(48))
        with pytest.raises(DamagedError, match="does not open"):
            own.unwrap(Sealing("0" * 64, (entry,)), CONTEXT, where="test")


def test_keys_never_show_in_words():
    key = FileKey(b"k" * 32)
    assert "6b6b" not in repr(key)
    assert "kkkk" not in repr(key)
    assert repr(X25519[0]) == f"RecipientKey({X25519[0].public.key_id})"
    assert "x25519" not in repr(X25519[0])


def test_the_writer_takes_a_key_only_for_a_header_that_seals_and_never_seals_nothing():
    key = FileKey(b"k" * 32)
    told = Sealing(key.commitment, (key.wrapped_by(X25519[0].public.wrap, CONTEXT),))
    with pytest.raises(ValueError, match="file key"):
        Writer(io.BytesIO(), Header("bundle"), key)
    with pytest.raises(ValueError, match="file key"):
        Writer(io.BytesIO(), Header("bundle", sealing=told))
    with pytest.raises(ValueError, match="not sealed"):
        Writer(io.BytesIO(), Header("bundle", sealing=told), key).finish(bundle_fields(), [])


def test_the_reader_never_takes_sealed_chunks_for_plain_ones():
    file = reader.open_file(sealed([{"a": 1}]), name="test", catalog=SCHEMAS)
    manifest = reader.decode_manifest(file, SCHEMAS)
    with pytest.raises(ValueError, match="file key"):
        list(reader.elements(file, manifest))


def test_the_largest_sealing_fits_the_header_and_one_more_recipient_does_not():
    most = [recipients.from_seeds(bytes([n]) * 32, bytes([n]) * 64) for n in range(8)]
    assert len(most) == limits.MAX_RECIPIENTS
    stream = sealed([{"a": 1}], to=most)
    assert opened(stream, most[7]) == [{"a": 1}]
    header = reader.open_file(stream, name="test", catalog=SCHEMAS).header
    assert len(header.encode()) < limits.MAX_HEADER_SIZE
    more = (*header.sealing.recipients, replace(header.sealing.recipients[0], key_id="0" * 64))
    changed = replace(header, sealing=replace(header.sealing, recipients=more))
    with pytest.raises(AirgapError):
        layout.decode_header(changed.encode(), SCHEMAS, where="test")


def test_the_schema_holds_what_the_code_says_of_sealing():
    told = SCHEMAS.schema("header")["properties"]["sealing"]["properties"]
    entries = told["recipients"]
    assert entries["maxItems"] == limits.MAX_RECIPIENTS
    assert entries["items"]["properties"]["suite"]["enum"] == list(recipients.SUITES)
    lengths = "|".join(f"[0-9a-f]{{{2 * size}}}" for size in recipients.WRAPPED_SIZE.values())
    assert entries["items"]["properties"]["wrapped"]["pattern"] == f"^({lengths})$"


def test_where_the_library_has_no_ml_kem_it_is_said_plainly(monkeypatch):
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import mlkem

    class Missing:
        @staticmethod
        def generate():
            raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    monkeypatch.setattr(mlkem, "MLKEM768PrivateKey", Missing)
    with pytest.raises(TrustError, match="no ML-KEM-768") as caught:
        recipients.generate(hybrid=True)
    assert "without --hybrid" in caught.value.hint
    assert recipients.generate(hybrid=False).public.suite == "x25519"
