"""HTTP: requests out, bounded answers back, and whether a failure leaves doubt."""

import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pycurl

from airgap.replay import network
from airgap.replay.answers import Answer, DoubtfulError, NotSentError, Outcome
from airgap.replay.curl import UnsendableError, header
from airgap.replay.exchange import MAX_ANSWER, Exchange
from airgap.replay.requests import Request
from airgap.timestamps import Clock

_LONGEST_WAIT = 0.25


class HttpTransport:
    """HTTP/1.1 with libcurl. Redirects are never followed: they would carry a key elsewhere.

    Args:
        timeout: seconds for connecting, and between bytes of an answer.
        in_flight: most connections that are kept.
        ca_file: PEM file of certificate authorities; None: SSL_CERT_FILE, REQUESTS_CA_BUNDLE,
            or the system's.
        clock: for Retry-After dates.

    Raises:
        UsageError: the proxy settings or the certificate authorities can't be used.
    """

    def __init__(
        self, *, timeout: float, in_flight: int, ca_file: Path | None, clock: Clock
    ) -> None:
        network.check_proxies()
        self._clock = clock
        self._timeout = timeout
        self._authorities = network.authorities(ca_file)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, in_flight)
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._idle: list[Exchange] = []
        self._flying: dict[int, Exchange] = {}
        self._by_handle: dict[Any, Exchange] = {}
        self._stillborn: list[tuple[int, Outcome]] = []
        self._look_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in tuple(self._flying):
            self.give_up(number)
        for exchange in self._by_handle.values():
            exchange.handle.close()
        self._multi.close()

    def send(self, request: Request) -> Answer:
        """Send one request and return the answer.

        Raises:
            NotSentError: the server saw nothing of it.
            DoubtfulError: the server may have seen it.
        """
        self.begin(-1, request)
        while not (landed := self.landed(_LONGEST_WAIT)):
            pass
        [(_, outcome)] = landed
        if isinstance(outcome, Answer):
            return outcome
        raise outcome

    def begin(self, flight: int, request: Request) -> None:
        """See ``Transport``."""
        exchange = self._idle.pop() if self._idle else self._new()
        try:
            exchange.load(flight, request)
        except (UnsendableError, pycurl.error) as error:
            self._idle.append(exchange)
            words = str(error) if isinstance(error, UnsendableError) else "InvalidURL"
            self._stillborn.append((flight, NotSentError(words)))
            return
        self._flying[flight] = exchange
        self._multi.add_handle(exchange.handle)

    def landed(self, seconds: float) -> list[tuple[int, Outcome]]:
        """See ``Transport``."""
        until = time.monotonic() + seconds
        while True:
            found, self._stillborn = self._stillborn, []
            self._multi.perform()
            self._take_answers(found)
            now = time.monotonic()
            if now >= self._look_at:
                self._take_overdue(now, found)
            if found or now >= until:
                return found
            pause = min(until - now, self._look_at - now, _LONGEST_WAIT)
            due = self._multi.timeout()
            if due >= 0:
                pause = min(pause, due / 1000)
            if pause > 0 and self._multi.select(pause) < 0:
                # Nothing to wait for yet, as while a name is resolved.
                time.sleep(min(pause, 0.001))

    def give_up(self, flight: int) -> None:
        """See ``Transport``."""
        self._put_back(self._flying[flight])

    def _new(self) -> Exchange:
        exchange = Exchange(self._timeout, self._authorities)
        self._by_handle[exchange.handle] = exchange
        return exchange

    def _put_back(self, exchange: Exchange) -> None:
        self._multi.remove_handle(exchange.handle)
        del self._flying[exchange.flight]
        self._idle.append(exchange)

    def _take_answers(self, found: list[tuple[int, Outcome]]) -> None:
        while True:
            queued, whole, broken = self._multi.info_read()
            for handle in whole:
                exchange = self._by_handle[handle]
                found.append((exchange.flight, self._answer(exchange)))
                self._put_back(exchange)
            for handle, code, words in broken:
                exchange = self._by_handle[handle]
                too_large = code == pycurl.E_WRITE_ERROR and exchange.size > MAX_ANSWER
                found.append(
                    (
                        exchange.flight,
                        self._answer(exchange) if too_large else exchange.failure(code, words),
                    )
                )
                self._put_back(exchange)
            if not queued:
                return

    def _take_overdue(self, now: float, found: list[tuple[int, Outcome]]) -> None:
        """Take what was silent for too long, and note when to look again."""
        self._look_at = now + min(self._timeout / 4, _LONGEST_WAIT)
        for exchange in tuple(self._flying.values()):
            # Libcurl itself bounds how long connecting takes.
            if exchange.silent_since(now) + self._timeout <= now and exchange.has_begun:
                found.append((exchange.flight, DoubtfulError("ReadTimeout")))
                self._put_back(exchange)

    def _answer(self, exchange: Exchange) -> Answer:
        """Return the answer; a body that is too large or compressed counts as not understood."""
        coding = (header(exchange.headers, b"content-encoding") or "identity").lower()
        understood = exchange.size <= MAX_ANSWER and coding == "identity"
        return Answer(
            exchange.handle.getinfo(pycurl.RESPONSE_CODE),
            b"".join(exchange.parts) if understood else b"",
            self._retry_after(header(exchange.headers, b"retry-after")),
        )

    def _retry_after(self, value: str | None) -> float | None:
        """Return Retry-After (RFC 9110 section 10.2.3) in seconds from now."""
        if value is None:
            return None
        if value.isdecimal() and value.isascii():
            return float(min(int(value[:9]), 86_400))
        try:
            moment = parsedate_to_datetime(value)
            return max(0.0, (moment - self._clock()).total_seconds())
        except (ValueError, TypeError, OverflowError):
            return None
