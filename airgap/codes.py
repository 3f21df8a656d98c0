"""Short codes: a whole bundle's confirmation, to be typed in where no file may come back.

Both sides share a pairing secret of 16 random bytes, typed in once. A code is the beginning of an
HMAC-SHA256 (RFC 2104) over what it says. It is authenticated, and proves less than a receipt:
either side could have made it, so it convinces nobody else, and it says only that every record of
the bundle was delivered.
"""

import base64
import binascii
import hmac
from hashlib import sha256

from airgap.errors import InputRefusedError, TrustError

SECRET_SIZE = 16
_CHECK_SIZE = 4
_CODE_SIZE = 10
_TAG = b"airgap code v1"


def secret_text(secret: bytes) -> str:
    """Return a pairing secret as eight groups of four letters and digits, four bytes of check in it."""
    return _grouped(secret + sha256(secret).digest()[:_CHECK_SIZE])


def secret_from_text(text: str) -> bytes:
    """Return the pairing secret that somebody typed.

    Raises:
        InputRefusedError: it is mistyped.
    """
    try:
        data = base64.b32decode(_plain(text))
    except (binascii.Error, ValueError):
        data = b""
    secret, check = data[:SECRET_SIZE], data[SECRET_SIZE:]
    if len(data) != SECRET_SIZE + _CHECK_SIZE or sha256(secret).digest()[:_CHECK_SIZE] != check:
        raise InputRefusedError(
            "the pairing secret is mistyped",
            expected="eight groups of four, as `airgap receipt pair` showed them",
            hint="type it again; nothing was changed",
        )
    return secret


def code(secret: bytes, *, source: str, importer: str, bundle_id: str) -> str:
    """Return the code that says that every record of a bundle was delivered: four groups of four."""
    said = b"\0".join([_TAG, source.encode(), importer.encode(), bundle_id.encode(), b"delivered"])
    return _grouped(hmac.digest(secret, said, "sha256")[:_CODE_SIZE])


def check_code(typed: str, secret: bytes, *, source: str, importer: str, bundle_id: str) -> None:
    """Check a code that somebody typed.

    Raises:
        TrustError: it is not the bundle's.
    """
    right = _plain(code(secret, source=source, importer=importer, bundle_id=bundle_id))
    if not hmac.compare_digest(_plain(typed).encode(), right.encode()):
        raise TrustError(
            f"this is not {importer}'s code for the bundle",
            expected="four groups of four, for exactly this bundle",
            found="another code, or a mistyped one",
            hint="compare number and id of the bundle over the phone, then type it again; "
            "nothing was changed",
        )


def _grouped(data: bytes) -> str:
    text = base64.b32encode(data).decode()
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def _plain(text: str) -> str:
    """Return typed text without grouping, with digits read as the letters they look like."""
    kept = "".join(c for c in text.upper() if c.isalnum() and c.isascii())
    return kept.replace("0", "O").replace("1", "I").replace("8", "B")
