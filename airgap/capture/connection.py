"""Connections: requests in, answers out, each within its bounds."""

import asyncio
import contextlib
import json
import ssl
from http import HTTPStatus

import h11

from airgap.capture.server import Answer, Bounds, Handler, Head

_READ = 64 * 1024
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class Connections:
    """All connections of a server, and what they hold together.

    Args:
        handler: answers requests.
        bounds: what clients may cost.
        tls: for HTTPS, or None.
    """

    def __init__(self, handler: Handler, bounds: Bounds, tls: ssl.SSLContext | None) -> None:
        self.handler = handler
        self.bounds = bounds
        self.tls = tls
        self.held = 0
        """Bytes of bodies that are reserved."""
        self.stopping = False
        self._tasks: dict[asyncio.Task[None], _Connection] = {}

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; never raises."""
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(self, reader, writer)
        try:
            if self.stopping or len(self._tasks) >= self.bounds.max_connections:
                if self.tls is None:
                    writer.write(_TOO_MANY)
                return
            self._tasks[task] = connection
            await connection.run()
        except (OSError, TimeoutError, asyncio.CancelledError):
            # Gone, too slow, or told to end: nobody is left to be answered.
            return
        finally:
            self._tasks.pop(task, None)
            await _closed(writer)

    async def finish(self) -> None:
        """Close what is idle, and let what is being answered end in time."""
        self.stopping = True
        for task, connection in list(self._tasks.items()):
            if not connection.busy:
                task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=self.bounds.grace_seconds)
        rest = list(self._tasks)
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=1)


class _RefusedError(Exception):
    """A request that is answered without being handled; ends its connection."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.answer = _error(status, detail)


class _Connection:
    def __init__(
        self, group: Connections, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._group = group
        self._bounds = group.bounds
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=group.bounds.max_head)
        self.busy = False
        """Whether a request is being read or answered."""

    async def run(self) -> None:
        """Answer requests until one side ends the connection."""
        if self._group.tls is not None:
            with contextlib.suppress(ssl.SSLError):
                await self._writer.start_tls(
                    self._group.tls, ssl_handshake_timeout=self._bounds.head_seconds
                )
            if self._writer.get_extra_info("ssl_object") is None:
                return
        first = True
        while True:
            again = await self._one(first=first)
            if not again:
                return
            first = False

    async def _one(self, *, first: bool) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            request = await self._request(first=first)
            if request is None:
                return False
            answer = await self._answer(request)
        except _RefusedError as refused:
            await self._send(refused.answer, last=True)
            await self._linger()
            return False
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                status = error.error_status_hint or 400
                await self._send(_error(status, "the request is not HTTP/1.1"), last=True)
                await self._linger()
            return False
        last = self._group.stopping
        await self._send(answer, last=last)
        if last or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self.busy = False
        return True

    async def _request(self, *, first: bool) -> h11.Request | None:
        """Return the next request's head, or None at the connection's end."""
        if not first and self._http.trailing_data[0] == b"":
            async with asyncio.timeout(self._bounds.idle_seconds):
                data = await self._reader.read(_READ)
            self._http.receive_data(data)
        self.busy = not first
        async with asyncio.timeout(self._bounds.head_seconds):
            event = await self._event()
        self.busy = True
        return event if isinstance(event, h11.Request) else None

    async def _event(self) -> object:
        """Return the protocol's next event."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await self._reader.read(_READ)
            self.busy = self.busy or bool(data)
            self._http.receive_data(data)

    async def _answer(self, request: h11.Request) -> Answer:
        head = self._head(request)
        if head.path == "/healthz" and head.method in ("GET", "HEAD"):
            await self._body(0)
            return self._group.handler.health()
        refused = self._group.handler.refuse(head)
        if refused is not None:
            await self._send(refused, last=True)
            await self._linger()
            raise ConnectionAbortedError
        length = self._length(head)
        if self._group.held + length > self._bounds.max_held:
            raise _RefusedError(503, "too much at once; try again")
        self._group.held += length
        try:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            async with asyncio.timeout(self._bounds.body_seconds):
                body = await self._body(self._bounds.max_body)
            return await self._handled(head, body)
        finally:
            self._group.held -= length

    async def _handled(self, head: Head, body: bytes) -> Answer:
        try:
            return await self._group.handler.answer(head, body)
        except Exception:  # noqa: BLE001 - whatever it is, the client hears no more than this
            return _error(500, "the request could not be handled")

    def _head(self, request: h11.Request) -> Head:
        headers: dict[str, str] = {}
        for raw_name, raw_value in request.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if "transfer-encoding" in headers and "content-length" in headers:
            # RFC 9112, section 6.1: an attempt at request smuggling.
            raise _RefusedError(400, "both a length and a transfer coding")
        target = request.target.decode("latin-1")
        if not target.startswith("/"):
            raise _RefusedError(400, "the target is no path")
        peer = self._writer.get_extra_info("peername")
        return Head(
            request.method.decode("ascii"),
            target.partition("?")[0],
            headers,
            str(peer[0]) if peer else "",
        )

    def _length(self, head: Head) -> int:
        """Return how much of a body to reserve room for."""
        declared = head.headers.get("content-length")
        if declared is None:
            return self._bounds.max_body if "transfer-encoding" in head.headers else 0
        length = int(declared)
        if length > self._bounds.max_body:
            raise _RefusedError(413, f"a body has at most {self._bounds.max_body} bytes")
        return length

    async def _body(self, most: int) -> bytes:
        parts, size = [], 0
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                size += len(event.data)
                if size > most:
                    raise _RefusedError(413, f"a body has at most {most} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return b"".join(parts)
            else:
                raise ConnectionAbortedError

    async def _send(self, answer: Answer, *, last: bool) -> None:
        headers = [("Cache-Control", "no-store")]
        if answer.body:
            headers.append(("Content-Type", answer.content_type))
        if answer.status not in (204, 304):
            headers.append(("Content-Length", str(len(answer.body))))
        if last:
            headers.append(("Connection", "close"))
        await self._write(
            h11.Response(
                status_code=answer.status,
                headers=headers,
                reason=HTTPStatus(answer.status).phrase.encode(),
            ),
            *([h11.Data(data=answer.body)] if answer.body and not self._is_head() else []),
            h11.EndOfMessage(),
        )

    def _is_head(self) -> bool:
        return self._http._request_method == b"HEAD"  # noqa: SLF001 - h11 does not tell otherwise

    async def _write(self, *events: h11.Event) -> None:
        self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
        async with asyncio.timeout(self._bounds.answer_seconds):
            await self._writer.drain()

    async def _linger(self) -> None:
        """Drop what a client still sends, so that it gets to read its answer; within bounds."""
        left = self._bounds.linger_bytes
        with contextlib.suppress(OSError, TimeoutError):
            if self._group.tls is None:
                self._writer.write_eof()
            async with asyncio.timeout(self._bounds.linger_seconds):
                while left > 0 and (data := await self._reader.read(_READ)):
                    left -= len(data)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(1):
            await writer.wait_closed()


def _error(status: int, detail: str) -> Answer:
    return Answer(status, json.dumps({"detail": detail}).encode())
