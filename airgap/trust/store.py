"""The trust store: public keys, what each may sign, for which source, from and until when."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from airgap import jsontext, timestamps
from airgap.bundle.envelope import Envelope
from airgap.catalog import Catalog, JsonObject
from airgap.errors import TrustError, UsageError
from airgap.files import write_atomically
from airgap.limits import MAX_TRUST_STORE
from airgap.text import printable
from airgap.trust.keys import ALGORITHM, PublicKey, fingerprint, public_from_bytes

Role = Literal["exporter", "reviewer", "importer"]
ANY_SOURCE = "*"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One entry of the trust store.

    Args:
        public: the key.
        roles: what it may sign.
        sources: for which sources; ``*`` is all.
        not_before: files made earlier are refused; None: no bound.
        not_after: files made then or later are refused; None: no bound.
        revoked: None, or when and why; nothing it signed is accepted any more.
        comment: whose key it is.
        added_at: when it was added.
    """

    public: PublicKey
    roles: tuple[Role, ...]
    sources: tuple[str, ...]
    not_before: datetime | None
    not_after: datetime | None
    revoked: tuple[datetime, str] | None
    comment: str
    added_at: datetime

    def as_map(self) -> JsonObject:
        """Return the entry as ``schemas/trust-store.schema.json`` describes it."""
        return {
            "key_id": self.public.key_id,
            "algorithm": ALGORITHM,
            "public_key": self.public.pem,
            "roles": list(self.roles),
            "sources": list(self.sources),
            "not_before": _text(self.not_before),
            "not_after": _text(self.not_after),
            "revoked": {"at": _text(self.revoked[0]), "reason": self.revoked[1]}
            if self.revoked
            else None,
            "comment": self.comment,
            "added_at": _text(self.added_at),
        }


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Trusted keys by key id."""

    keys: Mapping[str, TrustedKey]

    def with_key(self, key: TrustedKey) -> "TrustStore":
        """Return a store with one more key.

        Raises:
            TrustError: the key is there already.
        """
        if key.public.key_id in self.keys:
            raise TrustError(
                "this key is in the trust store already",
                where=key.public.fingerprint,
                hint="remove it first to change what it may sign: airgap trust remove KEY",
            )
        return TrustStore({**self.keys, key.public.key_id: key})

    def without(self, key_id: str) -> "TrustStore":
        """Return a store without a key that is in it."""
        return TrustStore({k: v for k, v in self.keys.items() if k != key_id})

    def revoke(self, key_id: str, at: datetime, reason: str) -> "TrustStore":
        """Return a store in which a key that is in it counts no more."""
        return TrustStore({**self.keys, key_id: replace(self.keys[key_id], revoked=(at, reason))})

    def find(self, text: str) -> TrustedKey:
        """Return the key whose id begins with ``text``, which may be a fingerprint with spaces.

        Raises:
            UsageError: no key or several begin so.
        """
        digits = text.replace(" ", "").replace(":", "").lower()
        found = [key for key_id, key in self.keys.items() if key_id.startswith(digits)]
        if len(found) != 1 or len(digits) < 4:
            raise UsageError(
                f"{len(found)} keys in the trust store begin with {printable(text)!r}",
                expected="exactly one, named by at least 4 digits",
                hint="see them with `airgap trust list`",
            )
        return found[0]

    def verify(
        self, envelope: Envelope, role: Role, source: str, made_at: datetime, *, where: str
    ) -> tuple[TrustedKey, ...]:
        """Return who signed, when every signature counts and one of them has the role.

        Args:
            envelope: manifest bytes and signatures.
            role: the role that at least one signer must have.
            source: the source that the signers must be trusted for.
            made_at: when the file was made; bounds of keys are judged by that.
            where: the file, for the message.

        Raises:
            TrustError: no signature, or one that is unknown, revoked, expired, of another
                algorithm, not for this source, or wrong.
        """
        signers = self.check_signatures(envelope, where=where)
        for key in signers:
            _check_entry(key, source, made_at, where=where)
        if not any(role in key.roles for key in signers):
            raise TrustError(
                f"nobody signed as {role}",
                where=where,
                expected=f"a signature by a key with the role {role}",
                found=", ".join(f"{k.public.fingerprint} ({', '.join(k.roles)})" for k in signers),
                hint=f"if the key should have this role: airgap trust remove, then trust add --role {role}",
            )
        return signers

    def check_signatures(self, envelope: Envelope, *, where: str) -> tuple[TrustedKey, ...]:
        """Return the signers when every signature is by a known, unrevoked key, and right.

        This is what can be said before the manifest is decoded.

        Raises:
            TrustError: see ``verify``.
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
                "one key signed twice", where=where, hint="ask the sender what this is"
            )
        message = envelope.message
        signers: list[TrustedKey] = []
        for signature in envelope.signatures:
            shown = fingerprint(printable(signature.key_id, 64))
            key = self.keys.get(signature.key_id)
            if key is None:
                known = ", ".join(k.public.fingerprint for k in self.keys.values())
                raise TrustError(
                    f"signed by a key that is not in the trust store: {shown}",
                    where=where,
                    expected=f"a trusted key ({known})"
                    if known
                    else "a trusted key (the trust store is empty)",
                    found=shown,
                    hint="compare the fingerprint with the sender by phone, then: airgap trust add FILE",
                )
            if key.revoked is not None:
                raise TrustError(
                    f"signed by a revoked key: {shown}",
                    where=where,
                    expected="a key that is not revoked",
                    found=f"revoked at {_text(key.revoked[0])}: {printable(key.revoked[1])}",
                    hint="ask the sender to export again with a new key",
                )
            if signature.algorithm != ALGORITHM or not key.public.verifies(
                signature.signature, message
            ):
                raise TrustError(
                    f"the signature by {shown} is wrong",
                    where=where,
                    expected=f"an {ALGORITHM} signature over this manifest",
                    hint="the file was changed after it was signed; ask for it again",
                )
            signers.append(key)
        return tuple(signers)


def load(path: Path, catalog: Catalog) -> TrustStore:
    """Return the trust store in a file; one without keys where the file does not exist.

    Raises:
        TrustError: the file is not a trust store; it never counts as an empty one.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TRUST_STORE + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise TrustError(
                "the trust store is a link that leads nowhere", where=str(path), hint="restore it"
            ) from None
        return TrustStore({})
    except OSError as error:
        raise TrustError(
            f"the trust store can't be read: {error.strerror}", where=str(path)
        ) from None
    hint = "restore it from a copy, or move it away and add the keys again"
    try:
        value: Any = jsontext.parse(data[: MAX_TRUST_STORE + 1])
    except jsontext.NotExactError as error:
        raise TrustError(
            f"the trust store is damaged: {error}", where=str(path), hint=hint
        ) from None
    if not catalog.is_valid("trust-store", value):
        problem = catalog.problems("trust-store", value)[0]
        raise TrustError(
            f"the trust store is not valid at {problem.path}",
            where=str(path),
            expected=problem.expected,
            found=problem.found,
            hint=hint,
        )
    keys: dict[str, TrustedKey] = {}
    for entry in value["keys"]:
        key = _from_map(entry, where=str(path))
        if key.public.key_id != entry["key_id"] or key.public.key_id in keys:
            raise TrustError(
                "an entry's key id is not its key's, or stands there twice",
                where=str(path),
                found=entry["key_id"],
                hint=hint,
            )
        keys[key.public.key_id] = key
    return TrustStore(keys)


def save(path: Path, store: TrustStore) -> None:
    """Write a trust store in place of the one that is there, whole or not at all."""
    value = {"format": "airgap-trust/1", "keys": [key.as_map() for key in store.keys.values()]}
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode(), mode=0o644)


def _check_entry(key: TrustedKey, source: str, made_at: datetime, *, where: str) -> None:
    shown = key.public.fingerprint
    if ANY_SOURCE not in key.sources and source not in key.sources:
        raise TrustError(
            f"the key {shown} may not sign for this source",
            where=where,
            expected=", ".join(key.sources),
            found=source,
            hint="if it should: airgap trust remove, then trust add --source",
        )
    if key.not_before is not None and made_at < key.not_before:
        raise TrustError(
            f"the file was made before the key {shown} was valid",
            where=where,
            expected=f"at or after {_text(key.not_before)}",
            found=str(_text(made_at)),
            hint="check the clock of the isolated host",
        )
    if key.not_after is not None and made_at >= key.not_after:
        raise TrustError(
            f"the key {shown} had expired when the file was made",
            where=where,
            expected=f"before {_text(key.not_after)}",
            found=str(_text(made_at)),
            hint="ask the sender to export again with a new key",
        )


def _from_map(entry: JsonObject, *, where: str) -> TrustedKey:
    revoked = entry["revoked"]
    return TrustedKey(
        public_from_bytes(entry["public_key"].encode(), where=where),
        tuple(entry["roles"]),
        tuple(entry["sources"]),
        _moment(entry["not_before"]),
        _moment(entry["not_after"]),
        (timestamps.parse(revoked["at"]), revoked["reason"]) if revoked else None,
        entry["comment"],
        timestamps.parse(entry["added_at"]),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else timestamps.parse(text)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else timestamps.to_text(moment)
