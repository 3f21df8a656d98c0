"""The envelope: signatures over the manifest's exact bytes.

What is signed is the pre-authentication encoding of DSSE (secure-systems-lab/dsse, protocol.md):
``DSSEv1``, the payload type and the payload, each with its length in bytes. Nothing is ever
re-encoded to be verified, so there is no canonical form to get wrong.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from airgap import limits
from airgap.bundle import codec
from airgap.errors import DamagedError

BUNDLE_TYPE = "application/vnd.airgap.bundle.v1+msgpack"
"""Payload type of a bundle's manifest."""

RECEIPT_TYPE = "application/vnd.airgap.receipt.v1+msgpack"
"""Payload type of a receipt's manifest."""

PAYLOAD_TYPES = {"bundle": BUNDLE_TYPE, "receipt": RECEIPT_TYPE}
"""The one payload type of each type of file."""

_FIELDS = ("payload_type", "payload", "signatures")
_SIGNATURE_FIELDS = ("key_id", "algorithm", "signature")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: the key's id (64 hexadecimal digits), the algorithm's name, the bytes."""

    key_id: str
    algorithm: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A manifest's bytes with their payload type and signatures."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return pre_authentication_encoding(self.payload_type, self.payload)

    @property
    def document_id(self) -> str:
        """The file's id: SHA-256 of the signed bytes, as hexadecimal; signatures don't change it."""
        return sha256(self.message).hexdigest()

    def encode(self) -> bytes:
        """Return the envelope as it stands in the file."""
        return codec.encode(
            {
                "payload_type": self.payload_type,
                "payload": self.payload,
                "signatures": [
                    {"key_id": s.key_id, "algorithm": s.algorithm, "signature": s.signature}
                    for s in self.signatures
                ],
            }
        )


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes to sign: ``DSSEv1 LEN(type) type LEN(payload) payload``.

    Lengths are decimal numbers of bytes (not of characters), separated by single spaces.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def decode(data: bytes, *, where: str) -> Envelope:
    """Return the envelope that ``data`` encodes.

    Raises:
        DamagedError: it is not an envelope of the specification.
    """
    value: Any = codec.decode(
        data,
        what="envelope",
        where=where,
        max_objects=8 + 7 * limits.MAX_SIGNATURES,
        binary=True,
    )
    if not (
        isinstance(value, dict)
        and tuple(value) == _FIELDS
        and isinstance(value["payload_type"], str)
        and isinstance(value["payload"], bytes)
        and isinstance(value["signatures"], list)
        and len(value["signatures"]) <= limits.MAX_SIGNATURES
        and all(_is_signature(item) for item in value["signatures"])
    ):
        raise DamagedError(
            "the envelope has another form than the specification's",
            where=where,
            expected=f"a map of {', '.join(_FIELDS)}, at most {limits.MAX_SIGNATURES} signatures",
            hint="the file was not made by airgap, or by a version that this one does not know",
        )
    return Envelope(
        value["payload_type"],
        value["payload"],
        tuple(Signature(s["key_id"], s["algorithm"], s["signature"]) for s in value["signatures"]),
    )


def _is_signature(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and tuple(item) == _SIGNATURE_FIELDS
        and isinstance(item["key_id"], str)
        and isinstance(item["algorithm"], str)
        and isinstance(item["signature"], bytes)
    )
