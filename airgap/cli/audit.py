"""``airgap audit``: the log of what was done with this home."""

import json
from pathlib import Path
from typing import Any

import click

from airgap import audit
from airgap.cli.common import Output, airgap_command
from airgap.home import open_home
from airgap.text import plural, printable

_SHOWN = ("n", "previous", "at", "run", "user", "command", "event", "after_a_torn_line")


@click.group("audit")
def command() -> None:
    """Read and check the log of what was done with this home."""


@airgap_command("verify")
@click.option("--head", help="NUMBER:DIGEST that an earlier check printed; the log must hold it.")
def _verify(out: Output, home_path: Path, head: str | None) -> None:
    """Check that no line was changed, removed or inserted.

    The chain alone can't show that lines were cut off at the end, or that all was written anew:
    note the head somewhere else, and give it to the next check.

    \b
    Example:
      airgap audit verify
      airgap audit verify --head 41:9b6f...
    """
    home = open_home(home_path)
    found = audit.check(home.audit_path, head)
    out.result(
        {
            "entries": found.entries,
            "head": found.head or None,
            "torn": found.torn,
            "unended": found.unended,
        }
    )
    for number in found.torn:
        out.say(f"Line {number} was cut off by a crash; the next line says so.")
    for run, name in found.unended.items():
        out.say(
            f"Run {printable(run)} ({printable(name)}) began and did not end: killed, or running."
        )
    out.say(f"{plural(found.entries, 'entry', 'entries')}, the chain holds.")
    if found.head:
        out.say(f"Head: {found.head}")
        out.say("Next: note the head elsewhere; airgap audit verify --head HEAD proves it later")


@airgap_command("show")
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="How many of the newest entries.",
)
def _show(out: Output, home_path: Path, last: int) -> None:
    """Show the newest entries.

    \b
    Example:
      airgap audit show --last 50
    """
    home = open_home(home_path)
    found = list(audit.entries(home.audit_path))[-last:]
    out.result({"entries": found})
    for entry in found:
        head = " ".join(str(entry.get(name)) for name in ("at", "user", "command", "event"))
        out.say(printable(f"{head}: {_facts(entry)}".removesuffix(": "), 1000))
    if not found:
        out.say("Nothing was done with this home yet.")


def _facts(entry: dict[str, Any]) -> str:
    told = {key: value for key, value in entry.items() if key not in _SHOWN}
    options = told.pop("options", None)
    told = {**(options or {}), **told}
    return ", ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in told.items()
        if value not in (None, [], {})
    )


for _command in (_verify, _show):
    command.add_command(_command)
