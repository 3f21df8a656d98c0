"""``airgap review``: what leaves, for a person."""

import shlex
from hashlib import sha256
from pathlib import Path

import click

from airgap import catalog, review
from airgap.cli.common import Output, airgap_command, sealing_passphrase_option
from airgap.cli.looking import opened
from airgap.errors import UsageError
from airgap.files import write_atomically
from airgap.home import open_home
from airgap.records import Record


@airgap_command("review", audited=True)
@click.argument("bundle", type=click.Path(path_type=Path))
@sealing_passphrase_option
def command(
    out: Output, home_path: Path, bundle: Path, sealing_passphrase_file: Path | None
) -> None:
    """Show what leaves in a bundle: every field, how often, and its values or from where to where.

    More than four different values are shown by their smallest and largest, long texts by their
    beginning (FREE TEXT); `airgap cat` shows every record. The bundle is verified first, and opened
    with this home's key where it is sealed. The sheet is kept in the home; its digest goes into the
    approval that `airgap countersign` makes.

    \b
    Example:
      airgap review /media/stick/bank-a.prod-000001.airgap
    """
    home = open_home(home_path)
    schemas = catalog.load()
    with opened(bundle, home_path, schemas, sealing_passphrase_file, needs_key=True) as document:
        if not document.is_bundle:
            raise UsageError("this is a receipt", where=str(bundle), expected="a bundle")
        identifier = document.file.envelope.document_id
        records = (
            Record.from_map({k: v for k, v in element.items() if k != "id"})
            for element in document.elements(schemas)
        )
        lines = [f"{key.public.fingerprint} ({key.public.algorithm})" for key in document.signers]
        text = review.sheet(document.manifest, identifier, records, schemas, lines)
    digest = sha256(text.encode()).hexdigest()
    path = home.folder("reviews") / f"{identifier}.txt"
    write_atomically(path, text.encode(), mode=0o600)
    out.result({"bundle_id": identifier, "sheet": str(path), "sheet_sha256": digest})
    out.say(*text.rstrip("\n").split("\n"))
    out.say("")
    out.say(f"SHA-256 of this sheet: {digest}")
    out.say(
        f"Wrote {path}. Next: airgap countersign {shlex.quote(str(bundle))}, "
        "or with --deny --reason TEXT to stop it"
    )
