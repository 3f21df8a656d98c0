"""The trust store: can it be read, is its time over, and can anybody do what it demands."""

from collections.abc import Iterator
from datetime import datetime

from airgap.doctor.findings import Finding, not_checked, ok, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError
from airgap.home import Side
from airgap.text import plural, printable
from airgap.trust.entries import ANY_SOURCE, Policy, Role, TrustedKey, moment_text
from airgap.trust.store import SOON, TrustStore

_ASK = "ask the holders of the root keys for a newer one, then: airgap trust update FILE"
_MOST_SHOWN = 3


def look(scene: Scene) -> Iterator[Finding]:
    """Look at a home's trust store."""
    home = scene.home
    assert home is not None
    try:
        store = scene.trust()
    except AirgapError as error:
        yield wrong(
            "trust.readable",
            "; ".join(filter(None, (error.message, error.found))),
            where=error.where,
            expected=error.expected,
            cure=error.hint,
        )
        yield not_checked("trust.keys", "the trust store can't be read")
        return
    how = "signed by root keys" if store.signed else "kept by this side"
    yield ok(
        "trust.readable",
        f"version {store.version}, {plural(len(store.keys), 'key')}, {how}",
    )
    own = {key.key_id for key in scene.own_keys().values()}
    yield from expiry(store, scene.now)
    yield from others(store, own, scene.now)
    if _is_office(store, own, scene.now):
        yield not_checked("trust.peers", "no key of this side exports or imports")
        yield from root(store)
        return
    codes = home.path / "codes"
    paired = codes.is_dir() and any(codes.glob("*.secret"))
    yield from peers(store, own, home.side, scene.now, paired=paired)
    if home.side == "workstation":
        yield from policies(store, scene.now)
    yield from root(store)


def expiry(store: TrustStore, now: datetime) -> Iterator[Finding]:
    """Judge how long the trust store itself counts."""
    if store.expires is None:
        yield ok("trust.expiry", "the trust store has no end")
    elif store.expires - SOON > now:
        yield ok("trust.expiry", f"it counts until {moment_text(store.expires)}")
    else:
        over = store.expires <= now
        yield (wrong if over and store.signed else warning)(
            "trust.expiry",
            f"the trust store {'expired' if over else 'expires'} at {moment_text(store.expires)}",
            expected=f"one that counts {SOON.days} days or longer",
            cure=_ASK + ("; or set the clock right" if over else ""),
        )


def others(store: TrustStore, own: set[str], now: datetime) -> Iterator[Finding]:
    """Judge the keys that are not this side's own."""
    ends = [
        (key, key.not_after)
        for key in store.keys.values()
        if key.not_after is not None
        and key.not_after - SOON <= now
        and key.public.key_id not in own
        and key.revoked is None
        and key.followed_by is None
    ]
    for key, end in ends[:_MOST_SHOWN]:
        over = end <= now
        yield warning(
            "trust.keys",
            f"the {'/'.join(key.roles)}'s key{_whose(key)} {'expired' if over else 'expires'} "
            f"at {moment_text(end)}",
            where=key.public.fingerprint,
            cure=_ASK
            if store.signed
            else "ask its holder for a new key, compare its fingerprint, then: "
            f"airgap trust add FILE.pub {key.granted}"
            if over
            else "ask its holder for its successor (airgap key rotate NEW), then: "
            "airgap trust succeed NEW.succession",
        )
    if len(ends) > _MOST_SHOWN:
        yield warning(
            "trust.keys",
            f"and {plural(len(ends) - _MOST_SHOWN, 'more key')} like that",
            cure="airgap trust list shows them",
        )
    revoked = sum(key.revoked is not None for key in store.keys.values())
    if not ends:
        said = f", {revoked} revoked" if revoked else ""
        yield ok("trust.keys", f"no key of others ends within {SOON.days} days{said}")


def peers(
    store: TrustStore, own: set[str], side: Side, now: datetime, *, paired: bool
) -> Iterator[Finding]:
    """Judge whether what the other side signs can be verified.

    Args:
        store: this side's trust store.
        own: ids of this side's own keys.
        side: which side this is.
        now: the present.
        paired: whether codes can be typed in instead of receipts.
    """
    is_workstation = side == "workstation"
    role: Role = "exporter" if is_workstation else "importer"
    what, other = ("bundle", "isolated host") if is_workstation else ("receipt", "workstation")
    there = [k for k in live(store, role, now) if k.public.key_id not in own]
    if there:
        yield ok("trust.peers", f"{plural(len(there), f'{role} key')} of the other side")
        return
    if paired:
        yield ok("trust.peers", "no importer's key, but codes can be typed in instead of receipts")
        return
    yield wrong(
        "trust.peers",
        f"no {role}'s key of the other side is trusted: no {what} can be verified",
        expected=f"the key of the {other}, with the role {role}",
        cure=_ASK
        if store.signed
        else f"compare the fingerprint by phone with the {other}, then: "
        f"airgap trust add FILE.pub --role {role}" + (" --source NAME" if is_workstation else ""),
    )


def policies(store: TrustStore, now: datetime) -> Iterator[Finding]:
    """Judge whether there are keys, of enough people, for what policies demand."""
    unmet = [said for policy in store.policies.values() for said in _unmet(store, policy, now)]
    for said, source in unmet:
        yield wrong(
            "trust.policies",
            said,
            where=f"the policy of {printable(source)}",
            expected="as many people with keys that count as the policy demands",
            cure=_ASK
            if store.signed
            else "add the missing keys (airgap trust add FILE.pub --role ROLE --source NAME), or lower "
            "the demand: "
            f"airgap trust policy set --source {printable(source)}",
        )
    if not unmet:
        said = plural(len(store.policies), "policy", "policies") if store.policies else "no policy"
        yield ok("trust.policies", f"{said}, and keys enough")


def root(store: TrustStore) -> Iterator[Finding]:
    """Judge whether a root key can be lost: then as many as must sign are still there."""
    if store.root is None:
        yield ok("trust.root", "no root keys: this side keeps its own trust store")
        return
    threshold, there = store.root.threshold, len(store.root.keys)
    said = f"{threshold} of {plural(there, 'root key')} must sign"
    if threshold < there:
        yield ok("trust.root", said)
        return
    yield warning(
        "trust.root",
        f"{said}: with one of them lost, nobody can sign a new trust store",
        expected="more root keys than must sign",
        cure="where the trust store is made: airgap trust root add FILE.pub, then "
        "sign it anew: airgap trust sign --key NAME --to FOLDER",
    )


def live(store: TrustStore, role: Role, now: datetime) -> list[TrustedKey]:
    """Return the keys of a role that count now: not revoked, not followed by another, in their time."""
    return [
        key
        for key in store.keys.values()
        if role in key.roles
        and key.revoked is None
        and key.followed_by is None
        and (key.not_after is None or key.not_after > now)
    ]


def _unmet(store: TrustStore, policy: Policy, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield what of a policy nobody can meet, and the policy's source.

    A policy for all sources is met where some source's is: keys of one source may be others than
    those of another.
    """
    demands: tuple[tuple[Role, int], ...] = (
        ("exporter", policy.exporters),
        ("reviewer", policy.reviewers),
    )
    everybody: set[str] = set()
    enough = True
    for role, wanted in demands:
        there = {
            store.person(key.public)
            for key in live(store, role, now)
            if policy.source == ANY_SOURCE or key.may_sign_for(policy.source)
        }
        everybody |= there
        if len(there) < wanted:
            enough = False
            yield (
                f"{plural(wanted, role)} must sign, and {len(there) or 'none'} can",
                policy.source,
            )
    together = policy.exporters + policy.reviewers
    if enough and len(everybody) < together:
        said = (
            f"{plural(together, 'person', 'people')} must sign, as nobody may both export and review, "
            f"and {len(everybody)} can"
        )
        yield said, policy.source


def _is_office(store: TrustStore, own: set[str], now: datetime) -> bool:
    """Tell whether a side only signs trust stores or reviews: it then verifies nobody's bundles."""
    roots = store.root.by_id().keys() if store.root else set()
    working = {k.public.key_id for r in ("exporter", "importer") for k in live(store, r, now)}
    reviewing = {k.public.key_id for k in live(store, "reviewer", now)}
    return bool(own & (roots | reviewing)) and not own & working


def _whose(key: TrustedKey) -> str:
    return f" ({printable(key.comment, 40)})" if key.comment else ""


def newest(scene: Scene) -> datetime | None:
    """Return when a key was last added or revoked, or None where that can't be read."""
    try:
        store = scene.trust()
    except AirgapError:
        return None
    moments = [key.added_at for key in store.keys.values()]
    moments += [key.revoked.at for key in store.keys.values() if key.revoked]
    return max(moments, default=None)
