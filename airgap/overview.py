"""How an isolated host stands: what is covered, waits, is on its way, confirmed, overdue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap import captured, findings, timestamps, windows
from airgap.catalog import JsonObject
from airgap.errors import AirgapError, PartialDeliveryError, SequenceError
from airgap.findings import AHEAD
from airgap.outbox import Outbox, StoredBundle
from airgap.records import Totals, note_window
from airgap.text import plural
from airgap.verify import declared
from airgap.windows import Covered, Declaration, KindCoverage


@dataclass(frozen=True, slots=True)
class BundleLine:
    """One bundle of the outbox.

    Args:
        bundle: the bundle.
        period: from when to when its records are, or None.
        no_usage: the time that it declares to be without usage, or None.
        outcomes: how many of its records have which outcome; ``unknown`` without a receipt.
        proofs: what answered it: ``receipt``, ``code``.
        confirmed: whether all of it is confirmed.
    """

    bundle: StoredBundle
    period: dict[str, str] | None
    no_usage: JsonObject | None
    outcomes: dict[str, int]
    proofs: list[str]
    confirmed: bool

    @property
    def reaches(self) -> datetime:
        """Up to when it reports; never later than when it was made, whatever its records say."""
        made = timestamps.parse(self.bundle.created_at)
        told = self.no_usage or self.period
        return made if told is None else min(made, timestamps.parse(told["to"]))


@dataclass(frozen=True, slots=True)
class Overview:
    """How the outbox stands.

    Args:
        waiting: totals in no bundle yet.
        confirmed: totals that receipts or codes confirm.
        bundles: every bundle, in order.
        covered: what was collected covers, per kind.
        covered_and_confirmed: what was confirmed covers, per kind.
        covered_by_waiting: windows of what is in no bundle yet, per kind.
        confirmed_to: up to when reports are confirmed, or None.
        last_receipt: when the newest receipt was made, or None.
        problems: what needs somebody, the most urgent first.
    """

    waiting: Totals
    confirmed: Totals
    bundles: list[BundleLine]
    covered: list[KindCoverage]
    covered_and_confirmed: list[KindCoverage]
    covered_by_waiting: Covered
    confirmed_to: datetime | None
    last_receipt: str | None
    problems: list[AirgapError]


def look(outbox: Outbox, now: datetime, *, gap_over: timedelta, max_age: timedelta) -> Overview:
    """Return how an outbox stands.

    Args:
        outbox: the outbox.
        now: the present.
        gap_over: longest time without a record that is no gap.
        max_age: how old the newest confirmed report may be.
    """
    proofs = outbox.proofs()
    lines = [
        _line(outbox, bundle, sorted(proofs.get(bundle.sequence, ())))
        for bundle in outbox.bundles()
    ]
    tolerance = gap_over // timedelta(microseconds=1)
    fresh = [
        line
        for line in lines
        if line.confirmed and timestamps.parse(line.bundle.created_at) <= now + AHEAD
    ]
    waiting = outbox.waiting_timeline()
    for record in captured.waiting(outbox):
        kind = outbox.catalog.kind(record.kind)
        note_window(waiting, record, kind, where="a captured report")
    covered = _covered(outbox, lines, tolerance, waiting.covered())
    confirmed = _covered(outbox, fresh, tolerance, {}, clip=True)
    problems = [
        *_undelivered(lines),
        *_contradicted(outbox, lines, waiting.used()),
        *_gaps(covered),
        *_unanswered(lines),
        *findings.overdue(_late(outbox, lines, confirmed, now, max_age), max_age, outbox.source),
    ]
    totals = outbox.waiting()
    totals.merge(captured.waiting_totals(outbox))
    return Overview(
        totals,
        outbox.confirmed(),
        lines,
        covered,
        confirmed,
        waiting.covered(),
        max((line.reaches for line in fresh), default=None),
        outbox.last_receipt(),
        problems,
    )


def _late(
    outbox: Outbox,
    lines: list[BundleLine],
    confirmed: list[KindCoverage],
    now: datetime,
    max_age: timedelta,
) -> list[str]:
    """Return what is too old to be without a confirmation, or missing altogether."""
    said: list[str] = []
    unconfirmed = (outbox.oldest_unconfirmed(), captured.oldest(outbox))
    oldest = min(filter(None, unconfirmed), default=None)
    if oldest is not None and now - timestamps.parse(oldest) > max_age:
        said.append(f"a record collected {oldest} is not confirmed")
    said.extend(
        f"bundle {line.bundle.sequence}, made {line.bundle.created_at}, is not confirmed"
        for line in lines
        if not line.confirmed
        and not line.bundle.adopted
        and now - timestamps.parse(line.bundle.created_at) > max_age
    )
    said.extend(
        f"confirmed: {words}"
        for words in findings.late(confirmed, outbox.catalog.regular, now, max_age)
    )
    made = [timestamps.parse(line.bundle.created_at) for line in lines if line.confirmed]
    if made and min(made) > now + AHEAD:
        said.append(f"what is confirmed was made {timestamps.to_text(min(made))}, which is to come")
    if oldest is None and not any(not line.bundle.adopted for line in lines):
        said.append("nothing was collected yet")
    return said


def _unanswered(lines: list[BundleLine]) -> list[AirgapError]:
    """Return an error that names bundles passed over: later ones are confirmed, these are not."""
    last = max((line.bundle.sequence for line in lines if line.confirmed), default=0)
    passed = [
        str(line.bundle.sequence)
        for line in lines
        if line.bundle.sequence < last and not line.confirmed and not line.bundle.adopted
    ]
    if not passed:
        return []
    return [
        SequenceError(
            f"bundle {', '.join(passed[:10])} is not confirmed, and later ones are",
            hint="bring its receipt; if it was lost: airgap export --again --to FOLDER",
        )
    ]


def _contradicted(outbox: Outbox, lines: list[BundleLine], waiting: Covered) -> list[AirgapError]:
    """Return an error that names kinds with usage in a time declared to be without."""
    used = windows.merge([*(outbox.covered(line.bundle)[1] for line in lines), waiting])
    kinds = windows.contradicted(used, _declared(outbox, lines))
    if not kinds:
        return []
    return [
        SequenceError(
            f"declared to be without usage, and {', '.join(kinds)} counts some in that time",
            hint="tell whoever relies on the declaration; what was collected is reported all the same",
        )
    ]


def _gaps(covered: Sequence[KindCoverage]) -> list[AirgapError]:
    """Return an error that names the gaps, where there are any."""
    gaps = [kind.text() for kind in covered if kind.gaps]
    if not gaps:
        return []
    return [
        SequenceError(
            "there are times without a report",
            found=gaps[0],
            details=gaps[1:],
            hint="collect what is missing; if there was no usage: airgap export --no-usage FROM..TO",
        )
    ]


def _line(outbox: Outbox, bundle: StoredBundle, proofs: list[str]) -> BundleLine:
    manifest: JsonObject = outbox.manifest(bundle) or {"period": None, "no_usage": None}
    return BundleLine(
        bundle,
        manifest["period"],
        manifest["no_usage"],
        outbox.outcomes(bundle),
        proofs,
        outbox.is_confirmed(bundle),
    )


def _declared(outbox: Outbox, lines: list[BundleLine]) -> list[Declaration]:
    manifests = [outbox.manifest(line.bundle) for line in lines]
    told = [declared(manifest) for manifest in manifests if manifest is not None]
    return [one for one in told if one is not None]


def _covered(
    outbox: Outbox, lines: list[BundleLine], tolerance: int, more: Covered, *, clip: bool = False
) -> list[KindCoverage]:
    parts = [
        windows.clipped(
            outbox.covered(line.bundle)[0],
            windows.micros(timestamps.parse(line.bundle.created_at)) if clip else 2**62,
        )
        for line in lines
    ]
    return windows.survey(
        [*parts, more],
        _declared(outbox, lines),
        tolerance,
        regular=outbox.catalog.regular,
        unknown=outbox.unknown_time(),
    )


def _undelivered(lines: list[BundleLine]) -> list[AirgapError]:
    doubt = sum(line.outcomes.get("in_doubt", 0) for line in lines)
    dead = sum(line.outcomes.get("dead", 0) for line in lines)
    if not doubt and not dead:
        return []
    return [
        PartialDeliveryError(
            f"receipts say: {plural(doubt, 'record')} in doubt, {plural(dead, 'dead letter')}",
            hint="ask the workstation's operator, who decides them; then bring the new receipt",
        )
    ]
