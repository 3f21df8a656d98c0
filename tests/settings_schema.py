"""Make schemas/airgap-toml.schema.json from the commands' options: `.venv/bin/python tests/settings_schema.py`.

What is decided each time is not among the settings: see schemas/README.md, "The configuration file".
"""

import json
from pathlib import Path
from typing import Any

import click

from airgap import catalog
from airgap.cli.common import setting_of
from airgap.cli.main import cli
from airgap.cli.types import Duration, Listen, Size

FILE = Path(__file__).parent.parent / "schemas" / "airgap-toml.schema.json"
NAME = "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
TEXT = {"type": "string", "maxLength": 4096, "pattern": "^[^\\u0000]*$"}
PLACE = {**TEXT, "minLength": 1, "examples": ["/etc/airgap/license.key"]}
FORMS: dict[type, dict[str, Any]] = {
    Duration: {"pattern": "^[0-9]{1,5}[wdhms]$", "examples": ["36h"]},
    Size: {"pattern": "^[0-9]{1,15} ?([kKmMgG]([iI]?[bB])?)?$", "examples": ["700MiB"]},
    Listen: {"minLength": 3, "maxLength": 300, "examples": ["127.0.0.1:8787"]},
}
EACH_TIME = frozenset(
    # What a command is asked to do, and decisions that name their reason or their bundle.
    "home json message reason again sign_again resume dry_run no_usage of bundle new deny resend delivered "
    "since since_sequence head check undo "
    # What is one for all commands: two ledgers would deliver twice.
    "ledger "
    # What says whose word counts.
    "role source fingerprint root from until threshold exporters reviewers importer "
    # What overrules a refusal.
    "server_lost force backdated accept_backdated take_exported unverified digests_only".split()
)
NEVER_A_VARIABLE = frozenset(
    # What lets more leave than before, or protects a key less, is written down or typed.
    "allow accept log_attribute log_template message_in_bundle with_answers no_passphrase".split()
)
PROFILE = ("beacon_url", "api_url", "dialect", "ca_file", "license_file", "api_key_file")
PROFILE += ("timeout", "attempts", "in_flight", "rate")


def value_of(option: click.Option) -> dict[str, Any]:
    """Return the schema of an option's values in the file."""
    kinds = catalog.load().kinds
    type_ = option.type
    if option.is_flag:
        return {"type": "boolean"}
    if isinstance(type_, click.IntRange | click.FloatRange):
        bounds = {"minimum": type_.min, "maximum": type_.max}
        name = "integer" if isinstance(type_, click.IntRange) else "number"
        return {"type": name, **{k: v for k, v in bounds.items() if v is not None}}
    if isinstance(type_, click.Choice):
        one: dict[str, Any] = {"type": "string", "enum": list(type_.choices)}
    elif isinstance(type_, click.Path):
        one = dict(PLACE)
    elif option.name == "dialect":
        pairs = [f"{kind.name}={dialect}" for kind in kinds.values() for dialect in kind.dialects]
        one = {"type": "string", "enum": pairs}
    elif option.name in ("kind", "accept"):
        one = {"type": "string", "enum": list(kinds)}
    else:
        one = {**TEXT, **FORMS.get(type(type_), {})}
    return {"type": "array", "maxItems": 1000, "items": one} if option.multiple else one


def option_of(option: click.Option, words: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of a setting: its values, what it is for, its default, its variables."""
    name = setting_of(option)
    entry = {"description": option.help, **value_of(option)}
    if option.is_flag:
        entry["default"] = False
    elif isinstance(option.default, int | float):
        shown = option.show_default
        entry["default"] = shown if isinstance(shown, str) else option.default
    elif isinstance(option.default, str) and option.default:
        entry["default"] = option.default
    if name in NEVER_A_VARIABLE:
        return {**entry, "x-environment": []}
    own = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or ())
    long = "_".join(("airgap", *words, name)).upper()
    return {**entry, "x-environment": [long, *(n for n in own if n != long)]}


def table_of(command: click.Command, words: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the schema of a command's table, or None where it has no settings."""
    found: dict[str, Any] = {}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            table = table_of(inner, (*words, name))
            if table is not None:
                found[name] = table
    elif any(parameter.name == "home_path" for parameter in command.params):
        for option in command.params:
            if isinstance(option, click.Option) and setting_of(option) not in EACH_TIME:
                found[setting_of(option)] = option_of(option, words)
    said = f"Defaults of airgap {' '.join(words)}."
    if not found or set(found) == {"quiet"}:
        return None
    return {
        "description": said,
        "type": "object",
        "additionalProperties": False,
        "properties": found,
    }


def make() -> dict[str, Any]:
    """Return the schema."""
    context = click.Context(cli)
    tables = {}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        table = table_of(command, (name,))
        # Before there is a home, and where the file may be what is broken, nothing is taken from it.
        if table is not None and name not in ("init", "doctor"):
            tables[name] = table
    where = (
        "The ledger, where it is not the home's own file: another file, which homes may share, or "
        "postgresql://USER@HOST/DATABASE, which workstations share."
    )
    examples = ["/srv/airgap/ledger.sqlite", "postgresql://relay@db/airgap"]
    path = {**TEXT, "minLength": 1, "examples": examples}
    tables["ledger"]["properties"] = {
        "path": {"description": where, **path},
        **tables["ledger"]["properties"],
    }
    ledger = tables.pop("ledger")
    of_import = tables["import"]["properties"]
    in_profile = {
        name: {k: v for k, v in of_import[name].items() if k not in ("x-environment", "default")}
        for name in PROFILE
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:airgap:schema:airgap-toml:1",
        "title": "airgap.toml",
        "description": "What a home is, and the defaults of commands' options. Made from the commands by tests/settings_schema.py.",
        "type": "object",
        "required": ["side", "name"],
        "additionalProperties": False,
        "properties": {
            "side": {
                "description": "Which side this home is on.",
                "type": "string",
                "enum": ["isolated", "workstation"],
            },
            "name": {
                "description": "The source's name on the isolated host, the importer's on the workstation.",
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "examples": ["bank-a.prod"],
            },
            "contact": {
                "description": "Whom a carrier can ask; named in the note beside each bundle.",
                "type": "string",
                "maxLength": 200,
                "examples": ["night desk, +49 ..."],
            },
            "profile": {
                "description": "The profile that commands use: one that airgap brings along, or one of [profiles].",
                "type": "string",
                "minLength": 1,
                "maxLength": 63,
                "examples": ["eu"],
            },
            "profiles": {
                "description": "Profiles of this home, by name.",
                "type": "object",
                "propertyNames": {
                    "pattern": NAME,
                    "description": "a short name of a-z, 0-9, dots and hyphens",
                },
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": in_profile,
                },
            },
            "ledger": {
                "description": f"{where} Beside tables of the ledger's commands it is written ledger.path.",
                "anyOf": [path, {**ledger, "description": "The ledger, and its commands."}],
            },
            **tables,
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
