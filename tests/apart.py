"""Programs that want a whole machine, run apart from this one: namespaces and a control group of their own."""

import os
import secrets
import select
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "apart.sh"
NAMESPACES = ("-m", "-p", "-u", "-i", "-C", "-n")
_CLEAN = """
mount -t cgroup2 cgroup2 /mnt
find "/mnt/$0" -depth -type d -exec rmdir {} \\;
"""


class Apart:
    """A first process, and whatever it starts.

    Args:
        command: the first process; it has number 1, and when it ends so does everything else.
        options: of ``subprocess.Popen``.
    """

    def __init__(self, *command: object, **options: Any) -> None:
        self._group = f"airgap-test-{secrets.token_hex(4)}"
        self.process = subprocess.Popen(
            ["unshare", "-m", str(SCRIPT), self._group, *map(str, command)],
            **options,
        )

    def stop(self) -> None:
        """End everything, and take the control group away."""
        children = [] if self.process.poll() is not None else self._children()
        if children:
            # It is gone only when each process of its namespace is.
            first = os.pidfd_open(children[0])
            os.kill(children[0], signal.SIGKILL)
            select.select([first], [], [])
            os.close(first)
        self.process.kill()
        self.process.wait()
        subprocess.run(["unshare", "-m", "sh", "-ec", _CLEAN, self._group], check=True)

    def words(self, *words: object) -> list[str]:
        """Return a command that runs another one there."""
        return ["nsenter", "-t", str(self.first), *NAMESPACES, *map(str, words)]

    @property
    def first(self) -> int:
        """The first process' number here."""
        return self._children()[0]

    def run(self, *words: object, code: int | None = 0, stdin: str | None = None) -> str:
        """Run a command there and return what it prints; None takes any status."""
        done = subprocess.run(
            self.words(*words), input=stdin, capture_output=True, text=True, check=False, timeout=120
        )  # fmt: skip
        assert code is None or done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout

    def _children(self) -> list[int]:
        pid = self.process.pid
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def reason() -> str:
    """Return why nothing can be run so here, or nothing."""
    if os.getuid() != 0:
        return "only root can run a machine in namespaces"
    for name, package in (("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2")):
        if shutil.which(name) is None:
            return f"{name} is missing: apt-get install {package}"
    script = (
        "mount -t tmpfs none /run; mkdir /run/u /run/w;"
        "mount -t overlay none -o lowerdir=/etc,upperdir=/run/u,workdir=/run/w /etc"
    )
    tried = Apart("sh", "-ec", script, stderr=subprocess.PIPE, text=True)
    _, said = tried.process.communicate(timeout=60)
    tried.stop()
    return f"namespaces or overlays are not to be had: {said}" if tried.process.returncode else ""
