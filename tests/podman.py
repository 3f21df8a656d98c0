"""Podman apart from the machine: its containers see no network but the loopback of a namespace."""

import shutil
import subprocess
from pathlib import Path
from typing import Self

import apart
import releasing
import rootfs
from support import REPOSITORY

EXAMPLES = REPOSITORY / "airgap" / "examples"
RUNTIME = REPOSITORY / "tests" / "runtime.sh"
BASE = "localhost/base"
NEEDS = {
    "podman": "podman",
    "crun": "crun",
    "catatonit": "catatonit",
    "jq": "jq",
    "dpkg-query": "dpkg",
}
_SETTINGS = """
[containers]
base_hosts_file = "{folder}/hosts"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "apart"
[engine.runtimes]
apart = ["{runtime}"]
"""


def reason() -> str:
    """Return why no container can be run here, or nothing."""
    for name, package in NEEDS.items():
        if shutil.which(name) is None and not Path(f"/usr/libexec/podman/{name}").exists():
            return f"{name} is missing: apt-get install {package}"
    if not releasing.host_version():
        return f"{releasing.HOST_PYTHON} is none that airgap runs on: the base image holds it"
    return apart.reason()


class Podman:
    """Podman with its images in a folder; use it as a context.

    Args:
        folder: an empty folder, for images and volumes.
        images: the folder of another one, whose images are there as well.
    """

    def __init__(self, folder: Path, images: Path | None = None) -> None:
        self._folder = folder
        (folder / "hosts").write_text("127.0.0.1 localhost langsmith-postgres\n")
        (folder / "containers.conf").write_text(_SETTINGS.format(folder=folder, runtime=RUNTIME))
        more = f'additionalimagestores = ["{images}/store"]' if images else ""
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\nrunroot = "/run/containers"\ngraphroot = "{folder}/store"\n'
            f"[storage.options]\n{more}\n"
        )

    def __enter__(self) -> Self:
        self._apart = apart.Apart(
            *("sh", "-ec", "mount -t tmpfs tmpfs /run; echo up; exec catatonit -P"),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._apart.process.stdout is not None
        assert self._apart.process.stdout.readline() == "up\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._apart.stop()
        if self._apart.process.stdout:
            self._apart.process.stdout.close()

    def words(self, *words: object) -> list[str]:
        """Return a command that runs podman there."""
        return self._apart.words(
            *("env", f"CONTAINERS_CONF={self._folder}/containers.conf", "DISABLE_HC_SYSTEMD=true"),
            *(
                f"CONTAINERS_STORAGE_CONF={self._folder}/storage.conf",
                "podman",
                "--log-level=error",
                *words,
            ),
        )

    def __call__(self, *words: object, code: int | None = 0, stdin: str | None = None) -> str:
        """Run podman and return what it prints; None takes any status."""
        done = subprocess.run(
            self.words(*words), input=stdin, capture_output=True, text=True, check=False, timeout=120
        )  # fmt: skip
        assert code is None or done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout

    def start(self, *words: object) -> "subprocess.Popen[str]":
        """Run podman beside the test."""
        return subprocess.Popen(
            self.words(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @staticmethod
    def awaited(text: str, process: "subprocess.Popen[str]") -> None:
        """Wait until a process says something."""
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if text in line:
                return
        raise AssertionError("".join(said))

    def outside(self, *words: object) -> str:
        """Run a command beside the containers, where their loopback is."""
        return self._apart.run(*words)

    def namespace(self) -> Path:
        """Return the network namespace that the containers share with their host."""
        return Path(f"/proc/{self._apart.first}/ns/net")


def build(folder: Path, release: Path, *words: object) -> None:
    """Build the image airgap from the container file and a release, in an empty folder, without a network."""
    with Podman(folder) as podman:
        rootfs.base(folder / "base.tar")
        podman("import", folder / "base.tar", BASE)
        (folder / "base.tar").unlink()
        podman(*build_words(release, *words))


def build_words(release: Path, *words: object) -> tuple[object, ...]:
    """Return what tells podman to build an image from the container file and a release."""
    # The namespace is what keeps it from a network: this isolation takes no --network none.
    options = ("--isolation", "chroot", "--format", "docker", "--build-arg", f"BASE={BASE}")
    return ("build", *options, *words, "-f", EXAMPLES / "containers" / "Containerfile", release)
