"""A small HTTP/1.1 server whose bounds hold: h11 reads and writes the protocol, this keeps the time.

It knows requests and answers, and nothing of usage. It keeps nothing of a request after its answer,
logs nothing, and an error it answers says nothing of what was sent. RFC 9110, RFC 9112.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from airgap.errors import UsageError


@dataclass(frozen=True, slots=True)
class Head:
    """What a request says before its body.

    Args:
        method: for instance ``POST``.
        path: as it was received, without the query.
        headers: names in lower case; the values of one that comes twice joined with ``, ``.
        peer: the client's address, without its port.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    peer: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"


class Handler(Protocol):
    """What a server answers with."""

    def refuse(self, head: Head) -> Answer | None:
        """Return the answer to a request whose body is not wanted, or None."""

    async def answer(self, head: Head, body: bytes) -> Answer:
        """Return the answer to a request."""

    def health(self) -> Answer:
        """Return the answer to ``/healthz``."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client can make the server hold, in bytes, seconds and numbers.

    Args:
        max_head: bytes of a request before its body.
        max_body: bytes of a body, as sent.
        max_held: bytes of bodies in memory at once, reserved before they are read.
        max_connections: connections at once; a further one is answered with 503 and closed.
        head_seconds: from the connection, or the first byte of a later request, to the head's end;
            a TLS handshake has as long.
        body_seconds: from the head's end to the body's.
        answer_seconds: until a client has taken its answer.
        idle_seconds: between two requests of a connection.
        grace_seconds: for requests that are being answered when the server stops.
        linger_seconds: for a client that still sends a body that is not wanted.
        linger_bytes: how much of that is read, and dropped.
    """

    max_head: int = 32 * 1024
    max_body: int = 4 * 1024**2
    max_held: int = 64 * 1024**2
    max_connections: int = 256
    head_seconds: float = 10
    body_seconds: float = 30
    answer_seconds: float = 30
    idle_seconds: float = 75
    grace_seconds: float = 10
    linger_seconds: float = 2
    linger_bytes: int = 16 * 1024**2


async def serve(
    handler: Handler,
    sockets: Sequence[socket.socket],
    *,
    bounds: Bounds,
    tls: ssl.SSLContext | None,
    stop: asyncio.Event,
    ready: Callable[[list[str]], None],
) -> None:
    """Serve until ``stop`` is set; then let requests that are being answered end.

    Args:
        handler: answers.
        sockets: listening, see ``listening``; closed at the end.
        bounds: what clients may cost.
        tls: for HTTPS, or None.
        stop: set when it is to end.
        ready: told the URLs once requests are taken.
    """
    from airgap.capture.connection import Connections

    connections = Connections(handler, bounds, tls)
    servers = [
        await asyncio.start_server(connections.run, sock=one, limit=64 * 1024) for one in sockets
    ]
    ready([_url(one, secure=tls is not None) for one in sockets])
    try:
        await stop.wait()
    finally:
        for server in servers:
            server.close()
        await connections.finish()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.close()


def listening(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen at an address.

    Args:
        host: an address, or a name that has some.
        port: TCP port; 0 takes a free one.

    Raises:
        UsageError: it is taken, not this machine's, or not allowed.
    """
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.socket(family, socket.SOCK_STREAM)
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(128)
            one.setblocking(False)
    except OSError as error:
        for one in made:
            one.close()
        raise UsageError(
            f"nothing can listen there: {error.strerror}",
            where=f"{host}, port {port}",
            hint="choose another address or port with --listen; ss -ltnp shows who has it",
        ) from None
    return made


def _url(one: socket.socket, *, secure: bool) -> str:
    host, port = one.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{shown}:{port}"
