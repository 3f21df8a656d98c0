"""``airgap collect``."""

from pathlib import Path

import click

from airgap import catalog, pgurl, timestamps
from airgap.cli.asking import password_prompt
from airgap.cli.common import (
    Output,
    airgap_command,
    credential_options,
    on_side,
    read_credentials,
)
from airgap.cli.leaving import leaving_options
from airgap.cli.marks import mark_exported
from airgap.cli.sources import say_skipped, source_options
from airgap.collect.sources import reading_of
from airgap.collecting import Collecting, Order, Read
from airgap.errors import UsageError
from airgap.findings import Finding, as_json
from airgap.records import Totals
from airgap.text import plural, waits


@airgap_command("collect", audited=True)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--kind", help="Every request in the sources is of this kind.")
@leaving_options
@click.option("--growing", is_flag=True, help="Leave a last line without its end for next time.")
@source_options
@click.option(
    "--mark",
    is_flag=True,
    help="Write into LangSmith's database which export its rows are part of (backfill_id).",
)
@credential_options
def command(
    out: Output,
    home_path: Path,
    sources: tuple[str, ...],
    kind: str | None,
    allow: tuple[str, ...],
    pseudonymise: tuple[str, ...],
    license_file: tuple[Path, ...],
    api_key_file: tuple[Path, ...],
    table: tuple[str, ...],
    column: tuple[str, ...],
    encoding: str | None,
    date_order: str | None,
    time_zone: str | None,
    null: str | None,
    *,
    growing: bool,
    take_exported: bool,
    mark: bool,
) -> None:
    """Take usage records into the outbox.

    A source is JSON lines or a JSON document of the request bodies that LangChain documents, a CSV
    file that LangSmith's support queries wrote, the URL of LangSmith's PostgreSQL database, or -
    for standard input. Credentials are taken out; their fingerprints stay. Collecting a source
    again, also one that has grown, adds nothing twice. A source is taken over whole or not at all.

    --license-file and --api-key-file say whose usage it is where a source carries no credential,
    as tables never do; only the fingerprint is kept.

    A database is only read, unless --mark is given. Its password comes from PGPASSWORD, ~/.pgpass,
    a service file, or is asked for.

    \b
    Example:
      airgap collect /var/log/langgraph/usage.jsonl
      airgap collect postgresql://reader@db/langsmith --license-file /etc/airgap/license.key
    """
    home = on_side(home_path, "isolated")
    schemas = catalog.load()
    if mark and not all(map(pgurl.is_url, sources)):
        raise UsageError("--mark goes with databases only", hint="collect files without it")
    order = Order(
        kind,
        allow,
        read_credentials(license_file, api_key_file),
        pseudonymise,
        growing,
        reading_of(table, encoding, date_order, time_zone, null),
        table,
        column,
        take_exported,
        password_prompt(),
    )
    read_all, new_all = Totals(), Totals()
    findings: list[Finding] = []
    with Collecting(home, schemas, order, timestamps.system_clock) as collecting:
        for name in sources:
            read = collecting.take(name)
            read_all.merge(read.found.read)
            new_all.merge(read.found.new)
            findings += read.odd
            _say_source(out, read)
            if mark:
                mark_exported(out, collecting.outbox, name, read.source.tables, order.ask)
        totals = (read_all, new_all, collecting.waiting())
    _finish(out, home.outbox_path, totals, collecting.credentials, findings)


def _finish(
    out: Output,
    path: Path,
    totals: tuple[Totals, Totals, Totals],
    fingerprints: set[str],
    findings: list[Finding],
) -> None:
    """Say what was read, what of it is new, and what waits now."""
    read_all, new_all, waiting = totals
    out.result(
        {
            "read": read_all.as_map(),
            "new": new_all.as_map(),
            "waiting": waiting.as_map(),
            "credentials": sorted(fingerprints),
            "outbox": str(path),
            "findings": as_json(findings),
        }
    )
    out.totals(new_all)
    for fingerprint in sorted(fingerprints):
        out.say(f"Credential taken out or named: {fingerprint}")
    out.say(f"Wrote {path}: {waits(waiting.records)} for a bundle. Next: airgap export --to FOLDER")


def _say_source(out: Output, read: Read) -> None:
    """Say what one source gave, and what is odd about it."""
    source, found = read.source, read.found
    known = found.read.records - found.new.records
    out.say(
        f"{source.name}: {plural(found.read.records, 'record')} read, "
        f"{found.new.records:,} new, {known:,} known already"
    )
    say_skipped(out, source)
    out.findings(read.odd)
