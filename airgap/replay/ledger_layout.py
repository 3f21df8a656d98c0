"""The ledger's tables, and the values that go in and out of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from airgap.catalog import JsonObject
from airgap.records import Record
from airgap.windows import Covered, Declaration, Timeline, micros

State = Literal["waiting", "sending", "delivered", "dead", "in_doubt"]
SETTLED_OUTCOMES = ("delivered", "dead", "in_doubt", "waiting")

LAYOUTS = (1, 2, 3, 4)
"""Layouts that can be used, oldest first; the first ones are made the last one when they are opened."""
VERSION = LAYOUTS[-1]
APPLICATION = "aled"
"""What tells a ledger from other databases; see ``Database``."""
TOLD_BY = ("bundle_record", "bundle")
"""What only a ledger has; see ``Database``."""
EVENT = """\
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    record INTEGER NOT NULL REFERENCES record,
    at TEXT NOT NULL,
    state TEXT NOT NULL,
    status INTEGER,
    detail TEXT
) STRICT;
CREATE INDEX event_by_record ON event (record)"""
COUNTS = """\
CREATE TABLE bundle_kind (
    bundle INTEGER NOT NULL REFERENCES bundle,
    kind TEXT NOT NULL,
    records INTEGER NOT NULL,
    fresh INTEGER NOT NULL,
    PRIMARY KEY (bundle, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_conflict ON bundle_record (bundle) WHERE conflict IS NOT NULL;
CREATE TABLE delivered_bundle (
    bundle INTEGER NOT NULL REFERENCES bundle,
    digest TEXT,
    digest_with_answers TEXT,
    first_start INTEGER,
    last_start INTEGER,
    PRIMARY KEY (bundle)
) STRICT"""
"""What is known of bundles without a look at their records; none of it can change any more.

``bundle_kind``: how many records of a kind a bundle holds, and how many of these no earlier bundle had
brought. ``delivered_bundle``: that it was seen to be delivered as a whole, which is for good; the digest
over its outcomes as receipts have it, without answers or with them; and, in microseconds since 1970, when
the first and the last window of its records start.
"""
RECORD = """\
CREATE TABLE record (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    dialect TEXT NOT NULL,
    credential TEXT NOT NULL,
    occurrence INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT"""
RECORD_BY_ID = "CREATE UNIQUE INDEX record_by_id ON record (id)"
STATES = """\
CREATE TABLE open_record (
    record INTEGER NOT NULL PRIMARY KEY REFERENCES record,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sending', 'dead', 'in_doubt')),
    attempts INTEGER NOT NULL DEFAULT 0,
    doubted INTEGER NOT NULL DEFAULT 0,
    status INTEGER,
    detail TEXT,
    answer TEXT,
    changed_at TEXT NOT NULL
) STRICT;
CREATE TABLE delivered_record (
    record INTEGER NOT NULL PRIMARY KEY,
    attempts INTEGER NOT NULL,
    doubted INTEGER NOT NULL,
    status INTEGER,
    detail TEXT,
    answer TEXT,
    changed_at TEXT NOT NULL
) STRICT"""
"""What became of records, apart from their payloads: each is in one of the two tables.

A record's state changes three times at least, and a row is written as a whole. Nearly all of a large
ledger is delivered, so what is not is found by its being in a small table, without an index. The second
refers to nothing, since its rows come out of the first, and in PostgreSQL each reference locks a row.
"""
RECORD_STATE = """\
CREATE VIEW record_state AS
    SELECT r.number, r.id, r.kind, r.dialect, r.credential, r.occurrence, r.payload,
        CASE WHEN d.record IS NULL THEN o.state ELSE 'delivered' END AS state,
        coalesce(d.attempts, o.attempts) AS attempts, coalesce(d.doubted, o.doubted) AS doubted,
        coalesce(d.status, o.status) AS status, coalesce(d.detail, o.detail) AS detail,
        coalesce(d.answer, o.answer) AS answer, coalesce(d.changed_at, o.changed_at) AS changed_at
    FROM record r LEFT JOIN delivered_record d ON d.record = r.number
    LEFT JOIN open_record o ON o.record = r.number"""
"""Both tables, for who looks at single records."""
LAYOUT = f"""
CREATE TABLE bundle (
    number INTEGER PRIMARY KEY,
    bundle_id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    previous TEXT,
    created INTEGER NOT NULL,
    imported_at TEXT NOT NULL,
    envelope BLOB NOT NULL,
    covered TEXT NOT NULL,
    used TEXT NOT NULL,
    no_usage_from INTEGER,
    no_usage_to INTEGER,
    no_usage_kinds TEXT,
    UNIQUE (source, sequence)
) STRICT;
CREATE TABLE known_window (
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    credential TEXT NOT NULL,
    windows BLOB NOT NULL,
    PRIMARY KEY (source, kind, credential)
) STRICT, WITHOUT ROWID;
{RECORD};
{RECORD_BY_ID};
{STATES};
{RECORD_STATE};
{EVENT};
CREATE TABLE bundle_record (
    bundle INTEGER NOT NULL REFERENCES bundle,
    record INTEGER NOT NULL REFERENCES record,
    conflict BLOB,
    PRIMARY KEY (bundle, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_by_record ON bundle_record (record);
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY,
    bundle INTEGER NOT NULL REFERENCES bundle,
    number INTEGER NOT NULL,
    file_name TEXT NOT NULL,
    outcomes_digest TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (bundle, number)
) STRICT;
{COUNTS}
"""


@dataclass(frozen=True, slots=True)
class LedgerBundle:
    """A bundle in the ledger.

    Args:
        number: its number here.
        bundle_id: its id.
        source: whose it is.
        sequence: its place in the source's chain.
        previous: id of the bundle before it, or None for the first.
        created: when it was made, in microseconds since 1970.
    """

    number: int
    bundle_id: str
    source: str
    sequence: int
    previous: str | None
    created: int


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a bundle that was taken in.

    Args:
        bundle: the ledger's entry.
        known: records that were there already by another bundle.
        conflicts: of these, records that came with other content.
        timeline: windows of the new records, knowing those that came before.
    """

    bundle: LedgerBundle
    known: int
    conflicts: int
    timeline: Timeline


@dataclass(frozen=True, slots=True)
class Report:
    """What a bundle covers.

    Args:
        bundle: the bundle.
        imported_at: when it was taken in.
        covered: windows of its records, per kind.
        used: of these, in which something was counted.
        no_usage: the time that it declares to be without usage, or None.
        delivered: whether every record of it was delivered.
    """

    bundle: LedgerBundle
    imported_at: datetime
    covered: Covered
    used: Covered
    no_usage: Declaration | None
    delivered: bool

    @property
    def end(self) -> int:
        """Up to when it can report: when it was made, and never later than when it came."""
        return min(self.bundle.created, micros(self.imported_at))


@dataclass(frozen=True, slots=True)
class LastReceipt:
    """The newest receipt of a bundle: its number, its id, what it says, its file in the home."""

    number: int
    receipt_id: str
    outcomes_digest: str
    file_name: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in the ledger that is about to be sent."""

    number: int
    id: bytes
    record: Record
    attempts: int
    doubted: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of records that were sent together.

    Args:
        numbers: the records.
        state: their new state.
        status: HTTP status of the answer, or None without one.
        detail: the reason for people, without credentials.
        answers: what is kept of the answer, for each of the records.
        doubted: whether the endpoint may have counted them by this attempt.
    """

    numbers: tuple[int, ...]
    state: State
    status: int | None = None
    detail: str | None = None
    answers: JsonObject = field(default_factory=dict)
    doubted: bool = False
