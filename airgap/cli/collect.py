"""``airgap collect``."""

import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import BinaryIO, cast

import click

from airgap import catalog, credentials, timestamps
from airgap.cli.common import (
    Output,
    airgap_command,
    credential_options,
    on_side,
    read_credentials,
)
from airgap.cli.recording import record
from airgap.collect import jsonfiles
from airgap.collect.payloads import Rules
from airgap.findings import Finding, as_json, of_timeline
from airgap.home import Home
from airgap.outbox import Outbox
from airgap.records import Record, Totals
from airgap.text import plural, printable, waits


@airgap_command("collect", audited=True)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--kind", help="Every request in the sources is of this kind.")
@click.option(
    "--allow", multiple=True, metavar="NAME", help="Let an unknown name leave: kind/map/name."
)
@click.option("--growing", is_flag=True, help="Leave a last line without its end for next time.")
@credential_options
def command(
    out: Output,
    home_path: Path,
    sources: tuple[str, ...],
    kind: str | None,
    allow: tuple[str, ...],
    license_file: tuple[Path, ...],
    api_key_file: tuple[Path, ...],
    *,
    growing: bool,
) -> None:
    """Take usage records from JSON files into the outbox; - is standard input.

    A source is JSON lines or a JSON document of the request bodies that LangChain documents.
    Credentials are taken out; their fingerprints stay. Collecting a file again, also one that
    has grown, adds nothing twice. A file is taken over whole or not at all.

    --license-file and --api-key-file say whose usage it is where a request carries no
    credential; only the fingerprint is kept.

    \b
    Example:
      airgap collect /var/log/langgraph/usage.jsonl
    """
    home = on_side(home_path, "isolated")
    schemas = catalog.load()
    defaults = {
        name: credentials.fingerprint(name, secret)
        for name, secret in read_credentials(license_file, api_key_file)
    }
    rules = Rules(schemas.kind(kind).name if kind else None, defaults, frozenset(allow))
    outbox = Outbox(home.outbox_path, home.name, schemas)
    fingerprints: set[str] = set()
    read_all, new_all = Totals(), Totals()
    findings: list[Finding] = []
    try:
        for source in sources:
            records = _records(source, home, schemas, rules, growing=growing)
            found = outbox.collect(_note(records, fingerprints), timestamps.system_clock())
            read_all.merge(found.read)
            new_all.merge(found.new)
            odd = of_timeline(found.timeline, timestamps.system_clock(), "this clock")
            findings.extend(odd)
            record(
                "collected",
                source=printable(source, 300),
                read=found.read.as_map(),
                new=found.new.as_map(),
                findings=[f.code for f in odd],
            )
            known = found.read.records - found.new.records
            out.say(
                f"{'standard input' if source == '-' else printable(source, 300)}: "
                f"{plural(found.read.records, 'record')} read, {found.new.records:,} new, "
                f"{known:,} known already"
            )
            out.findings(odd)
        waiting = outbox.waiting()
    finally:
        outbox.close()
    out.result(
        {
            "read": read_all.as_map(),
            "new": new_all.as_map(),
            "waiting": waiting.as_map(),
            "credentials": sorted(fingerprints),
            "outbox": str(home.outbox_path),
            "findings": as_json(findings),
        }
    )
    out.totals(new_all)
    for fingerprint in sorted(fingerprints):
        out.say(f"Credential taken out or named: {fingerprint}")
    out.say(
        f"Wrote {home.outbox_path}: {waits(waiting.records)} for a bundle. "
        "Next: airgap export --to FOLDER"
    )


def _records(
    source: str, home: Home, schemas: catalog.Catalog, rules: Rules, *, growing: bool
) -> Iterator[Record]:
    if source == "-":
        stream = _standard_input(home.folder("quarantine"))
        return _closing(stream, schemas, rules, growing=growing)
    return jsonfiles.read(Path(source), schemas, rules, growing=growing)


def _standard_input(folder: Path) -> BinaryIO:
    """Return standard input once it has ended, so that the outbox is not locked until then."""
    copy = cast("BinaryIO", TemporaryFile(dir=folder))  # noqa: SIM115 - closed by its reader
    copyfileobj(sys.stdin.buffer, copy)
    copy.seek(0)
    return copy


def _closing(
    stream: BinaryIO, schemas: catalog.Catalog, rules: Rules, *, growing: bool
) -> Iterator[Record]:
    with stream:
        yield from jsonfiles.read_stream(stream, "standard input", schemas, rules, growing=growing)


def _note(records: Iterator[Record], fingerprints: set[str]) -> Iterator[Record]:
    for one in records:
        fingerprints.add(one.credential)
        yield one
