"""Approvals: what reviewers say of a bundle, and whether that is what the trust store demands.

An approval is a statement by itself, so that several people can decide without waiting for each
other and the bundle stays as it is. It names the bundle's id, which no other bundle has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from airgap import timestamps
from airgap.bundle.envelope import Envelope
from airgap.bundle.writer import Signer
from airgap.catalog import Catalog, JsonObject
from airgap.errors import TrustError
from airgap.text import plural, printable
from airgap.trust import statement
from airgap.trust.entries import ANY_SOURCE, Place, Policy, TrustedKey, names
from airgap.trust.store import TrustStore

SUFFIX = ".approval"
FORMAT = "airgap-approval/1"


@dataclass(frozen=True, slots=True)
class Approval:
    """A statement about a bundle. Until ``Reviews.of`` has counted it, it is anybody's.

    Args:
        name: what messages call it.
        envelope: what is signed.
        value: what it says, as ``schemas/approval.schema.json`` describes it.
    """

    name: str
    envelope: Envelope
    value: JsonObject

    @property
    def bundle_id(self) -> str:
        """Id of the bundle that it is about."""
        return str(self.value["bundle_id"])

    @property
    def denies(self) -> bool:
        """Whether it says that the bundle is not to be delivered."""
        return bool(self.value["decision"] == "deny")

    @property
    def place(self) -> Place:
        """What the signer must be trusted for."""
        made_at: datetime = timestamps.parse(self.value["created_at"])
        return Place(self.value["source"], made_at, self.value["sequence"])


@dataclass(frozen=True, slots=True)
class Reviews:
    """The approvals of one bundle, each held against the trust store.

    Args:
        approved: whose approvals count.
        denied: who denied.
        passed_over: approvals that do not count, each with the reason.
        sheets: by key id of who approved, SHA-256 of the review sheet that was read, where one was.
    """

    approved: tuple[TrustedKey, ...] = ()
    denied: tuple[tuple[TrustedKey, str], ...] = ()
    passed_over: tuple[str, ...] = ()
    sheets: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(
        cls,
        approvals: Sequence[Approval],
        bundle_id: str,
        place: Place,
        signers: Sequence[TrustedKey],
        trust: TrustStore,
    ) -> "Reviews":
        """Return what counts of the approvals for a bundle.

        Args:
            approvals: any, also of other bundles.
            bundle_id: the bundle.
            place: where it stands.
            signers: who signed it: they can't approve of it as well.
            trust: whose word counts.
        """
        own = {half for key in signers for half in key.public.halves}
        people = {trust.person(key.public) for key in signers}
        approved: dict[str, TrustedKey] = {}
        denied: dict[str, tuple[TrustedKey, str]] = {}
        passed_over: list[str] = []
        sheets: dict[str, str] = {}
        for approval in approvals:
            if approval.bundle_id != bundle_id:
                continue
            try:
                [key] = trust.verify(
                    approval.envelope, "reviewer", approval.place, where=approval.name
                )
                if (approval.place.source, approval.place.sequence) != (
                    place.source,
                    place.sequence,
                ):
                    raise TrustError("it names another place in the chain than the bundle's")
            except TrustError as error:
                passed_over.append(f"{approval.name}: {error.message}")
                continue
            except ValueError:
                passed_over.append(f"{approval.name}: several people signed one statement")
                continue
            if approval.denies:
                denied[key.public.key_id] = (
                    key,
                    str(approval.value["comment"] or "no reason given"),
                )
            elif key.public.halves & own or trust.person(key.public) in people:
                passed_over.append(
                    f"{approval.name}: {key.public.fingerprint}, or one that it follows or that follows "
                    "it, signed the bundle as well, and one key is one person"
                )
            else:
                approved[trust.person(key.public)] = key
                if approval.value["review_sha256"] is not None:
                    sheets[key.public.key_id] = str(approval.value["review_sha256"])
        return cls(tuple(approved.values()), tuple(denied.values()), tuple(passed_over), sheets)


def make(
    value: JsonObject, sign: Signer, catalog: Catalog, *, now: datetime
) -> tuple[str, Envelope]:
    """Return an approval's file name and its envelope.

    Args:
        value: ``bundle_id``, ``source``, ``sequence``, ``decision``, ``review_sha256``, ``comment``.
        sign: signs as reviewer.
        catalog: schemas.
        now: the present.

    Raises:
        InputRefusedError: the value breaks ``schemas/approval.schema.json``.
    """
    said = {"format": FORMAT, **value, "created_at": timestamps.to_text(now)}
    made = statement.make("approval", said, [sign], catalog)
    who = made.signatures[0].key_id[:8]
    return f"{value['source']}-{value['sequence']:06d}-{who}{SUFFIX}", made


def read(data: bytes, catalog: Catalog, *, name: str) -> Approval:
    """Return the approval in a file; nothing of it is verified.

    Raises:
        DamagedError: it is none.
        InputRefusedError: it breaks its schema.
    """
    envelope, value = statement.read("approval", data, catalog, where=name)
    return Approval(name, envelope, value)


def missing(
    policy: Policy, signers: Sequence[TrustedKey], reviews: Reviews, source: str, trust: TrustStore
) -> list[str]:
    """Return which signatures a bundle lacks, one line for each role, and who could give them."""
    lacking: list[str] = []
    people = {trust.person(key.public): key for key in signers if "exporter" in key.roles}
    exporters = tuple(people.values())
    for role, wanted, there in (
        ("exporter", policy.exporters, exporters),
        ("reviewer", policy.reviewers, reviews.approved),
    ):
        if len(there) < wanted:
            done = {trust.person(key.public) for key in (*there, *signers)}
            able = [
                key
                for key in trust.keys.values()
                if role in key.roles
                and key.followed_by is None
                and trust.person(key.public) not in done
                and key.may_sign_for(source)
                and (key.revoked is None or not key.revoked.is_whole)
            ]
            lacking.append(
                f"{plural(wanted - len(there), role)} of {wanted}; these could sign: "
                f"{names(able) or 'no other key in the trust store'}"
            )
    return lacking


def _one(key: TrustedKey) -> str:
    return names([key])


def require(
    policy: Policy,
    signers: Sequence[TrustedKey],
    reviews: Reviews,
    source: str,
    trust: TrustStore,
    *,
    where: str,
) -> None:
    """Check that a bundle has the signatures that the trust store demands, and no denial.

    Raises:
        TrustError: it has not; the message says exactly what is missing.
    """
    if reviews.denied:
        key, reason = reviews.denied[0]
        raise TrustError(
            f"a reviewer denied this bundle: {key.public.fingerprint} ({printable(key.comment)})",
            where=where,
            expected="no denial",
            found=printable(reason, 300),
            hint="one denial outweighs every approval: ask the reviewer",
        )
    lacking = missing(policy, signers, reviews, source, trust)
    if lacking:
        whose = "every source" if policy.source == ANY_SOURCE else policy.source
        raise TrustError(
            "signatures are missing that the trust store demands",
            where=where,
            expected=f"{plural(policy.exporters, 'exporter')} and "
            f"{plural(policy.reviewers, 'reviewer')} (the policy for {whose})",
            found=f"missing: {lacking[0]}",
            details=[
                *(f"missing: {line}" for line in lacking[1:]),
                *(f"signed by {line}" for line in map(_one, signers)),
                *(f"approved by {line}" for line in map(_one, reviews.approved)),
                *(f"does not count: {line}" for line in reviews.passed_over),
            ],
            hint="ask for it again, signed by all: airgap export --again --sign-again --key ONE --key OTHER"
            if "exporter" in lacking[0]
            else "on the reviewer's machine: airgap review BUNDLE, then airgap countersign BUNDLE; "
            "put the .approval file beside the bundle",
        )
