"""What systemd and a service agree on by environment: sockets handed over, and readiness told.

sd_listen_fds(3) and sd_notify(3) of systemd's manual; nothing of its library is needed.
"""

import contextlib
import os
import socket

_FIRST = 3


def sockets() -> list[socket.socket]:
    """Return the listening sockets that systemd has handed over, and forget about them."""
    count = os.environ.pop("LISTEN_FDS", "")
    process = os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal():
        return []
    found = [socket.socket(fileno=number) for number in range(_FIRST, _FIRST + int(count))]
    for one in found:
        os.set_inheritable(one.fileno(), False)
        one.setblocking(False)
    return found


def notify(state: str) -> None:
    """Tell systemd a state, for instance ``READY=1``, where it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(state.encode(), address)
