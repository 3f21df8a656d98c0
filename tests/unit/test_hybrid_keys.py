"""Hybrid keys: Ed25519 and ML-DSA-65, and a signature counts only where both halves verify."""

from base64 import encodebytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import run, trusted

from airgap.bundle.envelope import Envelope, Signature
from airgap.errors import TrustError
from airgap.trust import keys
from airgap.trust.keys import ED25519, HYBRID
from airgap.trust.signatures import right_signatures
from airgap.trust.store import TrustStore

SEED = bytes(range(32))
ALICE = keys.from_seed(SEED, HYBRID)
MESSAGE = b"what is signed"


def public(data: bytes) -> keys.PublicKey:
    return keys.public_from_bytes(data, where="test")


def blocks(pem: str | bytes) -> tuple[bytes, bytes]:
    data = pem.encode() if isinstance(pem, str) else pem
    first, second = data.split(b"-----\n-----")
    return first + b"-----\n", b"-----" + second


def test_a_signature_has_the_documented_size_and_verifies():
    signature = ALICE.sign(MESSAGE)
    assert (signature.algorithm, len(signature.signature)) == (HYBRID, 64 + 3309)
    assert ALICE.public.verifies(signature.signature, MESSAGE)
    assert len(ALICE.public.pem) == 2839


def test_either_half_alone_or_made_for_another_message_is_refused():
    right, other = ALICE.sign(MESSAGE).signature, ALICE.sign(b"another").signature
    for wrong in (right[:64], right[64:], right[:64] + other[64:], other[:64] + right[64:], b""):
        assert not ALICE.public.verifies(wrong, MESSAGE)


@given(position=st.integers(0, 64 + 3309 - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_signature_can_be_changed(position, bit):
    changed = bytearray(ALICE.sign(MESSAGE).signature)
    changed[position] ^= 1 << bit
    assert not ALICE.public.verifies(bytes(changed), MESSAGE)


def test_half_of_a_hybrid_signature_is_no_signature_of_the_ed25519_key_in_it():
    """Otherwise whoever holds a file could strip it to what a weaker key seems to have signed."""
    half = public(blocks(ALICE.public.pem)[0])
    assert half.algorithm == ED25519
    assert half.key_id != ALICE.public.key_id
    assert not half.verifies(ALICE.sign(MESSAGE).signature[:64], MESSAGE)


def test_a_key_that_is_trusted_as_hybrid_accepts_no_signature_that_names_another_algorithm():
    unsigned = Envelope("type", b"payload", ())
    right = ALICE.sign(unsigned.message)
    known = {ALICE.public.key_id: ALICE.public}
    weaker = Signature(right.key_id, ED25519, right.signature[:64])
    for signature in (weaker, Signature(right.key_id, ED25519, right.signature)):
        with pytest.raises(TrustError, match="is wrong"):
            right_signatures(Envelope("type", b"payload", (signature,)), known, where="test")
    envelope = Envelope("type", b"payload", (right,))
    assert right_signatures(envelope, known, where="test") == (right.key_id,)


@pytest.mark.parametrize("passphrase", [None, b"correct horse EXAMPLE"])
def test_a_private_key_survives_its_file_and_the_passphrase_is_asked_for_once(passphrase):
    asked = []

    def answer(what):
        asked.append(what)
        return passphrase

    pem = keys.to_pem(ALICE, passphrase)
    again = keys.private_from_bytes(pem, answer, where="file")
    assert again.public == ALICE.public
    assert len(asked) == (passphrase is not None)
    assert ALICE.public.verifies(again.sign(MESSAGE).signature, MESSAGE)


def test_halves_in_another_order_doubled_mixed_or_with_junk_are_refused():
    bob = keys.from_seed(bytes(32), HYBRID)
    ed, ml = blocks(ALICE.public.pem)
    assert public(ed + ml) == ALICE.public
    assert public(ed + blocks(bob.public.pem)[1]).key_id not in (
        ALICE.public.key_id,
        bob.public.key_id,
    )
    for wrong in (ml, ml + ed, ed + ed, ml + ml, ed + ml + ml, b"junk\n" + ed, ed + b"junk\n" + ml):
        with pytest.raises(TrustError):
            public(wrong)
    pem = keys.to_pem(ALICE, None)
    first, second = blocks(pem)
    for wrong in (second, second + first, first + first, first + b"junk\n" + second, pem + second):
        with pytest.raises(TrustError):
            keys.private_from_bytes(wrong, lambda _: None, where="file")


def test_no_store_holds_a_hybrid_key_and_its_half_as_if_they_were_two():
    half = public(blocks(ALICE.public.pem)[0])
    store = TrustStore({}).with_key(trusted(ALICE, "exporter"))
    with pytest.raises(TrustError, match="twice"):
        store.with_key(trusted(ALICE, "reviewer", public=half))
    bob = public(
        blocks(ALICE.public.pem)[0] + blocks(keys.from_seed(bytes(32), HYBRID).public.pem)[1]
    )
    with pytest.raises(TrustError, match="twice"):
        store.with_key(trusted(ALICE, "reviewer", public=bob))


def test_a_key_of_an_algorithm_that_nobody_has_is_not_blamed_on_a_missing_ml_dsa():
    der = bytes.fromhex("302e020100300506032b657f04220420" + "79" * 32)
    pem = b"-----BEGIN PRIVATE KEY-----\n" + encodebytes(der) + b"-----END PRIVATE KEY-----\n"
    with pytest.raises(TrustError, match="not a private key"):
        keys.private_from_bytes(pem, lambda _: None, where="file")


def test_without_ml_dsa_in_the_library_the_message_says_what_is_missing(monkeypatch, tmp_path):
    def missing():
        raise ImportError

    monkeypatch.setattr(keys, "_mldsa", missing)
    home = tmp_path / "home"
    run("init", "--home", home, "--source", "bank-a")
    result = run("key", "generate", "--home", home, "--hybrid", "--no-passphrase", code=4)
    assert "has no ML-DSA-65" in result.output
    assert run("key", "list", "--home", home).output.startswith("No keys")
