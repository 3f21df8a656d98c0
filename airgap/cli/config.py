"""``airgap config``: what is set, where it comes from, and what in ``airgap.toml`` can't be meant."""

import os
from pathlib import Path
from typing import Any, cast

import click
from click.shell_completion import CompletionItem

from airgap import catalog, configuration, credentials, settings
from airgap.cli.common import Output, airgap_command
from airgap.cli.recording import plain
from airgap.errors import UsageError
from airgap.home import Home, open_home, read_settings
from airgap.settings import Setting
from airgap.text import plural, printable

_OTHERS = (
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("https_proxy", "http_proxy", "all_proxy", "no_proxy", "PGPASSWORD"),
)
"""Variables that are not airgap's own and count all the same."""

_SECRET = settings.SECRET | {"PGPASSWORD"}


def _commands(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    words = configuration.commands_of(catalog.load().schema(settings.SCHEMA))
    return [CompletionItem(w) for w in sorted({w[0] for w in words}) if w.startswith(incomplete)]


@click.group("config")
def command() -> None:
    """Show and check what airgap.toml and the environment set."""


@airgap_command("show", configured=False)
@click.argument("words", nargs=-1, metavar="[COMMAND]...", shell_complete=_commands)
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
def _show(out: Output, home_path: Path, words: tuple[str, ...], *, origin: bool) -> None:
    """Show what is set: for the home and its commands, or all settings of one command.

    Flags come first, then the environment, airgap.toml, the profile, and the default. What is given on
    a command line is not known here. Secrets are never shown.

    \b
    Example:
      airgap config show --origin
      airgap config show import --origin
    """
    home = open_home(home_path)
    schemas = catalog.load()
    lines = configuration.lines(read_settings(home_path))
    chosen = _chosen(words)
    found: list[Setting] = [] if words else _general(home)
    for one in chosen:
        profile = settings.chosen_profile(one, home.settings, schemas, os.environ)
        found += settings.in_effect(one, home.settings, schemas, os.environ, profile)
    rows = [_as_map(one, lines) for one in found]
    variables = [
        _variable(name) for name in (*settings.VARIABLES, *_OTHERS) if os.environ.get(name)
    ]
    out.result({"home": str(home_path), "settings": rows, "variables": variables})
    shown = [row for row in rows if words or row["origin"] != "default"]
    lines_of = [(row["setting"], _text(row["value"]), _origin(row)) for row in shown]
    lines_of += [
        (row["variable"], _text(row["value"] or "set, not shown"), "environment")
        for row in variables
    ]
    width = 3 if origin else 2
    out.table(("setting", "value", "from")[:width], [line[:width] for line in lines_of])
    if words:
        out.say("Nothing was changed.")
    else:
        others = plural(
            len(rows) - len(shown),
            "other setting has its default",
            "other settings have their defaults",
        )
        out.say(f"{others}. Next: airgap config show COMMAND")


@airgap_command("check", configured=False)
@click.pass_context
def _check(ctx: click.Context, out: Output, home_path: Path) -> None:
    """Name every mistake in airgap.toml, and variables that are none of airgap's.

    Every other command stops at a mistake too, whichever command's table it is in.

    \b
    Example:
      airgap config check
    """
    file, text = home_path / configuration.FILE, read_settings(home_path)
    values, schemas = configuration.parse(text, where=str(file)), catalog.load()
    found, lines = settings.mistakes(values, schemas), configuration.lines(text)
    strange = settings.strange_variables(os.environ, schemas)
    out.result(
        {
            "file": str(file),
            "mistakes": [
                {
                    "line": configuration.line_of(one.path, lines),
                    "setting": one.name,
                    "problem": one.problem,
                    "expected": one.expected,
                    "found": one.found,
                    "near": one.near,
                }
                for one in found
            ],
            "variables": [{"variable": name, "near": near} for name, near in strange.items()],
        }
    )
    for name, near in strange.items():
        meant = f"; did you mean {near}?" if near else ""
        out.warn(f"{name} is in the environment, and no variable of airgap's{meant}")
    if not found:
        out.say(f"{file}: no mistake. Next: airgap config show --origin")
        return
    for one in found:
        near = f" (did you mean {one.near}?)" if one.near else ""
        out.say(f"{configuration.place(one, lines)}: {one.problem}{near}")
        out.say(f"  expected {one.expected}; found {one.found}")
    out.say(f"{plural(len(found), 'mistake')} in {file}. Next: correct it, and check again")
    ctx.exit(UsageError.exit_code)


@airgap_command("path", configured=False)
def _path(out: Output, home_path: Path) -> None:
    """Print where the configuration file is.

    \b
    Example:
      airgap config path
    """
    file = home_path / configuration.FILE
    out.result({"path": str(file), "exists": file.is_file()})
    out.say(str(file))


def _chosen(words: tuple[str, ...]) -> list[configuration.Path]:
    """Return the commands to show, all below the words.

    Raises:
        UsageError: no command of that name has settings.
    """
    known = list(configuration.commands_of(catalog.load().schema(settings.SCHEMA)))
    found = [one for one in known if one[: len(words)] == words]
    if not found:
        names = [" ".join(one) for one in known]
        near = configuration.nearest(" ".join(words), names)
        raise UsageError(
            "no command of this name has settings",
            expected=near or ", ".join(names),
            found=printable(" ".join(words)),
            hint=f"did you mean {near}?" if near else "airgap --help lists the commands",
        )
    return found


def _general(home: Home) -> list[Setting]:
    """Return what the file says of the home itself."""
    where: dict[str, tuple[Any, configuration.Path]] = {
        name: (home.settings[name], (name,))
        for name in ("side", "name", "contact", "profile")
        if name in home.settings
    }
    ledger = home.settings.get("ledger")
    if isinstance(ledger, str):
        where["ledger"] = (ledger, ("ledger",))
    elif isinstance(ledger, dict) and "path" in ledger:
        where["ledger.path"] = (cast("dict[str, str]", ledger)["path"], ("ledger", "path"))
    return [Setting((), name, value, "file", path) for name, (value, path) in where.items()]


def _as_map(one: Setting, lines: dict[configuration.Path, int]) -> dict[str, Any]:
    file = one.source if isinstance(one.source, tuple) else None
    value = one.value if one.value is None else _safe(one.value, file=one.name.endswith("_file"))
    return {
        "setting": one.path,
        "value": value,
        "origin": one.origin,
        "variable": one.source if one.origin == "environment" else None,
        "line": configuration.line_of(file, lines) if file else None,
        "profile": one.source if one.origin == "profile" else None,
    }


def _safe(value: object, *, file: bool) -> object:
    """Return a value as it may be shown: as the audit log keeps it, without what looks like a key."""
    if isinstance(value, list | tuple):
        return [_safe(item, file=file) for item in value]
    shown = plain(value, file=file)
    return credentials.redact(shown, catalog.load()) if isinstance(shown, str) else shown


def _variable(name: str) -> dict[str, Any]:
    value = None if name in _SECRET else _safe(os.environ[name], file=False)
    return {"variable": name, "value": value}


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, cast("list[object]", value))) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _origin(row: dict[str, Any]) -> str:
    if row["origin"] == "file":
        return f"airgap.toml, line {row['line']}"
    if row["origin"] == "profile":
        return f"profile {row['profile']}"
    return str(row["variable"] or "default")


command.add_command(_show)
command.add_command(_check)
command.add_command(_path)
