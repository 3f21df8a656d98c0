"""From the outbox to signed bundles, and from there to a medium."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from airgap import __version__, media, timestamps, verify
from airgap.bundle.layout import FORMAT, Compression, Header
from airgap.bundle.writer import Writer
from airgap.catalog import Catalog
from airgap.errors import UsageError
from airgap.files import refused, sync_folder
from airgap.home import Home
from airgap.outbox import Outbox, StoredBundle
from airgap.records import Record, Totals
from airgap.trust.keys import PrivateKey
from airgap.trust.store import TrustStore

BUNDLE_SUFFIX = ".airgap"
DEFAULT_MAX_SIZE = 2 * 1024**3
MIN_MAX_SIZE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle that one export made."""

    bundle: StoredBundle
    totals: Totals
    period: dict[str, str] | None
    size: int


def make_bundles(
    home: Home,
    outbox: Outbox,
    key: PrivateKey,
    trust: TrustStore,
    catalog: Catalog,
    now: datetime,
    *,
    compression: Compression = "zstd",
    max_size: int = DEFAULT_MAX_SIZE,
) -> list[Made]:
    """Put every record that is in no bundle yet into bundles, kept in the home.

    Each bundle is verified as an importer would before the outbox stores that it exists. To
    write them to a medium is a step of its own, so a failing medium costs nothing.

    Args:
        home: the isolated side's home.
        outbox: its outbox.
        key: signs as exporter; must be in ``trust``.
        trust: this side's trust store.
        catalog: schemas and kinds.
        now: the present; the bundles' ``created_at``.
        compression: of the chunks.
        max_size: largest file in bytes; more records give more bundles.

    Returns:
        The bundles made, none where nothing waits.

    Raises:
        TrustError: the key may not sign for this source.
        DamagedError: totals part between outbox and bundle.
        MediumError: the home's file system refused.
    """
    made: list[Made] = []
    while True:
        one = _make_one(home, outbox, key, trust, catalog, now, compression, max_size)
        if one is None:
            return made
        made.append(one)


def write_bundle(
    home: Home, outbox: Outbox, bundle: StoredBundle, folder: Path, now: datetime, *, force: bool
) -> Path:
    """Write a bundle that the home holds to a folder, read it back, and store that it left.

    Raises:
        UsageError: the home's copy is gone, or ``folder`` is none.
        MediumError: the medium refused.
    """
    source = home.folder("bundles") / bundle.file_name
    if not source.exists():
        raise UsageError(
            "the home's copy of the bundle is gone",
            where=str(source),
            hint="put it back from a copy of the home, or from the stick that it was written to",
        )
    path = media.place(source, folder, bundle.file_name, force=force)
    outbox.mark_written(bundle.sequence, str(folder), now)
    return path


def file_name(source: str, sequence: int) -> str:
    """Return a bundle's file name, legal on every file system."""
    return f"{source}-{sequence:06d}{BUNDLE_SUFFIX}"


def _make_one(
    home: Home,
    outbox: Outbox,
    key: PrivateKey,
    trust: TrustStore,
    catalog: Catalog,
    now: datetime,
    compression: Compression,
    max_size: int,
) -> Made | None:
    sequence, previous, first = outbox.next_bundle()
    name = file_name(outbox.source, sequence)
    folder = home.folder("bundles")
    temporary, final = folder / f".{name}.part", folder / name
    try:
        with temporary.open("w+b") as stream:
            last, contents = _write_records(
                stream, outbox, catalog, first, Header("bundle", compression), max_size
            )
            if last is None:
                temporary.unlink()
                return None
            writer, found = contents
            writer.finish(
                {
                    "format": FORMAT,
                    "file_type": "bundle",
                    "source": outbox.source,
                    "sequence": sequence,
                    "previous": previous,
                    "created_at": timestamps.to_text(now),
                    "producer": f"airgap {__version__}",
                    **found.as_map(catalog),
                },
                [key.sign],
            )
            stream.flush()
            bundle = verify.verify_bundle(stream, name=name, trust=trust, catalog=catalog)
            outbox.totals(first, last).require_equal(
                bundle.totals, here="the outbox", there="the bundle"
            )
            os.fsync(stream.fileno())
            size = stream.seek(0, 2)
        temporary.replace(final)
        sync_folder(folder)
    except OSError as error:
        raise refused("written", final, error) from None
    finally:
        temporary.unlink(missing_ok=True)
    stored = StoredBundle(
        sequence, bundle.document_id, name, first, last, bundle.manifest["created_at"], None
    )
    outbox.add_bundle(stored, bundle.envelope.payload)
    return Made(stored, bundle.totals, bundle.manifest["period"], size)


def _write_records(
    stream: BinaryIO, outbox: Outbox, catalog: Catalog, first: int, header: Header, max_size: int
) -> tuple[int | None, tuple[Writer, verify.Contents]]:
    """Write records from ``first`` on until none is left or the file is full."""
    writer, contents = Writer(stream, header), verify.Contents()
    last: int | None = None
    for number, record in outbox.records(first):
        kind = catalog.kind(record.kind)
        if last is not None and (
            writer.size_at_most + _size_bound(record) > max_size
            or contents.is_full_for(record, kind)
        ):
            break
        contents.add(record, kind, where=f"record {number} of the outbox")
        writer.add(record.as_map())
        last = number
    return last, (writer, contents)


def _size_bound(record: Record) -> int:
    body = record.payload.get("body")
    return 65_536 + (4 * len(body) if isinstance(body, str) else 0)
