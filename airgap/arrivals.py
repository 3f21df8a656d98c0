"""What came on a stick: the files to verify, the approvals beside them, and whose signatures count."""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from airgap import media, quarantine
from airgap.catalog import Catalog
from airgap.errors import AirgapError, UsageError
from airgap.home import Home
from airgap.text import printable
from airgap.trust import approvals
from airgap.trust import store as trust_store
from airgap.trust.approvals import Approval
from airgap.trust.store import TrustStore

_LARGEST = 64 * 1024
_MOST = 1000


def trust_of(home: Home, catalog: Catalog, now: datetime) -> TrustStore:
    """Return a home's trust store, to verify with.

    Args:
        home: whose it is.
        catalog: schemas.
        now: the present.

    Raises:
        TrustError: it is damaged, or signed and past its time.
    """
    store = trust_store.load(home.trust_path, catalog)
    store.require_fresh(now, where=str(home.path))
    return store


def files_to_read(paths: Iterable[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files to verify; approvals are none, nor are folders that hold nothing else.

    Those may be named beside the bundles, as where they came on a stick of their own.

    Raises:
        UsageError: a path does not exist, or nothing but approvals is named.
        InputRefusedError: there are too many, or a link on a stick leads to them.
    """
    left: list[Path] = []
    approved = False
    for path in paths:
        if path.is_dir():
            names = [p.name.lower() for p in path.iterdir()]
            alone = not any(name.endswith(suffixes) for name in names)
            is_approval = alone and any(name.endswith(approvals.SUFFIX) for name in names)
        else:
            is_approval = path.name.lower().endswith(approvals.SUFFIX)
        if is_approval:
            media.files([path], (approvals.SUFFIX,))
            approved = True
        else:
            left.append(path)
    if approved and not left:
        raise UsageError(
            "these are approvals, and no bundle that they are about",
            hint="name the bundle, or its folder, as well",
        )
    return media.files(left, suffixes)


def approvals_beside(
    home: Home, catalog: Catalog, paths: Iterable[Path], warn: Callable[[str], None]
) -> list[Approval]:
    """Return the approvals in and beside what is to be verified; none of them is verified.

    One that can't be read does not count, and that is said.

    Args:
        home: its quarantine is used.
        catalog: schemas.
        paths: bundles, and folders that hold them; approvals may be named too.
        warn: takes what is to be said.
    """
    found: dict[Path, None] = {}
    for path in paths:
        folder = path if path.is_dir() else path.parent
        inside = sorted(p for p in folder.iterdir() if p.name.lower().endswith(approvals.SUFFIX))
        found.update(dict.fromkeys(p for p in inside if not p.name.startswith(".")))
    if len(found) > _MOST:
        warn(f"there are {len(found):,} approvals: only the first {_MOST:,} are looked at")
    read: list[Approval] = []
    for path in list(found)[:_MOST]:
        name = printable(str(path), 300)
        try:
            with quarantine.copied(path, home.folder("quarantine"), most=_LARGEST) as stream:
                read.append(approvals.read(stream.read(), catalog, name=name))
        except AirgapError as error:
            warn(f"{name} does not count: {error.message}")
    return read
