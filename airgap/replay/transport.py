"""HTTP: one request out, one bounded answer back, and whether a failure leaves doubt."""

import os
import ssl
from email.utils import parsedate_to_datetime
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Self

import httpx

from airgap.errors import UsageError
from airgap.replay.answers import Answer, DoubtfulError, NotSentError
from airgap.replay.requests import Request
from airgap.timestamps import Clock

_MAX_ANSWER = 1024**2
# A connection that lay idle longer may be closed by the server just as a request leaves, which
# would leave doubt; a new connection costs less than a doubt.
_KEEP_ALIVE_SECONDS = 2.0


class HttpTransport:
    """HTTP with httpx. Redirects are never followed: they would carry a key elsewhere.

    Args:
        timeout: seconds for connecting, and between bytes of an answer.
        in_flight: most connections.
        ca_file: PEM file of certificate authorities; None: SSL_CERT_FILE, REQUESTS_CA_BUNDLE,
            or the system's.
        clock: for Retry-After dates.
    """

    def __init__(
        self, *, timeout: float, in_flight: int, ca_file: Path | None, clock: Clock
    ) -> None:
        self._clock = clock
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self._client = client(
            timeout=timeout, in_flight=in_flight, context=tls(ca_file), headers=headers
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def send(self, request: Request) -> Answer:
        """See ``Transport``."""
        try:
            with self._client.stream(
                "POST", request.url, headers=dict(request.headers), content=request.body
            ) as response:
                return Answer(
                    response.status_code,
                    _bounded(response),
                    self._retry_after(response.headers.get("Retry-After")),
                )
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
        ) as error:
            raise NotSentError(_reason(error)) from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError) as error:
            raise NotSentError(type(error).__name__) from None
        except httpx.HTTPError as error:
            # Not its words: they may repeat what the server said.
            raise DoubtfulError(type(error).__name__) from None

    def _retry_after(self, value: str | None) -> float | None:
        """Return Retry-After (RFC 9110 section 10.2.3) in seconds from now."""
        if value is None:
            return None
        if value.strip().isdecimal() and value.isascii():
            return float(min(int(value.strip()[:9]), 86_400))
        try:
            moment = parsedate_to_datetime(value)
            return max(0.0, (moment - self._clock()).total_seconds())
        except (ValueError, TypeError, OverflowError):
            return None


def client(
    *, timeout: float, in_flight: int, context: ssl.SSLContext, headers: dict[str, str]
) -> httpx.Client:
    """Return an HTTP client that uses the proxies of the environment, and follows no redirection.

    Args:
        timeout: seconds for connecting, and between bytes of an answer.
        in_flight: most connections.
        context: whose certificates are accepted; see ``tls``.
        headers: sent with each request.

    Raises:
        UsageError: the proxy settings can't be used.
    """
    try:
        return httpx.Client(
            verify=context,
            timeout=httpx.Timeout(timeout),
            limits=httpx.Limits(max_connections=in_flight, keepalive_expiry=_KEEP_ALIVE_SECONDS),
            follow_redirects=False,
            headers=headers,
            # This machine itself is never reached through a proxy.
            mounts=dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise UsageError(
            f"the proxy settings can't be used: {error}",
            hint="look at HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY: airgap doctor shows which are set",
        ) from None


def _bounded(response: httpx.Response) -> bytes:
    """Return the answer's body; one that is too large or compressed counts as not understood."""
    parts: list[bytes] = []
    size = 0
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return b""
    for part in response.iter_raw():
        size += len(part)
        if size > _MAX_ANSWER:
            return b""
        parts.append(part)
    return b"".join(parts)


def _reason(error: Exception) -> str:
    """Return the failure in words, without the request's URL, headers or body."""
    return (
        f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if str(error)
        else type(error).__name__
    )


def tls(ca_file: Path | None) -> ssl.SSLContext:
    """Return whose certificates are accepted.

    Args:
        ca_file: PEM file; None: SSL_CERT_FILE, REQUESTS_CA_BUNDLE, or the system's.

    Raises:
        UsageError: they can't be read.
    """
    chosen = (
        str(ca_file)
        if ca_file is not None
        else os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    )
    try:
        context = ssl.create_default_context(cafile=chosen)
    except (OSError, ssl.SSLError) as error:
        reason = str(error.reason or "not PEM") if isinstance(error, ssl.SSLError) else None
        raise UsageError(
            f"the certificate authorities can't be read: {reason or error.strerror}",
            where=str(chosen),
            expected="a PEM file of certificates",
            hint="correct --ca-file, SSL_CERT_FILE or REQUESTS_CA_BUNDLE; a certificate in DER becomes "
            f"PEM by: openssl x509 -inform der -in {quote(str(chosen))} -out FILE.pem",
        ) from None
    if chosen is None and not context.get_ca_certs():
        import certifi

        context.load_verify_locations(certifi.where())
    return context
