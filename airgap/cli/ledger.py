"""``airgap ledger``: what could not be delivered."""

from pathlib import Path
from typing import cast

import click

from airgap import catalog, timestamps
from airgap.cli.common import Output, airgap_command, on_side
from airgap.errors import UsageError
from airgap.files import exclusive
from airgap.replay.ledger import Ledger, State
from airgap.text import plural, printable


@click.group("ledger")
def command() -> None:
    """Look at and decide what could not be delivered."""


@airgap_command("list")
@click.option(
    "--state",
    type=click.Choice(["in_doubt", "dead", "waiting", "delivered"]),
    help="Only this state; default: in doubt and dead.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
def _list(out: Output, home_path: Path, state: str | None, limit: int) -> None:
    """Show records in doubt and dead letters.

    \b
    Example:
      airgap ledger list
    """
    home = on_side(home_path, "workstation")
    ledger = Ledger(home.ledger_path, catalog.load(), timestamps.system_clock)
    try:
        states: list[State] = [cast("State", state)] if state else ["in_doubt", "dead"]
        found = [{"state": s, **row} for s in states for row in ledger.unsettled(s, limit)]
    finally:
        ledger.close()
    out.result({"records": found})
    if not found:
        out.say("Nothing in doubt, no dead letters.")
        return
    out.table(
        ("id", "state", "kind", "source", "since", "reason"),
        [
            (
                row["id"],
                row["state"].replace("_", " "),
                row["kind"],
                row["source"],
                row["since"],
                printable(row["detail"] or "", 200),
            )
            for row in found
        ],
    )
    out.say(
        f"{plural(len(found), 'record')}. Next: ask the beacon's side whether they were counted, then: "
        "airgap ledger resolve ID --delivered or --resend, with --reason"
    )


@airgap_command("resolve")
@click.argument("record")
@click.option("--resend", is_flag=True, help="Send it again: it was not counted.")
@click.option("--delivered", is_flag=True, help="Count it as delivered: it was counted.")
@click.option("--reason", required=True, help="Why; kept with the record.")
def _resolve(
    out: Output, home_path: Path, record: str, reason: str, *, resend: bool, delivered: bool
) -> None:
    """Decide a record in doubt or a dead letter.

    RECORD is the beginning of its id, or all.
    "all" means every record in doubt, never dead letters.

    \b
    Example:
      airgap ledger resolve 3f2a91bc --resend --reason "support: not counted, case 4711"
    """
    home = on_side(home_path, "workstation")
    digits = record.lower()
    if resend == delivered:
        raise UsageError("say which it is", expected="--resend or --delivered")
    if digits != "all" and (len(digits) < 8 or digits.strip("0123456789abcdef")):
        raise UsageError(
            "name a record by at least 8 digits of its id, or all",
            found=printable(record),
            hint="see `airgap ledger list`",
        )
    with exclusive(home.path / "import.lock", "import"):
        ledger = Ledger(home.ledger_path, catalog.load(), timestamps.system_clock)
        try:
            ledger.recover()
            changed = ledger.resolve(
                digits, "waiting" if resend else "delivered", printable(reason, 300)
            )
        finally:
            ledger.close()
    if not changed:
        raise UsageError(
            "no record in doubt and no dead letter has this id",
            found=printable(record),
            hint="see `airgap ledger list`",
        )
    out.result({"resolved": changed, "as": "waiting" if resend else "delivered"})
    out.say(
        f"{plural(len(changed), 'record')} now {'waiting' if resend else 'delivered'}. "
        f"Wrote {home.ledger_path}. Next: airgap import --resume"
    )


for _command in (_list, _resolve):
    command.add_command(_command)
