"""What a site lets leave: allowed names, pseudonyms, and whose usage it is where nothing says so."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from airgap import credentials
from airgap.cli.common import read_credentials
from airgap.collect.payloads import Rules

_F = TypeVar("_F", bound=Callable[..., Any])


def leaving_options(function: _F) -> _F:
    """Add ``--allow`` and ``--pseudonymise``: what may leave, and what only under another name."""
    function = click.option(
        "--pseudonymise",
        multiple=True,
        metavar="NAMES",
        help="Let a keyed pseudonym leave in the place of these fields, for instance tenant_id.",
    )(function)
    return click.option(
        "--allow", multiple=True, metavar="NAME", help="Let an unknown name leave: kind/map/name."
    )(function)


def rules_of(
    allow: Sequence[str],
    license_files: Sequence[Path],
    api_key_files: Sequence[Path],
    kind: str | None = None,
) -> Rules:
    """Return the site's decisions about what is collected, by the operator's options."""
    defaults = {
        name: credentials.fingerprint(name, secret)
        for name, secret in read_credentials(license_files, api_key_files)
    }
    return Rules(kind, defaults, frozenset(allow))
