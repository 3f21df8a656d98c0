"""Types of options: sizes, durations, times from .. to, addresses to listen on."""

import re
from datetime import datetime, timedelta

import click

from airgap import timestamps
from airgap.text import size

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class Size(click.ParamType[int]):
    """A size in bytes, or with KiB, MiB or GiB."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """See click.ParamType."""
        from airgap.export import MIN_MAX_SIZE

        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        number = text.rstrip("kmgib ")
        factor = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}.get(text[len(number) :].strip()[:1])
        if not number.isdecimal() or factor is None or int(number) * factor < MIN_MAX_SIZE:
            self.fail(f"give at least {size(MIN_MAX_SIZE)}, for instance 700MiB", param, ctx)
        return int(number) * factor


class Duration(click.ParamType[timedelta]):
    """A number of weeks, days, hours, minutes or seconds: 5w, 35d, 36h, 90m, 30s.

    Args:
        least: shortest one there may be.
    """

    name = "duration"

    def __init__(self, least: timedelta = timedelta(0)) -> None:
        self.least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """See click.ParamType."""
        if isinstance(value, timedelta):
            return value
        text = str(value).strip().lower()
        number, unit = text[:-1], _UNITS.get(text[-1:])
        if unit is None or not (number.isascii() and number.isdecimal()) or len(number) > 5:
            self.fail("give a number and w, d, h, m or s, for instance 35d, 36h or 90m", param, ctx)
        found = timedelta(**{unit: int(number)})
        if found < self.least:
            self.fail(f"give at least {self.least.total_seconds():g}s", param, ctx)
        return found


class Period(click.ParamType[tuple[datetime, datetime]]):
    """Two dates or times in UTC with two dots between; dates mean midnight."""

    name = "from..to"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[datetime, datetime]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        start, dots, end = str(value).strip().partition("..")
        try:
            if not dots:
                raise ValueError
            return _moment(start), _moment(end)
        except ValueError:
            self.fail(
                "give two dates, or two times with Z or an offset, "
                "for instance 2026-03-01..2026-03-04",
                param,
                ctx,
            )


def _moment(text: str) -> datetime:
    text = text.strip()
    if len(text) == 10:
        return timestamps.parse(f"{text}T00:00:00Z")
    return timestamps.parse(text).replace(microsecond=0)


class Listen(click.ParamType[tuple[str, int]]):
    """An address and a port: ``127.0.0.1:8787``, ``[::1]:8787``."""

    name = "address:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).strip().rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not bare or (":" in bare and not bracketed):
            self.fail("give an address and a port: 127.0.0.1:8787, or [::1]:8787", param, ctx)
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
            self.fail("the port is a number up to 65535, or 0 for a free one", param, ctx)
        return bare, int(port)
