"""Receipts: what the beacon answered, signed, to be carried back."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from airgap import __version__, timestamps, verify
from airgap.bundle.layout import FORMAT, Header
from airgap.bundle.writer import Writer
from airgap.catalog import Catalog, JsonObject
from airgap.errors import DamagedError, InputRefusedError, SequenceError, TrustError
from airgap.files import written_whole
from airgap.home import Home
from airgap.replay import delivered
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import SETTLED_OUTCOMES, LastReceipt, LedgerBundle
from airgap.trust.keys import PrivateKey
from airgap.trust.store import TrustStore

RECEIPT_SUFFIX = ".receipt"


@dataclass(frozen=True, slots=True)
class MadeReceipt:
    """A receipt in the home.

    Args:
        path: the file.
        bundle: the bundle that it answers.
        outcomes: how many records had each outcome.
        new: whether it was made now; else it is the newest one there, still true.
        digest: over all outcomes, where they were looked at; None where the ledger knew them.
    """

    path: Path
    bundle: LedgerBundle
    outcomes: dict[str, int]
    new: bool
    digest: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every record of the bundle is delivered."""
        return self.outcomes["delivered"] == sum(self.outcomes.values())


def check_key(key: PrivateKey, trust: TrustStore, now: datetime) -> None:
    """Check that a key may sign receipts here, before anything depends on it.

    Raises:
        TrustError: it is not trusted as importer, is revoked, or out of its time.
    """
    entry = trust.keys.get(key.public.key_id)
    if entry is None or entry.revoked is not None or "importer" not in entry.roles:
        roles = ", ".join(entry.roles) if entry else "not in the trust store"
        raise TrustError(
            "your own key can't sign receipts",
            where=key.public.fingerprint,
            expected="a key that this home trusts as importer",
            found="revoked" if entry and entry.revoked else roles,
            hint="choose another with --key, or make one with `airgap key generate --name NEW`",
        )
    ended = entry.not_after is not None and entry.not_after <= now
    if ended or (entry.not_before is not None and entry.not_before > now):
        raise TrustError(
            f"your own key {'has expired' if ended else 'is not valid yet'}",
            where=key.public.fingerprint,
            expected=f"a key that is valid at {timestamps.to_text(now)}",
            found=f"{entry.not_before or ''} .. {entry.not_after or ''}",
            hint="choose another with --key, or make one and exchange it: airgap key generate --name NEW",
        )


def require_newest(home: Home, ledger: Ledger) -> None:
    """Check that the ledger knows every receipt in the home.

    One that does not was restored from an old copy, and has forgotten what was delivered since.

    Raises:
        SequenceError: the ledger is older than the home's receipts.
    """
    known = ledger.receipt_names()
    for path in sorted(home.folder("receipts").glob(f"*{RECEIPT_SUFFIX}")):
        if path.name not in known:
            raise SequenceError(
                "the ledger is older than this home's receipts: it was restored from a copy, and would"
                " deliver again what it has forgotten",
                where=home.ledger_name,
                expected=f"a ledger that knows {path.name}",
                found="one that does not",
                hint="put the newest ledger back, with its -wal file; nothing was sent",
            )


def make_receipt(
    home: Home,
    ledger: Ledger,
    bundle: LedgerBundle,
    key: PrivateKey,
    trust: TrustStore,
    catalog: Catalog,
    now: datetime,
    *,
    with_answers: bool,
) -> MadeReceipt:
    """Write a bundle's receipt into the home, unless the newest one still says the same.

    In a shared ledger the newest may lie in another workstation's home. Then one is made here too,
    signed by this home's key, with the next number and the other one as its previous.

    Args:
        home: the workstation's home.
        ledger: its ledger.
        bundle: the bundle to answer.
        key: signs as importer; must be in ``trust``.
        trust: this side's trust store.
        catalog: schemas and kinds.
        now: the present.
        with_answers: whether kept answers (tokens, organization ids) go along.

    Raises:
        TrustError: the key may not sign receipts.
        DamagedError: totals part between ledger and receipt.
        MediumError: the home's file system refused.
    """
    draft = _Draft(home, ledger, bundle, key, trust, catalog, now, with_answers)
    while True:
        made = draft.make()
        if made is not None:
            return made


@dataclass(frozen=True, slots=True)
class _Draft:
    """What ``make_receipt`` is given."""

    home: Home
    ledger: Ledger
    bundle: LedgerBundle
    key: PrivateKey
    trust: TrustStore
    catalog: Catalog
    now: datetime
    with_answers: bool

    def make(self) -> MadeReceipt | None:
        """Return the receipt; None where another workstation took its number meanwhile."""
        ledger, bundle, folder = self.ledger, self.bundle, self.home.folder("receipts")
        known = delivered.digest(ledger, bundle, with_answers=self.with_answers)
        if known is not None and (there := self._there(folder, known)) is not None:
            outcomes = dict.fromkeys(SETTLED_OUTCOMES, 0)
            outcomes["delivered"] = delivered.records(ledger, bundle)
            return MadeReceipt(there, bundle, outcomes, new=False)
        # What is counted, written and added up is of one moment, whatever other runs do.
        with ExitStack() as moment:
            moment.enter_context(ledger.database.snapshot())
            outcomes, digest = _survey(ledger, bundle, with_answers=self.with_answers)
            last = ledger.last_receipt(bundle)
            there = self._there(folder, digest)
            if there is not None:
                return MadeReceipt(there, bundle, outcomes, new=False, digest=digest)
            number = last.number + 1 if last else 1
            name = f"{bundle.source}-{bundle.sequence:06d}-r{number}{RECEIPT_SUFFIX}"
            with suppress(_TakenError), written_whole(folder / name) as stream:
                writer = Writer(stream, Header("receipt"))
                for outcome in _outcomes(ledger, bundle, with_answers=self.with_answers):
                    writer.add(outcome)
                writer.finish(self._manifest(number, last, outcomes), [self.key.sign])
                receipt = verify.verify_receipt(
                    stream, name=name, trust=self.trust, catalog=self.catalog
                )
                moment.close()
                # First the ledger, then the file's name: a receipt in the home is known to its ledger.
                if not ledger.add_receipt(bundle, receipt.document_id, number, name, digest):
                    raise _TakenError
                return MadeReceipt(folder / name, bundle, outcomes, new=True, digest=digest)
        return None

    def _there(self, folder: Path, digest: str) -> Path | None:
        """Return a receipt of this home that says what the newest one says, if that has the digest.

        One that is signed by a key that was revoked since says nothing to whoever knows of it.
        """
        for name in self.ledger.receipts_saying(self.bundle, digest):
            if (folder / name).exists() and self._counts(folder / name):
                return folder / name
        return None

    def _counts(self, path: Path) -> bool:
        """Tell whether a receipt's signatures count; looked at only where a key was revoked."""
        if all(key.revoked is None for key in self.trust.keys.values()):
            return True
        try:
            with path.open("rb") as stream:
                return verify.counts(stream, name=path.name, trust=self.trust, catalog=self.catalog)
        except (DamagedError, InputRefusedError):
            return False  # nor does one that is damaged say anything

    def _manifest(
        self, number: int, last: LastReceipt | None, outcomes: dict[str, int]
    ) -> JsonObject:
        return {
            "format": FORMAT,
            "file_type": "receipt",
            "source": self.bundle.source,
            "importer": self.home.name,
            "bundle_id": self.bundle.bundle_id,
            "bundle_sequence": self.bundle.sequence,
            "bundle_previous": self.bundle.previous,
            "number": number,
            "previous": last.receipt_id if last else None,
            "created_at": timestamps.to_text(self.now),
            "producer": f"airgap {__version__}",
            "outcomes": outcomes,
            "totals": self.ledger.bundle_totals(self.bundle, "delivered").as_map(),
        }


class _TakenError(Exception):
    """Another workstation made a receipt of this number."""


def _outcomes(ledger: Ledger, bundle: LedgerBundle, *, with_answers: bool) -> Iterator[JsonObject]:
    for outcome in ledger.outcomes(bundle):
        yield outcome if with_answers else {**outcome, "answer": None}


def _survey(
    ledger: Ledger, bundle: LedgerBundle, *, with_answers: bool
) -> tuple[dict[str, int], str]:
    """Return how many records had each outcome, and a digest over all of them."""
    counts = dict.fromkeys(SETTLED_OUTCOMES, 0)
    digest = sha256()
    for outcome in _outcomes(ledger, bundle, with_answers=with_answers):
        counts[outcome["outcome"]] += 1
        digest.update(json.dumps(outcome, sort_keys=True).encode() + b"\n")
    return counts, digest.hexdigest()
