"""The real LangGraph server as a subprocess, and what stands between it and the capture endpoint."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
from support import API_KEY, REPOSITORY

HERE = Path(__file__).parent / "langgraph"
PYTHON = REPOSITORY / ".langgraph" / "bin" / "python"
INTERVAL = 0.3
"""Seconds between the server's reports; its own default is 300."""
NODES = 3
"""Nodes of the graph, each executed once in a run."""

needs_server = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="the LangGraph server is not installed: python3 -m venv .langgraph && "
    ".langgraph/bin/pip install --require-hashes --no-deps -r tests/langgraph/requirements.lock",
)


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """A running server; ``runs`` counts what was made."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.runs = 0

    def make(self, count: int, text: str = "x") -> None:
        """Make runs, all at once, and wait for each."""

        def one(_: int) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            body = json.dumps({"assistant_id": "tiny", "input": {"text": text}})
            connection.request("POST", "/runs/wait", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert json.loads(answer.read()) == {"text": f"{text}..."}
            connection.close()
            return answer.status

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(one, range(count))) == {200}
        self.runs += count


@contextlib.contextmanager
def langgraph(endpoint: str, **environment: str) -> Iterator[Server]:
    """Run the server; it reports to ``endpoint`` and reaches nothing else."""
    port, folder = free_port(), tempfile.mkdtemp()  # it leaves files where it was started
    nowhere = "http://127.0.0.1:9"
    process = subprocess.Popen(
        [PYTHON, HERE / "launch.py", str(port), str(INTERVAL)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "LANGSMITH_CONTROL_PLANE_API_KEY": API_KEY,
            "LANGSMITH_AUTH_ENDPOINT": endpoint,
            "LANGSMITH_TRACING": "false",
            "LANGGRAPH_NO_VERSION_CHECK": "true",  # else it asks a package index
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), nowhere),
            "NO_PROXY": "127.0.0.1,localhost",
            **environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        until(lambda: _is_up(port), "the LangGraph server")
        yield Server(port)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ok")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Between:
    """A TCP proxy on loopback that can hold answers back, or lose them."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.lose = False
        """Whether the connection ends before an answer gets back."""
        self.delay = 0.0
        """Seconds before an answer gets back."""
        self.lost = 0
        self.sent = b""
        """What went to the endpoint."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: Any) -> None:
        with contextlib.suppress(OSError), client:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            with server:
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                while data := server.recv(65536):
                    if self.lose:
                        self.lost += 1
                        # Closing alone ends nothing while the other thread reads.
                        client.shutdown(socket.SHUT_RDWR)
                        return
                    time.sleep(self.delay)
                    client.sendall(data)

    def _forward(self, client: Any, server: Any) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                self.sent += data
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
