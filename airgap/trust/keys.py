"""Ed25519 keys: made, read, named by their id, and used to sign.

A key id is the SHA-256 of the public key's SubjectPublicKeyInfo in DER (RFC 5280 section 4.1,
for Ed25519 RFC 8410), 64 hexadecimal digits. People see the first 32 in groups of four.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from airgap.bundle.envelope import Signature
from airgap.errors import TrustError, UsageError
from airgap.limits import MAX_KEY_FILE
from airgap.text import printable

ALGORITHM = "ed25519"
"""The one signature algorithm of this version: Ed25519 (RFC 8032, PureEdDSA)."""

Passphrase = Callable[[str], bytes | None]
"""Given what the passphrase is for, returns it, or None where there is none to be had."""

_P = 2**255 - 19


def _small_order_y() -> frozenset[int]:
    """Return the y coordinates below 2**255 that encode points of order 1, 2, 4 and 8.

    Orders 1, 2 and 4 are y = 1, -1 and 0; order 8 follows from doubling to y = 0, which on
    -x² + y² = 1 + d x² y² means y² = -x², so d y⁴ + 2 y² - 1 = 0. Each also has the
    non-canonical form y + p where that is below 2**255.
    """
    d = -121665 * pow(121666, -1, _P) % _P

    def roots(a: int) -> list[int]:
        root = pow(a, (_P + 3) // 8, _P)
        if root * root % _P != a % _P:
            root = root * pow(2, (_P - 1) // 4, _P) % _P
        return [root, _P - root] if root * root % _P == a % _P else []

    order_8 = [y for r in roots(1 + d) for y in roots((r - 1) * pow(d, -1, _P) % _P)]
    points = [0, 1, _P - 1, *order_8]
    return frozenset(v for y in points for v in (y, y + _P) if v < 2**255)


_SMALL_ORDER_Y = _small_order_y()


def _is_on_curve(y: int) -> bool:
    """Tell whether a point has this y: whether (y² - 1) / (d y² + 1) is a square (RFC 8032, 5.1.3)."""
    d = -121665 * pow(121666, -1, _P) % _P
    x_squared = (y * y - 1) * pow(d * y * y + 1, -1, _P) % _P
    return pow(x_squared, (_P - 1) // 2, _P) in (0, 1)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key.

    Args:
        pem: SubjectPublicKeyInfo, PEM.
        key_id: 64 hexadecimal digits.
    """

    pem: str
    key_id: str
    _key: Ed25519PublicKey = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """The key id as people compare it."""
        return fingerprint(self.key_id)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Tell whether ``signature`` is this key's over ``message``."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """A private key, in memory only. Its ``repr`` shows the public key's id."""

    _key: Ed25519PrivateKey
    public: PublicKey

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.key_id})"

    def sign(self, message: bytes) -> Signature:
        """Return this key's signature over a message."""
        return Signature(self.public.key_id, ALGORITHM, self._key.sign(message))


def fingerprint(key_id: str) -> str:
    """Return a key id as people compare it: its first 32 digits in groups of four."""
    return " ".join(key_id[i : i + 4] for i in range(0, 32, 4))


def generate() -> PrivateKey:
    """Return a new key from the system's randomness."""
    return _private(Ed25519PrivateKey.generate())


def from_seed(seed: bytes) -> PrivateKey:
    """Return the key of a 32-byte seed (RFC 8032 section 5.1.5); for test vectors."""
    return _private(Ed25519PrivateKey.from_private_bytes(seed))


def public_from_bytes(data: bytes, *, where: str) -> PublicKey:
    """Return the public key in a file: PEM SubjectPublicKeyInfo, or an OpenSSH ``.pub`` line.

    Raises:
        TrustError: no key, more than one, another algorithm, or a point of small order.
    """
    text = data.strip()
    try:
        if text.startswith(b"-----BEGIN"):
            if text.count(b"-----BEGIN") != 1 or b"-----BEGIN PUBLIC KEY-----" not in text:
                raise ValueError
            key = serialization.load_pem_public_key(text)
        else:
            if len(text.splitlines()) != 1:
                raise ValueError
            key = serialization.load_ssh_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise TrustError(
            "this is not one public key",
            where=where,
            expected="a PEM block PUBLIC KEY, or one line ssh-ed25519 ...",
            found="a private key" if b"PRIVATE KEY" in text else "something else",
            hint="use the .pub file that `airgap key generate` wrote",
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError(
            "the key is of another algorithm",
            where=where,
            expected="Ed25519",
            found=type(key).__name__,
        )
    return _public(key, where=where)


def private_from_bytes(data: bytes, passphrase: Passphrase, *, where: str) -> PrivateKey:
    """Return the private key in a file: PKCS#8 PEM or an OpenSSH private key.

    Raises:
        TrustError: no Ed25519 private key, or the passphrase is missing or wrong.
    """
    is_ssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
    try:
        key = load(data, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as first:
        if not _is_encrypted(data, first):
            raise _not_a_private_key(where) from None
        secret = passphrase(where)
        if not secret:
            raise TrustError(
                "the private key is protected by a passphrase, and none was given",
                where=where,
                hint="run in a terminal, or use --passphrase-file or AIRGAP_PASSPHRASE",
            ) from None
        try:
            key = load(data, password=secret)
        except (ValueError, TypeError):
            raise TrustError(
                "the passphrase does not open the private key",
                where=where,
                hint="try again; nothing was written",
            ) from None
        except UnsupportedAlgorithm:
            raise TrustError(
                "encrypted OpenSSH keys need the bcrypt package, which is not installed",
                where=where,
                hint="install it, or convert a copy: ssh-keygen -p -m PKCS8 -f COPY",
            ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError(
            "the private key is of another algorithm",
            where=where,
            expected="Ed25519",
            found=type(key).__name__,
            hint="make one with `airgap key generate`",
        )
    return _private(key)


def read_private(path: Path, passphrase: Passphrase) -> PrivateKey:
    """Return the private key in a file that nobody else can read.

    Raises:
        UsageError: the file can't be read.
        TrustError: others may read it, or it is no key; see ``private_from_bytes``.
    """
    data = read_small(path, "private key")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise TrustError(
            "the private key can be read by others",
            where=str(path),
            expected="mode 0600",
            found=f"mode {stat.S_IMODE(path.stat().st_mode):04o}",
            hint=f"chmod 600 {path}; if others may have read it, make a new key and revoke this one",
        )
    return private_from_bytes(data, passphrase, where=str(path))


def read_small(path: Path, what: str) -> bytes:
    """Return the content of a small file.

    Raises:
        UsageError: it can't be read, or is larger than ``limits.MAX_KEY_FILE``.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise UsageError(
            f"the {what} can't be read: {error.strerror}", where=printable(str(path), 300)
        ) from None
    if len(data) > MAX_KEY_FILE:
        raise UsageError(f"the {what} file is too large", where=str(path))
    return data


def to_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """Return a private key as PKCS#8 PEM (RFC 5958), encrypted where a passphrase is given."""
    return key._key.private_bytes(  # noqa: SLF001
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )


def _is_encrypted(data: bytes, error: Exception) -> bool:
    return isinstance(error, TypeError) or b"ENCRYPTED" in data or "assword" in str(error)


def _not_a_private_key(where: str) -> TrustError:
    return TrustError(
        "this is not a private key",
        where=where,
        expected="PKCS#8 PEM or an OpenSSH private key, Ed25519",
        hint="name the file that `airgap key generate` wrote, without .pub",
    )


def _private(key: Ed25519PrivateKey) -> PrivateKey:
    return PrivateKey(key, _public(key.public_key(), where="private key"))


def _public(key: Ed25519PublicKey, *, where: str) -> PublicKey:
    y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
    if y in _SMALL_ORDER_Y or y >= _P or not _is_on_curve(y):
        raise TrustError(
            "the public key is a point of small order, not in its one form, or no point at all",
            where=where,
            hint="nobody holds the private half of such a key; ask where it came from",
        )
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PublicKey(pem.decode(), sha256(der).hexdigest(), key)
