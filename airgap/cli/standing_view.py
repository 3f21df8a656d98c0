"""What import and status show alike: records per source and kind, causes with cures, calendars."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import click

from airgap.calendars import MARKS, Calendar, Mark
from airgap.causes import Group
from airgap.cli.common import Output
from airgap.text import plural, printable, wrapped

COLUMNS = ("delivered", "waiting", "sending", "in_doubt", "dead")
Tally = Mapping[tuple[str, str], Mapping[str, int]]
Line = Sequence[tuple[str, str]]
"""Parts of a line: text, and the style it has on a terminal that shows colours."""

_STATES = {
    "dead": ("dead letter", "dead letters"),
    "in_doubt": ("record in doubt", "records in doubt"),
    "sending": ("record in doubt", "records in doubt"),
    "waiting": ("record waiting", "records waiting"),
}
_STYLES = {
    "dead": "bold red",
    "in_doubt": "bold yellow",
    "sending": "bold yellow",
    "gap": "bold red",
    "waiting": "cyan",
    "on_its_way": "cyan",
    "delivered": "green",
}
_WIDEST = 100
_COUNTED = 36
_RULER = "1   5    10   15   20   25   30"


def tally_as_json(tally: Tally) -> list[dict[str, Any]]:
    """Return records per source and kind as ``--json`` prints them."""
    return [
        {"source": source, "kind": kind, **{c: states.get(c, 0) for c in COLUMNS}}
        for (source, kind), states in tally.items()
    ]


def show_tally(out: Output, tally: Tally, columns: Sequence[str] = COLUMNS) -> None:
    """Show records per source and kind; columns of nothing but zeros are left out, but the first."""
    used = [c for c in columns if c == columns[0] or any(s.get(c) for s in tally.values())]
    out.table(
        ("source", "kind", *(f"{c.replace('_', ' ')}#" for c in used)),
        [
            (source, kind, *(f"{states.get(c, 0):,}" for c in used))
            for (source, kind), states in tally.items()
        ],
    )


def show_groups(out: Output, groups: Sequence[Group], *, where: str = "") -> None:
    """Show what is not delivered by cause, each with its cure.

    Args:
        out: where to.
        groups: the causes.
        where: where the cure is to be had, if not here.
    """
    for group in groups:
        one, many = _STATES[group.state]
        style = _STYLES.get(group.state, "")
        head = f"{plural(group.records, one, many)}: {group.cause.title}"
        _print(out, [[(line, style)] for line in _wrapped(out, head, "", "  ")])
        answered = f", answered {group.status}" if group.status is not None else ""
        facts = [("of", f"{group.source}, {group.kind}, to {group.endpoint}{answered}")]
        if group.said:
            facts.append(("it said", group.said))
        elif group.reason and not group.status:
            facts.append(("reason", group.reason))
        if not group.alike:
            facts.append(("words", "these, and others: airgap ledger list shows each"))
        if group.sums:
            facts.append(("sums", ", ".join(f"{n} {v:,}" for n, v in sorted(group.sums.items()))))
        more = group.records - len(group.ids)
        ids = " ".join(identifier[:16] for identifier in group.ids)
        facts.append(("ids", ids + (f" and {more:,} more" if more else "")))
        facts.append(("cure", f"{where}{group.cause.cure}"))
        for label, text in facts:
            lines = _wrapped(out, printable(text, 2000), f"  {label + ':':<9}", " " * 11)
            _print(out, [[(line, "")] for line in lines])
        out.say()


def groups_as_json(groups: Iterable[Group]) -> list[dict[str, object]]:
    """Return causes as ``--json`` prints them."""
    return [group.as_json() for group in groups]


def show_calendars(out: Output, calendars: Sequence[Calendar]) -> None:
    """Show calendars, a line for each month and a mark for each day, and what the marks mean."""
    if out.quiet or not calendars:
        return
    plain = not _shows_blocks(_stream(out))
    for calendar in calendars:
        out.say(f"Days of {calendar.source}, {calendar.kind}, in UTC:")
        out.say(f"           {_RULER}")
        for month in calendar.months:
            line: list[tuple[str, str]] = [(f"  {month.name}  ", "")]
            line += [(_sign(mark, plain=plain), _STYLES.get(mark.code, "")) for mark in month.days]
            line.append((" " * (33 - len(month.days)) + _counted(month.days), ""))
            _print(out, [line])
        out.say()
    seen = {mark for calendar in calendars for mark in calendar.marks()}
    legend = "; ".join(f"{_sign(m, plain=plain)} {m.words}" for m in MARKS if m in seen)
    for text in _wrapped(out, f"Each day shows the first of these that fits: {legend}.", "", "  "):
        out.say(text)
    out.say()


def _counted(days: Sequence[Mark]) -> str:
    """Return in words how many days have which mark, those of no report aside, in 36 columns."""
    counts = [(sum(1 for day in days if day is m), m.code.replace("_", " ")) for m in MARKS[:-1]]
    said, shown = [f"{count} {name}" for count, name in counts if count], ""
    for index, text in enumerate(said):
        longer = f"{shown}, {text}" if shown else text
        if len(longer) + (4 if index + 1 < len(said) else 0) > _COUNTED:
            return f"{shown} ..."
        shown = longer
    return shown


def _sign(mark: Mark, *, plain: bool) -> str:
    return mark.plain if plain else mark.sign


def _stream(out: Output) -> TextIO:
    return sys.stderr if out.as_json else sys.stdout


def _shows_blocks(stream: TextIO) -> bool:
    """Tell whether a stream's encoding has the signs of every mark."""
    try:
        "".join(mark.sign for mark in MARKS).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _wrapped(out: Output, text: str, first: str, further: str) -> list[str]:
    """Return a text in lines that fit the terminal, or a page that is not too wide."""
    wide = shutil.get_terminal_size().columns if _stream(out).isatty() else _WIDEST
    return wrapped(text, max(40, min(wide, _WIDEST)), first, further)


def _print(out: Output, lines: Iterable[Line]) -> None:
    """Print lines; with their styles on a terminal that shows colours."""
    stream = _stream(out)
    if out.quiet:
        return
    if not stream.isatty():
        for line in lines:
            click.echo("".join(text for text, _ in line).rstrip(), file=stream)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)
