"""Recipients' key files: one form, both halves in their order, and nothing that only looks like one."""

import functools
from base64 import encodebytes
from hashlib import sha256

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519

from airgap.errors import SealedError, TrustError, UsageError
from airgap.trust import keys, recipients

P = 2**255 - 19
PLAIN = recipients.from_seeds(b"x" * 32)
HYBRID = recipients.from_seeds(b"y" * 32, b"m" * 64)
BOTH = pytest.mark.parametrize("key", [PLAIN, HYBRID], ids=["x25519", "hybrid"])
DER = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
# The twelve that D. J. Bernstein lists (cr.yp.to/ecdh.html#validate), as numbers below 2**256.
ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
LISTED = [
    0, 1, *ORDER_8, P - 1, P, P + 1, *(P + u for u in ORDER_8), 2 * P - 1, 2 * P, 2 * P + 1
]  # fmt: skip


def no_passphrase(what):
    raise AssertionError(f"asked for {what}")


@BOTH
@pytest.mark.parametrize("secret", [None, b"correct horse"], ids=["plain", "encrypted"])
def test_a_key_file_gives_back_the_key(key, secret):
    data = recipients.to_pem(key, secret)
    assert data.count(b"-----BEGIN") == (2 if key is HYBRID else 1)
    back = recipients.private_from_bytes(data, lambda _: secret, where="test")
    assert back.public == key.public
    assert recipients.to_pem(back, None) == recipients.to_pem(key, None)
    public = recipients.public_from_bytes(key.public.pem.encode(), where="test")
    assert public == key.public


def test_a_key_id_is_the_digest_of_both_halves_in_their_order():
    x = x25519.X25519PrivateKey.from_private_bytes(b"y" * 32).public_key().public_bytes(*DER)
    m = mlkem.MLKEM768PrivateKey.from_seed_bytes(b"m" * 64).public_key().public_bytes(*DER)
    assert HYBRID.public.key_id == sha256(m + x).hexdigest()
    assert recipients.from_seeds(b"y" * 32).public.key_id == sha256(x).hexdigest()
    assert (len(x), len(m)) == (44, 1206)


@pytest.mark.parametrize("u", LISTED)
def test_public_keys_of_small_order_are_refused_in_every_form(u):
    for value in {u, u | 2**255}:
        raw = value.to_bytes(32, "little")
        if value % 2**255 in LISTED:  # else small only where the top bit is not masked off
            with pytest.raises(ValueError, match="shared key"):  # it would be all zero
                x25519.X25519PrivateKey.generate().exchange(
                    x25519.X25519PublicKey.from_public_bytes(raw)
                )
        pem = x25519.X25519PublicKey.from_public_bytes(raw).public_bytes(*PEM)
        with pytest.raises(TrustError, match="small order, or not in its one form"):
            recipients.public_from_bytes(pem, where="test")
        half = HYBRID.public.pem.encode().partition(b"-----END PUBLIC KEY-----\n")
        with pytest.raises(TrustError, match="small order"):
            recipients.public_from_bytes(half[0] + half[1] + pem, where="test")


def test_a_public_key_has_one_form():
    raw = PLAIN.public._x25519.public_bytes_raw()
    twin = (int.from_bytes(raw, "little") | 2**255).to_bytes(32, "little")
    pem = x25519.X25519PublicKey.from_public_bytes(twin).public_bytes(*PEM)
    with pytest.raises(TrustError, match="not in its one form"):
        recipients.public_from_bytes(pem, where="test")


def test_an_ml_kem_key_with_a_coefficient_too_large_is_refused():
    """FIPS 203, 7.2: the check of an encapsulation key."""
    m, x = halves(HYBRID.public.pem.encode())
    der = serialization.load_pem_public_key(m).public_bytes(*DER)
    bad = der[:-1184] + b"\xff" * 1184
    wrong = b"-----BEGIN PUBLIC KEY-----\n" + encodebytes(bad) + b"-----END PUBLIC KEY-----\n"
    with pytest.raises(TrustError, match="not one key"):
        recipients.public_from_bytes(wrong + x, where="test")


def test_an_ml_kem_key_that_hides_nothing_is_refused():
    """With t = 0 the ciphertext is the message and noise, which everybody can round away."""
    _, x = halves(HYBRID.public.pem.encode())
    weak = mlkem.MLKEM768PublicKey.from_public_bytes(bytes(1152) + b"r" * 32).public_bytes(*PEM)
    with pytest.raises(TrustError, match="hides nothing"):
        recipients.public_from_bytes(weak + x, where="test")


def halves(data):
    """Return the PEM blocks of a file."""
    return [b"-----BEGIN " + part for part in data.split(b"-----BEGIN ")[1:]]


def _variants(own, other):
    """Yield what is wrong about a file, and the file."""
    first, second = halves(own)
    yield "only the ML-KEM half", first
    yield "the halves in the other order", second + first
    yield "the first half twice", first + first
    yield "three blocks", first + second + second
    yield "two X25519 keys", second + other
    yield "words before", b"my key\n" + own
    yield "words after", own + b"my key\n"
    yield "words between", first + b"and\n" + second
    yield "cut", own[: len(own) // 2]
    yield "last line missing", own.rstrip(b"\n").rpartition(b"\n")[0]
    yield "nothing", b""
    yield "only spaces", b" \n\n"
    yield "not base64", first.replace(b"\nM", b"\n!", 1) + second
    yield "zero bytes", bytes(200)


@pytest.mark.parametrize(
    ("what", "data"), list(_variants(HYBRID.public.pem.encode(), PLAIN.public.pem.encode()))
)
def test_what_is_not_exactly_a_public_key_file_is_refused(what, data):
    with pytest.raises(TrustError, match="not one key"):
        recipients.public_from_bytes(data, where="test")


@pytest.mark.parametrize(
    ("what", "data"),
    list(_variants(recipients.to_pem(HYBRID, None), recipients.to_pem(PLAIN, None))),
)
def test_what_is_not_exactly_a_private_key_file_is_refused(what, data):
    with pytest.raises(TrustError, match="not one key"):
        recipients.private_from_bytes(data, no_passphrase, where="test")


@pytest.mark.parametrize(
    ("what", "der"),
    [
        ("X448 of 32 bytes", "302e020100300506032b656f04220420" + "79" * 32),
        ("Ed448 of 32 bytes", "302e020100300506032b657104220420" + "79" * 32),
        ("an algorithm that nobody has", "302e020100300506032b657f04220420" + "79" * 32),
    ],
)
def test_a_private_key_that_the_library_can_not_read_is_no_key_and_no_crash(what, der):
    pem = b"-----BEGIN PRIVATE KEY-----\n" + encodebytes(bytes.fromhex(der))
    with pytest.raises(TrustError, match="not one key"):
        recipients.private_from_bytes(
            pem + b"-----END PRIVATE KEY-----\n", no_passphrase, where="test"
        )


@pytest.mark.parametrize("key", [recipients.to_pem(HYBRID, None), HYBRID.public.pem.encode()])
def test_a_hybrid_key_file_where_the_library_has_no_ml_kem_is_said_plainly(monkeypatch, key):
    def missing(*_, **__):
        raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    for name in ("load_pem_private_key", "load_pem_public_key"):
        monkeypatch.setattr(serialization, name, missing)
    monkeypatch.setattr(mlkem.MLKEM768PrivateKey, "from_seed_bytes", missing)
    load = recipients.public_from_bytes
    if b"PRIVATE" in key:
        load = functools.partial(recipients.private_from_bytes, passphrase=no_passphrase)
    with pytest.raises(TrustError, match="no ML-KEM-768"):
        load(key, where="test")


@BOTH
def test_private_and_public_files_are_told_apart(key):
    with pytest.raises(TrustError) as caught:
        recipients.public_from_bytes(recipients.to_pem(key, None), where="test")
    assert "a private key: it never leaves" in caught.value.found
    with pytest.raises(TrustError) as caught:
        recipients.public_from_bytes(recipients.to_pem(key, b"secret"), where="test")
    assert "a private key: it never leaves" in caught.value.found
    with pytest.raises(TrustError) as caught:
        recipients.private_from_bytes(key.public.pem.encode(), no_passphrase, where="test")
    assert caught.value.found == "a public key"


def test_signing_keys_do_not_seal_and_sealing_keys_do_not_sign():
    signer = keys.from_seed(bytes(32))
    with pytest.raises(TrustError, match="not one key to seal to") as caught:
        recipients.public_from_bytes(signer.public.pem.encode(), where="test")
    assert caught.value.found == "Ed25519"
    with pytest.raises(TrustError, match="not one key to seal to"):
        recipients.private_from_bytes(keys.to_pem(signer, None), no_passphrase, where="test")
    with pytest.raises(TrustError):
        keys.public_from_bytes(PLAIN.public.pem.encode(), where="test")
    mixed = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*PEM)
    with pytest.raises(TrustError, match="not one key"):
        recipients.public_from_bytes(mixed + PLAIN.public.pem.encode(), where="test")


@BOTH
def test_a_passphrase_is_asked_for_once_and_a_wrong_one_is_said(key):
    data = recipients.to_pem(key, b"right")
    asked = []

    def answer(what):
        asked.append(what)
        return b"right"

    recipients.private_from_bytes(data, answer, where="the file")
    assert asked == ["the file"]
    with pytest.raises(SealedError, match="does not open the private key"):
        recipients.private_from_bytes(data, lambda _: b"wrong", where="test")
    with pytest.raises(SealedError, match="none was given"):
        recipients.private_from_bytes(data, lambda _: None, where="test")


def test_a_hybrid_file_with_one_half_unprotected_is_refused():
    first, _ = halves(recipients.to_pem(HYBRID, b"secret"))
    _, second = halves(recipients.to_pem(HYBRID, None))
    with pytest.raises(TrustError, match="not one key") as caught:
        recipients.private_from_bytes(first + second, lambda _: b"secret", where="test")
    assert caught.value.found == "one half protected by a passphrase, and one not"


def test_a_private_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(recipients.to_pem(PLAIN, None))
    path.chmod(0o640)
    with pytest.raises(TrustError, match="can be read by others"):
        recipients.read_private(path, no_passphrase)
    path.chmod(0o600)
    assert recipients.read_private(path, no_passphrase).public == PLAIN.public
    with pytest.raises(UsageError, match="can't be read"):
        recipients.read_private(tmp_path / "none.pem", no_passphrase)
