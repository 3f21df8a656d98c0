"""Pages for people: one self-contained HTML file, put together as a tree, never as text.

    el(tag, *content, **attributes) -> Element      text is escaped, and unknown tags are refused
    section(name, heading, *content) -> Element     a landmark with a heading; name is its id
    table(caption, heads, rows) -> Element          heads that end in "#" are numbers; the first
                                                    column of a row is its heading
    pairs(rows) -> Element                          name and value, as a description list
    details(summary, *content) -> Element           shut on a screen, open on paper
    mark(text, kind) -> Element                     a word in a frame: "note", "warn" or "good"
    document(title, summary, sections, foot) -> bytes

What comes from a stranger's file goes in as a string and is shown, whatever it holds. The page has
no script, its Content-Security-Policy allows none and nothing from elsewhere, and there is no way
here to make one. Equal input gives equal bytes, so that a page's SHA-256 can be signed.
"""

import base64
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Literal
from xml.etree.ElementTree import Element, tostring

from airgap.pagestyle import STYLE
from airgap.text import printable

Content = Element | str | None
Cell = Content | tuple[Content, ...]

_LONGEST_TEXT = 100_000
_TAGS = frozenset(
    "a abbr article aside body br caption code dd desc details div dl dt em figcaption figure footer "
    "g h1 h2 h3 h4 header html li main nav ol p path pattern rect section small span strong summary "
    "svg line table tbody td tfoot th thead title tr ul defs head".split()
)
_ATTRIBUTES = frozenset(
    "class id lang href role scope aria-label aria-labelledby aria-hidden tabindex open colspan "
    "viewBox preserveAspectRatio width height x y x1 x2 y1 y2 d rx fill stroke stroke-width "
    "patternUnits patternTransform shape-rendering dir datetime".split()
)
_BLOCKS = frozenset(
    "article aside caption dd details div dl dt figcaption figure footer h1 h2 h3 h4 header li main "
    "nav ol p section summary svg table tbody tfoot thead tr ul".split()
)


def el(tag: str, *content: Content, **attributes: str | int | None) -> Element:
    """Return an element.

    Args:
        tag: an element of HTML or SVG that shows something; nothing that runs or loads.
        content: elements and text in order; None adds nothing. Control, bidirectional and other
            invisible characters of a text are shown as escapes.
        attributes: ``class_`` is class, ``aria_label`` is aria-label; None leaves one out.

    Raises:
        ValueError: a tag or attribute that pages do not use, or a link to elsewhere.
    """
    if tag not in _TAGS:
        raise ValueError(f"pages have no {tag}")
    made = Element(tag)
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if name not in _ATTRIBUTES or (name == "href" and not str(value).startswith("#")):
            raise ValueError(f"pages have no {name} of this kind")
        if value is not None:
            made.set(name, printable(str(value), _LONGEST_TEXT))
    return add(made, *content)


def add(element: Element, *content: Content) -> Element:
    """Put elements and text at an element's end, and return it."""
    for item in content:
        if isinstance(item, str):
            text = printable(item, _LONGEST_TEXT)
            if len(element):
                element[-1].tail = (element[-1].tail or "") + text
            else:
                element.text = (element.text or "") + text
        elif item is not None:
            element.append(item)
    return element


def section(name: str, heading: str, *content: Content) -> Element:
    """Return a part of a page: ``name`` is its id, by which ``document`` links it."""
    title = el("h2", heading, id=f"{name}-heading")
    return el("section", title, *content, id=name, aria_labelledby=f"{name}-heading")


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], *, size: str = ""
) -> Element:
    """Return a table that can be scrolled sideways where there is little room.

    Args:
        caption: what it shows.
        heads: column headings; one that ends in ``#`` is of numbers.
        rows: cells; the first of each row is its heading.
        size: ``small`` where it stands beside a chart that shows the same, ``wide`` where its
            columns hold sentences.
    """
    numbers = [head.endswith("#") for head in heads]
    top = el(
        "tr", *(_cell("th", h.rstrip("#"), n, "col") for h, n in zip(heads, numbers, strict=True))
    )
    body = el("tbody")
    for row in rows:
        line = el("tr")
        for index, (cell, number) in enumerate(zip(row, numbers, strict=True)):
            line.append(_cell("td" if index else "th", cell, number, None if index else "row"))
        body.append(line)
    grid = el("table", el("caption", caption), el("thead", top), body)
    return scrolling(grid, caption, size)


def scrolling(grid: Element, caption: str, size: str = "") -> Element:
    """Return a table in a box that can be scrolled, with a keyboard too."""
    box = f"scroll {size}".rstrip()
    return el("div", grid, class_=box, tabindex=0, role="region", aria_label=f"Table: {caption}")


def _cell(tag: str, content: Cell, number: bool, scope: str | None) -> Element:  # noqa: FBT001
    parts = content if isinstance(content, tuple) else (content,)
    return el(tag, *parts, scope=scope, class_="number" if number else None)


def pairs(rows: Iterable[tuple[str, Cell]]) -> Element:
    """Return names and values as a description list."""
    made = el("dl")
    for name, value in rows:
        parts = value if isinstance(value, tuple) else (value,)
        made.append(el("div", el("dt", name), el("dd", *parts)))
    return made


def details(summary: str, *content: Content) -> Element:
    """Return content that is shut on a screen until it is asked for."""
    return el("details", el("summary", summary), *content)


def mark(text: str, kind: Literal["note", "warn", "good"] = "note") -> Element:
    """Return a word in a frame; its words say what its colour says."""
    return el("span", text, class_=f"mark {kind}")


def document(
    title: str,
    summary: Sequence[Content],
    sections: Sequence[Element],
    foot: Sequence[Content] = (),
    *,
    kicker: str = "airgap",
    contents: bool = True,
) -> bytes:
    """Return a whole page.

    Args:
        title: its title and first heading.
        summary: what stands under the heading, above the contents.
        sections: from ``section``.
        foot: what stands at the end.
        kicker: what stands above the title.
        contents: whether links to the sections are shown.

    Returns:
        UTF-8 text of one HTML document.
    """
    links = el("ul")
    for part in sections:
        name = part.get("id")
        heading = part.find("h2")
        if name and heading is not None:
            links.append(el("li", el("a", "".join(heading.itertext()), href=f"#{name}")))
    navigation = el("nav", links, aria_label="Contents") if contents and len(links) > 1 else None
    body = el(
        "body",
        el("a", "Skip to the content", class_="skip", href="#content"),
        el("header", el("p", kicker, class_="kicker"), el("h1", title), *summary),
        navigation,
        el("main", *sections, id="content", tabindex=-1),
        el("footer", *foot) if foot else None,
    )
    root = el("html", _head(title), body, lang="en")
    _spread(root)
    text: bytes = tostring(root, encoding="utf-8", method="html")
    return b"<!DOCTYPE html>\n" + text + b"\n"


def policy() -> str:
    """Return the Content-Security-Policy: the one style sheet by its digest, and nothing else."""
    digest = base64.b64encode(sha256(STYLE.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _head(title: str) -> Element:
    made = el("head")
    for attributes in (
        {"charset": "utf-8"},
        {"http-equiv": "Content-Security-Policy", "content": policy()},
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
        {"name": "color-scheme", "content": "light dark"},
        {"name": "referrer", "content": "no-referrer"},
    ):
        made.append(Element("meta", attributes))
    made.append(el("title", title))
    # Made here and nowhere else: what stands in a style element is not escaped.
    style = Element("style")
    style.text = STYLE
    made.append(style)
    return made


def _spread(root: Element) -> None:
    """End the line after each block, so that the file can be read as text and compared."""
    for element in root.iter():
        if element.tag in _BLOCKS and not element.tail:
            element.tail = "\n"
