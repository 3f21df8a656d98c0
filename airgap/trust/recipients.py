"""Recipients' keys: what a bundle is sealed to, and what opens it.

A file key is wrapped by HPKE (RFC 9180) in base mode with HKDF-SHA256 and ChaCha20-Poly1305. Two
suites differ in the KEM: ``x25519`` is DHKEM(X25519, HKDF-SHA256); ``mlkem768-x25519`` is the hybrid
MLKEM768-X25519 of draft-ietf-hpke-pq (X-Wing), which holds as long as one of ML-KEM-768 (FIPS 203)
and X25519 does.

A key id is the SHA-256 of the public key's SubjectPublicKeyInfo in DER; for the hybrid of both, the
ML-KEM-768 half first, one after the other. Key files hold the same halves in the same order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cryptography.exceptions import InternalError, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from airgap.bundle.sealing import Context, FileKey, Sealing, Wrapped, checked
from airgap.errors import DamagedError, SealedError, TrustError
from airgap.trust.keys import Passphrase, fingerprint, pem_blocks, read_secret, read_small

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mlkem import (
        MLKEM768PrivateKey,
        MLKEM768PublicKey,
    )

Suite = Literal["x25519", "mlkem768-x25519"]
"""How a file key is wrapped; a recipient's key has exactly one."""

SUITES: tuple[Suite, ...] = ("x25519", "mlkem768-x25519")
"""All of them."""

WRAPPED_SIZE: dict[Suite, int] = {"x25519": 80, "mlkem768-x25519": 1168}
"""Bytes of a wrapped file key: encapsulated key (32 or 1,120), 32 bytes, a tag of 16."""

Opener = Callable[[Sealing, Context, str], FileKey]
"""Given a file's sealing, its place and its name, returns its key, or raises SealedError."""

_P = 2**255 - 19
# The u coordinates of points of order 1, 2, 4 and 8 on the curve and on its twist (RFC 7748 section
# 7; D. J. Bernstein, "Curve25519", appendix "How do I validate Curve25519 public keys?"). Multiples
# of p on top of them and a set top bit are refused as not in their one form.
_SMALL_ORDER_U = frozenset(
    {
        0,
        1,
        _P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
_T_SIZE = 1152


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key to seal to.

    Args:
        suite: its one suite.
        pem: SubjectPublicKeyInfo in PEM; for the hybrid two blocks, ML-KEM-768 first.
        key_id: 64 hexadecimal digits.
    """

    suite: Suite
    pem: str
    key_id: str
    _x25519: X25519PublicKey = field(repr=False, compare=False)
    _mlkem: "MLKEM768PublicKey | None" = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """The key id as people compare it."""
        return fingerprint(self.key_id)

    def wrap(self, key: bytes, context: Context) -> Wrapped:
        """Return a file key that only this recipient can unwrap, in this context.

        Raises:
            TrustError: the cryptography library lacks HPKE, or the suite.
        """
        hpke = _hpke()
        public = (
            self._x25519
            if self._mlkem is None
            else hpke.MLKEM768X25519PublicKey(self._mlkem, self._x25519)
        )
        try:
            data: bytes = _suite(hpke, self.suite).encrypt(key, public, context.info)
        except UnsupportedAlgorithm:
            raise _no_post_quantum() from None
        return Wrapped(self.key_id, self.suite, data)


@dataclass(frozen=True, slots=True, repr=False)
class RecipientKey:
    """A private key that opens what is sealed to it, in memory only."""

    public: Recipient
    _x25519: X25519PrivateKey
    _mlkem: "MLKEM768PrivateKey | None"

    def __repr__(self) -> str:
        return f"RecipientKey({self.public.key_id})"

    def unwrap(self, sealing: Sealing, context: Context, *, where: str) -> FileKey:
        """Return the file key that a sealing tells to this key.

        Raises:
            SealedError: the sealing does not name this key.
        TrustError: the library lacks HPKE.
            DamagedError: what it tells does not open, or is not what it commits to.
        """
        entry = next((r for r in sealing.recipients if r.key_id == self.public.key_id), None)
        if entry is None:
            raise cannot_open(sealing, [self.public.key_id], where=where)
        if entry.suite != self.public.suite:
            raise DamagedError(
                "the file key is wrapped in another suite than the recipient's key has",
                where=where,
                expected=self.public.suite,
                found=entry.suite,
            )
        hpke = _hpke()
        private = (
            self._x25519
            if self._mlkem is None
            else hpke.MLKEM768X25519PrivateKey(self._mlkem, self._x25519)
        )
        try:
            key = _suite(hpke, self.public.suite).decrypt(entry.data, private, context.info)
        except UnsupportedAlgorithm:
            raise _no_post_quantum() from None
        except (InvalidTag, ValueError):
            raise DamagedError(
                "the wrapped file key does not open with the key that it names",
                where=where,
                expected=f"one for {self.public.fingerprint}, bundle {context.sequence} of "
                f"{context.source}",
                found="one for another key, or taken from another bundle",
                hint="whoever signed it did not make it as airgap does: ask the source; "
                "nothing of it was taken over",
            ) from None
        return checked(key, sealing, where=where)


def generate(*, hybrid: bool) -> RecipientKey:
    """Return a new key from the system's randomness.

    Raises:
        TrustError: the cryptography library lacks HPKE, or ML-KEM-768 where that is asked for.
    """
    _hpke()
    return _private(X25519PrivateKey.generate(), _new_mlkem() if hybrid else None)


def from_seeds(x25519: bytes, mlkem: bytes | None = None) -> RecipientKey:
    """Return the key of 32 bytes (RFC 7748), and 64 for ML-KEM-768 (FIPS 203); for test vectors."""
    half = None
    if mlkem is not None:
        half = _mlkem_module().MLKEM768PrivateKey.from_seed_bytes(mlkem)
    return _private(X25519PrivateKey.from_private_bytes(x25519), half)


def public_from_bytes(data: bytes, *, where: str) -> Recipient:
    """Return the public key in a file: PEM SubjectPublicKeyInfo, one block or for the hybrid two.

    Raises:
        TrustError: anything else, or a point of small order.
    """
    halves = [
        _loaded(block, serialization.load_pem_public_key, where=where)
        for block in _blocks(data, (b"PUBLIC KEY",), _PUBLIC, where=where)
    ]
    mlkem = _in_order(halves, X25519PublicKey, "MLKEM768PublicKey", _PUBLIC, where=where)
    return _public(halves[-1], mlkem, where=where)


def read_public(path: Path) -> Recipient:
    """Return the public key in a file.

    Raises:
        UsageError: it can't be read.
        TrustError: see ``public_from_bytes``.
    """
    return public_from_bytes(read_small(path, "public key"), where=str(path))


def read_private(path: Path, passphrase: Passphrase) -> RecipientKey:
    """Return the private key in a file that nobody else can read.

    Args:
        path: the file.
        passphrase: asked for when the key is protected.

    Raises:
        UsageError: the file can't be read.
        TrustError: others may read it, or it is no key.
        SealedError: the passphrase is missing or wrong.
    """
    data = read_secret(path, "make a new key and seal to that")
    return private_from_bytes(data, passphrase, where=str(path))


def private_from_bytes(data: bytes, passphrase: Passphrase, *, where: str) -> RecipientKey:
    """Return the private key in a file: PKCS#8 in PEM, one block or for the hybrid two.

    Raises:
        TrustError: anything else.
        SealedError: the passphrase is missing or wrong.
    """
    kinds = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")
    blocks = _blocks(data, kinds, _PRIVATE, where=where)
    protected = [b"ENCRYPTED" in block for block in blocks]
    secret = None
    if any(protected):
        if not all(protected):
            raise _no_key(_PRIVATE, "one half protected by a passphrase, and one not", where=where)
        secret = passphrase(where)
        if not secret:
            raise SealedError(
                "the private key is protected by a passphrase, and none was given",
                where=where,
                hint="run in a terminal, or use --sealing-passphrase-file or "
                "AIRGAP_SEALING_PASSPHRASE",
            )

    def load(block: bytes) -> object:
        try:
            return serialization.load_pem_private_key(block, password=secret)
        except ValueError:
            if secret is None:
                raise
            raise SealedError(
                "the passphrase does not open the private key",
                where=where,
                hint="try again; nothing was written",
            ) from None

    halves: list[Any] = [_loaded(block, load, where=where) for block in blocks]
    mlkem = _in_order(halves, X25519PrivateKey, "MLKEM768PrivateKey", _PRIVATE, where=where)
    return _private(halves[-1], mlkem)


def to_pem(key: RecipientKey, passphrase: bytes | None) -> bytes:
    """Return a private key as PKCS#8 PEM (RFC 5958), encrypted where a passphrase is given."""
    halves: list[Any] = [h for h in (key._mlkem, key._x25519) if h is not None]  # noqa: SLF001
    return b"".join(
        half.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption(),
        )
        for half in halves
    )


def cannot_open(sealing: Sealing, own: list[str], *, where: str) -> SealedError:
    """Return the error for a sealed file that none of one's own keys opens."""
    return SealedError(
        "the bundle is sealed, and no key here opens it",
        where=where,
        expected="the private key of "
        + ", or of ".join(f"{fingerprint(r.key_id)} ({r.suite})" for r in sealing.recipients),
        found=", ".join(map(fingerprint, own)) or "no sealing key",
        hint="open it on the workstation that has the key, or have the source export it sealed to "
        "yours as well (airgap recipient list shows it)",
    )


_PUBLIC = "a PEM block PUBLIC KEY: X25519, or ML-KEM-768 and then X25519"
_PRIVATE = "PKCS#8 in PEM: X25519, or ML-KEM-768 and then X25519"


def _blocks(data: bytes, kinds: tuple[bytes, ...], expected: str, *, where: str) -> list[bytes]:
    """Return a file's PEM blocks, of which there are one or two, and nothing beside them."""
    try:
        return pem_blocks(data.strip(), kinds)
    except ValueError:
        problem = "something else, or something beside the key"
        if b"PRIVATE KEY-----" in data and b"PUBLIC KEY" in kinds:
            problem = "a private key: it never leaves its machine"
        elif b"PUBLIC KEY-----" in data and b"PUBLIC KEY" not in kinds:
            problem = "a public key"
        raise _no_key(expected, problem, where=where) from None


def _loaded(block: bytes, load: Callable[[bytes], object], *, where: str) -> Any:
    """Return a key of whatever algorithm.

    A length that OpenSSL does not expect of the algorithm is an InternalError to the library.
    """
    try:
        return load(block)
    except UnsupportedAlgorithm:
        if not _has_mlkem():
            raise _no_post_quantum(where) from None
    except (ValueError, TypeError, NotImplementedError, InternalError):
        pass
    raise _no_key("a key that can be decoded", "another one", where=where)


def _in_order(halves: list[Any], x25519: type, mlkem: str, expected: str, *, where: str) -> Any:
    """Return the ML-KEM half, or None where there is one half only."""
    found = [type(half).__name__ for half in halves]
    first = halves[0] if len(halves) == 2 else None
    if not isinstance(halves[-1], x25519) or (first is not None and not found[0].endswith(mlkem)):
        raise _no_key(
            expected, " and ".join(found).replace("PublicKey", "").replace("PrivateKey", ""), where
        )
    return first


def _no_key(expected: str, found: str, where: str) -> TrustError:
    return TrustError(
        "this is not one key to seal to, or to open with",
        where=where,
        expected=expected,
        found=found,
        hint="use the file that `airgap recipient generate` wrote; "
        "keys of `airgap key generate` sign and do not seal",
    )


def _private(x25519: X25519PrivateKey, mlkem: Any) -> RecipientKey:
    # Loaded with the key: to open a file takes no other one, and can be confined.
    _hpke()
    public = _public(
        x25519.public_key(), None if mlkem is None else mlkem.public_key(), where="private key"
    )
    return RecipientKey(public, x25519, mlkem)


def _public(x25519: X25519PublicKey, mlkem: Any, *, where: str) -> Recipient:
    u = int.from_bytes(x25519.public_bytes_raw(), "little")
    if u >= _P or u in _SMALL_ORDER_U:
        raise TrustError(
            "the public key is a point of small order, or not in its one form",
            where=where,
            hint="anybody could open what is sealed to such a key; ask where it came from",
        )
    if mlkem is not None and not any(mlkem.public_bytes_raw()[:_T_SIZE]):
        # With t = 0 (FIPS 203, algorithm 14) the ciphertext shows the message but for noise.
        raise TrustError(
            "the ML-KEM-768 half of the public key hides nothing",
            where=where,
            expected="a key whose vector t is not zero",
            hint="nobody made such a key by accident; ask where it came from",
        )
    halves = [x25519] if mlkem is None else [mlkem, x25519]
    der, pem = (
        b"".join(
            h.public_bytes(form, serialization.PublicFormat.SubjectPublicKeyInfo) for h in halves
        )
        for form in (serialization.Encoding.DER, serialization.Encoding.PEM)
    )
    suite: Suite = "x25519" if mlkem is None else "mlkem768-x25519"
    return Recipient(suite, pem.decode(), sha256(der).hexdigest(), x25519, mlkem)


def _suite(hpke: Any, suite: Suite) -> Any:
    kem = hpke.KEM.X25519 if suite == "x25519" else hpke.KEM.MLKEM768_X25519
    return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def _hpke() -> Any:
    try:
        from cryptography.hazmat.primitives import hpke
    except ImportError:
        raise TrustError(
            "this build of the cryptography library has no HPKE, which sealing needs",
            expected="cryptography 47 or newer",
            hint="install the cryptography that requirements.lock names",
        ) from None
    return hpke


def _mlkem_module() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import mlkem
    except ImportError:
        raise _no_post_quantum() from None
    return mlkem


def _has_mlkem() -> bool:
    try:
        _mlkem_module().MLKEM768PrivateKey.from_seed_bytes(bytes(64))
    except (TrustError, UnsupportedAlgorithm):
        return False
    return True


def _new_mlkem() -> Any:
    try:
        return _mlkem_module().MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:
        raise _no_post_quantum() from None


def _no_post_quantum(where: str | None = None) -> TrustError:
    return TrustError(
        "this build of the cryptography library has no ML-KEM-768, which hybrid keys need",
        where=where,
        expected="a build with OpenSSL 3.5 or newer, as the wheels on PyPI are",
        hint="install the cryptography that requirements.lock names, "
        "or make and use an x25519 key (without --hybrid)",
    )
