"""``airgap report``: what was delivered when."""

import io
import os
import re
import sys
from calendar import monthrange
from collections.abc import Callable
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import click

from airgap import catalog
from airgap.causes import STATES, grouped
from airgap.cli import ledgers
from airgap.cli.common import Output, airgap_command, gap_option, ledger_option
from airgap.errors import UsageError
from airgap.files import write_atomically, written_whole
from airgap.home import Home
from airgap.replay import chain, report, report_csv, report_page, tallies
from airgap.replay.ledger import Ledger
from airgap.replay.report import OUTCOMES, Asked, BundleLine, Summary
from airgap.text import plural, printable

Length = Literal["day", "month", "total"]
_FEW_DAYS = 14
_MOST_BUNDLES = 20


class _Day(click.ParamType[date]):
    """A day, or a month for its first or last day: ``2026-01-31``, ``2026-01``."""

    name = "day"

    def __init__(self, *, last: bool) -> None:
        self.last = last

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> date:
        """See click.ParamType."""
        if isinstance(value, date):
            return value
        match = re.fullmatch(r"(\d{4})-(\d{2})(?:-(\d{2}))?", str(value).strip(), re.ASCII)
        try:
            if match is None:
                raise ValueError
            year, month = int(match[1]), int(match[2])
            day = int(match[3]) if match[3] else monthrange(year, month)[1] if self.last else 1
            return date(year, month, day)
        except ValueError:
            self.fail("give a day or a month, for instance 2026-01-31 or 2026-01", param, ctx)


@airgap_command("report")
@click.option("--from", "first", type=_Day(last=False), help="First day, UTC, or first month.")
@click.option("--to", "last", type=_Day(last=True), help="Last day, which is included, or month.")
@click.option("--source", help="Only this source.")
@click.option(
    "--by",
    type=click.Choice(["usage", "delivery"]),
    default="usage",
    show_default=True,
    help="A record's day: when its usage began, or when it was delivered.",
)
@click.option(
    "--per",
    type=click.Choice(["day", "month", "total"]),
    help="Rows of the table; default: days where they are few, else months.",
)
@click.option("--csv", "csv_to", metavar="FILE", help="Every record and measure; - for stdout.")
@click.option("--csv-days", metavar="FILE", help="The same per day; - for stdout.")
@click.option("--html", metavar="FILE", help="One page with charts, for the screen and for paper.")
@gap_option
@click.option("--force", is_flag=True, help="Replace files that are there.")
@ledger_option
def command(
    out: Output,
    home_path: Path,
    ledger: str | None,
    first: date | None,
    last: date | None,
    source: str | None,
    by: str,
    per: str | None,
    csv_to: str | None,
    csv_days: str | None,
    html: str | None,
    gap_over: timedelta,
    *,
    force: bool,
) -> None:
    """Say what was delivered when: per source, kind, measure and day, per bundle and receipt.

    All of it is from this workstation's ledger, which keeps every record. A record counts as a
    whole on the day on which its usage began, or with --by delivery on the day on which it was
    delivered; kinds that tell no time of use are in no period. schemas/README.md describes the
    columns of the CSV files.

    \b
    Example:
      airgap report --from 2026-01 --to 2026-01 --csv january.csv --html january.html
      airgap report --source bank-a.prod --per month
    """
    home = ledgers.workstation(home_path, ledger, out.warn)
    asked = Asked(first, last, "delivery" if by == "delivery" else "usage", source)
    _check(asked, csv_to, csv_days, html, as_json=out.as_json)
    files = [Path(name).absolute() for name in (csv_to, csv_days, html) if name and name != "-"]
    for path in files:
        _require_new(path, force=force)
    schemas = catalog.load()
    with ledgers.looked_at(home) as opened, opened.database.snapshot():
        made, known = report.summary(opened, asked)
        if source is not None and not known:
            raise _no_such_source(home, opened, source)
        if csv_to is not None:
            _write(
                csv_to,
                lambda to: report_csv.write_records(
                    to, report.lines(opened, report.relevant(opened, known, asked)), asked
                ),
            )
        if csv_days is not None:
            _write(csv_days, lambda to: report_csv.write_days(to, made))
        if html is not None:
            page = _page(opened, made, known, asked, home.name, gap_over)
            write_atomically(Path(html), page)
    written = [str(path) for path in files]
    out.result({**report.as_json(made, known, asked, schemas), "written": written})
    _say(out, home, made, known, asked, cast(Length | None, per), written, csv_to, csv_days)


def _page(
    ledger: Ledger,
    made: Summary,
    known: list[BundleLine],
    asked: Asked,
    name: str,
    gap_over: timedelta,
) -> bytes:
    """Return the page, with what is not delivered and the gaps of the sources in it."""
    tolerance = gap_over // timedelta(microseconds=1)
    sources = sorted({bundle.source for bundle in known})
    gaps = {
        (source, kind.kind): kind.gaps
        for source in sources
        for kind in chain.standing(ledger, source, tolerance).kinds
    }
    left = (
        record
        for record in tallies.undelivered(ledger, (*STATES, "sending"), scoped=False)
        if record.source in sources
    )
    groups = grouped(left, ledger.catalog)
    return report_page.page(made, known, groups, gaps, asked, name, ledger.clock())


def _check(
    asked: Asked, csv_to: str | None, csv_days: str | None, html: str | None, *, as_json: bool
) -> None:
    if asked.first is not None and asked.last is not None and asked.last < asked.first:
        raise UsageError(
            "the report ends before it starts",
            expected=f"--to {asked.first} or later",
            found=str(asked.last),
        )
    named = [name for name in (csv_to, csv_days, html) if name is not None]
    if html == "-":
        raise UsageError("a page goes to a file", expected="--html FILE", found="-")
    if len(set(named)) < len(named) or (as_json and "-" in named):
        raise UsageError(
            "two outputs can't go to one place",
            expected="another name for each, and only one of --json and -",
        )


def _no_such_source(home: Home, ledger: Ledger, source: str) -> UsageError:
    names = sorted({bundle.source for bundle in ledger.bundles()})
    return UsageError(
        "nothing was imported of this source",
        where=home.ledger_name,
        expected=", ".join(names) or "an import first",
        found=printable(source),
        hint="choose one of these, or leave --source out",
    )


def _require_new(path: Path, *, force: bool) -> None:
    if (path.exists() or path.is_symlink()) and not (force and path.is_file()):
        raise UsageError(
            "there is a file of this name already",
            where=str(path),
            hint="choose another name, or --force to replace it",
        )


def _write(name: str, write: Callable[[TextIO], Any]) -> None:
    """Write a file as a whole, for its owner alone; or stdout as it goes."""
    if name == "-":
        text = io.TextIOWrapper(sys.stdout.buffer, "utf-8", newline="", write_through=True)
        write(text)
        text.detach()
        return
    with written_whole(Path(name)) as file:
        os.fchmod(file.fileno(), 0o600)
        text = io.TextIOWrapper(file, "utf-8", newline="")
        write(text)
        text.flush()
        text.detach()


def _say(
    out: Output,
    home: Home,
    made: Summary,
    known: list[BundleLine],
    asked: Asked,
    per: Length | None,
    written: list[str],
    *csv_to: str | None,
) -> None:
    if "-" in csv_to:
        return
    span = f", {asked.first or 'the beginning'} .. {asked.last or 'now'}" if asked.bounded else ""
    whose = f" of {asked.source}" if asked.source else ""
    day = "their use" if asked.by == "usage" else "their delivery"
    out.say(f"Delivered by {home.name}{whose}{span}, by the day of {day} (UTC)")
    length: Length = per or ("day" if len(made.days()) <= _FEW_DAYS else "month")
    rows = made.per(length)
    left = [o for o in OUTCOMES[1:] if any(row.values.get(o) for row in rows)]
    heads = ("delivered#", *(f"{o.replace('_', ' ')}#" for o in left))
    for (source, kind), found in groupby(rows, key=lambda row: (row.source, row.kind)):
        out.say(f"{source}, {kind}")
        out.table(
            ("period", "counted", *heads),
            [
                (
                    row.period or ("all" if length == "total" else "none"),
                    row.measure or "records",
                    *(f"{row.values.get(o, 0):,}" for o in ("delivered", *left)),
                )
                for row in found
            ],
        )
    for (source, kind), count in sorted(made.aside.items()):
        why = "without a time of use" if asked.by == "usage" else "not delivered"
        out.say(f"In no period: {plural(count, 'record')} of {source}, {kind}, {why}")
    _say_bundles(out, known)
    for name in written:
        out.say(f"Wrote {name}")
    undelivered = sum(made.totals(o).records for o in OUTCOMES[1:])
    if undelivered:
        out.say(f"{plural(undelivered, 'record')} not delivered. Next: airgap status says why")
    elif not known:
        out.say("Nothing was imported yet. Next: airgap import PATH")
    elif not written:
        out.say(
            "All of it is delivered. Next: airgap report --csv FILE, to hold against the invoice"
        )
    else:
        out.say("All of it is delivered.")


def _say_bundles(out: Output, known: list[BundleLine]) -> None:
    shown = sorted(known, key=lambda bundle: bundle.imported_at)[-_MOST_BUNDLES:]
    if len(known) > len(shown):
        out.say(f"The newest {len(shown)} of {plural(len(known), 'bundle')}; --json has all:")
    out.table(
        ("source", "bundle#", "imported", "records#", "delivered#", "newest receipt"),
        [
            (
                bundle.source,
                str(bundle.sequence),
                bundle.imported_at[:10],
                f"{bundle.records:,}",
                f"{bundle.states.get('delivered', 0):,}",
                _receipt(bundle),
            )
            for bundle in sorted(shown, key=lambda b: (b.source, b.sequence))
        ],
    )


def _receipt(bundle: BundleLine) -> str:
    """Return a bundle's newest receipt by number and day; --json has the file's name."""
    if bundle.receipt is None or bundle.receipt_at is None:
        return "none"
    number = bundle.receipt.rpartition("-")[2].removesuffix(".receipt")
    return f"{number}, {bundle.receipt_at[:10]}"
