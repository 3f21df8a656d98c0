"""A report's sums are the ledger's, whatever is asked for; its CSV is exact, and no spreadsheet runs it."""

import csv
import io
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import report, transaction

from airgap import catalog, timestamps
from airgap.bundle import codec
from airgap.records import Record, Totals, record_id
from airgap.replay import counts, decisions, delivered, report_csv, tallies
from airgap.replay import report as reports
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.report import Asked

SCHEMAS = catalog.load()
CREDENTIAL = "license:" + 32 * "0"
LARGEST = 2**63 - 1
STATES = ("delivered", "waiting", "sending", "in_doubt", "dead")


def records():
    """Return made-up records of every sort: a window, an identity, raw, neither."""

    def one(kind, payload):
        return Record(kind, next(iter(SCHEMAS.kind(kind).dialects)), CREDENTIAL, 0, payload)

    def usage(start, hours, runs, name):
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=start)
        times = (timestamps.to_text(moment), timestamps.to_text(moment + timedelta(hours=hours)))
        body = report(0, measures={name: runs, "n": 1})
        body |= {"from_timestamp": times[0], "to_timestamp": times[1]}
        return one("usage_report", {k: v for k, v in body.items() if k != "license"})

    names = st.sampled_from(["langgraph.platform.runs", "=1+1", "-x", "a,b", '"', "'q"])
    return st.one_of(
        st.builds(usage, st.integers(0, 2000), st.integers(-3, 90), st.integers(0, LARGEST), names),
        st.builds(
            lambda n, c: one("trace_transactions", transaction(n, trace_count=c)),
            st.integers(0, 5),
            st.integers(0, LARGEST),
        ),
        st.just(one("license_verification", {})),
    )


worlds = st.lists(
    st.tuples(
        st.sampled_from(["bank-a", "bank-b"]),
        st.lists(st.tuples(records(), st.sampled_from(STATES)), max_size=5),
    ),
    max_size=5,
)


@cache
def folder():
    return TemporaryDirectory()


def ledger_of(world):
    """Return a ledger that took in bundles of these records, and what became of them."""
    path = Path(folder().name) / "ledger.sqlite"
    for part in path.parent.glob("ledger.sqlite*"):
        part.unlink()
    ledger = Ledger(path, SCHEMAS, timestamps.system_clock)
    connection = ledger.database.connection
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    sequences = Counter()
    for number, (source, found) in enumerate(world, 1):
        sequences[source] += 1
        connection.execute(
            "INSERT INTO bundle VALUES (?, ?, ?, ?, NULL, 0, '2026-02-01T00:00:00Z', x'', '{}', '{}', NULL, NULL, NULL)",
            (number, str(number), source, sequences[source]),
        )
        for record, state in {repr(r): (r, s) for r, s in found}.values():
            identifier = record_id(source, record, SCHEMAS.kind(record.kind))
            if connection.execute(
                "SELECT 1 FROM bundle_record b JOIN record r ON r.number = b.record WHERE b.bundle = ? AND r.id = ?",
                (number, identifier),
            ).fetchone():
                continue
            if ledger._add_page(number, [(identifier, record)], "2026-02-01T00:00:00Z", "x"):
                ledger._note_conflict(number, identifier, record)
            settle(connection, identifier, state)
        counts.note(connection, number)
    connection.execute("COMMIT")
    return ledger


def settle(connection, identifier, state):
    """Let a record be in a state, whatever it was in."""
    [number] = connection.execute(
        "SELECT number FROM record WHERE id = ?", (identifier,)
    ).fetchone()
    for table in ("open_record", "delivered_record"):
        connection.execute(f"DELETE FROM {table} WHERE record = ?", (number,))
    what = {"record": number, "attempts": 1, "doubted": 0, "status": 204,
            "changed_at": "2026-02-02T00:00:00Z"}  # fmt: skip
    if state != "delivered":
        what |= {"state": state}
    kind = ", kind" if state != "delivered" else ""
    connection.execute(
        f"INSERT INTO {'open' if kind else 'delivered'}_record ({', '.join(what)}{kind})"
        f" SELECT {', '.join('?' * len(what))}{kind} FROM record WHERE number = {number}",
        list(what.values()),
    )


def note_delivered(ledger):
    whole = [(b, "digest") for b in ledger.bundles() if ledger.is_delivered(b)]
    delivered.note(ledger, whole, with_answers=False)


def counted(ledger, scope):
    """Return records by source, kind and state as the tables have them, one by one."""
    found = {}
    marks = ", ".join(map(str, scope)) or "NULL"
    rows = ledger.database.connection.execute(
        "SELECT source, kind, state, count(*) FROM (SELECT DISTINCT x.source, r.number, r.kind, r.state"
        " FROM bundle x JOIN bundle_record b ON b.bundle = x.number JOIN record_state r ON r.number = b.record"
        f" WHERE x.number IN ({marks})) GROUP BY 1, 2, 3"
        " UNION ALL SELECT x.source, r.kind, 'dead', count(*) FROM bundle x JOIN bundle_record b"
        " ON b.bundle = x.number JOIN record r ON r.number = b.record"
        f" WHERE b.conflict IS NOT NULL AND x.number IN ({marks}) GROUP BY 1, 2"
    )
    for source, kind, state, count in rows:
        states = found.setdefault((source, kind), {})
        states[state] = states.get(state, 0) + count
    return found


@settings(max_examples=40)
@given(worlds, st.sets(st.integers(1, 5)))
def test_counts_that_look_at_no_delivered_record_are_those_of_a_look_at_every_one(world, chosen):
    ledger = ledger_of(world)
    try:
        everything = {bundle.number for bundle in ledger.bundles()}
        for noted in (False, True):
            if noted:
                note_delivered(ledger)
            for scope in (everything, chosen & everything):
                ledger.set_scope(b for b in ledger.bundles() if b.number in scope)
                assert tallies.by_source(ledger, scoped=True) == counted(ledger, scope)
            assert tallies.by_source(ledger, scoped=False) == counted(ledger, everything)
            assert ledger.states(scoped=False) == counts.per_kind(counted(ledger, everything))
            alone: dict[int, dict[str, int]] = {number: {} for number in everything}
            for number, state, count in ledger.database.connection.execute(
                "SELECT b.bundle, CASE WHEN b.conflict IS NULL THEN r.state ELSE 'dead' END, count(*)"
                " FROM bundle_record b JOIN record_state r ON r.number = b.record GROUP BY 1, 2"
            ):
                alone[number][state] = count
            found = counts.per_bundle(ledger.database.connection)
            assert {number: found.get(number, {}) for number in everything} == alone
    finally:
        ledger.close()


def test_what_people_look_at_every_day_reads_through_no_table_of_all_records():
    """Nearly all records of a large ledger are delivered; SQLite's own plan says whether it begins with them."""
    ledger = ledger_of([("bank-a", [])])
    try:
        connection, asked = ledger.database.connection, []
        connection.set_trace_callback(asked.append)
        tallies.by_source(ledger, scoped=False)
        list(tallies.undelivered(ledger, ("dead", "in_doubt"), scoped=False))
        reports.bundles(ledger)
        ledger.states(scoped=False)
        ledger.claims.recover()
        next(ledger.waiting("usage_report"), None)
        for state in ("dead", "in_doubt"):
            decisions.unsettled(ledger, state, 10)
        for digits in ("", "abcd"):
            decisions.decide(ledger, digits, ("dead", "in_doubt"), "waiting", "asked")
        connection.set_trace_callback(None)
        steps = {
            detail
            for statement in asked
            if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE"))
            for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        }
    finally:
        ledger.close()
    assert any(step.startswith("SEARCH r USING INTEGER PRIMARY KEY") for step in steps)
    whole = {step for step in steps if step.startswith("SCAN ")}
    assert whole
    # Only bundles, what is open, and records that came with another content.
    small = {"o", "open_record", "k", "x", "s", "bundle_kind", "CONSTANT"}
    named = {step.split()[1] for step in whole if "INDEX bundle_conflict" not in step}
    assert named <= small


def by_hand(ledger, outcome):
    """Return the totals of an outcome as the tables themselves have them."""
    totals = Totals()
    states = ("in_doubt", "sending") if outcome == "in_doubt" else (outcome,)
    for state in states:
        rows = ledger.database.connection.execute(
            "SELECT kind, payload FROM record_state WHERE state = ?", (state,)
        )
        for kind, payload in rows:
            totals.add(SCHEMAS.kind(kind), codec.decode_own(payload))
    if outcome == "dead":
        for kind, payload in ledger.database.connection.execute(
            "SELECT kind, conflict FROM bundle_record b JOIN record r ON r.number = b.record"
            " WHERE conflict IS NOT NULL"
        ):
            totals.add(SCHEMAS.kind(kind), codec.decode_own(payload))
    return totals.as_map()


def rows_of(write):
    stream = io.StringIO(newline="")
    write(stream)
    text = stream.getvalue()
    assert text.endswith("\r\n")
    assert not re.search(r"(?<!\r)\n", text), "RFC 4180 ends every line with CRLF"
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def totals_of(rows, outcome):
    """Return what a reader of the CSV adds up, as a map of totals."""
    found = {}
    for row in rows:
        if row["outcome"] == outcome:
            kind = found.setdefault(row["kind"], {"ids": set(), "records": 0, "sums": Counter()})
            if "record_id" in row:
                kind["ids"].add((row["record_id"], row["bundle_sequence"], row["source"]))
            else:
                kind["records"] += int(row["records"] or 0)
            if row["value"]:
                kind["sums"][report_csv.uncell(row["measure"])] += int(row["value"])
    return {
        name: {"records": len(k["ids"]) or k["records"], "sums": dict(sorted(k["sums"].items()))}
        for name, k in sorted(found.items())
    }


@settings(max_examples=40)
@given(worlds, st.integers(0, 90))
def test_totals_are_the_ledgers_in_the_summary_in_both_csv_forms_and_over_any_split_of_time(
    world, days
):
    ledger = ledger_of(world)
    try:
        everything = Asked()
        made, known = reports.summary(ledger, everything)
        records_csv = rows_of(
            lambda to: report_csv.write_records(to, reports.lines(ledger, known), everything)
        )
        days_csv = rows_of(lambda to: report_csv.write_days(to, made))
        split = date(2026, 1, 1) + timedelta(days)
        halved = (Asked(last=split), Asked(first=split + timedelta(1)))
        parts = [reports.summary(ledger, half)[0] for half in halved]
        # Bundles that were seen to be delivered are not looked at where they can say nothing.
        note_delivered(ledger)
        assert [reports.summary(ledger, half)[0] for half in halved] == parts
        assert rows_of(
            lambda to: report_csv.write_records(
                to, reports.lines(ledger, reports.relevant(ledger, known, halved[0])), halved[0]
            )
        ) == rows_of(
            lambda to: report_csv.write_records(to, reports.lines(ledger, known), halved[0])
        )
        for outcome in reports.OUTCOMES:
            expected = by_hand(ledger, outcome)
            assert made.totals(outcome).as_map() == expected
            assert totals_of(records_csv, outcome) == expected
            assert totals_of(days_csv, outcome) == expected
            halves = Totals()
            for part in parts:
                halves.merge(part.totals(outcome))
            timeless = {n: t for n, t in expected.items() if not SCHEMAS.kind(n).period}
            assert halves.as_map() == {n: t for n, t in expected.items() if n not in timeless}
        assert parts[0].aside == parts[1].aside
        assert {bundle.number: bundle.records for bundle in known} == {
            bundle.number: ledger.bundle_totals(bundle).records for bundle in ledger.bundles()
        }
    finally:
        ledger.close()


@given(worlds)
@settings(max_examples=15)
def test_by_delivery_what_is_not_delivered_is_in_no_period_and_counted_aside(world):
    ledger = ledger_of(world)
    try:
        made, _ = reports.summary(ledger, Asked(first=date(2026, 2, 2), by="delivery"))
        assert made.totals("delivered").as_map() == by_hand(ledger, "delivered")
        left = sum(
            kind["records"] for o in reports.OUTCOMES[1:] for kind in by_hand(ledger, o).values()
        )
        assert sum(made.aside.values()) == left
        assert {place.outcome for place in made.cells} <= {"delivered"}
    finally:
        ledger.close()


@given(st.text(max_size=20))
def test_no_text_is_a_formula_and_every_text_comes_back(text):
    shown = report_csv.cell(text)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert report_csv.uncell(shown) == text


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"]
)
def test_a_formula_is_kept_as_text(text):
    assert report_csv.cell(text) == f"'{text}"


def test_integers_beyond_a_double_are_exact_and_carry_no_apostrophe():
    assert report_csv.cell(LARGEST) == LARGEST
    assert report_csv.cell("langgraph.platform.runs") == "langgraph.platform.runs"


def test_a_receipt_is_named_only_where_it_says_so():
    record = Record("license_verification", "documents", CREDENTIAL, 0, {})
    ledger = ledger_of([("bank-a", [(record, "delivered")])])
    try:
        ledger.add_receipt(LedgerBundle(1, "1", "bank-a", 1, None, 0), "id", 1, "r1.receipt", "d")
        connection = ledger.database.connection
        for receipt_at, expected in (
            ("2026-02-01T00:00:00Z", None),
            ("2026-02-03T00:00:00Z", "r1.receipt"),
        ):
            connection.execute("UPDATE receipt SET created_at = ?", (receipt_at,))
            [line] = reports.lines(ledger, reports.bundles(ledger))
            assert line.receipt == expected
        connection.execute(
            "UPDATE delivered_record SET detail = 'decided by hand (delivered): asked'"
        )
        [line] = reports.lines(ledger, reports.bundles(ledger))
        assert (line.by_hand, line.start, line.delivered_at) == (True, None, "2026-02-02T00:00:00Z")
    finally:
        ledger.close()


def test_rows_of_the_table_are_in_order_and_hold_every_value_once():
    made = reports.Summary()
    for day in (3, 1, 2):
        made.add(
            reports.Line(
                "s",
                "k",
                "",
                1,
                day * 86_400_000_000,
                0,
                "delivered",
                None,
                204,
                False,
                None,
                {"m": day},
            ),
            Asked(),
        )
    rows = made.per("day")
    assert all(a.period <= b.period for a, b in pairwise(rows))
    assert sum(r.values["delivered"] for r in rows if r.measure == "m") == 6
    assert [r.values["delivered"] for r in made.per("month")] == [3, 6]
