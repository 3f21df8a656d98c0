"""What a stick may hold: links, devices, pipes, sockets, sparse and growing files, forged names."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sticks
from striking import Stopped
from support import LICENSE, run, transaction

from airgap import quarantine
from airgap.errors import DamagedError, InputRefusedError, MediumError

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"
)


@pytest.fixture
def box(tmp_path):
    """A folder on a stick and a private one."""
    for name in ("stick", "private"):
        (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path


def copied(box, path, **options):
    with quarantine.copied(path, box / "private", **options) as stream:
        return stream.read()


def make_device(path):
    if os.geteuid():
        pytest.skip("to make a device needs root")
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero has no end
    except PermissionError:
        pytest.skip("no device can be made here")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (os.mkfifo, "a folder, device or pipe"),
        (make_device, "a folder, device or pipe"),
        (make_socket, "a folder, device or pipe"),
        (os.mkdir, "a folder, device or pipe"),
        (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
        (lambda path: path.symlink_to("/nowhere"), "a symbolic link"),
        (lambda path: path.symlink_to(path), "a symbolic link"),
    ],
    ids=["fifo", "device", "socket", "folder", "link", "dangling-link", "link-to-itself"],
)
def test_only_a_regular_file_is_read_and_nothing_else_is_even_opened(box, make, found):
    path = box / "stick" / "a-000001.airgap"
    make(path)
    with pytest.raises(InputRefusedError, match="not a regular file") as caught:
        copied(box, path)
    assert caught.value.found == found
    assert list((box / "private").iterdir()) == []


@needs_strace
def test_the_medium_is_read_once_each_of_its_bytes_once_and_no_device_at_all(site):
    # Larger than one block, so that it is read in parts.
    values = [transaction(number) for number in range(3000)]
    site.collect([{"license": LICENSE, "trace_transactions": values}])
    site.export("--compression", "none")
    bundle, sparse, device = site.bundle, site.stick / "s.airgap", site.stick / "z.airgap"
    data = bundle.read_bytes()
    assert len(data) > 1024**2
    with sparse.open("wb") as file:
        file.truncate(1024**3)
    make_device(device)
    trace = site.root / "strace.txt"
    calls = "open,openat,openat2,read,pread64,readv,preadv,preadv2,mmap,sendfile,copy_file_range,splice,lseek"
    done = subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", f"trace={calls}", sys.executable, "-m", "airgap",
         "verify", "--home", site.workstation, site.stick],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert f"{bundle}: verified, 3,000 records" in done.stdout
    assert "this is not an airgap file" in done.stderr
    assert "a folder, device or pipe" in done.stderr
    said = trace.read_text()
    assert str(device) not in said

    def read(path):
        lines = [line for line in said.splitlines() if str(path) in line]
        opened = [line for line in lines if re.search(r" open(at2?)?\(", line)]
        found = [int(m[1]) for line in lines if (m := re.search(r" read\(.*\) = (\d+)$", line))]
        # Opened once, and read by no call of any other sort.
        assert len(opened) == 1
        assert len(lines) == len(opened) + len(found)
        return found

    counts = read(bundle)
    assert sum(counts) == len(data)
    assert counts[-1] == 0
    # Of the gigabyte that begins wrongly, one block.
    assert read(sparse) == [1024**2]


@needs_strace
def test_a_stick_that_changes_its_content_after_the_copy_gains_nothing(exported):
    before = exported.bundle.read_bytes()
    command = Stopped(
        "verify", "--home", exported.workstation, exported.bundle,
        call="read", path=exported.bundle, number=2, folder=exported.root,
    )  # fmt: skip
    # Stopped when it has read to the end: what is verified then is the copy.
    status, said = command.run(lambda: exported.bundle.write_bytes(bytes(len(before))))
    assert status == 0, said
    assert "verified, 3 records" in said


@needs_strace
def test_a_file_that_grows_while_it_is_copied_is_refused(exported):
    def grow():
        with exported.bundle.open("ab") as file:
            file.write(b"more")

    command = Stopped(
        "verify", "--home", exported.workstation, exported.bundle,
        call="read", path=exported.bundle, number=1, folder=exported.root,
    )  # fmt: skip
    status, said = command.run(grow)
    assert status == 5, said
    assert "the file changed while it was copied" in said


def test_a_sparse_file_of_gigabytes_is_refused_after_its_first_block(box):
    path = box / "stick" / "a-000001.airgap"
    with path.open("wb") as file:
        file.truncate(8 * 1024**3)
    # Where there is no room for the copy, that is said first.
    with pytest.raises((DamagedError, MediumError), match=r"not an airgap file|not enough space"):
        copied(box, path)
    with path.open("r+b") as file:
        file.truncate(8 * 1024**3 + 1)
    with pytest.raises(InputRefusedError, match="too large"):
        copied(box, path)


def test_a_copy_for_which_there_is_no_room_is_refused_before_it_is_begun(box, tmp_path):
    path = box / "stick" / "a-000001.airgap"
    with path.open("wb") as file:
        file.truncate(64 * sticks.MIB)
    with sticks.stick("ext4", tmp_path / "small", 4 * sticks.MIB) as small:
        with pytest.raises(MediumError, match="not enough space to copy the file into quarantine"):
            with quarantine.copied(path, small.folder):
                pass
        assert list(small.folder.iterdir()) == []


FORGED = [
    "a\x1b[2J\x1b]0;owned\x07.airgap",
    "a\nbank-a.prod-000001.airgap: verified, 3 records.airgap",
    "a\r2 of 2 files verified.airgap",
    "bank-\u202egpria.airgap",
    "b\u200bank-a.prod-000001.airgap",
    "a\u2066b\u2069\u061c\ufeff.airgap",
    "a\x9b31m.airgap",
    "a\u2028b.airgap",
    os.fsdecode(b"a\xff\xfe.airgap"),
]


@pytest.mark.parametrize("command", ["verify", "import", "receipt"])
def test_file_names_forge_no_line_and_reach_no_terminal(site, command):
    suffix = ".receipt" if command == "receipt" else ".airgap"
    for name in FORGED:
        (site.stick / name.replace(".airgap", suffix)).write_bytes(b"none of ours")
    words = {
        "verify": ("verify", "--home", site.workstation),
        "import": ("import", "--home", site.workstation, "--license-file", site.license_file),
        "receipt": ("receipt", "apply", "--home", site.isolated),
    }[command]
    named = sorted(site.stick.iterdir())
    assert len(named) == len(FORGED)
    for targets in ([site.stick], named):
        said = run(*words, *targets, code=5).output
        assert said.count("not an airgap file") == len(FORGED)
        assert not [c for c in said if c != "\n" and not c.isprintable()], ascii(said)
        assert not [
            line
            for line in said.split("\n")
            if line.strip().startswith(("bank-a.prod-000001", "2 of 2"))
        ]
    assert sorted(site.stick.iterdir()) == named


def test_thousands_of_files_of_others_on_a_stick_are_passed_over_and_none_is_touched(exported):
    for number in range(3000):
        (exported.stick / f"photo-{number}.jpg").touch()
    before = sorted((p.name, p.stat().st_mtime_ns) for p in exported.stick.iterdir())
    value = json.loads(
        run("verify", "--home", exported.workstation, exported.stick, "--json").stdout
    )
    assert len(value["files"]) == 1
    assert sorted((p.name, p.stat().st_mtime_ns) for p in exported.stick.iterdir()) == before
