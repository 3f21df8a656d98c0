"""The golden files with hybrid signatures, and the golden statements; ``regenerate.py`` writes them.

ML-DSA signatures are random, so they can't be made the same twice: those in ``signed.json`` are kept
as long as they hold, and made anew where one is missing.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from airgap import catalog
from airgap.bundle.envelope import Envelope, Signature
from airgap.trust import approvals, keys, statement, succession
from airgap.trust.entries import Policy, Root, TrustedKey
from airgap.trust.keys import HYBRID, PrivateKey
from airgap.trust.store import TrustStore

HERE = Path(__file__).parent
SEED = "airgap test vector quantum  key!"
QUANTUM = keys.from_seed(SEED.encode(), HYBRID)
SOURCE = "vector.site"
AT = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
_KEPT: dict[str, str] = (
    json.loads((HERE / "signed.json").read_bytes()) if (HERE / "signed.json").exists() else {}
)
_USED: dict[str, str] = {}


def sign(message: bytes) -> Signature:
    """Return the hybrid key's signature; the kept one where it holds."""
    digest = sha256(message).hexdigest()
    made = bytes.fromhex(_KEPT.get(digest, ""))
    if not QUANTUM.public.verifies(made, message):
        made = QUANTUM.sign(message).signature
    _USED[digest] = made.hex()
    return Signature(QUANTUM.public.key_id, HYBRID, made)


def kept() -> bytes:
    """Return ``signed.json``."""
    return (json.dumps(_USED, indent=1, sort_keys=True) + "\n").encode()


def refused_signatures(made: Envelope) -> dict[str, tuple[Signature, str]]:
    """Return signatures that do not count over a bundle, and why."""
    right = sign(made.message)
    other = sign(b"another message")
    key_id = right.key_id
    alone = Signature(key_id, HYBRID, right.signature[:64])
    mixed = Signature(key_id, HYBRID, right.signature[:64] + other.signature[64:])
    return {
        "hybrid-without-ml-dsa": (alone, "half of a hybrid signature"),
        "hybrid-other-ml-dsa": (mixed, "the ML-DSA-65 half is over another message"),
        "hybrid-other-ed25519": (
            Signature(key_id, HYBRID, other.signature[:64] + right.signature[64:]),
            "the Ed25519 half is over another message",
        ),
        "hybrid-named-ed25519": (
            replace(alone, algorithm="ed25519"),
            "half of a hybrid signature, called Ed25519",
        ),
    }


def statements(
    bundle_id: str, exporter: PrivateKey, importer: PrivateKey
) -> dict[str, tuple[Envelope, str]]:
    """Return the golden statements by file name, each with what it says.

    Args:
        bundle_id: the bundle that is approved.
        exporter: names the hybrid key as its successor; a root key.
        importer: a root key; the reviewer, in the trust store that is signed.
    """
    schemas = catalog.load()
    said = {
        "bundle_id": bundle_id,
        "source": SOURCE,
        "sequence": 1,
        "decision": "approve",
        "review_sha256": sha256(b"a sheet").hexdigest(),
        "comment": None,
    }
    _, approved = approvals.make(said, importer.sign, schemas, now=AT)
    denial = {**said, "decision": "deny", "comment": "names in tags"}
    _, denied = approvals.make(denial, importer.sign, schemas, now=AT)
    follows = succession.make(exporter, QUANTUM, SOURCE, 2, schemas, AT)
    follows = Envelope(
        follows.payload_type,
        follows.payload,
        (exporter.sign(follows.message), sign(follows.message)),
    )
    entry = TrustedKey(importer.public, ("reviewer",), (SOURCE,), None, None, None, "R", AT)
    store = TrustStore(
        {importer.public.key_id: entry},
        7,
        None,
        Root(2, ((exporter.public, "one"), (importer.public, "two"))),
        {SOURCE: Policy(SOURCE, 1, 1)},
    )
    signers = [exporter.sign, importer.sign]
    signed = statement.make("trust", store.as_map(), signers, schemas)
    return {
        "approval.approval": (approved, "the importer's key, as reviewer, approves of bundle-none"),
        "denial.approval": (denied, "the importer's key, as reviewer, denies bundle-none"),
        "succession.succession": (
            follows,
            "the hybrid key follows the exporter's from bundle 2 on",
        ),
        "trust.trust": (signed, "version 7, signed by both of two root keys, of which both must"),
        "refused-trust-one-of-two.trust": (
            replace(signed, signatures=signed.signatures[:1]),
            "one of two root keys signed",
        ),
        "refused-succession-new-key-alone.succession": (
            replace(follows, signatures=follows.signatures[1:]),
            "the old key did not sign",
        ),
        "refused-approval-relabelled.approval": (
            replace(approved, payload_type=statement.PAYLOAD_TYPES["trust"]),
            "a trust store's type over an approval",
        ),
    }
