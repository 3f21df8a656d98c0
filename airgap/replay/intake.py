"""Import: files on a stick into the ledger, each verified in quarantine before anything is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airgap import quarantine, timestamps, verify
from airgap.catalog import Catalog
from airgap.credentials import Keyring
from airgap.errors import AirgapError, UnreachableError
from airgap.findings import Finding
from airgap.home import Home
from airgap.replay import chain
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.requests import Batch, Request, Routes, plan
from airgap.text import printable
from airgap.trust.approvals import Approval
from airgap.trust.recipients import Opener
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
        findings: what is odd about it.
    """

    path: Path
    bundle: LedgerBundle | None
    verified: VerifiedBundle | None
    new: bool
    known: int
    error: AirgapError | None
    findings: tuple[Finding, ...] = ()

    @property
    def signed_by(self) -> list[str]:
        """Ids of the keys that signed it."""
        return [key.public.key_id for key in (self.verified.signers if self.verified else ())]

    @property
    def approved_by(self) -> list[str]:
        """Ids of the reviewers' keys that approved of it."""
        reviews = self.verified.reviews if self.verified else None
        return [key.public.key_id for key in (reviews.approved if reviews else ())]


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes files into a ledger.

    Args:
        home: the workstation's home; quarantine is in it.
        ledger: where records go.
        trust: whose signatures count.
        keyring: this side's credentials; a new bundle that needs another is refused.
        catalog: schemas and kinds.
        clock: the present.
        accepted: ids of bundles, or their beginnings, that may be backdated.
        approvals: what reviewers say; each is held against the trust store.
        opener: finds the keys of sealed bundles, or None.
    """

    home: Home
    ledger: Ledger
    trust: TrustStore
    keyring: Keyring
    catalog: Catalog
    clock: timestamps.Clock
    accepted: frozenset[str] = frozenset()
    approvals: tuple[Approval, ...] = ()
    opener: Opener | None = None

    def take(self, paths: list[Path], progress: Callable[[Imported], None]) -> list[Imported]:
        """Verify files and take them in; a refused file does not stop the others.

        Args:
            paths: the files, in any order.
            progress: called after each file.

        Returns:
            One entry per file, in the order of ``paths``.
        """
        results: list[Imported] = []
        for path in paths:
            result = self._take_one(path)
            progress(result)
            results.append(result)
        return results

    def _take_one(self, path: Path) -> Imported:
        name = printable(str(path), 300)
        try:
            with quarantine.copied(path, self.home.folder("quarantine")) as stream:
                bundle = verify.verify_bundle(
                    stream,
                    name=name,
                    trust=self.trust,
                    catalog=self.catalog,
                    approvals=self.approvals,
                    opener=self.opener,
                )
                found = tuple(chain.odd(bundle, self.clock()))
                # Two importers may come with bundles of one source: its chain is looked at and
                # made longer by one of them at a time.
                with self.ledger.database.turn(f"source {bundle.source}"):
                    there = chain.find(self.ledger, bundle, self.accepted)
                    if there is None:
                        self.keyring.require(bundle.manifest["credentials"])
                        added = self.ledger.add_bundle(bundle)
                if there is not None:
                    return Imported(
                        path, there, bundle, new=False, known=0, error=None, findings=found
                    )
                found = tuple(chain.odd(bundle, self.clock(), added))
                return Imported(
                    path,
                    added.bundle,
                    bundle,
                    new=True,
                    known=added.known,
                    error=None,
                    findings=found,
                )
        except UnreachableError:
            raise  # it is the ledger that is out of reach, and not the file that is refused
        except AirgapError as error:
            error.where = error.where or name
            return Imported(path, None, None, new=False, known=0, error=error)


def would_send(
    ledger: Ledger,
    keyring: Keyring,
    catalog: Catalog,
    routes: Routes,
    show: Callable[[Batch, Request], None],
) -> None:
    """Show every request that would leave for the ledger's scope.

    Args:
        ledger: the ledger.
        keyring: this side's credentials.
        catalog: schemas and kinds.
        routes: where requests would go.
        show: called for each request, in which masks stand for credentials.
    """
    entries = {kind: ledger.waiting(kind) for kind in catalog.kinds}
    for batch, request in plan(entries, catalog, keyring, routes):
        show(batch, request)
