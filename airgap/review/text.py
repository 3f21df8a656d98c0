"""The review sheet as plain text, 80 columns wide: it can be read on anything, and printed."""

import unicodedata
from collections.abc import Iterable

from airgap.review.facts import Facts, FieldFacts, KindFacts
from airgap.review.news import Change, News
from airgap.review.tally import MOST_VALUES
from airgap.text import plural, printable

WIDTH = 80

_LONGEST = 100_000
_LABEL = 14


def sheet(facts: Facts, news: News) -> str:
    """Return a bundle's review sheet.

    Args:
        facts: what leaves in it.
        news: what is new in it.

    Returns:
        Lines of at most 80 columns, each ended by a line feed; nothing in them can drive a terminal.
    """
    lines = [*_head(facts), "", *_first(facts), "", *_news(news)]
    for kind in facts.kinds:
        lines += ["", *_kind(kind)]
    if not facts.kinds:
        lines += ["", "No record is in it."]
    lines += ["", *_never(facts)]
    return "".join(f"{line}\n" for line in lines)


def _head(facts: Facts) -> list[str]:
    manifest = facts.manifest
    rows = [
        ("Id", facts.bundle_id),
        ("Made", f"{manifest['created_at']} by {manifest['producer']}"),
        *(("Signed by", line) for line in facts.signers),
        ("Period", facts.period),
        ("Records", f"{manifest['records']:,}"),
        ("Credentials", facts.credentials),
    ]
    rows += [("Declares", facts.declares)] if facts.declares else []
    rows += [("Says", manifest["message"])] if manifest["message"] is not None else []
    title = facts.title
    lines = [title, "=" * _width(title)]
    for name, value in rows:
        lines += wrapped(value, name.ljust(_LABEL), " " * _LABEL)
    return lines


def _first(facts: Facts) -> list[str]:
    lines = _heading("Look at these first")
    if not facts.first_looks:
        nothing = (
            "Nothing stands out: every name is one that the schemas know, no long text is in it, "
            "and no time of more than a day is without a report."
        )
        return [*lines, *wrapped(nothing, "  ")]
    return [*lines, *(part for one in facts.first_looks for part in wrapped(one, "  ! ", "    "))]


def _news(news: News) -> list[str]:
    lines = _heading("What is new")
    lines += wrapped(news.told, "  ")
    if news.since is None:
        return lines
    for heading, found in news.groups:
        if not found:
            continue
        lines.append(f"  {heading}:")
        lines += [part for one in found for part in wrapped(one, "    + ", "      ")]
    if not news.count:
        lines.append("  No kind, field, tag, text, key or allowed name is new.")
    for name in news.unknown:
        text = f"Of {name} both bundles do not list every text, so a new one may be missing here."
        lines += wrapped(text, "  ! ", "    ")
    lines += ["", *_changes(news.since, news.changes)]
    return lines


def _changes(since: int, changes: Iterable[Change]) -> list[str]:
    rows = [
        (f"{c.kind}: {c.what}", "-" if c.before is None else f"{c.before:,}",
         "-" if c.now is None else f"{c.now:,}")
        for c in changes
    ]  # fmt: skip
    head = ("Totals", f"bundle {since}", "this one")
    wide = [max(len(row[n]) for row in (head, *rows)) for n in (1, 2)]
    room = WIDTH - 4 - sum(wide) - 4
    lines: list[str] = []
    for name, before, now in (head, *rows):
        names = wrapped(name, "  ", "    ", room + 2)
        last = names[-1] + " " * (room + 2 - _width(names[-1]))
        lines += [*names[:-1], f"{last}  {before.rjust(wide[0])}  {now.rjust(wide[1])}"]
    return lines


def _kind(kind: KindFacts) -> list[str]:
    lines = _heading(f"{kind.name}: {plural(kind.records, 'record')}")
    lines += wrapped(kind.why, "  ")
    for where in kind.to:
        lines += wrapped(where, "  goes to   ", "            ")
    taken = f"the key ({' or '.join(kind.taken_out)}); the schema has no field for it"
    lines += wrapped(taken, "  taken out ", "            ")
    lines.append("  whose usage (fingerprints; no key is in the bundle):")
    lines += [f"      {one}" for one in kind.credentials]
    for measure, total in sorted(kind.sums.items()):
        lines += wrapped(f"{measure} = {total:,}", "  sum       ", "            ")
    for one in kind.fields:
        lines += ["", *_field(one, raw=kind.raw)]
    return lines


def _field(one: FieldFacts, *, raw: bool) -> list[str]:
    marks = "".join(f" [{mark}]" for mark in one.marks)
    if raw and one.any_text:
        marks += " [WHOLE MESSAGE]"
    lines = wrapped(f"{one.path}{marks}", "  ", "      ")
    lines += wrapped(one.why, "      ") if one.why else []
    lines += wrapped(f"Can be: {one.form}.", "      ")
    listed = one.lists_values and len(one.tally.values) > 1
    line = one.tally.line(ranged=not listed)
    lines += wrapped(f"{plural(one.tally.count, 'time')}; {line}", "      ")
    if listed:
        values = [f"{v.shown} ({v.count:,})" for v in one.tally.values.values()]
        if one.tally.others:
            rest = plural(one.tally.others, "place")
            values.append(f"and others in {rest}: only the first {MOST_VALUES} are listed")
        lines += wrapped(", ".join(values), "        ")
    return lines


def _never(facts: Facts) -> list[str]:
    lines = _heading("What is not in it")
    return [*lines, *(part for one in facts.never for part in wrapped(one, "  - ", "    "))]


def _heading(text: str) -> list[str]:
    shown = wrapped(text, "")
    return [*shown, "-" * _width(shown[-1])]


def wrapped(text: str, first: str, later: str | None = None, width: int = WIDTH) -> list[str]:
    """Return a text in lines of at most so many columns, words whole where they fit.

    Args:
        text: what is shown; control and invisible characters are escaped.
        first: what the first line begins with.
        later: what the others begin with; None is as the first.
        width: columns of a line, with what it begins with.
    """
    later = first if later is None else later
    lines: list[str] = []
    line, used = first, _width(first)
    empty = True
    for word in printable(text, _LONGEST).split(" "):
        gap = 0 if empty else 1
        if not empty and used + 1 + _width(word) > width:
            lines.append(line)
            line, used, gap = later, _width(later), 0
        for part in _parts(word, width - used - gap, width - _width(later)):
            if used + gap + _width(part) > width:
                lines.append(line)
                line, used, gap = later, _width(later), 0
            line += " " * gap + part
            used += gap + _width(part)
            gap = 0
        empty = False
    return [*(one.rstrip() for one in lines), line.rstrip()]


def _parts(word: str, first: int, later: int) -> Iterable[str]:
    """Cut a word that fits no line: of ``first`` columns what comes first, then of ``later``."""
    if _width(word) <= first:
        yield word
        return
    room, part, used = max(1, first), "", 0
    for character in word:
        wide = _width(character)
        if used + wide > room:
            yield part
            room, part, used = later, "", 0
        part, used = part + character, used + wide
    yield part


def _width(text: str) -> int:
    """Return how many columns a terminal needs."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
