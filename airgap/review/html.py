"""The review sheet as one page with charts: the same facts as the text, from the same numbers."""

from xml.etree.ElementTree import Element

from airgap import charts, pages
from airgap.pages import Cell, el, mark
from airgap.review.facts import Facts, FieldFacts, KindFacts
from airgap.review.news import News
from airgap.review.tally import MOST_VALUES, Field
from airgap.text import plural

MOST_CHARTS = 12
"""So many measures of a kind have a chart; the rest has its sums in the table."""

_MOST_SHARES = 20
_FEW = 4


def page(facts: Facts, news: News) -> bytes:
    """Return a bundle's review page: UTF-8 text of one HTML file, complete in itself.

    Args:
        facts: what leaves in it.
        news: what is new in it.
    """
    sections = [_first(facts), _about(facts), _new(news), _totals(facts)]
    if any(kind.usage for kind in facts.kinds):
        sections.append(_usage(facts))
    sections += [_fields(n, kind) for n, kind in enumerate(facts.kinds, 1)]
    spread = _spread(facts)
    sections += [spread] if spread is not None else []
    sections.append(_never(facts))
    return pages.document(
        f"{facts.title}: what leaves",
        [_figures(facts)],
        sections,
        [
            el("p", "Made by airgap review from the bundle, which was verified before. This file has no "
               "script and loads nothing. Its SHA-256 is what a reviewer signs:"),
            el("p", el("code", "airgap countersign BUNDLE --sheet THIS_FILE")),
            el("p", "Bundle ", el("code", facts.bundle_id)),
        ],
        kicker="airgap review sheet",
    )  # fmt: skip


def _figures(facts: Facts) -> Element:
    manifest = facts.manifest
    names = sum(len(kind.fields) for kind in facts.kinds)
    rows = (
        (f"{manifest['records']:,}", "record" if manifest["records"] == 1 else "records"),
        (f"{names:,}", "different fields"),
        (f"{len(manifest['allowed']):,}", "unknown names, allowed by the site"),
        ("none", f"credentials; {plural(len(manifest['credentials']), 'fingerprint')}"),
    )
    return el("ul", *(el("li", el("strong", a), el("span", b)) for a, b in rows), class_="figures")


def _first(facts: Facts) -> Element:
    if not facts.first_looks:
        body = el(
            "p",
            mark("Nothing stands out", "good"),
            "Every name is one that the schemas know, no long text is in it, and no time of more than "
            "a day is without a report.",
            class_="note",
        )
        return pages.section("first", "Look at these first", body)
    items = (el("li", mark("Look", "warn"), one) for one in facts.first_looks)
    return pages.section("first", "Look at these first", el("ul", *items, class_="looks"))


def _about(facts: Facts) -> Element:
    manifest = facts.manifest
    rows: list[tuple[str, Cell]] = [
        ("Source", manifest["source"]),
        ("Number in its chain", f"{manifest['sequence']:,}"),
        ("Id", el("code", facts.bundle_id)),
        ("Made", f"{manifest['created_at']} by {manifest['producer']}"),
        *(("Signed as exporter by", el("code", line)) for line in facts.signers),
        ("Period", facts.period),
        ("Credentials", facts.credentials),
        *(("Fingerprint", el("code", one)) for one in manifest["credentials"]),
        ("Unknown names allowed", ", ".join(manifest["allowed"]) or "none"),
        ("Pseudonymised", ", ".join(manifest["pseudonymised"]) or "none"),
    ]
    rows += [("Declares", facts.declares)] if facts.declares else []
    rows += [("Says", manifest["message"])] if manifest["message"] is not None else []
    return pages.section("about", "The bundle", pages.pairs(rows))


def _new(news: News) -> Element:
    told = el("p", news.told, class_="note" if news.since is not None else "alert")
    if news.since is None:
        return pages.section("new", "What is new", told)
    parts: list[Element] = [told]
    for heading, found in news.groups:
        if found:
            parts += [
                el("h3", heading),
                el("ul", *(el("li", mark("New", "warn"), t) for t in found)),
            ]
    if not news.count:
        parts.append(el("p", "No kind, field, tag, text, key or allowed name is new."))
    parts += [
        el("p", f"Of {name} both bundles do not list every text, so a new one may be missing here.",
           class_="alert")
        for name in news.unknown
    ]  # fmt: skip
    rows = [(f"{c.kind}: {c.what}", _number(c.before), _number(c.now)) for c in news.changes]
    caption = f"Totals of bundle {news.since} beside those of this one"
    parts.append(pages.table(caption, ("total", f"bundle {news.since}#", "this bundle#"), rows))
    return pages.section("new", "What is new", *parts)


def _number(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def _totals(facts: Facts) -> Element:
    rows = [
        row
        for kind in facts.kinds
        for row in (
            (kind.name, "records", f"{kind.records:,}"),
            *((kind.name, name, f"{total:,}") for name, total in sorted(kind.sums.items())),
        )
    ]
    if not rows:
        return pages.section("totals", "Totals", el("p", "No record is in it."))
    heads = ("kind", "what is counted", "total#")
    caption = "What verification counted in the records, and the manifest says"
    return pages.section("totals", "Totals", pages.table(caption, heads, rows))


def _usage(facts: Facts) -> Element:
    parts: list[Element] = [
        el("p", "Times are UTC, and each record is counted where its window starts. A hatched band is "
           "a time of more than a day without a report.", class_="soft")
    ]  # fmt: skip
    for number, kind in enumerate(facts.kinds, 1):
        used = [series for series in kind.usage if any(series.values)]
        if not used:
            continue
        parts.append(el("h3", kind.name))
        shown = sorted(used, key=lambda s: (-sum(s.values), s.title))[:MOST_CHARTS]
        parts += [charts.over_time(f"usage-{number}-{n}", s) for n, s in enumerate(shown, 1)]
        if len(used) > len(shown):
            rest = plural(len(used) - len(shown), "more measure has", "more measures have")
            parts.append(el("p", f"{rest} no chart; the totals above have them all."))
    return pages.section("usage", "Usage over time", *parts)


def _fields(number: int, kind: KindFacts) -> Element:
    facts: list[tuple[str, Cell]] = [
        ("What it is", kind.why),
        *(("Goes to", el("code", where)) for where in kind.to),
        (
            "Taken out",
            f"the key ({' or '.join(kind.taken_out)}); the schema has no field for it",
        ),
        *(("Whose usage", el("code", one)) for one in kind.credentials),
    ]
    rows = [_row(one, raw=kind.raw) for one in kind.fields]
    heads = ("field", "why it is there, and what it can be", "times#", "different#", "values")
    body: Element = (
        pages.table(f"Every field of {kind.name}", heads, rows, size="wide")
        if rows
        else el("p", "Its records have no field: nothing but the key was in the request.")
    )
    heading = f"{kind.name}: {plural(kind.records, 'record')}"
    return pages.section(f"kind-{number}", heading, pages.pairs(facts), body)


def _row(one: FieldFacts, *, raw: bool) -> tuple[Cell, ...]:
    marks = [mark(text, "warn") for text in one.marks]
    if raw and one.any_text:
        marks.append(mark("WHOLE MESSAGE", "warn"))
    why = (el("span", one.why), el("br"), el("span", f"Can be: {one.form}.", class_="soft"))
    name = (el("code", one.path), *((el("br"), *marks) if marks else ()))
    return name, why, f"{one.tally.count:,}", one.tally.number, _values(one)


def _values(one: FieldFacts) -> Cell:
    tally = one.tally
    values = list(tally.values.values())
    if len(values) == 1:
        return (el("span", f"always {values[0].shown}"), *_sum(tally))
    if one.lists_values and len(values) <= _FEW:
        items = (el("li", f"{v.shown} ({v.count:,})") for v in values)
        return (el("ul", *items, class_="few"), *_sum(tally))
    low, high = tally.range or ("", "")
    if not one.lists_values:
        return (el("span", f"{low} .. {high}"), *_sum(tally))
    listed = [el("li", f"{v.shown} ({v.count:,})") for v in values]
    if tally.others:
        rest = plural(tally.others, "place")
        listed.append(el("li", f"and others in {rest}: only the first {MOST_VALUES} are listed"))
    label = f"the first {MOST_VALUES} values" if tally.others else f"all {len(values)} values"
    return (
        el("span", f"{low} .. {high}"),
        *_sum(tally),
        pages.details(label, el("ul", *listed, class_="values")),
    )


def _sum(tally: Field) -> tuple[Element, ...]:
    if tally.numbers is None:
        return ()
    return (el("span", f"; sum {tally.numbers[2]:,}"),)


def _spread(facts: Facts) -> Element | None:
    parts: list[Element] = []
    for kind in facts.kinds:
        tags = [f for f in kind.fields if f.in_map and f.lists_values]
        same = [f for f in tags if len(f.tally.values) == 1]
        if tags:
            parts.append(el("h3", kind.name))
        for one in tags:
            if len(one.tally.values) > 1:
                values = sorted(one.tally.values.values(), key=lambda v: -v.count)
                shown = [(v.shown, v.count) for v in values[:_MOST_SHARES]]
                rest = one.tally.count - sum(count for _, count in shown)
                parts.append(charts.shares(one.path, ("value", "times"), shown, rest=rest))
        if same:
            rows = [(f.path, f.tally.example, f"{f.tally.count:,}") for f in same]
            heads = ("tag", "value", "times#")
            parts.append(pages.table("Tags with one value throughout", heads, rows))
    return pages.section("tags", "How often each tag has which value", *parts) if parts else None


def _never(facts: Facts) -> Element:
    items = (el("li", one) for one in facts.never)
    return pages.section("never", "What is not in it", el("ul", *items))
