"""Hostile HTTP servers on loopback: real sockets that misbehave in one way each."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Reply = Callable[[socket.socket, bytes, int], None]
"""Given the connection, the request's body and its number from 0, answers it or does not."""


@dataclass
class Misbehaving:
    """A server that counts what it read before it misbehaved."""

    url: str
    bodies: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)


@contextmanager
def serving(reply: Reply) -> Iterator[Misbehaving]:
    """Run a server that reads each request whole and hands it to ``reply``."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    state = Misbehaving(f"http://127.0.0.1:{listener.getsockname()[1]}")
    stop = threading.Event()
    lock = threading.Lock()
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                head, _, body = _read_head(connection).partition(b"\r\n\r\n")
                length = next(
                    (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")),
                    0,
                )  # fmt: skip
                while len(body) < length:
                    body += connection.recv(65536)
                with lock:
                    number = len(state.bodies)
                    state.bodies.append(body)
                    state.heads.append(head)
                reply(connection, body, number)
            except OSError:
                return

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=handle, args=(connection,), daemon=True)
            thread.start()
            threads.append(thread)

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield state
    finally:
        stop.set()
        acceptor.join()
        listener.close()
        for thread in threads:
            thread.join(10)


@dataclass
class Conversing:
    """A server whose connections are kept alive; of each request, its number on its connection."""

    url: str
    turns: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.turns]


@contextmanager
def conversing(go_on: Callable[[int], bool]) -> Iterator[Conversing]:
    """Run a server that answers 204 to request ``n`` of a connection, or hangs up having read it."""
    listener = socket.create_server(("127.0.0.1", 0))
    state = Conversing(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def converse(connection: socket.socket) -> None:
        with connection:
            number, data = 0, b""
            while True:
                while b"\r\n\r\n" not in data:
                    part = connection.recv(65536)
                    if not part:
                        return
                    data += part
                head, _, data = data.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                while len(data) < length:
                    data += connection.recv(65536)
                state.turns.append((number, data[:length]))
                data = data[length:]
                if not go_on(number):
                    return
                connection.sendall(b"HTTP/1.1 204 Any\r\n\r\n")
                number += 1

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(connection,), daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield state
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)


def _read_head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            raise OSError("closed")
        data += part
    return data


def answer(status: int, body: object = None, **headers: str) -> bytes:
    """Return the bytes of an HTTP answer; the connection is then closed."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(data)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def always(data: bytes) -> Reply:
    """Answer every request with the same bytes."""
    return lambda connection, _body, _number: connection.sendall(data)


def first(count: int, data: bytes, then: bytes) -> Reply:
    """Answer the first ``count`` requests in one way and the others in another."""
    return lambda connection, _body, number: connection.sendall(data if number < count else then)


def reset(connection: socket.socket, _body: bytes, _number: int) -> None:
    """Cut the connection with a RST after the request was read."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def silence(seconds: float) -> Reply:
    """Never answer; hold the connection until the client gives up, or for so many seconds."""

    def reply(connection: socket.socket, _body: bytes, _number: int) -> None:
        connection.settimeout(seconds)
        connection.recv(1)

    return reply


def tunnel(port: int) -> Reply:
    """Return a proxy's reply that connects to a port of this machine, whatever host was asked for."""

    def reply(connection: socket.socket, _body: bytes, _number: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            pumps = [
                threading.Thread(target=pump, args=pair, daemon=True)
                for pair in ((connection, upstream), (upstream, connection))
            ]
            for thread in pumps:
                thread.start()
            for thread in pumps:
                thread.join(5)

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    return reply
