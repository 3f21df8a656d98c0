"""``airgap countersign``: a reviewer's word on a bundle."""

import shlex
from hashlib import sha256
from pathlib import Path

import click

from airgap import catalog, credentials, media, timestamps
from airgap.arrivals import trust_of
from airgap.audit import record
from airgap.cli.common import (
    Output,
    airgap_command,
    ask_passphrase,
    key_option,
    passphrase_option,
    sealing_passphrase_option,
)
from airgap.cli.looking import Document, opened
from airgap.cli.sheets import facts_of, require_bundle, require_sheet, since
from airgap.errors import TrustError, UsageError
from airgap.files import write_atomically
from airgap.home import Home, open_home
from airgap.text import printable
from airgap.trust import approvals
from airgap.trust.approvals import Reviews
from airgap.trust.entries import Place


@airgap_command("countersign", audited=True)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--deny", is_flag=True, help="Say that it is not to be delivered.")
@click.option("--reason", help="Why; it goes into the approval.")
@click.option(
    "--sheet",
    type=click.Path(path_type=Path),
    help="The review sheet that was read: a page of `airgap review BUNDLE --html FILE`, or its text.",
)
@click.option(
    "--since",
    "before",
    type=click.Path(path_type=Path),
    help="The bundle that the sheet was compared with, where this home did not review it.",
)
@click.option(
    "--to", type=click.Path(path_type=Path), help="Folder for it; default: beside the bundle."
)
@key_option
@passphrase_option
@sealing_passphrase_option
def command(
    out: Output,
    home_path: Path,
    bundle: Path,
    reason: str | None,
    sheet: Path | None,
    before: Path | None,
    to: Path | None,
    key_choice: str | None,
    passphrase_file: Path | None,
    sealing_passphrase_file: Path | None,
    *,
    deny: bool,
) -> None:
    """Sign that a bundle was reviewed and may be delivered, or with --deny that it may not.

    `airgap review` comes first. The approval carries the SHA-256 of the sheet that it showed in this
    home; with --sheet, of the very file that was read, wherever it was made: it is made anew from the
    bundle, and must be the same to the byte. The key must be one that this home trusts as reviewer, and
    another than the one that signed the bundle. The bundle stays as it is: the approval is a
    file of its own, to be carried with it.

    \b
    Example:
      airgap countersign /media/stick/bank-a.prod-000001.airgap --key alice --sheet review.html
      airgap countersign /media/stick/bank-a.prod-000001.airgap --key alice --deny --reason "names in tags"
    """
    home = open_home(home_path)
    schemas = catalog.load()
    trust = trust_of(home, schemas, timestamps.system_clock())
    if deny and not reason:
        raise UsageError("say why", expected="--reason TEXT", hint="the importer shows it")
    if reason is not None:
        credentials.guard(reason.encode(), schemas, where="--reason")
    key = home.private_key(key_choice, ask_passphrase(passphrase_file), trust.is_for("reviewer"))
    earlier = (
        None
        if before is None
        else lambda facts: since(before, home_path, schemas, sealing_passphrase_file, facts)
    )
    with opened(
        bundle, home_path, schemas, sealing_passphrase_file, needs_key=sheet is not None
    ) as document:
        require_bundle(document, bundle)
        read = (
            _reviewed(home, bundle, document)
            if sheet is None
            else require_sheet(sheet, facts_of(document, schemas), home, earlier)
        )
        manifest, identifier = document.manifest, document.file.envelope.document_id
        now = timestamps.system_clock()
        name, made = approvals.make(
            {
                "bundle_id": identifier,
                "source": manifest["source"],
                "sequence": manifest["sequence"],
                "decision": "deny" if deny else "approve",
                "review_sha256": read,
                "comment": None if reason is None else printable(reason, 300),
            },
            key.sign,
            schemas,
            now=now,
        )
        approval = approvals.read(made.encode(), schemas, name=name)
        place = Place(
            manifest["source"], timestamps.parse(manifest["created_at"]), manifest["sequence"]
        )
        reviews = Reviews.of([approval], identifier, place, document.signers, trust)
    if not (reviews.approved or reviews.denied):
        raise _would_not_count(key.public.fingerprint, manifest["source"], reviews)
    kept = home.folder("approvals") / name
    write_atomically(kept, made.encode(), mode=0o644)
    path = media.place(kept, to or bundle.parent, name, force=True)
    out.result(
        {
            "bundle_id": identifier,
            "decision": approval.value["decision"],
            "review_sha256": approval.value["review_sha256"],
            "approval": str(path),
        }
    )
    record("countersigned", bundle_id=identifier, decision=approval.value["decision"])
    out.say(
        f"{'Denied' if deny else 'Approved'}: bundle {manifest['sequence']} of {manifest['source']}, "
        f"by {key.public.fingerprint}"
    )
    out.say(
        f"Wrote {path}. Next: carry it with the bundle; airgap verify and import look beside it"
    )


def _would_not_count(fingerprint: str, source: str, reviews: Reviews) -> TrustError:
    return TrustError(
        "this key's approval would not count",
        where=fingerprint,
        expected=f"a key that this home trusts as reviewer for {source}, and that did not sign the "
        "bundle",
        found=reviews.passed_over[0].partition(": ")[2],
        hint="choose another with --key, or make one: airgap key generate --name NAME --role reviewer",
    )


def _reviewed(home: Home, bundle: Path, document: Document) -> str:
    """Return the digest of the sheet that was shown in this home.

    Raises:
        UsageError: none was.
    """
    path = home.folder("reviews") / f"{document.file.envelope.document_id}.txt"
    try:
        return sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise UsageError(
            "this bundle was not reviewed in this home",
            where=str(bundle),
            expected="a look at what leaves before it is signed",
            hint=f"airgap review {shlex.quote(str(bundle))}",
        ) from None
