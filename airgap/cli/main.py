"""The ``airgap`` command. Help is shown without loading a single command's module."""

import importlib
import io
import json
import os
import sys
from contextlib import redirect_stderr, suppress
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from airgap import __version__
from airgap.errors import AirgapError
from airgap.text import printable

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("airgap.cli.init", "Set up a home, on the isolated host or on the workstation."),
    "key": ("airgap.cli.key", "Make and show this side's own keys."),
    "trust": ("airgap.cli.trust", "Say whose signatures count."),
    "recipient": ("airgap.cli.recipient", "Say who can open sealed bundles."),
    "collect": ("airgap.cli.collect", "Take usage records into the outbox."),
    "capture": ("airgap.cli.capture", "Receive what servers report, and keep it in the outbox."),
    "export": ("airgap.cli.export", "Write signed bundles to a stick."),
    "media": ("airgap.cli.media", "Show the sticks that are plugged in."),
    "inspect": ("airgap.cli.inspect", "Show what a bundle or receipt holds."),
    "cat": ("airgap.cli.cat", "Print a bundle's records as JSON lines."),
    "verify": ("airgap.cli.verify", "Check bundles and receipts, and act on nothing."),
    "review": ("airgap.cli.review", "Show everything that leaves in a bundle."),
    "fields": ("airgap.cli.fields", "Show every field that can leave, and why."),
    "countersign": ("airgap.cli.countersign", "Approve of a bundle, or deny it."),
    "import": ("airgap.cli.import_", "Verify bundles and deliver them to the beacon."),
    "ledger": ("airgap.cli.ledger", "Decide what could not be delivered; move the ledger."),
    "receipt": ("airgap.cli.receipt", "Take receipts or codes back to the isolated host."),
    "outbox": ("airgap.cli.outbox", "Make room in the outbox, or go on after a restore."),
    "status": (
        "airgap.cli.status",
        "Say what waits, what is confirmed, what is missing or overdue.",
    ),
    "report": ("airgap.cli.report", "Say what was delivered when, also as CSV and HTML."),
    "audit": ("airgap.cli.audit", "Read and check the log of what was done."),
    "config": ("airgap.cli.config", "Show and check what airgap.toml and the environment set."),
    "completion": ("airgap.cli.completion", "Print the script for a shell's completion."),
    "examples": (
        "airgap.cli.examples",
        "Show units for systemd, a container file, and Kubernetes examples.",
    ),
    "man": ("airgap.cli.man", "Write manual pages."),
    "doctor": (
        "airgap.cli.doctor",
        "Examine the home and this machine; each finding with its cure.",
    ),
    "rehearse": ("airgap.cli.rehearse", "Run a beacon on this machine, to practise with."),
    "demo": ("airgap.cli.demo", "Show the whole journey on this machine."),
}
"""Commands in the order of the journey: module, and the line that ``--help`` shows."""

_TYPED = "airgap.typed"
_READER_GONE = 141
"""What a shell says of a command that SIGPIPE ended."""
_EVERY_COMMANDS = frozenset({"--home", "--json", "--quiet", "--message"})


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Command."""
        ctx.meta[_TYPED] = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in _EVERY_COMMANDS:
                raise
            raise click.UsageError(f"{error.option_name} goes after the command.", ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group; names the command that may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if args[0].startswith("-"):
                raise
            from difflib import get_close_matches

            near = get_close_matches(args[0].lower(), COMMANDS, n=1)
            meant = f"Did you mean {near[0]}?" if near else "airgap --help lists them."
            raise click.UsageError(f"No such command {args[0]!r}. {meant}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """See click.Group; says what is wrong with the configuration before a command runs."""
        try:
            return super().invoke(ctx)
        except AirgapError as error:
            from airgap.cli.common import show_error

            show_error(error, as_json="--json" in ctx.meta[_TYPED])
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            # Whoever read our output has seen enough; Python must not try to flush the rest.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_READER_GONE)
        except click.UsageError as error:
            raise _placed(error) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """See click.Command; as ``format_commands``, without importing what is offered."""
        names = [n for n in COMMANDS if n.startswith(incomplete)]
        offered = [CompletionItem(name, help=COMMANDS[name][1]) for name in names]
        return [*offered, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Group; the table above holds what is needed."""
        with formatter.section("Commands, in the order of the journey"):
            formatter.write_dl([(name, entry[1]) for name, entry in COMMANDS.items()])


@click.command(
    "airgap",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it: airgap demo",
)
@click.version_option(__version__, "--version", message="airgap %(version)s")
def cli() -> None:
    """Carry LangSmith and LangGraph usage reports out of an isolated network by hand.

    On the isolated host: init, key, collect, export. On a connected workstation: init, key,
    trust, import. Back on the isolated host: receipt apply.

    \b
    Exit status: 0 done, 1 unexpected, 2 usage, 3 input refused, 4 signature or trust,
    5 damaged or inconsistent, 6 partly delivered, 7 beacon or ledger unreachable, 8 medium,
    9 sequence or gap, 10 overdue, 130 interrupted.
    """


def _placed(error: click.UsageError) -> click.UsageError:
    """Return a mistake with where the word belongs that a command with ``--to`` can't take."""
    if error.ctx is None or "extra argument" not in error.message:
        return error
    to = next((p for p in error.ctx.command.params if "--to" in p.opts), None)
    if to is None:
        return error
    given = error.ctx.params.get(str(to.name)) is not None
    belongs = "a path with spaces needs quotes" if given else "the folder goes after --to"
    return click.UsageError(f"{error.message}; {belongs}", error.ctx)


def _complete() -> NoReturn:
    """Answer a shell that asks what to offer; say nothing else, whatever happens."""
    with redirect_stderr(io.StringIO()), suppress(Exception, SystemExit):
        cli.main(prog_name="airgap")
    sys.exit(0)


def main() -> None:
    """Run the command line and exit; Ctrl-C exits with 130, a reader that has seen enough with 141."""
    if "_AIRGAP_COMPLETE" in os.environ:
        _complete()
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("airgap: interrupted", err=True)
        status = 130
    except click.ClickException as error:
        if "--json" in sys.argv:
            said = {"error": "UsageError", "exit_code": error.exit_code, "hint": "see --help"}
            click.echo(json.dumps({**said, "message": error.format_message()}))
        # It quotes what was typed, and a shell types the names on a stick for whoever asks for all.
        said_by_click = io.StringIO()
        error.show(said_by_click)
        for line in said_by_click.getvalue().rstrip("\n").split("\n"):
            click.echo(printable(line, 10_000), err=True)
        status = error.exit_code
    sys.exit(status if isinstance(status, int) else 0)
