"""One connection: request after request, each answered in its turn. h11 does all the parsing.

Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1). Whatever is said to the client about an error
is one of this module's constants: nothing of a request is repeated, kept or logged.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

import h11

from airgap.capture.contract import METHODS, Answer, Bounds, Handler, Head
from airgap.capture.wire import Wire

HEALTH_PATH = "/healthz"
"""Path that the server answers itself, to GET and HEAD."""

_DETAILS = {
    400: "this is not a valid HTTP/1.1 request",
    408: "the request took too long to arrive",
    413: "the body is too large",
    431: "the request's head is too large",
    500: "the request could not be handled",
    501: "the method or transfer coding is not supported",
    503: "the server is busy; try again later",
    505: "only HTTP/1.1 and HTTP/1.0 are supported",
}
# RFC 9112 section 3.2.2: a server must accept the absolute form.
_ORIGIN = re.compile(r"https?://[^/?#]+", re.IGNORECASE)
# h11 lets them through in values (RFC 9110 section 5.5 calls them invalid); a log would suffer.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of a server have in common.

    Args:
        handler: answers requests.
        health: answers the health check; called on the event loop.
        bounds: limits.
        places: one for each request whose body may be in memory.
        idle: connections that have had an answer and wait for a further request, or for their
            client to close; the longest waiting first.
        crowded: set while a client waits for somebody's connection.
        stopping: set when the server is being stopped.
    """

    handler: Handler
    health: Callable[[], Answer]
    bounds: Bounds
    places: asyncio.Semaphore
    idle: "dict[Connection, None]"
    crowded: asyncio.Event
    stopping: asyncio.Event

    @property
    def last(self) -> bool:
        """Whether a connection that has had an answer must go."""
        return self.stopping.is_set() or self.crowded.is_set()


class _RefusedError(Exception):
    """The request ends here, and the connection with it: what follows can't be told apart."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.answer = _failure(status)


class Connection:
    """One client. ``run`` is its whole life.

    Args:
        wire: the connected bytes; whoever runs this closes it afterwards.
        peer: the client's address.
        shared: what it shares with other connections.
    """

    __slots__ = ("_fresh", "_head_only", "_parser", "_peer", "_shared", "_wire", "busy")

    def __init__(self, wire: Wire, peer: str, shared: Shared) -> None:
        self._wire = wire
        self._peer = peer
        self._shared = shared
        # One less than the bound: h11 gives up beyond its number, and `_receive` never lets it
        # hold more than max_head; so a head of max_head bytes is read, and no larger one.
        self._parser = h11.Connection(h11.SERVER, shared.bounds.max_head - 1)
        self._fresh = True
        self._head_only = False
        self.busy = False
        """Whether a request has begun to arrive, or its answer is not out yet."""

    async def run(self) -> None:
        """Serve the client to the end. Nothing is raised but the task's own cancellation."""
        try:
            async with asyncio.timeout(self._shared.bounds.head_seconds):
                await self._wire.handshake()
            deadline = self._in(self._shared.bounds.head_seconds)
            while await self._exchange(deadline):
                self._fresh = False
                deadline = self._in(self._shared.bounds.idle_seconds)
        except OSError:
            # The client went away, didn't speak TLS, or was too slow to take its answer.
            pass

    @staticmethod
    def _in(seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds

    async def _exchange(self, deadline: float) -> bool:
        """Answer the next request; return whether another one may follow.

        Args:
            deadline: loop time until which its first byte must be there.
        """
        self._head_only = False
        if not await self._wait_for_request(deadline):
            return False
        self.busy = True
        try:
            answer, last = await self._request(deadline)
            data = self._encoded(answer, close=last or self._shared.last)
        except _RefusedError as refused:
            data = self._encoded(refused.answer, close=True)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - nobody may learn what: it might repeat the request
            data = self._encoded(_failure(500), close=True)
        try:
            async with asyncio.timeout(self._shared.bounds.answer_seconds):
                await self._wire.send(data)
        except TimeoutError:
            self._wire.abort()
            raise
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
            self.busy = self._held() > 0
            return True
        await self._part()
        return False

    async def _part(self) -> None:
        """End the connection so that the client gets its last answer."""
        states = {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}
        self.busy = self._parser.their_state not in states or self._held() > 0
        if not self.busy and self._shared.last:
            # All was read, so closing resets nothing, and somebody waits for the room.
            return
        self._shared.idle[self] = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._shared.bounds.discard_seconds):
                    await self._wire.finish(self._shared.bounds.discard_bytes)
        finally:
            self._shared.idle.pop(self, None)

    async def _wait_for_request(self, deadline: float) -> bool:
        """Wait until h11 holds something; return False where the client is silent or gone."""
        # Even if the next request is here already, others have their turn first.
        await asyncio.sleep(0)
        if self._held():
            return True
        if not self._fresh:
            if self._shared.last:
                return False
            self._shared.idle[self] = None
        try:
            async with asyncio.timeout_at(deadline):
                return await self._receive()
        except TimeoutError:
            return False
        finally:
            self._shared.idle.pop(self, None)

    async def _request(self, deadline: float) -> tuple[Answer, bool]:
        """Return the answer to a request, and whether it must be the connection's last."""
        bounds = self._shared.bounds
        if not self._fresh:
            deadline = self._in(bounds.head_seconds)
        try:
            async with asyncio.timeout_at(deadline):
                request = await self._next_head()
        except TimeoutError:
            raise _RefusedError(408) from None
        self._head_only = request.method == b"HEAD"
        if len(request.headers) > bounds.max_fields:
            raise _RefusedError(431)
        head, length = _understood(request, self._peer)
        early = self._early(head)
        if early is not None:
            if length == 0:
                # Nothing follows the head, so the connection can go on.
                await self._body(0)
            return early, length != 0
        if length is not None and length > bounds.max_body:
            raise _RefusedError(413)
        try:
            async with asyncio.timeout(bounds.body_seconds):
                await self._shared.places.acquire()
        except TimeoutError:
            raise _RefusedError(503) from None
        try:
            return await self._handled(head), False
        finally:
            self._shared.places.release()

    def _early(self, head: Head) -> Answer | None:
        """Return the answer to a request whose body doesn't matter."""
        try:
            if head.path == HEALTH_PATH and head.method in {"GET", "HEAD"}:
                return self._shared.health()
            return self._shared.handler.refuse(head)
        except Exception:  # noqa: BLE001 - see `_exchange`
            return _failure(500)

    async def _handled(self, head: Head) -> Answer:
        """Read the body and have it answered. The body lives no longer than this call."""
        bounds = self._shared.bounds
        if self._parser.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            async with asyncio.timeout(bounds.answer_seconds):
                await self._wire.send(self._parser.send(go_on))
        try:
            async with asyncio.timeout(bounds.body_seconds):
                body = await self._body(bounds.max_body)
        except TimeoutError:
            raise _RefusedError(408) from None
        try:
            async with asyncio.timeout(bounds.answer_seconds) as limit:
                return await self._shared.handler.answer(head, body)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Something within the handler was cancelled, not this connection.
            return _failure(500)
        except Exception:  # noqa: BLE001 - see `_exchange`
            return _failure(503 if limit.expired() else 500)

    async def _next_head(self) -> h11.Request:
        while (event := self._event()) is h11.NEED_DATA:
            await self._receive()
        if not isinstance(event, h11.Request):
            raise _RefusedError(400)
        return event

    async def _body(self, most: int) -> bytes:
        """Return the body; it is one bytearray while it grows, since chunks may be tiny."""
        kept = bytearray()
        received = 0
        while True:
            event = self._event()
            if isinstance(event, h11.Data):
                kept += event.data
                if len(kept) > most:
                    raise _RefusedError(413)
            elif isinstance(event, h11.EndOfMessage):
                return bytes(kept)
            else:
                # Chunks of a byte each, or with long extensions, cost far more than they carry
                # (RFC 9112 section 7.1.1 asks for a limit).
                if received > 2 * len(kept) + self._shared.bounds.max_head:
                    raise _RefusedError(400)
                held = self._held()
                await self._receive()
                received += self._held() - held

    def _event(self) -> object:
        try:
            return self._parser.next_event()
        except h11.RemoteProtocolError as error:
            # Only a head is judged in h11's finer terms; a body that breaks off is just broken.
            status = error.error_status_hint if self._parser.our_state is h11.IDLE else 400
            raise _RefusedError(status if status in _DETAILS else 400) from None

    async def _receive(self) -> bool:
        """Let h11 have what has come, so that it holds max_head bytes at most; False at the end."""
        data = await self._wire.receive(self._shared.bounds.max_head - self._held())
        self._parser.receive_data(data)
        return bool(data)

    def _held(self) -> int:
        return len(self._parser.trailing_data[0])

    def _encoded(self, answer: Answer, *, close: bool) -> bytes:
        """Return an answer's bytes. What can't be sent raises before h11 has seen any of it."""
        body = bytes(answer.body)
        # RFC 9110 section 6.6.1: whoever has a clock sends a date.
        headers = [("Date", formatdate(usegmt=True))]
        if answer.status not in {204, 304}:
            headers += [("Content-Type", answer.content_type), ("Content-Length", str(len(body)))]
        if close:
            headers.append(("Connection", "close"))
        response = h11.Response(
            status_code=answer.status, headers=headers, reason=_PHRASES.get(answer.status, "")
        )
        data = self._parser.send(response)
        if body and not self._head_only and answer.status not in {204, 304}:
            data += self._parser.send(h11.Data(data=body))
        return data + self._parser.send(h11.EndOfMessage())


def _understood(request: h11.Request, peer: str) -> tuple[Head, int | None]:
    """Return the head and its body's length in bytes, or None where that comes in chunks.

    Raises:
        _RefusedError: the request is not one that this server can tell the end or meaning of.
    """
    if request.http_version not in {b"1.1", b"1.0"}:
        raise _RefusedError(505)
    method = request.method.decode("ascii")
    if method not in METHODS:
        raise _RefusedError(501)
    target = request.target.decode("ascii")
    origin = _ORIGIN.match(target)
    path = target[origin.end() if origin else 0 :].partition("?")[0]
    if origin and not path:
        path = "/"
    if not path.startswith("/") or "#" in target:
        raise _RefusedError(400)
    values: dict[str, list[str]] = {}
    for name, value in request.headers:
        if _CONTROL.search(value):
            raise _RefusedError(400)
        values.setdefault(name.decode("ascii"), []).append(value.decode("latin-1"))
    headers = {name: ", ".join(several) for name, several in values.items()}
    head = Head(method, path, headers, peer)
    if "transfer-encoding" not in headers:
        return head, int(headers.get("content-length", "0"))
    # Both lengths, or chunks before there were any (RFC 9112 section 6.1): how requests are
    # smuggled past a proxy.
    if "content-length" in headers or request.http_version == b"1.0":
        raise _RefusedError(400)
    return head, None


def _failure(status: int) -> Answer:
    return Answer(status, json.dumps({"detail": _DETAILS[status]}).encode())
