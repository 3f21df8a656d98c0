"""One export from start to end: what was captured, new bundles, and their files on a medium."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airgap import captured, credentials, export, media, unsealing
from airgap.audit import record
from airgap.bundle import reader
from airgap.bundle.layout import Compression, Header
from airgap.catalog import Catalog
from airgap.errors import UsageError
from airgap.export import DEFAULT_MAX_SIZE, Made, Maker, Seal, Written
from airgap.files import exclusive
from airgap.findings import Finding, of_timeline
from airgap.home import Home
from airgap.outbox import Outbox, StoredBundle
from airgap.trust import store as trust_store
from airgap.trust.keys import Passphrase, fingerprint


@dataclass(frozen=True, slots=True)
class Order:
    """What an export is to do.

    Args:
        folder: the folder on the medium.
        device: what ``media.require_medium`` said of it when the command began, or None.
        again: whether bundles that are not confirmed are written again.
        sign_again: whether those are signed anew first; goes with ``again``.
        max_size: largest file in bytes; the medium may allow less.
        compression: of the chunks.
        no_usage: the time to be declared as without usage, or None.
        kinds: the kinds that were without usage; none for all.
        seal_to: names or fingerprints of who can open new bundles; none: everybody.
        message: what new bundles say for people, or None.
        force: whether files of the same names with other content may be replaced.
        note: whether a note for the carrier goes beside each bundle.
        backdated: whether it is known that the clock was wrong when the last bundle was made.
        keys: names or files of the keys to sign with; none: the only one that fits.
        aside: whether a process of its own may look into what is written, on a second core.
        passphrase: asked for when a key is protected.
    """

    folder: Path
    passphrase: Passphrase
    device: int | None = None
    again: bool = False
    sign_again: bool = False
    max_size: int = DEFAULT_MAX_SIZE
    compression: Compression = "zstd"
    no_usage: tuple[datetime, datetime] | None = None
    kinds: Sequence[str] = ()
    seal_to: Sequence[str] = ()
    message: str | None = None
    force: bool = False
    note: bool = True
    backdated: bool = False
    keys: Sequence[str] = ()
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did.

    Args:
        made: bundles that are new.
        written: files on the medium.
        findings: what is odd about clocks, windows and keys.
    """

    made: tuple[Made, ...]
    written: tuple[Written, ...]
    findings: tuple[Finding, ...]

    @property
    def paths(self) -> list[Path]:
        """The files on the medium."""
        return [one.path for one in self.written]


def run(home: Home, catalog: Catalog, order: Order, now: datetime) -> Exported:
    """Put what waits into signed bundles, and write what has not left yet to a folder.

    Args:
        home: the isolated side's home.
        catalog: schemas and kinds.
        order: what to do.
        now: the present.

    Raises:
        UsageError: a key, a recipient, a kind or the time without usage is not what it should be.
        InputRefusedError: there was usage in the time that was to be declared as without it.
        TrustError: a key may not sign for this source.
        SequenceError: the clock is behind the newest bundle.
        DamagedError: totals part between outbox and bundle.
        MediumError: the medium, or the home's file system, refused.
    """
    if order.sign_again and not order.again:
        raise UsageError(
            "--sign-again goes with --again",
            hint="airgap export --again --sign-again --key NAME --to FOLDER",
        )
    trust = trust_store.load(home.trust_path, catalog)
    max_size = min(order.max_size, media.largest_file(order.folder) or order.max_size)
    credentials.guard((order.message or "").encode(), catalog, where="--message")
    credentials.guard((home.contact or "").encode(), catalog, where="contact in airgap.toml")
    sealed_to = unsealing.chosen_recipients(home, tuple(order.seal_to))
    seal = Seal(sealed_to, os.urandom) if sealed_to else None
    only = frozenset(catalog.kind(kind).name for kind in order.kinds) or None
    outbox = Outbox(home.outbox_path, home.name, catalog)
    made: list[Made] = []
    found: list[Finding] = []
    try:
        with exclusive(home.path / "export.lock", "export"):
            _take_captured(outbox, now)
            if order.no_usage is not None:
                export.check_no_usage(outbox, order.no_usage, only, now)
            if outbox.has_waiting() or order.no_usage is not None or order.sign_again:
                keys = tuple(
                    home.private_key(choice, order.passphrase, trust.is_for("exporter"))
                    for choice in order.keys or (None,)
                )
                header = Header("bundle", order.compression)
                maker = Maker(
                    home,
                    outbox,
                    keys,
                    trust,
                    catalog,
                    now,
                    header,
                    order.message,
                    None,
                    seal,
                    order.aside,
                )
                if order.sign_again:
                    _sign_again(maker)
                if outbox.has_waiting() or order.no_usage is not None:
                    found += export.check_clock(outbox, now, backdated=order.backdated)
                for one in export.make_bundles(maker, max_size):
                    _record_made(one)
                    made.append(one)
                if order.no_usage is not None:
                    made.append(export.declare_no_usage(maker, order.no_usage, only))
                    _record_made(made[-1])
            found += trust.findings(now)
            for one in made:
                found += of_timeline(one.timeline, now, "this clock")
            written = _write(home, outbox, order, now)
            if order.again and not order.sign_again:
                found += _signed_otherwise(home, outbox, catalog, order.keys)
    finally:
        outbox.close()
    record("written", files=[str(one.path) for one in written], findings=[f.code for f in found])
    return Exported(tuple(made), tuple(written), tuple(found))


def _write(home: Home, outbox: Outbox, order: Order, now: datetime) -> list[Written]:
    return [
        export.write_bundle(
            home,
            outbox,
            bundle,
            order.folder,
            now,
            device=order.device,
            force=order.force,
            note=order.note,
        )
        for bundle in outbox.bundles()
        if is_due(outbox, bundle, again=order.again)
    ]


def _take_captured(outbox: Outbox, now: datetime) -> None:
    """Make records of what the capture endpoint has received."""
    taken = captured.take(outbox, now)
    if taken is not None:
        record("collected", source="capture", read=taken.read.as_map(), new=taken.new.as_map())


def _sign_again(maker: Maker) -> None:
    for bundle in maker.outbox.bundles():
        if is_due(maker.outbox, bundle, again=True):
            export.sign_again(maker, bundle)
            record(
                "signed again",
                sequence=bundle.sequence,
                keys=[key.public.fingerprint for key in maker.keys],
            )


def _signed_otherwise(
    home: Home, outbox: Outbox, catalog: Catalog, choices: Sequence[str]
) -> list[Finding]:
    """Tell of bundles that were written again as signed before, where another key was asked for."""
    names = [name for name in choices if name in home.key_names()]
    asked = {home.public_key(name).key_id for name in names}
    others: list[int] = []
    for bundle in outbox.bundles() if asked else ():
        if is_due(outbox, bundle, again=True):
            with (home.folder("bundles") / bundle.file_name).open("rb") as stream:
                file = reader.open_file(stream, name=bundle.file_name, catalog=catalog)
            if asked.isdisjoint(one.key_id for one in file.envelope.signatures):
                others.append(bundle.sequence)
    if not others:
        return []
    which = f"bundle {others[0]}" + (f" and {len(others) - 1} more" if len(others) > 1 else "")
    words = f"{which} written as signed before, and not with {', '.join(names)}: add --sign-again for that"
    return [Finding("signed-otherwise", words)]


def _record_made(one: Made) -> None:
    record(
        "bundle made",
        bundle_id=one.bundle.bundle_id,
        sequence=one.bundle.sequence,
        totals=one.totals.as_map(),
        no_usage=one.no_usage,
        sealed_to=[fingerprint(key_id) for key_id in one.sealed_to],
    )


def is_due(outbox: Outbox, bundle: StoredBundle, *, again: bool) -> bool:
    """Tell whether a bundle is to be written: not confirmed, and not written yet or ``again``."""
    if bundle.adopted or bundle.pruned or outbox.is_confirmed(bundle):
        return False
    return again or bundle.written_to is None
