"""How many requests may be in flight: additive increase, multiplicative decrease.

TCP's congestion avoidance (RFC 5681, sections 3.1 and 3.2), with requests in place of segments. It
starts low, and doubles with each window until the first sign of trouble; from there on it grows by
one per window, and halves when the beacon is busy. A window is a round: requests that left before
the last change say nothing about it, so a burst of refusals halves once.

Answers that come later and later are a queue in the beacon: it holds then, or shrinks by one per
window, before anything has to be refused (as TCP Vegas does: Brakmo and Peterson, 1995).
"""

from collections.abc import Hashable
from dataclasses import dataclass

_START = 2
# Delays of less are the machine's own noise, whatever they are in proportion.
_NOISE = 0.02
_HOLDS, _SHRINKS = 2.0, 4.0
_SMOOTHING = 1 / 8  # of the way to what was measured, as in RFC 6298


@dataclass(slots=True)
class _Times:
    shortest: float
    smoothed: float

    def note(self, seconds: float, in_flight: int) -> None:
        self.smoothed += (seconds - self.smoothed) * _SMOOTHING
        if in_flight <= _START:
            # So few make no queue: where they take longer, the way became longer.
            self.shortest += max(0.0, seconds - self.shortest) * _SMOOTHING
        self.shortest = min(seconds, self.shortest)

    @property
    def stretch(self) -> float:
        """How many times the shortest time answers take now; 1 within what is noise."""
        if self.smoothed - self.shortest <= _NOISE:
            return 1.0
        return self.smoothed / self.shortest if self.shortest > 0 else _SHRINKS


class Throttle:
    """The limit of requests in flight. Pure: it knows no clock.

    Args:
        ceiling: what the limit never exceeds, 1 or more.
    """

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._limit = float(min(ceiling, _START))
        self._doubling = True
        self._changed_at = 0
        self._times: dict[Hashable, _Times] = {}
        self.busy = 0
        """How many answers said that the beacon is busy, or did not come."""

    @property
    def limit(self) -> int:
        """Most requests in flight now, 1 or more."""
        return int(self._limit)

    def answered(
        self,
        flight: int,
        seconds: float,
        alike: Hashable,
        *,
        in_flight: int,
        full: bool,
        departed: int,
    ) -> None:
        """Take in that a request was answered, whatever the answer says of its records.

        Args:
            flight: its number; each that leaves has one more than the one before.
            seconds: how long it took.
            alike: names requests that take equally long, so that they are held against each other.
            in_flight: how many were in flight when it had left, this one included.
            full: whether these were as many as might be; otherwise nothing is learned about more.
            departed: the number that the next one will have.
        """
        times = self._times.get(alike)
        if times is None:
            times = self._times[alike] = _Times(seconds, seconds)
        times.note(seconds, in_flight)
        stretch = times.stretch
        if flight < self._changed_at:
            return
        if stretch > _SHRINKS:
            self._doubling = False
            self._change(self._limit - 1, departed)
        elif stretch > _HOLDS:
            self._doubling = False
        elif full:
            step = 1.0 if self._doubling else 1 / self._limit
            self._limit = min(self._limit + step, float(self._ceiling))

    def refused(self, flight: int, *, departed: int) -> None:
        """Take in that a request came back because the beacon is busy, or did not come back.

        Args:
            flight: its number.
            departed: the number that the next one will have.
        """
        self.busy += 1
        self._doubling = False
        if flight >= self._changed_at:
            self._change(self._limit / 2, departed)

    def _change(self, limit: float, departed: int) -> None:
        self._limit = max(limit, 1.0)
        self._changed_at = departed
