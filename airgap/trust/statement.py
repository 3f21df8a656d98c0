"""Signed statements that travel beside bundles: an envelope by itself, without header and chunks.

A statement file is the encoding of one envelope (``schemas/README.md``, Statements), and nothing
else. Its payload is a msgpack map with a JSON Schema of its own. What a statement says counts only
for whom the trust store names; reading one verifies nothing.
"""

from typing import Any, Literal

from airgap import limits
from airgap.bundle import codec, envelope
from airgap.bundle.envelope import Envelope
from airgap.bundle.writer import Signer
from airgap.catalog import Catalog, JsonObject
from airgap.errors import DamagedError

Kind = Literal["approval", "succession", "trust"]

PAYLOAD_TYPES: dict[Kind, str] = {
    "approval": "application/vnd.airgap.approval.v1+msgpack",
    "succession": "application/vnd.airgap.succession.v1+msgpack",
    "trust": "application/vnd.airgap.trust.v1+msgpack",
}
"""The one payload type of each kind of statement."""

SCHEMAS: dict[Kind, str] = {
    "approval": "approval",
    "succession": "succession",
    "trust": "trust-store",
}
_MOST_VALUES = 64 * 4096


def make(kind: Kind, value: JsonObject, signers: list[Signer], catalog: Catalog) -> Envelope:
    """Return a statement, signed.

    Raises:
        InputRefusedError: the value breaks the statement's schema.
    """
    catalog.require(SCHEMAS[kind], value, where=f"the {kind}", hint="correct the option")
    unsigned = Envelope(PAYLOAD_TYPES[kind], codec.encode(value), ())
    message = unsigned.message
    return Envelope(
        unsigned.payload_type, unsigned.payload, tuple(sign(message) for sign in signers)
    )


def read(kind: Kind, data: bytes, catalog: Catalog, *, where: str) -> tuple[Envelope, JsonObject]:
    """Return a statement's envelope and what it says; nothing is verified.

    Raises:
        DamagedError: it is no statement of this kind.
        InputRefusedError: what it says breaks its schema.
    """
    if len(data) > limits.MAX_TRUST_STORE:
        raise DamagedError(
            f"the {kind} is too large",
            where=where,
            expected=f"at most {limits.MAX_TRUST_STORE} bytes",
            found=str(len(data)),
        )
    found = envelope.decode(data, where=where)
    if found.payload_type != PAYLOAD_TYPES[kind]:
        raise DamagedError(
            f"this is no {kind}",
            where=where,
            expected=PAYLOAD_TYPES[kind],
            found="another type of statement",
            hint="name the file that airgap wrote for this purpose",
        )
    value: Any = codec.decode(found.payload, what=kind, where=where, max_objects=_MOST_VALUES)
    catalog.require(SCHEMAS[kind], value, where=where, hint="a newer airgap may read it")
    return found, value
