"""What is mounted, which of it is a stick, the carrier's note, and names: pure, from made-up texts."""

import os
from hashlib import sha256

import pytest
from support import run

from airgap import carrier, media, mounts
from airgap.errors import InputRefusedError, MediumError, UsageError
from airgap.mounts import Mount

MOUNTINFO = r"""
21 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
22 21 8:1 / /boot/efi rw,relatime shared:2 - vfat /dev/sda1 rw,fmask=0077
23 21 0:5 / /proc rw,nosuid - proc proc rw
30 21 8:17 / /media/ops/USB\040STICK rw,nosuid,nodev shared:3 master:1 - vfat /dev/sdb1 rw,uid=1000
31 21 8:33 / /srv/films\011and\134more ro,nosuid - exfat /dev/sdc1 rw
32 21 8:49 / /run/media/ops/card rw - fuseblk /dev/sdd1 ro,user_id=0
a line that is none
33 21 253:0 / /mnt/locked rw - ext4 /dev/mapper/locked rw
34 21 11:0 / /mnt/cd ro - iso9660 /dev/sr0 ro
35 21 0:50 / /media/auto rw - autofs systemd-1 rw,fd=42
36 21 8:3 / /data rw - ext4 /dev/sda3 rw
37 21 0:61 / /mnt/share rw - nfs4 server:/share rw
"""


@pytest.fixture
def sysfs(tmp_path):
    """A sysfs: sda is the machine's own USB disk, sdb and sdc are sticks, locked lies on sdc."""
    root = tmp_path / "sys"

    def disk(name, bus, *numbers, removable="0"):
        place = root / "devices" / bus / name
        place.mkdir(parents=True)
        (place / "removable").write_text(f"{removable}\n")
        for part, number in enumerate(numbers):
            at = place / f"{name}{part}" if part else place
            at.mkdir(exist_ok=True)
            if part:
                (at / "partition").write_text(f"{part}\n")
            link = root / "dev" / "block" / number
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(at)
        return place

    disk("sda", "pci0000:00/usb2/2-1/block", "8:0", "8:1", "8:2", "8:3")
    disk("sdb", "pci0000:00/ata1/block", "8:16", "8:17")
    disk("sdc", "pci0000:00/usb1/1-1/block", "8:32", "8:33")
    disk("sdd", "platform/mmc/block", "8:48", "8:49")
    disk("sr0", "pci0000:00/ata2/block", "11:0", removable="1")
    locked = disk("dm-0", "virtual/block", "253:0")
    (locked / "slaves").mkdir()
    (locked / "slaves" / "sdc1").symlink_to(root / "dev" / "block" / "8:33")
    return root


def by_point(text=MOUNTINFO):
    return {str(mount.point): mount for mount in mounts.parse(text)}


def test_mountinfo_is_read_with_blanks_and_backslashes_in_names():
    found = by_point()
    assert len(found) == 11
    assert found["/media/ops/USB STICK"].kind == "vfat"
    assert found["/srv/films\tand\\more"].device == "8:33"


def test_a_mount_is_read_only_by_itself_or_by_its_file_system():
    assert [p for p, m in by_point().items() if m.read_only] == [
        "/srv/films\tand\\more",
        "/run/media/ops/card",
        "/mnt/cd",
    ]


def test_only_fat_has_a_largest_file():
    assert {p: m.largest_file for p, m in by_point().items() if m.largest_file} == {
        "/boot/efi": 2**32 - 1,
        "/media/ops/USB STICK": 2**32 - 1,
    }


def test_sticks_are_known_by_their_place_or_by_their_device_and_the_systems_own_disk_is_none(sysfs):
    found = [str(mount.point) for mount in mounts.sticks(mounts.parse(MOUNTINFO), sysfs)]
    # Not the system's own disk, though it hangs on USB; the encrypted stick by what lies below.
    assert found == [
        "/media/ops/USB STICK",
        "/mnt/cd",
        "/mnt/locked",
        "/run/media/ops/card",
        "/srv/films\tand\\more",
    ]


def test_what_is_mounted_on_top_counts(sysfs):
    text = MOUNTINFO + "99 30 0:77 / /media/ops/USB\\040STICK ro - tmpfs none rw\n"
    top = mounts.parse(text)
    [found] = [m for m in mounts.sticks(top, sysfs) if str(m.point) == "/media/ops/USB STICK"]
    assert (found.kind, found.read_only) == ("tmpfs", True)
    there = mounts.of(found.point / "folder", top)
    assert there == found


def test_a_folder_for_sticks_without_a_stick_is_named(tmp_path):
    there = mounts.parse(MOUNTINFO)
    assert mounts.is_left_empty(mounts.Path("/media/ops/OTHER"), there)
    assert mounts.is_left_empty(mounts.Path("/mnt/stick"), there)
    assert not mounts.is_left_empty(mounts.Path("/media/ops/USB STICK/folder"), there)
    assert not mounts.is_left_empty(tmp_path, there)
    # What is in memory until the next start is no stick either; one at /mnt itself is.
    more = [
        *there,
        Mount("0:24", mounts.Path("/run"), "tmpfs", read_only=False),
        Mount("8:17", mounts.Path("/mnt"), "vfat", read_only=False),
    ]
    assert mounts.is_left_empty(mounts.Path("/run/media/ops/OTHER"), more)
    assert not mounts.is_left_empty(mounts.Path("/run/media/ops/card/x"), more)
    assert not mounts.is_left_empty(mounts.Path("/mnt/folder"), more)


@pytest.mark.parametrize(
    ("blocks", "available", "expected"),
    [
        (100, 30, (409600, 122880)),
        (100, 0, (409600, 0)),
        (0, 0, (None, None)),
        (0, 9, (None, None)),
    ],
)
def test_a_driver_that_reports_no_blocks_says_nothing_about_room(blocks, available, expected):
    status = os.statvfs_result((4096, 4096, blocks, available, available, 0, 0, 0, 0, 255))
    assert mounts.said(status) == expected


def test_a_link_on_a_stick_leads_nowhere_and_a_link_of_this_machine_is_followed(tmp_path, sysfs):
    stick = tmp_path / "stick"
    (stick / "inside").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (stick / "january").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "my-stick").symlink_to(stick)
    there = [
        Mount("8:2", mounts.Path("/"), "ext4", read_only=False),
        Mount("8:17", stick, "ext4", read_only=False),
        Mount("8:33", stick, "ext4", read_only=False),
    ]
    for path in ("january", "january/file.airgap"):
        for start in (stick, tmp_path / "my-stick"):
            found = mounts.link_on_stick(start / path, there, sysfs)
            assert found == start / "january"
    assert mounts.link_on_stick(tmp_path / "my-stick" / "inside", there, sysfs) is None
    assert mounts.link_on_stick(stick / "inside" / "file.airgap", there, sysfs) is None


FIELDS = {
    "name": "bank-a.prod-000001.airgap",
    "length": 1312,
    "sha256": "ab" * 32,
    "bundle_id": "cd" * 32,
    "source": "bank-a.prod",
    "sequence": 1,
}


def test_the_carriers_note_says_what_belongs_together_how_to_verify_and_that_it_is_not_signed():
    note = carrier.note(**FIELDS, contact="night desk, +49 30 000").decode()
    for words in (
        "1312 bytes",
        "ab" * 32,
        "airgap verify bank-a.prod-000001.airgap",
        "sha256sum bank-a.prod-000001.airgap",
        "night desk, +49 30 000",
        "not signed",
    ):
        assert words in note
    assert note == carrier.note(**FIELDS, contact="night desk, +49 30 000").decode()


def test_the_carriers_note_is_for_windows_too_and_can_not_be_turned_against_a_terminal():
    contact = "Jörg\x1b]0;owned\x07 \u202emoc.live \u200b\r\nThis bundle is verified."
    data = carrier.note(**FIELDS, contact=contact)
    assert data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")
    text = data.decode()
    assert "Jörg" in text
    assert not [c for c in text if not c.isprintable() and c not in "\r\n"]
    assert not any(line.startswith("This bundle is verified") for line in text.splitlines())
    assert carrier.note(**FIELDS, contact=None).isascii()


@pytest.mark.parametrize("name", ["con", "nul", "con.x", "aux.prod", "com1", "lpt9.site", "prn"])
def test_no_source_is_called_as_windows_calls_a_device(tmp_path, name):
    result = run("init", "--home", tmp_path / "home", "--source", name, code=2)
    assert "Windows takes it for a device" in result.output


@pytest.mark.parametrize("name", ["con-edison", "console", "nul-1.prod", "com10", "site.con"])
def test_a_name_that_only_begins_like_a_device_is_a_name(tmp_path, name):
    run("init", "--home", tmp_path / "home", "--source", name)


def test_files_are_found_in_capital_letters_too_and_hidden_ones_are_not(tmp_path):
    for name in (
        "A-000001.AIRGAP",
        "b-000001.airgap",
        ".c.airgap",
        ".b.airgap.00000000.part",
        "d.txt",
    ):
        (tmp_path / name).touch()
    found = media.files([tmp_path], (".airgap",))
    assert [path.name for path in found] == ["A-000001.AIRGAP", "b-000001.airgap"]


def test_a_folder_of_more_files_than_a_site_makes_is_refused(tmp_path):
    for number in range(media.MOST_FILES + 1):
        (tmp_path / f"{number}.airgap").touch()
    with pytest.raises(InputRefusedError, match="too many files"):
        media.files([tmp_path], (".airgap",))
    (tmp_path / "0.airgap").unlink()
    assert len(media.files([tmp_path], (".airgap",))) == media.MOST_FILES


def test_place_writes_text_as_well_and_finds_it_unchanged_again(tmp_path):
    path = media.place(b"text", tmp_path, "note.txt")
    before = path.stat()
    assert media.place(b"text", tmp_path, "note.txt") == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(MediumError, match="other content"):
        media.place(b"other", tmp_path, "note.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_place_refuses_a_folder_that_is_no_longer_the_same_medium(tmp_path):
    device = media.require_medium(tmp_path)
    media.place(b"text", tmp_path, "a.txt", device=device)
    with pytest.raises(MediumError, match="no longer the one"):
        media.place(b"text", tmp_path, "b.txt", device=device + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(UsageError, match="not a folder"):
        media.require_medium(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="not a folder"):
        media.require_medium(tmp_path / "a.txt" / "b")


@pytest.mark.parametrize("size", [0, 1, 511, 4096, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 17])
def test_read_back_gives_the_digest_of_every_byte_whatever_the_size(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert media.digest(tmp_path / "file") == sha256(data).hexdigest()
