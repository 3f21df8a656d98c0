"""A beacon that takes only so many requests at a time: the limit follows it, and nobody waits for ever."""

import json
import random
import threading
import time

from servers import always, answer, serving
from support import LICENSE, REPOSITORY, report

from airgap import catalog, timestamps
from airgap.cli.import_ import command
from airgap.collect.payloads import Rules, records_of
from airgap.credentials import Keyring
from airgap.records import record_id
from airgap.replay.delivery import Delivery, Pace, Surroundings
from airgap.replay.importing import Sending
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.requests import Routes
from airgap.replay.transport import HttpTransport

SCHEMAS = catalog.load()


class Crowded:
    """Serves so many at a time, each for a moment, and refuses the others."""

    def __init__(self, capacity: int, *, status: int) -> None:
        self.capacity, self.status = capacity, status
        self.serving, self.served, self.refused = 0, 0, 0
        self.lock, self.never = threading.Lock(), threading.Event()

    def __call__(self, connection, _body, _number) -> None:
        with self.lock:
            taken = self.serving < self.capacity
            self.serving += taken
        if not taken:
            self.refused += 1
            connection.sendall(answer(self.status, Retry_After="0"))
            return
        self.never.wait(0.01)
        with self.lock:
            self.serving -= 1
            self.served += 1
        connection.sendall(answer(204))


def deliver(folder, url, count, **pace):
    ledger = Ledger(folder / "ledger.sqlite", SCHEMAS, timestamps.system_clock)
    with ledger.database.transaction() as connection:
        connection.execute(
            "INSERT INTO bundle VALUES (1, 'b', 's', 1, NULL, 0, '', x'', '{}', '{}', NULL, NULL, NULL)"
        )
        for number in range(count):
            value = report(number, to_timestamp=f"2026-03-01T00:00:00.{number:06d}Z")
            [record] = records_of(value, b"", SCHEMAS, Rules(), where="test")
            identifier = record_id("s", record, SCHEMAS.kind(record.kind))
            ledger._add_page(1, [(identifier, record)], "2026-01-01T00:00:00Z", "test")
    ledger.set_scope([LedgerBundle(1, "b", "s", 1, None, 0)])
    around = Surroundings(time.monotonic, time.sleep, random.Random(1).random, lambda: False)
    with HttpTransport(
        timeout=10, in_flight=16, ca_file=None, clock=timestamps.system_clock
    ) as transport:
        done = Delivery(
            ledger,
            SCHEMAS,
            Keyring.of([("license", LICENSE)]),
            Routes({"beacon": url, "api": url}, {}),
            transport,
            Pace(attempts=1000, **{"first_wait": 0.02, **pace}),
            around,
            lambda _: None,
        ).run()
    states = ledger.states(scoped=True)
    ledger.close()
    return done, states


def test_the_limit_finds_the_capacity_of_a_beacon_that_refuses(tmp_path):
    for status in (429, 503):
        folder = tmp_path / str(status)
        folder.mkdir()
        beacon = Crowded(3, status=status)
        with serving(beacon) as server:
            done, states = deliver(
                folder, server.url, 150, in_flight=16, rate=1e5, first_wait=1e-4, longest_wait=1e-3
            )
        assert states == {"usage_report": {"delivered": 150}}
        assert done.stop == ""
        assert (beacon.served, beacon.refused) == (150, done.busy)
        assert done.requests == 150 + beacon.refused
        assert 1 <= done.limit <= 6
        # Without a limit that gives way, thirteen of sixteen would be refused each time.
        assert beacon.refused <= 60


def test_no_more_leave_than_the_rate_allows(tmp_path):
    began = time.monotonic()
    with serving(always(answer(204))) as server:
        done, states = deliver(tmp_path, server.url, 30, in_flight=16, rate=20)
    assert states == {"usage_report": {"delivered": 30}}
    # Twenty at once, and the ten others one after the other: a lower bound is no timed test.
    assert time.monotonic() - began >= 0.5
    assert done.requests == 30


def test_import_says_how_many_were_in_flight_and_how_many_came_back(exported):
    with serving(lambda c, _b, n: c.sendall(answer(503 if n == 0 else 204))) as server:
        said = json.loads(exported.import_(server.url, "--json", "--in-flight", "4").stdout)
    assert (said["requests"], said["busy"]) == (4, 1)
    assert 1 <= said["in_flight"] <= 4
    again = json.loads(exported.import_paths([], server.url, "--resume", "--json").stdout)
    assert (again["requests"], again["busy"], again["in_flight"]) == (0, 0, None)


def test_a_rate_that_is_no_number_is_refused(exported):
    for value in ("0", "nan", "-1", "fast"):
        exported.import_("http://127.0.0.1:9", "--rate", value, code=2)


def test_the_polite_default_is_what_the_operating_page_says():
    defaults = {option.name: option.default for option in command.params}
    assert (defaults["rate"], defaults["in_flight"]) == (50, 8)
    for one in (Sending(), Pace()):
        assert (one.rate, one.in_flight) == (50, 8)
    page = (REPOSITORY / "airgap" / "README.md").read_text()
    assert "at most 50 requests per second (`--rate`)" in page
    assert "at most eight in flight (`--in-flight`)" in page
