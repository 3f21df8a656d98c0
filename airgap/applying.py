"""Receipts that came back: each verified in quarantine, applied to the outbox, and kept as evidence."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO, Literal

from airgap import confirmation, media, quarantine, timestamps, verify
from airgap.audit import record
from airgap.catalog import Catalog, JsonObject
from airgap.errors import AirgapError
from airgap.files import written_whole
from airgap.home import Home
from airgap.outbox import Outbox
from airgap.text import printable
from airgap.trust.store import TrustStore

SUFFIX = ".receipt"

State = Literal["new", "applied_before", "older", "from_before_the_restore"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one receipt.

    Args:
        path: its file.
        manifest: its manifest, or None where it was refused.
        receipt_id: its id, or None where it was refused.
        state: ``new``, or why nothing changed; None where it was refused.
        changed: how many records have which outcome now that they had not before.
        error: why it was refused, or None.
    """

    path: Path
    manifest: JsonObject | None = None
    receipt_id: str | None = None
    state: State | None = None
    changed: dict[str, int] = field(default_factory=dict[str, int])
    error: AirgapError | None = None


def run(
    home: Home,
    outbox: Outbox,
    trust: TrustStore,
    catalog: Catalog,
    paths: list[Path],
    clock: timestamps.Clock,
    progress: Callable[[Applied], None],
) -> list[Applied]:
    """Apply receipts; one that is refused does not stop the others.

    Args:
        home: the isolated side's home; its quarantine is used, and receipts are kept in it.
        outbox: its outbox.
        trust: whose signatures count.
        catalog: schemas.
        paths: files, and folders that hold receipts.
        clock: the present.
        progress: called after each receipt.

    Raises:
        UsageError: a path does not exist.
        InputRefusedError: there are too many files, or a link on a stick leads to them.
        MediumError: the home's file system refused.
    """
    done: list[Applied] = []
    for path in media.files(paths, (SUFFIX,)):
        name = printable(str(path), 300)
        try:
            with quarantine.copied(path, home.folder("quarantine")) as stream:
                receipt = verify.verify_receipt(stream, name=name, trust=trust, catalog=catalog)
                one = _apply(home, outbox, receipt, stream, path, clock)
        except AirgapError as error:
            one = Applied(path, error=error)
        _record(one, name)
        progress(one)
        done.append(one)
    return done


def _apply(
    home: Home,
    outbox: Outbox,
    receipt: verify.VerifiedReceipt,
    stream: BinaryIO,
    path: Path,
    clock: timestamps.Clock,
) -> Applied:
    state: State = "new"
    changed: dict[str, int] = {}
    if confirmation.is_from_before(outbox, receipt):
        state = "from_before_the_restore"
    elif confirmation.is_applied(outbox, receipt):
        state = "applied_before"
    elif confirmation.is_stale(outbox, receipt):
        state = "older"
    else:
        changed = confirmation.apply(outbox, receipt, clock())
    if state in ("new", "applied_before"):
        _keep(home, receipt, stream)
    return Applied(path, receipt.manifest, receipt.document_id, state, changed)


def _keep(home: Home, receipt: verify.VerifiedReceipt, stream: BinaryIO) -> None:
    """Keep a receipt that was applied as evidence, unless a run that was cut off did so already."""
    manifest = receipt.manifest
    path = home.folder("receipts") / (
        f"{receipt.source}-{manifest['bundle_sequence']:06d}-{manifest['importer']}"
        f"-r{manifest['number']}{SUFFIX}"
    )
    if not path.exists():
        stream.seek(0)
        with written_whole(path) as copy:
            copyfileobj(stream, copy)


def _record(one: Applied, name: str) -> None:
    if one.error is not None:
        record("file refused", file=name, error=one.error.message)
    elif one.state == "new" and one.manifest is not None:
        record(
            "receipt applied",
            file=name,
            receipt_id=one.receipt_id,
            source=one.manifest["source"],
            sequence=one.manifest["bundle_sequence"],
            changed=one.changed,
        )
