"""The way to the beacon as the environment has it: certificate authorities, and proxies."""

import os
import ssl
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

from airgap.errors import UsageError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class Authorities:
    """Whose certificates are accepted: a PEM file, a folder as OpenSSL reads it, or both."""

    file: str | None
    folder: str | None


def chosen_authorities(ca_file: Path | None) -> str | None:
    """Return the file of certificate authorities that was chosen, or None for the system's.

    Args:
        ca_file: what a flag says; None: SSL_CERT_FILE or REQUESTS_CA_BUNDLE.
    """
    if ca_file is not None:
        return str(ca_file)
    return os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")


def tls(ca_file: Path | None) -> ssl.SSLContext:
    """Return whose certificates are accepted, as Python knows them.

    Args:
        ca_file: see ``chosen_authorities``.

    Raises:
        UsageError: they can't be read.
    """
    chosen = chosen_authorities(ca_file)
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
        context.load_verify_locations(_certifi())
    return context


def authorities(ca_file: Path | None) -> Authorities:
    """Return where the HTTP client finds whose certificates are accepted.

    Args:
        ca_file: see ``chosen_authorities``.

    Raises:
        UsageError: they can't be read.
    """
    chosen = chosen_authorities(ca_file)
    if chosen is not None:
        tls(ca_file)
        return Authorities(chosen, None)
    return _of_system(ssl.get_default_verify_paths())


@cache
def _of_system(paths: ssl.DefaultVerifyPaths) -> Authorities:
    """Return where the system's are; read once, for that takes longer than all else of a client."""
    # Python's OpenSSL knows where this system keeps them; the client's own was built elsewhere.
    loaded = paths.cafile is not None and tls(None).get_ca_certs()
    return Authorities(paths.cafile if loaded else _certifi(), paths.capath)


def proxy_of(url: str) -> str | None:
    """Return the proxy that a URL is reached through, credentials included, or None.

    HTTPS_PROXY, HTTP_PROXY and ALL_PROXY count, and NO_PROXY; curl's lower-case names come first.
    This machine itself is never reached through a proxy.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    there = urllib.request.getproxies()
    found = there.get(parts.scheme) or there.get("all")
    return _whole(found) if found else None


def check_proxies() -> None:
    """Check that the proxy settings can be used, whichever is needed.

    Raises:
        UsageError: they can't.
    """
    for name, value in urllib.request.getproxies().items():
        if name not in ("http", "https", "all"):
            continue
        problem = _problem(_whole(value))
        if problem is not None:
            raise UsageError(
                f"the proxy settings can't be used: {name.upper()}_PROXY {problem}",
                hint="look at HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY: "
                "airgap doctor shows which are set",
            )


def _problem(url: str) -> str | None:
    """Return what is wrong with a proxy's URL, or None; never a part that may be a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "has a port that is no number from 0 to 65535"
    if parts.scheme not in _SCHEMES:
        return f"begins with none of {', '.join(_SCHEMES)}"
    return None if parts.hostname else "names no host"


def _whole(url: str) -> str:
    return url if "://" in url else f"http://{url}"


def _certifi() -> str:
    import certifi

    return certifi.where()
