"""Read JSON lines and JSON documents of request bodies.

A file is JSON lines when its name says so or its first line is a whole JSON value; else it is
one document: an object, or an array of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

from airgap import jsontext
from airgap.catalog import Catalog
from airgap.collect.payloads import Rules, records_of
from airgap.collect.quick import Quick
from airgap.errors import InputRefusedError, UsageError
from airgap.limits import MAX_INPUT_DOCUMENT, MAX_INPUT_LINE
from airgap.records import Record
from airgap.sightings import Shown, Sighting
from airgap.text import printable, size

_LINE_SUFFIXES = (".jsonl", ".ndjson")
_BOM = b"\xef\xbb\xbf"
_MOST_ERRORS = 20


class _Problems:
    """Gathers what is wrong with a file, so that one run names it all."""

    def __init__(self) -> None:
        self.errors: list[InputRefusedError] = []

    def add(self, error: InputRefusedError) -> None:
        self.errors.append(error)
        if len(self.errors) >= _MOST_ERRORS:
            self.raise_any()

    def raise_any(self) -> None:
        if not self.errors:
            return
        first, *others = self.errors
        more = [f"{e.where}: {e.message}" for e in others]
        if len(self.errors) >= _MOST_ERRORS:
            more.append("and perhaps more: reading stopped here")
        raise InputRefusedError(
            first.message,
            where=first.where,
            expected=first.expected,
            found=first.found,
            hint=first.hint or "correct it at its source; nothing of this file was taken over",
            details=(*first.details, *more),
        )


def read(path: Path, catalog: Catalog, rules: Rules, *, growing: bool = False) -> Iterator[Record]:
    """Yield the records of a file, each checked, with occurrence 0.

    Args:
        path: the file.
        catalog: schemas and kinds.
        rules: the site's decisions.
        growing: whether the file is still being written, so that a last line without its end
            is left for the next time; else such a line is refused when it can't be read.

    Raises:
        UsageError: the file can't be opened.
        InputRefusedError: naming up to 20 violations by line; the caller must then drop what
            was yielded before.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UsageError(
            f"the source can't be read: {error.strerror}",
            where=printable(str(path), 300),
            hint="check the path and its permissions; nothing was taken over",
        ) from None
    with stream:
        shown = printable(str(path), 300)
        for one in read_stream(stream, shown, catalog, rules, growing=growing):
            assert isinstance(one, Sighting)
            yield one.record


def read_stream(
    stream: BinaryIO,
    name: str,
    catalog: Catalog,
    rules: Rules,
    *,
    growing: bool = False,
    quick: Quick | None = None,
) -> Iterator[Shown]:
    """Yield what an open file shows; see ``read``.

    Args:
        stream: the file.
        name: what messages call it.
        catalog: schemas and kinds.
        rules: the site's decisions.
        growing: see ``read``.
        quick: takes the lines that are plain, or None: then every line takes the exact way.
    """
    first, number = stream.readline(MAX_INPUT_LINE + 1), 1
    while first and not first.removeprefix(_BOM).strip():
        first, number = stream.readline(MAX_INPUT_LINE + 1), number + 1
    first = first.removeprefix(_BOM)
    if not first:
        raise InputRefusedError(
            "the file is empty",
            where=name,
            expected="at least one request",
            found="0 bytes",
            hint="a query or export that failed leaves such a file; run it again and look at its messages",
        )
    problems = _Problems()
    if name.endswith(_LINE_SUFFIXES) or _is_json(first) or (growing and not first.endswith(b"\n")):
        lines = _lines(stream, first, number)
        yield from _read_lines(lines, name, catalog, rules, problems, growing=growing, quick=quick)
    else:
        yield from _read_document(stream, first, name, catalog, rules, problems)
    problems.raise_any()


def _lines(stream: BinaryIO, first: bytes, number: int) -> Iterator[tuple[int, bytes]]:
    """Yield line numbers and lines, beginning with one that was read already."""
    line = first
    while line:
        yield number, line
        line, number = stream.readline(MAX_INPUT_LINE + 1), number + 1


def _read_lines(
    lines: Iterator[tuple[int, bytes]],
    name: str,
    catalog: Catalog,
    rules: Rules,
    problems: _Problems,
    *,
    growing: bool,
    quick: Quick | None,
) -> Iterator[Shown]:
    for number, line in lines:
        # A last line without its end, or one that is too long, is the exact way's to judge.
        if quick is not None and line.endswith(b"\n") and len(line) <= MAX_INPUT_LINE:
            plain = quick.read(line)
            if plain:
                yield from plain
                continue
        where = f"{name}, line {number}"
        if len(line) > MAX_INPUT_LINE:
            expected = f"at most {size(MAX_INPUT_LINE)}"
            problems.add(InputRefusedError("the line is too long", where=where, expected=expected))
            problems.raise_any()
        if growing and not line.endswith(b"\n"):
            return
        if line.strip():
            yield from _read_value(line, where, catalog, rules, problems)


def _read_document(
    stream: BinaryIO,
    first: bytes,
    name: str,
    catalog: Catalog,
    rules: Rules,
    problems: _Problems,
) -> Iterator[Shown]:
    raw = first + stream.read(MAX_INPUT_DOCUMENT + 1 - len(first))
    if len(raw) > MAX_INPUT_DOCUMENT:
        raise InputRefusedError(
            "the document is too large",
            where=name,
            expected=f"at most {size(MAX_INPUT_DOCUMENT)}, or JSON lines",
            hint="write one request per line and name the file .jsonl",
        )
    yield from _read_value(raw, name, catalog, rules, problems)


def _read_value(
    raw: bytes, where: str, catalog: Catalog, rules: Rules, problems: _Problems
) -> Iterator[Shown]:
    try:
        value = jsontext.parse(raw.strip())
    except jsontext.NotExactError as error:
        problems.add(InputRefusedError(str(error), where=where))
        return
    items = (
        [(value, raw, where)]
        if not isinstance(value, list)
        else [
            (item, orjson.dumps(item), f"{where}, element {i}") for i, item in enumerate(value, 1)
        ]
    )
    for item, text, place in items:
        try:
            for record in records_of(item, text, catalog, rules, where=place):
                yield Sighting.of(record)
        except InputRefusedError as error:
            problems.add(error)


def _is_json(line: bytes) -> bool:
    try:
        jsontext.parse(line.strip())
    except jsontext.NotExactError as error:
        return not str(error).startswith("not JSON")
    return True
