"""``airgap inspect``."""

import shlex
from pathlib import Path

import click

from airgap import catalog
from airgap.cli.common import Output, airgap_command, sealing_passphrase_option
from airgap.cli.looking import Document, opened, sealing_lines, signature_lines, with_hint
from airgap.errors import SealedError, TrustError
from airgap.records import Totals
from airgap.text import plural


@airgap_command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--unverified", is_flag=True, help="Look at it whoever signed it.")
@sealing_passphrase_option
def command(
    out: Output,
    home_path: Path,
    file: Path,
    sealing_passphrase_file: Path | None,
    *,
    unverified: bool,
) -> None:
    """Show what a bundle or a receipt holds: source, period, totals, who signed.

    \b
    Example:
      airgap inspect /media/stick/bank-a.prod-000001.airgap
    """
    try:
        with opened(
            file, home_path, catalog.load(), sealing_passphrase_file, unverified=unverified
        ) as document:
            _show(out, document)
            size = document.file.stream.seek(0, 2)
            is_open = document.is_open
    except SealedError:
        raise
    except TrustError as error:
        raise with_hint(error) from None
    after = (
        f"Next: airgap cat {shlex.quote(str(file))}{' --unverified' if unverified else ''}"
        if is_open
        else "Nobody here can read its records"
    )
    out.say(f"Read {file}, {size:,} bytes. {after}")


def _show(out: Output, document: Document) -> None:
    manifest = document.manifest
    out.result(document.describe())
    if document.is_bundle:
        out.say(f"Bundle {manifest['sequence']} of {manifest['source']}, {manifest['created_at']}")
        period = manifest["period"]
        out.say(f"Period:   {period['from']} .. {period['to']}" if period else "Period:   none")
        out.say(f"Follows:  {manifest['previous'] or 'nothing, it is the first'}")
        for credential in manifest["credentials"]:
            out.say(f"Needs:    {credential}")
        for name in manifest["allowed"]:
            out.say(f"Allowed:  {name} (not among the known names)")
        for name in manifest["pseudonymised"]:
            out.say(f"Pseudonym: {name} (the source's own, keyed)")
    else:
        out.say(
            f"Receipt {manifest['number']} for bundle {manifest['bundle_sequence']} of "
            f"{manifest['source']}, by {manifest['importer']}, {manifest['created_at']}"
        )
        out.say(f"Bundle:   {manifest['bundle_id']}")
        for outcome, count in manifest["outcomes"].items():
            out.say(f"{outcome + ':':<10}{count:,}")
    out.say(f"Id:       {document.file.envelope.document_id}")
    for line in (*signature_lines(document), *sealing_lines(document)):
        out.say(line)
    for warning in document.warnings:
        out.warn(warning)
    chunks = plural(len(manifest["chunks"]), "chunk")
    out.say(f"{plural(manifest['records'], 'record')} in {chunks}, every digest right")
    out.totals(Totals.from_map(manifest["totals"]))
