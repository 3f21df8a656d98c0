"""A beacon on loopback that counts each record, and misbehaves by a seeded die.

It tells apart what a client can't: that a record was received whole (``received``), that a client
must believe it may have been counted (``possible``), and that it was counted (``counted``).
"""

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Self

TRACES = "/v1/beacon/ingest-traces"
# Status of success where it is documented, and one that is success to HTTP but not to this beacon.
_SUCCESS = {TRACES: 200, "/v1/metadata/submit": 204, "/v1/beacon/usage-snapshot": 204}
_NOT_DOCUMENTED = {TRACES: 204, "/v1/metadata/submit": 200, "/v1/beacon/usage-snapshot": 203}

# By definition not counted: the answer says so, or the body never came whole.
NOT_COUNTED = ("429", "503", "307", "400", "401", "reset in the body")
# The client can't know: the die decides whether it was counted. "normal" and what cuts its answer
# off always count.
MAY_COUNT = ("silent", "late", "reset after the body", "500", "502", "garbage", "other success")
ALWAYS_COUNTED = ("normal", "away", "reset in the answer")
CALM = {"normal": 1}
ROUGH = dict.fromkeys(NOT_COUNTED + MAY_COUNT + ALWAYS_COUNTED, 1) | {"normal": 14}

_LONGEST = 30.0
"""Seconds after which any wait is given up: nothing here can hang for ever."""


def payloads(body: bytes) -> dict[str, dict]:
    """Return the records in a request's body by what they are known by: only the body is asked."""
    fields = json.loads(body)
    return {identity(one): one for one in fields.get("trace_transactions", [fields])}


def identity(payload: dict) -> str:
    """Return a transaction's id, or the end of a report's period, which is another in each one."""
    return payload.get("id") or payload["to_timestamp"]


def measures(payload: dict) -> dict[str, int]:
    """Return what a record counts."""
    traces = {"trace_count": payload["trace_count"]} if "trace_count" in payload else {}
    return payload.get("measures", traces)


class CountingBeacon:
    """The server. It lives through all runs of a scenario; threads, one per connection."""

    def __init__(self, die: random.Random) -> None:
        self.received: Counter[str] = Counter()
        self.possible: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        """What the counted records count, by the measure's name."""
        self.keys: dict[str, set[str]] = {}
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.weights: dict[str, int] = CALM
        self._die = die
        self._changed = threading.Condition()
        self._active = 0
        self._open = True
        self._closed = threading.Event()
        self._trigger: tuple[str, int, Callable[[], None]] | None = None
        self._listener = _listener()
        self._address = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self._address[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.quiet()
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def at(self, stage: str, number: int, action: Callable[[], None]) -> None:
        """Call ``action`` at the ``number``-th time that a request comes to a stage.

        The stages: ``received`` (the body is whole), ``counted`` (no answer yet), ``answered``.
        """
        with self._changed:
            self._trigger = (stage, number, action)

    def quiet(self) -> None:
        """Return when every request that clients left behind has been dealt with.

        To be called when no client runs. Connections are accepted in order, so that all earlier
        ones were accepted when this one is answered.
        """
        with self._changed:
            self._trigger = None
        for _ in range(100):
            with self._changed:
                assert self._changed.wait_for(self._is_idle, _LONGEST)
            try:
                with socket.create_connection(self._address, _LONGEST) as connection:
                    connection.sendall(b"PING\r\n\r\n")
                    if connection.recv(4) == b"PONG":
                        break
            except ConnectionError:
                continue  # one that was still to be accepted made the server go away
        else:
            raise AssertionError("the beacon does not come back")
        with self._changed:
            assert self._changed.wait_for(self._is_idle, _LONGEST)

    def _is_idle(self) -> bool:
        return self._open and self._active == 0

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                with self._changed:
                    self._changed.wait_for(lambda: self._open or self._closed.is_set(), _LONGEST)
                continue
            with self._changed:
                self._active += 1
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_LONGEST)
                while self._one(connection):
                    pass
        except OSError:
            pass  # the client is gone, as it may be at any moment
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _one(self, connection: socket.socket) -> bool:
        """Serve one request; tell whether the connection stays open."""
        head, body = _head(connection)
        if head == b"PING":
            connection.sendall(b"PONG")
        if not head.startswith(b"POST "):
            return False
        with self._changed:
            [fault] = self._die.choices(list(self.weights), list(self.weights.values()))
            lucky, share = self._die.random() < 0.5, self._die.random()
            self.requests += 1
            self.faults[fault] += 1
        if fault == "reset in the body":
            _reset(connection)
            return False
        headers, body = _whole(connection, head, body)
        records = payloads(body)
        with self._changed:
            self.received.update(records.keys())
            if fault not in NOT_COUNTED:
                self.possible.update(records.keys())
            for record in records:
                self.keys.setdefault(record, set()).add(headers["idempotency-key"])
        self._pass("received")
        path = head.split(b" ")[1].decode()
        if fault == "late" and lucky:
            _until_gone(connection)
        inserted = 0
        if fault in ALWAYS_COUNTED or (fault in MAY_COUNT and (lucky or fault == "late")):
            inserted = self._count(path, records)
        self._pass("counted")
        keep = self._answer(connection, fault, path, inserted, share)
        self._pass("answered")
        if fault == "away":
            self._go_away(0.05 + 0.3 * share)
        return keep

    def _count(self, path: str, records: dict[str, dict]) -> int:
        """Count records, and return how many of them: transactions that are known are not new."""
        with self._changed:
            new = [one for one in records if path != TRACES or not self.counted[one]]
            self.counted.update(new)
            for one in new:
                self.sums.update(measures(records[one]))
        return len(new)

    def _answer(
        self, connection: socket.socket, fault: str, path: str, inserted: int, share: float
    ) -> bool:
        """Answer as the fault wants it; tell whether the connection stays open."""
        success = {"inserted_count": inserted} if path == TRACES else None
        good = _message(_SUCCESS[path], success, keep=share < 0.5)
        if fault == "normal":
            connection.sendall(good)
            return share < 0.5
        if fault == "away":
            connection.sendall(_message(_SUCCESS[path], success))
        elif fault in ("silent", "late"):
            _until_gone(connection)
            if fault == "late":
                connection.sendall(good)
        elif fault.startswith("reset"):
            if fault == "reset in the answer":
                connection.sendall(good[: 1 + int(share * (len(good) - 1))])
            _reset(connection)
        elif fault == "garbage":
            connection.sendall(b"\x00\xffSSH-2.0-garbage\r\n\r\n")
        elif fault == "other success":
            connection.sendall(_message(_NOT_DOCUMENTED[path], None))
        else:
            extra = {"429": "Retry-After: 0", "307": f"Location: {self.url}{path}"}.get(fault)
            connection.sendall(_message(int(fault), None, extra))
        return False

    def _go_away(self, seconds: float) -> None:
        """Refuse connections for a while.

        The socket keeps its port while it does not listen, so nobody else can take it.
        """
        with self._changed:
            if not self._open:
                return
            self._open = False
            self._listener.shutdown(socket.SHUT_RDWR)
        self._closed.wait(seconds)
        with self._changed:
            self._listener.listen(64)
            self._open = True
            self._changed.notify_all()

    def _pass(self, stage: str) -> None:
        action = None
        with self._changed:
            if self._trigger is not None and self._trigger[0] == stage:
                _, number, action = self._trigger
                self._trigger = None if number == 1 else (stage, number - 1, action)
                action = action if number == 1 else None
        if action is not None:
            action()


def _listener() -> socket.socket:
    """Return a listening socket that keeps its port while it is shut down.

    Linux lets go of a port that it chose itself, but not of one that was asked for by number.
    """
    with socket.socket() as chosen:
        chosen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        chosen.bind(("127.0.0.1", 0))
        return socket.create_server(chosen.getsockname(), backlog=64)


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Read a request's head; return it and the part of the body that came along."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b"", b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def _whole(connection: socket.socket, head: bytes, body: bytes) -> tuple[dict[str, str], bytes]:
    """Read the rest of a request; return its headers and body."""
    lines = (line.partition(": ") for line in head.decode().split("\r\n")[1:])
    headers = {name.lower(): value for name, _, value in lines}
    while len(body) < int(headers["content-length"]):
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        body += part
    return headers, body


def _message(status: int, body: object, extra: str | None = None, *, keep: bool = False) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(data)}"]
    if status == 204:
        lines.pop()
    if not keep:
        lines.append("Connection: close")
    if extra:
        lines.append(extra)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def _until_gone(connection: socket.socket) -> None:
    """Wait until the client hangs up, by its own time-out or because it was killed."""
    with suppress(ConnectionResetError):
        connection.recv(1)


def _reset(connection: socket.socket) -> None:
    """Make the connection end with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
