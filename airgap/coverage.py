"""A set of times, exact to the microsecond."""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain

Window = tuple[int, int]
"""Microseconds since 1970-01-01T00:00:00Z, from the first to before the second."""

_RUN = 1024


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

    def add_all(self, found: Sequence[Window]) -> None:
        """Add windows that are ascending and do not touch each other."""
        if not found or (self._ends[-1] and found[0][0] <= self._ends[-1][-1]):
            for window in found:
                self.add(*window)
            return
        self._starts[-1].extend([start for start, _ in found])
        self._ends[-1].extend([end for _, end in found])
        if len(self._starts[-1]) > _RUN:
            self._split(len(self._starts) - 1)

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


def union(found: Iterable[Window]) -> list[Window]:
    """Return the times of windows that last, ascending and apart."""
    runs: list[Window] = []
    first, last = None, 0
    for start, end in sorted(found):
        if first is None:
            first, last = start, end
        elif start > last:
            runs.append((first, last))
            first, last = start, end
        elif end > last:
            last = end
    if first is not None:
        runs.append((first, last))
    return runs
