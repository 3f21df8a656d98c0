"""What stored payloads count and say of their time, read without building the rest of them.

Payloads are as this program encoded them and kept them on its own disk, so no bounds are checked.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any

import msgpack

from airgap.catalog import JsonObject, Kind
from airgap.coverage import Window
from airgap.windows import Moments

_MOST_KEPT = 4096


Facts = tuple[JsonObject, Window | None, tuple[str, ...]]
"""What there is to know of a record for a manifest: the fields that are added up; of kinds with one, its
window, start and end as they are said, in microseconds since 1970; and the names in open maps that the
schema does not list, as ``Kind.unknown_names``."""


def counted(kind: Kind, payloads: Sequence[bytes]) -> Iterator[JsonObject]:
    """Yield of each payload of a kind the fields that are added up."""
    wanted = {*kind.sum_fields, *kind.sum_maps}
    reader, _ = _reader(payloads)
    for _ in payloads:
        found: JsonObject = {}
        for _ in range(reader.read_map_header()):
            name = reader.unpack()
            if name in wanted:
                found[name] = reader.unpack()
            else:
                reader.skip()
        yield found


class Digest:
    """What was put into the outbox, record after record, as a SHA-256.

    That the same bytes are there afterwards says more than that they come to the same totals, and is known
    for less.
    """

    def __init__(self) -> None:
        self._sha256 = sha256()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self._sha256.digest() == other._sha256.digest()

    __hash__ = None  # type: ignore[assignment]

    def add(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Add records: kind, in UTF-8, and payload of each."""
        self._sha256.update(b"".join(chain.from_iterable(records)))


class FactsReader:
    """Reads the facts of stored payloads; maps that are the same as before are not looked into again."""

    def __init__(self) -> None:
        self._moments = Moments()
        self._unknown: dict[tuple[str, str, bytes], tuple[str, ...]] = {}

    def read(self, kind: Kind, payloads: Sequence[bytes]) -> Iterator[Facts]:
        """Yield the facts of each payload of a kind.

        Raises:
            ValueError: a time lies outside the years 1 to 9999.
        """
        wanted = {*kind.sum_fields, *kind.sum_maps, *(kind.period or ())}
        reader, data = _reader(payloads)
        for _ in payloads:
            found: JsonObject = {}
            unknown: tuple[str, ...] = ()
            for _ in range(reader.read_map_header()):
                name = reader.unpack()
                if name in wanted:
                    value = found[name] = reader.unpack()
                    known = kind.open_maps.get(name)
                    if known is not None and not known.issuperset(value):
                        unknown += tuple(f"{name}/{one}" for one in value.keys() - known)
                elif name in kind.open_maps:
                    start = reader.tell()
                    reader.skip()
                    unknown += self._names(kind, name, data[start : reader.tell()])
                else:
                    reader.skip()
            window: Window | None = None
            if kind.period is not None:
                window = (
                    self._moments.of(found[kind.period[0]]),
                    self._moments.of(found[kind.period[1]]),
                )
            yield found, window, unknown

    def _names(self, kind: Kind, name: str, encoded: bytes) -> tuple[str, ...]:
        key = (kind.name, name, encoded)
        found = self._unknown.get(key)
        if found is None:
            value = msgpack.unpackb(encoded, raw=False)
            found = tuple(f"{name}/{one}" for one in value.keys() - kind.open_maps[name])
            if len(self._unknown) >= _MOST_KEPT:
                self._unknown.clear()
            self._unknown[key] = found
        return found


def _reader(payloads: Sequence[bytes]) -> tuple[Any, bytes]:
    """Return what reads payloads one after another, and all of them together."""
    data = b"".join(payloads)
    reader = msgpack.Unpacker(raw=False, max_buffer_size=len(data) or 1)
    reader.feed(data)
    return reader, data
