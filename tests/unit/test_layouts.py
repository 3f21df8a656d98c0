"""Databases of older layouts are brought up to date where they are, and lose nothing."""

import sqlite3
from datetime import UTC, datetime

import pytest
from support import LICENSE, SOURCE, day, transaction

from airgap import catalog, outbox_layout
from airgap.bundle import codec
from airgap.collect.payloads import Rules, records_of
from airgap.collection import collect
from airgap.errors import AirgapError, UsageError
from airgap.outbox import Outbox, StoredBundle
from airgap.records import lasting_digest, record_id
from airgap.sightings import Sighting
from airgap.windows import micros

# The outbox as the very first version made it: it does not even say that it is one.
LAYOUT_1 = """
CREATE TABLE record (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, kind TEXT NOT NULL,
    dialect TEXT NOT NULL, credential TEXT NOT NULL, occurrence INTEGER NOT NULL,
    payload BLOB NOT NULL, lasting BLOB NOT NULL,
    outcome TEXT CHECK (outcome IN ('delivered', 'dead', 'in_doubt', 'waiting')),
    collected_at TEXT NOT NULL
) STRICT;
CREATE TABLE bundle (
    sequence INTEGER PRIMARY KEY, bundle_id TEXT NOT NULL UNIQUE, file_name TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, created_at TEXT NOT NULL,
    manifest BLOB NOT NULL, written_to TEXT, written_at TEXT
) STRICT;
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL REFERENCES bundle,
    number INTEGER NOT NULL, importer TEXT NOT NULL, outcomes TEXT NOT NULL,
    created_at TEXT NOT NULL, applied_at TEXT NOT NULL
) STRICT;
PRAGMA user_version = 1;
"""
FIRST_RECORD = """
INSERT INTO record VALUES (1, x'00', 'license_verification', 'documents', 'license:0', 0, x'80',
    x'00', NULL, '2026-01-01T00:00:00Z');
"""
# The outbox as the release before sources had rows of their own made it.
LAYOUT_2 = (
    """
CREATE TABLE record (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, kind TEXT NOT NULL,
    dialect TEXT NOT NULL, credential TEXT NOT NULL, occurrence INTEGER NOT NULL, payload BLOB,
    lasting BLOB NOT NULL,
    outcome TEXT CHECK (outcome IN ('delivered', 'dead', 'in_doubt', 'waiting')),
    collected_at TEXT NOT NULL
) STRICT;
CREATE TABLE bundle (
    sequence INTEGER PRIMARY KEY, bundle_id TEXT NOT NULL UNIQUE, file_name TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, created_at TEXT NOT NULL, manifest BLOB,
    covered TEXT NOT NULL, used TEXT NOT NULL, written_to TEXT, written_at TEXT, pruned_at TEXT
) STRICT;
CREATE TABLE known_window (
    kind TEXT NOT NULL, credential TEXT NOT NULL, windows BLOB NOT NULL,
    PRIMARY KEY (kind, credential)
) STRICT, WITHOUT ROWID;
CREATE TABLE void_bundle (
    bundle_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, manifest BLOB NOT NULL,
    written_to TEXT, voided_at TEXT NOT NULL
) STRICT;
CREATE TABLE proven (sequence INTEGER PRIMARY KEY, bundle_id TEXT NOT NULL) STRICT;
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL REFERENCES bundle,
    number INTEGER NOT NULL, previous TEXT, importer TEXT NOT NULL, outcomes TEXT NOT NULL,
    created_at TEXT NOT NULL, applied_at TEXT NOT NULL,
    proof TEXT NOT NULL CHECK (proof IN ('receipt', 'code'))
) STRICT;
"""
    + FIRST_RECORD
    + """
PRAGMA application_id = 1634694516;
PRAGMA user_version = 2;
"""
)

# What the third layout had beside the second; ids were unique in the records' own table.
LAYOUT_3 = (
    LAYOUT_2
    + """
CREATE TABLE source_row (
    table_name TEXT NOT NULL, row_id TEXT NOT NULL, number INTEGER NOT NULL, counted BLOB NOT NULL,
    backfill_id TEXT, marked_at TEXT, sent_at TEXT, PRIMARY KEY (table_name, row_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX source_row_number ON source_row (number);
CREATE TABLE pseudonymised (
    known_as BLOB PRIMARY KEY, number INTEGER NOT NULL, names TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pseudonymised_number ON pseudonymised (number);
CREATE TABLE captured (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, dialect TEXT NOT NULL,
    credential TEXT NOT NULL, server BLOB NOT NULL, start TEXT NOT NULL, finish TEXT NOT NULL,
    reported BLOB NOT NULL, pseudonymised TEXT NOT NULL, taken BLOB, received_at TEXT NOT NULL
) STRICT;
CREATE INDEX captured_start ON captured (start);
INSERT INTO captured VALUES (7, 'usage_report', 'documents', 'license:0', x'00', '', '', x'80', '',
    NULL, '');
PRAGMA user_version = 3;
"""
)


def made(path, script):
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return path


SCHEMAS = catalog.load()
RULES = Rules(defaults={"license": "license:" + "0" * 32})
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def records():
    """Two days of reports in a bundle that arrived, a transaction and a report that wait."""
    values = [day(1), day(2), transaction(1), day(4)]
    return [
        one
        for value in values
        for one in records_of({**value, "license": LICENSE}, b"", SCHEMAS, RULES, where="test")
    ]


def fill(path, *, covered=False):
    """Put in records, a bundle, and the receipt for it, as the first version would.

    Args:
        path: the outbox.
        covered: whether a bundle says what time it covers, and a receipt what proves it, as later ones do.
    """
    connection = sqlite3.connect(path)
    for number, record in enumerate(records(), 1):
        kind = SCHEMAS.kind(record.kind)
        connection.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, '2026-01-05T00:00:00Z')",
            (
                *(
                    number,
                    record_id(SOURCE, record, kind),
                    record.kind,
                    record.dialect,
                    record.credential,
                ),
                *(codec.encode(record.payload), lasting_digest(record, kind)),
                "delivered" if number <= 2 else None,
            ),
        )
    manifest = codec.encode({"totals": {"usage_report": {"records": 2, "sums": {}}}})
    names, values = (", covered, used", ", '{}', '{}'") if covered else ("", "")
    connection.execute(
        f"INSERT INTO bundle (sequence, bundle_id, file_name, first, last, created_at, manifest, written_to{names})"
        f" VALUES (1, 'b', 'b.airgap', 1, 2, '2026-01-05T00:00:00Z', ?, '/mnt/stick'{values})",
        (manifest,),
    )
    names, values = (", proof", ", 'receipt'") if covered else ("", "")
    connection.execute(
        "INSERT INTO receipt (receipt_id, sequence, number, importer, outcomes, created_at, applied_at"
        f"{names}) VALUES ('r', 1, 1, 'relay-1', '{{}}', '2026-01-06T00:00:00Z',"
        f" '2026-01-07T00:00:00Z'{values})"
    )
    connection.execute("UPDATE sqlite_sequence SET seq = 9 WHERE name = 'record'")
    connection.commit()
    connection.close()
    return path


def layout(path):
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return sorted("".join(sql.split()) for (sql,) in rows)
    finally:
        connection.close()


def test_an_outbox_of_the_layout_before_is_brought_up_to_date_and_keeps_its_records(tmp_path):
    old = made(tmp_path / "old.sqlite", LAYOUT_2)
    outbox = Outbox(old, SOURCE, catalog.load())
    records = list(outbox.records(1))
    outbox.close()
    assert [(n, r.kind, codec.encode(r.payload)) for n, r in records] == [
        (1, "license_verification", b"\x80")
    ]
    Outbox(tmp_path / "new.sqlite", SOURCE, catalog.load()).close()
    assert layout(old) == layout(tmp_path / "new.sqlite")


def test_an_outbox_of_a_layout_to_come_is_refused_and_left_as_it_is(tmp_path):
    path = made(tmp_path / "old.sqlite", LAYOUT_2.replace("user_version = 2", "user_version = 99"))
    before = layout(path)
    with pytest.raises(UsageError, match="another version"):
        Outbox(path, SOURCE, catalog.load())
    assert layout(path) == before


def test_an_outbox_of_the_first_layout_is_brought_up_to_date_and_goes_on_where_it_stood(tmp_path):
    old = fill(made(tmp_path / "old.sqlite", LAYOUT_1))
    outbox = Outbox(old, SOURCE, SCHEMAS)
    assert [(n, record) for n, record in outbox.records(1)] == list(enumerate(records(), 1))
    [bundle] = outbox.bundles()
    assert bundle == StoredBundle(1, "b", "b.airgap", 1, 2, "2026-01-05T00:00:00Z", "/mnt/stick")
    assert outbox.is_confirmed(bundle)
    assert outbox.last_receipt() == "2026-01-06T00:00:00Z"
    start = micros(datetime(2026, 1, 1, tzinfo=UTC))
    days = [(start, start + 2 * 86_400_000_000)]
    assert outbox.covered(bundle) == ({"usage_report": days}, {"usage_report": days})
    assert outbox.waiting().records == 2
    # What is known stays known, and what comes anew is seen beside what was collected then.
    again = [*records(), *records_of(day(2, measures={}), b"", SCHEMAS, RULES, where="test")]
    found = collect(outbox, map(Sighting.of, again), NOW)
    assert (found.read.records, found.new.records) == (5, 1)
    assert found.timeline.overlapping == {"usage_report": 1}
    assert outbox.last_number() == 10, "a number is never given twice"
    execute = outbox.database.connection.execute
    assert execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert execute("PRAGMA foreign_key_check").fetchall() == []
    outbox.close()
    Outbox(old, SOURCE, SCHEMAS).close()
    Outbox(tmp_path / "new.sqlite", SOURCE, SCHEMAS).close()
    assert layout(old) == layout(tmp_path / "new.sqlite")


def test_an_outbox_of_the_third_layout_knows_its_records_again_and_numbers_go_on(tmp_path):
    old = fill(made(tmp_path / "old.sqlite", LAYOUT_3.replace(FIRST_RECORD, "")), covered=True)
    outbox = Outbox(old, SOURCE, SCHEMAS)
    execute = outbox.database.connection.execute
    assert [(n, record) for n, record in outbox.records(1)] == list(enumerate(records(), 1))
    assert outbox.outcomes(outbox.bundles()[0]) == {"delivered": 2}
    new = records_of(day(5), b"", SCHEMAS, RULES, where="test")
    found = collect(outbox, map(Sighting.of, [*records(), *new]), NOW)
    assert (found.read.records, found.new.records) == (5, 1)
    assert outbox.last_number() == 10, "a number is never given twice"
    assert dict(execute("SELECT number, id FROM known_id")) == dict(
        execute("SELECT number, id FROM record")
    )
    assert execute("SELECT seq FROM sqlite_sequence WHERE name = 'captured'").fetchone() == (7,)
    assert execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    outbox.close()
    Outbox(tmp_path / "new.sqlite", SOURCE, SCHEMAS).close()
    assert layout(old) == layout(tmp_path / "new.sqlite")


def test_another_database_of_a_first_layout_is_not_taken_for_an_outbox_and_stays_as_it_is(tmp_path):
    script = LAYOUT_1.replace("lasting BLOB NOT NULL,", "state TEXT NOT NULL,")
    path = made(tmp_path / "ledger.sqlite", script)
    before = path.read_bytes()
    with pytest.raises(AirgapError, match="the database refused"):
        Outbox(path, SOURCE, SCHEMAS)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
    assert layout(path) == layout(made(tmp_path / "same.sqlite", script))
    assert len(before) == len(path.read_bytes())


def test_an_upgrade_that_is_cut_off_leaves_the_old_outbox(tmp_path, monkeypatch):
    old = fill(made(tmp_path / "old.sqlite", LAYOUT_1))
    before = layout(old)
    monkeypatch.setattr(outbox_layout, "to_json", None)
    with pytest.raises(TypeError):
        Outbox(old, SOURCE, SCHEMAS)
    assert layout(old) == before
    monkeypatch.undo()
    outbox = Outbox(old, SOURCE, SCHEMAS)
    assert [record for _, record in outbox.records(1)] == records()
    outbox.close()
