"""A record as a source showed it: what it said, what may leave of that, and where it stood."""

from dataclasses import dataclass
from typing import NamedTuple

from airgap import jsontext
from airgap.bundle import codec
from airgap.catalog import JsonObject, Kind
from airgap.coverage import Window
from airgap.records import Record, window
from airgap.windows import micros


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of one of LangSmith's tables.

    Args:
        table: the table's name, as ``schemas/tables.json`` has it.
        row_id: the row's id, in lower case.
        backfill_id: the export that the row says it is part of, or None.
    """

    table: str
    row_id: str
    backfill_id: str | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A record as a source showed it.

    Args:
        record: what may leave, with occurrence 0.
        plain: what the source said; the same but for pseudonyms and for how a body was packed. It
            is never kept: by it the record is known again, also after the site has changed its mind
            about pseudonyms.
        pseudonymised: which names have pseudonyms in ``record``, as ``kind/name``.
        row: the table's row that it came from, or None.
    """

    record: Record
    plain: Record
    pseudonymised: tuple[str, ...] = ()
    row: SourceRow | None = None

    @classmethod
    def of(cls, record: Record, row: SourceRow | None = None) -> "Sighting":
        """Return a sighting of a record that leaves as it was."""
        return cls(record, record, (), row)

    @property
    def credential(self) -> str:
        """Fingerprint of the credential that it is counted under."""
        return self.record.credential


class Plain(NamedTuple):
    """A sighting of a record that leaves as it was, with what was made of it on the way.

    Args:
        kind: the record's kind.
        dialect: its dialect.
        credential: fingerprint of its credential.
        payload: its payload.
        canonical: the payload's canonical JSON.
        packed: the payload as it is stored.
        window: of kinds with one: start and end as they are said, in microseconds since 1970.
        row: the table's row that it came from, or None.
    """

    kind: Kind
    dialect: str
    credential: str
    payload: JsonObject
    canonical: bytes
    packed: bytes
    window: Window | None
    row: SourceRow | None

    @classmethod
    def of(cls, sighting: Sighting, kind: Kind) -> "Plain":
        """Return the same sighting of a record that leaves as it was, with occurrence 0.

        Raises:
            InputRefusedError: a time lies outside the years 1 to 9999.
        """
        record = sighting.record
        times = window(kind, record.payload, where=f"a {kind.name}")
        return cls(
            kind,
            record.dialect,
            record.credential,
            record.payload,
            jsontext.canonical(record.payload),
            codec.encode(record.payload),
            None if times is None else (micros(times[0]), micros(times[1])),
            sighting.row,
        )

    def sighting(self) -> Sighting:
        """Return the same sighting without what was made of it."""
        record = Record(self.kind.name, self.dialect, self.credential, 0, self.payload)
        return Sighting.of(record, self.row)


Shown = Sighting | Plain
"""What a source shows; ``Plain`` where it took the quick way."""
