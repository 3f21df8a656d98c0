"""Times: RFC 3339, narrowed so that every reader agrees."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import timestamps


@given(st.datetimes(timezones=st.just(UTC)))
def test_text_and_instant_are_each_others_inverse(moment):
    assert timestamps.parse(timestamps.to_text(moment, precise=True)) == moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-06T10:00:00.123456789+05:30", datetime(2026, 1, 6, 4, 30, 0, 123456, UTC)),
        ("2026-11-23T13:00:00.5Z", datetime(2026, 11, 23, 13, 0, 0, 500000, UTC)),
    ],
)
def test_zone_and_fraction_are_understood(text, expected):
    assert timestamps.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-06",
        "2026-01-06T10:00:00",
        "2026-01-06T10:00:00Z\n",
        "2026-01-06t10:00:00z",
        "2026-01-06 10:00:00Z",
        "2026-01-06T10:00:60Z",
        "2026-01-06T24:00:00Z",
        "2026-02-30T10:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-06T10:00:00+24:00",
        "2026-01-06T10:00:00+0000",
        "2026-01-06T10:00:00.Z",
        "2026-01-06T1\u0966:00:00Z",
    ],
)
def test_what_parsers_disagree_about_is_refused(text):
    assert not timestamps.is_date_time(text)
    with pytest.raises(ValueError):
        timestamps.parse(text)
