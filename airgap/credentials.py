"""Credentials: their fingerprints, and the guard that keeps them out of everything else.

A fingerprint is ``TYPE:`` and the first 32 hexadecimal digits of SHA-256 over
``airgap credential v1``, a zero byte, the type, a zero byte and the credential in UTF-8
(``schemas/README.md``, section Fingerprints). The prefix keeps it apart from any digest of the
same key that another system may store.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import orjson

from airgap import privacy
from airgap.catalog import Catalog
from airgap.errors import InputRefusedError, TrustError, UsageError

_NAMES = {"license": "licence key", "api_key": "API key"}
_OPTIONS = {"license": "--license-file", "api_key": "--api-key-file"}
_KEY = re.compile(r"[!-~]{8,16384}")


def fingerprint(kind: str, secret: str) -> str:
    """Return a credential's fingerprint, for instance ``license:0f6b...``.

    Args:
        kind: the credential's type, ``license`` or ``api_key``.
        secret: the credential itself.
    """
    digest = sha256(b"airgap credential v1\0" + kind.encode() + b"\0" + secret.encode()).hexdigest()
    return f"{kind}:{digest[:32]}"


def _name(kind: str) -> str:
    return _NAMES.get(kind, kind)


def mask(fp: str) -> str:
    """Return what is shown in place of a credential with this fingerprint."""
    return f"<{fp}>"


def check(kind: str, secret: object, *, where: str) -> str:
    """Return a credential that was found in a request, a file or a variable.

    Raises:
        InputRefusedError: it is not 8 to 16,384 printable ASCII characters without spaces; a
            shorter one could not be told from other text.
    """
    if not isinstance(secret, str) or not _KEY.fullmatch(secret):
        raise InputRefusedError(
            f"what is given as the {_name(kind)} is not a key",
            where=where,
            expected="8 to 16,384 printable ASCII characters without spaces",
            found="something else (not shown)",
            hint="correct it at its source",
        )
    return secret


def redact(text: str, catalog: Catalog, secrets: Iterable[str] = ()) -> str:
    """Return text with everything masked that is one of ``secrets``, or looks like a key.

    Addresses and card numbers are masked as well.
    """
    for secret in secrets:
        for form in (secret, orjson.dumps(secret)[1:-1].decode()):
            text = text.replace(form, "<masked>")
    data = text.encode("utf-8", "replace")
    for name, pattern in catalog.credential_patterns.items():
        data = pattern.sub(f"<{name} masked>".encode(), data)
    return privacy.masked(data.decode())


def guard(text: bytes, catalog: Catalog, *, where: str, secrets: Iterable[str] = ()) -> None:
    """Refuse text that holds a credential.

    Args:
        text: UTF-8 of everything that is about to be kept.
        catalog: its patterns know what keys look like.
        where: file and line, for the message.
        secrets: credentials that were just taken out and must not occur again.

    Raises:
        InputRefusedError: something looks like a key, or is one of ``secrets``.
    """
    for name, pattern in catalog.credential_patterns.items():
        if pattern.search(text):
            _leak(name, where)
    for secret in secrets:
        # As it is, and as JSON writes it.
        if secret.encode() in text or orjson.dumps(secret)[1:-1] in text:
            _leak("removed", where)


def _leak(name: str, where: str) -> None:
    raise InputRefusedError(
        f"a value looks like a credential ({name}) outside the credential's place",
        where=where,
        expected="no credential among tags, measures and other fields",
        found="one (not shown)",
        hint="remove it at the source; airgap never carries a key",
    )


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """The workstation's own credentials by fingerprint. Its ``repr`` shows no secret."""

    secrets: Mapping[str, str]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> "Keyring":
        """Return a keyring of ``(type, credential)`` pairs that passed ``check``."""
        return cls({fingerprint(kind, secret): secret for kind, secret in pairs})

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.secrets)})"

    def secret(self, fp: str) -> str:
        """Return the credential with this fingerprint.

        Raises:
            TrustError: there is none.
        """
        try:
            return self.secrets[fp]
        except KeyError:
            raise missing([fp], self) from None

    def redact(self, text: str, catalog: Catalog) -> str:
        """Return text without any of these credentials, and without anything like one."""
        return redact(text, catalog, self.secrets.values())

    def require(self, fingerprints: Iterable[str]) -> None:
        """Check that every fingerprint has its credential.

        Raises:
            TrustError: naming those that have none.
        """
        lacking = [fp for fp in fingerprints if fp not in self.secrets]
        if lacking:
            raise missing(lacking, self)


def missing(fingerprints: list[str], keyring: Keyring) -> TrustError:
    """Return the error for credentials that the workstation does not have."""
    types = dict.fromkeys(fp.partition(":")[0] for fp in fingerprints)
    options = " and ".join(f"{_OPTIONS.get(name, name)} FILE" for name in types)
    swapped = any(
        fingerprint(name, secret) in fingerprints
        for name in types
        for secret in keyring.secrets.values()
    )
    return TrustError(
        "no credential here matches the bundle's",
        expected=", ".join(fingerprints),
        found=", ".join(keyring.secrets) or "no credential",
        hint=f"the key is here, as the wrong type: give its file as {options}"
        if swapped
        else f"run the same command with {options}, the key that the usage was collected with; if "
        "none of yours is it, this is another customer's stick; nothing of it was sent",
    )


def read_all(
    license_files: Iterable[Path | str], api_key_files: Iterable[Path | str]
) -> list[tuple[str, str]]:
    """Return ``(type, credential)`` from files.

    Raises:
        UsageError: see ``read_secret_file``.
    """
    found = [("license", read_secret_file(str(path), kind="license")) for path in license_files]
    return found + [
        ("api_key", read_secret_file(str(path), kind="api_key")) for path in api_key_files
    ]


def read_secret_file(path: str, *, kind: str) -> str:
    """Return the credential in the first line of a file.

    Raises:
        UsageError: the file can't be read, or does not hold one line of text.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(65_537)
    except OSError as error:
        raise UsageError(
            f"the file of the {_name(kind)} can't be read: {error.strerror}",
            # What leads nowhere and is no path may be the key itself.
            where=path
            if "/" in path
            else f"a name of {len(path)} characters, not shown: it may be the key itself",
            hint="check the path; the file holds the key and nothing else",
        ) from None
    lines = raw.decode("utf-8", "replace").strip().splitlines()
    if len(lines) != 1:
        raise UsageError(
            f"the file of the {_name(kind)} does not hold one key",
            where=path,
            expected="one line of text, the key",
            found=f"{len(lines)} lines",
            hint="put the key alone into a file, on one line",
        )
    return check(kind, lines[0].strip(), where=path)
