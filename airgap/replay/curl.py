"""libcurl's handles, through PycURL, as every request of airgap's leaves by them.

It was measured to take a tenth of httpx's time per request (``tests/benchmarks``). It follows no
redirection, and uses no proxy, netrc file or cookie, but by these options.
"""

import re
from typing import Any

import pycurl

from airgap.replay import network
from airgap.replay.network import Authorities

# A connection that lay idle longer may be closed by the server just as a request leaves, which
# would leave doubt; a new connection costs less than a doubt. In whole seconds.
_KEEP_ALIVE_SECONDS = 2
_UNSAFE = re.compile(r"[^\t -~]")
_TIMES = re.compile(r" after \d+ (?:ms|milliseconds|s|seconds)\b")
CURLE_PROXY = 97
"""For which PycURL has no name."""


class UnsendableError(Exception):
    """A request that is none; its words are for people."""


def new_handle(timeout: float, authorities: Authorities) -> Any:
    """Return a handle.

    Args:
        timeout: seconds for connecting, proxy and TLS included.
        authorities: whose certificates are accepted.
    """
    handle = pycurl.Curl()
    for option, value in _options(timeout, authorities).items():
        handle.setopt(option, value)
    return handle


def aim(handle: Any, url: str) -> str | None:
    """Let a handle's requests go to a URL; return the proxy on the way, credentials included, or None.

    Raises:
        UnsendableError: it is no URL of HTTP.
    """
    if _UNSAFE.search(url) or not url.startswith(("http://", "https://")):
        raise UnsendableError("InvalidURL")
    proxy = network.proxy_of(url)
    handle.setopt(pycurl.URL, url)
    # Empty, and not left out: libcurl would look into the environment by rules of its own.
    handle.setopt(pycurl.PROXY, proxy or "")
    return proxy


def set_headers(handle: Any, lines: list[str]) -> None:
    """Set a request's headers.

    Raises:
        UnsendableError: one would be two, or is not ASCII.
    """
    if _UNSAFE.search("".join(lines)):
        raise UnsendableError("LocalProtocolError")
    handle.setopt(pycurl.HTTPHEADER, lines)


def header(lines: list[bytes], name: bytes) -> str | None:
    """Return a header of an answer, or None; one that interim answers had does not count.

    Args:
        lines: all lines that came, as libcurl hands them over.
        name: in lower case.
    """
    found = None
    # Most answers have none of those that are asked for.
    for line in lines if name in b"".join(lines).lower() else ():
        if line.startswith(b"HTTP/"):
            found = None
        elif line[: len(name) + 1].lower() == name + b":":
            found = line[len(name) + 1 :].strip().decode("latin-1")
    return found


def plain(words: str) -> str:
    """Return libcurl's words of a failure without how long it took, so that alike are alike."""
    return _TIMES.sub("", words)


def _options(timeout: float, authorities: Authorities) -> dict[int, Any]:
    milliseconds = max(1, round(timeout * 1000))
    options: dict[int, Any] = {
        pycurl.NOSIGNAL: 1,
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.FOLLOWLOCATION: 0,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.CONNECTTIMEOUT_MS: milliseconds,
        pycurl.MAXAGE_CONN: _KEEP_ALIVE_SECONDS,
        pycurl.TCP_NODELAY: 1,
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        pycurl.NOPROXY: "",
        pycurl.PROXYAUTH: pycurl.HTTPAUTH_BASIC,
        # What is for the beacon is not for a proxy.
        pycurl.HEADEROPT: pycurl.HEADER_SEPARATE,
        pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
        pycurl.SSL_VERIFYPEER: 1,
        pycurl.SSL_VERIFYHOST: 2,
        pycurl.PROXY_SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
        pycurl.PROXY_SSL_VERIFYPEER: 1,
        pycurl.PROXY_SSL_VERIFYHOST: 2,
    }
    if authorities.file is not None:
        options |= {pycurl.CAINFO: authorities.file, pycurl.PROXY_CAINFO: authorities.file}
    if authorities.folder is not None:
        options |= {pycurl.CAPATH: authorities.folder, pycurl.PROXY_CAPATH: authorities.folder}
    return options
