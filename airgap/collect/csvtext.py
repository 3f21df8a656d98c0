"""CSV as text: encodings, lines, quoting (RFC 4180), with bounds on what is held in memory.

Written out rather than taken from the standard library's ``csv``, whose limit on a field belongs to
the whole process, and which reads a file that was cut off within quotes without a word.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from airgap.errors import InputRefusedError, UsageError
from airgap.limits import MAX_INPUT_LINE, MAX_STRING_LENGTH
from airgap.text import printable, size

_CHUNK = 256 * 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# PostgreSQL's names of encodings that Python calls otherwise; its WIN1252 is cp1252.
_POSTGRES_NAMES = {"KOI8R": "koi8-r", "KOI8U": "koi8-u", "UNICODE": "utf-8"}
# Codecs that Python calls encodings, and that no file is in.
_NO_CHARSETS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"}
_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"')

Line = tuple[int, str, bool]
"""The number of the line where it starts, its text without its end, and whether it had an end."""


class BrokenQuotesError(ValueError):
    """A quotation mark stands where it can't."""


def encoding_of(start: bytes, wanted: str | None) -> tuple[str, int]:
    """Return the encoding of a file, and how many bytes at its start only say so.

    Args:
        start: at least its first three bytes, where it has that many.
        wanted: the operator's word, by Python's or PostgreSQL's name; a byte order mark is stronger.

    Raises:
        UsageError: there is no such encoding.
    """
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name, len(mark)
    if wanted is None:
        return "utf-8", 0
    upper = wanted.upper()
    name = _POSTGRES_NAMES.get(upper, wanted)
    if re.fullmatch(r"WIN\d{3,4}", upper):
        name = f"cp{upper[3:]}"
    try:
        found = codecs.lookup(name)
        found.incrementaldecoder("strict")
        "".encode(found.name)  # refuses what turns bytes into bytes, such as base64
    except (LookupError, TypeError, ValueError):
        found = None
    if found is None or found.name.replace("_", "-") in _NO_CHARSETS:
        raise UsageError(
            f"there is no encoding {printable(wanted, 40)}",
            hint="--encoding utf-8, utf-16, windows-1252 or latin-1, for instance",
        )
    return found.name, 0


def lines(stream: BinaryIO, name: str, wanted: str | None) -> Iterator[Line]:
    """Yield the physical lines from the stream's position on; only a line feed ends one.

    Args:
        stream: the file.
        name: of the file, for messages.
        wanted: see ``encoding_of``.

    Raises:
        InputRefusedError: the bytes are not of the encoding, hold a NUL, or a line is too long.
        UsageError: there is no such encoding.
    """
    data = stream.read(_CHUNK)
    encoding, skipped = encoding_of(data, wanted)
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    data, rest, number = data[skipped:], "", 1
    while True:
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(encoding, "replace").count("\n")
            cut = not data
            raise _undecodable(f"{name}, line {number + before}", encoding, cut=cut) from None
        except UnicodeError:  # UTF-16 or UTF-32 whose byte order nothing says
            raise _undecodable(f"{name}, line {number}", encoding, cut=False) from None
        if "\0" in text:
            place = number + text[: text.index("\0")].count("\n")
            raise InputRefusedError(
                "the file holds NUL characters",
                where=f"{name}, line {place}",
                expected="text",
                hint="where it is UTF-16 without a byte order mark: --encoding utf-16-le",
            )
        if not data:
            break
        *whole, rest = (rest + text).split("\n")
        if whole and len(whole[0]) > MAX_INPUT_LINE:  # the others lie within one chunk
            raise _too_long(f"{name}, line {number}")
        for line in whole:
            yield number, line, True
            number += 1
        if len(rest) > MAX_INPUT_LINE:
            raise _too_long(f"{name}, line {number}")
        data = stream.read(_CHUNK)
    if rest:
        yield number, rest, False


def rows(physical: Iterator[Line], name: str, alone: Callable[[str], bool]) -> Iterator[Line]:
    """Yield rows as text: physical lines, joined where a quoted field goes over several.

    A carriage return at the end of a row belongs to the line end, and is left out.

    Args:
        physical: see ``lines``.
        name: of the file, for messages.
        alone: tells of a line with an odd number of quotation marks that it is no row at all.

    Raises:
        InputRefusedError: the file ends within a quoted field, or a row is too long.
    """
    for number, line, ended in physical:
        text, end = line, ended
        if '"' in line and line.count('"') % 2 and not alone(line):
            parts, held, is_open = [line], len(line), True
            while is_open:
                following = next(physical, None)
                if following is None or not following[2]:
                    # An end within quotes, or right behind them, is none that psql writes.
                    raise cut_off(f"{name}, line {number}", "a quoted field without its end")
                _, more, end = following
                parts.append(more)
                held += len(more) + 1
                if held > MAX_INPUT_LINE:
                    raise _too_long(f"{name}, line {number}")
                is_open = more.count('"') % 2 == 0
            text = "\n".join(parts)
        yield number, text.removesuffix("\r"), end


def fields(text: str, delimiter: str) -> list[str]:
    """Return the fields of a row, without quotes.

    Raises:
        BrokenQuotesError: a quotation mark stands within a field that is not quoted, or text
            stands behind a closing one.
    """
    if '"' not in text:
        return text.split(delimiter)
    found: list[str] = []
    at, length = 0, len(text)
    while True:
        if match := _QUOTED.match(text, at):
            found.append(match[1].replace('""', '"') if '""' in match[1] else match[1])
            at = match.end()
            if at < length and text[at] != delimiter:
                raise BrokenQuotesError("text stands behind a closing quotation mark")
        else:
            end = text.find(delimiter, at)
            end = length if end < 0 else end
            field = text[at:end]
            if '"' in field:
                raise BrokenQuotesError("a quotation mark stands within a field without quotes")
            found.append(field)
            at = end
        if at >= length:
            return found
        at += 1


def too_large(values: list[str]) -> bool:
    """Tell whether a field is larger than any record may hold."""
    return any(
        len(v) * 4 > MAX_STRING_LENGTH and len(v.encode(errors="replace")) > MAX_STRING_LENGTH
        for v in values
    )


def cut_off(where: str, found: str) -> InputRefusedError:
    """Return the error for a file that ends too early."""
    return InputRefusedError(
        "the file was cut off",
        where=where,
        expected="a whole row, with the end of its line",
        found=found,
        hint="copy it again, or run the query again; nothing of it was taken over",
    )


def _too_long(where: str) -> InputRefusedError:
    return InputRefusedError(
        "the row is too long",
        where=where,
        expected=f"at most {size(MAX_INPUT_LINE)}",
        hint="a quotation mark without its partner does the same: use the file as psql wrote it",
    )


def _undecodable(where: str, encoding: str, *, cut: bool) -> InputRefusedError:
    if cut:
        return cut_off(where, "half a character")
    return InputRefusedError(
        f"the text is not in the encoding {encoding}",
        where=where,
        expected="UTF-8, or the encoding that --encoding names",
        hint="say which it is, for instance --encoding windows-1252 or latin-1; or run the query "
        "again with PGCLIENTENCODING=UTF8"
        if not encoding.startswith(("utf-16", "utf-32"))
        else f"the file has no byte order mark: say the order too, --encoding {encoding}-le or -be",
    )
