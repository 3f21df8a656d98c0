"""``airgap ledger move``: from a file into PostgreSQL, before a second workstation shares the work."""

import secrets
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from airgap import catalog, pgurl, timestamps
from airgap.audit import record
from airgap.cli import ledgers
from airgap.cli.asking import password_prompt
from airgap.cli.common import Output, airgap_command, ledger_option, on_side
from airgap.errors import UsageError
from airgap.home import Home
from airgap.replay.moving import Move, Moved
from airgap.text import plural, printable


class _Watcher:
    """See ``moving.Watcher``."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def warn(self, text: str) -> None:
        self._out.warn(text)

    def moving(self, rows: int) -> AbstractContextManager[Callable[[int], None]]:
        if self._out.quiet or self._out.as_json or not sys.stderr.isatty():
            return nullcontext(lambda _: None)
        from airgap.cli.progress import shown

        return shown(rows, "moving", "rows")


@airgap_command("move", audited=True)
@click.argument("url", metavar="URL")
@click.option("--undo", is_flag=True, help="Take a move back that the server does not hold.")
@click.option(
    "--server-lost",
    is_flag=True,
    help="With --undo: without the server's word, which is gone for good.",
)
@ledger_option
def command(
    out: Output,
    home_path: Path,
    ledger: str | None,
    url: str,
    *,
    undo: bool,
    server_lost: bool,
) -> None:
    """Move the ledger from its file into PostgreSQL, for several workstations to share.

    URL is postgresql://USER@HOST/DATABASE, of a database into which nothing was imported yet.
    Everything goes along: what was delivered is never sent again, receipts go on. Counts and sums
    are compared before anything counts there; from then on the file is no ledger any more, and
    every command that would open it says where it went.

    A move that was cut off is ended by the same command again. Until then nobody imports where it
    is not known which of the two is the ledger. --undo makes the file the ledger again if the
    server shows that it does not hold it. With --server-lost its word is not needed: what was
    delivered through it since the move would then be delivered again.

    \b
    Example:
      airgap ledger move postgresql://relay@db/airgap
    """
    home = on_side(home_path, "workstation").with_ledger(ledger)
    chosen, home = home, home.with_file()
    if not pgurl.is_url(url):
        raise UsageError(
            "a ledger is moved to a server",
            found=printable(pgurl.masked(url), 300),
            expected="postgresql://USER@HOST/DATABASE",
            hint="a file is moved by hand, with what begins with its name, while no command uses it; then "
            "put `ledger` into airgap.toml",
        )
    if server_lost and not undo:
        raise UsageError("--server-lost is about --undo", hint="add --undo, or leave it out")
    ledgers.warn_of_password(url, out.warn)
    move = Move(
        home, url, catalog.load(), timestamps.system_clock, password_prompt(), secrets.token_hex(16)
    )
    try:
        done = move.take_back(server_lost=server_lost) if undo else move.run(_Watcher(out))
    except KeyboardInterrupt:
        out.warn("stopped. Which of the two is the ledger, the same command finds out, and goes on")
        raise
    _keep(done, home, undo=undo)
    _say(out, done, chosen, undo=undo, server_lost=server_lost)


def _is_chosen(home: Home, done: Moved) -> bool:
    """Tell whether the home's next command uses the server already."""
    return home.with_file() is not home and pgurl.bare(home.ledger_name) == done.mark.place


def _keep(done: Moved, home: Home, *, undo: bool) -> None:
    record(
        "ledger move taken back" if undo else "ledger moved",
        file=str(home.ledger_path),
        to=pgurl.host(done.mark.place),
        run=done.mark.run,
        before=done.before,
        bundles=done.bundles,
        records=done.records,
    )


def _say(out: Output, done: Moved, home: Home, *, undo: bool, server_lost: bool) -> None:
    path, place = home.with_file().ledger_path, printable(done.mark.place, 300)
    out.result(
        {
            "result": "taken_back" if undo else "moved_before" if done.before else "moved",
            "file": str(path),
            "ledger": done.mark.place,
            "begun_at": done.mark.begun_at,
            "moved_at": done.mark.moved_at,
            "bundles": done.bundles,
            "records": done.records,
            "states": done.states,
        }
    )
    for kind, states in done.states.items():
        said = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in states.items())
        out.say(f"{kind}: {said}")
    held = f"{plural(done.bundles, 'bundle')}, {plural(done.records, 'record')}"
    if undo:
        if server_lost:
            out.warn(
                "the file knows nothing of what was delivered through that server since "
                f"{done.mark.begun_at}, and would deliver it again: make sure that nothing was, before you "
                "import"
            )
        out.say(
            f"The move to {place} is taken back. Wrote {path}: it is the ledger again, {held}. "
            "Let no workstation import into that server's ledger. Next: airgap status"
        )
        return
    following = (
        "Next: airgap status"
        if _is_chosen(home, done)
        else f'Next: put ledger = "{place}" into airgap.toml of each workstation'
    )
    said = (
        f"{held}: moved before. The ledger is {place}"
        if done.before
        else f"{held}: moved, counts and sums are equal. Wrote {place}"
    )
    out.say(f"{said}; {path} is no ledger any more, keep it as a record. {following}")
