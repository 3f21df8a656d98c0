"""The quick way and batches give what the exact way, one by one, gives: rows, numbers, refusals."""

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import API_KEY, LICENSE, SOURCE, report, transaction

from airgap import batches, catalog, credentials, home, jsontext, known_ids, timestamps
from airgap.bundle import codec
from airgap.collect import jsonfiles
from airgap.collect import postgres as postgres_source
from airgap.collect.payloads import record_of
from airgap.collect.quick import Quick
from airgap.collecting import Collecting, Order
from airgap.collection import collect
from airgap.errors import AirgapError, DamagedError
from airgap.outbox import Outbox
from airgap.records import RecordIds, record_id
from airgap.sightings import Plain, Sighting, SourceRow
from airgap.windows import Moments, micros

SCHEMAS = catalog.load()
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Nothing here is about what is on disk, and there are many databases."""
NOW = datetime(2026, 2, 1, tzinfo=UTC)
ORDER = Order(credentials=(("license", LICENSE),), allow=("usage_report/tags/site",))
RULES = ORDER.rules(SCHEMAS)
ODD_TEXT = st.sampled_from(
    [
        *(
            "",
            "self-hosted",
            "x" * 256,
            "x" * 257,
            "Größe",
            "\u2028",
            "a b",
            'quo"te',
            "back\\slash",
        ),
        *(
            "tab\t",
            "nul\0",
            "a@example.com",
            "4111 1111 1111 1111",
            "2026-01-06T00:00:00Z",
            LICENSE,
        ),
        *(
            "lsv2_pt_EXAMPLE_another",
            "a%40example.com",
            "lcl_short",
            "\U0001f600",
            "4242424242424242",
        ),
    ]
)
ODD_COUNT = st.sampled_from(
    [0, 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -1, 1.0, 1e3, -0.0, True, None, "1"]
)
TIMES = st.sampled_from(
    [
        *("2026-01-06T00:00:00Z", "2026-01-06T01:00:00.5Z", "2026-01-06T01:00:00.123456789+05:30"),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01", "2026-02-30T00:00:00Z", "now"),
        *("2026-01-06T00:00:60Z", "2026-W01-1T00:00:00Z", "2026-01-06T00:00:00-23:59"),
    ]
)
REPORTS = st.builds(
    lambda count, hour, extra: {**report(count, hour), **extra},
    st.integers(0, 2),
    st.integers(0, 2),
    st.fixed_dictionaries(
        {},
        optional={
            "from_timestamp": TIMES,
            "to_timestamp": TIMES,
            "license": st.sampled_from(
                [
                    LICENSE,
                    "lcl_EXAMPLE_of_another",
                    None,
                    7,
                    "made-up-key-1",
                    "short",
                    'q"u\\ote-key',
                ]
            ),
            "license_key": st.sampled_from([LICENSE, None]),
            "tags": st.dictionaries(
                st.sampled_from(
                    ["langgraph.platform.host", "site", "unknown", "user_app.uses_indexing"]
                ),
                ODD_TEXT | st.just(3),
                max_size=3,
            ),
            "measures": st.dictionaries(
                st.sampled_from(["langgraph.platform.runs", "langgraph.platform.nodes", "unknown"]),
                ODD_COUNT,
                max_size=2,
            ),
            "logs": st.sampled_from([[], ["line"], None]),
            "more": ODD_TEXT,
        },
    ),
)
TRANSACTIONS = st.builds(
    lambda number, extra: {**transaction(number), **extra},
    st.integers(0, 3),
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["AF28DFEA-5358-463D-A2DC-37DF00000000", "none", None]),
            "license": st.just(LICENSE),
            "trace_count": ODD_COUNT,
            "status": ODD_TEXT,
            "session_id": st.sampled_from([None, "3A1C2B6F-4430-4B92-8A5B-79B8B567BBC1", "x"]),
            "start_interval_time": TIMES,
            "num_failed_send_attempts": st.integers(0, 1),
        },
    ),
)
OTHERS = st.sampled_from(
    [
        {"license": LICENSE},
        {"license": LICENSE, "trace_transactions": [transaction(1), transaction(9)]},
        {"trace_transactions": [transaction(2), transaction(2), transaction(3, status="x")]},
        {"trace_transactions": [transaction(2), transaction(5, trace_count=-1)]},
        {"license": None, "trace_transactions": [transaction(2)]},
        {"trace_transactions": []},
        {"kind": "api_key_verification", "payload": {}, "headers": {"X-Api-Key": API_KEY}},
        {
            "license_key": LICENSE,
            **{k: v for k, v in report(1).items() if k not in ("license", "tags", "logs")},
        },
        {"kind": "usage_report", "payload": report(1)},
        {},
        [],
        [report(2)],
        "text",
    ]
)


def lines_of(value):
    """Every way to write a value as one line that both ways should understand alike, or refuse."""
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return st.sampled_from(
        [
            *([compact] * 6 + [json.dumps(value), json.dumps(value, ensure_ascii=False)]),
            *(
                compact + "\r",
                " " + compact,
                compact.replace(",", "\t,", 1),
                compact.replace("e", "\\u0065", 1),
            ),
            *(
                compact.replace(":0", ":-0", 1),
                compact.replace('":', '": ', 1),
                compact.replace("/", "\\/"),
            ),
            *(
                compact.replace("}", ',"logs":[]}'),
                compact.replace("{", '{"license":"x",', 1),
                compact[:-1],
            ),
            *("\ufeff" + compact, compact + "\f", compact.replace(":1", ":1e0", 1)),
        ]
    )


LINES = st.lists((REPORTS | TRANSACTIONS | OTHERS).flatmap(lines_of), min_size=1, max_size=8)
GOOD = st.lists(
    (
        st.builds(report, st.integers(0, 1), st.integers(0, 2))
        | st.builds(transaction, st.integers(0, 9))
    ).map(lambda value: json.dumps(value, separators=(",", ":"))),
    min_size=1,
    max_size=12,
)


def state(outbox):
    """Everything that the outbox holds, and where its numbers go on."""
    execute = outbox.database.connection.execute
    tables = ("record", "known_id", "source_row", "pseudonymised", "known_window")
    found = {table: execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}
    assert found["known_id"] == sorted((row[1], row[0]) for row in found["record"])
    return {**found, "next": execute("SELECT max(seq) FROM sqlite_sequence").fetchall()}


def told(step):
    """What a collection found, or every word of why it was refused."""
    try:
        found = step()
    except AirgapError as error:
        return (
            type(error),
            str(error),
            error.where,
            error.expected,
            error.found,
            error.hint,
            error.details,
        )
    line = found.timeline
    covered = line.covered(), line.used(), line.overlapping, line.backwards, line.newest
    return found.read.as_map(), found.new.as_map(), covered


SOURCES = st.lists(LINES | GOOD, min_size=1, max_size=3)
HOW = st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(1, 6))
"""Sightings of a batch, new batches before ids are set aside, and how many of these there are at most."""


@settings(deadline=None, max_examples=30)
@given(SOURCES, HOW)
def test_the_quick_way_in_batches_gives_what_the_exact_way_gives_one_by_one(sources, how):
    same_both_ways(sources, how)


@pytest.mark.soak
@settings(deadline=None, max_examples=3000)
@given(SOURCES, HOW)
def test_soak_the_quick_way_in_batches_gives_what_the_exact_way_gives_one_by_one(sources, how):
    same_both_ways(sources, how)


def set_sizes(patch, how):
    """Let little be much, as ``HOW`` says."""
    size, careful, most = how
    patch.setattr(batches, "SIZE", size)
    patch.setattr(batches, "CAREFUL", careful)
    patch.setattr(known_ids, "MOST", most)
    patch.setattr(batches, "LOOK_BACK", size)


def same_both_ways(sources, how):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, pytest.MonkeyPatch.context() as patch:
        set_sizes(patch, how)
        root = Path(folder)
        isolated = home.create(root / "home", "isolated", SOURCE)
        exact = Outbox(root / "exact.sqlite", SOURCE, SCHEMAS)
        path = root / "usage.jsonl"
        with Collecting(isolated, SCHEMAS, ORDER, lambda: NOW) as collecting:
            for lines in sources:
                path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
                records = jsonfiles.read(path, SCHEMAS, RULES)
                slow = told(lambda found=records: collect(exact, map(Sighting.of, found), NOW))
                assert told(lambda: collecting.take(str(path)).found) == slow
                assert state(collecting.outbox) == state(exact)
        exact.close()


def rows_of(*tables):
    """Contents, rows of one of the tables, and marks; a source has rows or it has none."""
    marks = st.sampled_from([None, "b1"])
    return st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(tables), st.integers(0, 3), marks), max_size=10
    )


ROWS = rows_of("remote_metrics", "usage_snapshots", "trace_count_transactions") | rows_of(None)


def seen(content, table, row_id, mark):
    """A sighting of one of a few contents, in one of a few rows or in none."""
    kind = "trace_transactions" if table == "trace_count_transactions" else "usage_report"
    value = transaction(content % 3) if kind == "trace_transactions" else report(content % 2)
    payload = {name: item for name, item in value.items() if name != "license"}
    record = record_of(kind, payload, SCHEMAS, RULES, where="test")
    return Sighting.of(record, None if table is None else SourceRow(table, f"{row_id}", mark))


SOURCES_OF_ROWS = st.lists(ROWS, min_size=1, max_size=3)


@settings(deadline=None, max_examples=30)
@given(SOURCES_OF_ROWS, HOW)
def test_rows_in_batches_are_what_rows_one_by_one_are(sources, how):
    same_rows_both_ways(sources, how)


@pytest.mark.soak
@settings(deadline=None, max_examples=3000)
@given(SOURCES_OF_ROWS, HOW)
def test_soak_rows_in_batches_are_what_rows_one_by_one_are(sources, how):
    same_rows_both_ways(sources, how)


def same_rows_both_ways(sources, how):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, pytest.MonkeyPatch.context() as patch:
        set_sizes(patch, how)
        exact, quick = (Outbox(Path(folder) / n, SOURCE, SCHEMAS) for n in ("exact", "quick"))
        for rows in sources:
            shown = [seen(*row) for row in rows]
            plain = [Plain.of(one, SCHEMAS.kind(one.record.kind)) for one in shown]
            slow = told(lambda found=shown: collect(exact, found, NOW))
            assert told(lambda found=plain: collect(quick, found, NOW)) == slow
            assert state(quick) == state(exact)
        exact.close()
        quick.close()


ODD_ROWS = [
    "UPDATE remote_metrics SET measures = '{\"langgraph.platform.runs\": 1.5}' WHERE id = md5('metric 3')::uuid",
    'UPDATE remote_metrics SET measures = \'{"langgraph.platform.runs": 1e2, "unknown": 0}\'',
    "UPDATE remote_metrics SET measures = '{\"langgraph.platform.runs\": 99999999999999999999}'",
    'UPDATE remote_metrics SET tags = \'{"langgraph.platform.host": "a@example.com"}\'',
    "UPDATE remote_metrics SET tags = '{\"langgraph.platform.host\": 1}', logs = '[1]'",
    "UPDATE remote_metrics SET to_timestamp = 'infinity' WHERE id = md5('metric 4')::uuid",
    'UPDATE remote_metrics SET logs = NULL, tags = \'{"langgraph.platform.host": "Gr\\u00f6\\u00dfe "}\'',
    "UPDATE remote_metrics SET from_timestamp = '0001-01-01 00:00:00+00', to_timestamp = '2026-01-01 00:00:00.1+00'",
    "UPDATE trace_count_transactions SET trace_count = -1 WHERE id = md5('transaction 7')::uuid",
    "UPDATE trace_count_transactions SET session_id = NULL, transaction_type = 'x' || repeat('y', 60)",
    "UPDATE trace_count_transactions SET transaction_type = '4111 1111 1111 1111'",
    "UPDATE trace_count_transactions SET backfill_id = id, status = 'todo' WHERE trace_count < 20",
    'ALTER TABLE remote_metrics ALTER measures TYPE json USING \'{"langgraph.platform.runs":1,"langgraph.platform.runs":2}\'',
    "ALTER TABLE remote_metrics ALTER from_timestamp TYPE timestamp",
]


@pytest.mark.parametrize("change", ["SELECT 1", *ODD_ROWS])
def test_rows_of_the_database_taken_the_quick_way_are_those_of_the_exact_way(
    tmp_path, postgres, change
):
    postgres.fill(transactions=60, metrics=40, snapshots=5)
    postgres.execute(change)
    try:
        found = []
        for way in ("quick", "exact"):
            isolated = home.create(tmp_path / way, "isolated", SOURCE)
            with Collecting(isolated, SCHEMAS, ORDER, lambda: NOW) as collecting:
                if way == "exact":
                    collecting.reader = replace(collecting.reader, quick=None)
                takes = [told(lambda c=collecting: c.take(postgres.url).found) for _ in range(2)]
                found.append((takes, state(collecting.outbox)))
        assert found[0] == found[1]
    finally:
        postgres.execute("""
            ALTER TABLE remote_metrics ALTER measures TYPE jsonb USING '{}';
            ALTER TABLE remote_metrics ALTER from_timestamp TYPE timestamptz;
        """)


def test_plain_rows_of_the_database_take_the_quick_way(tmp_path, postgres, monkeypatch):
    postgres.fill(transactions=6, metrics=4, snapshots=2, status="pending")
    monkeypatch.setattr(postgres_source, "parse_time", None)
    isolated = home.create(tmp_path / "home", "isolated", SOURCE)
    with Collecting(isolated, SCHEMAS, ORDER, lambda: NOW) as collecting:
        assert collecting.take(postgres.url).found.new.records == 12


@pytest.mark.parametrize("value", [report(1), transaction(1), {"license": LICENSE}])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_documented_takes_the_quick_way(value, separators, end):
    line = json.dumps(value, separators=separators) + end
    [made] = Quick(SCHEMAS, RULES).read(line.encode())
    assert made.payload == {name: item for name, item in value.items() if name != "license"}
    assert made.credential == credentials.fingerprint("license", LICENSE)


PLAIN = json.dumps(report(1), separators=(",", ":"))


@pytest.mark.parametrize(
    "line",
    [
        PLAIN.replace('"logs":[]', '"logs":[],"logs":[]'),
        PLAIN.replace(
            '"langgraph.platform.runs":1', '"langgraph.platform.runs":5,"langgraph.platform.runs":1'
        ),
        PLAIN.replace('"license"', '"license":"another-key","license"'),
        PLAIN.replace(":1,", ":1.0,"),
        PLAIN.replace(":1,", ":1e0,"),
        PLAIN.replace(":1,", ":-0,"),
        PLAIN.replace(":1,", ":18446744073709551617,"),
        PLAIN.replace("enterprise", "a@example.com"),
        PLAIN.replace("enterprise", "lsv2_pt_EXAMPLE_another"),
        PLAIN.replace(LICENSE, "made-up-key-1").replace("enterprise", "of made-up-key-1"),
        PLAIN.replace("self-hosted", "4111 1111 1111 1111"),
        PLAIN.replace("langgraph.platform.plan", "unknown"),
        PLAIN.replace("2026-01-06T00:00:00Z", "0001-01-01T00:00:00+00:01"),
        PLAIN.replace("2026-01-06T00:00:00Z", "2026-01-06T00:00:60Z"),
        PLAIN.replace("{", '{"more":1,', 1),
        PLAIN.replace('"logs":[]', '"logs":["line"]'),
        PLAIN.replace(LICENSE, "short"),
        PLAIN.replace('"license"', '"license_key":"another-key","license"'),
    ],
)
def test_what_is_not_plain_never_takes_the_quick_way(line):
    assert line != PLAIN
    quick = Quick(SCHEMAS, RULES)
    assert quick.read(PLAIN.encode() + b"\n")
    assert not quick.read(line.encode() + b"\n")


@pytest.mark.parametrize("text", ["\\u0065nterprise", "enterpris\\u0065", "enter\\/prise"])
def test_a_line_with_needless_escapes_takes_the_exact_way(text):
    line = PLAIN.replace("enterprise", text)
    assert not Quick(SCHEMAS, RULES).read(line.encode() + b"\n")


@pytest.mark.parametrize("key", [{"license": LICENSE}, {}])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_list_of_transactions_takes_the_quick_way_if_all_of_them_are_plain(key, separators):
    quick, some = Quick(SCHEMAS, RULES), [transaction(n) for n in range(3)]

    def read(items, **more):
        value = {**key, "trace_transactions": items, **more}
        return quick.read(json.dumps(value, separators=separators).encode() + b"\n")

    assert [one.payload for one in read(some)] == some
    assert [one.payload for one in read(some[:1])] == some[:1]
    assert not read([])
    assert not read([*some, transaction(4, trace_count=1.0)])
    assert not read([*some, transaction(4, status="a@example.com")])
    assert not read([*some, 1])
    assert not read({"id": 1})
    assert not read(some, more=1)
    line = json.dumps({**key, "trace_transactions": some}, separators=separators)
    for change in ('"trace_count"' + separators[1] + "9,", '"id"' + separators[1] + '"x",'):
        assert not quick.read(line.replace('{"id"', "{" + change + '"id"', 1).encode() + b"\n")


def test_no_pattern_of_a_credential_reaches_from_one_text_into_another():
    # Texts are searched one at a time, so what is between them must not be part of a match.
    for pattern in SCHEMAS.credential_patterns.values():
        assert set(pattern.pattern.decode()) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-[](){}?:|,"
        )
        assert b"[^" not in pattern.pattern


@given(REPORTS | TRANSACTIONS)
def test_ids_of_canonical_payloads_are_those_of_records(value):
    kind = SCHEMAS.kind("trace_transactions" if "trace_count" in value else "usage_report")
    payload = {name: item for name, item in value.items() if name != "license"}
    record = jsonfiles.Record(kind.name, "documents", "license:0", 0, payload)
    try:
        expected = record_id(SOURCE, record, kind)
        canonical = jsontext.canonical(payload)
    except jsontext.NotExactError:
        return
    ids = RecordIds(SOURCE)
    for _ in range(2):
        if kind.identity:
            assert ids.of_identity(kind, str(payload[kind.identity])) == expected
        else:
            assert ids.of_content(kind, "documents", "license:0", canonical) == expected


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999))
def test_times_that_pass_their_schema_are_read_alike_by_both_ways(moment, below):
    text = f"{moment:%Y-%m-%dT%H:%M:%S.%f}".rjust(26, "0") + f"{below:03d}Z"
    assert Moments().of(text) == micros(timestamps.parse(text))


@pytest.mark.parametrize("plain", [True, False], ids=["in batches", "one by one"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((b"plan", b"plAn"), "does not hold what was put in"),
        ((codec.encode(7), codec.encode(8)), "totals part between the outbox and the source"),
    ],
)
def test_a_disk_that_keeps_something_else_is_found_out_and_nothing_is_taken_over(
    tmp_path, plain, change, words
):
    outbox = Outbox(tmp_path / "outbox.sqlite", SOURCE, SCHEMAS)
    connection = outbox.database.connection
    connection.create_function("harmed", 1, lambda payload: payload.replace(*change))
    connection.execute(
        "CREATE TRIGGER harm AFTER INSERT ON record BEGIN"
        " UPDATE record SET payload = harmed(payload) WHERE number = new.number; END"
    )
    shown = [seen(0, None, 0, None), seen(1, None, 0, None)]
    shown += [seen(2, "trace_count_transactions", 1, None)]
    shown.append(
        Sighting.of(replace(shown[0].record, payload={**report(7), "tags": {"plan": "x"}}))
    )
    if plain:
        shown = [Plain.of(one, SCHEMAS.kind(one.record.kind)) for one in shown]
    with pytest.raises(DamagedError, match=words):
        collect(outbox, shown, NOW)
    assert outbox.last_number() == 0
    outbox.close()
