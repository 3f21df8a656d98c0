"""Plain sightings into the outbox, a batch at a time.

What is new is put in as it comes. Only where something of a batch is known already, each sighting of it
is looked at by itself: what is known and the same is counted as read, and whatever else there is goes
the way of ``Collection.take``, one by one and in order. So numbers, rows and refusals are those that
one by one would give, and a property test holds them to it.

After many batches with nothing but new ones, their ids are set aside (``airgap.known_ids``). If one of them
turns out to be known, all that was put in since is taken out and taken in again, with care.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import Any

from airgap import known_ids
from airgap.bundle import codec
from airgap.errors import DamagedError
from airgap.jsontext import canonical_of_exact
from airgap.known_ids import KnownIds, insert
from airgap.outbox import Outbox
from airgap.records import Record, RecordIds, Totals, counted_digest, lasting_of
from airgap.sightings import Plain, Sighting, SourceRow
from airgap.stored import Digest
from airgap.windows import Timeline

SIZE = 1000
"""Sightings of a batch; as many names as a statement may have values."""
LOOK_BACK = 10_000
"""Records after which the outbox is held against what was put in; so many are still in memory."""
CAREFUL = 20
"""Batches of nothing but new ones, one after another, before ids are set aside."""
_AT_ONCE = 50
"""Rows of one statement: each one that counts numbers up reads and writes where it stands."""
_PUT = (
    "INSERT INTO record"
    " (kind, dialect, credential, collected_at, number, id, occurrence, payload, lasting) VALUES "
)
_RECORD = "(?1, ?2, ?3, ?4, ?, ?, 0, ?, ?)"
"""What most records of a batch have in common is given once for all rows of a statement."""
_PUT_ROW = (
    "INSERT OR IGNORE INTO source_row (table_name, row_id, number, counted, backfill_id) VALUES "
)
_ROW = "(?, ?, ?, ?, ?)"
_AGAIN = (
    "CREATE TEMP TABLE again AS SELECT kind, dialect, credential, payload, table_name, row_id, backfill_id"
    " FROM record LEFT JOIN source_row USING (number) WHERE number > ? ORDER BY number"
)


@dataclass(slots=True)
class Collected:
    """What one collection found: totals read, of these new to the outbox, and the new windows.

    The timeline knows what was collected before, so that an overlap with that shows too.
    """

    timeline: Timeline
    read: Totals = field(default_factory=Totals)
    new: Totals = field(default_factory=Totals)
    numbers: tuple[int, int] = (1, 0)
    """First and last number of the new ones; the last is before the first where nothing is new."""


class Batches:
    """Takes plain sightings of one source, within a transaction of the outbox.

    Args:
        outbox: the outbox.
        now: the present, as the outbox keeps it.
        before: number of the newest record before the collection.
        collected: told what was found.
        take: takes one sighting the exact way.
    """

    def __init__(
        self,
        outbox: Outbox,
        now: str,
        before: int,
        collected: Collected,
        take: Callable[[Sighting], object],
    ) -> None:
        self._outbox = outbox
        self._connection: Connection = outbox.database.connection
        self._known = KnownIds(self._connection)
        self._new_batches = 0
        """Batches of nothing but new ones since there was something else."""
        self._is_careful = False
        """Whether no ids are set aside, whatever comes."""
        self._begun: tuple[int, Totals, Totals, Timeline] | None = None
        """Where ids began to be set aside: the last number, and what had been found; None: they are not."""
        self._now = now
        self._collected = collected
        self._take = take
        self._ids = RecordIds(outbox.source)
        self._before = before
        self.put_in = Digest()
        """What was put in behind the last record of which it is known that the outbox holds it."""
        self._held = before
        self._pseudonyms = self._first("SELECT EXISTS (SELECT 1 FROM pseudonymised)")
        self._waiting: list[Plain] = []
        self.put = False
        """Whether something was put in without a note of it in ``temp.seen``."""

    def add(self, one: Plain) -> None:
        """Take in one sighting, now or with those that follow.

        Raises:
            InputRefusedError: as ``Collection.take``, for this or an earlier one.
        """
        self._waiting.append(one)
        if len(self._waiting) >= SIZE:
            self._take_in()

    def flush(self) -> None:
        """Take in what waits, so that the outbox holds all that was added.

        Raises:
            InputRefusedError: as ``add``.
        """
        self._take_in()
        self._settle()

    def _take_in(self) -> None:
        if self._last() - self._held >= LOOK_BACK:
            self.look_back()
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        found = [(one, self._id(one)) for one in batch]
        if self._begun and self._known.apart >= known_ids.MOST:
            self._settle(go_on=True)
        if not self._pseudonyms and self._put_all(found):
            self._new_batches += 1
            if self._new_batches >= CAREFUL and self._begun is None and not self._is_careful:
                self._begin()
            return
        self._settle()
        self._sort_out(found)

    def _begin(self) -> None:
        """Let ids be set aside from now on."""
        found = self._collected
        self.look_back()
        self._begun = (self._last(), *deepcopy((found.read, found.new, found.timeline)))

    def _settle(self, *, go_on: bool = False) -> None:
        """Put in the ids that are set aside, and look again where one was known.

        Args:
            go_on: whether ids are still set aside then.

        Raises:
            InputRefusedError: as ``add``.
        """
        begun, self._begun = self._begun, None
        if begun is not None and self._known.apart and not self._known.join(begun[0]):
            self._take_again(*begun)
        elif begun is not None and go_on:
            self._begin()
        else:
            self._new_batches = 0

    def look_back(self) -> None:
        """Check that the outbox holds what was put in since this was last done.

        Where much is put in at once it stands in SQLite's journal until then (the WAL), and to find
        a page there takes the longer the more there is. So it is not left for the end.

        Raises:
            DamagedError: it holds something else.
        """
        outbox, last = self._outbox, self._last()
        if outbox.digest(self._held + 1) != self.put_in:
            outbox.totals(self._before + 1).require_equal(
                self._collected.new, here="the outbox", there="the source"
            )
            raise DamagedError(
                "the outbox does not hold what was put in",
                where=str(outbox.database.path),
                expected="the same records",
                found="others that come to the same totals",
                hint="nothing was taken over; check the disk, and report this, it should not happen",
            )
        self.put_in, self._held = Digest(), last

    def _take_again(self, last: int, read: Totals, new: Totals, timeline: Timeline) -> None:
        """Take everything behind a number out of the outbox, and in again with care."""
        found, execute = self._collected, self._connection.execute
        found.read, found.new, found.timeline = read, new, timeline
        self.put_in, self._held = Digest(), last
        execute(_AGAIN, (last,))
        self._take_out(last)
        self._is_careful = True
        for name, dialect, credential, payload, *place in execute("SELECT * FROM temp.again"):
            record = Record(name, dialect, credential, 0, codec.decode_own(payload))
            row = None if place[0] is None else SourceRow(*place)
            self.add(Plain.of(Sighting.of(record, row), self._outbox.catalog.kind(name)))
        self._take_in()
        execute("DROP TABLE temp.again")

    def _put_all(self, found: list[tuple[Plain, bytes]]) -> bool:
        """Put sightings in that are all new, or do nothing and return False."""
        last = self._last()
        ids = [identifier for _, identifier in found]
        if not self._known.put(ids, last + 1, apart=self._begun is not None):
            return False
        self._put_rows(found, last + 1)
        placed = [
            (
                one.row.table,
                one.row.row_id,
                number,
                _counted(one),
                one.row.backfill_id,
            )
            for number, (one, _) in enumerate(found, last + 1)
            if one.row is not None
        ]
        if insert(self._connection, _PUT_ROW, _ROW, placed, _AT_ONCE) < len(placed):
            self._known.take_back(ids, last)
            self._take_out(last)
            return False
        self.put = True
        self.put_in.add((one.kind.name.encode(), one.packed) for one, _ in found)
        self._count([one for one, _ in found], new=True)
        return True

    def _take_out(self, last: int) -> None:
        """Take out what went in behind a number, which is the newest that is there."""
        execute = self._connection.execute
        execute("DELETE FROM source_row WHERE number > ?", (last,))
        execute("DELETE FROM record WHERE number > ?", (last,))
        execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'record'", (last,))

    def _count(self, found: Sequence[Plain], *, new: bool) -> None:
        """Count what was read, and of what is new the windows."""
        by_kind: dict[str, list[Plain]] = {}
        for one in found:
            by_kind.setdefault(one.kind.name, []).append(one)
        totals = Totals()
        for several in by_kind.values():
            kind = several[0].kind
            used = totals.add_all(kind, [one.payload for one in several])
            if new and kind.period is not None:
                windows = [
                    (one.credential, one.window, counts)
                    for one, counts in zip(several, used, strict=True)
                    if one.window is not None
                ]
                alone = kind.identity is None
                self._collected.timeline.note_all(kind.name, windows, alone=alone)
        self._collected.read.merge(totals)
        if new:
            self._collected.new.merge(totals)

    def _put_rows(self, found: list[tuple[Plain, bytes]], number: int) -> None:
        """Put in the rows of sightings, which have numbers from one on."""
        alike: dict[tuple[str, str, str], list[tuple[object, ...]]] = {}
        for one, identifier in found:
            kind = one.kind
            lasting = b"" if kind.identity is None else _lasting(one)
            rows = alike.setdefault((kind.name, one.dialect, one.credential), [])
            rows.append((number, identifier, one.packed, lasting))
            number += 1
        for around, rows in alike.items():
            common = (*around, self._now)
            insert(self._connection, _PUT, _RECORD, rows, _AT_ONCE, common)

    def _sort_out(self, found: list[tuple[Plain, bytes]]) -> None:
        """Put in what is new, count what is known, and take the rest one by one, all in order."""
        ids = [identifier for _, identifier in found]
        known = {
            identifier: (number, lasting)
            for identifier, number, lasting in self._of(
                "SELECT k.id, k.number, lasting FROM known_id AS k JOIN record USING (number)"
                " WHERE k.id IN",
                ids,
            )
        }
        other = {
            row[0] for row in self._of("SELECT known_as FROM pseudonymised WHERE known_as IN", ids)
        }
        seen = {row[0] for row in self._of("SELECT id FROM temp.seen WHERE id IN", ids)}
        places = self._known_rows(found)
        new: list[tuple[Plain, bytes]] = []
        again: list[Plain] = []
        shown: set[object] = set()
        for one, identifier in found:
            place = None if one.row is None else (one.row.table, one.row.row_id)
            is_first = identifier not in shown and (place is None or place not in shown)
            shown |= {identifier, place}
            is_known = identifier in known or identifier in other or place in places
            if is_first and not is_known:
                new.append((one, identifier))
                continue
            if self._is_again(one, identifier, known, seen, places, is_first=is_first):
                if one.row is None and one.kind.identity is None:
                    self._connection.execute("INSERT INTO temp.seen VALUES (?, 0)", (identifier,))
                again.append(one)
                continue
            self._put_new(new)
            new = []
            self._take(one.sighting())
        self._put_new(new)
        self._count(again, new=False)

    def _put_new(self, new: list[tuple[Plain, bytes]]) -> None:
        if new and not self._put_all(new):
            for one, _ in new:
                self._take(one.sighting())

    def _is_again(
        self,
        one: Plain,
        identifier: bytes,
        known: dict[bytes, tuple[int, bytes]],
        seen: set[bytes],
        places: dict[tuple[str, str], tuple[bytes, str | None]],
        *,
        is_first: bool,
    ) -> bool:
        """Tell whether a sighting is one of a record that is known, and says nothing new of it."""
        if not is_first:
            return False
        if one.row is not None:
            held = places.get((one.row.table, one.row.row_id))
            if held is None or held[0] != _counted(one):
                return False
            return held[1] is not None or one.row.backfill_id is None
        if identifier not in known:
            return False
        number, lasting = known[identifier]
        if one.kind.identity is not None:
            return lasting == _lasting(one)
        return number <= self._before and identifier not in seen

    def _known_rows(
        self, found: list[tuple[Plain, bytes]]
    ) -> dict[tuple[str, str], tuple[bytes, str | None]]:
        by_table: dict[str, list[str]] = {}
        for one, _ in found:
            if one.row is not None:
                by_table.setdefault(one.row.table, []).append(one.row.row_id)
        places: dict[tuple[str, str], tuple[bytes, str | None]] = {}
        for table, row_ids in by_table.items():
            rows = self._of(
                "SELECT row_id, counted, backfill_id FROM source_row WHERE table_name = ? AND row_id IN",
                row_ids,
                table,
            )
            places.update({(table, row_id): (counted, mark) for row_id, counted, mark in rows})
        return places

    def _of(
        self, statement: str, values: Sequence[object], *first: object
    ) -> list[tuple[Any, ...]]:
        places = ",".join("?" * len(values))
        return self._connection.execute(f"{statement} ({places})", (*first, *values)).fetchall()

    def _id(self, one: Plain) -> bytes:
        kind = one.kind
        if kind.identity is None:
            return self._ids.of_content(kind, one.dialect, one.credential, one.canonical)
        return self._ids.of_identity(kind, str(one.payload[kind.identity]))

    def _last(self) -> int:
        return self._first("SELECT seq FROM sqlite_sequence WHERE name = 'record'")

    def _first(self, statement: str) -> int:
        row = self._connection.execute(statement).fetchone()
        return 0 if row is None else int(row[0])


def _lasting(one: Plain) -> bytes:
    return lasting_of(one.kind, one.dialect, one.credential, one.payload, canonical_of_exact)


def _counted(one: Plain) -> bytes:
    return counted_digest(one.payload, one.kind, canonical_of_exact)
