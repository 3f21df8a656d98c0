"""What sending a request can come to: an answer, nothing sent, or doubt."""

from dataclasses import dataclass
from typing import Protocol

from airgap.replay.requests import Request


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: status, body of at most 1 MiB, and Retry-After in seconds or None."""

    status: int
    body: bytes
    retry_after: float | None = None


class NotSentError(Exception):
    """Nothing of the request reached the server: it can be sent again."""


class DoubtfulError(Exception):
    """The request was cut off after sending began: the server may have counted it."""


Outcome = Answer | NotSentError | DoubtfulError
"""What became of a request; the errors are values here, and nothing raises them."""


class Transport(Protocol):
    """Has any number of requests in flight; is called from one thread, and needs no other."""

    def begin(self, flight: int, request: Request) -> None:
        """Let a request leave.

        Args:
            flight: a number that names it from here on.
            request: the request.
        """
        ...

    def landed(self, seconds: float) -> list[tuple[int, Outcome]]:
        """Return what became of requests; waits for the first one, for so many seconds at most."""
        ...

    def give_up(self, flight: int) -> None:
        """Wait for a request no longer; what is there of its connection is closed."""
        ...
