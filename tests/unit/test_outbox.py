"""The outbox by itself."""

from datetime import UTC, datetime

from support import LICENSE, SOURCE, report, write_lines

from airgap import catalog, home
from airgap.collect.payloads import Rules, records_of
from airgap.collecting import Collecting, Order
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


def test_what_waits_is_added_up_the_same_whether_it_was_counted_before_or_not(tmp_path):
    isolated = home.create(tmp_path / "home", "isolated", SOURCE)
    paths = [
        write_lines(tmp_path / f"{n}.jsonl", [report(n, hour) for hour in range(n)])
        for n in (1, 2, 3)
    ]
    with Collecting(isolated, SCHEMAS, Order(), lambda: NOW) as collecting:
        collecting.take(str(paths[0]))
    with Collecting(isolated, SCHEMAS, Order(), lambda: NOW) as collecting:
        assert collecting.waiting().records == 1
        for path in (paths[1], paths[0], paths[2]):
            collecting.take(str(path))
            assert collecting.waiting().as_map() == collecting.outbox.waiting().as_map()
        assert collecting.waiting().records == 6
        # An export in between takes some of what was counted.
        stored = StoredBundle(1, "b", "b.airgap", 1, 2, "2026-02-01T00:00:00Z", None)
        collecting.outbox.add_bundle(stored, b"", Timeline())
        assert collecting.waiting().as_map() == collecting.outbox.waiting().as_map()
        assert collecting.waiting().records == 4
