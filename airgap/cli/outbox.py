"""``airgap outbox``: care of the outbox."""

from datetime import timedelta
from pathlib import Path

import click

from airgap import captured, catalog, confirmation, media, quarantine, timestamps, verify
from airgap.arrivals import trust_of
from airgap.audit import record
from airgap.cli.common import Output, airgap_command, on_side
from airgap.cli.types import Duration
from airgap.errors import UsageError
from airgap.files import exclusive
from airgap.outbox import Outbox
from airgap.text import plural, printable, waits


@click.group("outbox")
def command() -> None:
    """Take care of the outbox: make room, or go on after a restore."""


@airgap_command("prune", audited=True)
@click.option(
    "--older-than",
    required=True,
    type=Duration(),
    help="Only what was confirmed longer ago than this: 90d, 12w.",
)
def _prune(out: Output, home_path: Path, older_than: timedelta) -> None:
    """Take away the records of bundles that were confirmed as a whole, and the home's copies.

    Ids, manifests and totals stay: a pruned record is never collected again, and status still
    counts it. What no receipt has confirmed is never touched.

    \b
    Example:
      airgap outbox prune --older-than 90d
    """
    home = on_side(home_path, "isolated")
    outbox = Outbox(home.outbox_path, home.name, catalog.load())
    try:
        with exclusive(home.path / "export.lock", "export"):
            done = confirmation.prune(
                outbox, home.folder("bundles"), older_than, timestamps.system_clock()
            )
    finally:
        outbox.close()
    records = sum(bundle.last - bundle.first + 1 for bundle in done)
    record("pruned", bundles=[bundle.sequence for bundle in done], records=records)
    out.result({"pruned": [bundle.sequence for bundle in done], "records": records})
    if not done:
        out.say("Nothing to prune: no bundle was confirmed as a whole that long ago.")
        return
    out.say(
        f"Pruned {plural(len(done), 'bundle')} with {plural(records, 'record')}; "
        "ids and totals stay."
    )
    out.say(f"Wrote {home.outbox_path}. Next: airgap status")


@airgap_command("continue", audited=True)
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECEIPT..."
)
def _continue(out: Output, home_path: Path, paths: tuple[Path, ...]) -> None:
    """Go on where the workstation's chain ends, after this host was restored or built anew.

    A restored host has forgotten bundles, and the importer refuses others of the same number.
    The workstation's receipts (airgap import --resume --receipt-to FOLDER) say what the chain
    is. Bundles that this host made instead are void; their records wait again under the same
    ids, so none is delivered twice. Collect again what was collected since the snapshot.

    \b
    Example:
      airgap outbox continue /media/stick/bank-a.prod-000012-r1.receipt
    """
    home = on_side(home_path, "isolated")
    schemas = catalog.load()
    trust = trust_of(home, schemas, timestamps.system_clock())
    outbox = Outbox(home.outbox_path, home.name, schemas)
    try:
        with exclusive(home.path / "export.lock", "export"):
            receipts: list[verify.VerifiedReceipt] = []
            for path in media.files(list(paths), (".receipt",)):
                name = printable(str(path), 300)
                with quarantine.copied(path, home.folder("quarantine")) as stream:
                    receipt = verify.verify_receipt(stream, name=name, trust=trust, catalog=schemas)
                if receipt.source == home.name:
                    receipts.append(receipt)
                else:
                    out.say(f"{name}: of another source, {receipt.source}; left aside")
            if not receipts:
                raise UsageError(
                    f"none of these receipts is of {home.name}",
                    hint="on the workstation: airgap import --resume --receipt-to FOLDER",
                )
            done = confirmation.continue_chain(outbox, receipts, timestamps.system_clock())
            waiting = outbox.waiting().records + captured.waiting_totals(outbox).records
    finally:
        outbox.close()
    voided = [bundle.sequence for bundle in done.voided]
    record("continued", sequence=done.sequence, bundle_id=done.bundle_id, voided=voided)
    out.result(
        {
            "after": done.sequence,
            "bundle_id": done.bundle_id,
            "voided": voided,
            "waiting": waiting,
        }
    )
    for bundle in done.voided:
        if bundle.written_to:
            out.warn(
                f"bundle {bundle.sequence}, now void, was written to {bundle.written_to}: see that no"
                " workstation takes it in; its records go again"
            )
    if voided:
        out.say(f"Void, their records wait again: bundle {', '.join(map(str, voided))}")
    out.say(
        f"The next bundle is {done.sequence + 1}; {waits(waiting)} for it. "
        f"Wrote {home.outbox_path}."
    )
    out.say("Next: collect again what came since the snapshot, then: airgap export --to FOLDER")


for _command in (_prune, _continue):
    command.add_command(_command)
