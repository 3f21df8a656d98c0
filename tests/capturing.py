"""A capture server in a thread, a handler that remembers, and a client that only knows bytes."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from airgap.capture.server import Answer, Bounds, Head, serve

OK = Answer(200, b'{"ok": "yes"}')


@dataclass
class Recorder:
    """A handler that counts bodies; what it answers and refuses can be set."""

    seen: list[tuple[Head, bytes]] = field(default_factory=list)
    refused: Callable[[Head], Answer | None] = lambda _: None
    answered: Any = None

    def refuse(self, head: Head) -> Answer | None:
        return self.refused(head)

    async def answer(self, head: Head, body: bytes) -> Answer:
        if self.answered is not None:
            return await self.answered(head, body)
        self.seen.append((head, body))
        return OK


@dataclass
class Running:
    """A server that runs in a thread."""

    urls: list[str]
    loop: asyncio.AbstractEventLoop
    stopped: asyncio.Event
    thread: threading.Thread
    faults: list[dict[str, Any]]

    @property
    def port(self) -> int:
        return int(self.urls[0].rpartition(":")[2])

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopped.set)

    def client(self, **more: Any) -> "Client":
        return Client(self.port, **more)


@contextmanager
def running(handler: Any, bounds: Bounds | None = None, **more: Any) -> Iterator[Running]:
    """Run a server; afterwards it must end by itself, with nothing said to the loop's log."""
    up = threading.Event()
    state: list[Running] = []
    failed: list[BaseException] = []
    faults: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context))
        stop = asyncio.Event()

        def ready(urls: list[str]) -> None:
            state.append(Running(urls, loop, stop, thread, faults))
            up.set()

        await serve(handler, bounds=bounds, stop=stop, ready=ready, **more)

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - the test is told
            failed.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    assert up.wait(10)
    if failed:
        raise failed[0]
    try:
        yield state[0]
    finally:
        if thread.is_alive():
            state[0].stop()
        thread.join(10)
    assert not thread.is_alive(), "the server doesn't end"
    assert not failed, failed
    assert not faults, faults


class Client:
    """Bytes out, bytes in."""

    def __init__(
        self, port: int, host: str = "127.0.0.1", tls: Any = None, receive: int = 0
    ) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.sock.settimeout(10)
        try:
            self.sock.connect((host, port))
        except OSError:
            self.sock.close()
            raise
        if tls is not None:
            self.sock = tls.wrap_socket(
                self.sock, server_hostname="localhost", suppress_ragged_eofs=False
            )
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> "Client":
        self.sock.sendall(data)
        return self

    def answer(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer; a lost connection is an error."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        length = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return int(first.split(" ")[1]), headers, body

    def status(self) -> int:
        return self.answer()[0]

    def rest(self) -> bytes:
        """Return everything up to the end of the connection, resets included."""
        data = self._rest
        try:
            while part := self.sock.recv(65536):
                data += part
        except ConnectionError:
            pass
        return data

    def _more(self) -> None:
        data = self.sock.recv(65536)
        assert data, f"the connection ended after {self._rest!r}"
        self._rest += data


def post(
    body: bytes = b"{}", path: str = "/v1/beacon", headers: str = "", version: str = "1.1"
) -> bytes:
    """Return a whole request with a length."""
    return (
        f"POST {path} HTTP/{version}\r\nHost: capture\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return a whole request in chunks."""
    head = b"POST /v1/beacon HTTP/1.1\r\nHost: capture\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


def detail(body: bytes) -> str:
    """Return the words of an error's body, which holds nothing else."""
    [(name, words)] = json.loads(body).items()
    assert name == "detail"
    return words


def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it didn't happen"
        time.sleep(0.002)
