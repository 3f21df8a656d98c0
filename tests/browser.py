"""A real Chromium for pages: opens a file, takes pictures, prints, and asks axe-core for findings.

It is driven by its DevTools protocol over two pipes (``--remote-debugging-pipe``), so that nothing
but Chromium is needed, and no port is opened:

    with Browser() as browser:
        page = browser.open(path, width=1280, dark=False)
        page.screenshot(file)
        page.print_to(file)
        page.axe()                      what axe-core finds: a list of lines, empty where nothing

``needs_browser`` and ``needs_axe`` mark tests that skip, and say why, where either is missing.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is missing: apt-get install chromium"
)
_SECONDS = 60


AXE = Path(__file__).resolve().parents[1] / ".axe" / "axe_playwright_python" / "axe.min.js"
"""axe-core's script, in the package that carries it; the package itself is not used."""

needs_axe = pytest.mark.skipif(
    CHROMIUM is None or not AXE.is_file(),
    reason="Chromium or axe-core is missing: apt-get install chromium, and "
    "pip install --require-hashes --no-deps --target .axe -r tests/axe/requirements.lock",
)


class Page:
    """One open page."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser = browser
        self._session = session
        self.requests: list[str] = []
        """Addresses that the page asked for, itself included."""

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.send(method, parameters, self._session)

    def evaluate(self, expression: str) -> Any:
        """Return what an expression gives, once its promise is kept."""
        found = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        made = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))

    def print_to(self, path: Path) -> None:
        """Print the page on A4, as its style sheet says."""
        self.on_paper()
        made = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(made["data"]))

    def on_paper(self) -> None:
        """Show the page as it would be printed."""
        self.send("Emulation.setEmulatedMedia", media="print", features=[])

    def axe(self) -> list[str]:
        """Return what axe-core finds against it, a line each."""
        if self.evaluate("typeof axe") == "undefined":
            self.evaluate(AXE.read_text() + ";0")
        found = self.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true);"
            "axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(r => "
            "[...r.violations.map(v => ['found', v]), ...r.incomplete.map(v => ['unsure', v])]"
            # Of what is scrolled out of sight axe can't see the ground; a wide window shows it all.
            ".filter(([how, v]) => how == 'found' || v.id != 'color-contrast')"
            ".map(([how, v]) => `${how}: ${v.id}: ${v.help}: ${v.nodes.length}: ${v.nodes[0].html}`))"
        )
        return [str(line) for line in found]


class Browser:
    """A Chromium without windows, network or profile, for as long as the block lasts."""

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        reads_here, writes_there = os.pipe()
        reads_there, writes_here = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        script = f'exec 3<&{reads_there} 4>&{writes_there}; exec "$0" "$@"'
        self._process = subprocess.Popen(
            [
                "/bin/bash", "-c", script, CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
                "--remote-debugging-pipe", f"--user-data-dir={self._folder.name}", "--no-first-run",
                "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
                "--force-color-profile=srgb", "--hide-scrollbars", "--disable-dev-shm-usage",
            ],
            pass_fds=(reads_there, writes_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reads_there)
        os.close(writes_there)
        self._in, self._out = os.fdopen(reads_here, "rb"), os.fdopen(writes_here, "wb")
        self._number, self._buffer = 0, b""
        self._pages: dict[str, Page] = {}
        self._loaded: set[str] = set()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.send("Browser.close", {})
        for stream in (self._in, self._out):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def open(self, path: Path, *, width: int = 1280, dark: bool = False) -> Page:
        """Return a file's page once it is loaded.

        Args:
            path: the file.
            width: of the window, in CSS pixels; 900 high, a phone's where it is under 600.
            dark: whether the reader wants it dark.
        """
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = self._pages[session["sessionId"]] = Page(self, session["sessionId"])
        for domain in ("Page", "Network", "Runtime"):
            page.send(f"{domain}.enable")
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self._loaded.discard(session["sessionId"])
        page.send("Page.navigate", url=path.resolve().as_uri())
        while session["sessionId"] not in self._loaded:
            self._note(self._next())
        return page

    def send(self, method: str, parameters: dict[str, Any], session: str | None = None) -> Any:
        """Send a command and return its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        session = event.get("sessionId", "")
        if event.get("method") == "Page.loadEventFired":
            self._loaded.add(session)
        if event.get("method") == "Network.requestWillBeSent" and session in self._pages:
            self._pages[session].requests.append(event["params"]["request"]["url"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._in.fileno(), 1 << 20)
            assert data, "Chromium ended"
            self._buffer += data
        one, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(one)
