"""A custody slip: one sheet of paper that goes along with the stick, to be signed by hand."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from airgap import pages
from airgap.pages import Cell, el
from airgap.review.facts import Facts
from airgap.text import plural

_HANDS = ("Handed out by", "Carried by", "Taken in by")
_QUIET = 4


def page(
    facts: Facts, words: str | None, modules: tuple[tuple[bool, ...], ...] | None, lacking: str
) -> bytes:
    """Return the slip: UTF-8 text of one HTML file, one A4 page when printed.

    Args:
        facts: what leaves in the bundle.
        words: its id as twelve words, or None where they can't be made here.
        modules: its id as a QR code, or None likewise.
        lacking: what to install to have both; shown where one is not there.
    """
    manifest, identifier = facts.manifest, facts.bundle_id
    groups = " ".join(identifier[n : n + 4] for n in range(0, len(identifier), 4))
    rows: list[tuple[str, Cell]] = [
        ("Source (from)", manifest["source"]),
        ("Number in its chain", f"{manifest['sequence']:,}"),
        ("Period", facts.period),
        ("Records", f"{manifest['records']:,}"),
        ("Made", f"{manifest['created_at']} by {manifest['producer']}"),
        ("Credentials", facts.credentials),
    ]
    rows += [("Declares", facts.declares)] if facts.declares else []
    rows += [("To (workstation, place)", el("span", "", class_="blank"))]
    proof: list[Element] = [el("p", groups, class_="digest")]
    if words is not None:
        proof += [el("h3", "The first half of it in words"), el("p", words, class_="digest")]
    if words is None or modules is None:
        proof.append(el("p", lacking, class_="note"))
    box = el("div", el("div", *proof), _code(modules) if modules else None, class_="identity")
    heads = ("", "name", "organisation", "date and time", "signature")
    lines = [(hand, "", "", "", "") for hand in _HANDS]
    return pages.document(
        f"Custody slip: {facts.title.lower()}",
        [el("p", f"One file with {plural(manifest['records'], 'record')}, on a removable medium.")],
        [
            pages.section("bundle", "What is carried", pages.pairs(rows)),
            pages.section("id", "Its id", box),
            pages.section("hands", "From hand to hand", _table(heads, lines)),
        ],
        [
            el(
                "p",
                "Whoever takes it in compares the id with what ",
                el("code", "airgap verify"),
                " or ",
                el("code", "airgap inspect"),
                " says of the file, in digits, in words or by the QR code, which reads AIRGAP: and "
                "the digits.",
            )
        ],
        kicker="airgap",
        contents=False,
    )


def _table(heads: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> Element:
    body = (
        el(
            "tr",
            el("th", line[0], scope="row"),
            *(el("td", cell) for cell in line[1:]),
            class_="room",
        )
        for line in lines
    )
    # An empty heading of a column is no heading; the corner is a cell.
    top = el("tr", el("td"), *(el("th", head, scope="col") for head in heads[1:]))
    caption = "To be filled in by hand, in this order"
    parts = (el("caption", caption), el("thead", top), el("tbody", *body))
    return pages.scrolling(el("table", *parts, class_="slip"), caption)


def _code(modules: tuple[tuple[bool, ...], ...]) -> Element:
    """Return a QR code as one path: a line for each run of dark modules."""
    size = len(modules) + 2 * _QUIET
    path: list[str] = []
    for y, row in enumerate(modules):
        x = 0
        while x < len(row):
            start = x
            while x < len(row) and row[x]:
                x += 1
            if x > start:
                path.append(f"M{start + _QUIET} {2 * (y + _QUIET) + 1}h{x - start}")
            x += 1
    # Lines are two units high, so that their middle is a whole number.
    return el(
        "svg",
        el("title", "The bundle's id as a QR code", id="code-title"),
        el("path", d="".join(path), stroke_width=2),
        class_="qr",
        role="img",
        aria_labelledby="code-title",
        viewBox=f"0 0 {size} {2 * size}",
        preserveAspectRatio="none",
        shape_rendering="crispEdges",
    )
