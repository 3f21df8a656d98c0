"""Manual pages from the commands themselves, in the macros of man(7).

Every page has what ``--help`` has, and beside it environment, files and exit status, so that a host
without a network needs nothing else. Text is escaped: no word of a help text can be a request.
"""

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import click

from airgap import __version__, configuration, settings
from airgap.catalog import Catalog
from airgap.cli.common import setting_of
from airgap.errors import EXIT_CODES

_FIXED = (
    ("airgap.toml", "what the home is, and defaults of options: airgap.toml(5)"),
    ("keys/", "this side's own keys"),
    ("trust.json", "whose signatures count"),
    ("outbox.sqlite, ledger.sqlite", "what waits on the isolated host, what was imported"),
    ("audit.jsonl", "what was done, hash-chained"),
)


def pages(root: click.Command, catalog: Catalog) -> dict[str, str]:
    """Return every page by its file name: airgap.1, one for each command, and airgap.toml.5.

    Args:
        root: the ``airgap`` command.
        catalog: holds the configuration file's schema.
    """
    made: dict[str, str] = {}
    found = list(_walk(click.Context(root, info_name="airgap")))
    names = ["-".join(context.command_path.split()) for context in found]
    for context, name in zip(found, names, strict=True):
        made[f"{name}.1"] = _command(context, name, names, catalog)
    made["airgap.toml.5"] = _settings(catalog)
    return made


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _walk(click.Context(found, info_name=name, parent=context))


def _command(context: click.Context, name: str, names: list[str], catalog: Catalog) -> str:
    command = context.command
    told, _, examples = cleandoc(command.help or "").partition("\b\n")
    paragraphs = [" ".join(part.split()) for part in told.split("\n\n") if part.strip()]
    lines = [_title(name, 1), *_section("NAME", [f"{_text(name)} \\- {_first(paragraphs)}"])]
    usage = " ".join(command.collect_usage_pieces(context))
    lines += _section("SYNOPSIS", [f".B {_text(context.command_path)}", _text(usage)])
    lines += _section("DESCRIPTION", [f".PP\n{_text(part)}" for part in paragraphs])
    if isinstance(command, click.Group):
        below = [
            (f"{context.command_path} {sub}", _summary(command, context, sub))
            for sub in command.list_commands(context)
        ]
        lines += _section("COMMANDS", [_item(n, text) for n, text in below])
    options = [p.get_help_record(context) for p in command.params if isinstance(p, click.Option)]
    lines += _section("OPTIONS", [_item(names, text) for names, text in filter(None, options)])
    if examples:
        body = [_text(line.strip()) for line in examples.splitlines() if line.strip()]
        lines += _section("EXAMPLES", [f".PP\n{body[0]}", ".nf", ".RS 4", *body[1:], ".RE", ".fi"])
    variables = _variables(context, catalog)
    lines += _section("ENVIRONMENT", [_item(n, text) for n, text in variables])
    lines += _section("FILES", [_item(n, f"in the home: {text}") for n, text in _FIXED])
    lines += _section(
        "EXIT STATUS",
        [_item(str(code), _said(*told)) for code, told in EXIT_CODES.items()],
    )
    others = [n for n in names if n != name and _is_near(name, n)]
    lines += _section(
        "SEE ALSO", [_text(", ".join([*(f"{n}(1)" for n in others), "airgap.toml(5)"]))]
    )
    return "\n".join(lines) + "\n"


def _settings(catalog: Catalog) -> str:
    schema: Any = catalog.schema(settings.SCHEMA)
    lines = [
        _title("airgap.toml", 5),
        *_section("NAME", ["airgap.toml \\- what an airgap home is, and its commands' defaults"]),
        *_section("DESCRIPTION", [f".PP\n{_text(str(schema['description']))}"]),
    ]
    lines += _section(
        "THE HOME",
        [
            _item(name, str(entry.get("description", "")))
            for name, entry in schema["properties"].items()
            if name not in {words[0] for words in configuration.commands_of(schema)}
        ],
    )
    for words in configuration.commands_of(schema):
        body = [
            _item(name, _default(entry))
            for name, entry in configuration.options_of(schema, words).items()
        ]
        lines += _section(f"[{'.'.join(words)}]", body)
    profiles = [_item(n, str(p["description"])) for n, p in catalog.profiles.items()]
    lines += _section("PROFILES", profiles)
    lines += _section(
        "SEE ALSO", ["airgap(1), airgap\\-config\\-show(1), airgap\\-config\\-check(1)"]
    )
    return "\n".join(lines) + "\n"


def _default(entry: Any) -> str:
    told = str(entry.get("description", ""))
    if entry.get("default") not in (None, [], False):
        told += f" Default: {entry['default']}."
    return told


def _variables(context: click.Context, catalog: Catalog) -> list[tuple[str, str]]:
    words = tuple(context.command_path.split()[1:])
    named = configuration.options_of(catalog.schema(settings.SCHEMA), words) if words else {}
    flags = {
        setting_of(p): max(p.opts, key=len)
        for p in context.command.params
        if isinstance(p, click.Option)
    }
    found = [
        (variable, f"as {flags.get(name, name)}")
        for name, entry in named.items()
        for variable in entry["x-environment"]
    ]
    return [*found, *settings.VARIABLES.items()]


def _is_near(name: str, other: str) -> bool:
    """Tell whether a page should name another: what is above it, below it, and beside it."""
    if name.startswith(f"{other}-"):
        return True
    return other.rpartition("-")[0] in (name, name.rpartition("-")[0])


def _summary(group: click.Group, context: click.Context, name: str) -> str:
    found = group.get_command(context, name)
    assert found is not None
    return found.get_short_help_str(200)


def _said(meaning: str, cure: str) -> str:
    text = f"{meaning}; {cure}" if cure else meaning
    return text.replace("`", "")


def _title(name: str, number: int) -> str:
    return f'.TH {_text(name.upper())} {number} "" "airgap {_text(__version__)}" "airgap"'


def _first(paragraphs: list[str]) -> str:
    return _text(re.split(r"\.(?: |$)", paragraphs[0])[0]) if paragraphs else ""


def _section(title: str, body: list[str]) -> list[str]:
    first = [body[0].removeprefix(".PP\n"), *body[1:]] if body else []
    return [f'.SH "{_text(title)}"', *first] if body else []


def _item(name: str, text: str) -> str:
    return f".TP\n.B {_text(name)}\n{_text(' '.join(text.split()))}"


def _text(text: str) -> str:
    """Return text that troff prints as it is, whatever it begins with."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    shown = (
        shown.replace("`", "\\(ga")
        .replace("'", "\\(aq")
        .replace("^", "\\(ha")
        .replace("~", "\\(ti")
    )
    return f"\\&{shown}" if shown.startswith((".", "'", "\\(aq")) else shown
