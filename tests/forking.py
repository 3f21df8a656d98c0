"""Airgap's command line in real processes that start in no time, and are killed with SIGKILL.

Run as a script this is a fork server: a process without threads that has all modules loaded and
forks one child per order. It is the child's parent, so the process id that it kills can't have
become another's. ``Forks`` starts it and gives the orders.
"""

import atexit
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_LONGEST = 60.0
"""Seconds after which a child is given up: the promise to end was broken."""
HUNG = 255


@dataclass(frozen=True)
class Kill:
    """When to send SIGKILL.

    Args:
        after: so many seconds after the start.
        call: at this system call...
        when: ...for so-manieth time, before it is carried out.
        delay: rather than kill there, hold each such call up for so many microseconds: a slow disk.
        error: rather than kill there, let that call and all later ones fail so: a broken disk.
    """

    after: float | None = None
    call: str | None = None
    when: int = 0
    delay: int = 0
    error: str = ""


class Server:
    """A fork server, and the socket by which it gets its orders.

    Args:
        script: what runs in it; its first argument is the socket's number.
        timeout: seconds after which an order was not answered.
    """

    def __init__(self, script: str, timeout: float) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(timeout)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, script, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()


class Started:
    """A command that runs in a process of its own; as ``subprocess.Popen`` has it."""

    def __init__(self, told: int) -> None:
        # The process that waits for it says its number, and how it ended.
        self._told = os.fdopen(told, "rb", buffering=0)
        self.pid = int.from_bytes(self._told.read(8), "big", signed=True)
        self._status: int | None = None

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._ended(timeout)
        assert status is not None, f"process {self.pid} goes on"
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self._status is None and select.select([self._told], [], [], timeout)[0]:
            self._status = int.from_bytes(self._told.read(8), "big", signed=True)
            self._told.close()
        return self._status


class Forks(Server):
    """Gives orders to a fork server, one at a time."""

    def __init__(self) -> None:
        super().__init__(__file__, _LONGEST + 30)
        self._number = 0
        self.peak = 0
        """Most memory that the last command had, in KiB: what it got from the server counts."""
        self.over = threading.Event()

    def run(self, *arguments: object, output: Path, kill: Kill | None = None) -> int:
        """Run a command in a new process; return its exit status, or minus the signal's number."""
        self._number += 1
        self.over.clear()
        kill = kill or Kill()
        order = {"run": self._number, "arguments": [*map(str, arguments)], "output": str(output)}
        order["environment"] = dict(os.environ)
        self._control.send(json.dumps({**order, **vars(kill)}).encode())
        status, self.peak = map(int, self._control.recv(100).split())
        self.over.set()
        assert status != HUNG, f"hung: {arguments}\n{output.read_text()}"
        return status

    def start(
        self, *arguments: object, out: int, err: int, environment: Mapping[str, str] | None = None
    ) -> Started:
        """Start a command that is not waited for, beside others; it writes to these descriptors."""
        order = {"start": True, "arguments": [*map(str, arguments)]}
        order["environment"] = {**os.environ, **(environment or {})}
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._control, [json.dumps(order).encode()], [out, err, writing])
        finally:
            os.close(writing)
        return Started(reading)

    def kill(self) -> None:
        """Kill the command that runs; may be called from any thread."""
        self._control.send(json.dumps({"kill": self._number}).encode())


@functools.cache
def shared() -> Forks:
    """Return a fork server for all tests of this process: airgap is loaded once."""
    server = Forks()
    atexit.register(server.__exit__)
    return server


def serve(control: socket.socket) -> None:
    """Carry out orders until the other side is gone."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 65536, 3)
        if not message:
            return
        order = json.loads(message)
        if "kill" in order:
            continue  # too late: that one has ended
        if "start" in order:
            _start(control, order, descriptors)
            continue
        threads = [*Path("/proc/self/task").iterdir()]
        assert len(threads) == 1, "a fork would copy one of several threads"
        ready, gate = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(gate)
            os.read(ready, 1)
            _command(control, order)
        os.close(ready)
        tracer = _trace(pid, order) if order["call"] else None
        os.close(gate)
        status, peak = _watch(control, pid, order)
        if tracer is not None:
            tracer.communicate(timeout=10)
        control.send(f"{status} {peak}".encode())


def _start(control: socket.socket, order: dict, descriptors: list[int]) -> None:
    """Start a command, and a process that waits for it."""
    out, err, told = descriptors
    if os.fork() == 0:
        control.close()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.dup2(out, 1)
            os.dup2(err, 2)
            _become(order)
        for descriptor in (out, err):
            os.close(descriptor)
        os.write(told, pid.to_bytes(8, "big"))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(told, status.to_bytes(8, "big", signed=True))
        os._exit(0)
    for descriptor in descriptors:
        os.close(descriptor)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass  # those that waited for one that has ended


def _command(control: socket.socket, order: dict) -> None:
    """Become the command, and end with its exit status."""
    control.close()
    file = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    _become(order)


def _become(order: dict) -> None:
    os.environ.clear()
    os.environ.update(order["environment"])
    become(order["arguments"])


def become(arguments: list[str]) -> None:
    """Run a command line in this process, a child, and end with its exit status."""
    from airgap.cli.main import main

    sys.argv = ["airgap", *arguments]
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        # Python would now clear memory away, which is most of a short command's time.
        os._exit(end.code)


def _trace(pid: int, order: dict) -> subprocess.Popen:
    """Let strace kill the process at a system call, or slow it down; return when it has hold of it."""
    call = order["call"]
    command = ["strace", "-f", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={call}"]
    fault = f"signal=SIGKILL:when={order['when']}"
    if order["delay"]:
        fault = f"delay_enter={order['delay']}"
    elif order["error"]:
        fault = f"error={order['error']}:when={order['when']}+"
    command += ["-e", f"inject={call}:{fault}"]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    line = tracer.stderr.readline()
    assert "attached" in line, line
    return tracer


def _watch(control: socket.socket, pid: int, order: dict) -> tuple[int, int]:
    """Wait for the process to end; kill it when it is time or the other side says so.

    Returns:
        Its exit status, or minus the signal's number, and the most memory that it had, in KiB.
    """
    descriptor = os.pidfd_open(pid)
    seconds = _LONGEST if order["after"] is None else order["after"]
    end, hung = time.monotonic() + seconds, False
    while True:
        left = max(0.0, end - time.monotonic())
        ready, _, _ = select.select([descriptor, control], [], [], left)
        if descriptor in ready:
            break
        if not ready:
            hung = order["after"] is None
            end = time.monotonic() + _LONGEST
            os.kill(pid, signal.SIGKILL)
            continue
        message = control.recv(100)
        if not message or json.loads(message)["kill"] == order["run"]:
            os.kill(pid, signal.SIGKILL)
            select.select([descriptor], [], [], _LONGEST)
    os.close(descriptor)
    _, ended, used = os.wait4(pid, 0)
    return HUNG if hung else os.waitstatus_to_exitcode(ended), used.ru_maxrss


def load() -> None:
    """Load all that a command loads when it comes to it, so that no child has to."""
    import jsonschema_rs  # noqa: F401
    import rich.progress
    import rich.table  # noqa: F401
    from support import every_command

    from airgap import catalog
    from airgap.cli import recording  # noqa: F401
    from airgap.pgsession import library
    from airgap.replay import network, transport  # noqa: F401

    list(every_command())
    library("a test")
    network.authorities(None)
    catalog.load().prepare()
    gc.freeze()  # so that children copy less of this process's memory


if __name__ == "__main__":
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
