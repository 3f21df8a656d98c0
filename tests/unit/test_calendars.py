"""The calendar marks each day with the most urgent thing that is so of it, and nothing beyond."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from airgap.calendars import MARKS, calendar, is_worth_showing
from airgap.windows import micros

NOW = datetime(2026, 3, 20, tzinfo=UTC)


def at(day, month=1, hour=0, year=2026):
    return micros(datetime(year, month, day, hour, tzinfo=UTC))


def shown(spans, months=6, now=NOW):
    found = calendar("s", "k", spans, months, now)
    assert found is not None
    return {m.name: "".join(d.plain for d in m.days) for m in found.months}


def test_a_day_shows_the_most_urgent_thing_in_it():
    spans = {
        "delivered": [(at(1), at(11))],
        "dead": [(at(2), at(3))],
        "in_doubt": [(at(2), at(3)), (at(4), at(4, hour=1))],
        "gap": [(at(11), at(13))],
        "no_usage": [(at(13), at(15)), (at(1), at(2))],
    }
    assert shown(spans, now=datetime(2026, 1, 20, tzinfo=UTC)) == {
        "2026-01": "#X#?######!!--" + 17 * "."
    }


def test_the_end_of_a_window_is_not_in_it_and_a_window_without_length_is_a_day():
    spans = {"delivered": [(at(1), at(2))], "waiting": [(at(5), at(5))]}
    assert shown(spans, now=datetime(2026, 1, 9, tzinfo=UTC))["2026-01"].rstrip(".") == "#...w"


def test_months_end_with_the_present_and_begin_with_the_first_report():
    assert list(shown({"delivered": [(at(20, 2), at(21, 2))]})) == ["2026-02", "2026-03"]
    assert list(shown({"delivered": [(at(1, 1, year=2020), at(2, 3))]}, months=2)) == [
        *("2026-02", "2026-03"),
    ]


def test_what_is_older_than_the_calendar_is_shown_where_it_is():
    assert list(shown({"delivered": [(at(1, 5, year=2025), at(2, 5, year=2025))]}, months=2)) == [
        "2025-05"
    ]


def test_a_window_without_bounds_and_a_clock_that_is_wrong_cost_nothing():
    low, high = at(1, year=1), micros(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    assert set(shown({"delivered": [(low, high)]}, months=120)["2026-03"]) == {"#"}
    assert list(shown({"delivered": [(at(1, 6, year=2027), at(2, 6, year=2027))]})) == ["2027-06"]
    assert shown({"delivered": [(high - 1, high)]})["9999-12"].endswith(".#")


def test_nothing_known_gives_no_calendar():
    assert calendar("s", "k", {"gap": []}, 6, NOW) is None
    assert not is_worth_showing([{}])
    assert not is_worth_showing([{"delivered": [(at(1), at(4))]}])
    assert is_worth_showing([{"delivered": [(at(1), at(2)), (at(5), at(6))]}])


def test_every_mark_has_a_sign_of_its_own_in_either_alphabet():
    assert len({m.sign for m in MARKS}) == len({m.plain for m in MARKS}) == len(MARKS)
    assert all(m.plain.isascii() for m in MARKS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([m.code for m in MARKS[:-1]]),
            st.integers(at(1), at(20, 3)),
            st.integers(1, 40 * 86_400_000_000),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_calendar_says_of_each_day_what_the_windows_say(spans):
    listed = {}
    for code, start, length in spans:
        listed.setdefault(code, []).append((start, start + length))
    rank = {m.code: n for n, m in enumerate(MARKS)}
    for name, days in shown(listed).items():
        year, month = map(int, name.split("-"))
        for number, sign in enumerate(days, 1):
            begin = micros(datetime.combine(date(year, month, number), datetime.min.time(), UTC))
            end = begin + timedelta(days=1) // timedelta(microseconds=1)
            there = [c for c, start, length in spans if start < end and start + length > begin]
            worst = min(there, key=rank.__getitem__, default="nothing")
            assert sign == MARKS[rank[worst]].plain
