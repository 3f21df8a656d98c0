"""``airgap status``, on either side."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from airgap import calendars, catalog, overview, timestamps, unconfirmed
from airgap.calendars import DEFAULT_MONTHS, Calendar, Spans
from airgap.causes import STATES, grouped
from airgap.cli.common import Output, airgap_command, gap_option, ledger_option
from airgap.cli.standing_view import (
    COLUMNS,
    groups_as_json,
    show_calendars,
    show_groups,
    show_tally,
    tally_as_json,
)
from airgap.cli.types import Duration
from airgap.errors import AirgapError, SequenceError
from airgap.findings import Finding, as_json
from airgap.home import Home, open_home
from airgap.outbox import Outbox
from airgap.overview import BundleLine, Overview
from airgap.text import plural
from airgap.trust import store as trust_store
from airgap.trust.store import TrustStore
from airgap.windows import KindCoverage

_OUTCOMES = {
    "unknown": "without a receipt",
    "waiting": "waiting",
    "in_doubt": "in doubt",
    "dead": "dead",
    "delivered": "delivered",
}


@airgap_command("status")
@click.option(
    "--check", is_flag=True, help="For monitoring: exit 4, 6, 9 or 10 where something is amiss."
)
@click.option(
    "--max-age",
    type=Duration(),
    default="35d",
    show_default=True,
    help="How old the last confirmed report may be.",
)
@click.option(
    "--calendar",
    "months",
    type=click.IntRange(0, 120),
    help=f"Months of the calendar; default: {DEFAULT_MONTHS}, where reports span more than a few days.",
)
@gap_option
@ledger_option
def command(
    out: Output,
    home_path: Path,
    ledger: str | None,
    max_age: timedelta,
    gap_over: timedelta,
    months: int | None,
    *,
    check: bool,
) -> None:
    """Say what is covered, what waits, what is on its way, what is confirmed, what is overdue.

    With --check the exit status says what is amiss: 4 a key of this side or the trust store has
    expired, 6 in doubt or dead letters, 9 a bundle or a
    period is missing, 10 the last confirmed report is older than --max-age; the first of these.

    \b
    Example:
      airgap status --calendar 12
      airgap status --check --quiet --max-age 40d
    """
    home = open_home(home_path)
    if home.side == "workstation":
        from airgap.cli import ledgers

        home = ledgers.workstation(home_path, ledger, out.warn)
    now = timestamps.system_clock()
    look = _isolated if home.side == "isolated" else _workstation
    store = trust_store.load(home.trust_path, catalog.load())
    ended = store.ended({home.public_key(name).key_id for name in home.key_names()}, now)
    trust = _Trust(store, [] if ended is None else [ended], store.findings(now))
    problems = look(out, home, now, gap_over, max_age, trust, months)
    out.findings(trust.findings)
    if check and problems:
        raise problems[0]


@dataclass(frozen=True, slots=True)
class _Trust:
    """Whose signatures count, and what is to be said about keys: what has ended, what ends soon."""

    store: TrustStore
    problems: list[AirgapError]
    findings: list[Finding]


def _isolated(
    out: Output,
    home: Home,
    now: datetime,
    gap_over: timedelta,
    max_age: timedelta,
    trust: _Trust,
    months: int | None,
) -> list[AirgapError]:
    outbox = Outbox(home.outbox_path, home.name, catalog.load())
    try:
        seen = overview.look(outbox, now, gap_over=gap_over, max_age=max_age)
        groups = grouped(
            unconfirmed.undelivered(home, outbox, seen.bundles, trust.store), outbox.catalog
        )
        days = _calendars({home.name: unconfirmed.spans(outbox, seen)}, months, now)
    finally:
        outbox.close()
    problems = [*trust.problems, *seen.problems]
    out.result(
        {
            **_isolated_map(home, seen),
            "undelivered": groups_as_json(groups),
            "calendar": [one.as_json() for one in days],
            "problems": [error.as_json() for error in problems],
            "findings": as_json(trust.findings),
        }
    )
    out.say(f"Isolated side of {home.name}, {home.path}")
    out.say(f"Waiting for a bundle: {plural(seen.waiting.records, 'record')}")
    out.table(
        ("bundle#", "period", "written to", "records#", "outcome"),
        [_row(line) for line in seen.bundles],
    )
    _say_covered(out, "Collected", seen.covered)
    _say_covered(out, "Confirmed", seen.covered_and_confirmed)
    show_calendars(out, days)
    show_groups(out, groups, where="on the workstation: ")
    out.say(
        f"Confirmed: {plural(seen.confirmed.records, 'record')}; "
        f"newest receipt {seen.last_receipt or 'none'}"
    )
    out.totals(seen.confirmed)
    _say_problems(out, problems)
    on_its_way = sum(
        n for line in seen.bundles for name, n in line.outcomes.items() if name != "delivered"
    )
    unanswered = [line for line in seen.bundles if not line.confirmed and not line.bundle.adopted]
    if seen.waiting.records or any(line.bundle.written_to is None for line in seen.bundles):
        out.say("Next: airgap export --to FOLDER")
    elif unanswered:
        out.say(f"{plural(on_its_way, 'record')} on the way. Next: airgap receipt apply FOLDER")
    elif not problems:
        out.say("Everything is confirmed.")
    return problems


def _isolated_map(home: Home, seen: Overview) -> dict[str, Any]:
    return {
        "side": "isolated",
        "source": home.name,
        "waiting": seen.waiting.as_map(),
        "confirmed": seen.confirmed.as_map(),
        "last_receipt": seen.last_receipt,
        "confirmed_to": timestamps.to_text(seen.confirmed_to) if seen.confirmed_to else None,
        "covered": [kind.as_json() for kind in seen.covered],
        "covered_and_confirmed": [kind.as_json() for kind in seen.covered_and_confirmed],
        "bundles": [
            {
                "sequence": line.bundle.sequence,
                "bundle_id": line.bundle.bundle_id,
                "created_at": line.bundle.created_at,
                "written_to": line.bundle.written_to,
                "period": line.period,
                "no_usage": line.no_usage,
                "outcomes": line.outcomes,
                "proofs": line.proofs,
                "confirmed": line.confirmed,
                "pruned": line.bundle.pruned,
                "adopted": line.bundle.adopted,
            }
            for line in seen.bundles
        ],
    }


def _row(line: BundleLine) -> tuple[str, ...]:
    bundle = line.bundle
    if bundle.adopted:
        return (str(bundle.sequence), "", "", "", "made before this host was restored")
    return (
        str(bundle.sequence),
        _period(line.no_usage or line.period),
        bundle.written_to or "nowhere yet",
        "no usage" if line.no_usage else f"{bundle.last - bundle.first + 1:,}",
        _outcome(line),
    )


def _outcome(line: BundleLine) -> str:
    said = ", ".join(
        f"{line.outcomes[name]:,} {words}"
        for name, words in _OUTCOMES.items()
        if name in line.outcomes
    )
    if line.confirmed:
        proof = "receipt" if "receipt" in line.proofs else "code"
        said = f"confirmed by {proof}"
    return (said or "without a receipt") + (", pruned" if line.bundle.pruned else "")


def _workstation(
    out: Output,
    home: Home,
    now: datetime,
    gap_over: timedelta,
    max_age: timedelta,
    trust: _Trust,
    months: int | None,
) -> list[AirgapError]:
    from airgap.cli import ledgers
    from airgap.replay import coverage, tallies
    from airgap.replay import overview as replay_overview
    from airgap.replay.opening import is_importing

    with ledgers.looked_at(home) as ledger:
        importing = is_importing(home, ledger)
        states = STATES if importing else (*STATES, "sending")
        with ledger.database.snapshot():
            seen = replay_overview.look(
                ledger,
                now,
                gap_over=gap_over,
                max_age=max_age,
                importing=importing,
            )
            by_source = tallies.by_source(ledger, scoped=False)
            groups = grouped(tallies.undelivered(ledger, states, scoped=False), ledger.catalog)
            spans = {s.standing.source: coverage.spans(ledger, s.standing) for s in seen.sources}
            days = _calendars(spans, months, now)
    problems = [*trust.problems, *seen.problems]
    out.result(
        {
            "side": "workstation",
            "name": home.name,
            "states": seen.states,
            "by_source": tally_as_json(by_source),
            "undelivered": groups_as_json(groups),
            "calendar": [one.as_json() for one in days],
            "sources": [
                {
                    "source": line.standing.source,
                    "bundles": line.bundles,
                    "newest": line.newest,
                    "last_import": line.last_import,
                    "delivered_to": timestamps.to_text(line.delivered_to)
                    if line.delivered_to
                    else None,
                    "missing": line.standing.missing,
                    "covered": [kind.as_json() for kind in line.standing.kinds],
                    "findings": as_json(line.standing.findings()),
                }
                for line in seen.sources
            ],
            "problems": [error.as_json() for error in problems],
            "findings": as_json(trust.findings),
        }
    )
    out.say(f"Workstation {home.name}, {home.path}")
    out.table(
        ("source", "bundles#", "newest#", "last import", "not seen"),
        [
            (
                line.standing.source,
                f"{line.bundles:,}",
                str(line.newest),
                line.last_import,
                ", ".join(map(str, line.standing.missing)) or "none",
            )
            for line in seen.sources
        ],
    )
    for line in seen.sources:
        _say_covered(out, line.standing.source, line.standing.kinds)
    show_tally(out, by_source)
    show_calendars(out, days)
    show_groups(out, groups)
    _say_problems(out, problems)
    left = {c: sum(found.get(c, 0) for found in seen.states.values()) for c in COLUMNS[1:]}
    if left["in_doubt"] or left["dead"]:
        out.say("Next: airgap ledger list")
    elif left["waiting"] or left["sending"]:
        out.say("Next, with the options of your import: airgap import --resume")
    elif not problems:
        out.say("Nothing left to deliver.")
    return problems


def _calendars(
    spans: dict[str, dict[str, Spans]], months: int | None, now: datetime
) -> list[Calendar]:
    """Return the calendar of each source and kind; where nobody asked, only what is worth it."""
    every = [one for kinds in spans.values() for one in kinds.values()]
    if months is None and not calendars.is_worth_showing(every):
        return []
    found = [
        calendars.calendar(source, kind, one, DEFAULT_MONTHS if months is None else months, now)
        for source, kinds in sorted(spans.items())
        for kind, one in sorted(kinds.items())
    ]
    return [one for one in found if one is not None]


def _say_covered(out: Output, whose: str, kinds: list[KindCoverage]) -> None:
    for kind in kinds:
        out.say(f"{whose}: {kind.text()}")


def _say_problems(out: Output, problems: list[AirgapError]) -> None:
    for error in problems:
        about = f"{error.where}: " if error.where else ""
        # Gaps stand above already.
        found = f" ({error.found})" if error.found and not isinstance(error, SequenceError) else ""
        out.say(f"Attention: {about}{error.message}{found}")


def _period(period: dict[str, str] | None) -> str:
    return f"{period['from'][:10]} .. {period['to'][:10]}" if period else "none"
