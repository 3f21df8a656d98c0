"""What is in effect, and where it comes from: environment, ``airgap.toml``, a profile, or the default.

Flags come before all of these; they are given when a command is run, and are not looked at here.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast

from airgap import configuration
from airgap.catalog import Catalog, JsonObject
from airgap.configuration import Path, inner, nearest, options_of
from airgap.errors import UsageError
from airgap.text import printable

SCHEMA = "airgap-toml"
PROFILE_VARIABLE = "AIRGAP_PROFILE"

VARIABLES: Mapping[str, str] = {
    "AIRGAP_HOME": "folder of this side's home",
    PROFILE_VARIABLE: "the profile to use, before airgap.toml's own choice",
    "AIRGAP_LEDGER": "the workstation's ledger, before airgap.toml's own choice",
    "AIRGAP_PASSPHRASE": "passphrase of the key to sign with",
    "AIRGAP_SEALING_PASSPHRASE": "passphrase of the key that opens sealed bundles",
    "AIRGAP_LICENSE_KEY": "a licence key",
    "AIRGAP_API_KEY": "a LangSmith API key",
}
"""Variables that are no option's."""

SECRET = frozenset(
    {"AIRGAP_PASSPHRASE", "AIRGAP_SEALING_PASSPHRASE", "AIRGAP_LICENSE_KEY", "AIRGAP_API_KEY"}
)
"""Those whose value is never shown."""

Origin = Literal["environment", "file", "profile", "default"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting that is in effect.

    Args:
        command: words of the command that it is for; empty for the home's own.
        name: its name in ``airgap.toml``.
        value: its value, as the place it comes from has it; None where nothing is set.
        origin: which sort of place that is.
        source: the variable, the setting's path in the file, or the profile's name.
    """

    command: Path
    name: str
    value: Any
    origin: Origin
    source: str | Path | None = None

    @property
    def path(self) -> str:
        """``import.timeout``."""
        return ".".join((*self.command, self.name))


@dataclass(frozen=True, slots=True)
class Profile:
    """Settings under one name, for every command that has options of these names.

    Args:
        name: the name.
        settings: value by setting.
        own: whether it stands in ``airgap.toml``, and is not one that airgap brings along.
    """

    name: str
    settings: Mapping[str, Any]
    own: bool


def profile_names(settings: Mapping[str, Any], catalog: Catalog) -> list[str]:
    """Return the names of all profiles: those airgap brings along, then the file's own."""
    return [*catalog.profiles, *inner(settings, ("profiles",))]


def find_profile(
    name: str, settings: Mapping[str, Any], catalog: Catalog, *, where: str
) -> Profile:
    """Return a profile by its name.

    Args:
        name: the name.
        settings: the home's configuration file.
        catalog: holds the profiles that airgap brings along.
        where: who names it.

    Raises:
        UsageError: there is none.
    """
    if name in catalog.profiles:
        return Profile(name, catalog.profiles[name]["settings"], own=False)
    own = inner(settings, ("profiles",))
    if name in own:
        return Profile(name, own[name], own=True)
    known = profile_names(settings, catalog)
    near = nearest(name, known)
    raise UsageError(
        "there is no such profile",
        where=where,
        expected=", ".join(known),
        found=printable(name),
        hint=f"did you mean {near}?" if near else "add [profiles.NAME] to airgap.toml",
    )


def chosen_profile(
    words: Sequence[str],
    settings: Mapping[str, Any],
    catalog: Catalog,
    environ: Mapping[str, str],
    flag: str | None = None,
) -> Profile | None:
    """Return the profile that counts for a command.

    Args:
        words: the command; none for those that don't say otherwise.
        settings: the home's configuration file.
        catalog: schemas and profiles.
        environ: the environment.
        flag: ``--profile``, where it is given.

    Raises:
        UsageError: there is no profile of the name that was chosen.
    """
    entry = options_of(catalog.schema(SCHEMA), words).get("profile", {})
    variables = [*entry.get("x-environment", ()), PROFILE_VARIABLE]
    table = inner(settings, words).get("profile") if words else None
    places = (
        (flag, "--profile"),
        *((environ.get(name), name) for name in variables),
        (table, f"{'.'.join(words)}.profile in {configuration.FILE}"),
        (settings.get("profile"), f"profile in {configuration.FILE}"),
    )
    for name, where in places:
        if name:
            return find_profile(cast("str", name), settings, catalog, where=where)
    return None


def in_effect(
    words: Path,
    settings: Mapping[str, Any],
    catalog: Catalog,
    environ: Mapping[str, str],
    profile: Profile | None,
) -> list[Setting]:
    """Return every setting of a command, in the order of its options.

    Args:
        words: the command.
        settings: the home's configuration file.
        catalog: schemas.
        environ: the environment.
        profile: the one that counts for this command.
    """
    table = inner(settings, words)
    found = []
    for name, schema in options_of(catalog.schema(SCHEMA), words).items():
        variable = next((v for v in schema["x-environment"] if environ.get(v)), None)
        if variable is not None:
            value = from_text(name, environ[variable], schema)
            found.append(Setting(words, name, value, "environment", variable))
        elif name in table:
            found.append(Setting(words, name, table[name], "file", (*words, name)))
        elif profile is not None and name in profile.settings:
            found.append(Setting(words, name, profile.settings[name], "profile", profile.name))
        elif name == "profile":
            found.append(Setting(words, name, profile.name if profile else None, "default"))
        else:
            found.append(Setting(words, name, schema.get("default"), "default"))
    return found


def from_text(name: str, text: str, schema: JsonObject) -> Any:
    """Return the value of a variable as its option reads it: lists are parted by blanks, files by colons."""
    type_ = schema["type"]
    if type_ == "array":
        return [part for part in text.split(os.pathsep if name.endswith("_file") else None) if part]
    if type_ == "boolean":
        return text.strip().lower() in ("1", "true", "t", "yes", "y", "on")
    if type_ in ("integer", "number"):
        with suppress(ValueError):
            return int(text) if type_ == "integer" else float(text)
    return text


def mistakes(settings: Mapping[str, Any], catalog: Catalog) -> list[configuration.Mistake]:
    """Return every mistake in a home's configuration file, what no schema can say included."""
    schema: JsonObject = catalog.schema(SCHEMA)
    found = list(configuration.mistakes(settings, schema))
    own = inner(settings, ("profiles",))
    found += [
        configuration.Mistake(
            ("profiles", name), "is a profile that airgap brings along", "another name", "this one"
        )
        for name in own
        if name in catalog.profiles
    ]
    known = profile_names(settings, catalog)
    for words in ((), *configuration.commands_of(schema)):
        name = inner(settings, words).get("profile")
        if isinstance(name, str) and name not in known:
            near = nearest(name, known)
            path = (*words, "profile")
            found.append(
                configuration.Mistake(
                    path, "names no profile", ", ".join(known), printable(name), near
                )
            )
    return found


def strange_variables(environ: Mapping[str, str], catalog: Catalog) -> dict[str, str | None]:
    """Return the variables that look like airgap's and are not, each with what was probably meant."""
    schema = catalog.schema(SCHEMA)
    known = set(VARIABLES)
    for words in configuration.commands_of(schema):
        for entry in options_of(schema, words).values():
            known.update(entry["x-environment"])
    strange = sorted(n for n in environ if n.startswith("AIRGAP_") and n not in known)
    upper = {name.lower(): name for name in known}
    return {name: upper.get(nearest(name, upper) or "") for name in strange}
