"""What a bundle's records add up to, counted one by one or many at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from airgap import windows
from airgap.catalog import Catalog, JsonObject, Kind
from airgap.coverage import Window
from airgap.errors import DamagedError
from airgap.records import KindTotal, Period, Record, Totals, note_window
from airgap.windows import Timeline

# The manifest's schema allows 1,024 credentials and names, and 4,096 measures of a kind, of which
# one record can add 128.
_MOST_NAMED = 1024
_MOST_SUMS = 4096
_MOST_MEASURES = _MOST_SUMS - 128

SIGNED_SO = "it was signed so, and no copy is better: ask the source; nothing of it was taken over"
"""The hint where a file contradicts itself."""


@dataclass(frozen=True, slots=True)
class Group:
    """Records of one kind that passed every check, and what they come to.

    Args:
        kind: their kind.
        records: how many they are.
        sums: of each of their measures.
        credentials: of each record, in order.
        allowed: ``kind/map/name`` of names that the schema does not list.
        windows: of each record, in microseconds since 1970; empty for kinds without one.
        used: of each record, whether it counts anything; as long as ``windows``.
    """

    kind: Kind
    records: int
    sums: dict[str, int]
    credentials: Sequence[str]
    allowed: frozenset[str]
    windows: Sequence[Window]
    used: Sequence[bool]


@dataclass(slots=True)
class Contents:
    """What a bundle's records add up to."""

    totals: Totals = field(default_factory=Totals)
    period: Period = field(default_factory=Period)
    timeline: Timeline = field(default_factory=Timeline)
    credentials: set[str] = field(default_factory=set)
    allowed: set[str] = field(default_factory=set)

    def add(self, record: Record, kind: Kind, *, where: str) -> None:
        """Count a record that passed its schemas."""
        self.totals.add(kind, record.payload)
        times = note_window(self.timeline, record, kind, where=where)
        if times is not None:
            self.period.add(*times)
        self.credentials.add(record.credential)
        self.allowed.update(f"{kind.name}/{name}" for name in kind.unknown_names(record.payload))

    def add_group(self, group: Group) -> None:
        """Count many records that passed their schemas, as ``add`` counts each."""
        name = group.kind.name
        total = self.totals.kinds.setdefault(name, KindTotal())
        total.records += group.records
        for measure, value in group.sums.items():
            total.sums[measure] = total.sums.get(measure, 0) + value
        self.credentials.update(group.credentials)
        self.allowed |= group.allowed
        if not group.windows:
            return
        alone = group.kind.identity is None
        told = zip(group.credentials, group.windows, group.used, strict=True)
        self.timeline.note_all(name, told, alone=alone)
        distinct = set(group.windows)
        first, last = min(map(min, distinct)), max(map(max, distinct))
        self.period.add(windows.instant(first), windows.instant(last))

    def is_full_for(self, record: Record, kind: Kind) -> bool:
        """Tell whether one more record would break a bound of the manifest's schema."""
        measures = self.totals.kinds[kind.name].sums if kind.name in self.totals.kinds else {}
        return (
            self.totals.would_overflow(kind, record.payload)
            or len(self.credentials | {record.credential}) > _MOST_NAMED
            or len(self.allowed) + len(kind.unknown_names(record.payload)) > _MOST_NAMED
            or len(measures) > _MOST_MEASURES
        )

    def has_room_for(self, groups: Sequence[Group]) -> bool:
        """Tell whether a manifest could still list all that records name, these among them."""
        credentials = self.credentials.union(*(group.credentials for group in groups))
        allowed = self.allowed.union(*(group.allowed for group in groups))
        kinds = self.totals.kinds
        return (
            len(credentials) <= _MOST_NAMED
            and len(allowed) <= _MOST_NAMED
            and all(
                len(kinds.get(g.kind.name, KindTotal()).sums.keys() | g.sums.keys()) <= _MOST_SUMS
                for g in groups
            )
        )

    def require_listable(self, *, kind: str, where: str) -> None:
        """Refuse records as soon as they name more than a manifest can: memory stays bounded.

        Raises:
            DamagedError: no manifest can be theirs.
        """
        for what, found, most in (
            ("credentials", self.credentials, _MOST_NAMED),
            ("names outside the known ones", self.allowed, _MOST_NAMED),
            ("measures of a kind", self.totals.kinds[kind].sums, _MOST_SUMS),
        ):
            if len(found) > most:
                raise DamagedError(
                    f"the records have more {what} than a manifest can list",
                    where=where,
                    expected=f"at most {most}",
                    found=str(len(found)),
                    hint=SIGNED_SO,
                )

    def to_list(self) -> list[Any]:
        """Return all that it holds as msgpack can have it, for ``of_list``."""
        period = [
            None if at is None else windows.micros(at)
            for at in (self.period.start, self.period.end)
        ]
        told = [self.totals.as_map(), period, self.timeline.to_list()]
        return [*told, sorted(self.credentials), sorted(self.allowed)]

    @classmethod
    def of_list(cls, told: list[Any]) -> "Contents":
        """Return what ``to_list`` told of."""
        totals, period, timeline, credentials, allowed = told
        ends = (None if at is None else windows.instant(at) for at in period)
        return cls(
            Totals.from_map(totals),
            Period(*ends),
            Timeline.of_list(timeline),
            set(credentials),
            set(allowed),
        )

    def as_map(self, catalog: Catalog) -> JsonObject:
        """Return the manifest's fields that follow from the records."""
        return {
            "totals": self.totals.as_map(),
            "period": self.period.as_map(),
            "schemas": {k: catalog.schema_digest(f"kinds/{k}") for k in sorted(self.totals.kinds)},
            "credentials": sorted(self.credentials),
            "allowed": sorted(self.allowed),
        }


Chunk = tuple[bytes, int, int]
"""SHA-256 of a chunk before it is sealed, bytes after decompression, and records."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What this program saw in chunks of which every record passed every check.

    Args:
        chunks: the chunks, in order.
        contents: what their records add up to.
    """

    chunks: Sequence[Chunk]
    contents: Contents
