"""A record as a source showed it: what it said, what may leave of that, and where it stood."""

from dataclasses import dataclass

from airgap.records import Record


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
