"""What comes back to the isolated host: receipts and codes, pruning, and going on after a restore."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from airgap import timestamps
from airgap.bundle import codec
from airgap.errors import InputRefusedError, SequenceError
from airgap.outbox import Outbox, StoredBundle
from airgap.records import Totals
from airgap.text import plural
from airgap.verify import VerifiedReceipt

_MOST_FORGOTTEN = 1_000_000
_TWO_CHAINS = (
    "two ledgers hold two chains of this source; find out which is right; nothing was changed"
)


def is_applied(outbox: Outbox, receipt: VerifiedReceipt) -> bool:
    """Tell whether a receipt was applied."""
    found = outbox.database.connection.execute(
        "SELECT 1 FROM receipt WHERE receipt_id = ?", (receipt.document_id,)
    ).fetchone()
    return found is not None


def is_stale(outbox: Outbox, receipt: VerifiedReceipt) -> bool:
    """Tell whether a newer receipt of the same ledger for the same bundle was applied.

    That is one by the same importer with a higher number, or one that names this as its previous
    (importers that share a ledger). A later receipt stands for the whole bundle, so an older one
    has nothing to add.
    """
    follows = outbox.database.connection.execute(
        "SELECT 1 FROM receipt WHERE previous = ?", (receipt.document_id,)
    ).fetchone()
    if follows is not None:
        return True
    row = outbox.database.connection.execute(
        "SELECT max(number) FROM receipt WHERE sequence = ? AND importer = ?",
        (bundle_of(outbox, receipt).sequence, receipt.manifest["importer"]),
    ).fetchone()
    return bool(row[0] is not None and receipt.manifest["number"] < row[0])


def is_from_before(outbox: Outbox, receipt: VerifiedReceipt) -> bool:
    """Tell whether a receipt is about a bundle made before the outbox was restored.

    Raises:
        SequenceError: it is about a bundle that was made void here: somebody took it in all the same.
    """
    manifest = receipt.manifest
    void = outbox.database.connection.execute(
        "SELECT 1 FROM void_bundle WHERE bundle_id = ?", (manifest["bundle_id"],)
    ).fetchone()
    if void is not None:
        delivered = manifest["outcomes"]["delivered"]
        raise SequenceError(
            f"bundle {manifest['bundle_sequence']} was made void here, and {manifest['importer']}"
            f" says that it delivered {plural(delivered, 'record')} of it",
            where=receipt.name,
            expected="a receipt of a bundle in the chain",
            found=manifest["bundle_id"],
            hint="its records wait, or are in a later bundle: stop that one before it is delivered as "
            "well, and find out why two workstations take in this source; nothing was changed",
        )
    held = {b.sequence: b for b in outbox.bundles()}
    newest = max((b.sequence for b in held.values() if b.adopted), default=0)
    there = held.get(manifest["bundle_sequence"])
    if receipt.source != outbox.source or (there is not None and not there.adopted):
        return False
    return int(manifest["bundle_sequence"]) <= newest


def apply(outbox: Outbox, receipt: VerifiedReceipt, now: datetime) -> dict[str, int]:
    """Take over a verified receipt: exactly its records change, all of them or none.

    An outcome ``delivered`` is final: an older receipt never takes it back. A receipt that was applied
    before changes nothing.

    Returns:
        How many records this receipt newly showed to be delivered, dead, in doubt, waiting.

    Raises:
        InputRefusedError: the receipt is not about a bundle of this outbox.
        SequenceError: another receipt stands at its place.
        DamagedError: its records or totals are not those of the bundle.
    """
    bundle = bundle_of(outbox, receipt)
    changed = {"delivered": 0, "dead": 0, "in_doubt": 0, "waiting": 0}
    confirmed = Totals()
    with outbox.database.transaction() as connection:
        _refuse_fork(outbox, receipt, bundle)
        if is_applied(outbox, receipt):
            return changed
        stored = {
            row[0]: row[1:]
            for row in connection.execute(
                "SELECT id, number, outcome, kind, payload FROM record WHERE number BETWEEN ? AND ?",
                (bundle.first, bundle.last),
            )
        }
        rows = 0
        for outcome in receipt.outcomes():
            entry = stored.pop(bytes.fromhex(outcome["id"]), None)
            if entry is None:
                raise _foreign(receipt, f"record {outcome['id']}", "a record of that bundle, once")
            rows += 1
            number, before, kind, payload = entry
            if outcome["outcome"] == "delivered" and not bundle.pruned:
                confirmed.add(outbox.catalog.kind(kind), codec.decode_own(payload))
            if before not in ("delivered", outcome["outcome"]):
                changed[outcome["outcome"]] += 1
                connection.execute(
                    "UPDATE record SET outcome = ? WHERE number = ?", (outcome["outcome"], number)
                )
        if stored:
            raise _foreign(receipt, f"{rows} records", f"all {rows + len(stored)} of the bundle")
        manifest = outbox.manifest(bundle)
        if (
            bundle.pruned
            and manifest is not None
            and receipt.manifest["outcomes"]["delivered"] == rows
        ):
            confirmed = Totals.from_map(manifest["totals"])
        if not bundle.pruned or confirmed.kinds:
            receipt.totals.require_equal(confirmed, here="the receipt", there="the outbox")
        connection.execute(
            "INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'receipt')",
            (
                receipt.document_id,
                bundle.sequence,
                receipt.manifest["number"],
                receipt.manifest["previous"],
                receipt.manifest["importer"],
                json.dumps(receipt.manifest["outcomes"]),
                receipt.manifest["created_at"],
                timestamps.to_text(now),
            ),
        )
    return changed


def confirm_by_code(outbox: Outbox, bundle: StoredBundle, importer: str, now: datetime) -> int:
    """Take over a code that was checked: every record of the bundle is delivered.

    Returns:
        How many records were not known to be delivered before.
    """
    at = timestamps.to_text(now)
    with outbox.database.transaction() as connection:
        changed = connection.execute(
            "UPDATE record SET outcome = 'delivered' WHERE number BETWEEN ? AND ?"
            " AND outcome IS NOT 'delivered'",
            (bundle.first, bundle.last),
        ).rowcount
        outcomes = json.dumps({"delivered": bundle.last - bundle.first + 1})
        connection.execute(
            "INSERT OR IGNORE INTO receipt VALUES (?, ?, 0, NULL, ?, ?, ?, ?, 'code')",
            (f"code:{importer}:{bundle.bundle_id}", bundle.sequence, importer, outcomes, at, at),
        )
    return changed


def prune(outbox: Outbox, folder: Path, older_than: timedelta, now: datetime) -> list[StoredBundle]:
    """Take away what whole confirmed bundles hold; ids stay, so that nothing is collected twice.

    Only bundles whose every record was delivered, and whose newest receipt or code was applied
    at least ``older_than`` ago. Manifests, totals and receipts' numbers stay.

    Args:
        outbox: the outbox.
        folder: where the home keeps its copies of bundles; theirs are deleted.
        older_than: how long ago.
        now: the present.

    Returns:
        The bundles pruned now.
    """
    limit = timestamps.to_text(now - older_than)
    done: list[StoredBundle] = []
    for bundle in outbox.bundles():
        if bundle.pruned or not outbox.is_confirmed(bundle):
            continue
        with outbox.database.transaction() as connection:
            row = connection.execute(
                "SELECT max(applied_at) FROM receipt WHERE sequence = ?", (bundle.sequence,)
            ).fetchone()
            if row[0] > limit:
                continue
            connection.execute(
                "UPDATE record SET payload = NULL WHERE number BETWEEN ? AND ?",
                (bundle.first, bundle.last),
            )
            connection.execute(
                "UPDATE bundle SET pruned_at = ? WHERE sequence = ?",
                (timestamps.to_text(now), bundle.sequence),
            )
        done.append(bundle)
    for bundle in outbox.bundles():
        if bundle.pruned:
            # Also those that an earlier run had pruned when it was cut off.
            (folder / bundle.file_name).unlink(missing_ok=True)
    if done:
        outbox.database.shrink()
    return done


@dataclass(frozen=True, slots=True)
class Continued:
    """How an outbox goes on.

    Args:
        sequence: of the bundle that the next one follows.
        bundle_id: its id.
        voided: this outbox's own bundles that are not in the chain; their records wait again.
    """

    sequence: int
    bundle_id: str
    voided: list[StoredBundle]


def continue_chain(outbox: Outbox, receipts: list[VerifiedReceipt], now: datetime) -> Continued:
    """Make an outbox that was restored go on where the workstation's chain ends.

    A restored host has forgotten bundles that it made, and would give their numbers to others.
    Receipts of the forgotten bundles, signed by the importer, say what the chain is. Bundles
    that this outbox made instead are void: their records wait again, under the same ids, so
    whatever of them arrived at this importer before is known there and is not delivered twice.

    Args:
        outbox: the outbox.
        receipts: receipts of this source, that of its newest bundle among them.
        now: the present.

    Raises:
        InputRefusedError: a receipt is of another source, or too few are given to be sure.
        SequenceError: the receipts contradict each other, receipts applied before, or what an
            earlier call relied on.
    """
    chain = _chain(outbox, receipts)
    bundles = outbox.bundles()
    own = {b.sequence: b for b in bundles if not b.adopted}
    newest, ours = max(chain), max((b.sequence for b in bundles), default=0)
    _refuse_contradictions(outbox, chain)
    wrong = [s for s, known in chain.items() if s in own and own[s].bundle_id != known]
    if newest <= ours and not wrong:
        raise InputRefusedError(
            "there is nothing to catch up with: this outbox made the bundles that the receipts are"
            " about, or goes on behind them already",
            where=str(outbox.database.path),
            expected=f"a receipt of bundle {ours + 1} or later",
            found=f"receipts up to bundle {newest}",
            hint="go on with airgap export; nothing was changed",
        )
    if newest - ours > _MOST_FORGOTTEN:
        raise InputRefusedError(
            "a receipt is about a bundle that can't be",
            where=str(outbox.database.path),
            expected=f"at most {_MOST_FORGOTTEN:,} bundles more than the {ours:,} known here",
            found=f"bundle {newest:,}",
            hint="ask the importer what this receipt is; nothing was changed",
        )
    first_wrong = min(wrong, default=ours + 1)
    _require_known(outbox, chain, own, first_wrong - 1)
    voided = [bundle for sequence, bundle in own.items() if sequence >= first_wrong]
    _void_and_adopt(outbox, voided, chain, now)
    return Continued(newest, chain[newest], voided)


def _chain(outbox: Outbox, receipts: list[VerifiedReceipt]) -> dict[int, str]:
    """Return the ids of bundles that receipts name, by sequence."""
    chain: dict[int, str] = {}
    for receipt in receipts:
        manifest = receipt.manifest
        if receipt.source != outbox.source:
            raise _foreign(receipt, f"source {receipt.source}", f"source {outbox.source}")
        sequence = manifest["bundle_sequence"]
        named = [(sequence, manifest["bundle_id"])]
        if manifest["bundle_previous"] is not None:
            named.append((sequence - 1, manifest["bundle_previous"]))
        for number, identifier in named:
            if chain.setdefault(number, identifier) != identifier:
                raise SequenceError(
                    f"the receipts contradict each other about bundle {number}",
                    where=receipt.name,
                    expected=chain[number],
                    found=identifier,
                    hint=_TWO_CHAINS,
                )
    return chain


def _refuse_contradictions(outbox: Outbox, chain: dict[int, str]) -> None:
    """Refuse a chain that parts from what this outbox has relied on before."""
    connection = outbox.database.connection
    for sequence, identifier in connection.execute("SELECT sequence, bundle_id FROM proven"):
        if chain.get(sequence, identifier) != identifier:
            raise _contradiction(
                outbox, sequence, identifier, "an earlier run of `airgap outbox continue`"
            )
    rows = connection.execute(
        "SELECT b.sequence, b.bundle_id, r.importer FROM bundle b JOIN receipt r"
        " ON r.sequence = b.sequence"
    )
    for sequence, identifier, importer in rows:
        if chain.get(sequence, identifier) != identifier:
            raise _contradiction(outbox, sequence, identifier, f"a receipt or code of {importer}")
    adopted = max((b.sequence for b in outbox.bundles() if b.adopted), default=0)
    for bundle in outbox.bundles():
        if (
            bundle.sequence < adopted
            and chain.get(bundle.sequence, bundle.bundle_id) != bundle.bundle_id
        ):
            raise _contradiction(outbox, bundle.sequence, bundle.bundle_id, "the bundles behind it")


def _require_known(
    outbox: Outbox, chain: dict[int, str], own: dict[int, StoredBundle], last_right: int
) -> None:
    """Check that the newest own bundle that is to stay is in the importer's chain."""
    if last_right not in own or last_right in chain:
        return
    row = outbox.database.connection.execute(
        "SELECT 1 FROM receipt WHERE sequence = ? UNION SELECT 1 FROM proven WHERE sequence = ?",
        (last_right, last_right),
    ).fetchone()
    if row is None:
        raise InputRefusedError(
            f"it is not known whether bundle {last_right} is in the importer's chain",
            where=str(outbox.database.path),
            expected=f"the receipt of bundle {last_right} or {last_right + 1} as well",
            found=f"receipts that name bundles {', '.join(map(str, sorted(chain)))}",
            hint="on the workstation: airgap import --resume --receipt-to FOLDER writes all receipts; "
            "nothing was changed",
        )


def _void_and_adopt(
    outbox: Outbox, voided: list[StoredBundle], chain: dict[int, str], now: datetime
) -> None:
    at, sequence = timestamps.to_text(now), max(chain)
    with outbox.database.transaction() as connection:
        for bundle in voided:
            connection.execute(
                "INSERT OR REPLACE INTO void_bundle SELECT bundle_id, sequence, manifest, written_to, ?"
                " FROM bundle WHERE sequence = ?",
                (at, bundle.sequence),
            )
            connection.execute("DELETE FROM bundle WHERE sequence = ?", (bundle.sequence,))
        connection.executemany("INSERT OR REPLACE INTO proven VALUES (?, ?)", chain.items())
        first = outbox.next_bundle()[2]
        connection.execute(
            "INSERT INTO bundle (sequence, bundle_id, file_name, first, last, created_at, covered,"
            " used, written_to, written_at) VALUES (?, ?, '', ?, ?, ?, '{}', '{}', '', ?)",
            (sequence, chain[sequence], first, first - 1, at, at),
        )
        outbox.require_whole()


def bundle_of(outbox: Outbox, receipt: VerifiedReceipt) -> StoredBundle:
    """Return the outbox's bundle that a receipt answers.

    Raises:
        InputRefusedError: this outbox did not make it.
    """
    for bundle in outbox.bundles():
        if bundle.bundle_id == receipt.manifest["bundle_id"]:
            if (
                receipt.source == outbox.source
                and bundle.sequence == receipt.manifest["bundle_sequence"]
                and _previous(outbox, bundle) == receipt.manifest["bundle_previous"]
            ):
                return bundle
            break
    raise _foreign(
        receipt,
        f"bundle {receipt.manifest['bundle_sequence']} of {receipt.source}",
        f"a bundle that this outbox ({outbox.source}) made",
    )


def _previous(outbox: Outbox, bundle: StoredBundle) -> str | None:
    manifest = outbox.manifest(bundle)
    return None if manifest is None else manifest["previous"]


def _refuse_fork(outbox: Outbox, receipt: VerifiedReceipt, bundle: StoredBundle) -> None:
    """Refuse a receipt that does not follow those of its importer that were applied."""
    manifest = receipt.manifest
    number, importer = manifest["number"], manifest["importer"]
    for place, identifier in ((number, receipt.document_id), (number - 1, manifest["previous"])):
        row = outbox.database.connection.execute(
            "SELECT receipt_id FROM receipt WHERE sequence = ? AND importer = ? AND number = ?"
            " AND proof = 'receipt'",
            (bundle.sequence, importer, place),
        ).fetchone()
        if row is not None and row[0] != identifier:
            raise SequenceError(
                f"receipt {place} of {importer} for bundle {bundle.sequence} is another one here",
                where=receipt.name,
                expected=row[0],
                found=identifier or "none",
                hint="two workstations of one name, or a restored one, sign receipts; find out which "
                "is right; nothing was changed",
            )


def _contradiction(outbox: Outbox, sequence: int, known: str, witness: str) -> SequenceError:
    return SequenceError(
        f"by {witness}, bundle {sequence} is another one than these receipts say",
        where=str(outbox.database.path),
        expected=known,
        found="another bundle",
        hint=_TWO_CHAINS,
    )


def _foreign(receipt: VerifiedReceipt, found: str, expected: str) -> InputRefusedError:
    return InputRefusedError(
        "the receipt is not about this outbox",
        where=receipt.name,
        expected=expected,
        found=found,
        hint="apply it on the host that exported the bundle; nothing was changed here",
    )
