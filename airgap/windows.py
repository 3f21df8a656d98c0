"""Which time the records account for: sets of windows, exact to the microsecond.

A window is a pair of integers, microseconds since 1970-01-01T00:00:00Z, from the first to before
the second.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from airgap.coverage import Coverage, Window, union

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

SEAM = 60 * 1_000_000
"""Holes up to a minute between two windows are how their ends were rounded, not gaps."""


def micros(moment: datetime) -> int:
    """Return an aware datetime in microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


FIRST = micros(datetime.min.replace(tzinfo=UTC))
LAST = micros(datetime.max.replace(tzinfo=UTC))
"""The first and the last moment that can be told: of the years 1 to 9999, in UTC."""
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
            if not FIRST <= found <= LAST:
                raise ValueError("outside the years 1 to 9999")
            if len(self._known) >= _MOST_MOMENTS:
                self._known.clear()
            self._known[text] = found
        return found


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
        self, kind: str, told: Iterable[tuple[str, Window, bool]], *, alone: bool = True
    ) -> None:
        """Add the windows of many records of one kind, as ``note`` adds each.

        Args:
            kind: their kind.
            told: of each record, in order: fingerprint of its credential, its window, and whether it
                counts anything.
            alone: see ``add``.
        """
        by_credential: dict[str, tuple[dict[Window, int], list[Window]]] = {}
        # Many are the same: all servers of a site report at the same times.
        for (credential, window, used), count in Counter(told).items():
            found = by_credential.setdefault(credential, ({}, []))
            found[0][window] = found[0].get(window, 0) + count
            if used:
                found[1].append(window)
        for credential, (every, some) in by_credential.items():
            self._note_all_of(kind, credential, every, some, alone=alone)

    def _note_all_of(
        self,
        kind: str,
        credential: str,
        found: Mapping[Window, int],
        used: Sequence[Window],
        *,
        alone: bool,
    ) -> None:
        newest = max(map(max, found))
        self.newest = newest if self.newest is None else max(newest, self.newest)
        if used:
            counted = self._used.setdefault(kind, Coverage())
            counted.add_all(
                union(w if w[1] > w[0] else (w[1], max(w[0], w[1] + 1)) for w in set(used))
            )
        backwards = [window for window in found if window[1] < window[0]]
        self.backwards += sum(found[window] for window in backwards)
        if len(backwards) == len(found):
            return
        coverage = self._by_credential.setdefault((kind, credential), Coverage())
        distinct = [window for window in found if window[1] > window[0]]
        runs = union(distinct)
        apart = sum(b - a for a, b in runs) == sum(b - a for a, b in distinct)
        if not alone or (apart and runs and not coverage.meets(runs[0][0], runs[-1][1])):
            # Each is as much covered before as after those that came with it, or nobody asks.
            coverage.add_all(runs)
            covered = 0
        else:
            covered = sum(coverage.add(*window) for window in distinct)
        covered += sum(found[window] - 1 for window in distinct)
        if covered and alone:
            self.overlapping[kind] = self.overlapping.get(kind, 0) + covered

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

    def to_list(self) -> list[Any]:
        """Return all that it holds as msgpack can have it, for ``of_list``."""
        used = [(kind, coverage.to_bytes()) for kind, coverage in self._used.items()]
        return [self.overlapping, self.backwards, self.newest, self.known(), used]

    @classmethod
    def of_list(cls, told: list[Any]) -> "Timeline":
        """Return what ``to_list`` told of."""
        overlapping, backwards, newest, known, used = told
        made = cls(overlapping, backwards, newest)
        made._by_credential.update(((a, b), Coverage.from_bytes(data)) for a, b, data in known)
        made._used.update((kind, Coverage.from_bytes(data)) for kind, data in used)
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
