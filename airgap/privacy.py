r"""The guard that keeps e-mail addresses and payment card numbers from leaving.

They are found as text, in JSON strings with their escapes, percent-encoded, in several such layers,
and within protobuf. This is a net for accidents, not for somebody who hides data on purpose.

What is taken for an **e-mail address**: a letter, digit or one of ``_ + -`` before an ``@``,
and after it two or more labels of which a later one begins with two letters (RFC 5321 section
4.1.2). So ``git@host`` is none, ``git@example.com`` and ``password@db.example`` in a URL are.
A name that begins as a version does (``langgraph@1.2.0``, ``core@v1.0.dev``) is none, nor are
quoted names and address literals (``"a b"@...``, ``a@[10.0.0.1]``).

What is taken for a **payment card number**: 13 to 19 digits with an issuer's prefix and length
(ISO/IEC 7812-1, issuers as the networks publish them) whose last digit is right (Luhn, the same
standard's annex B), in one piece or grouped by single spaces or hyphens as cards are printed. No
letter or digit touches it, it is no fraction (``0.4...``), and no span id of a ``traceparent`` (W3C
Trace Context section 3.2). UUIDs, hexadecimal ids and times since 1970 never have that form; UATP's
cards begin with 1 as times do, and are not searched. JSON numbers are counts, and not searched.
"""

import re
from collections.abc import Iterable, Iterator

import orjson

from airgap import wire
from airgap.errors import InputRefusedError

_ADDRESS_SHOWN = re.compile(
    r"(?<![\w.+-])(?<!//)[\w.+-]{1,64}@[^\W_][\w-]{0,62}(?:\.[^\W_][\w-]{0,62}){0,6}\.[^\W\d_][\w-]{1,62}"
)
_CARD_SHOWN = re.compile(r"(?<![\w.])[2-9][0-9](?:[ -]?[0-9]){11,17}(?!\w)")
_LAYERS = 4
"""How many layers of escapes are taken off; several backslashes or ``%25`` are one layer."""
_BATCH = 1024**2
_SHORTEST = 6
"""Bytes of the shortest that could be found: ``a@b.cd``."""

# Each pattern but the first looks at no more than a few hundred bytes from where it starts, so the
# work grows with the length alone, whatever the text. A test holds them to it.
_JSON_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"')  # only for JSON that was parsed before
_ESCAPE = re.compile(
    rb"""(?<!\\)\\{1,64}+(?:u([0-9A-Fa-f]{4})|([bfnrt/"]))|%(?:25){0,16}([0-9A-Fa-f]{2})"""
)
_LABEL = rb"[A-Za-z0-9\x80-\xff][A-Za-z0-9\x80-\xff-]{0,62}+"
# Beyond ASCII: any letter, but no punctuation, which UTF-8 has under C2 and E2.
_DOMAIN = re.compile(
    rb"@(?!v?[0-9]{1,9}\.[0-9])%b(?:\.%b){0,6}?\.(?:[A-Za-z]{2}|[\xc3-\xe1\xe3-\xed][\x80-\xbf])"
    % (_LABEL, _LABEL)
)
_NAME_END = re.compile(
    rb"(?:[A-Za-z0-9_+-]|[\xc3-\xdf][\x80-\xbf]|[\xe0\xe1\xe3-\xed][\x80-\xbf]{2})\Z"
)
_ESCAPE_END = re.compile(rb"(?:\\(?:[bfnrt]|u[0-9A-Fa-f]{4})|%[0-9A-Fa-f]{2})\Z")
_CARD_START = re.compile(
    rb"[2-9](?<![0-9A-Za-z].)(?<![0-9]\..)(?<![0-9a-f]{32}-.)"
    rb"(?=[0-9]{12}|[0-9]{3}[ -][0-9]{4}|[0-9]{5}[ -][0-9]{10})",
    re.DOTALL,
)
_CARD_FORMS = tuple(
    re.compile(form + rb"(?![0-9A-Za-z])")
    for form in (
        rb"[0-9]{13,19}",
        rb"[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}",
        rb"[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}\1[0-9]{1,3}",
        rb"[0-9]{4}([ -])[0-9]{6}\1[0-9]{4,5}",
        rb"[0-9]{4}([ -])[0-9]{4}\1[0-9]{5}",
        rb"[0-9]{6}[ -][0-9]{10,13}",
    )
)
_ISSUERS: tuple[tuple[str, str, Iterable[int]], ...] = (
    # First prefix, last prefix, lengths. Mir, Mastercard, Diners Club, American Express, JCB:
    ("2200", "2204", range(16, 20)),
    ("2221", "2720", (16,)),
    ("300", "305", range(14, 20)),
    ("3095", "3095", range(14, 20)),
    ("34", "34", (15,)),
    ("3528", "3589", range(16, 20)),
    ("36", "36", range(14, 20)),
    ("37", "37", (15,)),
    ("38", "39", range(14, 20)),
    # Visa; Maestro, Dankort, Verve, RuPay; Mastercard; Maestro, Uzcard:
    ("4", "4", (13, 16, 19)),
    ("5018", "5020", range(13, 20)),
    ("5038", "5038", range(13, 20)),
    ("506099", "506198", (16, 18, 19)),
    ("507865", "507964", (16, 18, 19)),
    ("508", "508", (16,)),
    ("51", "55", (16,)),
    ("5614", "5614", (16,)),
    ("5893", "5893", range(13, 20)),
    # RuPay, Discover, Hipercard; UnionPay; Maestro, InterPayment, InstaPayment; Discover:
    ("60", "60", range(16, 20)),
    ("62", "62", range(16, 20)),
    ("6304", "6304", range(13, 20)),
    ("636", "639", range(16, 20)),
    ("644", "649", range(16, 20)),
    ("65", "65", range(16, 20)),
    ("6759", "6763", range(13, 20)),
    # RuPay, Uzcard, Troy, Humo:
    ("81", "82", (16,)),
    ("8600", "8600", (16,)),
    ("9792", "9792", (16,)),
    ("9860", "9860", (16,)),
)
_SHAPE = bytes.maketrans(b"123456789 ", b"000000000-")
"""Makes each digit a 0 and each space a hyphen."""
_DOUBLED = str.maketrans("0123456789", "0246813579")


def guard(data: bytes, *, where: str) -> None:
    """Refuse data that holds an e-mail address or a payment card number.

    Args:
        data: everything that is about to be kept: text in UTF-8, JSON or protobuf.
        where: file and line, for the message.

    Raises:
        InputRefusedError: there is one.
    """
    found = find(data)
    if found is not None:
        raise InputRefusedError(
            f"a value holds {found}",
            where=where,
            expected="no personal data among tags, measures and other fields",
            found="one (not shown)",
            hint="remove it at its source; airgap carries no personal data",
        )


def find(data: bytes) -> str | None:
    """Return what personal data there is, ``an e-mail address`` for instance, or None.

    Args:
        data: text in UTF-8, JSON, or protobuf.
    """
    if _is_clear(data):
        return None
    for text in _batches(_texts(data)):
        found = _search(text)
        if found is not None:
            return found
    return None


def _is_clear(data: bytes) -> bool:
    """Tell, without taking data apart, that nothing is in it; what is not clear has to be searched."""
    # What is in a text is in the data, as it is or with escapes.
    if b"@" in data or b"\\" in data or b"%" in data:
        return False
    # JSON has quotes around its texts, so a card in one is one in all of it; in protobuf a letter or
    # digit that touches it may be a tag or a length.
    return not _may_hold_card(data) or (_is_json(data) and not _has_card(data))


def masked(text: str) -> str:
    """Return text for people with every address and card number masked.

    What is the role of a connection URL (``postgresql://role@db.example``) stays.
    """
    text = _ADDRESS_SHOWN.sub("<address masked>", text)
    return _CARD_SHOWN.sub(
        lambda match: "<card masked>" if _is_card(re.sub("[ -]", "", match[0])) else match[0],
        text,
    )


def _texts(data: bytes) -> Iterator[bytes]:
    """Yield the strings of JSON, keys too, else what ``wire.texts`` makes of it.

    JSON's strings are taken from the text itself, since a parser drops all but one of equal keys.
    """
    if _is_json(data):
        yield from (match[0][1:-1] for match in _JSON_STRING.finditer(data))
        return
    yield from wire.texts(data)


def _is_json(data: bytes) -> bool:
    if data.lstrip(b" \t\r\n")[:1] not in (b"{", b"[", b'"'):
        return False
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def _batches(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Put short texts together, a zero byte between them: searching each alone is slow."""
    waiting: list[bytes] = []
    size = 0
    for text in texts:
        if len(text) >= _SHORTEST:
            waiting.append(text)
            size += len(text)
        if size > _BATCH:
            yield b"\0".join(waiting)
            waiting.clear()
            size = 0
    yield b"\0".join(waiting)


def _search(text: bytes) -> str | None:
    for _ in range(_LAYERS):
        if _has_address(text):
            return "an e-mail address"
        if _has_card(text):
            return "a payment card number"
        plain = _ESCAPE.sub(_unescaped, text) if b"\\" in text or b"%" in text else text
        if plain == text:
            return None
        text = plain
    return None


def _unescaped(match: re.Match[bytes]) -> bytes:
    code, letter, percent = match.groups()
    if code is not None:
        return chr(int(code, 16)).encode(errors="replace")
    if percent is not None:
        return bytes.fromhex(percent.decode())
    return letter if letter in b'/"' else b"\n"


def _has_address(text: bytes) -> bool:
    for match in _DOMAIN.finditer(text):
        before = text[max(0, match.start() - 8) : match.start()]
        # An escape right before the @ is seen for what it is in the next layer: \n@decorator.name
        if _NAME_END.search(before) and not _ESCAPE_END.search(before):
            return True
    return False


def _has_card(text: bytes) -> bool:
    if not _may_hold_card(text):
        return False
    for start in _CARD_START.finditer(text):
        for form in _CARD_FORMS:
            match = form.match(text, start.start())
            if match and _is_card(match[0].translate(None, b" -").decode()):
                return True
    return False


def _may_hold_card(text: bytes) -> bool:
    """Tell whether 13 digits stand in one piece, or four on each side of a space or hyphen."""
    shape = text.translate(_SHAPE)
    return b"0000000000000" in shape or b"0000-0000" in shape


def _is_card(digits: str) -> bool:
    total = sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))
    return total % 10 == 0 and any(
        first <= digits[: len(first)] <= last and len(digits) in lengths
        for first, last, lengths in _ISSUERS
    )
