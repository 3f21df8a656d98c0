"""One collection from start to end: sources opened, read into the outbox, and noted in the audit log."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

from airgap import captured, credentials
from airgap.audit import record
from airgap.batches import Collected
from airgap.catalog import Catalog
from airgap.collect import csvfiles, pseudonyms
from airgap.collect.payloads import Rules
from airgap.collect.quick import Quick
from airgap.collect.sources import Reader, Source, tables_of
from airgap.collection import collect
from airgap.findings import Finding, of_timeline
from airgap.home import Home
from airgap.limits import MAX_RECORD_SIZE
from airgap.outbox import Outbox
from airgap.records import Totals
from airgap.sightings import Plain, Shown, Sighting
from airgap.timestamps import Clock


@dataclass(frozen=True, slots=True)
class Order:
    """How sources are to be read.

    Args:
        kind: the kind of every request, or None where each says so itself.
        allow: unknown names that may leave, ``kind/map/name``.
        credentials: ``(type, credential)`` of whose usage it is where a source carries none; only
            fingerprints are kept.
        pseudonymise: fields in whose place a keyed pseudonym leaves.
        growing: whether a last line without its end is left for next time.
        reading: how CSV files are read.
        tables: the tables that are read, of CSV files and databases; none: those that count usage.
        columns: ``FIELD=COLUMN``, where a column's name is not the published one.
        take_exported: whether rows are taken that belong to an export by other means.
        ask: asks for a database's password, or None.
    """

    kind: str | None = None
    allow: Sequence[str] = ()
    credentials: Sequence[tuple[str, str]] = ()
    pseudonymise: Sequence[str] = ()
    growing: bool = False
    reading: csvfiles.Reading = field(default_factory=csvfiles.Reading)
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    take_exported: bool = False
    ask: Callable[[str], str] | None = None

    def rules(self, catalog: Catalog) -> Rules:
        """Return the site's decisions about what is collected.

        Raises:
            UsageError: the kind is unknown.
        """
        only = catalog.kind(self.kind).name if self.kind else None
        defaults = {name: credentials.fingerprint(name, key) for name, key in self.credentials}
        return Rules(only, defaults, frozenset(self.allow))


@dataclass(frozen=True, slots=True)
class Read:
    """One source that was taken in.

    Args:
        source: the source; closed.
        found: what it gave.
        odd: what is odd about its windows.
    """

    source: Source
    found: Collected
    odd: tuple[Finding, ...]


class Collecting:
    """Takes sources into a home's outbox, each as a whole or not at all.

    Args:
        home: the isolated side's home.
        catalog: schemas and kinds.
        order: how sources are to be read.
        clock: the present.

    Raises:
        UsageError: a kind, table, field or pseudonym is unknown.
    """

    def __init__(self, home: Home, catalog: Catalog, order: Order, clock: Clock) -> None:
        rules = order.rules(catalog)
        self._changed = pseudonyms.of_home(order.pseudonymise, home, catalog)
        langsmith = tables_of(catalog, order.tables, order.columns)
        self._clock = clock
        self.credentials: set[str] = set()
        """Fingerprints of whose usage was read."""
        self._new: list[tuple[Totals, tuple[int, int]]] = []
        self.outbox = Outbox(home.outbox_path, home.name, catalog)
        self.reader = Reader(
            home,
            self.outbox,
            catalog,
            rules,
            order.growing,
            order.reading,
            langsmith,
            frozenset(order.tables),
            order.take_exported,
            order.ask,
            Quick(catalog, rules),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.outbox.close()

    def take(self, name: str) -> Read:
        """Take in one source: a file, ``-`` for standard input, or a database's URL.

        Raises:
            UsageError: it can't be opened.
            InputRefusedError: something in it breaks its schema, or is not known and not allowed.
            DamagedError: the outbox does not hold what was read.
        """
        return self._take(self.reader.open(name))

    def take_stream(self, stream: BinaryIO, name: str) -> Read:
        """Take in a stream that can be rewound; arguments and errors as ``take``."""
        return self._take(self.reader.of_stream(stream, name))

    def waiting(self) -> Totals:
        """Return what is in no bundle yet, captured reports included."""
        outbox, totals = self.outbox, Totals()
        position = outbox.next_bundle()[2]
        for new, (first, last) in self._new:
            # What was counted when it was taken in is not read again.
            if position <= first <= last:
                totals.merge(outbox.totals(position, first - 1))
                totals.merge(new)
                position = last + 1
        totals.merge(outbox.totals(position))
        totals.merge(captured.waiting_totals(outbox))
        return totals

    def _take(self, source: Source) -> Read:
        with closing(source):
            found = collect(self.outbox, self._noted(source), self._clock())
        self._new.append((found.new, found.numbers))
        odd = of_timeline(found.timeline, self._clock(), "this clock")
        record(
            "collected",
            source=source.name,
            read=found.read.as_map(),
            new=found.new.as_map(),
            findings=[f.code for f in odd],
        )
        return Read(source, found, tuple(odd))

    def _noted(self, source: Source) -> Iterator[Shown]:
        latest = None
        for one in source.sightings:
            if one.credential is not latest:
                latest = one.credential
                self.credentials.add(latest)
            if self._changed is not None:
                # What has a pseudonym is taken in one by one, and so is the rest of its source.
                yield self._changed.applied(one.sighting() if isinstance(one, Plain) else one)
            else:
                yield one if isinstance(one, Plain) else self._plain(one)

    def _plain(self, one: Sighting) -> Shown:
        plain = Plain.of(one, self.reader.catalog.kind(one.record.kind))
        # What is too large is refused with its words, one by one.
        return one if len(plain.packed) > MAX_RECORD_SIZE - 1024 else plain
