"""The keeper's thread: what one request does to the others that are committed with it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support import SOURCE, report

from airgap import captured, catalog
from airgap.capture.keeping import Keeper
from airgap.collect.payloads import Rules, records_of
from airgap.errors import AirgapError, MediumError
from airgap.outbox import Outbox
from airgap.sightings import Sighting

SCHEMAS = catalog.load()
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def sightings(hour):
    found = records_of(report(1, hour), b"", SCHEMAS, Rules(), where="test")
    return [Sighting.of(record) for record in found]


def test_a_request_that_fails_in_a_new_way_takes_no_other_with_it(tmp_path, monkeypatch):
    receive = captured.receive

    def failing(outbox, requests, now):
        if [] in requests:
            raise OverflowError("a number that nobody thought of")
        return receive(outbox, requests, now)

    monkeypatch.setattr(captured, "receive", failing)
    keeper = Keeper(lambda: Outbox(tmp_path / "outbox.sqlite", SOURCE, SCHEMAS), lambda: NOW)

    async def all_at_once():
        # Asked before the thread runs, so that they are taken together.
        asked = [asyncio.create_task(keeper.keep(s)) for s in (sightings(1), [], sightings(2))]
        await asyncio.sleep(0)
        keeper.start()
        return await asyncio.gather(*asked, return_exceptions=True)

    first, bad, last = asyncio.run(all_at_once())
    keeper.stop()
    assert first.new == last.new == 1
    assert isinstance(bad, AirgapError)
    assert "OverflowError" in bad.message
    assert "nobody" not in bad.message
    outbox = Outbox(tmp_path / "outbox.sqlite", SOURCE, SCHEMAS)
    assert len(captured.waiting(outbox)) == 2
    outbox.close()


def test_an_outbox_that_cannot_be_opened_is_said_at_the_start(tmp_path):
    (tmp_path / "outbox.sqlite").write_bytes(b"not a database at all" * 100)
    keeper = Keeper(lambda: Outbox(tmp_path / "outbox.sqlite", SOURCE, SCHEMAS), lambda: NOW)
    with pytest.raises(AirgapError):
        keeper.start()


def test_health_comes_back_by_itself_so_that_requests_do(tmp_path, monkeypatch):
    """Whoever watches it may hold requests back, and none would come to show that all is well."""
    now = [NOW]
    keeper = Keeper(lambda: Outbox(tmp_path / "outbox.sqlite", SOURCE, SCHEMAS), lambda: now[0])
    keeper.start()

    def full(*_):
        raise MediumError("the database can't be written: disk is full")

    monkeypatch.setattr(captured, "receive", full)
    with pytest.raises(MediumError):
        asyncio.run(keeper.keep(sightings(1)))
    assert not keeper.works
    now[0] += timedelta(seconds=59)
    assert not keeper.works
    now[0] += timedelta(seconds=2)
    assert keeper.works
    monkeypatch.undo()
    asyncio.run(keeper.keep(sightings(1)))
    now[0] = NOW
    assert keeper.works
    keeper.stop()
