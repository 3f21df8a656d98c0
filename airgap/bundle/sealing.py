"""Sealing: chunks that only the recipients can read, and that anybody can verify unopened.

One file key per file. From it follow the chunk key and the key commitment (HKDF-SHA256, RFC 5869);
each chunk is sealed with ChaCha20-Poly1305 (RFC 8439) under a nonce that says its place and whether
it is the last one: the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár ("Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015), in the form that age
gave it. How the file key comes to the recipients is ``airgap.trust.recipients``' business.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from airgap.catalog import JsonObject
from airgap.errors import DamagedError

AEAD = "chacha20-poly1305"
"""The one cipher of chunks."""

FILE_KEY_SIZE = 32
"""Bytes of a file key."""

TAG_SIZE = 16
"""Bytes that sealing adds to a chunk (RFC 8439, section 2.8)."""

_CHUNK_KEY = b"airgap chunk key v1"
_COMMITMENT = b"airgap key commitment v1"
_CONTEXT = "airgap file key v1"
_COUNTER_SIZE = 11


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The file key for one recipient.

    Args:
        key_id: the recipient's, 64 hexadecimal digits.
        suite: how it was wrapped.
        data: encapsulated key and ciphertext of HPKE, one after the other.
    """

    key_id: str
    suite: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Sealing:
    """What a header says of the sealing.

    Args:
        commitment: of the file key, 64 hexadecimal digits.
        recipients: whose keys open the file, at least one, all different.
    """

    commitment: str
    recipients: tuple[Wrapped, ...]

    def as_map(self) -> JsonObject:
        """Return it as it stands in the header."""
        return {
            "aead": AEAD,
            "commitment": self.commitment,
            "recipients": [
                {"key_id": r.key_id, "suite": r.suite, "wrapped": r.data.hex()}
                for r in self.recipients
            ],
        }

    @classmethod
    def from_map(cls, value: JsonObject) -> "Sealing":
        """Return what passed the header's schema."""
        return cls(
            value["commitment"],
            tuple(
                Wrapped(r["key_id"], r["suite"], bytes.fromhex(r["wrapped"]))
                for r in value["recipients"]
            ),
        )


@dataclass(frozen=True, slots=True)
class Context:
    """The place that a file key is wrapped for: it opens nothing elsewhere.

    Args:
        source: the bundle's.
        sequence: the bundle's.
    """

    source: str
    sequence: int

    @property
    def info(self) -> bytes:
        """HPKE's ``info``."""
        return "\0".join((_CONTEXT, self.source, str(self.sequence))).encode()


class FileKey:
    """The key of one file, in memory only. Its ``repr`` shows nothing of it.

    Args:
        key: ``FILE_KEY_SIZE`` bytes, random and never used before.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != FILE_KEY_SIZE:
            raise ValueError(f"a file key has {FILE_KEY_SIZE} bytes")
        self._key = key
        self._cipher = ChaCha20Poly1305(_derive(key, _CHUNK_KEY))
        self.commitment = _derive(key, _COMMITMENT).hex()
        """What stands in the header, so that no second key opens the same file."""

    def committed(self, sealing: Sealing, *, where: str) -> "FileKey":
        """Return this key if it is the one that a header commits to.

        Raises:
            DamagedError: it is another one.
        """
        if not hmac.compare_digest(self.commitment, sealing.commitment):
            raise _not_committed(sealing, where)
        return self

    def wrapped_by(self, wrap: Callable[[bytes, Context], Wrapped], context: Context) -> Wrapped:
        """Hand the key to a recipient's wrapping."""
        return wrap(self._key, context)

    def seal(self, number: int, data: bytes, *, last: bool) -> bytes:
        """Return a sealed chunk, ``TAG_SIZE`` bytes longer.

        Args:
            number: its place in the file, from 0; no place is sealed twice under one key.
            data: the chunk.
            last: whether it is the file's last one.
        """
        return self._cipher.encrypt(_nonce(number, last=last), data, None)

    def open(self, number: int, data: bytes, *, last: bool, where: str) -> bytes:
        """Return the chunk that was sealed.

        Raises:
            DamagedError: it was not sealed with this key, for this place, or was changed.
        """
        try:
            return self._cipher.decrypt(_nonce(number, last=last), data, None)
        except (InvalidTag, ValueError):
            raise DamagedError(
                "a sealed chunk does not open in its place",
                where=where,
                expected=f"chunk {number}{', the last one' if last else ''}, sealed with this file's key",
                found="one that was swapped, dropped, cut or changed before it was signed",
                hint="whoever signed it did not make it as airgap does: ask the source; "
                "nothing of it was taken over",
            ) from None


def checked(key: bytes, sealing: Sealing, *, where: str) -> FileKey:
    """Return the file key that a recipient unwrapped, after a check of the commitment.

    Raises:
        DamagedError: it is another key than the one that the header commits to.
    """
    if len(key) != FILE_KEY_SIZE:
        raise _not_committed(sealing, where)
    return FileKey(key).committed(sealing, where=where)


def _not_committed(sealing: Sealing, where: str) -> DamagedError:
    return DamagedError(
        "the file key is not the one that the header commits to",
        where=where,
        expected=sealing.commitment,
        found="another key: recipients were given different ones",
        hint="whoever signed it did not make it as airgap does: ask the source; "
        "nothing of it was taken over",
    )


def _derive(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(_COUNTER_SIZE) + bytes([last])
