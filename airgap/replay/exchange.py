"""One request and its answer on one of libcurl's handles.

Where a connection that was kept alive breaks before the answer, libcurl would send the request again
by itself, which would count usage twice. So a body is handed to it once, in pieces, and there is no
way back to the beginning (``CURLOPT_SEEKFUNCTION`` is not set); a request without a body gets a
connection of its own.
"""

import os
from typing import Any, Final

import pycurl

from airgap.replay import curl
from airgap.replay.answers import DoubtfulError, NotSentError
from airgap.replay.network import Authorities
from airgap.replay.requests import Request

MAX_ANSWER = 1024**2
_FIXED = ("Accept: application/json", "Accept-Encoding: identity", "Expect:")
# The second is what a proxy that hangs up comes as.
_PROXY_ERRORS = (pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_RECV_ERROR, curl.CURLE_PROXY)


class Exchange:
    """One of libcurl's handles, and the request that it is at."""

    def __init__(self, timeout: float, authorities: Authorities) -> None:
        self.handle: Final[Any] = curl.new_handle(timeout, authorities)
        self.flight = 0
        self.parts: list[bytes] = []
        self.size = 0
        self.headers: list[bytes] = []
        self._seen = 0.0
        self._progress = (0, 0, 0)
        self._url = ""
        self._through_proxy = False
        self._body = b""
        self._given = 0
        self.handle.setopt(pycurl.POST, 1)
        self.handle.setopt(pycurl.READFUNCTION, self._give)
        self.handle.setopt(pycurl.WRITEFUNCTION, self._take)
        # Looked through once at the end: there is one call for each line.
        self.handle.setopt(pycurl.HEADERFUNCTION, self.headers.append)

    def load(self, flight: int, request: Request) -> None:
        """Prepare for a request.

        Raises:
            UnsendableError: it is none that HTTP could carry.
            pycurl.error: its URL is none.
        """
        handle = self.handle
        if request.url != self._url:
            self._url = ""
            self._through_proxy = curl.aim(handle, request.url) is not None
            self._url = request.url
        lines = [*_FIXED, *(f"{name}: {value}" for name, value in request.headers.items())]
        if "Content-Type" not in request.headers:
            lines.append("Content-Type:")  # none, and not the client's own
        curl.set_headers(handle, lines)
        handle.setopt(pycurl.POSTFIELDSIZE_LARGE, len(request.body))
        handle.setopt(pycurl.FRESH_CONNECT, not request.body)
        self.flight, self._body, self._given = flight, request.body, 0
        self.parts, self.size = [], 0
        self.headers.clear()
        self._seen = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether anything of the request may have left; what a proxy was asked for is not of it."""
        return self._given > 0 or self.handle.getinfo(pycurl.REQUEST_SIZE) > 0

    def failure(self, code: int, words: str) -> NotSentError | DoubtfulError:
        """Return what a failure means, without the request's URL, headers or body."""
        timed_out = code == pycurl.E_OPERATION_TIMEDOUT
        if self.has_begun:
            # Not its words: they may repeat what the server said.
            return DoubtfulError("ReadTimeout" if timed_out else "RemoteProtocolError")
        refused = self.handle.getinfo(pycurl.HTTP_CONNECTCODE) >= 300
        if timed_out:
            name = "ConnectTimeout"
        elif self._through_proxy and (refused or code in _PROXY_ERRORS):
            name = "ProxyError"
        else:
            name = "ConnectError"
            if number := self.handle.getinfo(pycurl.OS_ERRNO):
                words = f"[Errno {number}] {os.strerror(number)}"
        return NotSentError(f"{name}: {curl.plain(words)}")

    def silent_since(self, now: float) -> float:
        """Return when something went or came last, to the interval at which this is asked."""
        progress = (self._given, len(self.headers), self.size)
        if not self._seen or progress != self._progress:
            self._seen, self._progress = now, progress
        return self._seen

    def _give(self, size: int) -> bytes | int:
        piece = self._body[self._given : self._given + size]
        if not piece:
            # All was given once, and nothing is given twice.
            return int(pycurl.READFUNC_ABORT)
        self._given += len(piece)
        return piece

    def _take(self, data: bytes) -> int:
        self.size += len(data)
        if self.size > MAX_ANSWER:
            self.parts = []
            return 0
        self.parts.append(data)
        return len(data)
