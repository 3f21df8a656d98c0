"""Succession: a key names the key that follows it, and both sign.

Whoever trusts the old key can trust the new one without another phone call, in the same roles and
for the same sources. The old key then signs nothing from the named sequence on; one that signs no
bundles, nothing from the time of the succession on.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from airgap import timestamps
from airgap.bundle.envelope import Envelope
from airgap.catalog import Catalog, JsonObject
from airgap.errors import TrustError
from airgap.text import printable
from airgap.trust import statement
from airgap.trust.entries import Place, TrustedKey, public_from_map
from airgap.trust.keys import HYBRID, PrivateKey, PublicKey, fingerprint
from airgap.trust.signatures import right_signatures
from airgap.trust.store import TrustStore

SUFFIX = ".succession"
FORMAT = "airgap-succession/1"
AHEAD = timedelta(days=1)
"""How far the clock of who rotated may be ahead."""


def make(
    old: PrivateKey,
    new: PrivateKey,
    name: str,
    from_sequence: int | None,
    catalog: Catalog,
    now: datetime,
) -> Envelope:
    """Return the statement that one key follows another.

    Args:
        old: the key that steps back.
        new: the key that follows.
        name: the source or workstation whose keys they are.
        from_sequence: the first bundle that the new key signs, or None where it signs none.
        catalog: schemas.
        now: the present.
    """
    value = {
        "format": FORMAT,
        "old": old.public.key_id,
        "new": {
            "key_id": new.public.key_id,
            "algorithm": new.public.algorithm,
            "public_key": new.public.pem,
        },
        "name": name,
        "from_sequence": from_sequence,
        "created_at": timestamps.to_text(now),
    }
    return statement.make("succession", value, [old.sign, new.sign], catalog)


def successor(
    data: bytes, catalog: Catalog, *, where: str
) -> tuple[Envelope, JsonObject, PublicKey]:
    """Return a succession and the key that it names; whether the old one may say so is not asked.

    Raises:
        DamagedError: it is none.
        InputRefusedError: it breaks its schema.
        TrustError: the key in it is none.
    """
    envelope, value = statement.read("succession", data, catalog, where=where)
    return envelope, value, public_from_map(value["new"], where=where)


def require_able(old: TrustedKey, now: datetime, *, where: str) -> None:
    """Check that a key can name its successor.

    Args:
        old: the key.
        now: the present, by this side's clock: what a key says of its own time, its thief says too.
        where: the file, or the key's name.

    Raises:
        TrustError: it is revoked, past its time, or has named one already.
    """
    if old.revoked is not None or old.followed_by is not None:
        raise TrustError(
            "a revoked key can't name its successor"
            if old.revoked
            else "the key has named its successor already",
            where=where,
            expected="a key that is not revoked, and one successor",
            found=printable(str(old.revoked), 400)
            if old.revoked
            else f"successor {fingerprint(old.followed_by or '')}",
            hint="add the new key instead, by its fingerprint: airgap trust add FILE.pub "
            f"{old.granted} --fingerprint DIGITS",
        )
    if old.not_after is not None and old.not_after <= now:
        raise TrustError(
            "the key's time is over: what has expired names no successor",
            where=where,
            expected=f"before {timestamps.to_text(old.not_after)}",
            found=timestamps.to_text(now),
            hint="make a new one (airgap key generate --name NEW) and add it by its fingerprint: "
            f"airgap trust add NEW.pub {old.granted} --fingerprint DIGITS",
        )


def _require_end(
    old: TrustedKey, first: int | None, made_at: datetime, now: datetime, *, where: str
) -> None:
    """Check that what a succession says is an end of the old key, and not one in a thousand years."""
    if (first is not None) != ("exporter" in old.roles):
        raise TrustError(
            "the succession does not say where the old key ends",
            where=where,
            expected="the first bundle of the new key"
            if first is None
            else "no bundle: the old key signs none",
            found="none" if first is None else f"bundle {first}",
            hint="add the new key by its fingerprint instead, and remove the old one: "
            f"airgap trust add FILE.pub {old.granted} --fingerprint DIGITS",
        )
    if made_at > now + AHEAD:
        raise TrustError(
            "the succession is of a time that is still to come: till then both keys would count",
            where=where,
            expected=f"at most {timestamps.to_text(now + AHEAD)}",
            found=timestamps.to_text(made_at),
            hint="check both clocks; then rotate again, or add the new key by its fingerprint",
        )


def follow(
    store: TrustStore, data: bytes, catalog: Catalog, now: datetime, *, where: str
) -> tuple[TrustStore, TrustedKey, TrustedKey]:
    """Return a store in which the new key follows the old one, and the entries of both.

    The store is as it was where that is so already.

    Raises:
        DamagedError: it is no succession.
        InputRefusedError: it breaks its schema.
        TrustError: the old key is unknown, revoked, past its time or left in force; a signature is missing or
            wrong; the new key is weaker, or there already; the name is not one that the old key may
            sign for.
    """
    envelope, value, public = successor(data, catalog, where=where)
    old = store.keys.get(value["old"])
    known = {public.key_id: public} | ({old.public.key_id: old.public} if old else {})
    if old is None or set(right_signatures(envelope, known, where=where)) != set(known):
        raise TrustError(
            "the succession is not signed by a key that is trusted here, and by the one that follows it",
            where=where,
            expected="signatures by both keys",
            found=f"old key {'known' if old else 'not in the trust store'}, "
            f"{len(envelope.signatures)} signatures",
            hint="where keys followed one another: the earlier succession first; else add the new key by "
            "its fingerprint: airgap trust add FILE.pub --role ROLE --fingerprint DIGITS",
        )
    heir = store.keys.get(public.key_id)
    if heir is not None and old.followed_by == public.key_id:
        return store, old, heir
    require_able(old, now, where=where)
    if heir is not None:
        raise TrustError(
            "the new key is in the trust store already, but not as the one that follows",
            where=where,
            expected=f"a new key, in the place of {old.public.fingerprint}",
            found=public.fingerprint,
            hint=f"airgap trust remove {public.key_id[:16]}, then the same command again",
        )
    if old.public.algorithm == HYBRID and public.algorithm != HYBRID:
        raise TrustError(
            "a hybrid key can't be followed by a weaker one",
            where=where,
            expected=HYBRID,
            found=public.algorithm,
            hint="airgap key rotate makes a hybrid key where the old one is hybrid",
        )
    first, made_at = value["from_sequence"], timestamps.parse(value["created_at"])
    _require_end(old, first, made_at, now, where=where)
    # The name of an importer, or of a reviewer's own home, is no source.
    source = value["name"] if "exporter" in old.roles else old.sources[0]
    old.check(Place(source, made_at, first or 1), where=where)
    entry = TrustedKey(
        public,
        old.roles,
        old.sources,
        None,
        None,
        None,
        printable(f"{old.comment} (follows {old.public.fingerprint[:9]})".strip(), 256),
        now,
    )
    retired = (
        replace(old, followed_by=public.key_id, not_after=made_at)
        if first is None
        else replace(old, followed_by=public.key_id, last_sequence=first - 1)
    )
    return store.changed(retired).with_key(entry), retired, entry
