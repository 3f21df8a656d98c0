"""Records, their ids, and the totals that every hop must agree on."""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from airgap import jsontext, timestamps
from airgap.catalog import Catalog, JsonObject, Kind
from airgap.errors import DamagedError, InputRefusedError
from airgap.limits import MAX_INTEGER, MAX_STRING_LENGTH
from airgap.windows import Timeline

_MOST_LINES = 100
_ID_TAG = "airgap-record-v1"


@dataclass(frozen=True, slots=True)
class Record:
    """One request that a connected installation would have sent, without its credential.

    Args:
        kind: a kind of the endpoint catalogue.
        dialect: which of the kind's documented requests it was.
        credential: fingerprint of the credential that the request carried.
        occurrence: 0, or n for the n-th repetition of the same content in one file.
        payload: the request's body without its credential.
    """

    kind: str
    dialect: str
    credential: str
    occurrence: int
    payload: JsonObject

    def as_map(self) -> JsonObject:
        """Return the record as it stands in a bundle (``schemas/record.schema.json``)."""
        return {
            "kind": self.kind,
            "dialect": self.dialect,
            "credential": self.credential,
            "occurrence": self.occurrence,
            "payload": self.payload,
        }

    @classmethod
    def from_map(cls, value: Mapping[str, Any]) -> "Record":
        """Return the record of a map that passed ``record.schema.json``."""
        return cls(
            value["kind"],
            value["dialect"],
            value["credential"],
            value["occurrence"],
            value["payload"],
        )

    def repeated(self, occurrence: int) -> "Record":
        """Return the same content as the ``occurrence``-th repetition."""
        return replace(self, occurrence=occurrence)


def record_id(source: str, record: Record, kind: Kind) -> bytes:
    """Return the record's id: 16 bytes that follow from its content alone.

    The first half of SHA-256 over a canonical JSON array (``schemas/README.md``, section
    Record ids), so that collecting the same record again finds it, wherever it is found.

    Raises:
        airgap.jsontext.NotExactError: the payload holds a float.
    """
    if kind.identity is not None:
        named: list[object] = [
            _ID_TAG,
            source,
            record.kind,
            str(record.payload[kind.identity]).lower(),
        ]
    else:
        named = [
            _ID_TAG,
            source,
            record.kind,
            record.dialect,
            record.credential,
            record.occurrence,
            record.payload,
        ]
    return sha256(jsontext.canonical(named)).digest()[:16]


class RecordIds:
    """The ids of one source's records with occurrence 0, where the canonical payload is at hand.

    The same as ``record_id``: an array's canonical form is that of its elements, one after another.

    Args:
        source: the source's name.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._contents: dict[tuple[str, str, str], bytes] = {}
        self._identities: dict[str, bytes] = {}

    def of_content(self, kind: Kind, dialect: str, credential: str, payload: bytes) -> bytes:
        """Return the id of a record without an identity.

        Args:
            kind: its kind.
            dialect: its dialect.
            credential: fingerprint of its credential.
            payload: its payload's canonical JSON.
        """
        start = self._contents.get((kind.name, dialect, credential))
        if start is None:
            around = [_ID_TAG, self._source, kind.name, dialect, credential, 0]
            start = jsontext.canonical(around)[:-1] + b","
            self._contents[kind.name, dialect, credential] = start
        return sha256(start + payload + b"]").digest()[:16]

    def of_identity(self, kind: Kind, identity: str) -> bytes:
        """Return the id of a record of a kind whose records have identities."""
        start = self._identities.get(kind.name)
        if start is None:
            start = jsontext.canonical([_ID_TAG, self._source, kind.name])[:-1] + b","
            self._identities[kind.name] = start
        return sha256(start + jsontext.canonical(identity.lower()) + b"]").digest()[:16]


def lasting_digest(record: Record, kind: Kind) -> bytes:
    """Return a digest of what may not change between two sightings of one identity; see ``lasting_of``."""
    return lasting_of(kind, record.dialect, record.credential, record.payload)


def lasting_of(
    kind: Kind,
    dialect: str,
    credential: str,
    payload: JsonObject,
    text_of: Callable[[object], bytes] = jsontext.canonical,
) -> bytes:
    """Return a digest of what may not change between two sightings of one identity.

    16 bytes over dialect, credential, and the payload without the kind's volatile fields.

    Args:
        kind: the record's kind.
        dialect: its dialect.
        credential: fingerprint of its credential.
        payload: its payload.
        text_of: returns canonical JSON.
    """
    lasting = {k: v for k, v in payload.items() if k not in kind.volatile}
    text = text_of([dialect, credential, lasting])
    return sha256(text).digest()[:16]


def counted_digest(
    payload: JsonObject,
    kind: Kind,
    text_of: Callable[[object], bytes] = jsontext.canonical,
) -> bytes:
    """Return a digest of what a record counts, and for which time; 16 bytes.

    A source's row may change in everything else: a project that is deleted is taken out of it, and whose
    credential it is counted under is the site's to say.
    """
    names = (*kind.sum_fields, *kind.sum_maps, *(kind.period or ()))
    text = text_of([kind.name, {name: payload[name] for name in names}])
    return sha256(text).digest()[:16]


def check_record(record: Record, catalog: Catalog, *, where: str) -> Kind:
    """Check a record that passed ``record.schema.json`` against its kind.

    Dialect, type of credential, the payload's schema, the form of a raw body, usable times.

    Args:
        record: the record.
        catalog: schemas and kinds.
        where: file and line or position, for the message.

    Returns:
        The record's kind.

    Raises:
        InputRefusedError: naming path, expected and found.
    """
    kind = catalog.kind(record.kind, where=where)
    dialect = kind.dialects.get(record.dialect)
    if dialect is None:
        raise InputRefusedError(
            f"unknown dialect of {kind.name}", where=where, expected=", ".join(kind.dialects)
        )
    if record.credential.partition(":")[0] != dialect.credential.type:
        raise InputRefusedError(
            f"{kind.name} in the dialect {dialect.name} needs another type of credential",
            where=where,
            expected=dialect.credential.type,
            found=record.credential.partition(":")[0],
        )
    catalog.require(f"kinds/{kind.name}", record.payload, where=where)
    if kind.identity is not None and record.occurrence:
        raise InputRefusedError(
            f"{kind.name} has an identity of its own, so its occurrence is 0",
            where=where,
            expected="0",
            found=str(record.occurrence),
        )
    body = record.payload.get("body")
    if isinstance(body, str) and len(body.encode()) > MAX_STRING_LENGTH:
        raise InputRefusedError(
            "a body is too large",
            where=where,
            expected=f"at most {MAX_STRING_LENGTH} bytes",
            found=str(len(body.encode())),
        )
    if kind.body == "raw":
        _check_raw(record.payload, where=where)
    window(kind, record.payload, where=where)
    return kind


def _check_raw(payload: Mapping[str, Any], *, where: str) -> None:
    """Hold a raw body to its one form, so that the same body has the same record id."""
    plain = (
        payload["content_type"] == "application/json" and payload["content_encoding"] == "identity"
    )
    try:
        data = payload["body"].encode()
        if payload["encoding"] == "base64":
            good = not plain and base64.b64encode(base64.b64decode(data, validate=True)) == data
        else:
            good = plain
    except ValueError:
        good = False
    if not good:
        raise InputRefusedError(
            "an OTLP body is not in its one form",
            where=where,
            expected="utf-8 for uncompressed JSON, else padded base64",
            found=f"{payload['content_type']}, {payload['content_encoding']}, {payload['encoding']}",
        )


@dataclass(slots=True)
class KindTotal:
    """Records of one kind and the exact sum of each of its measures."""

    records: int = 0
    sums: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Totals:
    """Totals per kind. Equal totals on both sides of a hop are promise 4 of the design."""

    kinds: dict[str, KindTotal] = field(default_factory=dict)

    def add(self, kind: Kind, payload: Mapping[str, Any]) -> None:
        """Count one record whose payload passed its schema."""
        total = self.kinds.get(kind.name)
        if total is None:
            total = self.kinds[kind.name] = KindTotal()
        total.records += 1
        sums = total.sums
        for name in kind.sum_fields:
            sums[name] = sums.get(name, 0) + payload[name]
        for mapping in kind.sum_maps:
            for name, value in payload[mapping].items():
                sums[name] = sums.get(name, 0) + value

    def add_all(self, kind: Kind, payloads: Iterable[Mapping[str, Any]]) -> list[bool]:
        """Count several records of a kind whose payloads passed its schema.

        Returns:
            Of each whether it counts anything; no count is negative.
        """
        total = self.kinds.get(kind.name)
        if total is None:
            total = self.kinds[kind.name] = KindTotal()
        used: list[bool] = []
        sums, fields, maps = total.sums, kind.sum_fields, kind.sum_maps
        for payload in payloads:
            anything = 0
            for name in fields:
                value = payload[name]
                anything |= value
                sums[name] = sums.get(name, 0) + value
            for mapping in maps:
                for name, value in payload[mapping].items():
                    if value:
                        anything = 1
                        sums[name] = sums.get(name, 0) + value
                    elif name not in sums:
                        sums[name] = 0
            used.append(anything > 0)
        total.records += len(used)
        return used

    def would_overflow(self, kind: Kind, payload: Mapping[str, Any]) -> bool:
        """Tell whether counting a record would carry a sum beyond the largest integer."""
        total = self.kinds.get(kind.name)
        if total is None:
            return False
        values = [(n, payload[n]) for n in kind.sum_fields]
        for mapping in kind.sum_maps:
            values.extend(payload[mapping].items())
        return any(total.sums.get(name, 0) + value > MAX_INTEGER for name, value in values)

    @property
    def records(self) -> int:
        """Records of all kinds."""
        return sum(total.records for total in self.kinds.values())

    def as_map(self) -> JsonObject:
        """Return the totals as a manifest holds them: kinds and measures sorted by name."""
        return {
            name: {"records": total.records, "sums": dict(sorted(total.sums.items()))}
            for name, total in sorted(self.kinds.items())
        }

    @classmethod
    def from_map(cls, value: Mapping[str, Any]) -> "Totals":
        """Return the totals of a manifest that passed its schema."""
        return cls({k: KindTotal(v["records"], dict(v["sums"])) for k, v in value.items()})

    def merge(self, other: "Totals") -> None:
        """Add another hop's totals to these."""
        for name, total in other.kinds.items():
            mine = self.kinds.setdefault(name, KindTotal())
            mine.records += total.records
            for measure, value in total.sums.items():
                mine.sums[measure] = mine.sums.get(measure, 0) + value

    def differences(self, other: "Totals") -> list[str]:
        """Return one line per number in which ``other`` differs, empty where they are equal."""
        lines: list[str] = []
        for name in sorted(self.kinds.keys() | other.kinds.keys()):
            if (name in self.kinds) != (name in other.kinds):
                lines.append(f"{name}: only on one side")
            mine, theirs = self.kinds.get(name, KindTotal()), other.kinds.get(name, KindTotal())
            if mine.records != theirs.records:
                lines.append(f"{name}: {mine.records} records against {theirs.records}")
            lines.extend(
                f"{name}/{measure}: {mine.sums.get(measure, 'none')}"
                f" against {theirs.sums.get(measure, 'none')}"
                for measure in sorted(mine.sums.keys() | theirs.sums.keys())
                if mine.sums.get(measure) != theirs.sums.get(measure)
            )
        return lines

    def require_equal(self, other: "Totals", *, here: str, there: str) -> None:
        """Check that two hops agree.

        Args:
            other: the other hop's totals.
            here: name of this hop, for the message.
            there: name of the other.

        Raises:
            DamagedError: naming the numbers that differ, at most 100 of them.
        """
        lines = self.differences(other)
        if lines:
            rest = len(lines) - _MOST_LINES
            more = [f"and {rest:,} more"] if rest > 0 else []
            raise DamagedError(
                f"totals part between {here} and {there}",
                expected=f"equal totals in {here} and {there}",
                found=lines[0],
                details=[*lines[1:_MOST_LINES], *more],
                hint="nothing was taken over; keep the file and report this, it should not happen",
            )


def window(
    kind: Kind, payload: Mapping[str, Any], *, where: str
) -> tuple[datetime, datetime] | None:
    """Return when a record's window starts and ends, as it says, or None for kinds without one.

    Raises:
        InputRefusedError: a time lies outside the years 1 to 9999.
    """
    if kind.period is None:
        return None
    try:
        start, end = (timestamps.parse(payload[name]) for name in kind.period)
    except ValueError as error:
        raise InputRefusedError(f"a time is not usable: {error}", where=where) from None
    return start, end


def note_window(
    timeline: Timeline, record: Record, kind: Kind, *, where: str
) -> tuple[datetime, datetime] | None:
    """Add a record's window to a timeline, and return it.

    Raises:
        InputRefusedError: a time lies outside the years 1 to 9999.
    """
    payload = record.payload
    times = window(kind, payload, where=where)
    if times is not None:
        used = any(payload[name] > 0 for name in kind.sum_fields) or any(
            value > 0 for mapping in kind.sum_maps for value in payload[mapping].values()
        )
        alone = kind.identity is None
        timeline.add(record.kind, record.credential, *times, used=used, alone=alone)
    return times


@dataclass(slots=True)
class Period:
    """Earliest start and latest end of the windows seen, in UTC."""

    start: datetime | None = None
    end: datetime | None = None

    def add(self, start: datetime, end: datetime) -> None:
        """Widen the period by one record's window.

        A window that ends before it starts (a clock was set back) still counts with both ends:
        what a connected installation would have sent is not ours to correct.
        """
        first, last = (start, end) if start <= end else (end, start)
        self.start = first if self.start is None or first < self.start else self.start
        self.end = last if self.end is None or last > self.end else self.end

    def as_map(self) -> JsonObject | None:
        """Return the period as a manifest holds it."""
        if self.start is None or self.end is None:
            return None
        return {
            "from": timestamps.to_text(self.start, precise=True),
            "to": timestamps.to_text(self.end, precise=True),
        }
