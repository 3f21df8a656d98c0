"""``airgap capture`` as a process."""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import forking
import httpx
from support import API_KEY, Site, run

_FIRST = datetime(2026, 1, 6, 0, 0, 0, 123456, tzinfo=UTC)


class Capture:
    """``airgap capture`` as a process, on one port however often it is started."""

    def __init__(self, site: Site, *options: object) -> None:
        self.site = site
        self.options = options
        self.port = 0
        self.said = ""
        self.process: forking.Started | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        """Whether it was started and not ended."""
        return self.process is not None

    def start(self) -> None:
        command = ["capture", "--home", self.site.isolated]
        command += ["--listen", f"127.0.0.1:{self.port}", *self.options]
        reading, writing = os.pipe()
        self.process = forking.shared().start(*command, out=writing, err=writing)
        os.close(writing)
        self.output = os.fdopen(reading)
        for line in self.output:
            self.said += line
            if found := re.search(r"Listening on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError(self.said)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        process = self.process
        assert process is not None
        process.send_signal(number)
        with self.output:
            self.said += self.output.read()
        self.process = None
        return process.wait()

    def waiting(self) -> dict[str, int]:
        """Return the sums that wait in the outbox."""
        report = self.site.status()["waiting"].get("usage_report")
        return {} if report is None else report["sums"]


@contextlib.contextmanager
def capture(site: Site, *options: object) -> Iterator[Capture]:
    """Run the capture endpoint."""
    one = Capture(site, *options)
    one.start()
    try:
        yield one
    finally:
        if one.runs:
            one.end(signal.SIGKILL)


def window(number: int, runs: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a made-up report as a LangGraph server sends it; each number starts at its own time."""
    return {
        "api_key": API_KEY,
        "from_timestamp": (_FIRST + timedelta(seconds=number)).isoformat(),
        "to_timestamp": "2026-12-31T00:00:00.5+00:00",
        "tags": {"langgraph.platform.host": "self-hosted"},
        "measures": {"langgraph.platform.runs": runs},
        "logs": [],
        **changes,
    }


def post(url: str, path: str, body: Any, **headers: str) -> httpx.Response:
    """Send a body as JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **headers}
    return httpx.post(url + path, content=content, headers=sent, timeout=30, trust_env=False)


def bundled(site: Site) -> list[dict[str, Any]]:
    """Export in the clear, and return the records of every bundle on the stick."""
    site.export("--compression", "none")
    found = []
    for path in sorted(site.stick.glob("*.airgap")):
        lines = run("cat", "--home", site.isolated, path).stdout.splitlines()
        found += [json.loads(line) for line in lines]
    return found
