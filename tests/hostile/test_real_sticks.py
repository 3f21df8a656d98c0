"""Sticks that are full, read-only, pulled out or failing: real file systems, real faults."""

import json
import os
import shutil
from hashlib import sha256

import pytest
import sticks
from forking import Kill
from sticks import MIB
from striking import Host, Stopped
from support import report, run

from airgap import media
from airgap.errors import MediumError

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"
)
BUNDLE = "bank-a.prod-000001.airgap"
NOTE = "bank-a.prod-000001.txt"


@pytest.fixture
def stick(request, site):
    """A stick of the file system that the test asks for, mounted where the site's stick is."""
    with sticks.stick(request.param, site.stick) as made:
        yield made


def on(*kinds, later=()):
    """Run a test on sticks of these kinds, and in the long form on others as well."""
    slow = [pytest.param(kind, marks=pytest.mark.soak) for kind in later]
    return pytest.mark.parametrize("stick", [*kinds, *slow], indirect=True)


@pytest.fixture
def waiting(site):
    site.collect([report(n, n) for n in range(5)])
    return site


def export(site, *options, code=0):
    """Export; return what was said, on both streams."""
    return site.export(*options, code=code).output


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def digest(path):
    return sha256(path.read_bytes()).hexdigest()


def require_untouched(site):
    """Nothing counts as written, and every record is there."""
    status = site.status()
    assert [bundle["written_to"] for bundle in status["bundles"]] in ([], [None])
    records = status["waiting"].get("usage_report", {"records": 0})["records"]
    assert records + sum(sum(b["outcomes"].values()) for b in status["bundles"]) == 5


def require_written(site, folder):
    """The bundle and its note are there, and the bundle is whole."""
    assert [n for n in names(folder) if not n.startswith(".") and n != "holiday.mov"] == [
        BUNDLE,
        NOTE,
    ]
    run("verify", "--home", site.workstation, folder / BUNDLE)
    assert digest(folder / BUNDLE) in (folder / NOTE).read_text()
    assert [bundle["written_to"] for bundle in site.status()["bundles"]] == [str(folder)]


@on("exfat", "fat", later=("ext4",))
def test_what_export_wrote_is_there_after_the_stick_was_pulled_out_and_plugged_in(waiting, stick):
    export(waiting)
    stick.again()
    require_written(waiting, stick.folder)
    assert digest(stick.folder / BUNDLE) == digest(waiting.isolated / "bundles" / BUNDLE)
    # The same once more changes nothing.
    export(waiting, "--again")
    require_written(waiting, stick.folder)


@on("exfat", later=("ext4",))
def test_a_bundle_is_imported_from_a_read_only_stick_and_its_receipt_stays_in_the_home(
    waiting, stick, beacon
):
    export(waiting)
    stick.again(read_only=True)
    result = waiting.import_(beacon.url)
    assert "the receipt stays in the home: the medium is read-only" in result.output
    assert names(stick.folder)[-2:] == [BUNDLE, NOTE]


@on("ext4", later=("exfat",))
def test_a_read_only_stick_is_refused_before_a_bundle_is_made_and_works_when_it_is_writable(
    waiting, stick
):
    stick.again(read_only=True)
    said = export(waiting, code=8)
    assert "the medium is read-only" in said
    assert "hint:" in said
    assert waiting.status()["bundles"] == []
    stick.again()
    export(waiting)
    require_written(waiting, stick.folder)


@on("exfat", later=("ext4",))
def test_a_full_stick_keeps_its_files_and_the_next_stick_gets_the_bundle(waiting, stick):
    film = stick.fill()
    before = digest(film)
    said = export(waiting, code=8)
    assert "not enough space" in said or "No space left" in said
    assert names(stick.folder) == [film.name]
    assert digest(film) == before
    require_untouched(waiting)
    # Room for the bundle, and not for the file system's own needs or the note.
    with film.open("r+b") as file:
        file.truncate(film.stat().st_size - 4096)
    export(waiting, code=None)
    assert film.exists()
    film.unlink()
    export(waiting, "--again")
    require_written(waiting, stick.folder)


@on("fat")
def test_a_bundle_that_fat_cant_hold_is_refused_before_a_byte_is_written(tmp_path, stick):
    large = tmp_path / "large.airgap"
    with large.open("wb") as file:
        file.truncate(2**32)
    assert media.largest_file(stick.folder) == 2**32 - 1
    with pytest.raises(MediumError, match="larger than this file system can hold") as caught:
        media.place(large, stick.folder, "large.airgap")
    assert "--max-size" in caught.value.hint
    assert names(stick.folder) == []


@on("fat")
def test_max_size_is_bounded_by_what_fat_can_hold(waiting, stick):
    # The option may say more: the file system's bound holds.
    export(waiting, "--max-size", "7GiB")
    require_written(waiting, stick.folder)


@on("exfat", later=("fat", "ext4"))
def test_a_file_of_the_operator_is_never_replaced_without_force(waiting, stick):
    for content in (b"mine", b"x" * 2000):
        (stick.folder / BUNDLE).write_bytes(content)
        said = export(waiting, code=8)
        assert "is there already, with other content" in said
        assert (stick.folder / BUNDLE).read_bytes() == content
        assert names(stick.folder) == [BUNDLE]
        require_untouched(waiting)
        (stick.folder / BUNDLE).unlink()
    (stick.folder / BUNDLE).write_bytes(b"mine")
    export(waiting, "--force")
    require_written(waiting, stick.folder)


@on("exfat", later=("ext4",))
def test_an_empty_file_of_the_bundles_name_is_replaced_and_never_taken_for_the_bundle(
    waiting, stick
):
    (stick.folder / BUNDLE).write_bytes(b"")
    export(waiting)
    require_written(waiting, stick.folder)


def stopped_export(site, number):
    """An export that is stopped at the n-th look at the home's bundle: to know it, then to copy it."""
    kept = site.isolated / "bundles" / BUNDLE
    return Stopped(
        "export", "--home", site.isolated, "--to", site.stick,
        call="openat", path=kept, number=number, folder=site.root,
    )  # fmt: skip


@on("exfat", later=("ext4",))
@needs_strace
def test_a_file_that_takes_the_bundles_name_while_it_is_written_stays(waiting, stick):
    # Stopped when the temporary file is there, and nothing in it.
    status, said = stopped_export(waiting, 2).run(
        lambda: (stick.folder / BUNDLE).write_bytes(b"mine")
    )
    # What was there first is nobody's to replace, and what was begun is cleared away.
    assert status == 8, said
    assert "File exists" in said
    assert names(stick.folder) == [BUNDLE]
    assert (stick.folder / BUNDLE).read_bytes() == b"mine"
    require_untouched(waiting)


@on("ext4", later=("exfat",))
@needs_strace
def test_bytes_that_the_stick_changed_are_noticed_though_the_system_remembers_the_right_ones(
    waiting, stick
):
    waiting.export("--no-note")
    data = (waiting.isolated / "bundles" / BUNDLE).read_bytes()

    def spoil():
        device = os.open(stick.device, os.O_RDWR)
        try:
            image = os.pread(device, 4 * MIB, 0)
            # What an earlier run left in free clusters is spoiled too: it does no harm.
            start, places = image.find(data), 0
            while start >= 0:
                os.pwrite(device, bytes([data[700] ^ 1]), start + 700)
                places += 1
                start = image.find(data, start + 1)
            os.fsync(device)
        finally:
            os.close(device)
        assert places

    command = Stopped(
        "export", "--home", waiting.isolated, "--to", stick.folder, "--again", "--no-note",
        call="fsync", about=f"stick/.{BUNDLE}.", folder=waiting.root,
    )  # fmt: skip
    status, said = command.run(spoil, prepare=stick.clear)
    assert status == 8, said
    assert "reads back differently from what was written" in said
    # Nothing of it has a name, so that the next try is free to work.
    assert names(stick.folder) == []
    export(waiting, "--again")
    require_written(waiting, stick.folder)


@on("ext4")
@needs_strace
@pytest.mark.parametrize(
    "number",
    [pytest.param(1, id="before-the-first-byte"), pytest.param(2, id="in-the-middle", marks=pytest.mark.soak)],
)  # fmt: skip
def test_a_stick_unmounted_while_it_is_written_to_leaves_the_outbox_untouched(
    waiting, stick, number
):
    status, said = stopped_export(waiting, number).run(lambda: stick.unmount(lazily=True))
    assert status == 8, said
    assert "Traceback" not in said
    # Nothing went to the folder below instead.
    assert names(stick.folder) == []
    require_untouched(waiting)
    sticks.shell("losetup", "-d", stick.device)
    stick.device = None
    stick.mount()
    assert BUNDLE not in names(stick.folder)
    export(waiting)
    require_written(waiting, stick.folder)


@on("exfat")
@needs_strace
def test_a_stick_pulled_out_while_it_is_written_to_leaves_the_outbox_untouched(waiting, stick):
    status, said = stopped_export(waiting, 2).run(stick.pull)
    assert status == 8, said
    assert "Traceback" not in said
    require_untouched(waiting)
    said = export(waiting, code=8)
    assert "Traceback" not in said
    require_untouched(waiting)
    stick.unmount()
    stick.mount()
    assert BUNDLE not in names(stick.folder)
    export(waiting)
    require_written(waiting, stick.folder)


def check_struck(host, made):
    """Check after a strike: what has the bundle's name is the bundle, and the outbox is whole."""
    site, folder = host.site, host.stick.folder
    status = site.status()
    assert [b["bundle_id"] for b in status["bundles"]] in ([], made)
    records = status["waiting"].get("usage_report", {"records": 0})["records"]
    assert records + sum(sum(b["outcomes"].values()) for b in status["bundles"]) == 5
    assert not [n for n in names(folder) if not n.startswith(".") and n not in (BUNDLE, NOTE)]
    path = folder / BUNDLE
    if path.exists() and (path.stat().st_size or host.stick.kind == "ext4"):
        # Where names can't be taken otherwise, an empty file may stand for the bundle: no half one.
        run("verify", "--home", site.workstation, path)


def strike_all(host, strikes):
    arguments = ("export", "--home", host.site.isolated, "--to", host.stick.folder, "--again")
    host.site.export()
    made = [b["bundle_id"] for b in host.site.status()["bundles"]]
    host.stick.clear()
    host.keep()
    for call, error, step in strikes:
        for _ in host.each(call, error, step, *arguments):
            check_struck(host, made)
            left = [n for n in names(host.stick.folder) if n.endswith(".part")]
            status, said = host.command(*arguments)
            assert status == 0, said
            require_written(host.site, host.stick.folder)
            # What the strike left is named, and is still there.
            assert all(f"{n} (" in said for n in left)
            assert [n for n in names(host.stick.folder) if n.startswith(".")] == left


SHORT = [("fsync", "", 3), ("rename", "", 1), ("renameat2", "", 2), ("fsync", "EIO", 4)]
LONG = [
    *((call, "", 1) for call in ("openat", "close", "write", "fsync", "fdatasync", "pwrite64", "fcntl")),
    *((call, "", 1) for call in ("rename", "renameat2", "link", "unlink", "statfs", "fadvise64")),
    *((call, "", 7) for call in ("newfstatat", "read", "lseek")),
    *((call, "EIO", 1) for call in ("fsync", "rename", "renameat2", "statfs")),
    ("fsync", "ENOSPC", 1),
]  # fmt: skip


@pytest.fixture
def host(waiting, stick, forks):
    return Host(waiting, forks, stick)


@on("exfat")
@needs_strace
def test_export_killed_or_refused_at_a_step_leaves_no_half_bundle_on_a_stick(host):
    strike_all(host, SHORT)
    assert host.struck >= 6


@pytest.mark.soak
@on("exfat", "ext4")
@needs_strace
def test_export_killed_or_refused_at_every_step_leaves_no_half_bundle_on_a_stick(host):
    strike_all(host, LONG)
    print(f"\n{host.stick.kind}: struck {host.struck} times")  # noqa: T201 - the total
    assert host.struck >= 150


@on("ext4")
@needs_strace
def test_where_renaming_can_only_replace_a_hard_link_takes_the_name(host):
    site, folder = host.site, host.stick.folder
    arguments = ("export", "--home", site.isolated, "--to", folder)
    status, said = host.command(*arguments, kill=Kill(call="renameat2", when=1, error="EINVAL"))
    assert status == 0, said
    require_written(site, folder)
    assert (folder / BUNDLE).stat().st_nlink == 1
    (folder / BUNDLE).write_bytes(b"mine")
    status, said = host.command(
        *arguments, "--again", kill=Kill(call="renameat2", when=1, error="EINVAL")
    )
    assert status == 8, said
    assert (folder / BUNDLE).read_bytes() == b"mine"


@on("exfat")
def test_what_a_cut_off_run_left_is_named_with_its_size_and_stays(waiting, stick):
    left = [f".{BUNDLE}.{n:08x}.part" for n in range(7)]
    for name in left:
        (stick.folder / name).write_bytes(b"x" * 2048)
    said = export(waiting)
    assert f"{left[0]} (2.0 KiB) was left by a run that was cut off" in said
    assert "and 2 more files like that" in said
    assert names(stick.folder)[:7] == left
    found = json.loads(run("verify", "--home", waiting.workstation, stick.folder, "--json").stdout)
    assert len(found["files"]) == 1
