"""Is a host there? One connection and one request that reports nothing and carries no key.

What is sent to a host, and nothing else: a TCP connection, where a proxy is set a CONNECT to it, a TLS
handshake, and

    HEAD / HTTP/1.1
    Host: HOST
    User-Agent: airgap/VERSION
    Accept: */*
    Connection: close

Never another method, never another path, never a body; the answer's body is not read. A redirection
is not followed.
"""

import errno
import os
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx

from airgap import __version__
from airgap.errors import UsageError
from airgap.replay.transport import client, tls
from airgap.text import printable

PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
"""Variables that name proxies; curl's lower-case names count as well, and come first."""

Stage = Literal[
    "name",
    "refused",
    "route",
    "timeout",
    "certificate name",
    "authority",
    "expired",
    "not yet valid",
    "tls",
    "proxy login",
    "proxy",
    "answer",
]
"""How far a connection came before it failed."""

_CERTIFICATE: Mapping[int, Stage] = {
    9: "not yet valid",
    10: "expired",
    18: "authority",
    19: "authority",
    20: "authority",
    21: "authority",
    62: "certificate name",
    64: "certificate name",
}
"""Stages by OpenSSL's X509_V_ERR numbers (x509_vfy.h)."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A host that answered.

    Args:
        proxy: the proxy on the way, without its password, or None.
        status: the answer's HTTP status.
        date: its Date (RFC 9110 section 6.6.1), or None.
        elsewhere: the host that it redirects to, where that is another one.
        is_page: whether it is a web page, as those who ask for a login first answer with.
    """

    proxy: str | None
    status: int
    date: datetime | None
    elsewhere: str | None
    is_page: bool


@dataclass(frozen=True, slots=True)
class Unreached:
    """A host that could not be reached.

    Args:
        proxy: the proxy on the way, without its password, or None.
        stage: what failed.
        said: the failure in the library's words, without credentials.
    """

    proxy: str | None
    stage: Stage
    said: str


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority whose certificates are accepted: its name, and until when."""

    name: str
    ends: datetime


def probe(url: str, *, timeout: float, ca_file: Path | None) -> Reached | Unreached:
    """Ask whether a host is there; see the module.

    Args:
        url: a base URL; of it only scheme, host and port are used.
        timeout: seconds for connecting, and for the answer.
        ca_file: see ``transport.tls``.

    Raises:
        UsageError: the proxy settings or the certificate authorities can't be used.
    """
    parts = urlsplit(url)
    proxy = proxy_for(url)
    headers = {
        "User-Agent": f"airgap/{__version__}",
        "Accept": "*/*",
        "Connection": "close",
    }
    with client(timeout=timeout, in_flight=1, context=tls(ca_file), headers=headers) as session:
        del session.headers["Accept-Encoding"]
        try:
            with session.stream("HEAD", f"{parts.scheme}://{parts.netloc}/") as response:
                return _reached(response, parts.hostname or "", proxy)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Unreached(proxy, _stage(error), _words(error))


def proxy_for(url: str) -> str | None:
    """Return the proxy that a URL is reached through, masked, or None; by the variables alone."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("127.0.0.1", "localhost", "::1"):
        return None
    if urllib.request.proxy_bypass(host):
        return None
    there = urllib.request.getproxies()
    found = there.get(parts.scheme) or there.get("all")
    return masked(found) if found else None


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name proxies, masked, and NO_PROXY."""
    found: dict[str, str] = {}
    for name in (*PROXY_VARIABLES, "NO_PROXY"):
        for variable in (name.lower(), name):
            if value := environment.get(variable):
                found[variable] = masked(value) if name != "NO_PROXY" else printable(value, 300)
    return found


def masked(url: str) -> str:
    """Return a proxy's URL without user and password."""
    scheme, mark, rest = url.rpartition("://")
    _, at, host = rest.rpartition("@")
    return printable(f"{scheme}{mark}{'***@' if at else ''}{host}", 300)


def check_proxies() -> None:
    """Check that the variables can be used.

    Raises:
        UsageError: they can't.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client(timeout=1, in_flight=1, context=context, headers={}).close()
    for name in PROXY_VARIABLES:
        for variable in (name.lower(), name):
            value = os.environ.get(variable, "")
            parts = urlsplit(value if "://" in value else f"http://{value}")
            if value and not parts.hostname:
                raise UsageError(
                    f"the proxy settings can't be used: {variable} names no host",
                    found=masked(value),
                    hint="look at HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY",
                )


def authorities(ca_file: Path | None) -> tuple[str | None, list[Authority], int]:
    """Return where certificate authorities come from, which there are, and how many certificates are none.

    Args:
        ca_file: see ``transport.tls``.

    Returns:
        The file, or None for the system's; the authorities; other certificates in the file.

    Raises:
        UsageError: they can't be read.
    """
    variables = (os.environ.get("SSL_CERT_FILE"), os.environ.get("REQUESTS_CA_BUNDLE"))
    chosen = str(ca_file) if ca_file is not None else next(filter(None, variables), None)
    context = tls(ca_file)
    found: list[Authority] = []
    for certificate in context.get_ca_certs():
        names = [value for part in _rdns(certificate) for _, value in part]
        seconds = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        found.append(
            Authority(printable(names[-1] if names else "?"), datetime.fromtimestamp(seconds, UTC))
        )
    return chosen, found, context.cert_store_stats()["x509"] - len(found)


def library() -> str:
    """Return the versions of the HTTP client and of the TLS library that it uses."""
    return f"httpx {httpx.__version__}, {ssl.OPENSSL_VERSION}"


def _rdns(certificate: Mapping[str, object]) -> tuple[tuple[tuple[str, str], ...], ...]:
    subject = certificate.get("subject", ())
    assert isinstance(subject, tuple)
    return subject


def _reached(response: httpx.Response, host: str, proxy: str | None) -> Reached:
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
    except (ValueError, TypeError, OverflowError):
        date = None
    elsewhere = None
    if 300 <= response.status_code < 400:
        try:
            target = urlsplit(response.headers.get("Location", "")).hostname
        except ValueError:
            target = "no host"
        elsewhere = printable(target) if target and target != host else None
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_page = response.status_code == 511 or (response.is_success and kind == "text/html")
    return Reached(proxy, response.status_code, date, elsewhere, is_page)


def _stage(error: BaseException) -> Stage:
    """Return how far a connection came, by the first cause that tells."""
    for one in _causes(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return _CERTIFICATE.get(one.verify_code, "tls")
        if isinstance(one, ssl.SSLError):
            return "tls"
        if isinstance(one, socket.gaierror):
            return "name"
        if isinstance(one, ConnectionRefusedError):
            return "refused"
        if isinstance(one, TimeoutError | httpx.TimeoutException):
            return "timeout"
        if isinstance(one, httpx.ProxyError):
            return "proxy login" if str(one).startswith("407") else "proxy"
        if isinstance(one, OSError) and one.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return "route"
    return "answer"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, the innermost first."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    yield from reversed(found)


def _words(error: BaseException) -> str:
    lines = str(error).splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, 200)
