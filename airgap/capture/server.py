"""The HTTP/1.1 server of the capture endpoint: it listens, bounds, and stops. It logs nothing.

It knows nothing about usage: what a request means is its handler's business (``contract``), how
it is read is ``connection``'s.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from airgap.capture.connection import HEALTH_PATH, Connection, Shared
from airgap.capture.contract import METHODS, Answer, Bounds, Handler, Head
from airgap.capture.wire import Wire
from airgap.errors import UsageError

__all__ = [
    "HEALTH_PATH",
    "METHODS",
    "Answer",
    "Bounds",
    "Handler",
    "Head",
    "healthy",
    "listen",
    "serve",
]

_BACKLOG = 128
_PAUSE_SECONDS = 0.1
"""Pause when the kernel can't hand out a connection, mostly for want of file descriptors."""


def healthy() -> Answer:
    """Return the answer of a server that has nothing to add about its health."""
    return Answer(200, b'{"ok": true}')


async def serve(
    handler: Handler,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    sockets: Sequence[socket.socket] = (),
    bounds: Bounds | None = None,
    tls: ssl.SSLContext | None = None,
    stop: asyncio.Event,
    ready: Callable[[list[str]], None],
    health: Callable[[], Answer] = healthy,
) -> None:
    """Serve until ``stop`` is set and the requests in flight are answered.

    On ``stop`` nothing is accepted any more, and connections without a request are closed at
    once. A request whose first byte was read counts as in flight; its answer closes its
    connection. What is not done after ``grace_seconds`` is cut off.

    Args:
        handler: answers requests.
        host: an address, or ``localhost`` for both loopback addresses; see ``listen``.
        port: TCP port; 0 takes a free one.
        sockets: sockets that listen already, instead of ``host`` and ``port``, as systemd passes
            them. They are closed in the end, like the server's own.
        bounds: limits; the defaults of ``Bounds`` where None.
        tls: the server's certificate and settings, or None for plain HTTP.
        stop: set from outside, for instance by a signal's handler.
        ready: called once with the URLs, when clients can connect.
        health: answers GET and HEAD of ``/healthz``, on the event loop; the handler isn't asked.

    Raises:
        UsageError: the server can't listen there.
    """
    listeners = list(sockets) or listen(host, port)
    try:
        urls = [_url(sock, tls) for sock in listeners]
        server = _Server(handler, bounds or Bounds(), tls, health)
        await server.run(listeners, stop, lambda: ready(urls))
    finally:
        for sock in listeners:
            sock.close()


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on an address.

    Names are not looked up: this side sends nothing, not even a question to a name server.

    Args:
        host: an IPv4 or IPv6 address, without brackets; ``localhost`` is 127.0.0.1 and, where the
            machine has it, ::1. ``::`` is IPv6 only.
        port: TCP port; 0 takes a free one, the same for both addresses.

    Raises:
        UsageError: the address is none, not this machine's, taken, or not permitted.
    """
    found: list[socket.socket] = []
    try:
        if not 0 <= port <= 65535:
            # The C library takes it modulo 65536.
            raise OverflowError
        for address in ("127.0.0.1", "::1") if host == "localhost" else (host,):
            try:
                found.append(_bound(address, port))
            except OSError as error:
                if found and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                    continue
                raise
            port = found[0].getsockname()[1]
    except (OSError, OverflowError, UnicodeError) as error:
        for sock in found:
            sock.close()
        raise UsageError(
            f"can't listen: {_reason(error)}",
            where=f"{host}, port {port}",
            expected="an address of this machine, and a port that is free",
            hint="ip address shows this machine's addresses, ss -ltnp who listens where",
        ) from None
    return found


def _bound(address: str, port: int) -> socket.socket:
    [(family, kind, protocol, _, where), *_] = socket.getaddrinfo(
        address,
        port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE,
    )
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "this is not an address"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return "there is no such port"


def _url(sock: socket.socket, tls: ssl.SSLContext | None) -> str:
    """Return a listening socket's URL.

    Raises:
        UsageError: it is not a TCP socket that listens.
    """
    if (
        sock.family not in {socket.AF_INET, socket.AF_INET6}
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        raise UsageError(
            "this socket is not one to serve on",
            where=f"file descriptor {sock.fileno()}",
            expected="a TCP socket that listens",
            hint="ListenStream= of the .socket unit is a port or an address with a port",
        )
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if sock.family == socket.AF_INET6 else host
    return f"{'http' if tls is None else 'https'}://{shown}:{port}"


class _Server:
    """The connections of one ``serve``.

    Args:
        handler: answers requests.
        bounds: limits.
        tls: settings, or None.
        health: answers the health check.
    """

    def __init__(
        self,
        handler: Handler,
        bounds: Bounds,
        tls: ssl.SSLContext | None,
        health: Callable[[], Answer],
    ) -> None:
        self._bounds = bounds
        self._tls = tls
        self._room = asyncio.Semaphore(bounds.max_connections)
        self._waiting = 0
        self._tasks: dict[Connection, asyncio.Task[None]] = {}
        self._shared = Shared(
            handler=handler,
            health=health,
            bounds=bounds,
            places=asyncio.Semaphore(bounds.max_requests),
            idle={},
            crowded=asyncio.Event(),
            stopping=asyncio.Event(),
        )

    async def run(
        self, listeners: list[socket.socket], stop: asyncio.Event, ready: Callable[[], None]
    ) -> None:
        """Accept until ``stop`` is set, then end every connection."""
        stopped = asyncio.create_task(stop.wait())
        accepting = [asyncio.create_task(self._accept(sock)) for sock in listeners]
        try:
            ready()
            done, _ = await asyncio.wait([stopped, *accepting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # Accepting ends by itself only by a fault, which must not leave a deaf server.
                task.result()
            await _ended(accepting)
            for sock in listeners:
                # Whoever still waits in the kernel's queue is told at once.
                sock.close()
            self._shared.stopping.set()
            await _ended([task for known, task in self._tasks.items() if not known.busy])
            if self._tasks:
                await asyncio.wait(self._tasks.values(), timeout=self._bounds.grace_seconds)
        finally:
            await _ended([stopped, *accepting, *self._tasks.values()])

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        while True:
            await _readable(listener)
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                continue
            except OSError:
                # A client that is gone again, or no file descriptor left: others go on.
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            try:
                await self._make_room()
            except BaseException:
                sock.close()
                raise
            self._start(sock, _peer(address[0]))
            await asyncio.sleep(0)

    async def _make_room(self) -> None:
        """Wait until one more connection is within the bound; idle ones give way."""
        if self._room.locked():
            for connection in self._shared.idle:
                self._tasks[connection].cancel()
                del self._shared.idle[connection]
                break
        self._waiting += 1
        self._shared.crowded.set()
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._shared.crowded.clear()

    def _start(self, sock: socket.socket, peer: str) -> None:
        wire = Wire(sock, self._tls)
        connection = Connection(wire, peer, self._shared)
        task = asyncio.create_task(connection.run())
        self._tasks[connection] = task
        task.add_done_callback(lambda _: self._forget(connection, wire))

    def _forget(self, connection: Connection, wire: Wire) -> None:
        # Not in the task: one that is cancelled before its first step never gets there.
        wire.close()
        task = self._tasks.pop(connection)
        self._room.release()
        if not task.cancelled():
            # Looked at, so that asyncio doesn't log what a fault might say of a request.
            task.exception()


async def _readable(sock: socket.socket) -> None:
    """Wait for a client. Unlike the loop's ``sock_accept``, it loses none when it is cancelled."""
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await waiting
    finally:
        loop.remove_reader(sock)


def _peer(address: str) -> str:
    """Return a client's address; one that came by IPv4 to an IPv6 socket in IPv4 form."""
    with contextlib.suppress(ValueError):
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
        if mapped is not None:
            return str(mapped)
    return address


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
