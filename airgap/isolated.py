"""The isolated host for scripts: what ``collect``, ``export``, ``receipt apply`` and ``status`` do."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from airgap import applying, catalog, collecting, exporting, media, overview, timestamps
from airgap.applying import Applied
from airgap.arrivals import trust_of
from airgap.audit import Script
from airgap.bundle.layout import Compression
from airgap.collect.csvfiles import Reading
from airgap.credentials import read_all
from airgap.export import DEFAULT_MAX_SIZE
from airgap.exporting import Exported
from airgap.findings import Finding
from airgap.home import open_home, passphrase_from
from airgap.outbox import Outbox
from airgap.overview import Overview
from airgap.records import Totals
from airgap.timestamps import Clock


@dataclass(frozen=True, slots=True)
class Collection:
    """What one source gave.

    Args:
        read: totals of what was read.
        new: totals of what the outbox had not before.
        waiting: totals of what is in no bundle yet.
        credentials: fingerprints of whose usage it is.
        findings: what is odd about its windows.
    """

    read: Totals
    new: Totals
    waiting: Totals
    credentials: tuple[str, ...]
    findings: tuple[Finding, ...]


class IsolatedHost:
    """An isolated host's home, made by ``airgap init`` and ``airgap key generate``.

    Each method does what the command of its name does: the same checks, the same files, a run of its
    own in the home's audit log. None asks anything or prints anything.

    Args:
        home: the home's folder.
        clock: the present; None: the system's clock.

    Raises:
        UsageError: there is no home there, or it is a workstation's.
    """

    def __init__(self, home: Path | str, *, clock: Clock | None = None) -> None:
        self._home = open_home(Path(home))
        self._home.require("isolated")
        self._clock = clock or timestamps.system_clock
        self._catalog = catalog.load()
        self._script = Script(self._home.audit_path, self._clock)

    @property
    def source(self) -> str:
        """The source's name."""
        return self._home.name

    def collect(
        self,
        source: Path | str,
        *,
        license_files: Sequence[Path | str] = (),
        api_key_files: Sequence[Path | str] = (),
        kind: str | None = None,
        allow: Sequence[str] = (),
        pseudonymise: Sequence[str] = (),
        growing: bool = False,
        tables: Sequence[str] = (),
        columns: Sequence[str] = (),
        reading: Reading | None = None,
        take_exported: bool = False,
    ) -> Collection:
        """Take a file's or a database's records into the outbox, all or nothing; none twice.

        Args:
            source: JSON lines, a JSON document, LangSmith's CSV, or ``postgresql://USER@HOST/DATABASE``.
            license_files: files with the licence whose usage it is; only its fingerprint is kept.
            api_key_files: the same with API keys.
            kind: the kind of every request, where they do not say so.
            allow: unknown names that may leave, ``kind/map/name``.
            pseudonymise: fields in whose place a keyed pseudonym leaves.
            growing: whether a last line without its end is left for next time.
            tables: the tables that are read.
            columns: ``FIELD=COLUMN``, where a column's name is not the published one.
            reading: encoding, order of dates, zone and null of a CSV file.
            take_exported: whether rows of an export by other means are taken.

        Raises:
            UsageError: the source can't be opened, or an option names what is not known.
            InputRefusedError: something in it breaks its schema, or is unknown and not allowed;
                nothing of it was taken over.
        """
        order = collecting.Order(
            kind,
            tuple(allow),
            read_all(license_files, api_key_files),
            tuple(pseudonymise),
            growing,
            reading or Reading(),
            tuple(tables),
            tuple(columns),
            take_exported,
        )
        with self._script.run("collect"), self._collecting(order) as one:
            return _collection(one.take(str(source)), one)

    def add(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        license_files: Sequence[Path | str] = (),
        api_key_files: Sequence[Path | str] = (),
        kind: str | None = None,
        allow: Sequence[str] = (),
    ) -> Collection:
        """Take request bodies into the outbox, as ``collect`` does from a file that holds them.

        One call is one source: what it holds twice are two records, and what an earlier call held
        is known again and adds nothing.

        Args:
            requests: JSON objects, each a body as LangChain documents it, or wrapped with its kind.
            license_files: see ``collect``.
            api_key_files: see ``collect``.
            kind: see ``collect``.
            allow: see ``collect``.

        Raises:
            InputRefusedError: see ``collect``.
            TypeError: a value is none that JSON has.
        """
        lines = b"".join(orjson.dumps(dict(request)) + b"\n" for request in requests)
        order = collecting.Order(kind, tuple(allow), read_all(license_files, api_key_files))
        with self._script.run("add"), self._collecting(order) as one:
            return _collection(one.take_stream(io.BytesIO(lines), "requests.jsonl"), one)

    def export(
        self,
        folder: Path | str,
        *,
        passphrase: str | bytes | None = None,
        keys: Sequence[str] = (),
        again: bool = False,
        no_usage: tuple[datetime, datetime] | None = None,
        no_usage_of: Sequence[str] = (),
        seal_to: Sequence[str] = (),
        max_size: int = DEFAULT_MAX_SIZE,
        compression: Compression = "zstd",
        message: str | None = None,
        force: bool = False,
        note: bool = True,
    ) -> Exported:
        """Put what waits into signed bundles, and write what has not left yet to a folder.

        Args:
            folder: on the medium.
            passphrase: of the key.
            keys: names or files of the keys to sign with; none: the only one that fits.
            again: whether bundles that no receipt has confirmed are written again.
            no_usage: the time (UTC) to be declared as without usage, from when to before when.
            no_usage_of: the kinds that were without it; none for all.
            seal_to: names or fingerprints of who can open new bundles.
            max_size: largest file in bytes.
            compression: ``zstd`` or ``none``.
            message: what new bundles say for people.
            force: whether files of the same names with other content may be replaced.
            note: whether a note for the carrier goes beside each bundle.

        Raises:
            UsageError: a key, recipient, kind or time is not what it should be.
            TrustError: a key may not sign here.
            SequenceError: the clock is behind the newest bundle.
            MediumError: the medium refused; nothing is lost.
        """
        target = Path(folder)
        secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
        order = exporting.Order(
            target,
            passphrase_from(file=None, environment=secret, prompt=None),
            media.require_medium(target),
            again=again,
            max_size=max_size,
            compression=compression,
            no_usage=no_usage,
            kinds=tuple(no_usage_of),
            seal_to=tuple(seal_to),
            message=message,
            force=force,
            note=note,
            keys=tuple(keys),
        )
        with self._script.run("export"):
            return exporting.run(self._home, self._catalog, order, self._clock())

    def apply_receipts(self, *paths: Path | str) -> list[Applied]:
        """Confirm what receipts say was delivered; one that is refused does not stop the others.

        Args:
            paths: receipts, and folders that hold them.

        Returns:
            One entry per receipt; ``error`` says why one was refused.

        Raises:
            UsageError: a path does not exist.
            TrustError: the trust store is damaged, or past its time.
        """
        trust = trust_of(self._home, self._catalog, self._clock())
        with self._script.run("apply_receipts"), self._outbox() as outbox:
            return applying.run(
                self._home,
                outbox,
                trust,
                self._catalog,
                [Path(path) for path in paths],
                self._clock,
                lambda _: None,
            )

    def status(
        self, *, gap_over: timedelta = timedelta(days=1), max_age: timedelta = timedelta(days=35)
    ) -> Overview:
        """Return what waits, what is on its way, confirmed, missing and overdue.

        Args:
            gap_over: longest time without a record that is no gap.
            max_age: how old the newest confirmed report may be.
        """
        with self._outbox() as outbox:
            return overview.look(outbox, self._clock(), gap_over=gap_over, max_age=max_age)

    def _collecting(self, order: collecting.Order) -> collecting.Collecting:
        return collecting.Collecting(self._home, self._catalog, order, self._clock)

    @contextmanager
    def _outbox(self) -> Iterator[Outbox]:
        outbox = Outbox(self._home.outbox_path, self._home.name, self._catalog)
        try:
            yield outbox
        finally:
            outbox.close()


def _collection(read: collecting.Read, one: collecting.Collecting) -> Collection:
    return Collection(
        read.found.read,
        read.found.new,
        one.waiting(),
        tuple(sorted(one.credentials)),
        read.odd,
    )
