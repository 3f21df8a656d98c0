"""Verification of one file in a process of its own, with limits on its memory and processor time.

Run as a script this is a fork server: a process that has all modules loaded and forks one child for
each order, so that a bound costs milliseconds. ``Bounded`` starts it and gives the orders. A child
that needs more processor time than it may is killed by the kernel; one that needs more memory gets
a MemoryError, which is no refusal.
"""

import json
import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from forking import Server

MEMORY = 256 * 1024**2
"""Bytes of address space that a file may cost, whatever it says of itself."""
SECONDS = 10
"""Seconds of processor time that it may cost."""


@dataclass(frozen=True)
class Verdict:
    """How a file fared: the error's class, exit status and words, or None where it was accepted."""

    error: str | None
    exit_code: int | None
    text: str


class Bounded(Server):
    """Gives orders to a fork server."""

    def __init__(self) -> None:
        super().__init__(__file__, 120)

    def ask(
        self, path: Path, how: str = "verify", memory: int = MEMORY, seconds: int = SECONDS
    ) -> Verdict:
        """Return what becomes of a file.

        Args:
            path: the file.
            how: ``verify``, by both kinds' functions with the golden files' keys; ``look``, as who
                asks not who signed: manifest and all elements; ``trust``: load it as a trust store;
                ``spend`` and ``spin``: take all memory, or all time.
            memory: bytes of address space.
            seconds: of processor time.
        """
        order = {"path": str(path), "how": how, "memory": memory, "seconds": seconds}
        self._control.send(json.dumps(order).encode())
        answer = json.loads(self._control.recv(65_536))
        if "killed" in answer:
            return Verdict(answer["killed"], None, "too much processor time")
        return Verdict(**answer)


def _serve(control: socket.socket) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from fuzz import recipes, targets

    # Everything that is loaded on first use is loaded now.
    for data in (*recipes.golden(), recipes.build(recipes.Recipe(3, b"\x80", b"\x80", ()))):
        targets.file(data)
    while order := control.recv(65_536):
        wanted = json.loads(order)
        child = os.fork()
        if child == 0:
            try:
                control.send(json.dumps(_limited(wanted)).encode())
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            control.send(json.dumps({"killed": name}).encode())


def _limited(order: dict[str, object]) -> dict[str, object]:
    from airgap.errors import AirgapError

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(str(order["memory"]))
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    seconds = int(str(order["seconds"]))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    try:
        _take(Path(str(order["path"])), str(order["how"]))
    except AirgapError as error:
        text = json.dumps(error.as_json())
        return {"error": type(error).__name__, "exit_code": error.exit_code, "text": text[:20_000]}
    except BaseException as error:  # noqa: BLE001 - it is said, and the test fails
        return {"error": type(error).__name__, "exit_code": None, "text": repr(error)[:2000]}
    return {"error": None, "exit_code": None, "text": ""}


def _take(path: Path, how: str) -> None:
    from fuzz import targets

    from airgap import verify
    from airgap.bundle import reader
    from airgap.trust import store

    if how == "trust":
        store.load(path, targets.SCHEMAS)
        return
    if how == "spend":
        bytearray(4 * MEMORY)
    while how == "spin":
        pass
    with path.open("rb") as stream:
        if how == "look":
            opened, manifest = verify.peek(stream, name="bounded", catalog=targets.SCHEMAS)
            for _ in reader.elements(opened, manifest):
                pass
            return
        check = verify.verify_receipt if path.suffix == ".receipt" else verify.verify_bundle
        check(stream, name="bounded", trust=targets.golden_trust(), catalog=targets.SCHEMAS)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        _serve(given)
