"""From the outbox to signed bundles, and from there to a medium."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from airgap import __version__, carrier, media, timestamps, verify, vouching, windows
from airgap.bundle import reader
from airgap.bundle.layout import FORMAT, Header, footer
from airgap.bundle.sealing import FILE_KEY_SIZE, Context, FileKey, Sealing
from airgap.bundle.writer import Writer
from airgap.catalog import Catalog, JsonObject
from airgap.contents import Contents
from airgap.errors import DamagedError, InputRefusedError, SequenceError, UsageError
from airgap.files import written_whole
from airgap.findings import Finding
from airgap.home import Home
from airgap.outbox import Outbox, StoredBundle
from airgap.packing import Packing
from airgap.readback import digest
from airgap.records import Totals
from airgap.trust.keys import PrivateKey
from airgap.trust.recipients import Opener, Recipient
from airgap.trust.store import TrustStore
from airgap.windows import Timeline

BUNDLE_SUFFIX = ".airgap"
DEFAULT_MAX_SIZE = 2 * 1024**3
MIN_MAX_SIZE = 256 * 1024
_FIRST_YEAR = 2000


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle that one export made.

    Args:
        bundle: its place in the outbox.
        totals: what it holds.
        period: from when to when, or None without windows.
        size: of the file, in bytes.
        timeline: the windows of its records.
        no_usage: the time that it declares to be without usage, or None.
        sealed_to: ids of the keys that open it; none where it is not sealed.
    """

    bundle: StoredBundle
    totals: Totals
    period: dict[str, str] | None
    size: int
    timeline: Timeline
    no_usage: JsonObject | None
    sealed_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals the bundles of one export, each with a file key of its own.

    Args:
        recipients: who can open them, all different, 1 to ``limits.MAX_RECIPIENTS``.
        random_bytes: returns so many bytes that nobody can guess.
    """

    recipients: tuple[Recipient, ...]
    random_bytes: Callable[[int], bytes]

    def begin(self, header: Header, context: Context) -> tuple[Header, FileKey]:
        """Return the header of one sealed bundle, and its file key."""
        key = FileKey(self.random_bytes(FILE_KEY_SIZE))
        wrapped = tuple(key.wrapped_by(r.wrap, context) for r in self.recipients)
        return replace(header, sealing=Sealing(key.commitment, wrapped)), key


@dataclass(frozen=True, slots=True)
class Written:
    """A bundle on a medium.

    Args:
        path: its file there.
        in_the_way: a file that has the name of the carrier's note and was left as it is, or None.
    """

    path: Path
    in_the_way: Path | None


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the bundles of one export; each is kept in the home.

    Each bundle is verified as an importer would before the outbox stores that it exists. To
    write them to a medium is a step of its own, so a failing medium costs nothing.

    Args:
        home: the isolated side's home.
        outbox: its outbox.
        keys: sign as exporters; must be in ``trust``.
        trust: this side's trust store.
        catalog: schemas and kinds.
        now: the present; the bundles' ``created_at``.
        header: of the files.
        message: what the bundles say for people, or None.
        no_usage: the time that the bundle declares to be without usage, or None.
        seal: seals the bundles that hold records, or None.
        aside: whether a process of its own may look into what is written (``airgap.vouching``).

    Raises:
        TrustError: a key may not sign for this source.
        DamagedError: totals part between outbox and bundle.
        MediumError: the home's file system refused.
    """

    home: Home
    outbox: Outbox
    keys: tuple[PrivateKey, ...]
    trust: TrustStore
    catalog: Catalog
    now: datetime
    header: Header
    message: str | None
    no_usage: JsonObject | None = None
    seal: Seal | None = None
    aside: bool = False

    def make(self, max_size: int) -> Made | None:
        """Make the next bundle, or return None where nothing waits and nothing is declared.

        Args:
            max_size: largest file in bytes; what does not fit waits for the next one.
        """
        outbox = self.outbox
        if self.no_usage is None and not outbox.has_waiting():
            return None
        sequence, previous, first = outbox.next_bundle()
        name, last = file_name(outbox.source, sequence), first - 1
        header, file_key = self.header, None
        if self.seal is not None and self.no_usage is None:
            header, file_key = self.seal.begin(header, Context(outbox.source, sequence))
        with (
            written_whole(self.home.folder("bundles") / name) as stream,
            self._voucher(header, outbox.last_number() - last) as voucher,
        ):
            show = None if voucher is None else voucher.show
            writer, contents = Writer(stream, header, file_key, show), Contents()
            if self.no_usage is None:
                last = Packing(writer, contents, outbox, self.catalog, max_size).run(first)
            writer.finish(
                {
                    "format": FORMAT,
                    "file_type": "bundle",
                    "source": outbox.source,
                    "sequence": sequence,
                    "previous": previous,
                    "created_at": timestamps.to_text(self.now),
                    "producer": f"airgap {__version__}",
                    **contents.as_map(self.catalog),
                    "pseudonymised": outbox.pseudonymised(first, last),
                    "no_usage": self.no_usage,
                    "message": self.message,
                },
                [key.sign for key in self.keys],
            )
            bundle = verify.verify_bundle(
                stream,
                name=name,
                trust=self.trust,
                catalog=self.catalog,
                opener=_with(file_key),
                vouched=None if voucher is None else voucher.answer(),
            )
            # Sums were added up from the outbox's bytes; whether every row was, its count tells.
            outbox.counted(first, last, contents.totals).require_equal(
                bundle.totals, here="the outbox", there="the bundle"
            )
            size = stream.seek(0, 2)
        stored = StoredBundle(
            sequence, bundle.document_id, name, first, last, bundle.manifest["created_at"], None
        )
        outbox.add_bundle(stored, bundle.envelope.payload, bundle.timeline)
        return Made(
            stored,
            bundle.totals,
            bundle.manifest["period"],
            size,
            bundle.timeline,
            self.no_usage,
            () if header.sealing is None else tuple(r.key_id for r in header.sealing.recipients),
        )

    def _voucher(
        self, header: Header, records: int
    ) -> AbstractContextManager[vouching.Voucher | None]:
        """Return what looks into the chunks of a bundle of so many records meanwhile, or nothing."""
        if not self.aside or records < vouching.WORTH_IT or not vouching.can_help():
            return nullcontext()
        return vouching.Voucher(header.compression)


def make_bundles(maker: Maker, max_size: int = DEFAULT_MAX_SIZE) -> Iterator[Made]:
    """Put every record that is in no bundle yet into bundles, and yield each when it is made.

    What is taken in meanwhile may wait for the next export: while much comes in, this would not end.

    Raises as ``Maker`` does.
    """
    last = maker.outbox.last_number()
    while maker.outbox.next_bundle()[2] <= last and (one := maker.make(max_size)) is not None:
        yield one


def check_no_usage(
    outbox: Outbox, period: tuple[datetime, datetime], kinds: frozenset[str] | None, now: datetime
) -> None:
    """Check that a time can be declared to be without usage.

    Args:
        outbox: the outbox.
        period: from when to before when; in the past.
        kinds: the kinds that were without usage, or None for all.
        now: the present.

    Raises:
        UsageError: the time is none.
        InputRefusedError: the outbox holds usage in that time.
    """
    start, end = period
    if not start < end <= now:
        raise UsageError(
            "this is not a time that can be declared",
            expected=f"a start before its end, and an end not after {timestamps.to_text(now)}",
            found=f"{timestamps.to_text(start)} .. {timestamps.to_text(end)}",
        )
    if outbox.unknown_time().meets(windows.micros(start), windows.micros(end)):
        raise InputRefusedError(
            "bundles that were made before this host was restored may hold usage for this time",
            where=outbox.source,
            expected="a time of which this outbox knows everything",
            found=f"{timestamps.to_text(start)} .. {timestamps.to_text(end)}",
            hint="the workstation has them: its airgap status shows what is covered",
        )
    if start.year < _FIRST_YEAR:
        raise UsageError(
            "this is not a time that can be declared",
            expected=f"a start in {_FIRST_YEAR} or later",
            found=timestamps.to_text(start),
        )
    parts = [outbox.covered(bundle)[1] for bundle in outbox.bundles()]
    used = windows.merge([*parts, outbox.waiting_timeline().used()])
    told = windows.Declaration(windows.micros(start), windows.micros(end), kinds)
    wrong = windows.contradicted(used, [told])
    if wrong:
        raise InputRefusedError(
            f"there was usage in this time: the outbox holds {', '.join(wrong)} for it",
            where=outbox.source,
            expected="no record that counts anything in the time",
            found=", ".join(wrong),
            hint="declare only the time without usage (airgap status shows what is covered), or with "
            "--of only the kinds without it",
        )


def declare_no_usage(
    maker: Maker, period: tuple[datetime, datetime], kinds: frozenset[str] | None
) -> Made:
    """Make an empty bundle that declares: in this time there was nothing to report.

    Args:
        maker: makes it; nothing may wait in its outbox.
        period: from when to before when, as ``check_no_usage`` wants it.
        kinds: the kinds that were without usage, or None for all.

    Raises:
        UsageError: see ``check_no_usage``.
        InputRefusedError: see ``check_no_usage``.
    """
    check_no_usage(maker.outbox, period, kinds, maker.now)
    start, end = map(timestamps.to_text, period)
    told = {"from": start, "to": end, "kinds": None if kinds is None else sorted(kinds)}
    made = replace(maker, no_usage=told).make(DEFAULT_MAX_SIZE)
    assert made is not None
    return made


def sign_again(maker: Maker, bundle: StoredBundle) -> None:
    """Put other keys' signatures in the place of those of a bundle in the home.

    For a key that was lost or revoked before the bundle was confirmed. The manifest and the id stay
    as they are, so the chain does.

    Args:
        maker: its keys sign.
        bundle: the bundle.

    Raises:
        TrustError: a key may not sign for this source.
        DamagedError: the home's copy is not the bundle that was made.
        MediumError: the home's file system refused.
    """
    final = maker.home.folder("bundles") / bundle.file_name
    with written_whole(final) as stream, final.open("rb") as old:
        file = reader.open_file(old, name=bundle.file_name, catalog=maker.catalog)
        signed = replace(
            file.envelope, signatures=tuple(k.sign(file.envelope.message) for k in maker.keys)
        )
        if signed.document_id != bundle.bundle_id:
            raise DamagedError(
                "the home's copy is not the bundle that was made",
                where=str(final),
                expected=bundle.bundle_id,
                found=signed.document_id,
                hint="put it back from a copy of the home, or from the stick that it was written to",
            )
        old.seek(0)
        left = file.envelope_offset
        while left:
            part = old.read(min(left, 1 << 20))
            stream.write(part)
            left -= len(part)
        data = signed.encode()
        stream.write(data + footer(file.envelope_offset, len(data)))
        # Whoever sealed it can't open it any more.
        check = verify.verify_bundle if file.header.sealing is None else verify.verify_unopened
        check(stream, name=bundle.file_name, trust=maker.trust, catalog=maker.catalog)


def check_clock(outbox: Outbox, now: datetime, *, backdated: bool) -> list[Finding]:
    """Hold the clock against the newest bundle, which an importer does as well.

    Raises:
        SequenceError: it is behind, and nobody said that this is known.
    """
    bundles = outbox.bundles()
    if not bundles:
        return []
    newest = bundles[-1]
    if timestamps.parse(newest.created_at) <= now:
        return []
    words = (
        f"the clock was set back: it says {timestamps.to_text(now)}, "
        f"and bundle {newest.sequence} was made at {newest.created_at}"
    )
    if not backdated:
        raise SequenceError(
            words,
            where=outbox.source,
            expected=f"a clock not before {newest.created_at}",
            found=timestamps.to_text(now),
            hint="set the clock right; if it was wrong before and is right now, with the same options: "
            "airgap export --backdated, which the importer must then accept as well; nothing was exported",
        )
    return [Finding("clock-behind", words)]


def write_bundle(
    home: Home,
    outbox: Outbox,
    bundle: StoredBundle,
    folder: Path,
    now: datetime,
    *,
    device: int | None = None,
    force: bool,
    note: bool = True,
) -> Written:
    """Write a bundle that the home holds to a folder, read it back, and store that it left.

    Args:
        home: the isolated side's home.
        outbox: its outbox; it changes only when all is on the medium.
        bundle: the bundle.
        folder: the folder on the medium.
        now: the present.
        device: what ``media.require_medium`` said of the folder when the command began.
        force: whether files of the same names with other content may be replaced.
        note: whether the carrier's note goes beside it.

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
    path = media.place(source, folder, bundle.file_name, force=force, device=device)
    in_the_way = _write_note(home, bundle, path, force=force) if note else None
    outbox.mark_written(bundle.sequence, str(folder), now)
    return Written(path, in_the_way)


def _write_note(home: Home, bundle: StoredBundle, path: Path, *, force: bool) -> Path | None:
    """Write the carrier's note beside a bundle, or return what is in its place and stays there."""
    kept = home.folder("bundles") / bundle.file_name
    text = carrier.note(
        name=bundle.file_name,
        length=kept.stat().st_size,
        sha256=digest(kept),
        bundle_id=bundle.bundle_id,
        source=home.name,
        sequence=bundle.sequence,
        contact=home.contact,
    )
    target = path.with_suffix(carrier.SUFFIX)
    if media.is_other(target, text) and not (force and media.is_file(target)):
        return target
    media.place(text, target.parent, target.name, force=force)
    return None


def file_name(source: str, sequence: int) -> str:
    """Return a bundle's file name, legal on every file system."""
    return f"{source}-{sequence:06d}{BUNDLE_SUFFIX}"


def _with(file_key: FileKey | None) -> Opener | None:
    """Return an opener that has the key already: whoever made the bundle checks it as a recipient."""
    if file_key is None:
        return None
    return lambda sealing, _context, where: file_key.committed(sealing, where=where)
