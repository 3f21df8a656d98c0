"""Requests per second: a token bucket. Pure: the time is passed in."""

from dataclasses import dataclass

_BURST = 1.0
# A time is a float: after the wait that was asked for, so little of a token may be missing.
_ROUNDING = 1e-9


@dataclass(slots=True)
class Rate:
    """So many requests per second, and at once as many as a second's worth, but one at least.

    Args:
        per_second: how many, above 0.
        filled_at: a moment, in seconds that never go back, at which nothing was taken yet.
    """

    per_second: float
    filled_at: float
    _taken: float = 0.0

    def room(self, now: float) -> int:
        """Return how many requests may leave now."""
        if now > self.filled_at:
            self._taken = max(0.0, self._taken - (now - self.filled_at) * self.per_second)
            self.filled_at = now
        most = self._most
        return int(most * (1 + _ROUNDING) - self._taken)

    def wait(self, now: float) -> float:
        """Return for how many seconds nothing may leave; 0 where something may."""
        if self.room(now) > 0:
            return 0.0
        return (self._taken + 1 - self._most) / self.per_second

    def take(self) -> None:
        """Note that a request leaves; ``room`` said that one may."""
        self._taken += 1

    @property
    def _most(self) -> float:
        return max(1.0, self.per_second * _BURST)
