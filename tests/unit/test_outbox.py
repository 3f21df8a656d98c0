"""The outbox by itself."""

from datetime import UTC, datetime

from support import LICENSE, SOURCE, report

from airgap import catalog
from airgap.collect.payloads import Rules, records_of
from airgap.collection import collect
from airgap.outbox import Outbox, StoredBundle
from airgap.sightings import Sighting
from airgap.windows import Timeline

SCHEMAS = catalog.load()
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def test_nothing_waits_when_a_file_that_left_is_collected_again(tmp_path):
    outbox = Outbox(tmp_path / "outbox.sqlite", SOURCE, SCHEMAS)
    value = report(1, license=LICENSE)
    collect(outbox, map(Sighting.of, records_of(value, b"", SCHEMAS, Rules(), where="test")), NOW)
    stored = StoredBundle(1, "b", "b.airgap", 1, 1, "2026-02-01T00:00:00Z", None)
    outbox.add_bundle(stored, b"", Timeline())
    collect(outbox, map(Sighting.of, records_of(value, b"", SCHEMAS, Rules(), where="test")), NOW)
    waiting = outbox.waiting().records, outbox.has_waiting()
    outbox.close()
    assert waiting == (0, False)
