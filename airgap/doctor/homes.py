"""The home as files: whose, who else can read it, what was left, and the disk it lies on."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote

from airgap import mounts, settings
from airgap.doctor.findings import Finding, not_checked, ok, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError
from airgap.home import open_home
from airgap.mounts import Mount
from airgap.text import plural, printable, size

LEAST_SPACE = 256 * 1024**2
"""Free bytes below which a warning is due; a tenth of it is wrong: a database could not even grow."""
LEAST_INODES = 1000
STALE = timedelta(minutes=10)
"""How old what a run leaves must be: a younger file may be a running command's."""
_MOST_SHOWN = 3
_MOST_MODES = 6
_MOST_FILES = 100_000
_OVER_A_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "afs"}
)
_WITHOUT_MODES = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "fuse.fusefat"})
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_TRUST_STORES = ("trust.json", "trust.before.json")
_PUBLIC = (".pub", ".signed", ".succession", ".airgap", ".receipt", ".approval", ".trust")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder of the home.

    Args:
        path: where it is, from the home on.
        mode: type and permissions, as stat(2) has them.
        owner: number of the user whose it is.
        changed: when it was last written to.
    """

    path: Path
    mode: int
    owner: int
    changed: datetime

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_left(self) -> bool:
        """Whether it bears the name of a file that was not finished, or lies in quarantine."""
        name = self.path.name
        in_quarantine = self.path.parts[0] == "quarantine" and len(self.path.parts) == 2
        return in_quarantine or (name.startswith(".") and name.endswith(".part"))


def there(scene: Scene) -> Iterator[Finding]:
    """Look whether there is a home, and whether its configuration can be used."""
    file = scene.path / "airgap.toml"
    if scene.home is not None:
        said = f"{_side(scene)} {scene.home.name}"
        yield ok("home.there", said, str(scene.path))
        yield from _settings(scene)
        return
    if scene.path.is_dir() and not os.access(scene.path, os.R_OK | os.X_OK):
        whose = scene.path.stat().st_uid
        yield not_checked("home.there", f"user {scene.user} can't look into it", str(scene.path))
        yield wrong(
            "home.owner",
            f"the home belongs to user {whose}, and user {scene.user} can't look into it",
            where=str(scene.path),
            expected="whoever runs airgap here",
            cure=f"run this as that user: sudo -u '#{whose}' airgap doctor --home "
            f"{quote(str(scene.path))}",
        )
        return
    if not os.path.lexists(file):
        yield wrong(
            "home.there",
            "there is no airgap home here",
            where=str(scene.path),
            expected="a folder with airgap.toml",
            cure="airgap init --source NAME on the isolated host, airgap init --workstation NAME "
            "on the connected one; or name the home with --home or AIRGAP_HOME",
        )
        return
    yield ok("home.there", "there is a home", str(scene.path))
    try:
        open_home(scene.path)
    except AirgapError as error:
        yield wrong(
            "home.configuration",
            "; ".join(filter(None, (error.message, error.found, *error.details))),
            where=error.where,
            expected=error.expected,
            cure=f"correct it with an editor: {quote(str(file))}; airgap config check names every mistake",
        )


def _settings(scene: Scene) -> Iterator[Finding]:
    """Say what in the settings of a home that can be read has no effect, or can't be meant."""
    problem = scene.setting_error
    if problem is not None:
        yield wrong(
            "home.configuration",
            f"{problem.message}: {problem.found}",
            where=problem.where,
            expected=problem.expected,
            cure=problem.hint,
        )
    strange = settings.strange_variables(scene.environment, scene.catalog)
    for name, near in strange.items():
        yield warning(
            "home.configuration",
            f"{name} is in the environment, and no variable of airgap's",
            cure=f"did you mean {near}?"
            if near
            else "unset it; airgap config show names those there are",
        )
    if problem is None and not strange:
        yield ok("home.configuration", "airgap.toml is valid")


def entries(home: Path) -> list[Entry]:
    """Return what is in a home's folder, itself first; links are not followed.

    Raises:
        OSError: the folder itself can't be looked at.
    """
    found = [_entry(home, Path())]
    for folder, folders, files in os.walk(home):
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            try:
                found.append(_entry(path, path.relative_to(home)))
            except FileNotFoundError:
                continue
        if len(found) > _MOST_FILES:
            break
    return found


def private(scene: Scene) -> Iterator[Finding]:
    """Look at owners, permissions and rests of everything in the home."""
    if not os.access(scene.path, os.R_OK | os.X_OK):
        return  # Said by ``there``.
    found = entries(scene.path)
    yield from owner(found, scene.user, scene.path)
    yield from permissions(found, scene.path)
    yield from left_over(found, scene.now, scene.path)


def owner(found: Iterable[Entry], user: int, home: Path) -> Iterator[Finding]:
    """Judge whose files these are: all the home's owner's, who should be whoever runs airgap.

    Args:
        found: what is in the home, itself first.
        user: number of the user that runs airgap.
        home: where it is.
    """
    found = list(found)
    whose = found[0].owner
    others = [entry for entry in found if entry.owner != whose]
    if others:
        shown = ", ".join(str(home / e.path) for e in others[:_MOST_SHOWN])
        yield wrong(
            "home.owner",
            f"{plural(len(others), 'file belongs', 'files belong')} to another user "
            f"({', '.join(map(str, sorted({e.owner for e in others})))}) than the home",
            where=shown + _more(others),
            expected=f"user {whose}, whose the home is",
            cure=f"as root: chown -R {whose} {quote(str(home))}",
        )
    elif user == whose:
        yield ok("home.owner", f"everything belongs to user {user}")
    if user != whose:
        yield (warning if user == 0 else wrong)(
            "home.owner",
            f"the home belongs to user {whose}, and user {user} runs this",
            where=str(home),
            expected="the home's own user: what another makes there, that one can't use",
            cure=f"run airgap as that user: sudo -u '#{whose}' airgap ... --home {quote(str(home))}",
        )


def permissions(found: Iterable[Entry], home: Path) -> Iterator[Finding]:
    """Judge who else can read or change these files, and whether their owner can.

    What lies in a private folder is out of reach, but private keys are never used while others may
    read them.
    """
    found = list(found)
    reachable = any(not e.path.parts and _is_open(e) for e in found)
    odd = [entry for entry in found if _is_open(entry) or _is_shut(entry)]
    for entry in odd[:_MOST_MODES]:
        yield _permission(entry, home, reachable=reachable)
    if len(odd) > _MOST_MODES:
        yield (wrong if reachable else warning)(
            "home.permissions",
            f"others can read, or the owner can't, {len(odd) - _MOST_MODES:,} more files",
            where=str(home),
            expected="mode 0700 of folders, 0600 of files",
            cure=f"chmod -R u+rwX,go-rwx {quote(str(home))}",
        )
    if not odd:
        yield ok("home.permissions", "nobody else can read the home")


def _permission(entry: Entry, home: Path, *, reachable: bool) -> Finding:
    """Return what is to be said of a file whose permissions are not as they should be."""
    wanted = 0o700 if entry.is_folder else 0o600
    path, name = home / entry.path, entry.path.name
    is_key = ".pem" in name
    what = "private key" if name.endswith(".pem") else name or "home"
    shut = not _is_open(entry)
    done = "read or change" if entry.mode & 0o022 else "read"
    judged = wrong if shut or reachable or is_key or not entry.path.parts else warning
    leaked = "; if others may have read it, make a new key and revoke this one"
    return judged(
        "home.permissions",
        f"{f'its owner can not read the {what}' if shut else f'others can {done} the {what}'}: "
        f"mode {stat.S_IMODE(entry.mode):04o}",
        where=str(path),
        expected=f"mode {wanted:04o}",
        cure=f"chmod {wanted:o} {quote(str(path))}" + (leaked if is_key and not shut else ""),
    )


def left_over(found: Iterable[Entry], now: datetime, home: Path) -> Iterator[Finding]:
    """Judge what runs left that were cut off."""
    rests = [e for e in found if e.path.parts and e.is_left and not now - STALE < e.changed <= now]
    if not rests:
        yield ok("home.left-over", "no run that was cut off has left a file")
        return
    for entry in rests[:_MOST_SHOWN]:
        path = home / entry.path
        is_key = entry.path.parts[0] in ("keys", "sealing")
        yield warning(
            "home.left-over",
            f"{printable(entry.path.name, 100)} was left by a run that was cut off",
            where=str(path),
            cure=f"nothing reads it{', but it may hold a private key' if is_key else ''}; "
            f"while no airgap runs: rm {'-r ' if entry.is_folder else ''}{quote(str(path))}",
        )
    if len(rests) > _MOST_SHOWN:
        yield warning(
            "home.left-over",
            f"and {plural(len(rests) - _MOST_SHOWN, 'more file')} like that",
            where=str(home),
            cure="remove them while no airgap runs: names that end in .part, and quarantine/*",
        )


def disk(scene: Scene) -> Iterator[Finding]:
    """Look at the disk that the home lies on."""
    mount = mounts.of(scene.path, scene.mounts)
    yield from file_system(mount, scene.path)
    status = os.statvfs(scene.path)
    read_only = bool(status.f_flag & os.ST_RDONLY)
    writable = not read_only and os.access(scene.path, os.W_OK | os.X_OK)
    if os.access(scene.path, os.R_OK | os.X_OK):  # Else said by ``there``.
        yield from can_write(scene.path, writable=writable, read_only=read_only)
    _, free = mounts.said(status)
    yield from space(free, scene.path)
    yield from inodes(status.f_files, status.f_favail, scene.path)


def file_system(mount: Mount | None, home: Path) -> Iterator[Finding]:
    """Judge what sort of file system the home lies on."""
    kind = mount.kind if mount else "unknown"
    if kind in _OVER_A_NETWORK:
        yield wrong(
            "home.file-system",
            f"the home lies on a file system of another machine ({kind})",
            where=str(home),
            expected="a disk of this machine: locks over a network do not hold, and SQLite needs them",
            cure="move the home to a local disk while no airgap runs, and name it with --home",
        )
    elif kind in _WITHOUT_MODES:
        yield wrong(
            "home.file-system",
            f"the home lies on a file system without permissions ({kind})",
            where=str(home),
            expected="ext4, XFS or the like: there everybody can read the private keys",
            cure="move the home to a local disk while no airgap runs, and name it with --home",
        )
    elif kind in _IN_MEMORY:
        yield warning(
            "home.file-system",
            f"the home lies in memory ({kind}), and is gone when the machine is switched off",
            where=str(home),
            expected="a disk: what is collected or delivered must not be forgotten",
            cure="move the home to a disk while no airgap runs, and name it with --home",
        )
    else:
        yield ok("home.file-system", kind, str(mount.point) if mount else None)


def can_write(home: Path, *, writable: bool, read_only: bool) -> Iterator[Finding]:
    """Judge whether commands can keep anything."""
    if writable:
        yield ok("home.writable", "the home can be written to")
        return
    yield wrong(
        "home.writable",
        "the home's disk is mounted read-only" if read_only else "the home can't be written to",
        where=str(home),
        expected="a folder that this user can write to",
        cure="mount it again: mount -o remount,rw; a disk that turned read-only by itself is failing"
        if read_only
        else f"run airgap as the home's user, or: chmod 700 {quote(str(home))}",
    )


def space(free: int | None, home: Path) -> Iterator[Finding]:
    """Judge how many bytes are free."""
    if free is None or free >= LEAST_SPACE:
        yield ok("home.space", "not said by the disk" if free is None else f"{size(free)} free")
        return
    judged = wrong if free < LEAST_SPACE // 10 else warning
    yield judged(
        "home.space",
        f"only {size(free)} are free",
        where=str(home),
        expected=f"{size(LEAST_SPACE)} or more",
        cure="make room on that disk; on the isolated host airgap outbox prune --older-than 90d "
        "takes confirmed records away",
    )


def inodes(total: int, free: int, home: Path) -> Iterator[Finding]:
    """Judge how many files can still be made; some file systems count none."""
    if total == 0 or free >= LEAST_INODES:
        yield ok("home.inodes", "not counted by the disk" if total == 0 else f"{free:,} free")
        return
    judged = wrong if free < LEAST_INODES // 10 else warning
    yield judged(
        "home.inodes",
        f"room for {plural(free, 'more file')} only",
        where=str(home),
        expected=f"{LEAST_INODES:,} or more free inodes",
        cure="remove small files that nobody needs from that disk (df -i shows it)",
    )


def _entry(path: Path, relative: Path) -> Entry:
    status = path.lstat()
    try:
        changed = datetime.fromtimestamp(status.st_mtime, UTC)
    except (OverflowError, ValueError, OSError):
        changed = datetime.min.replace(tzinfo=UTC)
    return Entry(relative, status.st_mode, status.st_uid, changed)


def _is_open(entry: Entry) -> bool:
    """Tell whether others can do with a file what is not theirs to do.

    Public halves may be read by all, but changed by nobody; links have no permissions of their own.
    """
    if stat.S_ISLNK(entry.mode):
        return False
    name = entry.path.name
    is_public = not entry.is_folder and (name.endswith(_PUBLIC) or name in _TRUST_STORES)
    return bool(entry.mode & (0o022 if is_public else 0o077))


def _is_shut(entry: Entry) -> bool:
    """Tell whether not even its owner can read a file or look into a folder."""
    needed = 0o500 if entry.is_folder else 0o400
    return not stat.S_ISLNK(entry.mode) and entry.mode & needed != needed


def _more(found: list[Entry]) -> str:
    more = len(found) - _MOST_SHOWN
    return f" and {more:,} more" if more > 0 else ""


def _side(scene: Scene) -> str:
    return "workstation" if scene.is_workstation else "isolated host"
