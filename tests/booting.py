"""A real systemd as process 1 of namespaces of its own, with airgap installed and its examples in place."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

import releasing
from support import REPOSITORY

SYSTEMD = Path("/lib/systemd/systemd")
SCRIPT = REPOSITORY / "tests" / "booted.sh"
EXAMPLES = REPOSITORY / "airgap" / "examples" / "systemd"
PASSPHRASE = "battery staple"
HOME = Path("/var/lib/airgap")
NAMESPACES = ("-m", "-p", "-u", "-i", "-C", "-n")


def no_systemd() -> str:
    """Return why no systemd can be booted here, or nothing."""
    if os.getuid() != 0:
        return "only root can boot a systemd in namespaces"
    if not SYSTEMD.exists() or shutil.which("systemd-sysusers") is None:
        return "systemd is missing: apt-get install systemd"
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return "unshare is missing: apt-get install util-linux"
    if not releasing.host_version():
        return f"{releasing.HOST_PYTHON} is none that airgap runs on: a service sees no other one"
    script = (
        "mount --make-rprivate /; mount -t cgroup2 none /sys/fs/cgroup; mount -t tmpfs none /run;"
        "mkdir /run/u /run/w; mount -t overlay none -o lowerdir=/etc,upperdir=/run/u,workdir=/run/w /etc"
    )
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "-f", "--mount-proc", "sh", "-ec", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"namespaces or overlays are not to be had: {tried.stderr}" if tried.returncode else ""


class Booted:
    """The system; use it as a context.

    Args:
        installed: what is to be in /opt.
        scratch: an empty folder of this test, with a short name: it holds a socket.
    """

    def __init__(self, installed: releasing.Installed, scratch: Path) -> None:
        self._installed, self._scratch = installed, scratch

    def __enter__(self) -> Self:
        notify = self._scratch / "notify"
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
            (self._scratch / "log").open("wb") as log,
        ):
            told.bind(str(notify))
            self._process = subprocess.Popen(
                ["unshare", *NAMESPACES, "-f", "--mount-proc", "--kill-child", SCRIPT,
                 self._installed.opt, notify],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                self._await(told)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _await(self, told: socket.socket) -> None:
        """Wait until systemd says that it is ready, as it says to whoever runs it (man 3 sd_notify)."""
        ended = os.pidfd_open(self._process.pid)
        with contextlib.closing(os.fdopen(ended)):
            while True:
                ready, _, _ = select.select([told, ended], [], [], 120)
                if told not in ready:
                    raise AssertionError((self._scratch / "log").read_text())
                if b"READY=1" in told.recv(65536):
                    return

    def words(self, *words: object) -> list[str]:
        """Return a command that runs another one in the system."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        first = children.read_text().split()[0]
        return ["nsenter", "-t", first, *NAMESPACES, *map(str, words)]

    def run(self, *words: object, code: int | None = 0) -> str:
        """Run a command in the system and return what it prints; None takes any status."""
        done = subprocess.run(
            self.words(*words), capture_output=True, text=True, check=False, timeout=120
        )
        assert code is None or done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout

    def airgap(self, *words: object, code: int | None = 0) -> str:
        """Run airgap as its user."""
        return self.run(*self.as_user(*words), code=code)

    def as_user(self, *words: object) -> tuple[object, ...]:
        """Return the words that run airgap as its user."""
        environment = (f"AIRGAP_HOME={HOME}", f"AIRGAP_PASSPHRASE={PASSPHRASE}")
        return (
            "runuser",
            "-u",
            "airgap",
            "--",
            "env",
            *environment,
            "/opt/airgap/bin/airgap",
            *words,
        )

    def shown(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def heard(self, text: str, *which: object) -> str:
        """Wait until the journal is told something, and return that line; ``which`` as journalctl has it."""
        words = ("timeout", "120", "journalctl", "--follow", "--no-tail", "-q", "-o", "cat", *which)
        with subprocess.Popen(self.words(*words), stdout=subprocess.PIPE, text=True) as journal:
            assert journal.stdout is not None
            line = next((one for one in journal.stdout if text in one), None)
            journal.terminate()
        assert line is not None, f"nobody told {text}"
        return line

    def write(self, path: str, text: str) -> None:
        """Write a file in the system."""
        subprocess.run(
            self.words("sh", "-c", 'mkdir -p "$(dirname "$0")" && cat > "$0"', path),
            input=text, text=True, check=True,
        )  # fmt: skip

    def plug_in(self, stick: Path) -> None:
        """Mount a folder as the stick, so that airgap's user may write to it."""
        stick.chmod(0o777)
        self.run("mount", "--bind", stick, "/media/stick")
