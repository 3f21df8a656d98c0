"""From the outbox's rows into a bundle's chunks.

A payload stands in the outbox as it stands in a bundle, so its bytes are taken over, and of what they
encode no more is read than the manifest tells. What was written is read and checked as a whole
afterwards, as an importer does it (``export.Maker``).
"""

from collections.abc import Sequence

from airgap import windows
from airgap.bundle import codec
from airgap.bundle.writer import Writer
from airgap.catalog import Catalog, Kind
from airgap.contents import Contents
from airgap.limits import MAX_INTEGER
from airgap.outbox import Outbox, StoredRecord
from airgap.records import Record, Totals
from airgap.stored import Facts, FactsReader

_FEW_NAMES = 500
_FEW_MEASURES = 2000
"""As long as there are no more, one batch breaks no bound of the manifest's schema."""


class Packing:
    """Puts records into one bundle until none is left or it is full.

    Args:
        writer: of the bundle.
        contents: told what is put in.
        outbox: where records come from.
        catalog: schemas and kinds.
        max_size: largest file in bytes.
    """

    def __init__(
        self, writer: Writer, contents: Contents, outbox: Outbox, catalog: Catalog, max_size: int
    ) -> None:
        self._writer = writer
        self._contents = contents
        self._outbox = outbox
        self._catalog = catalog
        self._max_size = max_size
        self._reader = FactsReader()
        self._starts: dict[tuple[str, str, str, int], bytes] = {}

    def run(self, first: int) -> int:
        """Put in records from ``first`` on, and return the number of the last.

        Raises:
            InputRefusedError: a record is too large, or a time lies outside the years 1 to 9999.
        """
        last = first - 1
        for batch in self._outbox.stored(first):
            if self._put_all(batch):
                last = batch[-1].number
                continue
            for one in batch:
                record, kind = one.record(), self._catalog.kind(one.kind)
                if last >= first and (
                    self._writer.size_at_most + _size_bound(record) > self._max_size
                    or self._contents.is_full_for(record, kind)
                ):
                    return last
                where = f"record {one.number} of the outbox"
                self._contents.add(record, kind, where=where)
                self._writer.add(record.as_map())
                last = one.number
        return last

    def _put_all(self, batch: Sequence[StoredRecord]) -> bool:
        """Put in a batch, or nothing of it where a bound may be near or something is odd."""
        payloads = [one.payload for one in batch]
        size, largest = sum(map(len, payloads)) + 1024 * len(batch), max(map(len, payloads))
        if self._writer.size_at_most + size + size // 64 + 65_536 + 4 * largest > self._max_size:
            return False
        try:
            found = self._facts(batch)
        except ValueError:
            return False
        totals, contents = Totals(), self._contents
        used = [totals.add_all(kind, (f[0] for f in facts)) for kind, _, facts in found]
        totals.merge(contents.totals)
        credentials = {one.credential for one in batch} | contents.credentials
        allowed = contents.allowed.union(
            f"{kind.name}/{name}" for kind, _, facts in found for f in facts for name in f[2]
        )
        if max(len(credentials), len(allowed)) > _FEW_NAMES or _is_near_full(totals):
            return False
        contents.totals, contents.credentials, contents.allowed = totals, credentials, allowed
        for (kind, several, facts), counts in zip(found, used, strict=True):
            self._note(kind, several, facts, counts)
        self._writer.add_all([self._start(*one[1:5]) + one[5] for one in batch])
        return True

    def _facts(
        self, batch: Sequence[StoredRecord]
    ) -> list[tuple[Kind, list[StoredRecord], list[Facts]]]:
        by_kind: dict[str, list[StoredRecord]] = {}
        for one in batch:
            by_kind.setdefault(one.kind, []).append(one)
        found: list[tuple[Kind, list[StoredRecord], list[Facts]]] = []
        for name, several in by_kind.items():
            kind = self._catalog.kind(name)
            facts = list(self._reader.read(kind, [one.payload for one in several]))
            found.append((kind, several, facts))
        return found

    def _note(
        self,
        kind: Kind,
        several: Sequence[StoredRecord],
        facts: Sequence[Facts],
        used: Sequence[bool],
    ) -> None:
        """Tell period and timeline the windows of records of a kind that has them."""
        found = [
            (one.credential, window, counts)
            for one, (_, window, _), counts in zip(several, facts, used, strict=True)
            if window is not None
        ]
        if not found:
            return
        self._contents.timeline.note_all(kind.name, found, alone=kind.identity is None)
        distinct = {window for _, window, _ in found}
        lowest, highest = min(map(min, distinct)), max(map(max, distinct))
        self._contents.period.add(windows.instant(lowest), windows.instant(highest))

    def _start(self, kind: str, dialect: str, credential: str, occurrence: int) -> bytes:
        """Return a record's encoding up to its payload."""
        key = (kind, dialect, credential, occurrence)
        found = self._starts.get(key)
        if found is None:
            # An empty payload is one byte, the last.
            found = codec.encode(Record(*key, {}).as_map())[:-1]
            if len(self._starts) < _FEW_NAMES:
                self._starts[key] = found
        return found


def _is_near_full(totals: Totals) -> bool:
    return any(
        len(total.sums) > _FEW_MEASURES or max(total.sums.values(), default=0) > MAX_INTEGER
        for total in totals.kinds.values()
    )


def _size_bound(record: Record) -> int:
    body = record.payload.get("body")
    return 65_536 + (4 * len(body) if isinstance(body, str) else 0)
