"""A delivery against a real server that never ends its headers."""

import random
import threading
import time

from servers import serving
from support import LICENSE, report

from airgap import catalog, timestamps
from airgap.collect.payloads import Rules, records_of
from airgap.credentials import Keyring
from airgap.records import record_id
from airgap.replay.delivery import Delivery, Pace, Surroundings
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.requests import Routes
from airgap.replay.transport import HttpTransport


def deliver_with_deadline(folder):
    """Deliver one report with a deadline of half a second; return states and why it stopped."""
    schemas = catalog.load()
    ledger = Ledger(folder / "ledger.sqlite", schemas, timestamps.system_clock)
    ledger._connection.execute(
        "INSERT INTO bundle VALUES (1, 'b', 's', 1, NULL, 0, '', x'', '{}', '{}', NULL, NULL, NULL)"
    )
    [record] = records_of(report(1), b"", schemas, Rules(), where="test")
    identifier = record_id("s", record, schemas.kind(record.kind))
    ledger._add_page(1, [(identifier, record)], "2026-01-01T00:00:00Z", "test")
    ledger.set_scope([LedgerBundle(1, "b", "s", 1, None, 0)])
    done = threading.Event()

    def dribble(connection, _body, _number):
        connection.sendall(b"HTTP/1.1 204 No Content\r\nX: ")
        while not done.wait(0.05):
            connection.sendall(b"y")

    around = Surroundings(time.monotonic, time.sleep, random.random, lambda: False)
    with serving(dribble) as server:
        transport = HttpTransport(
            timeout=2, in_flight=1, ca_file=None, clock=timestamps.system_clock
        )
        with transport:
            result = Delivery(
                ledger,
                schemas,
                Keyring.of([("license", LICENSE)]),
                Routes({"beacon": server.url, "api": server.url}, {}),
                transport,
                Pace(in_flight=1, deadline=0.5),
                around,
                lambda _: None,
            ).run()
        states = ledger.states(scoped=True)
        done.set()
    ledger.close()
    return states, result.stop
