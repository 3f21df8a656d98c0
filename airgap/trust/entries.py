"""What a trust store holds, as values: trusted keys, policies, and the root that signs the store."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from shlex import quote
from typing import Literal

from airgap import timestamps
from airgap.catalog import JsonObject
from airgap.errors import TrustError
from airgap.text import printable
from airgap.trust.keys import PublicKey, public_from_bytes

Role = Literal["exporter", "reviewer", "importer"]
ANY_SOURCE = "*"
_MOST_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Place:
    """What a file says about itself that bounds of keys are held against.

    Args:
        source: whose chain it belongs to.
        made_at: when it was made, by the clock of the host that made it.
        sequence: its bundle's number in that chain.
    """

    source: str
    made_at: datetime
    sequence: int


@dataclass(frozen=True, slots=True)
class Revocation:
    """Since when a key counts no more.

    Args:
        at: when it was revoked.
        reason: why, for the message.
        since: only files made then or later; None: no such bound.
        since_sequence: only bundles from this sequence on; None: no such bound.
    """

    at: datetime
    reason: str
    since: datetime | None = None
    since_sequence: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing that the key signed counts."""
        return self.since is None and self.since_sequence is None

    def covers(self, place: Place) -> bool:
        """Tell whether a file is among those that count no more."""
        return (
            self.is_whole
            or (self.since is not None and place.made_at >= self.since)
            or (self.since_sequence is not None and place.sequence >= self.since_sequence)
        )

    def __str__(self) -> str:
        bounds = [
            f"files made at or after {moment_text(self.since)}" if self.since else "",
            f"bundles from {self.since_sequence} on" if self.since_sequence else "",
        ]
        what = " and ".join(filter(None, bounds))
        return f"revoked at {moment_text(self.at)}{f', for {what}' if what else ''}: {self.reason}"

    def as_map(self) -> JsonObject:
        """Return it as ``schemas/trust-store.schema.json`` describes it."""
        return {
            "at": moment_text(self.at),
            "reason": self.reason,
            "since": moment_text(self.since),
            "since_sequence": self.since_sequence,
        }


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One entry of the trust store.

    Args:
        public: the key.
        roles: what it may sign.
        sources: for which sources; ``*`` is all.
        not_before: files made earlier are refused; None: no bound.
        not_after: files made then or later are refused; None: no bound.
        revoked: None, or what it signed that is accepted no more.
        comment: whose key it is.
        added_at: when it was added.
        last_sequence: bundles with a higher sequence are refused; None: no bound.
        followed_by: id of the key that it named as its successor, or None.
    """

    public: PublicKey
    roles: tuple[Role, ...]
    sources: tuple[str, ...]
    not_before: datetime | None
    not_after: datetime | None
    revoked: Revocation | None
    comment: str
    added_at: datetime
    last_sequence: int | None = None
    followed_by: str | None = None

    def as_map(self) -> JsonObject:
        """Return the entry as ``schemas/trust-store.schema.json`` describes it."""
        return {
            "key_id": self.public.key_id,
            "algorithm": self.public.algorithm,
            "public_key": self.public.pem,
            "roles": list(self.roles),
            "sources": list(self.sources),
            "not_before": moment_text(self.not_before),
            "not_after": moment_text(self.not_after),
            "last_sequence": self.last_sequence,
            "followed_by": self.followed_by,
            "revoked": self.revoked.as_map() if self.revoked else None,
            "comment": self.comment,
            "added_at": moment_text(self.added_at),
        }

    def may_sign_for(self, source: str) -> bool:
        """Tell whether the key is trusted for a source."""
        return ANY_SOURCE in self.sources or source in self.sources

    @property
    def granted(self) -> str:
        """The options with which ``airgap trust add`` trusts another key in the same roles and sources."""
        roles = [f"--role {role}" for role in self.roles]
        return " ".join([*roles, *(f"--source {quote(source)}" for source in self.sources)])

    @property
    def shortly(self) -> str:
        """The beginning of its id, as it is typed behind ``airgap trust remove``."""
        return self.public.key_id[:16]

    @property
    def anew(self) -> str:
        """The next step where what it signed does not count."""
        if "exporter" not in self.roles:
            return "ask the sender to sign it with another key"
        return (
            "ask the sender to sign it with another key, once that one is trusted here: "
            "airgap export --again --sign-again --key NAME --to FOLDER"
        )

    def check(self, place: Place, *, where: str) -> None:
        """Check that the key may have signed a file.

        Raises:
            TrustError: the file is of another source, or out of the key's bounds.
        """
        shown = self.public.fingerprint
        if not self.may_sign_for(place.source):
            raise TrustError(
                f"the key {shown} may not sign for this source",
                where=where,
                expected=", ".join(self.sources),
                found=place.source,
                hint="another customer's stick, or a home of another name; if the key should sign for "
                f"it: airgap trust remove {self.shortly}, then: airgap trust add FILE.pub "
                f"{replace(self, sources=(place.source,)).granted}",
            )
        if self.not_before is not None and place.made_at < self.not_before:
            raise TrustError(
                f"the file was made before the key {shown} was valid",
                where=where,
                expected=f"at or after {moment_text(self.not_before)}",
                found=moment_text(place.made_at),
                hint="if the clock of the host that made it is wrong, set it right; what it dated "
                "wrongly needs a key that counts from an earlier time on: "
                f"airgap trust remove {self.shortly}, then: airgap trust add FILE.pub {self.granted}",
            )
        if self.not_after is not None and place.made_at >= self.not_after:
            raise TrustError(
                f"the key {shown} had expired when the file was made",
                where=where,
                expected=f"before {moment_text(self.not_after)}",
                found=moment_text(place.made_at),
                hint=self.anew,
            )
        if self.last_sequence is not None and place.sequence > self.last_sequence:
            raise TrustError(
                f"the key {shown} signs this source's bundles no more: another key followed it",
                where=where,
                expected=f"bundles up to {self.last_sequence}",
                found=f"bundle {place.sequence}",
                hint="ask the sender with which key it was signed, and why; airgap trust list shows both",
            )
        if self.revoked is not None and self.revoked.covers(place):
            raise TrustError(
                f"signed by a revoked key: {shown}",
                where=where,
                expected="a key that is not revoked",
                found=str(self.revoked),
                hint=self.anew,
            )


@dataclass(frozen=True, slots=True)
class Policy:
    """What is demanded of a source's bundles.

    Args:
        source: the source; ``*`` stands for those without a policy of their own.
        exporters: how many exporters must have signed.
        reviewers: how many reviewers must have approved, beside those who signed.
    """

    source: str
    exporters: int = 1
    reviewers: int = 0

    def as_map(self) -> JsonObject:
        """Return it as ``schemas/trust-store.schema.json`` describes it."""
        return {"source": self.source, "exporters": self.exporters, "reviewers": self.reviewers}


@dataclass(frozen=True, slots=True)
class Root:
    """The keys that sign a trust store.

    Args:
        threshold: how many of them must.
        keys: the keys, each with a comment (whose it is), in the order in which they were added.
    """

    threshold: int
    keys: tuple[tuple[PublicKey, str], ...]

    def by_id(self) -> dict[str, PublicKey]:
        """Return the keys by key id."""
        return {public.key_id: public for public, _ in self.keys}

    def as_map(self) -> JsonObject:
        """Return it as ``schemas/trust-store.schema.json`` describes it."""
        return {
            "threshold": self.threshold,
            "keys": [
                {
                    "key_id": public.key_id,
                    "algorithm": public.algorithm,
                    "public_key": public.pem,
                    "comment": comment,
                }
                for public, comment in self.keys
            ],
        }


def key_from_map(entry: JsonObject, *, where: str) -> TrustedKey:
    """Return the entry that a map of a valid trust store describes.

    Raises:
        TrustError: its key is none, or not the one that it names.
    """
    revoked = entry["revoked"]
    return TrustedKey(
        public_from_map(entry, where=where),
        tuple(entry["roles"]),
        tuple(entry["sources"]),
        _moment(entry["not_before"]),
        _moment(entry["not_after"]),
        Revocation(
            timestamps.parse(revoked["at"]),
            revoked["reason"],
            _moment(revoked["since"]),
            revoked["since_sequence"],
        )
        if revoked
        else None,
        entry["comment"],
        timestamps.parse(entry["added_at"]),
        entry["last_sequence"],
        entry["followed_by"],
    )


def root_from_map(value: JsonObject | None, *, where: str) -> Root | None:
    """Return the root that a map of a valid trust store describes.

    Raises:
        TrustError: a key is none or there twice, or the threshold can't be reached.
    """
    if value is None:
        return None
    keys = tuple((public_from_map(e, where=where), str(e["comment"])) for e in value["keys"])
    require_distinct([public for public, _ in keys], where=where)
    if value["threshold"] > len(keys):
        raise TrustError(
            "the trust store's root can't sign",
            where=where,
            expected=f"at least {value['threshold']} keys",
            found=str(len(keys)),
        )
    return Root(value["threshold"], keys)


def public_from_map(entry: JsonObject, *, where: str) -> PublicKey:
    """Return the public key in a map of ``key_id``, ``algorithm`` and ``public_key``.

    Raises:
        TrustError: it is none, or not the one that the map names.
    """
    public = public_from_bytes(entry["public_key"].encode(), where=where)
    if public.key_id != entry["key_id"] or public.algorithm != entry["algorithm"]:
        raise TrustError(
            "an entry's key id or algorithm is not its key's",
            where=where,
            expected=f"{public.key_id}, {public.algorithm}",
            found=f"{entry['key_id']}, {entry['algorithm']}",
        )
    return public


def require_distinct(keys: Sequence[PublicKey], *, where: str) -> None:
    """Check that no key, and no half of a hybrid key, stands there twice.

    One key under two ids would count as two signers.

    Raises:
        TrustError: one does.
    """
    seen: dict[str, str] = {}
    for key in keys:
        for half in key.halves:
            if half in seen:
                raise TrustError(
                    "a key, or half of a hybrid key, stands in the trust store twice",
                    where=where,
                    expected="each key once: one key under two ids would count as two signers",
                    found=f"{seen[half]} and {key.fingerprint}",
                    hint="a hybrid key is made anew, not from a key that is in use; see `airgap trust list`",
                )
            seen[half] = key.fingerprint


def names(keys: Sequence[TrustedKey]) -> str:
    """Return keys for people: the first of them with fingerprints, and whose they are."""
    shown = [
        f"{key.public.fingerprint}{f' ({printable(key.comment)})' if key.comment else ''}"
        for key in keys[:_MOST_SHOWN]
    ]
    more = [f"{len(keys) - _MOST_SHOWN} more"] if len(keys) > _MOST_SHOWN else []
    return ", ".join([*shown, *more])


def moment_text(moment: datetime | None) -> str | None:
    """Return a moment as the trust store writes it."""
    return None if moment is None else timestamps.to_text(moment)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else timestamps.parse(text)
