"""Times as PostgreSQL prints them: what is certain is read exactly, what is not is refused."""

import contextlib
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airgap.collect import pgtimes
from airgap.collect.pgtimes import TimeNotReadError, Times, parse

AMSTERDAM = Times(time_zone="Europe/Amsterdam")
DMY, MDY = Times("dmy"), Times("mdy")
NOON = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
FINE = NOON.replace(microsecond=123456)


@pytest.mark.parametrize(
    ("text", "reading", "expected"),
    [
        ("2026-05-06 07:08:09+00", Times(), NOON),
        ("2026-05-06 09:08:09.123456+02", Times(), FINE),
        ("2026-05-06 09:08:09.12+02", Times(), NOON.replace(microsecond=120000)),
        ("2026-05-06 12:38:09+05:30", Times(), NOON),
        ("2026-05-06 02:38:09-04:30", Times(), NOON),
        ("1800-05-06 07:27:32+00:19:32", Times(), datetime(1800, 5, 6, 7, 8, tzinfo=UTC)),
        ("1800-05-06 04:01:32-03:06:28", Times(), datetime(1800, 5, 6, 7, 8, tzinfo=UTC)),
        ("2026-05-06T07:08:09Z", Times(), NOON),
        ("2026-05-06T09:08:09.123456+02:00", Times(), FINE),
        ("2026-05-06 09:08:09", AMSTERDAM, NOON),
        ("2026-05-06 07:08:09", Times(time_zone="UTC"), NOON),
        ("06/05/2026 07:08:09.123456 UTC", DMY, FINE),
        ("05/06/2026 07:08:09 GMT", MDY, NOON),
        ("06/05/2026 09:08:09 CEST", Times("dmy", "Europe/Amsterdam"), NOON),
        ("06/05/2026 09:08:09", Times("dmy", "Europe/Amsterdam"), NOON),
        ("05/05/2026 07:08:09 UTC", Times(), NOON.replace(day=5)),
        ("16/05/2026 07:08:09 UTC", Times(), NOON.replace(day=16)),
        ("05/16/2026 07:08:09 UTC", Times(), NOON.replace(day=16)),
        ("06/05/2026 10:38:09 +0330", DMY, NOON),
        ("06/05/2026 04:08:09 -03", DMY, NOON),
        ("06/05/2026 12:53:09 +05:45", DMY, NOON),
        ("06.05.2026 07:08:09.123456 UTC", Times(), FINE),
        ("06.05.2026 09:08:09 CEST", AMSTERDAM, NOON),
        ("Wed 06 May 07:08:09.123456 2026 UTC", Times(), FINE),
        ("Wed May 06 07:08:09 2026 UTC", Times(), NOON),
        ("Wed May 06 09:08:09 2026 CEST", AMSTERDAM, NOON),
        ("Wed May 06 08:08:09 2026 IST", Times(time_zone="Europe/Dublin"), NOON),
        ("Wed May 06 12:38:09 2026 IST", Times(time_zone="Asia/Kolkata"), NOON),
        ("Tue 06 May 07:27:32 1800", Times(time_zone="UTC"), datetime(1800, 5, 6, 7, 27, 32, tzinfo=UTC)),
        # The hour that comes twice: the abbreviation settles it.
        ("25.10.2026 02:30:00 CEST", AMSTERDAM, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("25.10.2026 02:30:00 CET", AMSTERDAM, datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        ("0001-01-01 00:00:00+00", Times(), datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31 23:59:59.999999+00", Times(), datetime.max.replace(tzinfo=UTC)),
    ],
)  # fmt: skip
def test_what_is_certain_is_read(text, reading, expected):
    moment = parse(text, reading)
    assert moment == expected
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "reading", "says", "cure"),
    [
        ("05/06/2026 07:08:09 UTC", Times(), "which is the day", "--date-order"),
        ("16/05/2026 07:08:09 UTC", MDY, "no date in the order mdy", "--date-order"),
        ("05/16/2026 07:08:09 UTC", DMY, "no date in the order dmy", "--date-order"),
        ("06.05.2026 09:08:09 CEST", Times(), "in use for several", "--time-zone"),
        ("06.05.2026 09:08:09 IST", Times(), "in use for several", "--time-zone"),
        ("06.05.2026 09:08:09 CET", AMSTERDAM, "did not have that abbreviation", "--time-zone"),
        ("06.05.2026 09:08:09 EST", AMSTERDAM, "did not have that abbreviation", "--time-zone"),
        ("06.05.2026 09:08:09", Times(), "has no zone", "--time-zone"),
        ("2026-05-06 09:08:09", Times(), "has no zone", "--time-zone"),
        ("2026-03-29 02:30:00", AMSTERDAM, "no clock in Europe/Amsterdam", "--time-zone"),
        ("29.03.2026 02:30:00 CEST", AMSTERDAM, "no clock in Europe/Amsterdam", "--time-zone"),
        ("2026-10-25 02:30:00", AMSTERDAM, "twice", "PGDATESTYLE=ISO"),
        ("06.05.2026 09:08:09", Times(time_zone="Europe/Nowhere"), "no such time zone", "IANA"),
        ("06.05.2026 09:08:09", Times(time_zone="../../etc/passwd"), "no such time zone", "IANA"),
        ("06.05.2026 09:08:09", Times(time_zone="Europe"), "no such time zone", "IANA"),
        ("infinity", Times(), "the time is infinity", "database"),
        ("-infinity", Times(), "the time is -infinity", "database"),
        ("0044-03-15 12:00:00+00 BC", Times(), "before Christ", "database"),
        ("Fri 15 Mar 12:19:32 0044 LMT BC", Times(), "before Christ", "database"),
        ("10000-01-01 00:59:59.999999+01", Times(), "after the year 9999", "database"),
        ("01/01/10001 00:00:00 UTC", Times(), "after the year 9999", "database"),
        ("01.01.10001 00:00:00 UTC", Times(), "after the year 9999", "database"),
        ("Mon 01 Jan 01:00:00 10001 CET", Times(), "after the year 9999", "database"),
        ("0001-01-01 00:00:00+01", Times(), "outside the years", "ISO"),
        ("9999-12-31 23:59:59-01", Times(), "outside the years", "ISO"),
        ("9999-12-31 23:59:59", Times(time_zone="America/New_York"), "outside the years", "ISO"),
        ("0001-01-01 00:00:00", AMSTERDAM, "outside the years", "ISO"),
        ("Tue 06 May 07:08:09 2026 UTC", Times(), "day of the week", "ISO"),
        ("2026-02-30 07:08:09+00", Times(), "no such date", "ISO"),
        ("31.04.2026 07:08:09 UTC", Times(), "no such date", "ISO"),
        ("13/13/2026 07:08:09 UTC", DMY, "no such date", "ISO"),
        ("13/13/2026 07:08:09 UTC", Times(), "no such date", "ISO"),
        ("Wed 06 Mai 07:08:09 2026 UTC", Times(), "no such date", "ISO"),
        ("06.05.2026 24:00:00 UTC", Times(), "no such date", "ISO"),
        ("2026-05-06 24:00:00+00", Times(), "no such date", "ISO"),
        ("2026-05-06 07:08:09.1234567+00", Times(), "no time as PostgreSQL", "spreadsheet"),
        ("2026-05-06 07:08+00", Times(), "no time as PostgreSQL", "spreadsheet"),
        ("5/6/2026 7:08", DMY, "no time as PostgreSQL", "spreadsheet"),
        ("06-05-2026 07:08:09 UTC", Times(), "no time as PostgreSQL", "spreadsheet"),
        ("46148.2973", Times(), "no time as PostgreSQL", "spreadsheet"),
        ("٢٠٢٦-05-06 07:08:09+00", Times(), "no time as PostgreSQL", "spreadsheet"),
        ("2026-05-06 07:08:09+00\n", Times(), "no time as PostgreSQL", "spreadsheet"),
        ("2026-W19-3 07:08:09+00", Times(), "no time as PostgreSQL", "spreadsheet"),
        ("", Times(), "no time as PostgreSQL", "spreadsheet"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_refused_with_its_cure(text, reading, says, cure):
    with pytest.raises(TimeNotReadError, match=says) as caught:
        parse(text, reading)
    assert cure in caught.value.cure


def test_a_machine_without_zones_says_so(monkeypatch):
    pgtimes.zone.cache_clear()
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(TimeNotReadError, match="no time zone database") as caught:
        parse("06.05.2026 09:08:09 CEST", Times(time_zone="Europe/Missing"))
    assert "tzdata" in caught.value.cure
    assert parse("06.05.2026 07:08:09", Times(time_zone="UTC")) == NOON


@pytest.mark.parametrize(
    ("text", "order", "depends"),
    [
        ("16/05/2026 07:08:09 UTC", "dmy", False),
        ("05/16/2026 07:08:09 UTC", "mdy", False),
        ("05/06/2026 07:08:09", None, True),
        ("05/05/2026 07:08:09 UTC", None, False),
        ("16.05.2026 07:08:09 UTC", None, False),
        ("16/05/2026", None, False),
    ],
)
def test_a_date_proves_its_order_or_depends_on_it(text, order, depends):
    assert pgtimes.order_of(text) == order
    assert pgtimes.depends_on_order(text) is depends


ZONES = ("UTC Europe/Amsterdam Europe/Dublin America/New_York America/Sao_Paulo Asia/Tehran Asia/Kolkata "
         "Asia/Kathmandu Australia/Lord_Howe Africa/Casablanca Pacific/Apia America/Caracas Etc/GMT+5").split()  # fmt: skip
STYLES = ("iso", "dmy", "mdy", "german", "named dmy", "named mdy")


def printed(moment: datetime, style: str) -> str:
    """Print a time as PostgreSQL does, by its own rules rather than by strftime."""
    offset = moment.utcoffset()
    assert offset is not None
    date = {
        "iso": f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}",
        "dmy": f"{moment.day:02d}/{moment.month:02d}/{moment.year:04d}",
        "mdy": f"{moment.month:02d}/{moment.day:02d}/{moment.year:04d}",
        "german": f"{moment.day:02d}.{moment.month:02d}.{moment.year:04d}",
        "named dmy": f"{moment.day:02d} {pgtimes._MONTHS[moment.month - 1]}",
        "named mdy": f"{pgtimes._MONTHS[moment.month - 1]} {moment.day:02d}",
    }[style]
    time = f"{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d}"
    if moment.microsecond:
        time += f".{moment.microsecond:06d}".rstrip("0")
    if style == "iso":
        seconds = int(offset.total_seconds())
        sign, seconds = ("-", -seconds) if seconds < 0 else ("+", seconds)
        parts = [seconds // 3600, seconds // 60 % 60, seconds % 60]
        while len(parts) > 1 and parts[-1] == 0:
            parts.pop()
        return f"{date} {time}{sign}" + ":".join(f"{p:02d}" for p in parts)
    if style.startswith("named"):
        day = pgtimes._WEEKDAYS[moment.weekday()]
        return f"{day} {date} {time} {moment.year:04d} {moment.tzname()}"
    return f"{date} {time} {moment.tzname()}"


moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)) | st.datetimes(  # noqa: DTZ001
    datetime(2025, 1, 1),  # noqa: DTZ001
    datetime(2027, 1, 1),  # noqa: DTZ001
)


@given(moments, st.sampled_from(ZONES), st.sampled_from(STYLES))
def test_any_instant_reads_back_equal_in_any_style_and_zone(wall, name, style):
    moment = wall.replace(tzinfo=UTC).astimezone(zoneinfo.ZoneInfo(name))
    order = "mdy" if style == "mdy" else "dmy"
    text = printed(moment, style)
    assert parse(text, Times(order, name)) == moment
    if style == "iso":
        assert parse(text, Times()) == moment


@given(moments, st.sampled_from(ZONES), st.sampled_from(STYLES))
def test_what_is_read_without_help_is_right_whatever_the_style(wall, name, style):
    moment = wall.replace(tzinfo=UTC).astimezone(zoneinfo.ZoneInfo(name))
    try:
        read = parse(printed(moment, style), Times())
    except TimeNotReadError:
        assume(style != "iso")
        return
    assert read == moment


@given(moments, st.sampled_from(["dmy", "mdy"]))
def test_a_date_that_has_two_readings_is_never_read(wall, style):
    text = printed(wall.replace(tzinfo=UTC), style)
    if wall.day <= 12 and wall.day != wall.month:
        with pytest.raises(TimeNotReadError):
            parse(text, Times())
        assert pgtimes.depends_on_order(text)
    else:
        assert parse(text, Times()) == wall.replace(tzinfo=UTC)


@given(moments, st.sampled_from(ZONES))
def test_a_time_without_zone_is_read_only_where_it_was_shown_once(wall, name):
    known = zoneinfo.ZoneInfo(name)
    text = printed(wall.replace(tzinfo=UTC), "iso").removesuffix("+00")
    shown = {
        utc
        for hours in range(-27, 28)
        for offset in {(wall.replace(tzinfo=UTC) + timedelta(hours=hours)).astimezone(known).utcoffset()}
        for utc in {(wall - offset).replace(tzinfo=UTC)}
        if utc.astimezone(known).replace(tzinfo=None, fold=0) == wall
    }  # fmt: skip
    if len(shown) == 1:
        assert parse(text, Times(time_zone=name)) in shown
    else:
        with pytest.raises(TimeNotReadError):
            parse(text, Times(time_zone=name))


@given(st.integers(-15 * 3600, 15 * 3600))
def test_any_offset_is_exact_to_the_second(seconds):
    moment = NOON.astimezone(timezone(timedelta(seconds=seconds)))
    assert parse(printed(moment, "iso"), Times()) == NOON


@given(st.text(max_size=40))
def test_any_other_text_is_refused_and_nothing_else_is_raised(text):
    with contextlib.suppress(TimeNotReadError):
        parse(text, Times("dmy", "Europe/Amsterdam"))
