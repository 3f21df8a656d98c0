"""Delivery against a simulated beacon and simulated time: what is sent, when, and what is stored."""

import json
from dataclasses import dataclass, field

import pytest
from support import LICENSE, report, transaction

from airgap import catalog, timestamps
from airgap.collect.payloads import Rules, records_of
from airgap.credentials import Keyring, fingerprint
from airgap.records import record_id
from airgap.replay import decisions
from airgap.replay.answers import Answer, DoubtfulError, NotSentError
from airgap.replay.delivery import Delivery, Pace, Surroundings
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.requests import Request, Routes

SCHEMAS = catalog.load()
OK = {
    "/v1/metadata/submit": Answer(204, b""),
    "/v1/beacon/verify": Answer(200, b'{"token":"t"}'),
    "/v1/beacon/usage-snapshot": Answer(200, b""),
}


@dataclass
class World:
    """A beacon, a clock and a sleeper in one: implements Transport and Surroundings."""

    script: list[object] = field(default_factory=list)
    time: float = 0.0
    sleeps: list[float] = field(default_factory=list)
    sent: list[Request] = field(default_factory=list)
    states_at_send: list[dict[str, dict[str, int]]] = field(default_factory=list)
    stopped: bool = False

    def send(self, request: Request) -> Answer:
        self.sent.append(request)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Answer):
            return step
        path = request.url.removeprefix("http://beacon")
        if path == "/v1/beacon/ingest-traces":
            count = len(json.loads(request.body)["trace_transactions"])
            return Answer(200, json.dumps({"inserted_count": count}).encode())
        return OK[path]

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(lambda: self.time, self.sleep, lambda: 1.0, lambda: self.stopped)


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "ledger.sqlite", SCHEMAS, timestamps.system_clock)
    yield made
    made.close()


def load(ledger, *values):
    """Put requests into the ledger as if a bundle had brought them."""
    connection = ledger._connection
    connection.execute(
        "INSERT INTO bundle VALUES (1, 'b', 's', 1, NULL, 0, '', x'', '{}', '{}', NULL, NULL, NULL)"
    )
    for value in values:
        for record in records_of(value, json.dumps(value).encode(), SCHEMAS, Rules(), where="test"):
            identifier = record_id("s", record, SCHEMAS.kind(record.kind))
            ledger._add_record(1, identifier, record, "2026-01-01T00:00:00Z", "test")
    ledger.set_scope([LedgerBundle(1, "b", "s", 1, None, 0)])


def deliver(ledger, world, **pace):
    routes = Routes({"beacon": "http://beacon", "api": "http://beacon"}, {})
    keyring = Keyring.of([("license", LICENSE)])
    pace = Pace(**{"in_flight": 1, "attempts": 4, "first_wait": 1.0, "longest_wait": 60.0, **pace})
    return Delivery(
        ledger, SCHEMAS, keyring, routes, world, pace, world.surroundings, lambda _: None
    ).run()


def states(ledger):
    found = {}
    for per_kind in ledger.states(scoped=True).values():
        for state, count in per_kind.items():
            found[state] = found.get(state, 0) + count
    return found


def test_about_to_send_is_on_disk_before_the_request_leaves(ledger, tmp_path):
    load(ledger, report(1))
    import sqlite3

    class Peeking(World):
        def send(self, request):
            other = sqlite3.connect(tmp_path / "ledger.sqlite")
            self.states_at_send.append(other.execute("SELECT state FROM record").fetchall())
            other.close()
            return super().send(request)

    world = Peeking()
    deliver(ledger, world)
    assert world.states_at_send == [[("sending",)]]
    assert states(ledger) == {"delivered": 1}


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_busy_beacon_is_asked_again_with_growing_waits(ledger, status):
    load(ledger, report(1))
    world = World([Answer(status, b""), Answer(status, b"")])
    deliver(ledger, world)
    assert len(world.sent) == 3
    assert world.sleeps == [1.0, 2.0]
    assert states(ledger) == {"delivered": 1}


def test_retry_after_is_honoured_as_a_lower_bound(ledger):
    load(ledger, report(1))
    world = World([Answer(429, b"", retry_after=17.0)])
    deliver(ledger, world)
    assert world.sleeps == [17.0]


def test_a_retry_after_beyond_the_longest_wait_ends_the_run_and_loses_nothing(ledger):
    load(ledger, report(1), report(2, 1))
    world = World([Answer(503, b"", retry_after=86_400.0)])
    assert deliver(ledger, world).stop == "unreachable"
    assert world.sleeps == []
    assert states(ledger) == {"waiting": 2}


def test_refused_connections_are_no_doubt_and_end_the_run_after_the_last_attempt(ledger):
    load(ledger, report(1), report(2, 1))
    world = World([NotSentError("refused")] * 4)
    assert deliver(ledger, world).stop == "unreachable"
    assert len(world.sent) == 4
    assert states(ledger) == {"waiting": 2}


def test_a_cut_off_usage_report_is_in_doubt_and_never_sent_again_by_itself(ledger):
    load(ledger, report(1), report(2, 1))
    world = World([DoubtfulError("reset")])
    assert deliver(ledger, world).stop == ""
    assert states(ledger) == {"in_doubt": 1, "delivered": 1}
    deliver(ledger, world)
    assert len(world.sent) == 2


def test_a_cut_off_batch_of_transactions_is_sent_again_because_duplicates_are_told(ledger):
    load(ledger, {"license": LICENSE, "trace_transactions": [transaction(1), transaction(2)]})
    # The first attempt counted both, so the second inserts none; that is delivered all the same.
    world = World([DoubtfulError("reset"), Answer(200, b'{"inserted_count":0}')])
    deliver(ledger, world)
    assert len(world.sent) == 2
    assert states(ledger) == {"delivered": 2}


@pytest.mark.parametrize("count", ["0", "1", "3", '"2"', "2.5", "null"])
def test_an_inserted_count_that_differs_is_a_finding_and_no_success(ledger, count):
    load(ledger, {"license": LICENSE, "trace_transactions": [transaction(1), transaction(2)]})
    deliver(ledger, World([Answer(200, b'{"inserted_count":%s}' % count.encode())]))
    assert states(ledger) == {"in_doubt": 2}


@pytest.mark.parametrize("status", [500, 502, 504, 599])
def test_a_failing_beacon_leaves_doubt_only_where_it_can_not_tell_duplicates(ledger, status):
    load(ledger, report(1), {"license": LICENSE, "trace_transactions": [transaction(1)]})
    world = World([Answer(status, b"")] * 2)
    deliver(ledger, world)
    assert ledger.states(scoped=True) == {
        "usage_report": {"in_doubt": 1},
        "trace_transactions": {"delivered": 1},
    }


@pytest.mark.parametrize("answer", [Answer(200, b"<html>login</html>"), Answer(202, b"")])
def test_an_answer_that_is_not_the_documented_one_is_doubt_and_stops_the_run(ledger, answer):
    load(ledger, report(1), report(2, 1))
    world = World([answer])
    assert deliver(ledger, world).stop == "not_the_beacon"
    assert states(ledger) == {"in_doubt": 1, "waiting": 1}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_never_followed_and_stops_the_run(ledger, status):
    load(ledger, report(1))
    world = World([Answer(status, b"")])
    assert deliver(ledger, world).stop == "not_the_beacon"
    assert states(ledger) == {"waiting": 1}
    assert len(world.sent) == 1


def test_licences_are_verified_before_usage_is_reported_under_them(ledger):
    load(ledger, report(1), {"license": LICENSE})
    world = World()
    deliver(ledger, world, in_flight=4)
    assert [r.url for r in world.sent] == [
        "http://beacon/v1/beacon/verify",
        "http://beacon/v1/metadata/submit",
    ]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_nothing_is_reported_under_a_licence_that_the_beacon_refuses(ledger, status):
    load(ledger, report(1), {"license": LICENSE})
    world = World([Answer(status, b"")])
    result = deliver(ledger, world)
    assert result.held == {fingerprint("license", LICENSE)}
    assert ledger.states(scoped=True) == {
        "license_verification": {"dead": 1},
        "usage_report": {"waiting": 1},
    }


@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_refused_credential_makes_no_dead_letters_of_usage(ledger, status):
    load(ledger, *(report(n, n) for n in range(5)))
    world = World([Answer(status, b"")])
    deliver(ledger, world)
    assert states(ledger) == {"waiting": 5}
    assert len(world.sent) == 1


def test_a_record_that_is_refused_for_good_is_a_dead_letter_with_the_answer(ledger):
    load(ledger, report(1), report(2, 1))
    deliver(ledger, World([Answer(422, b"no")]))
    assert states(ledger) == {"dead": 1, "delivered": 1}
    [letter] = decisions.unsettled(ledger, "dead", 10)
    assert (letter["status"], letter["detail"]) == (422, "answered 422: refused for good: no")


def test_a_refused_batch_is_halved_until_the_bad_record_is_alone(ledger):
    load(ledger, {"license": LICENSE, "trace_transactions": [transaction(n) for n in range(8)]})

    class OneBad(World):
        def send(self, request):
            if b"37df00000005" in request.body:
                self.sent.append(request)
                return Answer(422, b"")
            return super().send(request)

    world = OneBad()
    deliver(ledger, world)
    assert states(ledger) == {"delivered": 7, "dead": 1}
    assert len(world.sent) == 7


def test_batches_hold_at_most_what_the_catalogue_says(ledger):
    load(ledger, {"license": LICENSE, "trace_transactions": [transaction(n) for n in range(1201)]})
    world = World()
    deliver(ledger, world)
    assert [len(json.loads(r.body)["trace_transactions"]) for r in world.sent] == [500, 500, 201]


def test_an_interruption_sends_nothing_more_and_settles_what_was_in_flight(ledger):
    load(ledger, *(report(n, n) for n in range(5)))

    class Interrupting(World):
        def send(self, request):
            self.stopped = True
            return super().send(request)

    world = Interrupting()
    assert deliver(ledger, world).stop == "interrupted"
    assert states(ledger) == {"delivered": 1, "waiting": 4}


def test_several_requests_are_in_flight_and_no_more_than_allowed(ledger):
    import threading

    load(
        ledger,
        *(report(n, n % 24, to_timestamp=f"2026-03-{n + 1:02d}T00:00:00Z") for n in range(20)),
    )
    together = threading.Barrier(3, timeout=10)
    flying, most, begun, lock = 0, 0, 0, threading.Lock()

    class Slow(World):
        def send(self, request):
            nonlocal flying, most, begun
            with lock:
                flying += 1
                most = max(most, flying)
                begun += 1
                # By turns begun, not ended: the last two find no third, and must not wait for one.
                waits = begun <= 18
            if waits:
                together.wait()
            answer = super().send(request)
            with lock:
                flying -= 1
            return answer

    deliver(ledger, Slow(), in_flight=3)
    assert most == 3
    assert states(ledger) == {"delivered": 20}


def test_what_a_run_left_in_sending_is_in_doubt_or_sent_again_by_kind(ledger):
    load(ledger, report(1), {"license": LICENSE, "trace_transactions": [transaction(1)]})
    numbers = [
        e.number for kind in ("usage_report", "trace_transactions") for e in ledger.waiting(kind)
    ]
    ledger.step([], numbers)
    assert ledger.recover() == 1
    assert ledger.states(scoped=True) == {
        "usage_report": {"in_doubt": 1},
        "trace_transactions": {"waiting": 1},
    }
    [entry] = ledger.waiting("trace_transactions")
    assert entry.doubted


def test_every_request_carries_an_idempotency_key_that_stays_the_same(ledger):
    load(ledger, report(1))
    world = World([Answer(503, b""), Answer(503, b"")])
    deliver(ledger, world)
    assert len({r.headers["Idempotency-Key"] for r in world.sent}) == 1
    assert len(world.sent[0].headers["Idempotency-Key"]) == 32


def test_a_transaction_that_may_have_been_counted_is_in_doubt_and_not_dead_when_it_is_refused(
    ledger,
):
    load(ledger, {"license": LICENSE, "trace_transactions": [transaction(1)]})
    deliver(ledger, World([DoubtfulError("cut off"), Answer(400, b"")]))
    [letter] = decisions.unsettled(ledger, "in_doubt", 10)
    assert "refused for good" in letter["detail"]


def test_a_transaction_sent_again_after_an_undocumented_answer_is_settled(ledger):
    load(ledger, {"license": LICENSE, "trace_transactions": [transaction(1)]})
    deliver(ledger, World([Answer(204, b"")]))
    decisions.decide(ledger, "", ("in_doubt",), "waiting", "duplicates are told")
    deliver(ledger, World([Answer(200, b'{"inserted_count":0}')]))
    assert states(ledger) == {"delivered": 1}
