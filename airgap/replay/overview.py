"""How a workstation stands: per source what came, what is missing, what is left to deliver."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap import findings, windows
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
    ledger: Ledger, now: datetime, *, gap_over: timedelta, max_age: timedelta
) -> WorkstationOverview:
    """Return how a ledger stands; arguments as for ``overview.look`` of the isolated side."""
    states = ledger.states(scoped=False)
    tolerance = gap_over // timedelta(microseconds=1)
    names = sorted({bundle.source for bundle in ledger.bundles()})
    sources = [_source(ledger, name, tolerance) for name in names]
    problems: list[AirgapError] = []
    doubt, dead = (sum(s.get(n, 0) for s in states.values()) for n in ("in_doubt", "dead"))
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
                "`airgap export --no-usage`",
            )
        )
    for source in sources:
        oldest = windows.instant(ledger.bundles(source.standing.source)[0].created)
        for error in findings.overdue(source.delivered_to or oldest, now, max_age):
            error.where = source.standing.source
            problems.append(error)
    return WorkstationOverview(states, sources, problems)


def _source(ledger: Ledger, name: str, tolerance: int) -> SourceLine:
    bundles = ledger.bundles(name)
    delivered = [windows.instant(b.created) for b in bundles if ledger.is_delivered(b)]
    return SourceLine(
        chain.standing(ledger, name, tolerance),
        len(bundles),
        bundles[-1].sequence,
        ledger.last_import(name),
        max(delivered, default=None),
    )
