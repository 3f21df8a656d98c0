"""The limit of requests in flight, and the rate: pure, against a simulated beacon and clock."""

import heapq
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.replay.rate import Rate
from airgap.replay.throttle import Throttle


def round_of(throttle, departed, seconds=0.1, *, refused=0):
    """Answer one window of requests, of which the first ones are refused; return the next number."""
    window = throttle.limit
    for position in range(window):
        if position < refused:
            throttle.refused(departed + position, departed=departed + window)
        else:
            throttle.answered(
                departed + position,
                seconds,
                "alike",
                in_flight=window,
                full=True,
                departed=departed + window,
            )
    return departed + window


def full_rounds(throttle, rounds, departed=0, seconds=0.1):
    """Answer windows that are always full, as when the next request leaves at once."""
    for _ in range(rounds):
        for _ in range(throttle.limit):
            throttle.answered(
                departed,
                seconds,
                "alike",
                in_flight=throttle.limit,
                full=True,
                departed=departed + 1,
            )
            departed += 1
    return departed


def test_it_starts_low_doubles_and_stays_at_the_ceiling():
    throttle = Throttle(64)
    seen, departed = [throttle.limit], 0
    for _ in range(7):
        departed = full_rounds(throttle, 1, departed)
        seen.append(throttle.limit)
    assert seen == [2, 4, 8, 16, 32, 64, 64, 64]


def test_after_the_first_refusal_it_grows_by_one_per_window():
    throttle = Throttle(64)
    departed = full_rounds(throttle, 3)
    throttle.refused(departed, departed=departed + 1)
    assert throttle.limit == 8
    seen = []
    for _ in range(6):
        departed = full_rounds(throttle, 1, departed + 1)
        seen.append(throttle.limit)
    assert seen[-1] - 8 in (5, 6)
    assert all(after - before in (0, 1) for before, after in zip([8, *seen], seen, strict=False))


def test_a_burst_of_refusals_halves_once():
    throttle = Throttle(64)
    departed = full_rounds(throttle, 4)
    before = throttle.limit
    round_of(throttle, departed, refused=before)
    assert throttle.limit == before // 2
    assert throttle.busy == before


def test_an_idle_line_teaches_nothing_about_more():
    throttle = Throttle(64)
    for number in range(100):
        throttle.answered(number, 0.1, "alike", in_flight=1, full=False, departed=number + 1)
    assert throttle.limit == 2


def test_answers_that_take_four_times_as_long_shrink_it_and_twice_as_long_hold_it():
    throttle = Throttle(64)
    departed = full_rounds(throttle, 3)
    departed = full_rounds(throttle, 3, departed, seconds=0.3)
    held = throttle.limit
    departed = full_rounds(throttle, 1, departed, seconds=0.3)
    assert throttle.limit == held
    full_rounds(throttle, 4, departed, seconds=1.0)
    assert throttle.limit < held


def test_noise_of_a_few_milliseconds_is_no_queue():
    throttle = Throttle(32)
    departed = full_rounds(throttle, 1, seconds=0.0005)
    full_rounds(throttle, 6, departed, seconds=0.01)
    assert throttle.limit == 32


def test_large_requests_are_not_held_against_small_ones():
    throttle = Throttle(32)
    for departed in range(200):
        alike, seconds = (("one", 0.05), ("many", 2.0))[departed % 2]
        throttle.answered(
            departed,
            seconds,
            alike,
            in_flight=throttle.limit,
            full=True,
            departed=departed + 1,
        )
    assert throttle.limit == 32


EVENTS = st.lists(
    st.tuples(
        st.booleans(), st.floats(0, 1000), st.integers(0, 80), st.integers(1, 64), st.booleans()
    ),
    max_size=300,
)


@given(st.integers(1, 64), EVENTS)
def test_whatever_comes_the_limit_stays_between_one_and_the_ceiling(ceiling, events):
    throttle = Throttle(ceiling)
    for departed, (refused, seconds, behind, in_flight, full) in enumerate(events):
        before, flight = throttle.limit, max(0, departed - behind)
        if refused:
            throttle.refused(flight, departed=departed)
            assert throttle.limit <= before
        else:
            throttle.answered(
                flight, seconds, "alike", in_flight=in_flight, full=full, departed=departed
            )
            assert throttle.limit <= before + 1
        assert 1 <= throttle.limit <= ceiling


def simulate(capacity: int, ceiling: int, requests: int, *, queues: bool) -> tuple[int, int, float]:
    """Run a beacon that serves so many at a time in 100 ms each, and refuses or queues what is over.

    Returns the limit at the end, how many were refused, and how many were in service on average.
    """
    throttle, now, numbers = Throttle(ceiling), 0.0, count()
    events: list[tuple[float, int, float, bool]] = []
    free_at = [0.0] * capacity
    served, refused, departed, busy_time = 0, 0, 0, 0.0
    while served < requests:
        while len(events) < throttle.limit:
            departed = next(numbers) + 1
            if queues:
                start = max(now, heapq.heappop(free_at))
                heapq.heappush(free_at, start + 0.1)
                heapq.heappush(events, (start + 0.1, departed - 1, now, False))
            else:
                serving = sum(1 for event in events if not event[3])
                over = serving >= capacity
                heapq.heappush(events, (now + (0.01 if over else 0.1), departed - 1, now, over))
        now, number, left, over = heapq.heappop(events)
        if over:
            refused += 1
            throttle.refused(number, departed=departed)
        else:
            served += 1
            busy_time += 0.1
            throttle.answered(
                number,
                now - left,
                "alike",
                in_flight=len(events) + 1,
                full=True,
                departed=departed,
            )
    return throttle.limit, refused, busy_time / now


@pytest.mark.parametrize(
    ("capacity", "most_refused"), [(1, 0.55), (3, 0.12), (10, 0.03), (40, 0.01)]
)
def test_it_converges_near_a_capacity_that_refuses_and_starves_nobody(capacity, most_refused):
    limit, refused, used = simulate(capacity, 64, 4000, queues=False)
    assert capacity / 2 - 1 <= limit <= capacity + 2
    assert used >= 0.7 * capacity
    assert refused <= most_refused * 4000


@pytest.mark.parametrize("capacity", [2, 5, 12])
def test_it_stops_before_a_beacon_that_only_queues_grows_a_long_queue(capacity):
    limit, _, used = simulate(capacity, 64, 8000, queues=True)
    assert capacity <= limit <= 4 * capacity + 1
    assert used >= 0.9 * capacity


def test_a_way_that_became_longer_is_not_taken_for_a_queue_for_ever():
    throttle = Throttle(16)
    departed = full_rounds(throttle, 5, seconds=0.05)
    assert throttle.limit == 16
    full_rounds(throttle, 80, departed, seconds=0.5)
    assert throttle.limit == 16


# ---- the rate


def test_a_second_s_worth_may_leave_at_once_and_then_one_at_a_time():
    rate = Rate(5, filled_at=100.0)
    assert rate.room(100.0) == 5
    for _ in range(5):
        rate.take()
    assert (rate.room(100.0), rate.wait(100.0)) == (0, pytest.approx(0.2))
    assert rate.room(100.2) == 1
    assert rate.room(1000.0) == 5


def test_less_than_one_per_second_lets_one_leave_and_then_waits():
    rate = Rate(0.1, filled_at=0.0)
    assert rate.wait(0.0) == 0.0
    rate.take()
    assert rate.wait(0.0) == pytest.approx(10.0)


@given(
    st.floats(0.01, 100_000),
    st.floats(0, 1e7),
    st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_in_no_stretch_of_time_more_leave_than_the_rate_and_one_burst(per_second, start, pauses):
    rate = Rate(per_second, start)
    now, left = start, 0
    for pause in pauses:
        now += pause
        for _ in range(min(rate.room(now), 1000)):
            rate.take()
            left += 1
        assert left <= (now - start) * per_second * (1 + 1e-6) + max(1, per_second) * (1 + 1e-6)


@given(st.floats(0.01, 100_000), st.floats(0, 1e7))
def test_after_the_wait_that_it_asks_for_one_may_leave(per_second, start):
    rate = Rate(per_second, start)
    now = start
    for _ in range(min(rate.room(now), 300)):
        rate.take()
    rate._taken = max(rate._taken, rate._most)
    for _ in range(20):
        now += rate.wait(now)
        assert rate.room(now) >= 1
        rate.take()
