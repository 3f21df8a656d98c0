"""Which time is covered: held against a plain set of instants."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import coverage, windows
from airgap.coverage import Coverage
from airgap.windows import Timeline

WINDOWS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)


def instants(found):
    return {moment for start, end in found for moment in range(start, end)}


@given(WINDOWS)
def test_coverage_holds_exactly_the_instants_of_its_windows(found):
    covered, seen = Coverage(), set()
    for start, end in found:
        new = set(range(start, end))
        assert covered.add(start, end) == bool(new & seen)
        seen |= new
    joined = covered.joined()
    assert instants(joined) == seen
    assert all(a[1] < b[0] for a, b in pairwise(joined))


@given(WINDOWS)
def test_coverage_is_the_same_however_few_windows_one_of_its_runs_holds(found):
    whole, parted = Coverage(), Coverage()
    with pytest.MonkeyPatch.context() as patch:
        said = [whole.add(*window) for window in found]
        patch.setattr(coverage, "_RUN", 2)
        assert [parted.add(*window) for window in found] == said
        again = Coverage.from_bytes(parted.to_bytes())
    assert parted.joined() == again.joined() == whole.joined()
    assert parted.to_bytes() == again.to_bytes() == whole.to_bytes()
    probes = [(a, b) for a in range(0, 41, 3) for b in range(a, 42, 4)]
    assert [parted.meets(*w) for w in probes] == [whole.meets(*w) for w in probes]
    assert [again.add(*w) for w in probes] == [whole.add(*w) for w in probes]
    assert again.joined() == whole.joined()


@given(WINDOWS, st.integers(0, 10))
def test_gaps_are_what_is_longer_than_the_tolerance_and_not_covered(found, tolerance):
    joined = Coverage(found).joined(tolerance)
    covered = instants(found)
    for start, end in windows.gaps(joined):
        assert end - start > tolerance
        assert not covered & set(range(start, end))
    holes = instants(joined) - covered
    assert all(set(range(m - tolerance, m + tolerance + 1)) & covered for m in holes)


@given(WINDOWS, st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_meets_tells_whether_an_instant_is_shared(found, window):
    assert Coverage(found).meets(*window) == bool(instants(found) & instants([window]))


@given(WINDOWS, WINDOWS)
def test_merging_bundles_covers_what_each_covers(one, other):
    merged = windows.merge([{"k": Coverage(one).joined()}, {"k": Coverage(other).joined()}])
    assert instants(merged["k"].joined()) == instants(one) | instants(other)


def at(minute):
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)


def test_a_timeline_counts_overlaps_of_one_credential_only():
    timeline = Timeline()
    timeline.add("usage_report", "license:a", at(0), at(5), used=True)
    timeline.add("usage_report", "license:a", at(5), at(10), used=True)
    timeline.add("usage_report", "license:b", at(0), at(5), used=False)
    assert timeline.overlapping == {}
    timeline.add("usage_report", "license:a", at(0), at(12), used=True)
    assert timeline.overlapping == {"usage_report": 1}
    timeline.add("trace_transactions", "license:a", at(0), at(5), used=True, alone=False)
    timeline.add("trace_transactions", "license:a", at(0), at(5), used=True, alone=False)
    assert timeline.overlapping == {"usage_report": 1}, "transactions have ids of their own"


def test_a_timeline_keeps_apart_what_was_covered_and_what_was_used():
    timeline = Timeline()
    timeline.add("usage_report", "license:a", at(0), at(5), used=True)
    timeline.add("usage_report", "license:a", at(60), at(55), used=False)
    assert timeline.backwards == 1
    # A window that goes backwards proves nothing about the time between.
    assert timeline.covered() == {"usage_report": [(windows.micros(at(0)), windows.micros(at(5)))]}
    assert timeline.used() == {"usage_report": [(windows.micros(at(0)), windows.micros(at(5)))]}
    assert windows.from_json(windows.to_json(timeline.covered())) == timeline.covered()


def test_seconds_between_windows_are_a_seam_and_no_gap():
    timeline = Timeline()
    for hour in range(3):
        start = at(60 * hour)
        timeline.add("k", "c", start, start + timedelta(minutes=59, seconds=59), used=True)
    [window] = timeline.covered()["k"]
    assert window == (windows.micros(at(0)), windows.micros(at(180)) - 1_000_000)


def test_windows_take_sixteen_bytes_each_and_one_is_put_among_few_others_in_any_order():
    windows_of = [(10 * n, 10 * n + 5) for n in range(10_000)]
    for order in (windows_of, windows_of[::-1]):
        covered = Coverage(order)
        assert max(map(len, covered._starts)) <= coverage._RUN
        assert {part.itemsize for part in (*covered._starts, *covered._ends)} == {8}
        assert covered.joined() == windows_of


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_instants_survive_as_integers(moment):
    assert windows.instant(windows.micros(moment)) == moment
