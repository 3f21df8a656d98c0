"""How a workstation stands: per source what came, what is missing, what is left to deliver."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap import findings, timestamps, windows
from airgap.errors import AirgapError, PartialDeliveryError, SequenceError
from airgap.replay import chain
from airgap.replay.chain import Standing
from airgap.replay.ledger import Ledger
from airgap.text import plural


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One source.

    Args:
        standing: how complete its reports are.
        bundles: how many were imported.
        newest: the highest sequence of these.
        last_import: when a bundle of it was last imported.
        delivered_to: when its newest bundle that was delivered as a whole was made, or None.
    """

    standing: Standing
    bundles: int
    newest: int
    last_import: str
    delivered_to: datetime | None


@dataclass(frozen=True, slots=True)
class WorkstationOverview:
    """How the ledger stands.

    Args:
        states: how many records of each kind are in each state.
        sources: every source, by name.
        problems: what needs somebody, the most urgent first.
    """

    states: dict[str, dict[str, int]]
    sources: list[SourceLine]
    problems: list[AirgapError]


def look(
    ledger: Ledger, now: datetime, *, gap_over: timedelta, max_age: timedelta, importing: bool
) -> WorkstationOverview:
    """Return how a ledger stands.

    Args:
        ledger: the ledger.
        now: the present.
        gap_over: longest time without a record that is no gap.
        max_age: how old what was reported may be, and how long something may be undelivered.
        importing: whether an import runs; else what is being sent was cut off, and is doubt.
    """
    states = ledger.states(scoped=False)
    tolerance = gap_over // timedelta(microseconds=1)
    names = sorted({bundle.source for bundle in ledger.bundles()})
    sources = [_source(ledger, name, tolerance) for name in names]
    problems: list[AirgapError] = []
    doubt, dead = (sum(s.get(n, 0) for s in states.values()) for n in ("in_doubt", "dead"))
    if not importing:
        doubt += sum(found.get("sending", 0) for found in states.values())
    if doubt or dead:
        problems.append(
            PartialDeliveryError(
                f"{plural(doubt, 'record')} in doubt, {plural(dead, 'dead letter')}"
            )
        )
    found = [f.message for source in sources for f in source.standing.findings()]
    if found:
        problems.append(
            SequenceError(
                "reports are missing",
                found=found[0],
                details=found[1:],
                hint="import the missing bundles, or have a time without usage declared with "
                "`airgap export --no-usage FROM..TO`",
            )
        )
    if not sources:
        problems += findings.overdue(["nothing was imported yet"], max_age, "the ledger")
    for name in names:
        problems += findings.overdue(_late(ledger, name, now, max_age), max_age, name)
    return WorkstationOverview(states, sources, problems)


def _late(ledger: Ledger, source: str, now: datetime, max_age: timedelta) -> list[str]:
    """Return what of a source is too old to be undelivered, or how long nothing came."""
    reports = ledger.reports(source)
    said = [
        f"bundle {report.bundle.sequence}, imported {timestamps.to_text(report.imported_at)},"
        " is not delivered as a whole"
        for report in reports
        if not report.delivered and now - report.imported_at > max_age
    ]
    delivered = [report for report in reports if report.delivered]
    told = [r.no_usage.until(r.end) for r in delivered if r.no_usage is not None]
    parts = [windows.clipped(report.covered, report.end) for report in delivered]
    kinds = windows.survey(parts, told, 0, regular=frozenset())
    said.extend(
        f"delivered: {words}"
        for words in findings.late(kinds, ledger.catalog.regular, now, max_age)
    )
    newest = max(report.imported_at for report in reports)
    if now - newest > max_age:
        said.append(f"no bundle came since {timestamps.to_text(newest)}")
    return said


def _source(ledger: Ledger, name: str, tolerance: int) -> SourceLine:
    reports = ledger.reports(name)
    ends = [windows.instant(report.end) for report in reports if report.delivered]
    return SourceLine(
        chain.standing(ledger, name, tolerance),
        len(reports),
        reports[-1].bundle.sequence,
        timestamps.to_text(max(report.imported_at for report in reports)),
        max(ends, default=None),
    )
