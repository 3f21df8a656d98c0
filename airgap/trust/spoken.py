"""Fingerprints to compare over the phone: as twelve words, and as a QR code.

The words are BIP-39's English list (bitcoin/bips, bip-0039): the fingerprint's 128 bits and four more
that check them, so most misheard lists are noticed at once. Both are only another way to write the
fingerprint. They need the ``ceremony`` extra.
"""

import io
from typing import Any

from airgap.errors import TrustError, UsageError
from airgap.text import printable
from airgap.trust.keys import fingerprint

_DIGITS = 32

LEAST_DIGITS = 16
"""How much of a fingerprint a person must give."""


def words(key_id: str) -> str:
    """Return a fingerprint as twelve words.

    Args:
        key_id: 64 hexadecimal digits, of which the first 32 are the fingerprint.

    Raises:
        UsageError: the ``mnemonic`` package is not installed.
    """
    return str(_mnemonic().to_mnemonic(bytes.fromhex(key_id[:_DIGITS])))


def digits(spoken: str) -> str:
    """Return the beginning of a key id that a person typed: hexadecimal digits, or twelve words.

    Raises:
        TrustError: the words are not a fingerprint's: one was misheard.
        UsageError: they are words, and the ``mnemonic`` package is not installed.
    """
    found = spoken.lower().replace(":", " ").split()
    if len(found) != 12 or all(
        len(word) <= 4 and not word.strip("0123456789abcdef") for word in found
    ):
        return "".join(found)
    book = _mnemonic()
    unknown = [word for word in found if word not in book.wordlist]
    if unknown or not book.check(" ".join(found)):
        raise TrustError(
            "these are not the words of a fingerprint",
            expected="twelve words of `airgap key fingerprint --words`, in their order",
            found=printable(
                f"{unknown[0]!r} is not in the list" if unknown else "their check fails"
            ),
            hint="listen to them once more",
        )
    return bytes(book.to_entropy(found)).hex()


def require(key_id: str, expected: str, *, where: str) -> None:
    """Check that a key is the one whose fingerprint a person was told, in digits or words.

    Raises:
        TrustError: it is not.
        UsageError: fewer than 16 digits were given, which is no sign of another key.
    """
    found = digits(expected)
    if len(found) < LEAST_DIGITS:
        raise UsageError(
            f"too few digits ({len(found)} of at least {LEAST_DIGITS})",
            where=where,
            expected=f"its first {LEAST_DIGITS} digits or more, or its twelve words",
            found=printable(expected) or "nothing",
            hint="ask the key's owner for more of them",
        )
    if not key_id.startswith(found):
        raise TrustError(
            "the key is not the one you expected",
            where=where,
            expected=printable(expected),
            found=fingerprint(key_id),
            hint="do not use this key: ask its owner",
        )


def qr_code(key_id: str) -> str:
    """Return the whole key id as a QR code (ISO/IEC 18004) of block characters, for a terminal.

    A phone reads ``AIRGAP:`` and the 64 digits in capitals.

    Raises:
        UsageError: the ``segno`` package is not installed.
    """
    text = io.StringIO()
    _code(key_id).terminal(out=text, compact=True, border=2)
    return text.getvalue().rstrip("\n")


def qr_modules(key_id: str) -> tuple[tuple[bool, ...], ...]:
    """Return the same QR code as rows of modules, dark ones true, without its quiet zone.

    Raises:
        UsageError: the ``segno`` package is not installed.
    """
    return tuple(tuple(bool(module) for module in row) for row in _code(key_id).matrix)


def _code(key_id: str) -> Any:
    try:
        import segno
    except ImportError:
        raise _not_installed("segno") from None
    return segno.make(f"AIRGAP:{key_id.upper()}", error="m", micro=False)


def _mnemonic() -> Any:
    try:
        from mnemonic import Mnemonic
    except ImportError:
        raise _not_installed("mnemonic") from None
    return Mnemonic("english")


def _not_installed(name: str) -> UsageError:
    return UsageError(
        f"the package {name} is not installed",
        expected="the extra `ceremony`",
        hint="install requirements-sources.lock, which holds it, or compare the digits",
    )
