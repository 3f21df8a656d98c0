"""The two things that systemd and a service say to each other, without libsystemd.

Sources: sd_notify(3), sd_listen_fds(3).
"""

import os
import socket
from collections.abc import MutableMapping

from airgap.errors import UsageError

READY = "READY=1"
"""The service is up: its sockets listen."""

STOPPING = "STOPPING=1"
"""The service has begun to shut down."""

_FIRST = 3
"""SD_LISTEN_FDS_START: the file descriptor of the first socket."""


def notify(state: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Tell systemd the service's state; return whether somebody wanted to know and was told.

    Args:
        state: ``READY`` or ``STOPPING``.
        environ: where ``NOTIFY_SOCKET`` is looked up: a path, or ``@`` and an abstract name.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # Never wait: a service that hangs because its watcher does is worse than a lost note.
            sock.setblocking(False)
            sock.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def listening(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the sockets that systemd has opened for this process; none without activation.

    The variables are taken out of the environment, and the sockets are closed on exec, so that no
    child takes them for its own.

    Args:
        environ: where ``LISTEN_PID`` and ``LISTEN_FDS`` are looked up.

    Raises:
        UsageError: the variables are this process's, but there are no such sockets.
    """
    process, count = environ.get("LISTEN_PID"), environ.get("LISTEN_FDS", "")
    if process != str(os.getpid()):
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    found: list[socket.socket] = []
    try:
        # More than two digits is no number of sockets, and int() would be slow about some.
        if not (count.isascii() and count.isdecimal() and len(count) <= 2):
            raise ValueError
        for number in range(_FIRST, _FIRST + int(count)):
            os.set_inheritable(number, False)
            found.append(socket.socket(fileno=number))
    except (OSError, ValueError):
        for sock in found:
            sock.close()
        raise UsageError(
            "systemd's sockets can't be used",
            where="LISTEN_FDS",
            expected="a number of open sockets, from file descriptor 3 on",
            hint="look at the .socket unit, or start the command without it",
        ) from None
    return found
