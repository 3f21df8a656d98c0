"""``airgap status``, on either side."""

from pathlib import Path

from airgap import catalog, timestamps
from airgap.cli.common import Output, airgap_command
from airgap.home import Home, open_home
from airgap.outbox import Outbox
from airgap.text import plural


@airgap_command("status")
def command(out: Output, home_path: Path) -> None:
    """Say what waits, what is on its way, and what is confirmed.

    \b
    Example:
      airgap status
    """
    home = open_home(home_path)
    if home.side == "isolated":
        _isolated(out, home)
    else:
        _workstation(out, home)


def _isolated(out: Output, home: Home) -> None:
    outbox = Outbox(home.outbox_path, home.name, catalog.load())
    try:
        waiting, confirmed = outbox.waiting(), outbox.confirmed()
        bundles = [(bundle, outbox.outcomes(bundle)) for bundle in outbox.bundles()]
        periods = {b.sequence: outbox.manifest(b.sequence)["period"] for b, _ in bundles}
        last = outbox.last_receipt()
    finally:
        outbox.close()
    out.result(
        {
            "side": "isolated",
            "source": home.name,
            "waiting": waiting.as_map(),
            "confirmed": confirmed.as_map(),
            "last_receipt": last,
            "bundles": [
                {
                    "sequence": b.sequence,
                    "bundle_id": b.bundle_id,
                    "created_at": b.created_at,
                    "written_to": b.written_to,
                    "period": periods[b.sequence],
                    "outcomes": outcomes,
                }
                for b, outcomes in bundles
            ],
        }
    )
    out.say(f"Isolated side of {home.name}, {home.path}")
    out.say(f"Waiting for a bundle: {plural(waiting.records, 'record')}")
    out.table(
        (
            "bundle#",
            "made",
            "period",
            "written to",
            "no receipt#",
            "waiting#",
            "in doubt#",
            "dead#",
            "delivered#",
        ),
        [
            (
                str(b.sequence),
                b.created_at[:10],
                _period(periods[b.sequence]),
                b.written_to or "nowhere yet",
                *(
                    f"{outcomes.get(name, 0):,}"
                    for name in ("unknown", "waiting", "in_doubt", "dead", "delivered")
                ),
            )
            for b, outcomes in bundles
        ],
    )
    out.say(
        f"Confirmed by receipts: {plural(confirmed.records, 'record')}; newest receipt {last or 'none'}"
    )
    out.totals(confirmed)
    on_its_way = sum(n for _, found in bundles for name, n in found.items() if name != "delivered")
    if waiting.records or any(b.written_to is None for b, _ in bundles):
        out.say("Next: airgap export --to FOLDER")
    elif on_its_way:
        out.say(f"{plural(on_its_way, 'record')} on the way. Next: airgap receipt apply FOLDER")
    else:
        out.say("Everything is confirmed.")


def _workstation(out: Output, home: Home) -> None:
    from airgap.replay import chain
    from airgap.replay.ledger import Ledger

    ledger = Ledger(home.ledger_path, catalog.load(), timestamps.system_clock)
    try:
        bundles = ledger.bundles()
        states = ledger.states(scoped=False)
        sources = sorted({b.source for b in bundles})
        missing = {source: chain.missing(ledger, source) for source in sources}
    finally:
        ledger.close()
    newest = {s: max(b.sequence for b in bundles if b.source == s) for s in sources}
    out.result(
        {
            "side": "workstation",
            "name": home.name,
            "states": states,
            "sources": [
                {
                    "source": s,
                    "bundles": sum(1 for b in bundles if b.source == s),
                    "newest": newest[s],
                    "missing": missing[s],
                }
                for s in sources
            ],
        }
    )
    out.say(f"Workstation {home.name}, {home.path}")
    out.table(
        ("source", "bundles#", "newest#", "not seen"),
        [
            (
                s,
                f"{sum(1 for b in bundles if b.source == s):,}",
                str(newest[s]),
                ", ".join(map(str, missing[s])) or "none",
            )
            for s in sources
        ],
    )
    columns = ("delivered", "waiting", "sending", "in_doubt", "dead")
    out.table(
        ("kind", *(f"{c.replace('_', ' ')}#" for c in columns)),
        [(kind, *(f"{found.get(c, 0):,}" for c in columns)) for kind, found in states.items()],
    )
    open_states = {c: sum(f.get(c, 0) for f in states.values()) for c in columns[1:]}
    if open_states["in_doubt"] or open_states["dead"]:
        out.say("Next: airgap ledger list")
    elif open_states["waiting"] or open_states["sending"]:
        out.say("Next: airgap import --resume")
    else:
        out.say("Nothing left to deliver.")


def _period(period: dict[str, str] | None) -> str:
    return f"{period['from'][:10]} .. {period['to'][:10]}" if period else "none"
