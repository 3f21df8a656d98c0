"""Signing keys: made, read, named by their id, and used.

Two algorithms: ``ed25519`` (RFC 8032, PureEdDSA) and the hybrid ``ed25519+ml-dsa-65``, which adds
ML-DSA-65 (FIPS 204), so that a signature stands as long as one of the two does. Both of its halves
sign, and both must verify.

A key id is the SHA-256 of the public key's SubjectPublicKeyInfo in DER (RFC 5280 section 4.1; RFC 8410,
RFC 9881), of a hybrid key of both, one after the other; 64 hexadecimal digits. People see the first
32 in groups of four.
"""

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from airgap.bundle.envelope import Signature
from airgap.errors import TrustError, UsageError
from airgap.limits import MAX_KEY_FILE
from airgap.text import printable
from airgap.trust.points import is_sound

# The last two for keys of other algorithms: a point that OpenSSH's format has and cryptography can't
# read, and a length that OpenSSL does not expect.
_UNREADABLE = (ValueError, UnsupportedAlgorithm, NotImplementedError, InternalError)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

ED25519: Final = "ed25519"
"""Ed25519 (RFC 8032, PureEdDSA); signatures of 64 bytes."""

HYBRID: Final = "ed25519+ml-dsa-65"
"""Ed25519 and ML-DSA-65 (FIPS 204) over one message; signatures of 64 + 3,309 bytes."""

Algorithm = Literal["ed25519", "ed25519+ml-dsa-65"]

Passphrase = Callable[[str], bytes | None]
"""Given what the passphrase is for, returns it, or None where there is none to be had."""

_ED25519_SIZE = 64
_RHO_SIZE = 32
_HYBRID_PREFIX = b"airgap ed25519+ml-dsa-65 v1\x00"
_BLOCK = re.compile(
    rb"\s*(-----BEGIN ([A-Z ]+)-----\r?\n[A-Za-z0-9+/=\r\n]+-----END \2-----)\s*", re.ASCII
)
_EXPECTED = (
    "PKCS#8 PEM or an OpenSSH private key, Ed25519, or two PEM blocks, Ed25519 and ML-DSA-65"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key.

    Args:
        pem: SubjectPublicKeyInfo, PEM; of a hybrid key two blocks, Ed25519 first.
        key_id: 64 hexadecimal digits.
        algorithm: the one that it verifies.
        halves: the key id that each of its parts has, or would have, by itself.
    """

    pem: str
    key_id: str
    algorithm: Algorithm
    halves: frozenset[str]
    _classical: Ed25519PublicKey = field(repr=False, compare=False)
    _quantum: "MLDSA65PublicKey | None" = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """The key id as people compare it."""
        return fingerprint(self.key_id)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Tell whether ``signature`` is this key's over ``message``; of a hybrid key, both parts."""
        try:
            if self._quantum is None:
                self._classical.verify(signature, message)
            else:
                both = _HYBRID_PREFIX + message
                self._classical.verify(signature[:_ED25519_SIZE], both)
                self._quantum.verify(signature[_ED25519_SIZE:], both)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """A private key, in memory only. Its ``repr`` shows the public key's id."""

    _classical: Ed25519PrivateKey
    _quantum: "MLDSA65PrivateKey | None"
    public: PublicKey

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.key_id})"

    def sign(self, message: bytes) -> Signature:
        """Return this key's signature over a message; a hybrid one differs each time."""
        if self._quantum is None:
            made = self._classical.sign(message)
        else:
            both = _HYBRID_PREFIX + message
            made = self._classical.sign(both) + self._quantum.sign(both)
        return Signature(self.public.key_id, self.public.algorithm, made)


def fingerprint(key_id: str) -> str:
    """Return a key id as people compare it: its first 32 digits in groups of four."""
    return " ".join(key_id[i : i + 4] for i in range(0, 32, 4))


def generate(algorithm: Algorithm = ED25519) -> PrivateKey:
    """Return a new key from the system's randomness.

    Raises:
        TrustError: the cryptography library has no ML-DSA-65, and the key is to be a hybrid one.
    """
    if algorithm == ED25519:
        return _private(Ed25519PrivateKey.generate(), None)
    try:
        return _private(Ed25519PrivateKey.generate(), _mldsa().MLDSA65PrivateKey.generate())
    except (ImportError, UnsupportedAlgorithm):
        raise _without_quantum("a hybrid key") from None


def from_seed(seed: bytes, algorithm: Algorithm = ED25519) -> PrivateKey:
    """Return the key of a 32-byte seed (RFC 8032 section 5.1.5, FIPS 204 section 5.1); for test vectors."""
    quantum = None if algorithm == ED25519 else _mldsa().MLDSA65PrivateKey.from_seed_bytes(seed)
    return _private(Ed25519PrivateKey.from_private_bytes(seed), quantum)


def public_from_bytes(data: bytes, *, where: str) -> PublicKey:
    """Return the public key in a file.

    That is one PEM SubjectPublicKeyInfo or an OpenSSH ``.pub`` line (Ed25519), or two PEM blocks,
    Ed25519 and ML-DSA-65 (hybrid).

    Raises:
        TrustError: no key, too many, another algorithm, or a point of small order.
    """
    text = data.strip()
    try:
        if text.startswith(b"-----BEGIN"):
            found: Sequence[Any] = [
                serialization.load_pem_public_key(block)
                for block in pem_blocks(text, (b"PUBLIC KEY",))
            ]
        else:
            if len(text.splitlines()) != 1:
                raise ValueError
            found = [serialization.load_ssh_public_key(text)]
    except _UNREADABLE as error:
        if isinstance(error, UnsupportedAlgorithm) and not _has_mldsa():
            raise _without_quantum(where) from None
        raise TrustError(
            "this is not one public key",
            where=where,
            expected="a PEM block PUBLIC KEY, two of them (a hybrid key), or one line ssh-ed25519 ...",
            found="a private key" if b"PRIVATE KEY" in text else "something else",
            hint="use the .pub file that `airgap key generate` wrote",
        ) from None
    classical, quantum = _halves(found, Ed25519PublicKey, "MLDSA65PublicKey", where, "the key")
    return _public(classical, quantum, where=where)


def private_from_bytes(data: bytes, passphrase: Passphrase, *, where: str) -> PrivateKey:
    """Return the private key in a file: PKCS#8 PEM (two blocks: hybrid) or an OpenSSH private key.

    Raises:
        TrustError: no such private key, or the passphrase is missing or wrong.
    """
    asked: list[bytes | None] = []

    def once(what: str) -> bytes | None:
        if not asked:
            asked.append(passphrase(what))
        return asked[0]

    if b"BEGIN OPENSSH PRIVATE KEY" in data:
        found = [_load(data, serialization.load_ssh_private_key, once, where)]
    else:
        try:
            blocks = pem_blocks(data.strip(), (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"))
        except ValueError:
            raise _not_a_private_key(where) from None
        found = [_load(block, serialization.load_pem_private_key, once, where) for block in blocks]
    classical, quantum = _halves(
        found, Ed25519PrivateKey, "MLDSA65PrivateKey", where, "the private key"
    )
    return _private(classical, quantum)


def read_private(path: Path, passphrase: Passphrase) -> PrivateKey:
    """Return the private key in a file that nobody else can read.

    Raises:
        UsageError: the file can't be read.
        TrustError: others may read it, or it is no key; see ``private_from_bytes``.
    """
    data = read_secret(path, "make a new key and revoke this one")
    return private_from_bytes(data, passphrase, where=str(path))


def read_secret(path: Path, otherwise: str) -> bytes:
    """Return the content of a private key file that nobody else can read.

    Args:
        path: the file.
        otherwise: what to do where others may have read it, for the message.

    Raises:
        UsageError: the file can't be read.
        TrustError: others may read it.
    """
    data = read_small(path, "private key")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise TrustError(
            "the private key can be read by others",
            where=str(path),
            expected="mode 0600",
            found=f"mode {stat.S_IMODE(path.stat().st_mode):04o}",
            hint=f"chmod 600 {path}; if others may have read it, {otherwise}",
        )
    return data


def read_small(path: Path, what: str, *, regular: bool = False) -> bytes:
    """Return the content of a small file.

    Args:
        path: the file.
        what: what it is, for the message.
        regular: refuse what is no regular file, as for one on a stick, where a pipe would be
            waited for for ever.

    Raises:
        UsageError: it can't be read, or is larger than ``limits.MAX_KEY_FILE``.
    """
    if regular and path.exists() and not path.is_file():
        raise UsageError(
            f"the {what} is not a regular file",
            where=printable(str(path), 300),
            hint="look at what it is; a key is a small file",
        )
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise UsageError(
            f"the {what} can't be read: {error.strerror}",
            where=printable(str(path), 300),
            hint="check the path, its permissions, and that the medium is mounted",
        ) from None
    if len(data) > MAX_KEY_FILE:
        raise UsageError(
            f"the {what} file is too large",
            where=str(path),
            expected=f"at most {MAX_KEY_FILE} bytes",
            hint="look at what it is; a key is a small file",
        )
    return data


def to_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """Return a private key as PKCS#8 PEM (RFC 5958), encrypted where a passphrase is given."""
    protection = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return b"".join(
        half.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )
        for half in (key._classical, key._quantum)  # noqa: SLF001
        if half is not None
    )


def pem_blocks(text: bytes, labels: tuple[bytes, ...]) -> list[bytes]:
    """Return the one or two PEM blocks that a text consists of.

    Libraries skip what stands before a block, and take the first of several.

    Raises:
        ValueError: there is something else, another label, or more than two.
    """
    blocks: list[bytes] = []
    position = 0
    while position < len(text):
        found = _BLOCK.match(text, position)
        if found is None or found[2] not in labels or len(blocks) == 2:
            raise ValueError("not one or two PEM blocks")
        blocks.append(found[1] + b"\n")
        position = found.end()
    if not blocks:
        raise ValueError("no PEM block")
    return blocks


def _load(data: bytes, load: Callable[..., Any], passphrase: Passphrase, where: str) -> Any:
    try:
        return load(data, password=None)
    except (TypeError, *_UNREADABLE) as first:
        if isinstance(first, UnsupportedAlgorithm) and not _has_mldsa():
            raise _without_quantum(where) from None
        if not _is_encrypted(data, first):
            raise _not_a_private_key(where) from None
    secret = passphrase(where)
    if not secret:
        raise TrustError(
            "the private key is protected by a passphrase, and none was given",
            where=where,
            hint="run in a terminal, or use --passphrase-file or AIRGAP_PASSPHRASE",
        )
    try:
        return load(data, password=secret)
    except (ValueError, TypeError):
        raise TrustError(
            "the passphrase does not open the private key",
            where=where,
            hint="try again; nothing was written",
        ) from None
    except UnsupportedAlgorithm:
        if b"OPENSSH" not in data:
            raise _not_a_private_key(where) from None
        raise TrustError(
            "encrypted OpenSSH keys need the bcrypt package, which is not installed",
            where=where,
            hint="install it, or convert a copy: ssh-keygen -p -m PKCS8 -f COPY",
        ) from None
    except (NotImplementedError, InternalError):
        raise _not_a_private_key(where) from None


def _halves(
    found: Sequence[Any], classical: type, quantum: str, where: str, what: str
) -> tuple[Any, Any]:
    """Return the Ed25519 key and, of a hybrid key, the ML-DSA-65 one."""
    names = [type(key).__name__ for key in found]
    if not isinstance(found[0], classical) or names[1:] not in ([], [quantum]):
        raise TrustError(
            f"{what} is of another algorithm",
            where=where,
            expected="Ed25519, or Ed25519 followed by ML-DSA-65",
            found=", ".join(names),
            hint="make one with `airgap key generate`",
        )
    return found[0], found[1] if len(found) == 2 else None


def _is_encrypted(data: bytes, error: Exception) -> bool:
    return isinstance(error, TypeError) or b"ENCRYPTED" in data or "assword" in str(error)


def _not_a_private_key(where: str) -> TrustError:
    return TrustError(
        "this is not a private key",
        where=where,
        expected=_EXPECTED,
        hint="name the file that `airgap key generate` wrote, without .pub",
    )


def _mldsa() -> Any:
    from cryptography.hazmat.primitives.asymmetric import mldsa

    return mldsa


def _has_mldsa() -> bool:
    try:
        _mldsa().MLDSA65PrivateKey.from_seed_bytes(bytes(32))
    except (ImportError, UnsupportedAlgorithm):
        return False
    return True


def _without_quantum(where: str) -> TrustError:
    return TrustError(
        "the cryptography library on this machine has no ML-DSA-65",
        where=where,
        expected="cryptography 50, as its wheels are built",
        hint="install the wheel that requirements.lock names, or use an Ed25519 key",
    )


def _private(classical: Ed25519PrivateKey, quantum: "MLDSA65PrivateKey | None") -> PrivateKey:
    public = _public(
        classical.public_key(), quantum.public_key() if quantum else None, where="private key"
    )
    return PrivateKey(classical, quantum, public)


def _public(
    classical: Ed25519PublicKey, quantum: "MLDSA65PublicKey | None", *, where: str
) -> PublicKey:
    if not is_sound(classical.public_bytes_raw()):
        raise TrustError(
            "the public key is a point of small order, not in its one form, or no point at all",
            where=where,
            hint="nobody holds the private half of such a key; ask where it came from",
        )
    if quantum is not None and not any(quantum.public_bytes_raw()[_RHO_SIZE:]):
        # With t1 = 0 (FIPS 204, algorithm 22) anybody can make signatures that verify.
        raise TrustError(
            "the ML-DSA-65 half of the public key accepts signatures that anybody can make",
            where=where,
            expected="a key whose vector t1 is not zero",
            hint="nobody made such a key by accident; ask where it came from",
        )
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    parts = [key for key in (classical, quantum) if key is not None]
    ders = [key.public_bytes(serialization.Encoding.DER, spki) for key in parts]
    return PublicKey(
        b"".join(key.public_bytes(serialization.Encoding.PEM, spki) for key in parts).decode(),
        sha256(b"".join(ders)).hexdigest(),
        ED25519 if quantum is None else HYBRID,
        frozenset(sha256(der).hexdigest() for der in ders),
        classical,
        quantum,
    )
