"""A report as one self-contained page: charts over time with gaps, causes and cures, bundles.

The page is put together as a tree, so what came from a file is text and nothing else. It has no
script, loads nothing, and its Content-Security-Policy allows nothing but the style in it. Equal
input gives equal bytes.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from hashlib import sha256
from xml.etree.ElementTree import Element, SubElement, tostring

from airgap import timestamps, windows
from airgap.causes import Group
from airgap.coverage import Window
from airgap.replay.report import OUTCOMES, Asked, BundleLine, Summary, bounds
from airgap.replay.report_style import STYLE
from airgap.text import plural, printable

_MOST_BARS = 62
_MOST_CHARTS = 40
_MOST_ROWS = 500
_WIDE, _HIGH = 720, 120
_WORDS = {"delivered": "delivered", "waiting": "waiting", "in_doubt": "in doubt", "dead": "dead"}


@dataclass(slots=True)
class _Bars:
    """Values of one source, kind and measure by bar: what is delivered, and what is not."""

    source: str
    kind: str
    measure: str
    delivered: dict[int, int] = field(default_factory=dict[int, int])
    left: dict[int, int] = field(default_factory=dict[int, int])


def page(
    made: Summary,
    known: Sequence[BundleLine],
    groups: Sequence[Group],
    gaps: Mapping[tuple[str, str], Sequence[Window]],
    asked: Asked,
    name: str,
    now: datetime,
) -> bytes:
    """Return a report as UTF-8 text of one HTML document.

    Args:
        made: what was asked for.
        known: the bundles of the sources.
        groups: what is not delivered, by cause, whatever its day.
        gaps: times without a report, per source and kind.
        asked: what was asked for.
        name: the workstation's name.
        now: the present, which the page tells.
    """
    root = Element("html", {"lang": "en"})
    title = "What was delivered" + (f" of {asked.source}" if asked.source else "")
    _head(root, title)
    main = SubElement(SubElement(root, "body"), "main")
    _add(main, "h1", title)
    span = f"{asked.first or 'the beginning'} to {asked.last or 'now'}" if asked.bounded else "all"
    day = "its usage began" if asked.by == "usage" else "it was delivered"
    _add(
        main,
        "p",
        f"By the ledger of {name}, {timestamps.to_text(now)}. Days: {span}. A record counts as a "
        f"whole on the day, in UTC, on which {day}.",
    ).set("class", "soft")
    left = sum(made.totals(outcome).records for outcome in OUTCOMES[1:])
    _add(
        main,
        "p",
        f"{plural(made.totals('delivered').records, 'record')} delivered, {left:,} not delivered.",
    )
    for (source, kind), count in sorted(made.aside.items()):
        why = "without a time of use" if asked.by == "usage" else "not delivered"
        _add(main, "p", f"In no period: {plural(count, 'record')} of {source}, {kind}, {why}.")
    _totals(main, made)
    _causes(main, groups)
    _charts(main, made, gaps, asked)
    _bundles(main, known)
    for element in root.iter():
        if element.tag in ("p", "tr", "h1", "h2", "h3", "section", "figure", "table", "svg"):
            element.tail = (element.tail or "") + "\n"
    text: bytes = tostring(root, encoding="utf-8", method="html")
    return b"<!DOCTYPE html>\n" + text + b"\n"


def _head(root: Element, title: str) -> None:
    head = SubElement(root, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    digest = base64.b64encode(sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": policy})
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    SubElement(head, "meta", viewport)
    _add(head, "title", title)
    # The one element whose text is not escaped, and it holds no word from outside.
    SubElement(head, "style").text = STYLE


def _add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    """Add an element with text; ``class_`` is class, ``aria_label`` is aria-label."""
    named = {k.rstrip("_").replace("_", "-"): printable(v, 2000) for k, v in attributes.items()}
    made = SubElement(parent, tag, named)
    made.text = printable(text, 2000)
    return made


def _part(main: Element, identifier: str, heading: str) -> Element:
    part = _add(main, "section", aria_labelledby=identifier)
    _add(part, "h2", heading, id=identifier)
    return part


def _table(
    parent: Element, caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Add a table; a heading that ends in ``#`` is of numbers, the first column names the row."""
    box = _add(parent, "div", class_="scroll", tabindex="0", role="region", aria_label=caption)
    table = _add(box, "table")
    _add(table, "caption", caption)
    numbers = [head.endswith("#") for head in heads]
    top = SubElement(SubElement(table, "thead"), "tr")
    for head, number in zip(heads, numbers, strict=True):
        cell = _add(top, "th", head.rstrip("#"), scope="col")
        if number:
            cell.set("class", "number")
    body = SubElement(table, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        for index, (text, number) in enumerate(zip(row, numbers, strict=True)):
            cell = _add(line, "td", text) if index else _add(line, "th", text, scope="row")
            if number:
                cell.set("class", "number")


def _totals(main: Element, made: Summary) -> None:
    part = _part(main, "totals", "In all")
    _table(
        part,
        "Records and sums per source, kind and measure",
        ("source", "kind", "measure", *(f"{_WORDS[o]}#" for o in OUTCOMES)),
        [
            (
                r.source,
                r.kind,
                r.measure or "records",
                *(f"{r.values.get(o, 0):,}" for o in OUTCOMES),
            )
            for r in made.per("total")
        ],
    )


def _causes(main: Element, groups: Sequence[Group]) -> None:
    if not groups:
        return
    part = _part(main, "causes", "Not delivered, and what cures it")
    _add(part, "p", "Of all days, as the ledger stands.", class_="soft")
    for group in groups:
        box = _add(part, "div", class_="cause")
        state = group.state.replace("_", " ").replace("sending", "in doubt")
        _add(box, "h3", f"{plural(group.records, 'record')} {state}: {group.cause.title}")
        answered = f", answered {group.status}" if group.status is not None else ""
        _add(box, "p", f"{group.source}, {group.kind}, to {group.endpoint}{answered}")
        if group.said or group.reason:
            said = f"It said: {group.said}" if group.said else f"Reason: {group.reason}"
            _add(box, "p", said)
        if group.sums:
            _add(box, "p", ", ".join(f"{n} {v:,}" for n, v in sorted(group.sums.items())))
        _add(box, "p", f"Cure: {group.cause.cure}")


def _charts(
    main: Element, made: Summary, gaps: Mapping[tuple[str, str], Sequence[Window]], asked: Asked
) -> None:
    days = made.days()
    if not days:
        return
    part = _part(main, "days", "Over time")
    starts, step = _bars(asked.first or min(days), asked.last or max(days))
    series = _series(made, starts)
    _key(part)
    shown = series[:_MOST_CHARTS]
    if len(series) > len(shown):
        _add(part, "p", f"The first {len(shown)} of {len(series):,} measures; the CSV has all.")
    for one in shown:
        holes = gaps.get((one.source, one.kind), ()) if asked.by == "usage" else ()
        _chart(part, one, starts, holes, step)


def _bars(first: date, last: date) -> tuple[list[date], str]:
    """Return the days on which bars start, the day after the last, and how long a bar is."""
    days = (last - first).days + 1
    if days <= _MOST_BARS:
        return [*(first + timedelta(n) for n in range(days)), _after(last)], "day"
    if days <= 7 * _MOST_BARS:
        monday = first - timedelta(min(first.weekday(), (first - date.min).days))
        count = (last - monday).days // 7 + 1
        return [*(monday + timedelta(7 * n) for n in range(count)), _after(last)], "week"
    begin, end = first.year * 12 + first.month - 1, last.year * 12 + last.month - 1
    step = (end - begin) // _MOST_BARS + 1
    starts = [date(n // 12, n % 12 + 1, 1) for n in range(begin, end + 1, step)]
    return [*starts, _after(last)], "month" if step == 1 else f"{step} months"


def _after(day: date) -> date:
    return day if day == date.max else day + timedelta(1)


def _series(made: Summary, starts: Sequence[date]) -> list[_Bars]:
    found: dict[tuple[str, str, str], _Bars] = {}
    number = 0
    for place, cell in sorted(
        made.places(), key=lambda item: (item[0].source, item[0].kind, item[0].day or date.min)
    ):
        if place.day is None:
            continue
        number = number if starts[number] <= place.day else 0
        while number + 2 < len(starts) and starts[number + 1] <= place.day:
            number += 1
        for measure, value in (cell.sums or {"records": cell.records}).items():
            key = (place.source, place.kind, measure)
            one = found.setdefault(key, _Bars(*key))
            into = one.delivered if place.outcome == "delivered" else one.left
            into[number] = into.get(number, 0) + value
    return [found[key] for key in sorted(found)]


def _patterns(svg: Element) -> None:
    defs = _add(svg, "defs")
    for identifier, shape in (
        ("left", {"d": "M0 8L8 0", "class": "lines"}),
        ("gap", {"d": "M2 2h2v2h-2z", "class": "dots"}),
    ):
        pattern = _add(
            defs, "pattern", id=identifier, width="8", height="8", patternUnits="userSpaceOnUse"
        )
        SubElement(pattern, "path", shape)


def _key(part: Element) -> None:
    line = _add(part, "p", class_="key")
    for style, words in (
        ("bar", "delivered"),
        ("left", "not delivered (striped)"),
        ("gap", "gap: no report (dotted)"),
    ):
        item = _add(line, "span")
        svg = _add(item, "svg", viewBox="0 0 20 12", aria_hidden="true")
        if style == "bar":
            _patterns(svg)
        box = _add(svg, "rect", x="1", y="1", width="18", height="10", class_=style)
        box.tail = None
        svg.tail = words


def _chart(
    part: Element, one: _Bars, starts: Sequence[date], holes: Sequence[Window], step: str
) -> None:
    count = len(starts) - 1
    values = [one.delivered.get(n, 0) for n in range(count)]
    others = [one.left.get(n, 0) for n in range(count)]
    most = max(1, *(a + b for a, b in zip(values, others, strict=True)))
    begin, end = windows.micros(_midnight(starts[0])), windows.micros(_midnight(starts[-1]))
    inside = [(max(a, begin), min(b, end)) for a, b in holes if a < end and b > begin]
    figure = _add(part, "figure")
    about = f"{one.source}, {one.kind}: {one.measure}"
    totals = f"{sum(values):,} delivered, {sum(others):,} not"
    _add(figure, "figcaption", f"{about}. {totals}; at most {most:,} in one {step}.")
    said = f"{about} by {step}: {totals}, {plural(len(inside), 'gap')}."
    svg = _add(
        figure, "svg", viewBox=f"0 0 {_WIDE} {_HIGH}", preserveAspectRatio="none", role="img",
        aria_label=said,
    )  # fmt: skip
    for low, high in inside:
        left, right = ((x - begin) * _WIDE // max(1, end - begin) for x in (low, high))
        _box(svg, "gap", left, 0, max(3, right - left), _HIGH)
    for n, (value, other) in enumerate(zip(values, others, strict=True)):
        left, right = n * _WIDE // count, (n + 1) * _WIDE // count
        high, more = (_height(x, most) for x in (value, other))
        wide = max(1, right - left - 2)
        if value:
            _box(svg, "bar", left + 1, _HIGH - high, wide, high)
        if other:
            _box(svg, "left", left + 1, _HIGH - high - more, wide, more)
    axis = _add(figure, "div", class_="axis")
    _add(axis, "span", starts[0].isoformat())
    _add(axis, "span", (starts[-1] - timedelta(1)).isoformat())
    _numbers(figure, about, step, starts, values, others, inside)


def _height(value: int, most: int) -> int:
    return max(2, value * (_HIGH - 10) // most) if value else 0


def _box(svg: Element, style: str, x: int, y: int, wide: int, high: int) -> None:
    _add(svg, "rect", x=str(x), y=str(y), width=str(wide), height=str(high), class_=style)


def _midnight(day: date) -> datetime:
    return windows.instant(bounds(day, day)[0])


def _numbers(
    figure: Element,
    about: str,
    step: str,
    starts: Sequence[date],
    values: Sequence[int],
    others: Sequence[int],
    holes: Sequence[Window],
) -> None:
    details = _add(figure, "details")
    _add(details, "summary", f"The same as numbers, by {step}")
    rows: list[tuple[str, ...]] = []
    for n, (value, other) in enumerate(zip(values, others, strict=True)):
        low, high = (windows.micros(_midnight(starts[m])) for m in (n, n + 1))
        gap = any(a < high and b > low for a, b in holes)
        rows.append((starts[n].isoformat(), f"{value:,}", f"{other:,}", "gap" if gap else ""))
    heads = ("from", "delivered#", "not delivered#", "note")
    _table(details, f"{about} by {step}", heads, rows)


def _bundles(main: Element, known: Sequence[BundleLine]) -> None:
    part = _part(main, "bundles", "Bundles and receipts")
    shown = sorted(known, key=lambda bundle: bundle.imported_at)[-_MOST_ROWS:]
    if len(shown) < len(known):
        _add(part, "p", f"The newest {len(shown)} of {len(known):,}; --json has all.")
    heads = ("bundle", "imported", "records#", *(f"{_WORDS[o]}#" for o in OUTCOMES), "receipt")
    _table(
        part,
        "Bundles, whatever their days, with their newest receipts",
        heads,
        [
            (
                f"{b.source} {b.sequence}",
                b.imported_at,
                f"{b.records:,}",
                *(f"{b.states.get(o, 0):,}" for o in OUTCOMES),
                b.receipt or "none",
            )
            for b in sorted(shown, key=lambda b: (b.source, b.sequence))
        ],
    )
