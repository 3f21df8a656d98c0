"""A database's connection URL as it may be shown and kept: no password, however it was written.

What an operator types may be no URL at all: a password with an ``@``, a ``/`` or a ``%`` of its own is
cut at another place than its owner thinks. So whatever could be a part of one is masked here, and what
libpq says about a URL that it can't read, which quotes the part it trips over, is never repeated.
"""

import re
from urllib.parse import unquote

from airgap.text import printable

SCHEMES = ("postgresql://", "postgres://")
_MASK = "***"
_SHOWN = frozenset(
    {"application_name", "connect_timeout", "dbname", "host", "hostaddr", "options", "port"}
    | {"service", "sslmode", "sslrootcert", "target_session_attrs", "user"}
)
_USER = re.compile(r"[^@/]*@")
_NOT_A_PORT = re.compile(r":[^,:]*[^,:0-9][^,]*")
_HOST_END = re.compile(r"[/#\\\s]")
_NAMED = re.compile(r"(?i)(pass(?:word|phrase|wd)?|pwd)(\s*[=:]\s*)('[^']*'|\"[^\"]*\"|\S+)")


def is_url(source: str) -> bool:
    """Tell whether a source is a connection URL (PostgreSQL manual, section 34.1.1.2)."""
    return source.startswith(SCHEMES)


def shown(url: str) -> str:
    """Return a URL without its password, and without whatever else is not known to be harmless."""
    scheme, user, place, query = _parts(url)
    name, colon, _ = user.partition(":")
    text = f"{scheme}://{name}{':' + _MASK if colon else ''}{'@' if user else ''}{_place(place)}"
    if query:
        text += "?" + "&".join(map(_parameter, query.split("&")))
    return printable(text, 300)


def bare(url: str) -> str:
    """Return a URL as it may be written down: shown, and without the mask where the user's password was."""
    return shown(url).replace(f":{_MASK}@", "@")


def host(url: str) -> str:
    """Return no more of a URL than its scheme, and the host and port to which it leads."""
    scheme, _, place, _ = _parts(url)
    return f"{scheme}://{_HOST_END.split(_place(place))[0]}"


def has_password(url: str) -> bool:
    """Tell whether a URL holds a password."""
    _, user, _, query = _parts(url)
    names = (unquote(part.partition("=")[0]).lower() for part in query.split("&"))
    return ":" in user or any(name in ("password", "sslpassword") for name in names)


def is_plain(url: str) -> bool:
    """Tell whether the URL has one meaning only: no ``@`` stands behind the user's."""
    rest = url.partition("://")[2]
    start = _USER.match(rest)
    return "@" not in rest[start.end() if start else 0 :].partition("?")[0]


def masked(text: str) -> str:
    """Return a text, perhaps another library's connection string, without what may be a password."""
    if "://" in text:
        return shown(text)
    return _NAMED.sub(rf"\1\2{_MASK}", text)


def _parts(url: str) -> tuple[str, str, str, str]:
    """Return scheme, user with password, host with path, and query.

    As libpq does: the user ends at the first ``@`` if no ``/`` comes before it. A later one shows that
    the password was not encoded, and then all before the last is taken for user and password.
    """
    scheme, _, rest = url.partition("://")
    start = _USER.match(rest)
    user = start[0][:-1] if start else ""
    place, _, query = rest[start.end() if start else 0 :].partition("?")
    if "@" in place:
        more, _, place = place.rpartition("@")
        user = f"{user}@{more}" if user else more
    return scheme, user, place, query


def _place(text: str) -> str:
    """Return host and path; in place of a port that is none, which may be a password, a mask."""
    hosts, slash, path = text.partition("/")
    if "[" not in hosts:
        hosts = _NOT_A_PORT.sub(f":{_MASK}", hosts)
    return hosts + slash + path


def _parameter(text: str) -> str:
    name, sign, _ = text.partition("=")
    if unquote(name).lower() in _SHOWN and not re.search("[;@]", text):
        return text
    return f"{name if sign else ''}{sign}{_MASK}"
