"""Pseudonyms: what takes the place of a name that the site does not let leave as it is.

Equal values have equal pseudonyms, whatever field and kind they stand in, so joins and totals hold.
A pseudonym is the first half of HMAC-SHA256 (RFC 2104) over ``airgap pseudonym v1``, a zero byte
and the value in UTF-8; in place of a UUID it is written as a UUID of version 8 (RFC 9562,
section 5.8), else as ``p-`` and 32 hexadecimal digits. The key never leaves the home.
"""

import hmac
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from airgap.catalog import Catalog, JsonObject, Kind
from airgap.errors import UsageError
from airgap.files import write_atomically
from airgap.home import Home
from airgap.records import Record
from airgap.sightings import Sighting
from airgap.text import printable
from airgap.trust.keys import read_small

_KEY = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, repr=False)
class Pseudonyms:
    """Which names get pseudonyms, and the key. Its ``repr`` shows no key.

    Args:
        key: 32 bytes.
        names: per kind, paths of one or two parts: a field, or a map and a name in it.
    """

    key: bytes
    names: dict[str, frozenset[tuple[str, ...]]]

    def __repr__(self) -> str:
        return "Pseudonyms()"

    def applied(self, sighting: Sighting) -> Sighting:
        """Return a sighting with pseudonyms in the place of what must not leave."""
        record, done = sighting.record, []
        payload = record.payload
        for path in sorted(self.names.get(record.kind, ())):
            changed = self._changed(payload, path)
            if changed is not None:
                payload = changed
                done.append("/".join((record.kind, *path)))
        if not done:
            return sighting
        return replace(sighting, record=_with(record, payload), pseudonymised=tuple(done))

    def _changed(self, payload: JsonObject, path: tuple[str, ...]) -> JsonObject | None:
        name, *rest = path
        value = payload.get(name)
        if rest:
            inner = self._changed(value, tuple(rest)) if isinstance(value, dict) else None
            return None if inner is None else {**payload, name: inner}
        if not isinstance(value, str) or not value:
            return None
        return {**payload, name: self.of(value)}

    def of(self, value: str) -> str:
        """Return the pseudonym of a value."""
        uuid = _as_uuid(value)
        text = value if uuid is None else str(uuid)
        digest = hmac.digest(self.key, b"airgap pseudonym v1\0" + text.encode(), sha256)[:16]
        if uuid is None:
            return f"p-{digest.hex()}"
        number = int.from_bytes(digest)
        number = number & ~(0xF << 76) | 8 << 76
        return str(UUID(int=number & ~(0x3 << 62) | 2 << 62))


def of_home(names: Iterable[str], home: Home, catalog: Catalog) -> Pseudonyms | None:
    """Return the pseudonyms for names, with the home's key, or None without any.

    Raises:
        UsageError: see ``chosen`` and ``key_of``.
    """
    return chosen(names, catalog, lambda: key_of(home.path / "pseudonym.key", os.urandom))


def chosen(names: Iterable[str], catalog: Catalog, key: Callable[[], bytes]) -> Pseudonyms | None:
    """Return the pseudonyms for names that the operator gave, or None where there are none.

    Args:
        names: separated by commas: a field's name (``tenant_id``) in any kind, or ``kind/field``
            or ``kind/map/name``.
        catalog: schemas and kinds.
        key: returns the site's key; asked only where a name is given.

    Raises:
        UsageError: a name is nobody's, or what it names must leave as it is.
    """
    found: dict[str, set[tuple[str, ...]]] = {}
    wanted = [part.strip() for name in names for part in name.split(",") if part.strip()]
    for name in wanted:
        places = [
            (kind.name, path)
            for kind in catalog.kinds.values()
            for path in _places(kind, catalog)
            if name == path[-1] or name == "/".join((kind.name, *path))
        ]
        parts = tuple(name.split("/"))
        if not places and len(parts) == 3 and _is_open(catalog, parts):
            places = [(parts[0], parts[1:])]
        if not places:
            raise UsageError(
                f"{printable(name, 120)} is no name that can have a pseudonym",
                expected=", ".join(sorted(_known(catalog))),
                hint="name a field of text that is neither an id of its own nor a time, as "
                "kind/field or kind/map/name",
            )
        for kind_name, path in places:
            found.setdefault(kind_name, set()).add(path)
    if not found:
        return None
    return Pseudonyms(key(), {kind: frozenset(paths) for kind, paths in found.items()})


def key_of(path: Path, random: Callable[[int], bytes]) -> bytes:
    """Return the site's key for pseudonyms; made where there is none.

    Args:
        path: its file, mode 0600.
        random: returns so many random bytes.

    Raises:
        UsageError: the file holds something else, or others can read it.
    """
    if not path.exists():
        write_atomically(path, random(32).hex().encode() + b"\n", mode=0o600)
    text = read_small(path, "pseudonym key").strip()
    if path.stat().st_mode & 0o077:
        raise UsageError(
            "others can read the key for pseudonyms",
            where=str(path),
            expected="mode 0600",
            found=f"mode {path.stat().st_mode & 0o777:04o}",
            hint=f"chmod 600 {path}; if others may have seen it, so they may the values",
        )
    if not _KEY.fullmatch(text):
        raise UsageError(
            "the key for pseudonyms is not one",
            where=str(path),
            expected="64 hexadecimal digits",
            found="something else (not shown)",
            hint="put it back from a copy of the home; a new key makes new pseudonyms",
        )
    return bytes.fromhex(text.decode())


def _places(kind: Kind, catalog: Catalog) -> list[tuple[str, ...]]:
    """Return the paths of a kind's text that may have a pseudonym."""
    kept = {kind.identity, *(kind.period or ()), *kind.volatile}
    if kind.body == "raw":
        return []
    found: list[tuple[str, ...]] = []
    for name, schema in catalog.schema(f"kinds/{kind.name}")["properties"].items():
        if name in kept:
            continue
        if _is_text(schema) and "T(" not in schema.get("pattern", ""):
            found.append((name,))
        found.extend(
            (name, inner)
            for inner, entry in schema.get("properties", {}).items()
            if _is_text(entry)
        )
    return found


def _is_text(schema: Any) -> bool:
    kinds = schema.get("type")
    return kinds == "string" or (isinstance(kinds, list) and "string" in kinds)


def _is_open(catalog: Catalog, parts: tuple[str, ...]) -> bool:
    """Tell whether a map of text holds names beyond those that its schema lists."""
    kind = catalog.kinds.get(parts[0])
    if kind is None or parts[1] not in kind.open_maps:
        return False
    schema = catalog.schema(f"kinds/{kind.name}")["properties"][parts[1]]
    return _is_text(schema["additionalProperties"])


def _known(catalog: Catalog) -> set[str]:
    return {
        "/".join((kind.name, *path))
        for kind in catalog.kinds.values()
        for path in _places(kind, catalog)
        if "version" not in path[-1]
    }


def _as_uuid(value: str) -> UUID | None:
    if not re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", value):
        return None
    return UUID(value)


def _with(record: Record, payload: JsonObject) -> Record:
    return replace(record, payload=payload)
