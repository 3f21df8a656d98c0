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
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pycurl

from airgap import __version__
from airgap.replay import curl, network
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
    # libcurl compares the host's name by itself, after all else was found right: not specified.
    1: "certificate name",
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
_STAGES: Mapping[int, Stage] = {
    pycurl.E_COULDNT_RESOLVE_HOST: "name",
    pycurl.E_COULDNT_RESOLVE_PROXY: "name",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
}


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
        ca_file: see ``network.chosen_authorities``.

    Raises:
        UsageError: the proxy settings or the certificate authorities can't be used.
    """
    parts = urlsplit(url)
    network.check_proxies()
    handle = curl.new_handle(timeout, network.authorities(ca_file))
    lines: list[bytes] = []
    handle.setopt(pycurl.NOBODY, 1)
    handle.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout * 2000)))
    handle.setopt(pycurl.HEADERFUNCTION, lines.append)
    curl.set_headers(
        handle, [f"User-Agent: airgap/{__version__}", "Accept: */*", "Connection: close"]
    )
    there = curl.aim(handle, f"{parts.scheme}://{parts.netloc}/")
    proxy = masked(there) if there else None
    try:
        handle.perform()
        return _reached(handle.getinfo(pycurl.RESPONSE_CODE), lines, parts.hostname or "", proxy)
    except pycurl.error as error:
        code, words = error.args
        return Unreached(proxy, _stage(handle, code), printable(curl.plain(words), 200))
    finally:
        handle.close()


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


def authorities(ca_file: Path | None) -> tuple[str | None, list[Authority], int]:
    """Return where certificate authorities come from, which there are, and how many certificates are none.

    Args:
        ca_file: see ``network.chosen_authorities``.

    Returns:
        The file, or None for the system's; the authorities; other certificates in the file.

    Raises:
        UsageError: they can't be read.
    """
    chosen = network.chosen_authorities(ca_file)
    context = network.tls(ca_file)
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
    return ", ".join(pycurl.version.split()[:3])


def _rdns(certificate: Mapping[str, object]) -> tuple[tuple[tuple[str, str], ...], ...]:
    subject = certificate.get("subject", ())
    assert isinstance(subject, tuple)
    return subject


def _reached(status: int, lines: list[bytes], host: str, proxy: str | None) -> Reached:
    try:
        date = parsedate_to_datetime(curl.header(lines, b"date") or "")
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
    except (ValueError, TypeError, OverflowError):
        date = None
    elsewhere = None
    if 300 <= status < 400:
        try:
            target = urlsplit(curl.header(lines, b"location") or "").hostname
        except ValueError:
            target = "no host"
        elsewhere = printable(target) if target and target != host else None
    kind = (curl.header(lines, b"content-type") or "").partition(";")[0].strip().lower()
    is_page = status == 511 or (200 <= status < 300 and kind == "text/html")
    return Reached(proxy, status, date, elsewhere, is_page)


def _stage(handle: Any, code: int) -> Stage:
    """Return how far a connection came, by libcurl's number of the failure."""
    tunnel = handle.getinfo(pycurl.HTTP_CONNECTCODE)
    if tunnel >= 300 or code == curl.CURLE_PROXY:
        return "proxy login" if tunnel == 407 else "proxy"
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        return _CERTIFICATE.get(handle.getinfo(pycurl.SSL_VERIFYRESULT), "tls")
    if code == pycurl.E_COULDNT_CONNECT:
        number = handle.getinfo(pycurl.OS_ERRNO)
        return "route" if number in (errno.ENETUNREACH, errno.EHOSTUNREACH) else "refused"
    return _STAGES.get(code, "answer")
