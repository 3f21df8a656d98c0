"""The offline release, built and installed once for all tests of a run, whichever worker comes first."""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import podman
import pytest
import sandbox
from support import REPOSITORY

SCRIPT = REPOSITORY / ".ci" / "release"
SIGNER = "release@airgap.example"
EPOCH = "1767225600"
HOST_PYTHON = Path("/usr/bin/python3")
"""What the services and images of a host run, where home folders are hidden."""
PATHS = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
TARGET = Path("/opt/airgap")
"""Where it is installed, as the manuals and examples tell."""


@dataclass(frozen=True)
class Installed:
    """An installation that was made in a network namespace without any interface."""

    opt: Path
    """The folder that is /opt for whoever runs it."""

    def offline(
        self, *command: object, home: Path, loopback: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command without a network, and with nothing of this environment."""
        return offline(*command, home=home, loopback=loopback, opt=self.opt)


def offline(
    *command: object, home: Path, loopback: bool = False, opt: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command without a network, and with nothing of this environment."""
    first = "ip link set lo up && " if loopback else ""
    if opt:
        first += f"mount --bind '{opt}' /opt && "
    return subprocess.run(
        ["unshare", "-n", "-m", "env", "-i", PATHS, f"HOME={home}", "sh", "-c", f'{first}exec "$@"',
         "sh", *map(str, command)],
        capture_output=True, text=True, check=False, cwd=home,
    )  # fmt: skip


def made(folder: Path, *options: object) -> Path:
    """Build the release of the tree as it is, for this machine and its Pythons alone."""
    pythons = {".".join(map(str, sys.version_info[:2])), host_version()} - {""}
    done = subprocess.run(
        [
            *(sys.executable, SCRIPT, folder, "--dirty", "--platform", platform.machine()),
            *(word for one in sorted(pythons) for word in ("--python", one)),
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no package index is reached from here")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def host_version() -> str:
    """Return the version of the host's own Python, as 3.11; nothing where airgap can't run on it."""
    code = (
        "import sys, ssl, sqlite3, venv\n"
        "if (3, 11) <= sys.version_info < (3, 14): print('%d.%d' % sys.version_info[:2])"
    )
    if not HOST_PYTHON.exists():
        return ""
    done = subprocess.run([HOST_PYTHON, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that ``make`` has filled; the workers of a run share it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "release" / name
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(folder)
    return folder


@pytest.fixture(scope="session")
def release_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key to sign with that is thrown away."""
    words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", SIGNER, "-f")
    made_in = once(
        tmp_path_factory, "key", lambda folder: subprocess.run([*words, folder / "key"], check=True)
    )
    return made_in / "key"


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, release_key: Path) -> Path:
    folder = once(tmp_path_factory, "built", lambda folder: made(folder, "--key", release_key))
    [path] = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def unpacked(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def unpack(folder: Path) -> None:
        with tarfile.open(release) as tar:
            # Python 3.11.2 and 3.11.3 know no filter; it is what was made here.
            safe = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
            tar.extractall(folder, **safe)

    [top] = once(tmp_path_factory, "unpacked", unpack).iterdir()
    return top


@pytest.fixture(scope="session")
def installed(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    reason = sandbox.no_namespace() or sandbox.no_namespace("-m")
    if reason:
        pytest.skip(reason)

    def install(folder: Path) -> None:
        done = offline(
            # What a careful root has: others must be able to run it all the same.
            *("sh", "-c", 'umask 077; exec "$@"', "sh"),
            *(unpacked / "install.sh", TARGET, "--workstation", "--with", "capture,postgres"),
            *("--python", HOST_PYTHON if host_version() else sys.executable),
            home=unpacked.parent,
            opt=folder,
        )
        assert done.returncode == 0, done.stderr
        assert "install.sh: warning" not in done.stderr or not host_version()
        assert f"Installed airgap {version()} in {TARGET}" in done.stdout

    return Installed(once(tmp_path_factory, "installed", install))


@pytest.fixture(scope="session")
def images(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Podman's folder with the image airgap, for both sides at once: what a site builds apart is built by -m soak."""
    reason = podman.reason()
    if reason:
        pytest.skip(reason)

    def build(folder: Path) -> None:
        parts = "PARTS=--workstation --with postgres,capture"
        podman.build(folder, unpacked, "--build-arg", parts, "-t", "airgap",
                     "-t", f"registry.example/airgap:{version()}")  # fmt: skip

    return once(tmp_path_factory, "images", build)


def version() -> str:
    import airgap

    return airgap.__version__
