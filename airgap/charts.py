"""Charts as SVG within a page, each with the same numbers as a table: no script, no picture file.

    Series(title, start, step, values, gaps, unit)     usage over time; times in microseconds
    over_time(name, series) -> Element                 bars, with gaps as hatched bands, and a table
    shares(caption, heads, counts) -> Element          a table whose rows have a bar of their share
    bucketed(start, end, most) -> (start, step, n)     a step that people know, for at most n bars

``name`` must be a different one for each chart of a page: it makes the ids.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from airgap import pages
from airgap.coverage import Window
from airgap.pages import el
from airgap.windows import short

MINUTE = 60 * 1_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
MOST_BARS = 60

_WIDTH, _HEIGHT, _TOP = 720, 120, 8
_STEPS = (
    (MINUTE, "minute"),
    (5 * MINUTE, "5 minutes"),
    (15 * MINUTE, "15 minutes"),
    (HOUR, "hour"),
    (6 * HOUR, "6 hours"),
    (DAY, "day"),
    (WEEK, "week"),
)
# 1970 began on a Thursday; weeks begin on Monday.
_MONDAY = 4 * DAY


@dataclass(frozen=True, slots=True)
class Series:
    """Something that was counted over time.

    Args:
        title: what was counted.
        start: when the first bar starts, in microseconds since 1970.
        step: how long a bar is, in microseconds.
        values: a number for each bar, none negative.
        gaps: times without a report, ascending, in microseconds since 1970.
        unit: what a number is, for instance ``runs``; may be empty.
    """

    title: str
    start: int
    step: int
    values: tuple[int, ...]
    gaps: tuple[Window, ...] = ()
    unit: str = ""

    @property
    def end(self) -> int:
        """When the last bar ends."""
        return self.start + self.step * len(self.values)


def bucketed(start: int, end: int, most: int = MOST_BARS) -> tuple[int, int, int]:
    """Return start, step and number of the bars for a time, steps being ones that people know.

    Args:
        start: when it starts, in microseconds since 1970.
        end: when it ends; the bars reach at least to there.
        most: the number of bars is at most this one; at least 2.
    """
    for step, _ in _STEPS:
        first, count = _fitted(start, end, step)
        if count <= most:
            return first, step, count
    step = WEEK
    while _fitted(start, end, step)[1] > most:
        step *= 2
    first, count = _fitted(start, end, step)
    return first, step, count


def _fitted(start: int, end: int, step: int) -> tuple[int, int]:
    origin = _MONDAY if step % WEEK == 0 else 0
    first = (start - origin) // step * step + origin
    return first, max(1, -((first - end) // step))


def step_name(step: int) -> str:
    """Return a step for people: ``day``, ``4 weeks``."""
    named = dict(_STEPS)
    if step in named:
        return named[step]
    return f"{step // WEEK} weeks" if step % WEEK == 0 else f"{step // MINUTE:,} minutes"


def over_time(name: str, series: Series) -> Element:
    """Return a chart of bars over time, gaps hatched, with its numbers as a table.

    Args:
        name: makes the ids; letters, digits and hyphens.
        series: what to show; at least one value.
    """
    total, most = sum(series.values), max(series.values)
    step = step_name(series.step)
    said = _description(series, total, most, step)
    rows: list[tuple[str, str, str]] = []
    for index, value in enumerate(series.values):
        start = series.start + index * series.step
        gap = any(a < start + series.step and b > start for a, b in series.gaps)
        rows.append((short(start), f"{value:,}", "gap" if gap else ""))
    unit = f" {series.unit}" if series.unit else ""
    return el(
        "figure",
        el("figcaption", series.title, el("span", f", {total:,}{unit} in all")),
        el("div", el("span", f"{most:,}{unit} at most in one bar"), class_="axis"),
        _plot(name, series, most, said),
        el("div", el("span", short(series.start)), el("span", short(series.end)), class_="axis"),
        pages.details(
            f"The same as numbers ({len(rows)} rows)",
            pages.table(
                f"{series.title} by {step}, times in UTC",
                ("from", f"{series.unit or 'count'}#", "note"),
                rows,
                size="small",
            ),
        ),
    )


def _description(series: Series, total: int, most: int, step: str) -> str:
    gaps = (
        "no gap"
        if not series.gaps
        else f"{len(series.gaps)} gap(s), hatched: "
        + ", ".join(f"{short(a)} to {short(b)}" for a, b in series.gaps[:10])
    )
    return (
        f"Bars by {step} from {short(series.start)} to {short(series.end)}, UTC: {total:,} in all, "
        f"at most {most:,} in one bar; {gaps}."
    )


def _plot(name: str, series: Series, most: int, said: str) -> Element:
    span, hatch = series.end - series.start, f"{name}-hatch"
    lines = el("path", d="M0 0V8", class_="hatch")
    pattern = el(
        "pattern", lines, id=hatch, width=8, height=8, patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )  # fmt: skip
    plot = el(
        "svg",
        el("title", series.title, id=f"{name}-title"),
        el("desc", said, id=f"{name}-desc"),
        el("defs", pattern),
        class_="plot",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
    )
    for start, end in series.gaps:
        left = max(0, (start - series.start) * _WIDTH // span)
        right = min(_WIDTH, -((series.start - end) * _WIDTH // span))
        box = {"x": left, "y": 0, "width": max(2, right - left), "height": _HEIGHT - 1}
        plot.append(el("rect", **box, fill=f"url(#{hatch})"))
        plot.append(el("rect", **box, class_="band"))
    count, room = len(series.values), _HEIGHT - _TOP - 1
    for index, value in enumerate(series.values):
        if value:
            left, right = index * _WIDTH // count, (index + 1) * _WIDTH // count
            # What is not nothing can be seen.
            high = max(2, value * room // most)
            bar = {"x": left + 1, "y": _HEIGHT - 1 - high, "width": max(1, right - left - 2)}
            plot.append(el("rect", **bar, height=high, class_="bar"))
    base = _HEIGHT - 1
    plot.append(el("line", x1=0, x2=_WIDTH, y1=base, y2=base, class_="base"))
    return plot


def shares(
    caption: str, heads: Sequence[str], counts: Iterable[tuple[str, int]], *, rest: int = 0
) -> Element:
    """Return a table of how often each value occurs, with a bar for its share.

    Args:
        caption: what it shows.
        heads: headings of value and number.
        counts: value and number, in the order to show.
        rest: how many others there are that have no row.
    """
    known = list(counts)
    total = sum(count for _, count in known) + rest
    if rest:
        known.append(("(all others)", rest))
    rows = [
        (value, f"{count:,}", percent(count, total), _share(count, total)) for value, count in known
    ]
    return pages.table(caption, (heads[0], f"{heads[1]}#", "share#", "as a bar"), rows)


def percent(count: int, total: int) -> str:
    """Return a share for people, never 0 % of something and never 100 % of less than all."""
    if total == 0:
        return "0 %"
    tenths = (2000 * count + total) // (2 * total)
    if count and tenths == 0:
        return "<0.1 %"
    if count < total and tenths == 1000:
        return ">99.9 %"
    return f"{tenths // 10}.{tenths % 10} %"


def _share(count: int, total: int) -> Element:
    wide = max(1, count * 100 // total) if count else 0
    bar = el("rect", x=0, y=0, width=wide, height=10, class_="bar")
    return el(
        "svg",
        bar,
        class_="share",
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
