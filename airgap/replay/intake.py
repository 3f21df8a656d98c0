"""Import: files on a stick into the ledger, each verified in quarantine before anything is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from airgap import media, timestamps, verify
from airgap.catalog import Catalog
from airgap.credentials import Keyring
from airgap.errors import AirgapError
from airgap.home import Home
from airgap.replay import chain
from airgap.replay.ledger import Ledger, LedgerBundle
from airgap.replay.requests import Batch, Request, Routes, plan
from airgap.text import printable
from airgap.trust.store import TrustStore
from airgap.verify import VerifiedBundle


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file.

    Args:
        path: the file.
        bundle: the ledger's entry, or None where it was refused.
        verified: what was verified, to be shown; its stream is closed.
        new: whether the bundle came for the first time.
        known: records that were in the ledger already by another bundle.
        error: why it was refused.
    """

    path: Path
    bundle: LedgerBundle | None
    verified: VerifiedBundle | None
    new: bool
    known: int
    error: AirgapError | None


def import_files(
    paths: list[Path],
    home: Home,
    ledger: Ledger,
    trust: TrustStore,
    keyring: Keyring,
    catalog: Catalog,
    progress: Callable[[Imported], None],
) -> list[Imported]:
    """Verify files and take them into the ledger; a refused file does not stop the others.

    Args:
        paths: the files, in any order.
        home: the workstation's home; quarantine is in it.
        ledger: its ledger.
        trust: whose signatures count.
        keyring: this side's credentials; a bundle that needs another is refused.
        catalog: schemas and kinds.
        progress: called after each file.

    Returns:
        One entry per file, in the order of ``paths``.
    """
    results: list[Imported] = []
    for path in paths:
        result = _import_one(path, home, ledger, trust, keyring, catalog)
        progress(result)
        results.append(result)
    return results


def dry_run(
    paths: list[Path],
    home: Home,
    trust: TrustStore,
    keyring: Keyring,
    catalog: Catalog,
    routes: Routes,
    show: Callable[[Batch, Request], None],
) -> list[Imported]:
    """Verify files and show every request that would leave, without keeping or sending anything.

    It works on a ledger of its own that is thrown away, by the same steps as an import.

    Args:
        paths: the files, in any order.
        home: the workstation's home.
        trust: whose signatures count.
        keyring: this side's credentials.
        catalog: schemas and kinds.
        routes: where requests would go.
        show: called for each request, in which masks stand for credentials.
    """
    with TemporaryDirectory(dir=home.folder("quarantine")) as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite", catalog, timestamps.system_clock)
        try:
            results = import_files(paths, home, ledger, trust, keyring, catalog, lambda _: None)
            results = [_check_chain(result, home, catalog) for result in results]
            ledger.copy_states(home.ledger_path)
            ledger.set_scope(r.bundle for r in results if r.bundle is not None)
            entries = {kind: ledger.waiting(kind) for kind in catalog.kinds}
            for batch, request in plan(entries, catalog, keyring, routes):
                show(batch, request)
        finally:
            ledger.close()
    return results


def _check_chain(result: Imported, home: Home, catalog: Catalog) -> Imported:
    """Return the result as the real ledger would have it: a fork is refused there."""
    if result.verified is None or not home.ledger_path.exists():
        return result
    real = Ledger(home.ledger_path, catalog, timestamps.system_clock)
    try:
        chain.find(real, result.verified)
    except AirgapError as error:
        return Imported(result.path, None, None, new=False, known=0, error=error)
    finally:
        real.close()
    return result


def _import_one(
    path: Path,
    home: Home,
    ledger: Ledger,
    trust: TrustStore,
    keyring: Keyring,
    catalog: Catalog,
) -> Imported:
    name = printable(str(path), 300)
    try:
        with media.quarantine(path, home.folder("quarantine")) as stream:
            bundle = verify.verify_bundle(stream, name=name, trust=trust, catalog=catalog)
            there = chain.find(ledger, bundle)
            if there is not None:
                return Imported(path, there, bundle, new=False, known=0, error=None)
            keyring.require(bundle.manifest["credentials"])
            entry, known = ledger.add_bundle(bundle)
            return Imported(path, entry, bundle, new=True, known=known, error=None)
    except AirgapError as error:
        error.where = error.where or name
        return Imported(path, None, None, new=False, known=0, error=error)
