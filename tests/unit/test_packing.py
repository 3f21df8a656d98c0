"""Batches of spliced payloads make the bundle that records one by one make."""

import io
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import API_KEY, LICENSE, SOURCE, bundle_fields, report, transaction

from airgap import catalog, outbox, packing
from airgap.bundle.layout import Header
from airgap.bundle.writer import Writer
from airgap.collect.payloads import Rules, records_of
from airgap.collection import collect
from airgap.contents import Contents
from airgap.errors import InputRefusedError
from airgap.limits import MAX_INTEGER
from airgap.outbox import Outbox
from airgap.packing import Packing
from airgap.sightings import Sighting
from airgap.trust import keys

SCHEMAS = catalog.load()
NOW = datetime(2026, 2, 1, tzinfo=UTC)
KEY = keys.generate()
RULES = Rules(
    defaults={"license": "license:" + "0" * 32},
    allowed=frozenset(
        {"usage_report/tags/site", "usage_report/measures/odd", "usage_report/tags/Größe"}
    ),
)
COUNTS = st.sampled_from([0, 1, 203, MAX_INTEGER // 2, MAX_INTEGER])
VALUES = st.lists(
    st.builds(
        lambda count, hour, tags, odd, key: {
            **{k: v for k, v in report(count, hour, tags=tags).items() if k != "license"},
            "measures": {"langgraph.platform.runs": count, **odd},
            **key,
        },
        COUNTS,
        st.integers(0, 3),
        st.dictionaries(
            st.sampled_from(["site", "langgraph.platform.host"]), st.text(max_size=9), max_size=2
        ),
        st.dictionaries(st.just("odd"), COUNTS),
        st.sampled_from(
            [{"license": LICENSE}, {"license_key": "lcl_EXAMPLE_another"}, {"api_key": API_KEY}]
        ),
    )
    | st.builds(transaction, st.integers(0, 5), trace_count=st.just(5))
    | st.just({"license": LICENSE}),
    max_size=12,
)


def packed(held, first, max_size):
    """The bundle from a record on, the last number in it, and what was noted of its contents."""
    stream, contents = io.BytesIO(), Contents()
    writer = Writer(stream, Header("bundle", "none"))
    last = Packing(writer, contents, held, SCHEMAS, max_size).run(first)
    writer.finish(bundle_fields(**contents.as_map(SCHEMAS)), [KEY.sign])
    line = contents.timeline
    noted = (
        line.covered(),
        line.used(),
        line.overlapping,
        line.backwards,
        line.newest,
        sorted(line.known()),
    )
    return stream.getvalue(), last, noted


@settings(deadline=None, max_examples=40)
@given(VALUES, st.integers(1, 5), st.integers(0, 2500) | st.just(10**6), st.integers(0, 3))
def test_batches_give_the_bytes_and_the_windows_that_one_by_one_gives(values, size, more, few):
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as root, pytest.MonkeyPatch.context() as patch:
        held = Outbox(Path(root) / "outbox.sqlite", SOURCE, SCHEMAS)
        for value in values:
            try:
                found = list(records_of(value, b"", SCHEMAS, RULES, where="test"))
                collect(held, map(Sighting.of, found), NOW)
            except InputRefusedError:
                continue  # a name or a text that may not leave, or another transaction of that id
        patch.setattr(outbox, "_BATCH", size)
        patch.setattr(packing, "_FEW_NAMES", few)
        first, max_size = 1, 2 * 65_536 + 400 + more
        while first <= held.last_number():
            batches = packed(held, first, max_size)
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(Packing, "_put_all", lambda _self, _batch: False)
                assert packed(held, first, max_size) == batches
            assert batches[1] >= first
            first = batches[1] + 1
        held.close()


@pytest.mark.parametrize(
    ("values", "last"),
    [
        (
            [
                report(MAX_INTEGER // 3, hour, measures={"odd": MAX_INTEGER // 2 + 1})
                for hour in range(3)
            ],
            1,
        ),
        ([report(1, license=f"lcl_EXAMPLE_{n:04d}") for n in range(1030)], 1024),
    ],
    ids=["a sum that would not fit", "more credentials than a manifest lists"],
)
def test_a_bundle_ends_before_its_manifest_could_not_say_what_is_in_it(tmp_path, values, last):
    held = Outbox(tmp_path / "outbox.sqlite", SOURCE, SCHEMAS)
    found = [
        one for value in values for one in records_of(value, b"", SCHEMAS, RULES, where="test")
    ]
    collect(held, map(Sighting.of, found), NOW)
    assert packed(held, 1, 10**8)[1] == last
    held.close()


def test_a_batch_goes_in_at_once_as_long_as_no_bound_is_near(tmp_path, monkeypatch):
    held = Outbox(tmp_path / "outbox.sqlite", SOURCE, SCHEMAS)
    values = [report(1, hour) for hour in range(5)]
    found = [
        one for value in values for one in records_of(value, b"", SCHEMAS, RULES, where="test")
    ]
    collect(held, map(Sighting.of, found), NOW)
    monkeypatch.setattr(Contents, "add", None)
    assert packed(held, 1, 10**6)[1] == 5
    held.close()
