"""The audit log as commands use it: a line when one begins, with its options, and one when it ends."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from airgap import catalog, credentials, pgurl, timestamps
from airgap.audit import AuditLog, how_it_ended, run

_URL = re.compile(r"^\s*[a-zA-Z][a-zA-Z0-9+.-]*://")
_NOT_KEPT = ("message", "home_path", "code", "other")


@contextmanager
def recorded(ctx: click.Context, home_path: Path, message: str | None) -> Iterator[None]:
    """Write to the home's audit log that a command begins, and how it ends.

    Where there is no home yet (``init``), both are written at the end, if there is one then.
    """
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


def _ended_by(failure: BaseException) -> dict[str, Any]:
    if isinstance(failure, click.exceptions.Exit):
        return {"exit": failure.exit_code}
    if isinstance(failure, click.Abort):
        return {"exit": 130}
    return how_it_ended(failure)


def _warn(text: str) -> None:
    click.echo(f"airgap: warning: {text}", err=True)
