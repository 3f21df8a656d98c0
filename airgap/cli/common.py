"""What every command shares: options, output, and how an error is said."""

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from airgap import catalog, credentials, settings
from airgap.cli import completing
from airgap.configuration import options_of
from airgap.errors import AirgapError, MediumError, NoHomeError, UsageError
from airgap.findings import Finding
from airgap.home import Home, default_home, open_home, passphrase_from
from airgap.records import Totals
from airgap.settings import Setting
from airgap.text import printable, wrapped
from airgap.trust.keys import Passphrase
from airgap.unsealing import Unsealer

_RESULT = "airgap.result"
_NEVER_WRAPPED = frozenset(
    {"kind", "measure", "fingerprint", "id", "made", "period", "since", "source"}
)
_NOT_READ = frozenset({"home_path", "to"})
_F = TypeVar("_F", bound=Callable[..., Any])


class Output:
    """Where a command's words go: people read stdout, or with ``--json`` one object is there.

    Args:
        as_json: one JSON object on stdout, everything else on stderr.
        quiet: nothing but errors and the JSON object.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.message: str | None = None
        """What ``--message`` said."""

    def say(self, *texts: str) -> None:
        """Print lines for people, one for each text, or an empty one.

        A line feed within a text is shown as what it is: a name on a stick can't add a line.
        """
        if not self.quiet:
            for text in texts or ("",):
                click.echo(_line(text), err=self.as_json)

    def warn(self, text: str) -> None:
        """Print a warning on stderr."""
        click.echo(_line(f"airgap: warning: {text}"), err=True)

    def findings(self, found: Iterable[Finding]) -> None:
        """Print findings as warnings."""
        for finding in found:
            self.warn(finding.message)

    def result(self, value: dict[str, Any]) -> None:
        """Print the command's result for machines."""
        if self.as_json:
            click.get_current_context().meta[_RESULT] = True
            click.echo(json.dumps(value, default=repr))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; columns whose heading ends in ``#`` are numbers."""
        rows = list(rows)
        if self.quiet or not rows:
            return
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for column in columns:
            number = column.endswith("#")
            table.add_column(
                column.rstrip("#"),
                justify="right" if number else "left",
                overflow="fold",
                no_wrap=number or column in _NEVER_WRAPPED,
            )
        for row in rows:
            table.add_row(*map(printable, row))
        stream = sys.stderr if self.as_json else sys.stdout
        width = None if stream.isatty() else 120
        console = Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
        if stream.isatty():
            console.print(table)
            return
        # In a file or a pipe, without the spaces that fill up lines.
        with console.capture() as capture:
            console.print(table)
        for line in capture.get().rstrip("\n").split("\n"):
            click.echo(line.rstrip(), file=stream)

    def totals(self, totals: Totals) -> None:
        """Print totals as a table of kind, records and sums."""
        rows: list[tuple[str, str, str, str]] = []
        for kind, total in sorted(totals.kinds.items()):
            sums = [(name, f"{value:,}") for name, value in sorted(total.sums.items())] or [
                ("", "")
            ]
            for index, (name, value) in enumerate(sums):
                rows.append(
                    (
                        kind if index == 0 else "",
                        f"{total.records:,}" if index == 0 else "",
                        name,
                        value,
                    )
                )
        self.table(("kind", "records#", "measure", "sum#"), rows)


class AirgapCommand(click.Command):
    """A command whose errors are said in one form, with their exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click.Command."""
        try:
            return super().invoke(ctx)
        except Exception as failure:
            error = _missing(failure, ctx) or _in_words(failure)
            if error is None:
                raise
            # One object on stdout: a result that was printed says what happened by itself.
            show_error(error, as_json=bool(ctx.params.get("as_json")) and _RESULT not in ctx.meta)
            ctx.exit(error.exit_code)


def _missing(failure: Exception, ctx: click.Context) -> AirgapError | None:
    """Return the error for a file that was named to be read and is not there, or None for another.

    What vanishes in a folder that was named is the medium's doing, and so is a folder to write to.
    """
    cause = failure.__context__ if isinstance(failure, MediumError) else failure
    if not isinstance(cause, FileNotFoundError) or cause.filename is None:
        return None
    missing = Path(os.fsdecode(cause.filename))
    for name, value in ctx.params.items():
        given = value if isinstance(value, tuple) else (value,)
        if name not in _NOT_READ and missing in [v for v in given if isinstance(v, Path)]:
            return UsageError(
                "there is no such file",
                where=printable(str(missing), 300),
                hint="check the path, and that the medium is mounted",
            )
    return None


def _in_words(failure: Exception) -> AirgapError | None:
    """Return a failure as an error for operators, or None: what is a bug stays a bug."""
    if isinstance(failure, AirgapError):
        return failure
    sqlite = sys.modules.get("sqlite3")
    if sqlite is not None and isinstance(failure, sqlite.Error):
        from airgap.database import translate

        return translate(failure)
    if isinstance(failure, OSError) and not isinstance(failure, BrokenPipeError):
        return MediumError(
            f"the file system refused: {failure.strerror or failure}",
            where=printable(str(failure.filename), 300) if failure.filename else None,
            hint="check space and permissions, then run the command again; nothing that was stored is lost",
        )
    return None


def show_error(error: AirgapError, *, as_json: bool) -> None:
    """Print an error for people on stderr, and for machines on stdout."""
    if as_json:
        click.echo(_redact(json.dumps(error.as_json())))
    said = [("airgap: error: ", error.message)]
    for label, text in (
        ("where", error.where),
        ("expected", error.expected),
        ("found", error.found),
        *(("also", text) for text in error.details),
    ):
        if text:
            said.append((f"  {label + ':':<10}", text))
    said.append(("airgap: hint: ", error.hint))
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    click.echo("\n".join(_fitted(*line, width) for line in said), err=True)


def _fitted(label: str, text: str, width: int) -> str:
    """Return a line of an error; on a terminal broken between words, and behind its label."""
    line = _redact(_line(label + text))
    if len(line) <= width or not width:
        return line
    return "\n".join(
        wrapped(line[len(label) :], max(40, width), label, " " * len(label), break_long=False)
    )


def _line(text: str) -> str:
    return printable(text, 10_000)


def _redact(text: str) -> str:
    """Mask whatever looks like a key: messages never hold one, and this makes sure."""
    return credentials.redact(text, catalog.load())


def airgap_command(
    name: str, *, home: bool = True, audited: bool = False, configured: bool = True
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a command with the options that every command has.

    Args:
        name: the command's name.
        home: whether it works on a home.
        audited: whether it changes something, and so is kept in the home's audit log.
        configured: whether options have defaults in the home's ``airgap.toml``, which is checked.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(*, as_json: bool, quiet: bool, message: str | None = None, **options: Any) -> Any:
            out = Output(as_json=as_json, quiet=quiet)
            if not audited or options.get("dry_run"):
                return function(out, **options)
            from airgap.cli.recording import recorded

            out.message = None if message is None else printable(message, 300)
            with recorded(click.get_current_context(), options["home_path"], out.message):
                return function(out, **options)

        made: Callable[..., Any] = run
        if audited:
            made = click.option(
                "--message", help="Why, for the audit log, for instance a change number."
            )(made)
        made = click.option("--quiet", is_flag=True, help="Print nothing but errors.")(made)
        made = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(made)
        if home:
            made = home_option(made)
        cls = _Configured if home and configured else AirgapCommand
        return click.command(name, cls=cls)(made)

    return decorate


class _Configured(AirgapCommand):
    """Takes defaults from the environment, the home's ``airgap.toml`` and profiles."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """See click.Command.

        Raises:
            AirgapError: something in ``airgap.toml`` can't be meant, wherever in the file; not
                where only help is asked for.
        """
        words = _words(info_name, parent)
        named = options_of(catalog.load().schema(settings.SCHEMA), words)
        options = {setting_of(p): p for p in self.params if isinstance(p, click.Option)}
        for name, entry in named.items():
            if name in options:
                options[name].envvar = entry["x-environment"] or None
        if extra.get("resilient_parsing") or {"--help", "-h"} & set(args):
            return super().make_context(info_name, args, parent, **extra)
        found = self._settings(words, args)
        values = {s.name: s.value for s in found if s.origin in ("file", "profile")}
        values |= {s.name: s.value for s in found if s.name == "profile"}
        extra["default_map"] = {
            str(options[name].name): value for name, value in values.items() if value is not None
        }
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.BadParameter as error:
            origin = _origin_of(error, found)
            if origin is None:
                raise
            text = f"{error.message} (from {origin})"
            raise click.BadParameter(text, error.ctx, error.param, error.param_hint) from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Command; says where defaults can be set."""
        super().format_epilog(ctx, formatter)
        words = _words(ctx.info_name, ctx.parent)
        named = options_of(catalog.load().schema(settings.SCHEMA), words)
        if named:
            variable = "_".join(("AIRGAP", *words)).upper()
            formatter.write_paragraph()
            formatter.write_text(
                f"Defaults: {variable}_OPTION in the environment, then [{'.'.join(words)}] of "
                "airgap.toml; see airgap config show."
            )

    def _settings(self, words: tuple[str, ...], args: list[str]) -> list[Setting]:
        given = self._given(args)
        path = given.get("home_path")
        try:
            file = open_home(Path(path) if path else default_home()).settings
        except NoHomeError:
            file = {}
        schemas = catalog.load()
        profile = settings.chosen_profile(words, file, schemas, os.environ, given.get("profile"))
        return settings.in_effect(words, file, schemas, os.environ, profile)

    def _given(self, args: list[str]) -> dict[str, Any]:
        """Return the options on the command line, unconverted; what can't be read says nothing yet."""
        context = click.Context(self, resilient_parsing=True)
        try:
            return self.make_parser(context).parse_args(list(args))[0]
        except click.UsageError:
            return {}


def _words(info_name: str | None, parent: click.Context | None) -> tuple[str, ...]:
    """Return the words of a command behind ``airgap``."""
    words = [info_name or ""]
    while parent is not None and parent.parent is not None:
        words.insert(0, parent.info_name or "")
        parent = parent.parent
    return tuple(words)


def _origin_of(error: click.BadParameter, found: list[Setting]) -> str | None:
    """Return where a value comes from that an option can't have; None where it was typed."""
    if error.ctx is None or not isinstance(error.param, click.Option):
        return None
    source = error.ctx.get_parameter_source(error.param.name or "")
    if source not in (ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP):
        return None
    name = setting_of(error.param)
    one = next(s for s in found if s.name == name)
    if one.origin == "file":
        return f"{one.path} in airgap.toml"
    return f"profile {one.source}" if one.origin == "profile" else str(one.source)


def setting_of(option: click.Option) -> str:
    """Return what an option is called in ``airgap.toml``: its long name with underscores."""
    return max(option.opts, key=len).removeprefix("--").replace("-", "_")


def home_option(function: _F) -> _F:
    """Add ``--home``."""
    return click.option(
        "--home",
        "home_path",
        # Not Click's own word for a folder of another user: `airgap doctor` has a better one.
        type=click.Path(path_type=Path, readable=False),
        default=default_home,
        show_default="AIRGAP_HOME, or the user's data folder",
        help="Folder of this side's home.",
    )(function)


def passphrase_option(function: _F) -> _F:
    """Add ``--passphrase-file``."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path),
        help="File whose first line is the key's passphrase; else AIRGAP_PASSPHRASE, else a prompt.",
    )(function)


def sealing_passphrase_option(function: _F) -> _F:
    """Add ``--sealing-passphrase-file``."""
    return click.option(
        "--sealing-passphrase-file",
        type=click.Path(path_type=Path),
        help="File whose first line is the sealing key's passphrase; "
        "else AIRGAP_SEALING_PASSPHRASE, else a prompt.",
    )(function)


def key_option(function: _F) -> _F:
    """Add ``--key``."""
    return click.option(
        "--key",
        "key_choice",
        shell_complete=completing.keys,
        help="Key to sign with: a name from `airgap key list`, or a key file.",
    )(function)


def ledger_option(function: _F) -> _F:
    """Add ``--ledger``."""
    return click.option(
        "--ledger",
        "ledger",
        envvar="AIRGAP_LEDGER",
        metavar="PLACE",
        help="The ledger: a file, or postgresql://USER@HOST/DATABASE, which workstations share; "
        "default: as airgap.toml says, else in the home.",
    )(function)


def ask_passphrase(file: Path | None, variable: str = "AIRGAP_PASSPHRASE") -> Passphrase:
    """Return where an existing key's passphrase comes from."""
    prompt = None
    if sys.stdin.isatty() and sys.stderr.isatty():

        def prompt(what: str) -> str:
            return str(click.prompt(f"Passphrase for {what}", hide_input=True, err=True))

    return passphrase_from(file=file, environment=_environment_bytes(variable), prompt=prompt)


def unsealer(home: Home, passphrase_file: Path | None) -> Unsealer:
    """Return what opens sealed bundles with a home's own keys."""
    return Unsealer(home, ask_passphrase(passphrase_file, "AIRGAP_SEALING_PASSPHRASE"))


def _environment_bytes(name: str) -> bytes | None:
    value = os.environ.get(name)
    return None if value is None else os.fsencode(value)


def read_credentials(
    license_files: Sequence[Path], api_key_files: Sequence[Path]
) -> list[tuple[str, str]]:
    """Return ``(type, credential)`` from files and from AIRGAP_LICENSE_KEY and AIRGAP_API_KEY."""
    found = credentials.read_all(license_files, api_key_files)
    for kind, variable in (("license", "AIRGAP_LICENSE_KEY"), ("api_key", "AIRGAP_API_KEY")):
        value = os.environ.get(variable, "").strip()
        if value:
            found.append((kind, credentials.check(kind, value, where=variable)))
    return found


def credential_options(function: _F) -> _F:
    """Add ``--license-file`` and ``--api-key-file``."""
    function = click.option(
        "--api-key-file",
        "api_key_file",
        multiple=True,
        type=click.Path(path_type=Path),
        help="File with a LangSmith API key; may be repeated; also AIRGAP_API_KEY.",
    )(function)
    return click.option(
        "--license-file",
        "license_file",
        multiple=True,
        type=click.Path(path_type=Path),
        help="File with a licence key; may be repeated; also AIRGAP_LICENSE_KEY.",
    )(function)


def gap_option(function: _F) -> _F:
    """Add ``--gap-over``."""
    from airgap.cli.types import Duration
    from airgap.windows import SEAM

    return click.option(
        "--gap-over",
        type=Duration(timedelta(microseconds=SEAM)),
        default="1d",
        show_default=True,
        help="Longest time without a record that is no gap: 36h, 3d, 2w.",
    )(function)


def on_side(home_path: Path, side: str) -> Home:
    """Return the home after a check that it is of the side that the command needs."""
    home = open_home(home_path)
    home.require("isolated" if side == "isolated" else "workstation")
    return home
