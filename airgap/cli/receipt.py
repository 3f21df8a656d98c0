"""``airgap receipt``: back on the isolated host."""

from pathlib import Path
from typing import Any

import click

from airgap import catalog, media, timestamps, verify
from airgap.cli.common import Output, airgap_command, on_side, show_error
from airgap.errors import AirgapError
from airgap.outbox import Outbox
from airgap.text import plural, printable
from airgap.trust import store as trust_store

_SUFFIX = ".receipt"


@click.group("receipt")
def command() -> None:
    """Take receipts back to the isolated host."""


@airgap_command("apply")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH..."
)
@click.pass_context
def _apply(ctx: click.Context, out: Output, home_path: Path, paths: tuple[Path, ...]) -> None:
    """Confirm what receipts say was delivered.

    A receipt must be signed by a key that this home trusts as importer, and be about a bundle
    of this outbox, record for record. Applying one twice changes nothing.

    \b
    Example:
      airgap receipt apply /media/stick
    """
    home = on_side(home_path, "isolated")
    schemas = catalog.load()
    trust = trust_store.load(home.trust_path, schemas)
    outbox = Outbox(home.outbox_path, home.name, schemas)
    failed: AirgapError | None = None
    results: list[dict[str, Any]] = []
    try:
        for path in media.files(list(paths), (_SUFFIX,)):
            name = printable(str(path), 300)
            try:
                with media.quarantine(path, home.folder("quarantine")) as stream:
                    receipt = verify.verify_receipt(stream, name=name, trust=trust, catalog=schemas)
                    results.append({"path": str(path), **_apply_one(out, outbox, receipt)})
            except AirgapError as error:
                failed = failed or error
                results.append({"path": str(path), "error": error.as_json()})
                out.say(f"{path}: REFUSED")
                show_error(error, as_json=False)
        confirmed = outbox.confirmed()
    finally:
        outbox.close()
    out.result({"receipts": results, "confirmed": confirmed.as_map()})
    out.totals(confirmed)
    out.say(
        f"Wrote {home.outbox_path}: {plural(confirmed.records, 'record')} confirmed. "
        "Next: airgap status"
    )
    if failed is not None:
        ctx.exit(failed.exit_code)


def _apply_one(out: Output, outbox: Outbox, receipt: verify.VerifiedReceipt) -> dict[str, Any]:
    about = f"bundle {receipt.manifest['bundle_sequence']} of {receipt.source}"
    if outbox.has_receipt(receipt.document_id):
        out.say(f"{receipt.name}: applied before, nothing changed ({about})")
        return {"receipt_id": receipt.document_id, "new": False}
    if outbox.is_stale(receipt):
        out.say(f"{receipt.name}: older than one applied before, nothing changed ({about})")
        return {"receipt_id": receipt.document_id, "new": False}
    changed = outbox.apply(receipt, timestamps.system_clock())
    words = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in changed.items() if count
    )
    out.say(f"{receipt.name}: {about}: {words or 'nothing new'}")
    return {"receipt_id": receipt.document_id, "new": True, "changed": changed}


command.add_command(_apply)
