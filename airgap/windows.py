"""Which time the records account for: sets of windows, exact to the microsecond.

A window is a pair of integers, microseconds since 1970-01-01T00:00:00Z, from the first to before
the second.
"""

import json
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise

Window = tuple[int, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

SEAM = 60 * 1_000_000
"""Holes up to a minute between two windows are how their ends were rounded, not gaps."""
_RUN = 1024


def micros(moment: datetime) -> int:
    """Return an aware datetime in microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


_FIRST = micros(datetime.min.replace(tzinfo=UTC))
_LAST = micros(datetime.max.replace(tzinfo=UTC))
_MOST_MOMENTS = 16_384


def instant(value: int) -> datetime:
    """Return the aware datetime of microseconds since 1970."""
    return _EPOCH + value * _MICROSECOND


def short(value: int) -> str:
    """Return a time for people: the date, with hour and minute where it is not midnight."""
    moment = instant(value)
    text = moment.strftime("%Y-%m-%d").rjust(10, "0")
    return text if moment.time().isoformat() == "00:00:00" else f"{text} {moment:%H:%M}"


class Moments:
    """Times in microseconds since 1970, of text that passed the schemas' ``date-time``.

    Records of one time come together, so most texts were read a moment before.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, text: str) -> int:
        """Return a time; digits below a microsecond are cut off.

        Raises:
            ValueError: it lies outside the years 1 to 9999 in UTC.
        """
        found = self._known.get(text)
        if found is None:
            found = micros(datetime.fromisoformat(text))
            if not _FIRST <= found <= _LAST:
                raise ValueError("outside the years 1 to 9999")
            if len(self._known) >= _MOST_MOMENTS:
                self._known.clear()
            self._known[text] = found
        return found


class Coverage:
    """A set of times as disjoint windows, ascending; 16 bytes per window.

    They are kept in runs of at most ``_RUN`` windows, so that a window is put between others in the
    time that one run takes, in whatever order they come.

    Args:
        windows: what it holds at first, in any order.
    """

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        self._starts: list[array[int]] = [array("q")]
        self._ends: list[array[int]] = [array("q")]
        self._last: list[int] = []
        """The end of each run but the last one."""
        for start, end in windows:
            self.add(start, end)

    def add(self, start: int, end: int) -> bool:
        """Add a window; an empty one or one that ends before it starts adds nothing.

        Returns:
            Whether some of it was covered before.
        """
        if end <= start:
            return False
        starts, ends = self._starts[-1], self._ends[-1]
        if ends and start >= starts[-1]:
            # Most come in order.
            latest = ends[-1]
            if start <= latest:
                if end > latest:
                    ends[-1] = end
                return start < latest
        run = bisect_left(self._last, start)
        starts, ends = self._starts[run], self._ends[run]
        # Windows that touch or overlap the new one.
        first, last = bisect_left(ends, start), bisect_right(starts, end)
        if last == len(starts) and run < len(self._last):
            self._join_next(run, end)
            last = bisect_right(starts, end)
        if first >= last:
            starts.insert(first, start)
            ends.insert(first, end)
            covered = False
        elif last - first == 1:
            covered = ends[first] != start and starts[first] != end
            starts[first], ends[first] = min(start, starts[first]), max(end, ends[first])
        else:
            touching = (ends[first] == start) + (starts[last - 1] == end)
            covered = last - first > touching
            starts[first:last] = array("q", [min(start, starts[first])])
            ends[first:last] = array("q", [max(end, ends[last - 1])])
        if run < len(self._last):
            self._last[run] = ends[-1]
        if len(starts) > _RUN:
            self._split(run)
        return covered

    def _join_next(self, run: int, end: int) -> None:
        """Put the runs that a window reaches into behind those before them."""
        while run < len(self._last) and self._starts[run + 1][0] <= end:
            self._starts[run].extend(self._starts.pop(run + 1))
            self._ends[run].extend(self._ends.pop(run + 1))
            del self._last[run]

    def _split(self, run: int) -> None:
        """Put the second half of each too long run into one of its own."""
        starts, ends = self._starts[run], self._ends[run]
        parts = [slice(at, at + _RUN // 2) for at in range(0, len(starts) or 1, _RUN // 2)]
        self._starts[run : run + 1] = [starts[part] for part in parts]
        self._ends[run : run + 1] = [ends[part] for part in parts]
        self._last = [found[-1] for found in self._ends[:-1]]

    def to_bytes(self) -> bytes:
        """Return starts and then ends as 64-bit integers, little-endian."""
        both = array("q")
        for part in (*self._starts, *self._ends):
            both.extend(part)
        if sys.byteorder == "big":
            both.byteswap()
        return both.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Coverage":
        """Return what ``to_bytes`` made."""
        both, made = array("q", data), cls()
        if sys.byteorder == "big":
            both.byteswap()
        made._starts, made._ends = [both[: len(both) // 2]], [both[len(both) // 2 :]]
        made._split(0)
        return made

    def joined(self, tolerance: int = 0) -> list[Window]:
        """Return the windows, joined where at most ``tolerance`` microseconds lie between."""
        found: list[Window] = []
        each = zip(chain(*self._starts), chain(*self._ends), strict=True)
        for start, end in each:
            if found and start - found[-1][1] <= tolerance:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
        return found

    def meets(self, start: int, end: int) -> bool:
        """Tell whether some of a window is covered."""
        run = bisect_right(self._last, start)
        starts = self._starts[run]
        first = bisect_right(self._ends[run], start)
        return start < end and first < len(starts) and starts[first] < end


def gaps(windows: list[Window]) -> list[Window]:
    """Return what lies between windows that are ascending and disjoint."""
    return [(before[1], after[0]) for before, after in pairwise(windows)]


Covered = dict[str, list[Window]]
"""Per kind, the windows of its records."""


def to_json(covered: Covered) -> str:
    """Return windows per kind as a database keeps them."""
    return json.dumps(covered, separators=(",", ":"))


def from_json(text: str) -> Covered:
    """Return windows per kind from what ``to_json`` made."""
    return {kind: [(a, b) for a, b in found] for kind, found in json.loads(text).items()}


@dataclass(slots=True)
class Timeline:
    """The windows of records as they come by, and what is odd about them.

    Args:
        overlapping: per kind, records whose window is partly covered by others of the same
            credential.
        backwards: records whose window ends before it starts.
        newest: the latest end, or None.
    """

    overlapping: dict[str, int] = field(default_factory=dict)
    backwards: int = 0
    newest: int | None = None
    _by_credential: dict[tuple[str, str], Coverage] = field(default_factory=dict)
    _used: dict[str, Coverage] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        credential: str,
        start: datetime,
        end: datetime,
        *,
        used: bool,
        alone: bool = True,
    ) -> None:
        """Add a record's window.

        Args:
            kind: the record's kind.
            credential: fingerprint of its credential.
            start: when the window starts.
            end: when it ends; before ``start`` where a clock was set back.
            used: whether it counts anything.
            alone: whether a time that others cover already is odd; it is not where records have
                identities, and many account for the same time.
        """
        self.note(kind, credential, (micros(start), micros(end)), used=used, alone=alone)

    def note(
        self, kind: str, credential: str, window: Window, *, used: bool, alone: bool = True
    ) -> None:
        """Add a record's window in microseconds since 1970; see ``add``."""
        first, last = window
        lowest, highest = (first, last) if first <= last else (last, first)
        if self.newest is None or highest > self.newest:
            self.newest = highest
        if used:
            # A window without length, or one that goes backwards, still says that something was.
            counted = self._used.get(kind)
            if counted is None:
                counted = self._used[kind] = Coverage()
            counted.add(lowest, highest if highest > lowest else lowest + 1)
        if last < first:
            self.backwards += 1
            return
        coverage = self._by_credential.get((kind, credential))
        if coverage is None:
            coverage = self._by_credential[kind, credential] = Coverage()
        if coverage.add(first, last) and alone:
            self.overlapping[kind] = self.overlapping.get(kind, 0) + 1

    def note_all(
        self,
        kind: str,
        windows: Iterable[tuple[str, Window, bool]],
        *,
        alone: bool,
    ) -> None:
        """Add the windows of several records of a kind: credential, window, whether it counts anything."""
        previous: tuple[str, Window, bool] | None = None
        for one in windows:
            if one == previous:
                # All of it is covered, and counted as used where it is.
                first, last = one[1]
                if last < first:
                    self.backwards += 1
                elif last > first and alone:
                    self.overlapping[kind] = self.overlapping.get(kind, 0) + 1
                continue
            credential, window, used = previous = one
            self.note(kind, credential, window, used=used, alone=alone)

    def known(self) -> list[tuple[str, str, bytes]]:
        """Return kind, credential and windows, as a database keeps them for ``knowing``."""
        return [(*key, c.to_bytes()) for key, c in self._by_credential.items()]

    @classmethod
    def knowing(cls, rows: Iterable[tuple[str, str, bytes]]) -> "Timeline":
        """Return a timeline in which records that came before are covered already."""
        made = cls()
        for kind, credential, data in rows:
            made._by_credential[kind, credential] = Coverage.from_bytes(data)
        return made

    def covered(self) -> Covered:
        """Return the windows of each kind, whatever the credential, joined over seams."""
        merged: dict[str, Coverage] = {}
        for (kind, _), coverage in sorted(self._by_credential.items()):
            into = merged.setdefault(kind, Coverage())
            for start, end in coverage.joined():
                into.add(start, end)
        return {kind: coverage.joined(SEAM) for kind, coverage in merged.items()}

    def used(self) -> Covered:
        """Return the windows of each kind in which something was counted."""
        return {kind: coverage.joined(SEAM) for kind, coverage in sorted(self._used.items())}


def merge(parts: Iterable[Mapping[str, list[Window]]]) -> dict[str, Coverage]:
    """Return what several bundles cover together, per kind."""
    merged: dict[str, Coverage] = {}
    for part in parts:
        for kind, found in part.items():
            into = merged.setdefault(kind, Coverage())
            for start, end in found:
                into.add(start, end)
    return merged


@dataclass(frozen=True, slots=True)
class KindCoverage:
    """What the records of a kind cover.

    Args:
        kind: the kind; ``no usage`` for declarations of a source that reported nothing else.
        start: earliest time covered, in microseconds since 1970.
        end: latest time covered.
        gaps: what is not covered in between, ascending.
    """

    kind: str
    start: int
    end: int
    gaps: list[Window]

    def text(self) -> str:
        """Return it for people."""
        said = [f"{self.kind} covered {short(self.start)} .. {short(self.end)}"]
        said += [f"gap {short(start)} .. {short(end)}" for start, end in self.gaps[:10]]
        if len(self.gaps) > 10:
            said.append(f"{len(self.gaps) - 10} more gaps")
        return ", ".join(said)

    def as_json(self) -> dict[str, object]:
        """Return it as ``--json`` prints it."""
        return {
            "kind": self.kind,
            **_span((self.start, self.end)),
            "gaps": [_span(gap) for gap in self.gaps],
        }


@dataclass(frozen=True, slots=True)
class Declaration:
    """A time declared to be without usage.

    Args:
        start: from when, in microseconds since 1970.
        end: to before when.
        kinds: the kinds it is about, or None for all.
    """

    start: int
    end: int
    kinds: frozenset[str] | None

    def until(self, end: int) -> "Declaration":
        """Return it without what lies at or after ``end``."""
        return replace(self, end=min(self.end, end))

    def is_about(self, kind: str) -> bool:
        """Tell whether it is about a kind."""
        return self.kinds is None or kind in self.kinds


def contradicted(used: Mapping[str, Coverage], declarations: Iterable[Declaration]) -> list[str]:
    """Return the kinds with usage in a time declared to be without."""
    told = list(declarations)
    return [
        kind
        for kind, coverage in sorted(used.items())
        if any(d.is_about(kind) and coverage.meets(d.start, d.end) for d in told)
    ]


def survey(
    parts: Iterable[Mapping[str, list[Window]]],
    declarations: Iterable[Declaration],
    tolerance: int,
    *,
    regular: frozenset[str],
    unknown: Coverage | None = None,
) -> list[KindCoverage]:
    """Return per kind what several bundles cover together.

    A kind that is reported at all times is judged by itself. Another one has nothing to report
    where nothing was used, so that only a time without any report is a gap in it.

    Args:
        parts: windows per kind, of each bundle.
        declarations: times declared to be without usage, which cover the kinds they are about.
        tolerance: longest time without a record that is no gap, in microseconds.
        regular: the kinds that are reported at all times.
        unknown: time for which others hold the reports, and which is no gap therefore.
    """
    told = [d for d in declarations if d.start < d.end]
    merged = merge(parts)
    named = set().union(*(d.kinds for d in told if d.kinds is not None))
    for kind in named or ([] if merged or not told else ["no usage"]):
        merged.setdefault(kind, Coverage())
    unheld = unknown.joined() if unknown else []
    everything = [(d.start, d.end) for d in told if d.kinds is None]
    anything = [*unheld, *everything, *(window for c in merged.values() for window in c.joined())]
    found: list[KindCoverage] = []
    for kind, coverage in sorted(merged.items()):
        own = [*coverage.joined(), *((d.start, d.end) for d in told if d.is_about(kind))]
        if not own:
            continue
        start, end = min(first for first, _ in own), max(last for _, last in own)
        held = Coverage([*own, *(unheld if kind in regular else anything)])
        holes = [g for g in gaps(held.joined(tolerance)) if g[0] >= start and g[1] <= end]
        found.append(KindCoverage(kind, start, end, holes))
    return found


def clipped(covered: Mapping[str, list[Window]], end: int) -> Covered:
    """Return windows without what lies at or after ``end``."""
    found = {
        kind: [(a, min(b, end)) for a, b in windows if a < end] for kind, windows in covered.items()
    }
    return {kind: windows for kind, windows in found.items() if windows}


def _span(window: Window) -> dict[str, str]:
    start, end = (instant(value).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0") for value in window)
    return {"from": start, "to": end}
