"""What the HTTP server and the handler behind it say to each other, and the server's bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body, as it was received. Headers hold credentials: not in the repr.

    Args:
        method: such as ``POST``; one of ``METHODS``.
        path: path of the target, without query string, not percent-decoded; begins with a slash.
        headers: values by name in lower case, ISO 8859-1, without control characters. A name
            that comes twice has its values joined with ``, `` (RFC 9110 section 5.3).
        peer: address of the client, without port; an IPv4 client of an IPv6 socket in IPv4 form.
    """

    method: str
    path: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    peer: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole.

    Args:
        status: 200 to 599.
        body: the content; not sent with 204 and 304, nor to HEAD.
        content_type: media type of the body.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"


class Handler(Protocol):
    """What is behind the server. Whatever either method raises is answered with 500."""

    def refuse(self, head: Head) -> Answer | None:
        """Return the answer that ends the request before any of its body is read, or None.

        It is called on the event loop, so it must not wait; and before the request takes one of
        the ``max_requests`` places, so whoever is refused here can't occupy them.
        """
        ...  # pragma: no cover

    async def answer(self, head: Head, body: bytes) -> Answer:
        """Return the answer to a request that was received whole.

        It is cancelled after ``Bounds.answer_seconds``, and where the server is stopped and the
        grace is over: a client that saw no answer, or 503, must be able to send again.
        """
        ...  # pragma: no cover


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one client, and all together, may take of this machine.

    Memory is at most about ``max_requests * max_body * 9/8 + max_body`` for bodies, and about
    ``max_connections * (4 * max_head + 100 KiB)`` for connections, much of it TLS.

    Args:
        max_head: bytes of request line and headers, blank line included (431), and of a chunk's
            header or the trailers (400).
        max_fields: headers in a head (431): a tiny one takes fifty times its size in memory.
        max_body: bytes of a body, without its chunked coding (413).
        head_seconds: seconds for a TLS handshake; from then, or from the first byte of a further
            request, until the head is there (408; closed without a word where nothing came).
        body_seconds: seconds to wait for a place among ``max_requests`` (503), and again until
            the whole body is there (408).
        idle_seconds: seconds between an answer and the first byte of the next request.
        answer_seconds: seconds for the handler (503), and again for the client to take the
            answer from the network.
        max_connections: connections at once. Of further ones, one for each listening socket is
            accepted and not read; the others wait in the kernel's queue, where they cost this
            process nothing, so that a burst is only slowed down. While one waits, the connection
            that has waited longest since its answer makes room, and each answer closes its own.
        max_requests: bodies in memory at once, from before the first byte is read until the
            handler has answered. Further requests wait, unread.
        grace_seconds: seconds that requests in flight have when the server is stopped.
        discard_bytes: bytes that are read and thrown away after the last answer of a connection.
            Closing with bytes unread resets the connection, and the client might never see the
            answer (RFC 9112 section 9.6).
        discard_seconds: seconds for that.
    """

    max_head: int = 32 * 1024
    max_fields: int = 128
    max_body: int = 4 * 1024**2
    head_seconds: float = 10
    body_seconds: float = 30
    idle_seconds: float = 75
    answer_seconds: float = 60
    max_connections: int = 256
    max_requests: int = 32
    grace_seconds: float = 10
    discard_bytes: int = 8 * 1024**2
    discard_seconds: float = 5


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that reach the handler; others, CONNECT and TRACE among them, are answered with 501."""
