"""Delivery against a simulated beacon and simulated time: what is sent, when, and what is stored."""

import json
from dataclasses import dataclass, field

import pytest
from support import LICENSE, report, transaction

from airgap import catalog, timestamps
from airgap.collect.payloads import Rules, records_of
from airgap.credentials import Keyring, fingerprint
from airgap.errors import DamagedError
from airgap.records import record_id
from airgap.replay import decisions
from airgap.replay.answers import Answer, DoubtfulError, NotSentError, Outcome
from airgap.replay.delivery import Delivery, Pace, Surroundings
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle, Settled
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
    flying: list[tuple[int, Outcome]] = field(default_factory=list)
    most: int = 0

    def begin(self, flight: int, request: Request) -> None:
        try:
            outcome: Outcome = self.send(request)
        except (NotSentError, DoubtfulError) as error:
            outcome = error
        self.flying.append((flight, outcome))
        self.most = max(self.most, len(self.flying))

    def landed(self, seconds: float) -> list[tuple[int, Outcome]]:
        return [self.flying.pop(0)]

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
    with ledger.database.transaction() as connection:
        connection.execute(
            "INSERT INTO bundle VALUES (1, 'b', 's', 1, NULL, 0, '', x'', '{}', '{}', NULL, NULL, NULL)"
        )
        for value in values:
            for record in records_of(
                value, json.dumps(value).encode(), SCHEMAS, Rules(), where="test"
            ):
                identifier = record_id("s", record, SCHEMAS.kind(record.kind))
                ledger._add_page(1, [(identifier, record)], "2026-01-01T00:00:00Z", "test")
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
            self.states_at_send.append(other.execute("SELECT state FROM record_state").fetchall())
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
    load(
        ledger,
        *(report(n, n % 24, to_timestamp=f"2026-03-{n + 1:02d}T00:00:00Z") for n in range(20)),
    )
    world = World()
    deliver(ledger, world, in_flight=3)
    assert world.most == 3
    assert states(ledger) == {"delivered": 20}


def test_answers_that_come_together_let_the_limit_grow_as_those_do_that_come_one_by_one(ledger):
    load(ledger, *(report(n, n % 24) for n in range(70)))

    class Bunches(World):
        def landed(self, seconds):
            windows.append(len(self.flying))
            landed, self.flying = self.flying, []
            return landed

    windows = []
    deliver(ledger, Bunches(), in_flight=32, rate=1000.0)
    assert windows == [2, 4, 8, 16, 32, 8]


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


def test_a_record_that_is_in_a_bundle_twice_is_named_wherever_the_second_one_is(ledger):
    load(ledger, {"license": LICENSE, "trace_transactions": [transaction(n) for n in range(6)]})
    ledger._connection.execute(
        "INSERT INTO bundle VALUES (2, 'c', 's', 2, 'b', 0, '', x'', '{}', '{}', NULL, NULL, NULL)"
    )
    pairs = [(entry.id, entry.record) for entry in ledger.waiting("trace_transactions")]
    new = [(bytes([n]) * 16, record) for n, (_, record) in enumerate(pairs)]
    now = "2026-01-01T00:00:00Z"
    # Some are known from the other bundle, which is nothing wrong.
    assert ledger._add_page(2, [new[0], pairs[1], new[2]], now, "b") == {pairs[1][0]}
    for page, twice in (
        ([new[3], new[2], pairs[4]], new[2]),
        ([pairs[5], new[4], pairs[1]], pairs[1]),
        ([new[5], pairs[0], new[5]], new[5]),
    ):
        with pytest.raises(DamagedError, match=f"record {twice[0].hex()} twice"):
            with ledger.database.transaction():
                ledger._add_page(2, page, now, "b")


def test_numbers_that_follow_each_other_are_one_change_and_a_hole_is_left_out(ledger):
    load(ledger, {"license": LICENSE, "trace_transactions": [transaction(n) for n in range(9)]})
    ledger.step([], [9, 1, 2, 3, 7, 5])
    sending = "SELECT record FROM open_record WHERE state = 'sending' ORDER BY record"
    assert ledger._connection.execute(sending).fetchall() == [(n,) for n in (1, 2, 3, 5, 7, 9)]
    with pytest.raises(DamagedError):
        ledger.step([Settled((1, 2, 3), "delivered", 200)], [4, 5])
    ledger.step(
        [Settled((3, 1), "delivered", 200), Settled((2,), "in_doubt", 500, "why", doubted=True),
         Settled((5, 9), "delivered", 200)],
        [4, 6],
    )  # fmt: skip
    rows = ledger._connection.execute("SELECT state FROM record_state ORDER BY number")
    assert [row[0] for row in rows] == [
        "delivered", "in_doubt", "delivered", "sending", "delivered", "sending", "sending",
        "waiting", "delivered",
    ]  # fmt: skip
    doubted = "SELECT number, attempts FROM record_state WHERE doubted = 1"
    assert ledger._connection.execute(doubted).fetchall() == [(2, 1)]


def test_one_that_waits_for_long_does_not_keep_the_others_when_the_rate_is_low(ledger):
    load(ledger, *(report(n, n) for n in range(20)))
    world = World([None] * 9 + [Answer(429, b"", retry_after=50.0)])
    deliver(ledger, world, in_flight=8, rate=4.0)
    assert states(ledger) == {"delivered": 20}
    # The others went on, four per second, and only then was the rest of the fifty seconds waited for.
    assert world.sleeps[-1] > 45
    assert world.time < 53


def test_requests_leave_at_the_rate_and_second_attempts_count(ledger):
    load(ledger, *(report(n, n) for n in range(6)))
    world = World([Answer(503, b"", retry_after=0.0)] * 3)
    deliver(ledger, world, in_flight=8, rate=2.0, first_wait=0.001)
    assert len(world.sent) == 9
    assert world.time == pytest.approx((9 - 2) / 2.0, abs=0.1)
