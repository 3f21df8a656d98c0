"""Bytes over one accepted TCP connection, with or without TLS, and never more than are asked for.

asyncio's own transports read ahead, up to half a MiB and more with TLS, and report some errors to
a log. Here a byte is read when somebody waits for it: a client is slowed down by its own socket.
"""

import asyncio
import contextlib
import socket
import ssl
import struct

_PIECE = 16 * 1024
"""Bytes that are read from the network, or encrypted, at a time: one TLS record."""


class Wire:
    """One connection. Every method but ``close`` and ``abort`` may raise OSError.

    No time limit is kept here; each call can be cancelled, and then only closing makes sense.

    Args:
        sock: a connected socket, which this object owns from now on.
        tls: the server's TLS settings, or None for plain TCP.
    """

    __slots__ = ("_incoming", "_loop", "_outgoing", "_sock", "_tls")

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = (
            None if tls is None else tls.wrap_bio(self._incoming, self._outgoing, server_side=True)
        )
        sock.setblocking(False)
        # An answer is one write; it must not wait for the ACK of a 100 Continue before it.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def handshake(self) -> None:
        """Do the TLS handshake, if there is TLS."""
        if self._tls is None:
            return
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            else:
                await self._flush()
                return

    async def receive(self, most: int) -> bytes:
        """Return 1 to ``most`` bytes, or none at the end of what the client sends.

        An end without TLS's close_notify counts as an end: HTTP's framing shows what is missing.
        """
        # A read that finds bytes never suspends: without this, one client could keep the loop.
        await asyncio.sleep(0)
        if self._tls is None:
            return await self._loop.sock_recv(self._sock, most)
        while True:
            try:
                return self._tls.read(most)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def send(self, data: bytes) -> None:
        """Hand all of ``data`` to the kernel, which waits for a client that doesn't read."""
        if self._tls is None:
            return await self._loop.sock_sendall(self._sock, data)
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            self._tls.write(view[start : start + _PIECE])
            await self._flush()
        return None

    async def finish(self, most: int) -> None:
        """Say that nothing more is sent; then read and forget up to ``most`` bytes, to the end."""
        self._say_goodbye()
        self._sock.shutdown(socket.SHUT_WR)
        while most > 0:
            await asyncio.sleep(0)
            data = await self._loop.sock_recv(self._sock, min(4 * _PIECE, most))
            if not data:
                return
            most -= len(data)

    def close(self) -> None:
        """Close. What was sent still arrives, unless the client has sent what nobody read.

        So does the alert that says why a TLS handshake failed.
        """
        self._say_goodbye()
        self._sock.close()

    def abort(self) -> None:
        """Close at once, and let the kernel forget what the client didn't take."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    async def _feed(self) -> None:
        data = await self._loop.sock_recv(self._sock, _PIECE)
        await asyncio.sleep(0)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._sock, self._outgoing.read())

    def _say_goodbye(self) -> None:
        """Send TLS's close_notify or alert, once, if it fits in the kernel's buffer."""
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
            self._tls = None
            with contextlib.suppress(OSError):
                self._sock.send(self._outgoing.read())
