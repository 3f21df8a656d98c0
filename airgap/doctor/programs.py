"""What airgap runs on: Python, SQLite, OpenSSL, its libraries, and whether they are as installed."""

import base64
import hashlib
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from itertools import takewhile
from pathlib import Path

from airgap import __version__
from airgap.doctor.findings import Finding, not_checked, ok, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError
from airgap.text import plural, printable

LEAST_PYTHON = (3, 11)
LEAST_SQLITE = (3, 37)
"""STRICT tables came with it ("SQLite Release 3.37.0", 2021-11-27)."""
_EXTRAS = {
    "importer": "deliver to the beacon",
    "postgres": "read LangSmith's database",
    "capture": "receive what servers report",
    "otlp": "filter OpenTelemetry logs",
    "ceremony": "fingerprints as words and QR code",
}
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?P<bounds>[^;]*)(?:;\s*(?P<marker>.*))?"
)
_BOUND = re.compile(r"(>=|<=|==|!=|<|>|~=)\s*([0-9][0-9A-Za-z.]*)")
_INSTALL = "install what requirements.lock names: pip install --require-hashes -r requirements.lock"


def look(scene: Scene) -> Iterator[Finding]:
    """Look at everything that is installed."""
    yield from python(sys.version_info[:3], sys.platform)
    yield from sqlite(sqlite3.sqlite_version)
    yield from cryptography()
    requirements = _requirements()
    if requirements is None:
        yield not_checked("versions.libraries", "airgap runs from a folder, and is not installed")
        yield not_checked("versions.extras", "airgap runs from a folder, and is not installed")
    else:
        there = installed(requirements)
        yield from libraries(requirements, there)
        yield from extras(requirements, there, needs_importer=scene.is_workstation)
    if scene.deep:
        yield from files(sorted({_name(line) for line in requirements or []} | {"airgap"}))


def python(version: tuple[int, ...], platform: str) -> Iterator[Finding]:
    """Judge the interpreter."""
    shown = ".".join(map(str, version))
    if version < LEAST_PYTHON:
        yield wrong(
            "versions.python",
            f"Python {shown}",
            expected="Python 3.11 or newer",
            cure="install a newer Python, and airgap in an environment of it",
        )
    elif platform != "linux":
        yield warning(
            "versions.python",
            f"Python {shown} on {platform}: airgap is tried on Linux only",
            expected="Linux",
            cure="use a Linux machine; what is known of mounted media comes from /proc and /sys",
        )
    else:
        yield ok("versions.python", f"airgap {__version__}, Python {shown}, {sys.executable}")


def sqlite(version: str) -> Iterator[Finding]:
    """Judge the SQLite that Python brings."""
    if _parts(version) < LEAST_SQLITE:
        yield wrong(
            "versions.sqlite",
            f"SQLite {version}",
            expected="SQLite 3.37 or newer (strict tables)",
            cure="use a Python that was built with a newer SQLite",
        )
    else:
        yield ok("versions.sqlite", f"SQLite {version}")


def cryptography() -> Iterator[Finding]:
    """Look at the cryptography library: its OpenSSL, and the algorithms that builds may lack."""
    from cryptography.hazmat.backends.openssl.backend import backend

    from airgap.trust import keys, recipients

    lacking: list[str] = []
    try:
        keys.generate(keys.HYBRID)
    except AirgapError:
        lacking.append("hybrid keys (ML-DSA-65)")
    try:
        recipients.generate(hybrid=False)
    except AirgapError:
        lacking.append("sealing (HPKE)")
    shown = backend.openssl_version_text()
    if lacking:
        yield warning(
            "versions.cryptography",
            f"{shown}, without {' and '.join(lacking)}",
            expected="cryptography 50, as its wheels are built",
            cure=_INSTALL,
        )
    else:
        yield ok("versions.cryptography", f"{shown}, with ML-DSA-65 and HPKE")


def libraries(requirements: list[str], there: Mapping[str, str]) -> Iterator[Finding]:
    """Judge the libraries that airgap can't do without.

    Args:
        requirements: as the package's metadata has them.
        there: installed versions by name.
    """
    core = [line for line in requirements if _extra(line) is None]
    bad = list(_unfit(core, there, missing=True))
    bad += _unfit([line for line in requirements if _extra(line) in _EXTRAS], there, missing=False)
    for name, found, bounds in bad:
        yield wrong(
            "versions.libraries",
            f"{name} {found}",
            expected=f"{name} {bounds}",
            cure=_INSTALL,
        )
    if not bad:
        yield ok(
            "versions.libraries", f"{plural(len(core), 'library', 'libraries')}, all in bounds"
        )


def extras(
    requirements: list[str], there: Mapping[str, str], *, needs_importer: bool
) -> Iterator[Finding]:
    """Judge which optional parts are installed; the workstation needs one of them."""
    whole: list[str] = []
    for extra in _EXTRAS:
        names = [_name(line) for line in requirements if _extra(line) == extra]
        if names and all(name in there for name in names):
            whole.append(extra)
    said = f"installed: {', '.join(whole) or 'none'}"
    absent = [f"{name} ({what})" for name, what in _EXTRAS.items() if name not in whole]
    if absent:
        said += f"; not installed: {', '.join(absent)}"
    if needs_importer and "importer" not in whole:
        yield wrong(
            "versions.extras",
            said,
            expected="the part `importer` on a workstation",
            cure=_INSTALL,
        )
    else:
        yield ok("versions.extras", said)


def installed(requirements: list[str]) -> dict[str, str]:
    """Return the installed versions of what is required, by name."""
    found: dict[str, str] = {}
    for name in {_name(line) for line in requirements}:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def files(names: list[str]) -> Iterator[Finding]:
    """Hold the installed files of packages against the digests that their RECORD names.

    See "Recording installed projects" of the Python Packaging User Guide. Files without a digest,
    such as compiled ones, are passed over.
    """
    changed: list[str] = []
    count = 0
    for name in names:
        try:
            listed = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue
        for file in listed:
            if file.hash is None:
                continue
            count += 1
            if not _is_as_recorded(Path(str(file.locate())), file.hash.mode, file.hash.value):
                changed.append(str(file.locate()))
    for path in changed[:5]:
        yield wrong(
            "versions.files",
            "an installed file is not the one that its package names",
            where=printable(path, 300),
            expected="the file as it was installed",
            cure="find out who changed it; then install again into a new environment, with hashes",
        )
    if len(changed) > 5:
        yield wrong(
            "versions.files",
            f"and {plural(len(changed) - 5, 'more file')} like that",
            cure="install again into a new environment, with hashes",
        )
    if not changed:
        yield ok("versions.files", f"{plural(count, 'file')} as installed")


def _is_as_recorded(path: Path, mode: str, value: str) -> bool:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, mode).digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == value


def _unfit(
    requirements: list[str], there: Mapping[str, str], *, missing: bool
) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and bounds of what is not as required; of what is missing, where asked."""
    for line in requirements:
        match = _REQUIREMENT.fullmatch(line)
        assert match is not None
        name, bounds = _name(line), match["bounds"].strip()
        version = there.get(name)
        if version is None:
            if missing:
                yield name, "is not installed", bounds
        elif not all(_holds(version, *bound) for bound in _BOUND.findall(bounds)):
            yield name, version, bounds


def _requirements() -> list[str] | None:
    try:
        found = metadata.requires("airgap")
    except metadata.PackageNotFoundError:
        return None
    return [line for line in found or [] if _extra(line) in (None, *_EXTRAS)]


def _name(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    return match["name"] if match else requirement


def _extra(requirement: str) -> str | None:
    match = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", requirement)
    return match[1] if match else None


def _parts(version: str) -> tuple[int, ...]:
    """Return a version's numbers; what follows them, as in 1.0rc1, is passed over."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = "".join(takewhile(str.isdigit, part))
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _holds(version: str, operator: str, bound: str) -> bool:
    length = max(len(_parts(version)), len(_parts(bound)))
    left, right = (p + (0,) * (length - len(p)) for p in (_parts(version), _parts(bound)))
    return {
        ">=": left >= right,
        "<=": left <= right,
        "<": left < right,
        ">": left > right,
        "==": left == right,
        "!=": left != right,
    }.get(operator, True)
