"""``airgap collect``."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click

from airgap import captured, catalog, timestamps
from airgap.audit import record
from airgap.cli.common import (
    Output,
    airgap_command,
    credential_options,
    on_side,
)
from airgap.cli.leaving import leaving_options, pseudonyms_of, rules_of
from airgap.cli.marks import mark_exported, password_prompt
from airgap.cli.sources import say_skipped, source_options
from airgap.collect import pgurl
from airgap.collect.pseudonyms import Pseudonyms
from airgap.collect.sources import Reader, Source, reading_of, tables_of
from airgap.collection import Collected, collect
from airgap.errors import UsageError
from airgap.findings import Finding, as_json, of_timeline
from airgap.outbox import Outbox
from airgap.records import Totals
from airgap.sightings import Sighting
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
    only = schemas.kind(kind).name if kind else None
    rules = rules_of(allow, license_file, api_key_file, only)
    changed = pseudonyms_of(pseudonymise, home, schemas)
    langsmith = tables_of(schemas, table, column)
    outbox = Outbox(home.outbox_path, home.name, schemas)
    reader = Reader(
        home,
        outbox,
        schemas,
        rules,
        growing,
        reading_of(table, encoding, date_order, time_zone, null),
        langsmith,
        frozenset(table),
        take_exported,
        password_prompt(),
    )
    read_all, new_all, fingerprints = Totals(), Totals(), set[str]()
    findings: list[Finding] = []
    try:
        for name in sources:
            source = reader.open(name)
            with closing(source):
                found = collect(
                    outbox, _note(source, changed, fingerprints), timestamps.system_clock()
                )
            read_all.merge(found.read)
            new_all.merge(found.new)
            findings += _say_source(out, source, found)
            if mark:
                mark_exported(out, outbox, name, source.tables, reader.ask)
        waiting = outbox.waiting()
        waiting.merge(captured.waiting_totals(outbox))
    finally:
        outbox.close()
    _finish(out, outbox.database.path, (read_all, new_all, waiting), fingerprints, findings)


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


def _say_source(out: Output, source: Source, found: Collected) -> list[Finding]:
    """Say and record what one source gave; return what is odd about it."""
    odd = of_timeline(found.timeline, timestamps.system_clock(), "this clock")
    record(
        "collected",
        source=source.name,
        read=found.read.as_map(),
        new=found.new.as_map(),
        findings=[f.code for f in odd],
    )
    known = found.read.records - found.new.records
    out.say(
        f"{source.name}: {plural(found.read.records, 'record')} read, "
        f"{found.new.records:,} new, {known:,} known already"
    )
    say_skipped(out, source)
    out.findings(odd)
    return odd


def _note(source: Source, changed: Pseudonyms | None, fingerprints: set[str]) -> Iterator[Sighting]:
    for one in source.sightings:
        fingerprints.add(one.record.credential)
        yield one if changed is None else changed.applied(one)
