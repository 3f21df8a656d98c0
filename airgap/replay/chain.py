"""The chain of a source's bundles: each names the one before it, none is there twice, none is missing."""

from dataclasses import dataclass, replace
from datetime import datetime

from airgap import findings, timestamps, windows
from airgap.errors import SequenceError
from airgap.findings import AHEAD, Finding
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import Added, LedgerBundle
from airgap.text import plural
from airgap.verify import VerifiedBundle
from airgap.windows import KindCoverage

_MOST_NAMED = 100


def find(
    ledger: Ledger, bundle: VerifiedBundle, accepted: frozenset[str] = frozenset()
) -> LedgerBundle | None:
    """Return the ledger's entry of a bundle, or None where it may be imported as a new one.

    Args:
        ledger: what was imported before.
        bundle: the bundle.
        accepted: ids of bundles, or their beginnings, that may be backdated.

    Raises:
        SequenceError: its place in the chain is taken by another bundle, or the bundles before
            and after it do not lead through it, in their names or in their times.
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
    if not any(bundle.document_id.startswith(prefix) for prefix in accepted):
        _refuse_backdated(ledger, bundle)
    return None


def missing(ledger: Ledger, source: str) -> list[int]:
    """Return the sequences below a source's newest that were never imported, at most 100."""
    found: list[int] = []
    expected = 1
    for bundle in ledger.bundles(source):
        found.extend(range(expected, min(bundle.sequence, expected + _MOST_NAMED)))
        expected = bundle.sequence + 1
    return found[:_MOST_NAMED]


def odd(bundle: VerifiedBundle, now: datetime, added: Added | None = None) -> list[Finding]:
    """Return what is odd about a bundle's times, and about records that came before.

    Args:
        bundle: the bundle.
        now: the present, by the workstation's clock.
        added: what its being taken in showed; None where it was there before.
    """
    timeline = bundle.timeline
    if added is not None:
        timeline = replace(timeline, overlapping=added.timeline.overlapping)
    found = findings.of_timeline(timeline, bundle.created_at, "the exporter's clock")
    if bundle.created_at > now + AHEAD:
        found.append(
            Finding(
                "clock-ahead",
                f"bundle {bundle.sequence} was made at {bundle.manifest['created_at']}, and this "
                f"clock says {timestamps.to_text(now)}: one of the two is wrong; "
                "set it right before the next",
            )
        )
    if bundle.no_usage is not None and windows.instant(bundle.no_usage.end) > now + AHEAD:
        found.append(
            Finding(
                "no-usage-in-the-future",
                f"bundle {bundle.sequence} declares that there will be no usage until "
                f"{bundle.manifest['no_usage']['to']}; what is to come counts as not covered",
            )
        )
    if added is not None and added.conflicts:
        found.append(
            Finding(
                "record-conflict",
                f"{plural(added.conflicts, 'record')} came under the id of another one that was taken in "
                "before, with other content: dead letters, neither sent nor counted",
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """How complete a source's reports are, by what was imported.

    Args:
        source: the source.
        missing: sequences never imported, at most 100.
        kinds: what is covered, and the gaps in it.
        contradicted: kinds with usage in a time declared to be without.
    """

    source: str
    missing: list[int]
    kinds: list[KindCoverage]
    contradicted: list[str]

    def findings(self) -> list[Finding]:
        """Return what is not complete; ``--strict`` makes it a failure."""
        found: list[Finding] = []
        if self.missing:
            names = ", ".join(map(str, self.missing[:10])) + (
                " and more" if len(self.missing) > 10 else ""
            )
            found.append(Finding("bundle-missing", f"{self.source}: bundle {names} not seen"))
        found.extend(
            Finding("period-gap", f"{self.source}: {kind.text()}")
            for kind in self.kinds
            if kind.gaps
        )
        found.extend(
            Finding(
                "no-usage-contradicted",
                f"{self.source}: declared to be without usage, and {kind} counts some in that time",
            )
            for kind in self.contradicted
        )
        return found


def standing(ledger: Ledger, source: str, tolerance: int) -> Standing:
    """Return how complete a source's reports are.

    Args:
        ledger: what was imported.
        source: the source.
        tolerance: longest time without a report that is no gap, in microseconds.
    """
    reports = ledger.reports(source)
    told = [r.no_usage.until(r.end) for r in reports if r.no_usage is not None]
    used = windows.merge(report.used for report in reports)
    kinds = windows.survey(
        (report.covered for report in reports), told, tolerance, regular=ledger.catalog.regular
    )
    return Standing(source, missing(ledger, source), kinds, windows.contradicted(used, told))


def _refuse_backdated(ledger: Ledger, bundle: VerifiedBundle) -> None:
    """Refuse a bundle that was made, by its own word, at a time that its place does not allow.

    Whoever holds an old key could otherwise date a bundle back to when that key was good.
    """
    made = windows.micros(bundle.created_at)
    before, after = ledger.neighbours(bundle.source, bundle.sequence)
    if before is not None and made < before.created:
        other, word = before, "after"
    elif after is not None and made > after.created:
        other, word = after, "before"
    else:
        return
    raise SequenceError(
        f"bundle {bundle.sequence} of {bundle.source} can't have been made when it says",
        where=bundle.name,
        expected=f"{word} bundle {other.sequence}, which was made at "
        f"{timestamps.to_text(windows.instant(other.created))}",
        found=str(bundle.manifest["created_at"]),
        hint="ask the exporter: a clock was wrong, or somebody uses an old key; if it was the clock, "
        f"with the same options: airgap import FOLDER --accept-backdated {bundle.document_id[:16]}; "
        "nothing was taken over",
    )


def _fork(
    bundle: VerifiedBundle, what: str, expected: str | None, found: str | None
) -> SequenceError:
    return SequenceError(
        f"the chain of {bundle.source} forks: {what} is another one here",
        where=bundle.name,
        expected=expected or "none",
        found=found or "none",
        hint="a restored snapshot or a cloned machine exports under the same name; find out which "
        "host is right; on a restored one, `airgap outbox continue RECEIPT...` goes on where this "
        "ledger stands; nothing was taken over",
    )
