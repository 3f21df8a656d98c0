"""From a source's sightings to the outbox's records: known again, counted once, all or nothing.

By what a record is known again depends on its source. A row of a table is known by the table's
name and its id, as long as it counts the same for the same time. What has an identity of its own (a
trace transaction's ``id``) is known by that. Everything else is known by its content, and the n-th
repetition within one file is a record of its own. A row whose content was seen without a row is that
record, seen from another side.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from airgap import timestamps
from airgap.batches import Batches, Collected
from airgap.bundle import codec
from airgap.catalog import Kind
from airgap.errors import AirgapError, InputRefusedError
from airgap.limits import MAX_RECORD_SIZE
from airgap.outbox import Outbox
from airgap.records import Record, counted_digest, lasting_digest, note_window, record_id
from airgap.sightings import Plain, Shown, Sighting, SourceRow
from airgap.windows import Timeline


def collect(outbox: Outbox, shown: Iterable[Shown], now: datetime) -> Collected:
    """Take in what one source showed, all of it or nothing.

    Args:
        outbox: the outbox.
        shown: sightings of checked records, in the source's order; ``Plain`` ones only where nothing
            in the source has a pseudonym.
        now: the present.

    Raises:
        InputRefusedError: an identity or a row comes a second time with other content.
        DamagedError: the outbox does not hold what was read.
    """
    with outbox.database.transaction():
        collection = Collection(outbox, now)
        collection.take_all(shown)
        return collection.finish()


class Collection:
    """Takes sightings of one source into the outbox, within a transaction of its database.

    Args:
        outbox: the outbox.
        now: the present.
    """

    def __init__(self, outbox: Outbox, now: datetime) -> None:
        self._outbox = outbox
        self._connection = outbox.database.connection
        self._now = timestamps.to_text(now)
        self._before = outbox.last_number()
        known = self._connection.execute("SELECT kind, credential, windows FROM known_window")
        self._repeated: dict[tuple[str, bytes], int] = {}
        """By table and content: the first occurrence that no row of it has, where rows repeat."""
        self.collected = Collected(Timeline.knowing(known))
        self._batches = Batches(outbox, self._now, self._before, self.collected, self.take)
        self._connection.execute("DROP TABLE IF EXISTS temp.seen")
        self._connection.execute(
            "CREATE TEMP TABLE seen (id BLOB PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID"
        )

    def take_all(self, shown: Iterable[Shown]) -> None:
        """Take in all sightings, plain ones in batches; either all have rows, or none has.

        Raises:
            InputRefusedError: see ``collect``.
        """
        batches = self._batches
        try:
            for one in shown:
                if isinstance(one, Plain):
                    batches.add(one)
                else:
                    batches.flush()
                    self.take(one)
        except AirgapError:
            # What came before the error is to be refused before it.
            batches.flush()
            raise
        batches.flush()

    def take(self, sighting: Sighting) -> bool:
        """Take in one sighting; return whether it was new.

        Raises:
            InputRefusedError: see ``collect``; or the record is too large.
        """
        record = sighting.record
        kind = self._outbox.catalog.kind(record.kind)
        self.collected.read.add(kind, record.payload)
        lasting = b"" if kind.identity is None else lasting_digest(sighting.plain, kind)
        if sighting.row is None:
            occurrence = 0 if kind.identity else self._repetition(sighting.plain, kind)
            new = self._add(sighting, kind, occurrence, lasting) is not None
        else:
            new = self._take_row(sighting, sighting.row, kind, lasting)
        if new:
            self.collected.new.add(kind, record.payload)
            note_window(self.collected.timeline, record, kind, where=f"a {kind.name}")
        return new

    def finish(self) -> Collected:
        """Check that what is new is there, and remember its windows.

        Raises:
            DamagedError: the outbox does not hold what was read.
        """
        self._batches.look_back()
        self.collected.numbers = (self._before + 1, self._outbox.last_number())
        self._connection.execute("DROP TABLE temp.seen")
        self._connection.executemany(
            "INSERT OR REPLACE INTO known_window VALUES (?, ?, ?)", self.collected.timeline.known()
        )
        return self.collected

    def _take_row(self, sighting: Sighting, row: SourceRow, kind: Kind, lasting: bytes) -> bool:
        counted = counted_digest(sighting.plain.payload, kind)
        known = self._connection.execute(
            "SELECT counted, backfill_id FROM source_row WHERE table_name = ? AND row_id = ?",
            (row.table, row.row_id),
        ).fetchone()
        if known is not None:
            if known[0] != counted:
                raise _changed(f"row of {row.table}", f"id {row.row_id}")
            if known[1] is None and row.backfill_id is not None:
                self._connection.execute(
                    "UPDATE source_row SET backfill_id = ? WHERE table_name = ? AND row_id = ?",
                    (row.backfill_id, row.table, row.row_id),
                )
            return False
        content = (row.table, self._id(sighting.plain, kind, 0))
        occurrence, number, new = self._repeated.get(content, 0), None, False
        while number is None:
            number = self._add(sighting, kind, occurrence, lasting)
            new = number is not None
            if number is None:
                number = self._without_row(sighting, kind, occurrence, row.table)
            occurrence += 1
        if occurrence > 1:
            self._repeated[content] = occurrence
        self._connection.execute(
            "INSERT INTO source_row (table_name, row_id, number, counted, backfill_id)"
            " VALUES (?, ?, ?, ?, ?)",
            (row.table, row.row_id, number, counted, row.backfill_id),
        )
        return new

    def _without_row(
        self, sighting: Sighting, kind: Kind, occurrence: int, table: str
    ) -> int | None:
        """Return the number of a known record, unless another row of the table is that record."""
        number = self._number(self._id(sighting.plain, kind, occurrence))
        taken = self._connection.execute(
            "SELECT 1 FROM source_row WHERE number = ? AND table_name = ?", (number, table)
        ).fetchone()
        if taken is not None and kind.identity is not None:
            raise _changed(f"{kind.name}", f"{kind.identity} in two rows of {table}")
        return None if taken else number

    def _add(self, sighting: Sighting, kind: Kind, occurrence: int, lasting: bytes) -> int | None:
        """Add a record and return its number, or None where it is known."""
        known_as = self._id(sighting.plain, kind, occurrence)
        known = self._number(known_as)
        if known is not None:
            self._require_same(known, kind, sighting.record, lasting)
            return None
        record, identifier, same = self._free(sighting.record.repeated(occurrence), kind)
        if same is not None:
            self._note_pseudonymised(known_as, same, sighting)
            return None
        payload = codec.encode(record.payload)
        if len(payload) > MAX_RECORD_SIZE - 1024:
            raise InputRefusedError(
                f"a {kind.name} is too large",
                expected=f"at most {MAX_RECORD_SIZE - 1024} bytes",
                found=str(len(payload)),
            )
        number = self._connection.execute(
            "INSERT INTO record"
            " (id, kind, dialect, credential, occurrence, payload, lasting, collected_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                identifier,
                record.kind,
                record.dialect,
                record.credential,
                record.occurrence,
                payload,
                lasting,
                self._now,
            ),
        ).lastrowid
        assert number is not None
        self._connection.execute("INSERT INTO known_id VALUES (?, ?)", (identifier, number))
        self._batches.put_in.add([(record.kind.encode(), payload)])
        if sighting.pseudonymised or known_as != identifier:
            self._note_pseudonymised(known_as, number, sighting)
        return number

    def _free(self, record: Record, kind: Kind) -> tuple[Record, bytes, int | None]:
        """Return a record with an id that no other has, its id, and the number of one that it is.

        Two things that a source says can look the same under pseudonyms: a UUID in capitals is another
        text with the same pseudonym. They are two records, told apart by ``occurrence``. But what the
        capture endpoint kept is known by its pseudonyms alone, and a source that shows the same again
        shows that record.
        """
        while True:
            identifier = self._id(record, kind, record.occurrence)
            held = self._connection.execute(
                "SELECT number, EXISTS (SELECT 1 FROM pseudonymised AS p WHERE"
                " p.number = k.number AND p.known_as != k.id) FROM known_id AS k WHERE id = ?",
                (identifier,),
            ).fetchone()
            if held is None or not held[1]:
                return record, identifier, None if held is None else int(held[0])
            record = record.repeated(record.occurrence + 1)

    def _note_pseudonymised(self, known_as: bytes, number: int, sighting: Sighting) -> None:
        """Remember by what a source shows a record that leaves as something else."""
        self._connection.execute(
            "INSERT INTO pseudonymised VALUES (?, ?, ?)",
            (known_as, number, "\n".join(sighting.pseudonymised)),
        )

    def _number(self, known_as: bytes) -> int | None:
        """Return the number of the record that a source showed under this id, or None."""
        row = self._connection.execute(
            "SELECT number FROM known_id WHERE id = ?"
            " UNION ALL SELECT number FROM pseudonymised WHERE known_as = ? LIMIT 1",
            (known_as, known_as),
        ).fetchone()
        return None if row is None else int(row[0])

    def _require_same(self, number: int, kind: Kind, record: Record, lasting: bytes) -> None:
        if kind.identity is None:
            return
        row = self._connection.execute(
            "SELECT lasting FROM record WHERE number = ?", (number,)
        ).fetchone()
        if row[0] != lasting:
            raise _changed(kind.name, f"{kind.identity} {record.payload[kind.identity]}")

    def _id(self, record: Record, kind: Kind, occurrence: int) -> bytes:
        return record_id(self._outbox.source, replace(record, occurrence=occurrence), kind)

    def _repetition(self, record: Record, kind: Kind) -> int:
        """Return how often this source showed the same content before."""
        identifier = self._id(record, kind, 0)
        if self._connection.execute(
            "INSERT OR IGNORE INTO temp.seen VALUES (?, 0)", (identifier,)
        ).rowcount and not self._was_put(identifier):
            return 0
        self._connection.execute("UPDATE temp.seen SET n = n + 1 WHERE id = ?", (identifier,))
        row = self._connection.execute(
            "SELECT n FROM temp.seen WHERE id = ?", (identifier,)
        ).fetchone()
        return int(row[0])

    def _was_put(self, identifier: bytes) -> bool:
        """Tell whether a batch has put in the first record with this content, without a note of it."""
        if not self._batches.put:
            return False
        row = self._connection.execute(
            "SELECT 1 FROM known_id WHERE id = ? AND number > ?", (identifier, self._before)
        ).fetchone()
        return row is not None


def _changed(what: str, where: str) -> InputRefusedError:
    return InputRefusedError(
        f"a {what} comes again with other content",
        where=where,
        expected="what was collected under this id before",
        found="another count, window or credential",
        hint="find out which is right; nothing of this source was taken over",
    )
