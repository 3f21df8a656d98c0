"""How ``airgap collect`` is told to read tables, and what it says was left of a source."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from airgap.cli.common import Output
from airgap.collect.sources import Source
from airgap.text import plural

_F = TypeVar("_F", bound=Callable[..., Any])
_NAME = re.compile(r"[a-z][a-z0-9]{0,20}(_[a-z0-9]{1,20}){0,8}")


def source_options(function: _F) -> _F:
    """Add the options that say how CSV files and databases are read."""
    for option in reversed(
        (
            click.option("--table", multiple=True, metavar="NAME", help="Read this table."),
            click.option(
                "--column",
                multiple=True,
                metavar="FIELD=COLUMN",
                help="The column that holds a field, where its name is not the published one.",
            ),
            click.option("--encoding", help="A CSV file's encoding, for instance windows-1252."),
            click.option(
                "--date-order",
                type=click.Choice(("dmy", "mdy")),
                help="What 05/06/2026 means: day or month first.",
            ),
            click.option(
                "--time-zone",
                metavar="NAME",
                help="The zone of times without an offset, for instance Europe/Berlin.",
            ),
            click.option("--null", metavar="TEXT", help="What a CSV file has for no value."),
            click.option(
                "--take-exported",
                is_flag=True,
                help="Take rows of an export by other means that nobody confirmed.",
            ),
        )
    ):
        function = option(function)
    return function


def say_skipped(out: Output, source: Source) -> None:
    """Say what was not taken of a source."""
    skipped = source.skipped
    for state, count in sorted(skipped.reported.items()):
        out.say(f"{source.name}: {plural(count, 'row')} left: reported already (state {state})")
    if skipped.elsewhere:
        out.say(f"{source.name}: {plural(skipped.elsewhere, 'row')} left: not of this installation")
    if skipped.columns:
        names = ", ".join(
            name if _NAME.fullmatch(name) else "?" for name in sorted(skipped.columns)
        )
        out.say(f"{source.name}: columns that nobody knows stay here: {names}")
    for state, count in sorted(skipped.unknown.items()):
        out.warn(
            f"{plural(count, 'row')} of {source.name} left: nobody here knows whether their state "
            f"({state}) is a reported one; ask LangChain, or look for a newer airgap"
        )
    for text in source.noted:
        out.warn(text)
    if skipped.held:
        out.warn(
            f"{plural(skipped.held, 'row')} of {source.name} left: part of an export by other means "
            "(backfill_id) that nobody confirmed, or of one that this host made before it was restored; "
            "if its file never reached LangChain, or this host made it: --take-exported"
        )
