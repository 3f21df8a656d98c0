"""Reports that are sent again with more in them: the later one counts, and nothing twice."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import API_KEY, LICENSE, SOURCE, transaction

from airgap import captured, catalog, overview
from airgap.bundle import codec
from airgap.collect.payloads import Rules, records_of
from airgap.errors import OverdueError
from airgap.outbox import Outbox, StoredBundle
from airgap.records import Totals
from airgap.sightings import Sighting
from airgap.windows import Timeline

SCHEMAS = catalog.load()
NOW = datetime(2026, 2, 1, tzinfo=UTC)
T0 = datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC)
RUNS, NODES, GRAPHS = (f"langgraph.platform.{n}" for n in ("runs", "nodes", "py_graphs"))


def window(start, end, runs, nodes, host="self-hosted", key=API_KEY, graphs=2):
    body = {
        "api_key": key,
        "from_timestamp": (T0 + timedelta(seconds=start)).isoformat(),
        "to_timestamp": (T0 + timedelta(seconds=end)).isoformat(),
        "tags": {"langgraph.platform.host": host},
        "measures": {RUNS: runs, NODES: nodes, GRAPHS: graphs},
        "logs": [],
    }
    return [Sighting.of(r) for r in records_of(body, b"", SCHEMAS, Rules(), where="test")]


class Box:
    """An outbox, and what is in its records."""

    def __init__(self, path):
        self.outbox = Outbox(path / "outbox.sqlite", SOURCE, SCHEMAS)

    def close(self):
        self.outbox.close()

    def receive(self, *requests):
        return captured.receive(self.outbox, requests, NOW)

    def take(self):
        return captured.take(self.outbox, NOW)

    def counts(self):
        self.take()
        totals = self.outbox.totals(1).kinds.get("usage_report")
        return (0, 0) if totals is None else (totals.sums[RUNS], totals.sums[NODES])


@pytest.fixture
def box(tmp_path):
    with closing(Box(tmp_path)) as one:
        yield one


def test_a_window_that_is_sent_again_with_more_stands_in_the_place_of_the_first(box):
    [first] = box.receive(window(0, 300, 3, 9))
    [second] = box.receive(window(0, 600, 5, 15))
    assert (first.new, second.replaced) == (1, 1)
    assert box.counts() == (5, 15)
    assert box.outbox.totals(1).records == 1


def test_what_left_already_is_taken_off_a_window_that_comes_again(box):
    box.receive(window(0, 300, 3, 9))
    assert box.counts() == (3, 9)
    box.receive(window(0, 600, 5, 15))
    assert box.counts() == (5, 15)
    _, (number, rest) = list(box.outbox.records(1))
    assert (number, rest.payload["from_timestamp"]) == (2, "2026-01-31T08:05:00.123456+00:00")
    assert rest.payload["measures"] == {RUNS: 2, NODES: 6, GRAPHS: 2}, "a gauge is no count"


def test_the_same_request_again_is_known_also_after_it_left(box):
    box.receive(window(0, 300, 3, 9))
    assert box.receive(window(0, 300, 3, 9))[0].known == 1
    box.take()
    assert box.receive(window(0, 300, 3, 9))[0].known == 1
    assert box.take() is None
    assert box.counts() == (3, 9)


def test_an_earlier_window_that_comes_late_takes_nothing_back(box):
    box.receive(window(0, 600, 5, 15))
    assert box.receive(window(0, 300, 3, 9))[0].known == 1
    assert box.counts() == (5, 15)


def test_replicas_that_overlap_stay_apart(box):
    box.receive(window(0, 300, 3, 9), window(0.5, 300, 7, 21))
    assert box.counts() == (10, 30)


def test_equal_starts_of_different_servers_or_keys_or_smaller_counts_stay_apart(box):
    box.receive(
        window(0, 300, 3, 9),
        window(0, 600, 5, 15, host="byoc"),
        window(0, 600, 5, 15, key="lsv2_pt_EXAMPLE_another_key"),
        window(0, 600, 2, 30),
    )
    assert box.counts() == (3 + 5 + 5 + 2, 9 + 15 + 15 + 30)


def test_round_starts_that_two_producers_may_share_stay_apart(box):
    first, second = -0.123456, 299.876544
    box.receive(window(first, second, 3, 9))
    box.receive(window(first, second + 300, 5, 15))
    assert box.receive(window(first, second + 300, 5, 15))[0].known == 1
    assert box.counts() == (8, 24)


def test_one_bad_request_among_many_harms_no_other(box):

    def traces(count):
        body = {"license": LICENSE, "trace_transactions": [transaction(1, trace_count=count)]}
        return [Sighting.of(r) for r in records_of(body, b"", SCHEMAS, Rules(), where="test")]

    answers = box.receive(traces(5), traces(6), window(0, 300, 3, 9), traces(5))
    assert [type(a).__name__ for a in answers] == [
        "Received",
        "InputRefusedError",
        "Received",
        "Received",
    ]
    assert (answers[0].new, answers[3].known) == (1, 1)
    box.take()
    assert box.outbox.totals(1).kinds["trace_transactions"].sums["trace_count"] == 5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),  # which server
            st.integers(0, 9),  # runs since the last post
            st.sampled_from(("answered", "lost", "lost", "not sent")),
            st.booleans(),  # whether an export follows
        ),
        max_size=25,
    )
)
def test_whatever_is_lost_and_exported_when_the_counts_are_those_of_the_servers(
    tmp_path_factory, steps
):
    """A model of the real server's loop: it goes on from the start that was not answered."""
    box = Box(tmp_path_factory.mktemp("box"))
    starts, pending, arrived = [0.0, 0.25], [0, 0], [0, 0]
    for at, (server, runs, fate, export) in enumerate(steps, 1):
        pending[server] += runs
        end = at * 300 + server * 0.25
        if fate != "not sent":
            box.receive(window(starts[server], end, pending[server], 3 * pending[server]))
            arrived[server] = pending[server]
        if fate == "answered":
            starts[server], pending[server] = end, 0
            arrived.append(arrived[server])
            arrived[server] = 0
        if export:
            box.take()
    total = sum(arrived)
    assert box.counts() == (total, 3 * total)
    ends = [r.payload["to_timestamp"] for _, r in box.outbox.records(1)]
    assert len(set(ends)) == len(ends)
    box.outbox.close()


def test_status_counts_what_waits_apart(box):
    box.receive(window(0, 300, 3, 9))
    assert captured.waiting_totals(box.outbox).kinds["usage_report"].sums[RUNS] == 3
    box.take()
    assert captured.waiting_totals(box.outbox).records == 0


def test_what_waits_apart_for_too_long_is_overdue_also_where_more_came_since(box):
    received = NOW - timedelta(days=40)
    captured.receive(box.outbox, [window(0, 300, 3, 9)], received)
    box.receive(window(0, 600, 5, 15))
    view = overview.look(box.outbox, NOW, gap_over=timedelta(days=1), max_age=timedelta(days=35))
    [problem] = [p for p in view.problems if isinstance(p, OverdueError)]
    assert problem.found == "a record collected 2025-12-23T00:00:00Z is not confirmed"
    assert "nothing was collected yet" not in problem.details


def test_what_is_a_record_never_changes(box):
    box.receive(window(0, 300, 3, 9))
    box.take()
    sql = "SELECT * FROM record"
    before = box.outbox.database.connection.execute(sql).fetchall()
    box.outbox.add_bundle(
        StoredBundle(1, "b", "b.airgap", 1, 1, "2026-02-01T00:00:00Z", None), b"", Timeline()
    )
    box.receive(window(0, 600, 5, 15))
    assert box.outbox.database.connection.execute(sql).fetchall() == before
    totals = Totals()
    for _, record in box.outbox.records(1):
        totals.add(SCHEMAS.kind(record.kind), record.payload)
    assert totals.records == 1
    assert codec.decode_own(before[0][6])["measures"][RUNS] == 3
