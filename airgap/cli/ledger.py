"""``airgap ledger``: what could not be delivered."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click

from airgap.audit import record
from airgap.causes import ASK
from airgap.cli import ledger_move, ledgers
from airgap.cli.common import Output, airgap_command, ledger_option
from airgap.errors import PartialDeliveryError, UsageError
from airgap.files import written_whole
from airgap.home import Home
from airgap.replay import decisions
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import State
from airgap.replay.opening import is_importing
from airgap.text import plural, printable

_NAMES = {"in_doubt": "what is in doubt", "sending": "what was being sent", "dead": "dead letters"}
_WITH = "with the options of your import: airgap import --resume"
_STEPS = {
    "in_doubt": f"{ASK}; then {_WITH}",
    "sending": f"{_WITH}; it finds which of them are in doubt",
    "dead": f"have the cause fixed, then: airgap ledger deadletter retry ID --reason TEXT; then {_WITH}",
    "waiting": _WITH,
}


@click.group("ledger")
def command() -> None:
    """Decide what could not be delivered; move the ledger."""


@click.group("deadletter")
def deadletter() -> None:
    """Take dead letters out to look at them, and send them again after a fix."""


@contextmanager
def _held(home: Home) -> Iterator[Ledger]:
    """Open the ledger for a decision, about what no run has in hand."""
    with ledgers.held(home) as opened:
        doubtful = opened.recover()
        if doubtful:
            raise PartialDeliveryError(
                f"a run was cut off, and {plural(doubtful, 'record')} of it are newly in doubt",
                hint="nothing was decided; look at them first: airgap ledger list",
            )
        yield opened


def _digits(text: str, *, everything: bool) -> str:
    """Return the digits of an id, or nothing for ``all``."""
    digits = text.lower()
    if everything and digits == "all":
        return ""
    if len(digits) < 8 or len(digits) > 32 or digits.strip("0123456789abcdef"):
        raise UsageError(
            f"name a record by at least 8 digits of its id{', or all' if everything else ''}",
            found=printable(text),
            hint="see `airgap ledger list`",
        )
    return digits


@airgap_command("list")
@click.option(
    "--state",
    type=click.Choice(["in_doubt", "dead", "waiting", "delivered"]),
    help="Only this state; default: in doubt and dead.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="Most records shown.",
)
@ledger_option
def _list(out: Output, home_path: Path, ledger: str | None, state: str | None, limit: int) -> None:
    """Show records in doubt and dead letters.

    \b
    Example:
      airgap ledger list
    """
    home = ledgers.workstation(home_path, ledger, out.warn)
    with ledgers.looked_at(home) as opened:
        states: list[State] = [cast("State", state)] if state else ["in_doubt", "dead"]
        if "in_doubt" in states and not is_importing(home, opened):
            # A run was cut off: the next command that changes something settles these.
            states.append("sending")
        found = [
            {"state": s, **row} for s in states for row in decisions.unsettled(opened, s, limit)
        ]
    out.result({"records": found})
    if not found:
        out.say("Nothing in doubt, no dead letters." if state is None else f"Nothing {state}.")
        return
    out.table(
        ("id", "state", "kind", "source", "since", "reason"),
        [
            (
                row["id"],
                "cut off" if row["state"] == "sending" else row["state"].replace("_", " "),
                row["kind"],
                row["source"],
                row["since"],
                printable(row["detail"] or "", 200),
            )
            for row in found
        ],
    )
    out.say(f"{plural(len(found), 'record')}.")
    for name, step in _STEPS.items():
        if any(row["state"] == name for row in found):
            out.say(f"Next, for {_NAMES.get(name, name)}: {step}")


@airgap_command("show")
@click.argument("identifier", metavar="RECORD")
@ledger_option
def _show(out: Output, home_path: Path, ledger: str | None, identifier: str) -> None:
    """Show one record: its bundles, its state, its history, its payload.

    RECORD is its id, or the beginning of it.

    \b
    Example:
      airgap ledger show 3f2a91bc
    """
    home = ledgers.workstation(home_path, ledger, out.warn)
    digits = _digits(identifier, everything=False)
    with ledgers.looked_at(home) as opened:
        found = decisions.find(opened, digits)
        if len(found) != 1:
            raise UsageError(
                "no record has this id" if not found else "several records' ids begin so",
                found=printable(identifier),
                hint="see `airgap ledger list`" if not found else "give more digits",
            )
        shown = decisions.show(opened, found[0])
    out.result(shown)
    _say_record(out, shown)


def _say_record(out: Output, shown: dict[str, Any]) -> None:
    out.say(f"{shown['id']}: {shown['kind']} ({shown['dialect']}), {shown['credential']}")
    for bundle in shown["bundles"]:
        out.say(
            f"In bundle {bundle['sequence']} of {bundle['source']}, imported {bundle['imported_at']}"
        )
    out.say(
        f"State: {shown['state'].replace('_', ' ')} since {shown['since']}, "
        f"{plural(shown['attempts'], 'attempt')}"
        + ("; it may have been counted" if shown["may_have_been_counted"] else "")
    )
    out.table(
        ("at", "state", "status#", "reason"),
        [
            (
                event["at"],
                event["state"].replace("_", " "),
                str(event["status"] or ""),
                printable(event["detail"] or "", 300),
            )
            for event in shown["history"]
        ],
    )
    if shown["answer"]:
        out.say(f"Answer kept: {printable(shown['answer'], 1000)}")
    out.say(json.dumps(shown["payload"], indent=2, ensure_ascii=False))


@airgap_command("resolve", audited=True)
@click.argument("identifier", metavar="RECORD")
@click.option("--resend", is_flag=True, help="Send it again: it was not counted.")
@click.option("--delivered", is_flag=True, help="Count it as delivered: it was counted.")
@click.option("--reason", required=True, help="Why; kept with the record.")
@ledger_option
def _resolve(
    out: Output,
    home_path: Path,
    ledger: str | None,
    identifier: str,
    reason: str,
    *,
    resend: bool,
    delivered: bool,
) -> None:
    """Decide a record in doubt or a dead letter.

    RECORD is the beginning of its id, or all.
    "all" means every record in doubt, never dead letters.

    \b
    Example:
      airgap ledger resolve 3f2a91bc --resend --reason "support: not counted, case 4711"
    """
    home = ledgers.workstation(home_path, ledger, out.warn)
    if resend == delivered:
        raise UsageError("say which it is", expected="--resend or --delivered")
    digits = _digits(identifier, everything=True)
    states: tuple[State, ...] = ("in_doubt", "dead") if digits else ("in_doubt",)
    choice: decisions.Choice = "waiting" if resend else "delivered"
    with _held(home) as opened:
        changed = decisions.decide(opened, digits, states, choice, printable(reason, 300))
        record("decided", records=changed, choice=choice)
    if not changed:
        raise UsageError(
            "no record in doubt and no dead letter has this id",
            found=printable(identifier),
            hint="see `airgap ledger list`",
        )
    out.result({"resolved": changed, "as": choice})
    out.say(
        f"{plural(len(changed), 'record')} now {choice}. Wrote {home.ledger_name}. Next, {_WITH}"
    )


@airgap_command("export", audited=True)
@click.option(
    "--to", required=True, type=click.Path(path_type=Path), help="New file for JSON lines."
)
@ledger_option
def _export(out: Output, home_path: Path, ledger: str | None, to: Path) -> None:
    """Write every dead letter with its payload, the answer and its history to a file.

    \b
    Example:
      airgap ledger deadletter export --to dead.jsonl
    """
    home = ledgers.workstation(home_path, ledger, out.warn)
    count = 0
    with ledgers.looked_at(home) as opened:
        if to.exists() or to.is_symlink():
            raise UsageError(
                "there is a file of this name already",
                where=str(to),
                hint="choose another name; airgap replaces no file of yours",
            )
        with written_whole(to) as file:
            os.fchmod(file.fileno(), 0o600)
            for letter in decisions.dead_letters(opened):
                file.write(json.dumps(letter, ensure_ascii=False).encode() + b"\n")
                count += 1
    record("dead letters written", file=str(to), records=count)
    out.result({"file": str(to), "records": count})
    out.say(f"{plural(count, 'dead letter')}.")
    out.say(f"Wrote {to}. Next, after the fix: airgap ledger deadletter retry ID|all --reason TEXT")


@airgap_command("retry", audited=True)
@click.argument("identifier", metavar="RECORD")
@click.option("--reason", required=True, help="What was fixed; kept with the record.")
@ledger_option
def _retry(out: Output, home_path: Path, ledger: str | None, identifier: str, reason: str) -> None:
    """Let dead letters wait again, after what refused them was fixed.

    RECORD is the beginning of an id, or all. The record itself stays as it is: what is wrong in
    it is put right at its source, collected there, and comes in another bundle.

    \b
    Example:
      airgap ledger deadletter retry all --reason "licence renewed, case 4711"
    """
    home = ledgers.workstation(home_path, ledger, out.warn)
    digits = _digits(identifier, everything=True)
    with _held(home) as opened:
        changed = decisions.decide(opened, digits, ("dead",), "waiting", printable(reason, 300))
        record("decided", records=changed, choice="waiting")
    if not changed:
        raise UsageError(
            "no dead letter has this id" if digits else "there is no dead letter",
            found=printable(identifier),
            hint="see `airgap ledger list --state dead`",
        )
    out.result({"resolved": changed, "as": "waiting"})
    out.say(
        f"{plural(len(changed), 'dead letter')} now waiting. "
        f"Wrote {home.ledger_name}. Next, {_WITH}"
    )


for _command in (_list, _show, _resolve, ledger_move.command):
    command.add_command(_command)
for _command in (_export, _retry):
    deadletter.add_command(_command)
command.add_command(deadletter)
