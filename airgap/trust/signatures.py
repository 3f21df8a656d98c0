"""Signatures over a file: each by a key that is known, with that key's algorithm, and right."""

from collections.abc import Mapping
from itertools import islice
from shlex import quote

from airgap.bundle.envelope import BUNDLE_TYPE, RECEIPT_TYPE, Envelope
from airgap.errors import TrustError
from airgap.text import printable
from airgap.trust.keys import PublicKey, fingerprint

_MOST_SHOWN = 8


def right_signatures(
    envelope: Envelope, known: Mapping[str, PublicKey], *, where: str, signed: bool = False
) -> tuple[str, ...]:
    """Return the ids of the keys that signed, when every signature is by a known key, and right.

    Args:
        envelope: what is signed.
        known: keys by id; a key's own algorithm counts, not the one that the file names.
        where: the file, for the message.
        signed: whether only the holders of root keys can add a key here, for the message.

    Raises:
        TrustError: no signature; a key that signed twice; one that is unknown, of another algorithm
            than the key's, or wrong.
    """
    if not envelope.signatures:
        raise TrustError(
            "the file is not signed",
            where=where,
            expected="at least one signature",
            found="none",
            hint="ask the sender for the signed file; airgap never writes an unsigned one",
        )
    if len({s.key_id for s in envelope.signatures}) != len(envelope.signatures):
        raise TrustError(
            "one key signed twice",
            where=where,
            hint="name each key once when signing; if it came from elsewhere, ask the sender what this is",
        )
    message = envelope.message
    for signature in envelope.signatures:
        shown = fingerprint(printable(signature.key_id, 64))
        key = known.get(signature.key_id)
        if key is None:
            trusted = ", ".join(k.fingerprint for k in islice(known.values(), _MOST_SHOWN))
            trusted += f" and {len(known) - _MOST_SHOWN} more" if len(known) > _MOST_SHOWN else ""
            raise TrustError(
                f"signed by a key that is not in the trust store: {shown}",
                where=where,
                expected=f"a trusted key ({trusted})"
                if trusted
                else "a trusted key (the trust store is empty)",
                found=shown,
                hint=_next_step(envelope, where, signed=signed),
            )
        if signature.algorithm != key.algorithm or not key.verifies(signature.signature, message):
            raise TrustError(
                f"the signature by {shown} is wrong",
                where=where,
                expected=f"an {key.algorithm} signature over this manifest",
                hint="the file was changed after it was signed; ask for it again",
            )
    return tuple(s.key_id for s in envelope.signatures)


def _next_step(envelope: Envelope, where: str, *, signed: bool) -> str:
    """Return the next step where a file is signed by a key that is not known here."""
    role = {BUNDLE_TYPE: "exporter --source NAME", RECEIPT_TYPE: "importer"}.get(
        envelope.payload_type
    )
    looked = (
        f"look whose it says it is: airgap inspect {quote(where)} --unverified; another's is the "
        "wrong stick; if it is yours, "
        if role
        else ""
    )
    if signed:
        return (
            f"{looked}ask the holders of the root keys for a trust store with the key, "
            "then: airgap trust update FILE"
        )
    return (
        f"{looked}compare the fingerprint with the sender by phone, "
        f"then: airgap trust add FILE.pub --role {role or 'ROLE'}"
    )
