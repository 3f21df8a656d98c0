"""Sticks that are real: exFAT and FAT through FUSE, ext4 on a loop device. Each is unmounted in the end.

Where a part is missing the test skips, and says what to install. Mounting needs root.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NEEDED = {
    "exfat": {"mkfs.exfat": "exfatprogs", "mount.exfat-fuse": "exfat-fuse"},
    "fat": {"mkfs.vfat": "dosfstools", "fusefat": "fusefat"},
    "ext4": {"mkfs.ext4": "e2fsprogs"},
}
_MAKE = {
    "exfat": ("mkfs.exfat",),
    "fat": ("mkfs.vfat", "-F", "32"),
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal"),
}
MIB = 1024**2


def which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def shell(*command: object) -> str:
    """Run a program to its end, within a minute, and return what it printed."""
    words = [str(which(str(command[0]))), *map(str, command[1:])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@dataclass
class Stick:
    """A file system in an image file, mounted or not.

    Args:
        kind: ``exfat``, ``fat`` or ``ext4``.
        image: the file that it is in.
        folder: where it is mounted.
    """

    kind: str
    image: Path
    folder: Path
    mounted: bool = False
    device: str | None = None
    _driver: subprocess.Popen | None = field(default=None, repr=False)

    def make(self, size: int) -> None:
        with self.image.open("wb") as file:
            file.truncate(size)
        shell(*_MAKE[self.kind], self.image)

    def mount(self, *, read_only: bool = False) -> None:
        mode = "ro" if read_only else "rw"
        if self.kind == "fat":
            shell("fusefat", "-o", "ro" if read_only else "rw+", self.image, self.folder)
        else:
            if self.device is None:
                self.device = shell("losetup", "-f", "--show", self.image)
            if self.kind == "ext4":
                shell("mount", "-t", "ext4", "-o", mode, self.device, self.folder)
            else:
                self._start(mode)
        self.mounted = True
        if self.kind == "ext4" and not read_only:
            with suppress(OSError):
                (self.folder / "lost+found").rmdir()

    def _start(self, mode: str) -> None:
        """Start exFAT's driver as a child, so that it can be killed by its own id."""
        before = self.folder.stat().st_dev
        words = [
            str(which("mount.exfat-fuse")),
            "-d",
            "-o",
            mode,
            str(self.device),
            str(self.folder),
        ]
        self._driver = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while self.folder.stat().st_dev == before:
            assert self._driver.poll() is None, f"{words} ended"
            os.sched_yield()

    def unmount(self, *, lazily: bool = False) -> None:
        """Take it out; lazily even while something on it is open."""
        if self.mounted:
            shell("umount", *(["-l"] if lazily else []), self.folder)
            self.mounted = False
            if self._driver is not None:
                self._driver.wait(30)
                self._driver = None
        if self.device is not None and not lazily:
            shell("losetup", "-d", self.device)
            self.device = None

    def pull(self) -> None:
        """Let a driver in user space die, as it does for a stick that is pulled out."""
        assert self._driver is not None
        self._driver.kill()
        self._driver.wait(10)

    def again(self, *, read_only: bool = False) -> None:
        """Take it out and plug it in again: nothing stays in the system's memory."""
        self.unmount()
        self.mount(read_only=read_only)

    def clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def fill(self, leave: int = 0) -> Path:
        """Fill it to the last byte with a file of somebody else, and free so many bytes of it again."""
        path = self.folder / "holiday.mov"
        with path.open("ab", buffering=0) as file:
            for block in (MIB, 4096, 512, 1):
                with suppress(OSError):
                    while file.write(b"\x5a" * block):
                        pass
            os.fsync(file.fileno())
            if leave:
                file.truncate(max(0, file.tell() - leave))
        return path

    def close(self) -> None:
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self.unmount()
        if self.mounted:
            with suppress(AssertionError, subprocess.TimeoutExpired):
                self.unmount(lazily=True)
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait(10)
        if self.device is not None:
            with suppress(AssertionError):
                shell("losetup", "-d", self.device)


def require(kind: str) -> None:
    """Skip the test where a stick of this kind can't be had."""
    if os.geteuid():
        pytest.skip("mounting a file system needs root")
    for program, package in NEEDED[kind].items():
        if which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {package}")
    if kind != "ext4" and not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse: modprobe fuse")
    if kind != "fat" and not Path("/dev/loop-control").exists():
        pytest.skip("there are no loop devices: modprobe loop")


@contextmanager
def stick(kind: str, folder: Path, size: int = 4 * MIB) -> Iterator[Stick]:
    """Make a stick and mount it at a folder, which is made; unmount it in every case."""
    require(kind)
    folder.mkdir(exist_ok=True)
    made = Stick(kind, folder.with_name(f"{folder.name}.img"), folder)
    try:
        made.make(size)
        made.mount()
        yield made
    finally:
        made.close()
