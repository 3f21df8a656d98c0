"""The audit log as commands use it: a line when one begins, with its options, and one when it ends."""

import os
import pwd
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from airgap import catalog, credentials, pgurl, timestamps
from airgap.audit import AuditLog, how_it_ended, run
from airgap.text import printable

_URL = re.compile(r"^\s*[a-zA-Z][a-zA-Z0-9+.-]*://")
_NOT_KEPT = ("message", "home_path", "code", "other")


@contextmanager
def recorded(ctx: click.Context, home_path: Path, message: str | None) -> Iterator[None]:
    """Write to the home's audit log that a command begins, and how it ends.

    Where there is no home yet (``init``), both are written at the end, if there is one then.
    """
    _warn_of_owner(home_path)
    schemas = catalog.load()
    log = AuditLog(
        home_path / "audit.jsonl",
        secrets.token_hex(8),
        ctx.command_path.partition(" ")[2],
        timestamps.system_clock,
        lambda text: credentials.redact(text, schemas),
    )
    given = {
        name: plain(value, file=name.endswith("_file"))
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
        and name not in _NOT_KEPT
    }
    begin = {"options": given, **({"message": message} if message else {})}
    with run(log, begin, _warn, _ended_by):
        yield


def plain(value: object, *, file: bool) -> object:
    """Return an option's value as JSON keeps it; no more of a URL than where it leads."""
    if isinstance(value, list | tuple):
        return [plain(item, file=file) for item in value]
    if isinstance(value, datetime):
        return timestamps.to_text(value)
    if isinstance(value, bool | int | float):
        return value
    text = str(value)
    if file and not Path(text).is_file():
        return "(no file)"  # perhaps the key itself, typed instead of its file's name
    if _URL.match(text):
        return pgurl.host(text)
    return pgurl.masked(text)


def _warn_of_owner(home: Path) -> None:
    """Say that a home is somebody else's, who can't use what is written in it now.

    Root's homes are left out: root can use everything, and folders that a container mounts are root's.
    """
    try:
        owner = home.stat().st_uid
    except OSError:
        return
    if owner in (0, os.geteuid()):
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = str(owner)
    _warn(
        f"this home is {printable(name)}'s; what you write in it is yours, and {printable(name)} can't "
        f"use it: runuser -u {shlex.quote(printable(name))} -- airgap ... --home "
        f"{shlex.quote(printable(str(home), 300))}"
    )


def _ended_by(failure: BaseException) -> dict[str, Any]:
    if isinstance(failure, click.exceptions.Exit):
        return {"exit": failure.exit_code}
    if isinstance(failure, click.Abort):
        return {"exit": 130}
    return how_it_ended(failure)


def _warn(text: str) -> None:
    click.echo(f"airgap: warning: {text}", err=True)
