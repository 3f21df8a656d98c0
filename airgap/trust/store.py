"""The trust store: whose signatures count, for what, and how many are demanded.

A home keeps it as ``trust.json``, which its operator changes, or as ``trust.signed``, which the
holders of root keys sign (``airgap.trust.roots``) and nobody changes here.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote

from airgap import jsontext, timestamps
from airgap.bundle.envelope import Envelope
from airgap.catalog import Catalog, JsonObject
from airgap.errors import TrustError, UsageError
from airgap.files import sync_folder, write_atomically
from airgap.findings import Finding
from airgap.limits import MAX_TRUST_STORE
from airgap.text import printable
from airgap.trust import statement
from airgap.trust.entries import (
    ANY_SOURCE,
    Place,
    Policy,
    Role,
    Root,
    TrustedKey,
    key_from_map,
    moment_text,
    require_distinct,
    root_from_map,
)
from airgap.trust.keys import PublicKey
from airgap.trust.signatures import right_signatures

FORMAT = "airgap-trust/2"
MOST_KEYS = 4096
"""Most keys of a trust store; its schema holds it."""

SOON = timedelta(days=30)
"""How long before the end of a key's or a trust store's time that is said."""

_FULL = "take one away that signs no more: airgap trust remove KEY"
_RESTORE = "restore it from a copy, or move it away and add the keys again"


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Trusted keys by key id, and what is demanded of bundles.

    Args:
        keys: the trusted keys.
        version: counts up with every change.
        expires: from then on a signed store counts no more; None: no bound.
        root: who signs it, or is to sign it; None: nobody.
        policies: by source.
        signed: whether this home takes its trust from root keys.
    """

    keys: Mapping[str, TrustedKey]
    version: int = 0
    expires: datetime | None = None
    root: Root | None = None
    policies: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    signed: bool = False

    def as_map(self) -> JsonObject:
        """Return the store as ``schemas/trust-store.schema.json`` describes it."""
        return {
            "format": FORMAT,
            "version": self.version,
            "expires": moment_text(self.expires),
            "root": self.root.as_map() if self.root else None,
            "policies": [policy.as_map() for policy in self.policies.values()],
            "keys": [key.as_map() for key in self.keys.values()],
        }

    def with_key(self, key: TrustedKey) -> "TrustStore":
        """Return a store with one more key.

        Raises:
            TrustError: the key, or a half of it, is there already.
        """
        if key.public.key_id in self.keys:
            raise TrustError(
                "this key is in the trust store already",
                where=key.public.fingerprint,
                hint="to change what it may sign, take it out, then add it again: "
                f"airgap trust remove {key.shortly}",
            )
        if len(self.keys) >= MOST_KEYS:
            raise TrustError(
                "the trust store is full", expected=f"at most {MOST_KEYS} keys", hint=_FULL
            )
        require_distinct(
            [k.public for k in (*self.keys.values(), key)], where=key.public.fingerprint
        )
        return replace(self, keys={**self.keys, key.public.key_id: key})

    def without(self, key_id: str) -> "TrustStore":
        """Return a store without a key that is in it.

        Whom it followed is followed by the one after it: they stay one person.
        """
        heir = self.keys[key_id].followed_by
        left = {
            k: replace(v, followed_by=heir) if heir and v.followed_by == key_id else v
            for k, v in self.keys.items()
            if k != key_id
        }
        return replace(self, keys=left)

    def successors(self, key_id: str) -> tuple[str, ...]:
        """Return the ids of the keys that followed a key, the next one first."""
        found: dict[str, None] = {}
        key = self.keys.get(key_id)
        while key is not None and key.followed_by is not None and key.followed_by not in found:
            found[key.followed_by] = None
            key = self.keys.get(key.followed_by)
        return tuple(found)

    def person(self, key: PublicKey) -> str:
        """Return what a key's holder is counted by: its id, or that of the last key that followed it.

        Whoever holds a key may hold the ones before it as well, and dates what they sign.
        """
        return (key.key_id, *self.successors(key.key_id))[-1]

    def changed(self, key: TrustedKey) -> "TrustStore":
        """Return a store in which an entry stands in the place of the one of the same key."""
        return replace(self, keys={**self.keys, key.public.key_id: key})

    def with_policy(self, policy: Policy) -> "TrustStore":
        """Return a store with a policy in the place of the one of the same source."""
        return replace(self, policies={**self.policies, policy.source: policy})

    def without_policy(self, source: str) -> "TrustStore":
        """Return a store without a source's policy."""
        return replace(self, policies={k: v for k, v in self.policies.items() if k != source})

    def is_for(self, role: Role) -> Callable[[PublicKey], bool]:
        """Return what tells whether a key is trusted in a role, and can still sign something."""

        def fits(public: PublicKey) -> bool:
            key = self.keys.get(public.key_id)
            return (
                key is not None
                and role in key.roles
                and key.followed_by is None
                and (key.revoked is None or not key.revoked.is_whole)
            )

        return fits

    def policy(self, source: str) -> Policy:
        """Return what is demanded of a source's bundles."""
        default = self.policies.get(ANY_SOURCE, Policy(ANY_SOURCE))
        return self.policies.get(source, default)

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
        self, envelope: Envelope, role: Role, place: Place, *, where: str
    ) -> tuple[TrustedKey, ...]:
        """Return who signed, when every signature counts and one of them has the role.

        Args:
            envelope: manifest bytes and signatures.
            role: the role that at least one signer must have.
            place: what the signers must be trusted for.
            where: the file, for the message.

        Raises:
            TrustError: no signature, or one that is unknown, revoked, expired, of another
                algorithm, not for this source, or wrong.
        """
        signers = self.check_signatures(envelope, where=where)
        for key in signers:
            key.check(place, where=where)
        if not any(role in key.roles for key in signers):
            raise TrustError(
                f"nobody signed as {role}",
                where=where,
                expected=f"a signature by a key with the role {role}",
                found=", ".join(f"{k.public.fingerprint} ({', '.join(k.roles)})" for k in signers),
                hint="if the key should have this role: "
                f"airgap trust remove {signers[0].shortly}, then: airgap trust add FILE.pub --role {role}"
                f" --source {quote(place.source)}",
            )
        return signers

    def check_signatures(self, envelope: Envelope, *, where: str) -> tuple[TrustedKey, ...]:
        """Return the signers when every signature is by a known key that is not wholly revoked.

        This is what can be said before the manifest is decoded.

        Raises:
            TrustError: see ``verify``.
        """
        known = {key_id: key.public for key_id, key in self.keys.items()}
        found = right_signatures(envelope, known, where=where, signed=self.signed)
        signers = tuple(self.keys[key_id] for key_id in found)
        for key in signers:
            if key.revoked is not None and key.revoked.is_whole:
                raise TrustError(
                    f"signed by a revoked key: {key.public.fingerprint}",
                    where=where,
                    expected="a key that is not revoked",
                    found=printable(str(key.revoked), 400),
                    hint=key.anew,
                )
        return signers

    def findings(self, now: datetime) -> list[Finding]:
        """Return which keys, and whether the store itself, end soon or have ended."""
        ends = [
            (key.not_after, f"the key {key.public.fingerprint} ({', '.join(key.roles)})")
            for key in self.keys.values()
            if key.not_after is not None and key.revoked is None and key.followed_by is None
        ]
        found = [
            Finding(
                "key-expires",
                f"{what} expired at {moment_text(end)}: its owner makes a new one (airgap key generate "
                "--name NEW) and exchanges it"
                if end <= now
                else f"{what} expires at {moment_text(end)}: "
                "its owner makes its successor before (airgap key rotate NEW)",
            )
            for end, what in ends
            if end - SOON <= now
        ]
        if self.expires is not None and self.expires - SOON <= now:
            found.append(
                Finding(
                    "trust-expires",
                    f"the trust store {'expired' if self.expires <= now else 'expires'} at "
                    f"{moment_text(self.expires)}: ask the holders of the root keys for a newer one",
                )
            )
        return found

    def ended(self, own: Collection[str], now: datetime) -> TrustError | None:
        """Return what makes this side's work impossible: its time or that of its own keys is over.

        Args:
            own: ids of the keys that this side signs with.
            now: the present.
        """
        over = [
            f"the key {key.public.fingerprint}"
            for key in self.keys.values()
            if key.public.key_id in own and key.not_after is not None and key.not_after <= now
        ]
        if self.signed and self.expires is not None and self.expires <= now:
            over.append(f"version {self.version} of the trust store")
        if not over:
            return None
        return TrustError(
            f"the time of {' and of '.join(over)} is over",
            hint="for a key: airgap key generate --name NEW, and exchange it; "
            "for the trust store: airgap trust update FILE",
        )

    def require_fresh(self, now: datetime, *, where: str) -> None:
        """Check that a signed store is not one that was held back.

        Raises:
            TrustError: its time is over.
        """
        if self.signed and self.expires is not None and self.expires <= now:
            raise TrustError(
                "the trust store has expired: a newer one may revoke what this one trusts",
                where=where,
                expected=f"one that is valid at {moment_text(now)}",
                found=f"version {self.version}, until {moment_text(self.expires)}",
                hint="ask the holders of the root keys for a newer one, then: airgap trust update FILE; "
                "or set the clock right",
            )


def signed_path(path: Path) -> Path:
    """Return where a home keeps a trust store that root keys sign, beside its own ``trust.json``."""
    return path.with_suffix(".signed")


def load(path: Path, catalog: Catalog) -> TrustStore:
    """Return the trust store in a home; one without keys where there is none.

    Args:
        path: the home's ``trust.json``; ``trust.signed`` beside it comes first.
        catalog: schemas.

    Raises:
        TrustError: the file is not a trust store; it never counts as an empty one.
    """
    signed = signed_path(path)
    data = _read(signed)
    if data is not None:
        envelope, value = statement.read("trust", data, catalog, where=str(signed))
        store = from_map(value, where=str(signed))
        require_root(store.root, envelope, "its own root", where=str(signed))
        return replace(store, signed=True)
    data = _read(path)
    if data is None:
        return TrustStore({})
    try:
        value = jsontext.parse(data)
    except jsontext.NotExactError as error:
        raise TrustError(
            f"the trust store is damaged: {error}", where=str(path), hint=_RESTORE
        ) from None
    if not catalog.is_valid("trust-store", value):
        problem = catalog.problems("trust-store", value)[0]
        raise TrustError(
            f"the trust store is not valid at {problem.path}",
            where=str(path),
            expected=problem.expected,
            found=problem.found,
            hint=_RESTORE,
        )
    return from_map(value, where=str(path))


def save(path: Path, store: TrustStore) -> TrustStore:
    """Write a trust store in place of the home's, whole or not at all, as its next version.

    Raises:
        TrustError: the home takes its trust from root keys.
    """
    if store.signed or signed_path(path).exists():
        raise TrustError(
            "this home takes its trust from root keys, and can't change it",
            where=str(signed_path(path)),
            hint="ask the holders of the root keys for a newer one, then: airgap trust update FILE",
        )
    saved = replace(store, version=store.version + 1)
    write_atomically(path, (json.dumps(saved.as_map(), indent=2) + "\n").encode(), mode=0o644)
    return saved


def adopt(path: Path, signed: bytes | None) -> None:
    """Let a home take its trust from a signed store; its own goes to ``trust.before.json``.

    It must not come back when the signed one is damaged or missing.

    Args:
        path: the home's ``trust.json``.
        signed: the signed store, which was found to follow the one that is there; None where it is
            there already, and a run may have been cut off before the home's own was put aside.
    """
    if signed is not None:
        write_atomically(signed_path(path), signed, mode=0o644)
    if path.exists():
        path.replace(path.with_name("trust.before.json"))
        sync_folder(path.parent)


def from_map(value: JsonObject, *, where: str) -> TrustStore:
    """Return the store that a map which passed its schema describes.

    Raises:
        TrustError: a key stands there twice or is none, or a source has two policies.
    """
    try:
        entries = [key_from_map(entry, where=where) for entry in value["keys"]]
        require_distinct([entry.public for entry in entries], where=where)
    except TrustError as error:
        error.hint = _RESTORE
        raise
    policies = {
        p["source"]: Policy(p["source"], p["exporters"], p["reviewers"]) for p in value["policies"]
    }
    if len(policies) != len(value["policies"]):
        raise TrustError("a source has two policies", where=where, hint=_RESTORE)
    return TrustStore(
        {entry.public.key_id: entry for entry in entries},
        value["version"],
        timestamps.parse(value["expires"]) if value["expires"] else None,
        root_from_map(value["root"], where=where),
        policies,
    )


def require_root(
    root: Root | None, envelope: Envelope, whose: str, *, where: str
) -> tuple[str, ...]:
    """Return the ids of the root keys that signed a trust store, when they are enough.

    Signatures by other keys are passed over: a new store is also signed by the root of the one before.

    Raises:
        TrustError: they are not.
    """
    known = root.by_id() if root else {}
    message = envelope.message
    found = {
        s.key_id
        for s in envelope.signatures
        if s.key_id in known
        and s.algorithm == known[s.key_id].algorithm
        and known[s.key_id].verifies(s.signature, message)
    }
    threshold = root.threshold if root else 1
    if len(found) < threshold:
        shown = ", ".join(key.fingerprint for key in known.values())
        raise TrustError(
            f"the trust store is not signed by {whose}",
            where=where,
            expected=f"{threshold} right signatures by {shown or 'root keys, and none is known'}",
            found=f"{len(found)}",
            hint="ask the holders of the root keys to sign it: airgap trust sign FILE --key NAME",
        )
    return tuple(sorted(found))


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TRUST_STORE + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise TrustError(
                "the trust store is a link that leads nowhere", where=str(path), hint=_RESTORE
            ) from None
        return None
    except OSError as error:
        raise TrustError(
            f"the trust store can't be read: {error.strerror}",
            where=str(path),
            hint="check whose it is and its permissions: airgap doctor says more",
        ) from None
