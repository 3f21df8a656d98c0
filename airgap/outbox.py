"""The outbox: what waits on the isolated host, in which bundle it left, what is confirmed.

A record is in at most one bundle. Bundles take records in the order in which they were
collected, so a bundle is a range of row numbers. A record counts as done only when a verified
receipt says ``delivered`` (``airgap.confirmation``); export changes nothing about that. Pruning
takes a confirmed record's payload away and leaves its id, so that it is never collected again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from airgap import stored, timestamps
from airgap.bundle import codec
from airgap.catalog import Catalog, JsonObject
from airgap.coverage import Coverage
from airgap.database import Database
from airgap.errors import DamagedError
from airgap.outbox_layout import (
    APPLICATION,
    LAYOUT,
    SOURCES,
    TOLD_BY,
    VERSION,
    from_first,
    from_third,
)
from airgap.records import KindTotal, Record, Totals, note_window
from airgap.stored import Digest
from airgap.text import printable
from airgap.windows import Covered, Timeline, from_json, micros, to_json

_BATCH = 1000
_CACHE = 32 * 1024**2
"""Most bytes of the file that are held in memory, and most of what is set aside (``known_ids``)."""


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A bundle that the outbox has made.

    Args:
        sequence: number in the chain.
        bundle_id: its id.
        file_name: name of the file, in the home's ``bundles`` folder and on media.
        first: number of its first record in the outbox.
        last: number of its last record.
        created_at: when it was made.
        written_to: where it was last written, or None where it never reached a medium.
        pruned: whether its records' payloads were taken away.
        adopted: whether it was not made by this outbox, but before it was restored; it holds no
            records here.
    """

    sequence: int
    bundle_id: str
    file_name: str
    first: int
    last: int
    created_at: str
    written_to: str | None
    pruned: bool = False
    adopted: bool = False


class StoredRecord(NamedTuple):
    """A record as the outbox holds it; ``payload`` is encoded."""

    number: int
    kind: str
    dialect: str
    credential: str
    occurrence: int
    payload: bytes

    def record(self) -> Record:
        """Return the record."""
        return Record(*self[1:5], codec.decode_own(self.payload))


class Outbox:
    """The outbox of one isolated host.

    Args:
        path: the SQLite file; made where it does not exist.
        source: the source's name, part of every record's id.
        catalog: schemas and kinds.
    """

    def __init__(self, path: Path, source: str, catalog: Catalog) -> None:
        self.source = source
        self.catalog = catalog
        self.database = Database(
            path,
            LAYOUT,
            VERSION,
            application=APPLICATION,
            upgrades={1: partial(from_first, catalog=catalog), 2: SOURCES, 3: from_third},
            told_by=TOLD_BY,
        )
        self._connection = self.database.connection
        # Ids come in no order: with the default of 2 MB each page of theirs is read and written again and
        # again.
        for schema in ("main", "temp"):
            self._connection.execute(f"PRAGMA {schema}.cache_size = -{_CACHE // 1024}")

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def next_bundle(self) -> tuple[int, str | None, int]:
        """Return sequence and previous bundle's id for the next bundle, and its first record."""
        row = self._connection.execute(
            "SELECT sequence, bundle_id, last FROM bundle ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        return (1, None, 1) if row is None else (row[0] + 1, row[1], row[2] + 1)

    def records(self, first: int, last: int | None = None) -> Iterator[tuple[int, Record]]:
        """Yield number and record from ``first`` to ``last``, or to the end."""
        for some in self.stored(first, last):
            for one in some:
                yield one.number, one.record()

    def stored(self, first: int, last: int | None = None) -> Iterator[list[StoredRecord]]:
        """Yield records from ``first`` to ``last``, or to the end, some at a time."""
        rows = self._connection.execute(
            "SELECT number, kind, dialect, credential, occurrence, payload FROM record"
            " WHERE number BETWEEN ? AND ? ORDER BY number",
            (first, last if last is not None else 2**62),
        )
        while some := rows.fetchmany(_BATCH):
            yield [StoredRecord._make(row) for row in some]

    def counted(self, first: int, last: int, totals: Totals) -> Totals:
        """Return totals with the number of records that are in a range in the place of their own."""
        sums = {name: total.sums for name, total in totals.kinds.items()}
        counts = self._tally("kind", list(sums), first, last)
        return Totals({name: KindTotal(count, sums.get(name, {})) for name, count in counts})

    def _tally(
        self, column: str, likely: Sequence[str], first: int, last: int
    ) -> list[tuple[str, int]]:
        """Return the values of a column in a range of records, and how often each is there.

        To group rows, SQLite sorts all of them, in as much memory as it may have for its cache; what is
        likely to be there is counted as it comes by.
        """
        each = "".join(f", count(*) FILTER (WHERE {column} = ?)" for _ in likely)
        every, *found = self._connection.execute(
            f"SELECT count(*){each} FROM record WHERE number BETWEEN ? AND ?",
            (*likely, first, last),
        ).fetchone()
        counts = [(name, n) for name, n in zip(likely, found, strict=True) if n]
        if sum(found) < every:
            known = ",".join("?" * len(likely))
            counts += self._connection.execute(
                f"SELECT {column}, count(*) FROM record WHERE number BETWEEN ? AND ?"
                f" AND {column} NOT IN ({known}) GROUP BY 1",
                (first, last, *likely),
            )
        return counts

    def totals(self, first: int, last: int | None = None) -> Totals:
        """Return the totals of a range of records, added up from what is stored."""
        totals = Totals()
        rows = self._connection.execute(
            "SELECT kind, payload FROM record WHERE number BETWEEN ? AND ?",
            (first, last if last is not None else 2**62),
        )
        while some := rows.fetchmany(_BATCH):
            by_kind: dict[str, list[bytes]] = {}
            for name, payload in some:
                by_kind.setdefault(name, []).append(payload)
            for name, payloads in by_kind.items():
                kind = self.catalog.kind(name)
                totals.add_all(kind, stored.counted(kind, payloads))
        return totals

    def digest(self, first: int) -> Digest:
        """Return the digest of all records from ``first`` on."""
        found = Digest()
        rows = self._connection.execute(
            "SELECT CAST(kind AS BLOB), payload FROM record WHERE number >= ? ORDER BY number",
            (first,),
        )
        while some := rows.fetchmany(_BATCH):
            found.add(some)
        return found

    def pseudonymised(self, first: int, last: int) -> list[str]:
        """Return which names have pseudonyms in a range of records, sorted, as ``kind/name``."""
        rows = self._connection.execute(
            "SELECT DISTINCT names FROM pseudonymised WHERE number BETWEEN ? AND ?", (first, last)
        )
        return sorted({name for (names,) in rows for name in names.split("\n") if name})

    def add_bundle(self, bundle: StoredBundle, manifest: bytes, timeline: Timeline) -> None:
        """Store that a bundle was made; its records are from now on in it and in no other."""
        with self.database.transaction() as connection:
            if self.next_bundle()[0] != bundle.sequence:
                raise DamagedError(
                    "another export made a bundle in the meantime",
                    where=str(self.database.path),
                    hint="run the command again",
                )
            connection.execute(
                "INSERT INTO bundle (sequence, bundle_id, file_name, first, last, created_at,"
                " manifest, covered, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    bundle.sequence,
                    bundle.bundle_id,
                    bundle.file_name,
                    bundle.first,
                    bundle.last,
                    bundle.created_at,
                    manifest,
                    to_json(timeline.covered()),
                    to_json(timeline.used()),
                ),
            )

    def mark_written(self, sequence: int, folder: str, now: datetime) -> None:
        """Store that a bundle was written to a medium and read back."""
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE bundle SET written_to = ?, written_at = ? WHERE sequence = ?",
                (printable(folder, 4096), timestamps.to_text(now), sequence),
            )

    def bundles(self) -> list[StoredBundle]:
        """Return all bundles in order."""
        rows = self._connection.execute(
            "SELECT sequence, bundle_id, file_name, first, last, created_at, written_to,"
            " pruned_at IS NOT NULL, manifest IS NULL FROM bundle ORDER BY sequence"
        )
        return [StoredBundle(*(*row[:7], bool(row[7]), bool(row[8]))) for row in rows]

    def manifest(self, bundle: StoredBundle) -> JsonObject | None:
        """Return a stored bundle's manifest, or None for one that was adopted."""
        row = self._connection.execute(
            "SELECT manifest FROM bundle WHERE sequence = ?", (bundle.sequence,)
        ).fetchone()
        value: JsonObject | None = None if row[0] is None else codec.decode_own(row[0])
        return value

    def covered(self, bundle: StoredBundle) -> tuple[Covered, Covered]:
        """Return the windows of a bundle's records per kind: all, and those that count something."""
        row = self._connection.execute(
            "SELECT covered, used FROM bundle WHERE sequence = ?", (bundle.sequence,)
        ).fetchone()
        return from_json(row[0]), from_json(row[1])

    def outcomes(self, bundle: StoredBundle) -> dict[str, int]:
        """Return how many of a bundle's records have which outcome; ``unknown`` without one."""
        names = ("delivered", "dead", "in_doubt", "waiting", "unknown")
        column = "coalesce(outcome, 'unknown')"
        return dict(self._tally(column, names, bundle.first, bundle.last))

    def is_confirmed(self, bundle: StoredBundle) -> bool:
        """Tell whether a receipt or code is there and every record was delivered."""
        if bundle.adopted:
            return False
        (found,) = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM receipt WHERE sequence = ?) AND NOT EXISTS (SELECT 1 FROM record"
            " WHERE number BETWEEN ? AND ? AND outcome IS NOT 'delivered')",
            (bundle.sequence, bundle.first, bundle.last),
        ).fetchone()
        return bool(found)

    def unknown_time(self) -> Coverage:
        """Return the time for which bundles that this outbox has forgotten may hold reports.

        From the end of what it knows to when it was made to go on behind them.
        """
        unknown, end = Coverage(), 0
        for bundle in self.bundles():
            if bundle.adopted:
                unknown.add(end, micros(timestamps.parse(bundle.created_at)))
            for windows in self.covered(bundle)[0].values():
                end = max(end, windows[-1][1])
        return unknown

    def require_whole(self) -> None:
        """Check that bundles are ranges that follow each other: every record is in one, or waits.

        Raises:
            DamagedError: a record would be in none, or in two.
        """
        end = 0
        for bundle in self.bundles():
            skipped = self._connection.execute(
                "SELECT count(*) FROM record WHERE number > ? AND number < ?", (end, bundle.first)
            ).fetchone()[0]
            if skipped or bundle.first <= end:
                raise DamagedError(
                    "a record would be in no bundle, or in two",
                    where=str(self.database.path),
                    hint="nothing was changed; keep the home as it is and report this",
                )
            end = max(end, bundle.last)

    def has_waiting(self) -> bool:
        """Tell whether a record is in no bundle yet."""
        return self.last_number() >= self.next_bundle()[2]

    def waiting(self) -> Totals:
        """Return the totals of records that are in no bundle yet."""
        return self.totals(self.next_bundle()[2])

    def confirmed(self) -> Totals:
        """Return the totals of records that a receipt or code showed to be delivered."""
        totals = Totals()
        for bundle in self.bundles():
            manifest = self.manifest(bundle)
            if manifest is not None and self.is_confirmed(bundle):
                totals.merge(Totals.from_map(manifest["totals"]))
                continue
            rows = self._connection.execute(
                "SELECT kind, payload FROM record WHERE outcome = 'delivered'"
                " AND number BETWEEN ? AND ? ORDER BY number",
                (bundle.first, bundle.last),
            )
            for kind, payload in rows:
                totals.add(self.catalog.kind(kind), codec.decode_own(payload))
        return totals

    def last_receipt(self) -> str | None:
        """Return when the newest applied receipt was made, or None."""
        row = self._connection.execute("SELECT max(created_at) FROM receipt").fetchone()
        return None if row is None else row[0]

    def proofs(self) -> dict[int, set[str]]:
        """Return by what each bundle was answered: ``receipt``, ``code``, or both."""
        found: dict[int, set[str]] = {}
        for sequence, proof in self._connection.execute("SELECT sequence, proof FROM receipt"):
            found.setdefault(sequence, set()).add(proof)
        return found

    def oldest_unconfirmed(self) -> str | None:
        """Return when the oldest record without a delivered outcome was collected, or None."""
        row = self._connection.execute(
            "SELECT min(collected_at) FROM record WHERE outcome IS NOT 'delivered'"
        ).fetchone()
        return None if row is None else row[0]

    def waiting_timeline(self) -> Timeline:
        """Return the windows of records that are in no bundle yet."""
        timeline = Timeline()
        for number, record in self.records(self.next_bundle()[2]):
            kind = self.catalog.kind(record.kind)
            note_window(timeline, record, kind, where=f"record {number} of the outbox")
        return timeline

    def last_number(self) -> int:
        """Return the number of the newest record, or 0."""
        row = self._connection.execute("SELECT coalesce(max(number), 0) FROM record").fetchone()
        return int(row[0])
