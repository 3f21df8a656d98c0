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


class Transport(Protocol):
    """Sends requests; safe to be called from several threads."""

    def send(self, request: Request) -> Answer:
        """Send a request and return the answer.

        Raises:
            NotSentError: the server saw nothing of it.
            DoubtfulError: the server may have seen it.
        """
        ...
