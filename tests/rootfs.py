"""A base image that is made of what this machine has: no registry is needed.

The base holds the host's own Python and what its packages depend on, as the package manager tells: a small
Debian, such as the public ``python:VERSION-slim`` is one.
"""

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

SEEDS = ("python3", "dash", "coreutils", "sed", "grep", "base-files", "base-passwd", "libc-bin")
LEFT_OUT = re.compile(r"/usr/share/(doc|man|locale|info|zoneinfo|perl|i18n)(/|$)")


def base(path: Path) -> None:
    """Write a root file system as a tar file."""
    listed = subprocess.run(
        ["dpkg-query", "-L", *sorted(_packages())], capture_output=True, text=True, check=True
    )
    names = {name for name in listed.stdout.splitlines() if not LEFT_OUT.match(name)}
    names |= {str(p) for p in Path("/usr/lib").glob("python3.*/**/__pycache__/*")}
    places = {_place(name): name for name in names if name != "/." and os.path.lexists(name)}
    with tarfile.open(path, "w") as tar:
        for target, name in sorted(places.items()):
            info = tar.gettarinfo(name, target)
            with Path(name).open("rb") if info.isreg() else io.BytesIO() as stream:
                tar.addfile(info, stream)
        for link, to in (("usr/bin/awk", "mawk"), ("bin", "usr/bin"), ("lib", "usr/lib"),
                         ("lib64", "usr/lib64"), ("sbin", "usr/sbin")):  # fmt: skip
            if link not in places:
                info = tarfile.TarInfo(link)
                info.type, info.linkname = tarfile.SYMTYPE, to
                tar.addfile(info)


def _place(name: str) -> str:
    """Return where a file is, past the links that /bin and /lib are."""
    return str(Path(name).parent.resolve() / Path(name).name).lstrip("/")


def _packages() -> set[str]:
    """Return the packages that the seeds need, of those that are installed."""
    told = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\t${Depends}, ${Pre-Depends}\t${Provides}\n"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    needs: dict[str, list[list[str]]] = {}
    provided: dict[str, str] = {}
    for line in told.stdout.splitlines():
        name, wanted, offers = line.split("\t")
        needs[name] = [re.findall(r"(?:^|\|) ?([a-z0-9.+-]+)", one) for one in wanted.split(", ")]
        provided |= {offer.split()[0]: name for offer in offers.split(", ") if offer}
    found: set[str] = set()
    left = list(SEEDS)
    while left:
        name = left.pop()
        name = name if name in needs else provided.get(name, "")
        if name and name not in found:
            found.add(name)
            left += [
                next((n for n in one if n in needs or n in provided), "") for one in needs[name]
            ]
    return found
