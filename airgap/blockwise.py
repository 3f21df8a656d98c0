"""Records checked many at a time: what passes here passes one at a time too, and costs less.

What does not pass is no refusal yet: ``airgap.verify`` then looks at one record at a time, which has
the last word and finds the words.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from airgap.catalog import Catalog, JsonObject, Kind
from airgap.contents import Contents, Group
from airgap.coverage import Window
from airgap.records import Record
from airgap.windows import FIRST, LAST

_Parts = tuple[Any, Any, Any, Any, Any]
_FIELDS = ("kind", "dialect", "credential", "occurrence", "payload")
_PARTS = itemgetter(*_FIELDS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Blockwise:
    """Checks and counts the records of one bundle.

    Args:
        catalog: schemas and kinds.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._with_unknown: set[str] = set()

    def add(self, elements: list[Any], contents: Contents) -> bool:
        """Count records if every one passes every check, and none otherwise.

        Args:
            elements: decoded, and without a float that is a whole number of up to 64 bits.
            contents: where they are counted.

        Returns:
            Whether they were counted. If not, one at a time has to decide.
        """
        groups: list[Group] = []
        for name, parts in _by_kind(elements).items():
            group = self._checked(name, parts)
            if group is None:
                return False
            groups.append(group)
        if not groups or not contents.has_room_for(groups):
            return False
        for group in groups:
            contents.add_group(group)
        return True

    def _checked(self, name: object, parts: list[_Parts]) -> Group | None:
        kind = self._catalog.kinds.get(name) if isinstance(name, str) else None
        # A raw body has a form of its own, which no schema can tell.
        if kind is None or kind.body == "raw":
            return None
        _, dialects, credentials, occurrences, columns = zip(*parts, strict=True)
        payloads: list[JsonObject] = list(columns)
        if not self._pass(kind, dialects, credentials, occurrences):
            return None
        if not self._payloads_pass(kind, payloads):
            return None
        windows = _windows(kind, payloads)
        if windows is None:
            return None
        sums, used = _counted(kind, payloads)
        allowed = frozenset(
            f"{name}/{unknown}"
            for payload in (payloads if kind.name in self._with_unknown else ())
            for unknown in kind.unknown_names(payload)
        )
        return Group(kind, len(payloads), sums, credentials, allowed, windows, used)

    def _pass(self, kind: Kind, *columns: Sequence[Any]) -> bool:
        """Tell whether records may be of a kind by all that they say beside the payload.

        They say much the same, so only what is different is looked at. (True would be the same as 1.)
        """
        if set(map(type, columns[-1])) != {int}:
            return False
        try:
            different = set(zip(*columns, strict=True))
        except TypeError:
            return False
        return all(self._fits(kind, *said) for said in different)

    def _fits(self, kind: Kind, dialect: Any, credential: Any, occurrence: Any) -> bool:
        record = Record(kind.name, dialect, credential, occurrence, {})
        found = (
            kind.dialects.get(dialect)
            if self._catalog.is_valid("record", record.as_map())
            else None
        )
        return (
            found is not None
            and credential.partition(":")[0] == found.credential.type
            and (kind.identity is None or occurrence == 0)
        )

    def _payloads_pass(self, kind: Kind, payloads: list[JsonObject]) -> bool:
        # Only known names, in nearly every bundle, and then there is less to check and nothing to list.
        if kind.name not in self._with_unknown:
            if self._catalog.payloads_pass(kind, payloads, known_names=True):
                return True
            self._with_unknown.add(kind.name)
        return self._catalog.payloads_pass(kind, payloads, known_names=False)


def _by_kind(elements: list[Any]) -> dict[object, list[_Parts]]:
    """Return what records of each kind consist of, in order; empty where something is no record."""
    groups: dict[object, list[_Parts]] = {}
    try:
        parts: list[_Parts] = list(map(_PARTS, elements))
        if set(map(len, elements)) != {len(_FIELDS)}:
            return {}
        names = {part[0] for part in parts}
        if len(names) == 1:
            return dict.fromkeys(names, parts)
        for part in parts:
            groups.setdefault(part[0], []).append(part)
    except (IndexError, KeyError, TypeError):
        return {}
    return groups


def _windows(kind: Kind, payloads: list[JsonObject]) -> list[Window] | None:
    """Return each record's window as ``records.window`` does, or None where a time is not usable."""
    if kind.period is None:
        return []
    sides = [[payload[name] for payload in payloads] for name in kind.period]
    read = datetime.fromisoformat
    # Often the end of one is the start of another, or all of an hour have the same.
    moments = {text: (read(text) - _EPOCH) // _MICROSECOND for text in {*sides[0], *sides[1]}}
    if min(moments.values()) < FIRST or max(moments.values()) > LAST:
        return None
    return [(moments[start], moments[end]) for start, end in zip(*sides, strict=True)]


def _counted(kind: Kind, payloads: list[JsonObject]) -> tuple[dict[str, int], Sequence[bool]]:
    """Return the sums of all measures, and of each record whether it counts anything."""
    columns: list[tuple[str, list[int]]] = [
        (name, list(map(itemgetter(name), payloads))) for name in kind.sum_fields
    ]
    for mapping in kind.sum_maps:
        maps: list[dict[str, int]] = list(map(itemgetter(mapping), payloads))
        columns.extend(_columns(maps))
    sums: dict[str, int] = {}
    for name, values in columns:
        sums[name] = sums.get(name, 0) + sum(values)
    if any(all(values) for _, values in columns):
        return sums, [True] * len(payloads)
    used = [
        any(payload[name] for name in kind.sum_fields)
        or any(any(payload[mapping].values()) for mapping in kind.sum_maps)
        for payload in payloads
    ]
    return sums, used


def _columns(maps: list[dict[str, int]]) -> list[tuple[str, list[int]]]:
    """Return the values of each name; of a name that is not everywhere, 0 stands for none."""
    names = list(maps[0])
    if sum(map(len, maps)) == len(names) * len(maps):
        try:
            return [(name, list(map(itemgetter(name), maps))) for name in names]
        except KeyError:
            pass
    names = list(dict.fromkeys(name for found in maps for name in found))
    return [(name, [found.get(name, 0) for found in maps]) for name in names]
