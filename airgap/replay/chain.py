"""The chain of a source's bundles: each names the one before it, and none may be there twice."""

from airgap.errors import SequenceError
from airgap.replay.ledger import Ledger, LedgerBundle
from airgap.verify import VerifiedBundle

_MOST_NAMED = 100


def find(ledger: Ledger, bundle: VerifiedBundle) -> LedgerBundle | None:
    """Return the ledger's entry of a bundle, or None where it may be imported as a new one.

    Raises:
        SequenceError: its place in the chain is taken by another bundle, or the bundles before
            and after it do not lead through it.
    """
    there = ledger.bundle(bundle.document_id)
    if there is not None:
        return there
    source, sequence, previous = bundle.source, bundle.sequence, bundle.manifest["previous"]
    taken = ledger.bundle_at(source, sequence)
    if taken is not None:
        raise _fork(bundle, f"bundle {sequence}", taken.bundle_id, bundle.document_id)
    if (sequence == 1) != (previous is None):
        raise _fork(
            bundle, f"what bundle {sequence} follows", "only the first follows none", previous
        )
    before = ledger.bundle_at(source, sequence - 1)
    if before is not None and before.bundle_id != previous:
        raise _fork(bundle, f"bundle {sequence - 1}", before.bundle_id, previous)
    after = ledger.bundle_at(source, sequence + 1)
    if after is not None and after.previous != bundle.document_id:
        raise _fork(
            bundle, f"what bundle {sequence + 1} follows", after.previous, bundle.document_id
        )
    return None


def missing(ledger: Ledger, source: str) -> list[int]:
    """Return the sequences below a source's newest that were never imported, at most 100."""
    found: list[int] = []
    expected = 1
    for sequence in ledger.sequences(source):
        found.extend(range(expected, min(sequence, expected + _MOST_NAMED)))
        expected = sequence + 1
    return found[:_MOST_NAMED]


def _fork(
    bundle: VerifiedBundle, what: str, expected: str | None, found: str | None
) -> SequenceError:
    return SequenceError(
        f"the chain of {bundle.source} forks: {what} is another one here",
        where=bundle.name,
        expected=expected or "none",
        found=found or "none",
        hint="a restored snapshot or a cloned machine exports under the same name; "
        "find out which host is right before anything is sent; nothing was taken over",
    )
