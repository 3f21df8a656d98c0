"""A trust store that root keys sign, so that it can be carried, and neither forged nor rolled back.

The rules are those of TUF's root role (the TUF specification, 5.3): a new version is signed by enough
keys of the root before it and by enough of its own; its number is higher; after its time is over it
counts no more. Several versions at once are taken in their order. Numbers may be skipped as long as
the keys of the version that is there have signed.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from airgap.bundle.envelope import Envelope
from airgap.catalog import Catalog
from airgap.errors import SequenceError, TrustError
from airgap.trust import statement
from airgap.trust.entries import Root, moment_text
from airgap.trust.store import TrustStore, from_map, require_root

SUFFIX = ".trust"


def propose(
    store: TrustStore, expires: datetime | None, catalog: Catalog
) -> tuple[Envelope, TrustStore]:
    """Return the next version of a trust store, to be signed by its root keys.

    Raises:
        TrustError: it names no root keys.
    """
    if store.root is None:
        raise TrustError(
            "the trust store names no root keys",
            expected="who is to sign it",
            found="nobody",
            hint="airgap trust root add FILE.pub",
        )
    made = replace(store, version=store.version + 1, expires=expires)
    return statement.make("trust", made.as_map(), [], catalog), made


def read(data: bytes, catalog: Catalog, *, where: str) -> tuple[Envelope, TrustStore]:
    """Return a signed trust store; nothing of it is verified.

    Raises:
        DamagedError: it is none.
        InputRefusedError: it breaks its schema.
        TrustError: it contradicts itself.
    """
    envelope, value = statement.read("trust", data, catalog, where=where)
    return envelope, from_map(value, where=where)


def follows(
    current: TrustStore,
    data: bytes,
    catalog: Catalog,
    now: datetime,
    *,
    named: Collection[str] = (),
    where: str,
) -> TrustStore | None:
    """Return the trust store that takes the place of the current one, or None where it is that one.

    Args:
        current: the home's.
        data: the signed trust store.
        catalog: schemas.
        now: the present.
        named: beginnings of the ids of root keys that a person vouches for, all of which must have
            signed; needed where the current store is not signed, and of no use otherwise.
        where: the file, for the message.

    Raises:
        DamagedError: it is no trust store.
        InputRefusedError: it breaks its schema.
        TrustError: signatures are missing or wrong, or its time is over.
        SequenceError: it is older than the current one, or another one of the same version.
    """
    envelope, store = read(data, catalog, where=where)
    if current.signed:
        assert current.root is not None
        require_root(current.root, envelope, "the root that this home trusts", where=where)
    else:
        require_root(
            _vouched(store.root, named), envelope, "the root keys that you named", where=where
        )
    require_root(store.root, envelope, "its own root", where=where)
    if current.signed and store.version <= current.version:
        if replace(store, signed=True) == current:
            return None
        older = store.version < current.version
        raise SequenceError(
            "the trust store is older than the one that is here"
            if older
            else "there are two different trust stores of this version",
            where=where,
            expected=f"a version after {current.version}",
            found=f"version {store.version}",
            hint="an old one may trust what was revoked since; ask the holders of the root keys"
            if older
            else "somebody signed twice; ask the holders of the root keys for a newer one",
        )
    if store.expires is not None and store.expires <= now:
        raise TrustError(
            "the trust store's time is over",
            where=where,
            expected=f"one that is valid at {moment_text(now)}",
            found=f"version {store.version}, until {moment_text(store.expires)}",
            hint="ask the holders of the root keys for a newer one, or set the clock right",
        )
    return replace(store, signed=True)


def _vouched(root: Root | None, named: Collection[str]) -> Root | None:
    """Return the part of a root that a person vouches for, all of which must have signed.

    Its own threshold alone is what one of its holders may have written.
    """
    if root is None:
        return None
    different = {b for b in named if not any(o != b and o.startswith(b) for o in named)}
    keys = tuple(
        (key, comment)
        for key, comment in root.keys
        if any(key.key_id.startswith(beginning) for beginning in named)
    )
    return replace(root, keys=keys, threshold=max(root.threshold, len(different)))
