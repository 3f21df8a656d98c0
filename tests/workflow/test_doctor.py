"""Doctor: each check shown by a home that is broken in that one way, and nothing is changed."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
import sandbox
from support import API_KEY, LICENSE, REPOSITORY, Site, report, run

from airgap import catalog, timestamps
from airgap import home as homes
from airgap.doctor import clocks, databases, programs, running
from airgap.doctor import homes as home_checks
from airgap.doctor.findings import CHECKS, GRAVITY, GROUPS, Finding, exit_code, ok, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError
from airgap.mounts import Mount
from airgap.replay.rehearsal import RehearsalBeacon
from airgap.trust import keys, roots
from airgap.trust import store as trust_store
from airgap.trust.entries import ANY_SOURCE, Policy, Revocation, Root

NOW = datetime.now(UTC)
SCHEMA = json.loads((REPOSITORY / "schemas" / "output" / "doctor.schema.json").read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
THE_MACHINES = {
    *("home.file-system", "home.space", "home.inodes", "media.sticks", "media.left-over"),
}
"""What may be the fault of the machine that runs the tests: /tmp in memory, a stick that is plugged in."""

needs_mounts = pytest.mark.skipif(
    bool(sandbox.no_namespace("-m")), reason=str(sandbox.no_namespace("-m"))
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory) -> Site:
    """A site after one whole journey; tests break copies of it."""
    site = Site.build(tmp_path_factory.mktemp("lived-in"))
    site.collect([report(n, n) for n in range(3)])
    site.export()
    with RehearsalBeacon(catalog.load()) as beacon:
        site.import_(beacon.url)
    site.apply()
    return site


@pytest.fixture
def copy(lived_in, tmp_path) -> Site:
    root = tmp_path / "copy"
    shutil.copytree(lived_in.root, root)
    moved = {
        field.name: root / getattr(lived_in, field.name).relative_to(lived_in.root)
        for field in dataclasses.fields(lived_in)
        if isinstance(getattr(lived_in, field.name), Path)
    }
    return dataclasses.replace(lived_in, **moved)


def doctor(home: Path, *options: object, code: int | None = 0) -> dict:
    """Run it for machines, and hold what it prints against the schema."""
    said = json.loads(run("doctor", "--home", home, "--json", *options, code=code).stdout)
    VALIDATOR.validate(said)
    return said


def of(said: dict, *states: str) -> set[str]:
    return {f["id"] for f in said["findings"] if f["state"] in states} - THE_MACHINES


def the(said: dict, name: str, state: str) -> dict:
    found = [f for f in said["findings"] if (f["id"], f["state"]) == (name, state)]
    assert found, [f for f in said["findings"] if f["id"] == name]
    return found[0]


# ---- a home that is as it should be


def snapshot(folder: Path) -> dict[str, tuple]:
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


@pytest.mark.parametrize("side", ["isolated", "workstation"])
def test_a_healthy_home_has_nothing_wrong_and_is_not_changed(copy, side):
    before = snapshot(copy.root)
    said = doctor(copy.root / side, "--deep")
    assert of(said, "wrong", "warning") == set()
    assert said["side"] == side
    assert snapshot(copy.root) == before


@pytest.mark.parametrize("side", ["isolated", "workstation"])
def test_a_database_that_is_in_use_is_looked_at_and_not_changed(copy, side):
    [path] = (copy.root / side).glob("*.sqlite")
    user = sqlite3.connect(path, isolation_level=None)
    user.execute("CREATE TABLE unused (a)")  # What is new lies in the -wal file.
    before = snapshot(copy.root)
    assert path.with_name(path.name + "-wal").stat().st_size > 0
    said = doctor(copy.root / side)
    after = snapshot(copy.root)
    user.close()
    assert the(said, "database.intact", "ok")
    assert of(said, "wrong", "warning") == set()
    shared = str(path) + "-shm"  # Its marks of who reads are SQLite's own, and belong to its user.
    assert {k: v for k, v in after.items() if k != shared} == {
        k: v for k, v in before.items() if k != shared
    }


def test_a_copy_of_a_database_without_its_shm_file_is_not_touched(copy):
    path = copy.isolated / "outbox.sqlite"
    user = sqlite3.connect(path, isolation_level=None)
    user.execute("CREATE TABLE unused (a)")
    wal = path.with_name("outbox.sqlite-wal").read_bytes()
    user.close()
    path.with_name("outbox.sqlite-wal").write_bytes(wal)
    path.with_name("outbox.sqlite-wal").chmod(0o600)
    before = snapshot(copy.isolated)
    assert "airgap status" in the(doctor(copy.isolated), "database.intact", "not checked")["found"]
    assert snapshot(copy.isolated) == before


# ---- homes that are broken in one way each


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def configure(site: Site, side: str, text: str) -> None:
    with (site.root / side / "airgap.toml").open("a") as file:
        file.write(text + "\n")


def retrust(site: Site, side: str, how) -> None:
    path = site.root / side / "trust.json"
    trust_store.save(path, how(trust_store.load(path, catalog.load())))


def entry(store, key, **changes):
    return store.changed(dataclasses.replace(store.keys[key.public.key_id], **changes))


def cut_off(path: Path, to: Path | None = None) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    """Damage a table's page in the middle of a database."""
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 2 + 64] = b"\xff" * 64
    path.write_bytes(bytes(data))


def stale(path: Path) -> None:
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.write_text("half")
    path.chmod(0o600)
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))


def other_key(site: Site) -> None:
    (site.isolated / "keys" / "default.pem").write_bytes(keys.to_pem(keys.generate(), None))


def pipe(path: Path) -> None:
    """Put a pipe in a file's place: to open it would wait for ever."""
    path.unlink()
    os.mkfifo(path, 0o600)


def torn(path: Path) -> None:
    with path.open("a") as file:
        file.write('{"n": 9')


def signed_store(site: Site, *, expires: datetime, threshold: int = 1, there: int = 2) -> None:
    """Put the isolated home under a trust store that root keys sign."""
    root_keys = [keys.generate() for _ in range(there)]
    path = site.isolated / "trust.json"
    store = dataclasses.replace(
        trust_store.load(path, catalog.load()),
        root=Root(threshold, tuple((k.public, "test") for k in root_keys)),
    )
    envelope, _ = roots.propose(store, expires, catalog.load())
    signatures = tuple(k.sign(envelope.message) for k in root_keys[:threshold])
    made = dataclasses.replace(envelope, signatures=signatures)
    trust_store.signed_path(path).write_bytes(made.encode())


def audit_entry(site: Site, at: datetime) -> None:
    path = site.isolated / "audit.jsonl"
    last = path.read_bytes().splitlines()[-1]
    added = {
        "n": json.loads(last)["n"] + 1,
        "previous": hashlib.sha256(last).hexdigest(),
        "at": timestamps.to_text(at),
        "event": "end",
    }
    with path.open("ab") as file:
        file.write(json.dumps(added).encode() + b"\n")


def layout(site: Site, side: str, statement: str) -> None:
    [path] = (site.root / side).glob("*.sqlite")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


def credential(site: Site, mode: int, text: str = LICENSE, option: str = "license_file") -> None:
    path = site.root / "secret"
    path.write_text(text)
    path.chmod(mode)
    value = f'["{path}"]' if option == "license_file" else f'"{path}"'
    table = "import" if option == "license_file" else "export"
    configure(
        site, "workstation" if table == "import" else "isolated", f"[{table}]\n{option} = {value}"
    )


DAY = timedelta(days=1)
ISOLATED, WORKSTATION = "isolated", "workstation"
CASES = [
    # what is broken: check, side, how, state, a part of what is said, a part of the cure
    ("home.there", ISOLATED, lambda s: (s.isolated / "airgap.toml").unlink(), "wrong", "no airgap home", "airgap init --source"),
    ("home.configuration", ISOLATED, lambda s: change(s.isolated / "airgap.toml", "side =", "side"), "wrong", "can't be read", "with an editor"),
    ("home.configuration", ISOLATED, lambda s: change(s.isolated / "airgap.toml", '"isolated"', '"both"'), "wrong", "side in airgap.toml has another value", "with an editor"),
    ("home.permissions", ISOLATED, lambda s: s.isolated.chmod(0o755), "wrong", "others can read the home: mode 0755", "chmod 700 "),
    ("home.permissions", ISOLATED, lambda s: (s.isolated / "keys" / "default.pem").chmod(0o640), "wrong", "private key: mode 0640", "chmod 600 "),
    ("home.permissions", ISOLATED, lambda s: (s.isolated / "airgap.toml").chmod(0o644), "warning", "mode 0644", "chmod 600 "),
    ("home.permissions", ISOLATED, lambda s: (s.isolated / "trust.json").chmod(0o666), "warning", "read or change", "chmod 600 "),
    ("home.permissions", ISOLATED, lambda s: (s.isolated / "trust.json").chmod(0o200), "wrong", "its owner can not read", "chmod 600 "),
    ("home.left-over", ISOLATED, lambda s: stale(s.isolated / ".trust.json.0badcafe.part"), "warning", ".trust.json.0badcafe.part", "rm "),
    ("home.left-over", ISOLATED, lambda s: stale(s.isolated / "keys" / ".default.pem.0badcafe.part"), "warning", "cut off", "may hold a private key"),
    ("home.left-over", WORKSTATION, lambda s: stale(s.workstation / "quarantine" / "tmpabc"), "warning", "tmpabc", "rm "),
    ("database.there", ISOLATED, lambda s: (s.isolated / "outbox.sqlite").unlink(), "wrong", "the outbox is gone", "airgap outbox continue"),
    ("database.there", WORKSTATION, lambda s: (s.workstation / "ledger.sqlite").unlink(), "wrong", "the ledger is gone", "restore it from a copy"),
    ("database.there", WORKSTATION, lambda s: change(s.workstation / "airgap.toml", "side =", 'ledger = "/nowhere/l"\nside ='), "wrong", "names another one", "move"),
    ("database.intact", ISOLATED, lambda s: cut_off(s.isolated / "outbox.sqlite"), "wrong", "damaged", "restore it from a copy"),
    ("database.intact", WORKSTATION, lambda s: overwrite(s.workstation / "ledger.sqlite"), "wrong", "damaged", "restore it from a copy"),
    ("database.intact", WORKSTATION, lambda s: (s.workstation / "ledger.sqlite").write_bytes(b"no database" * 400), "wrong", "damaged", "restore it from a copy"),
    ("database.layout", ISOLATED, lambda s: layout(s, ISOLATED, "PRAGMA user_version = 99"), "wrong", "layout 99", "or a newer one"),
    ("database.layout", WORKSTATION, lambda s: layout(s, WORKSTATION, "PRAGMA application_id = 7"), "wrong", "no ledger", "airgap.toml"),
    ("database.layout", ISOLATED, lambda s: (s.isolated / "outbox.sqlite").write_bytes(b""), "warning", "is empty", "the next command"),
    ("database.newest", WORKSTATION, lambda s: layout(s, WORKSTATION, "DELETE FROM receipt"), "wrong", "older than this home's receipts", "newest ledger back"),
    ("keys.present", ISOLATED, lambda s: shutil.rmtree(s.isolated / "keys"), "wrong", "no key to sign with", "airgap key generate"),
    ("keys.readable", ISOLATED, lambda s: (s.isolated / "keys" / "default.pem").write_text("no key"), "wrong", "not a private key", "restore it"),
    ("keys.readable", ISOLATED, lambda s: pipe(s.isolated / "keys" / "default.pem"), "wrong", "not a regular file", "restore it"),
    ("trust.readable", ISOLATED, lambda s: pipe(s.isolated / "trust.json"), "wrong", "not a regular file", "restore it"),
    ("database.there", ISOLATED, lambda s: pipe(s.isolated / "outbox.sqlite"), "wrong", "not a regular file", "look at what it is"),
    ("keys.pair", ISOLATED, other_key, "wrong", "not the one of the private key", "from one copy"),
    ("keys.pair", ISOLATED, lambda s: (s.isolated / "keys" / "default.pub").unlink(), "wrong", "can't be read", "restore it"),
    ("keys.pair", ISOLATED, lambda s: (s.isolated / "keys" / "old.pub").write_text(keys.generate().public.pem), "warning", "private half of this key is gone", "--name NEW"),
    ("keys.trusted", ISOLATED, lambda s: retrust(s, ISOLATED, lambda t: t.without(s.exporter.public.key_id)), "wrong", "none is in its trust store", "airgap trust add KEY.pub --role exporter"),
    ("keys.trusted", WORKSTATION, lambda s: retrust(s, WORKSTATION, lambda t: entry(t, s.importer, roles=("reviewer",), revoked=Revocation(NOW, "lost"))), "wrong", "is revoked", "airgap key generate --name NEW"),
    ("keys.expiry", ISOLATED, lambda s: retrust(s, ISOLATED, lambda t: entry(t, s.exporter, not_after=NOW - DAY)), "wrong", "expired at", "airgap key generate"),
    ("keys.expiry", ISOLATED, lambda s: retrust(s, ISOLATED, lambda t: entry(t, s.exporter, not_after=NOW + 20 * DAY)), "warning", "expires at", "airgap key rotate NEW --key default"),
    ("trust.readable", ISOLATED, lambda s: cut_off(s.isolated / "trust.json"), "wrong", "damaged", "restore it from a copy"),
    ("trust.expiry", ISOLATED, lambda s: signed_store(s, expires=NOW - DAY), "wrong", "expired at", "airgap trust update FILE"),
    ("trust.expiry", ISOLATED, lambda s: signed_store(s, expires=NOW + 9 * DAY), "warning", "expires at", "airgap trust update FILE"),
    ("trust.keys", WORKSTATION, lambda s: retrust(s, WORKSTATION, lambda t: entry(t, s.exporter, not_after=NOW + DAY)), "warning", "exporter's key (test) expires", "airgap trust succeed"),
    ("trust.peers", WORKSTATION, lambda s: retrust(s, WORKSTATION, lambda t: t.without(s.exporter.public.key_id)), "wrong", "no bundle can be verified", "--role exporter --source NAME"),
    ("trust.peers", ISOLATED, lambda s: retrust(s, ISOLATED, lambda t: t.without(s.importer.public.key_id)), "wrong", "no receipt can be verified", "--role importer"),
    ("trust.policies", WORKSTATION, lambda s: retrust(s, WORKSTATION, lambda t: t.with_policy(Policy(ANY_SOURCE, 1, 1))), "wrong", "1 reviewer must sign, and none can", "airgap trust policy set"),
    ("trust.policies", WORKSTATION, lambda s: retrust(s, WORKSTATION, lambda t: entry(t, s.exporter, roles=("exporter", "reviewer")).with_policy(Policy("x", 1, 1))), "wrong", "2 people must sign", "airgap trust add"),
    ("trust.root", ISOLATED, lambda s: signed_store(s, expires=NOW + 99 * DAY, threshold=2), "warning", "2 of 2 root keys", "airgap trust root add"),
    ("clock.evidence", ISOLATED, lambda s: audit_entry(s, NOW + 2 * DAY), "wrong", "was set back", "set the clock right"),
    ("audit.whole", ISOLATED, lambda s: (s.isolated / "audit.jsonl").unlink(), "wrong", "no audit log", "find out who"),
    ("audit.whole", ISOLATED, lambda s: torn(s.isolated / "audit.jsonl"), "warning", "cut off", "airgap audit verify"),
    ("credentials.files", WORKSTATION, lambda s: credential(s, 0o644), "wrong", "mode 0644", "chmod o-rwx "),
    ("credentials.files", WORKSTATION, lambda s: credential(s, 0o660), "warning", "mode 0660", "chmod g-w "),
    ("credentials.files", WORKSTATION, lambda s: credential(s, 0o600, "two\nlines"), "wrong", "does not hold one key", "correct the path there"),
    ("credentials.files", WORKSTATION, lambda s: configure(s, WORKSTATION, '[import]\nlicense_file = ["/nowhere/key"]'), "wrong", "can't be read", "correct the path there"),
    ("credentials.files", ISOLATED, lambda s: credential(s, 0o604, "secret", "passphrase_file"), "wrong", "mode 0604", "chmod o-rwx "),
    ("network.urls", WORKSTATION, lambda s: configure(s, WORKSTATION, '[import]\nbeacon_url = "http://elsewhere"'), "wrong", "can't be used", "beacon_url in airgap.toml"),
    ("network.authorities", WORKSTATION, lambda s: configure(s, WORKSTATION, f'[import]\nca_file = "{s.license_file}"'), "wrong", "can't be read", "ca_file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "side", "broken", "state", "found", "cure"),
    CASES,
    ids=[f"{c[0]}-{c[1]}-{c[3]}-{n}" for n, c in enumerate(CASES)],
)
def test_a_home_that_is_broken_in_one_way_is_told_so_with_the_cure(
    copy, name, side, broken, state, found, cure
):
    broken(copy)
    before = snapshot(copy.root)
    code = CHECKS[name].exit_code if state == "wrong" else 0
    said = doctor(copy.root / side, code=code)
    told = the(said, name, state)
    assert found in told["found"], told
    assert cure in told["cure"], told
    assert of(said, "wrong", "warning") == {name}
    assert snapshot(copy.root) == before
    if state == "warning":
        doctor(copy.root / side, "--strict", code=CHECKS[name].exit_code)


# ---- what files alone can't show


def test_an_audit_log_with_a_changed_line_is_found_by_deep_alone(copy):
    change(copy.isolated / "audit.jsonl", "bundle made", "bundle lost")
    doctor(copy.isolated)
    told = the(doctor(copy.isolated, "--deep", code=5), "audit.whole", "wrong")
    assert "was changed" in told["found"]
    assert "copy of the log" in told["cure"]


def test_deep_finds_an_index_that_parts_from_its_table(copy):
    path = copy.workstation / "ledger.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, '(record)', '(conflict)')"
        " WHERE name = 'bundle_by_record'"
    )
    connection.close()
    doctor(copy.workstation)
    told = the(doctor(copy.workstation, "--deep", code=5), "database.intact", "wrong")
    assert "bundle_by_record" in told["found"]


@needs_root
def test_files_of_another_user_are_named(copy):
    os.chown(copy.isolated / "outbox.sqlite", 12345, -1)
    told = the(doctor(copy.isolated, code=8), "home.owner", "wrong")
    assert "(12345)" in told["found"]
    assert "outbox.sqlite" in told["where"]
    assert "chown -R 0 " in told["cure"]


@needs_root
def test_whoever_is_not_the_homes_user_is_told_so(copy):
    for path in (copy.isolated, *copy.isolated.rglob("*")):
        os.chown(path, 12345, -1)
    told = the(doctor(copy.isolated), "home.owner", "warning")
    warned = "airgap: warning: this home is 12345's; what you write in it is yours"
    writing = run("trust", "policy", "set", "--home", copy.isolated)
    assert writing.stderr.count(warned) == 1
    assert warned not in run("trust", "list", "--home", copy.isolated).output
    assert warned not in run("trust", "policy", "set", "--home", copy.workstation).output
    assert "sudo -u '#12345' airgap" in told["cure"]
    nobody = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable]
    if subprocess.run(
        [*nobody, "-c", "import airgap"], check=False, capture_output=True
    ).returncode:
        pytest.skip("another user can't run this Python (or there is no setpriv: util-linux)")
    with tempfile.TemporaryDirectory() as folder:
        # Where others can get to.
        Path(folder).chmod(0o755)
        home = shutil.copytree(copy.isolated, Path(folder) / "home")
        command = [*nobody, "-m", "airgap", "doctor", "--home", str(home), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 8, done.stderr
    said = json.loads(done.stdout)
    assert "can't look into it" in the(said, "home.owner", "wrong")["found"]
    assert of(said, "wrong") == {"home.owner"}


def test_a_home_of_root_keys_alone_misses_no_other_side(tmp_path):
    home, key = homes.create(tmp_path / "office", "isolated", "office"), keys.generate()
    home.add_key("root-1", key, None)
    run("trust", "root", "add", "--home", home.path, home.keys_path / "root-1.pub")
    said = doctor(home.path)
    assert of(said, "wrong") == set()
    assert the(said, "trust.peers", "not checked")
    assert "1 of 1 root key must sign" in the(said, "trust.root", "warning")["found"]


@needs_mounts
def test_a_home_on_a_disk_that_turned_read_only_is_told_so(copy):
    command = [sys.executable, "-m", "airgap", "doctor", "--home", copy.isolated, "--json"]
    done = subprocess.run(
        sandbox.read_only(copy.isolated, command), capture_output=True, text=True, check=False
    )
    assert done.returncode == 8, done.stderr
    told = the(json.loads(done.stdout), "home.writable", "wrong")
    assert "mounted read-only" in told["found"]
    assert "remount,rw" in told["cure"]


@needs_mounts
@pytest.mark.skipif(not Path("/media").is_dir(), reason="there is no /media here")
def test_a_small_disk_in_memory_and_sticks_that_need_care_are_told_so(copy):
    (copy.root / "small").mkdir()
    script = """
        mount -t tmpfs -o size=8m,nr_inodes=60,mode=0700 none "$1/small"
        cp -rp "$1/isolated/." "$1/small/"
        mount -t tmpfs none /media
        mkdir /media/full /media/locked /media/empty
        mount -t tmpfs -o size=1m none /media/full
        touch /media/full/.bank-a.prod-000001.airgap.0badcafe.part
        mount -t tmpfs -o ro none /media/locked
        exec "$2" -m airgap doctor --home "$1/small" --json
    """
    prefix, _ = sandbox._unshare("-m")
    done = subprocess.run(
        [*prefix, "sh", "-ec", script, "sh", str(copy.root), sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 8, done.stderr
    said = json.loads(done.stdout)
    assert "outbox prune" in the(said, "home.space", "wrong")["cure"]
    assert the(said, "home.inodes", "wrong")["cure"]
    assert "switched off" in the(said, "home.file-system", "warning")["found"]
    found = [f for f in said["findings"] if f["id"].startswith("media.")]
    by = {(f["id"], Path(f["where"]).name): f for f in found if f["state"] == "warning"}
    assert set(by) == {
        ("media.sticks", "full"),
        ("media.sticks", "locked"),
        ("media.left-over", "full"),
    }
    assert "another stick" in by["media.sticks", "full"]["cure"]
    assert "remount,rw" in by["media.sticks", "locked"]["cure"]
    assert "remove it" in by["media.left-over", "full"]["cure"]


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        ("nfs4", "wrong", "SQLite needs them"),
        ("exfat", "wrong", "read the private keys"),
        ("tmpfs", "warning", "forgotten"),
        ("xfs", "ok", ""),
    ],
)
def test_a_home_belongs_on_a_disk_of_this_machine(kind, state, words):
    mount = Mount("0:1", Path("/srv"), kind, read_only=False)
    [told] = home_checks.file_system(mount, Path("/srv/airgap"))
    assert (told.id, told.state) == ("home.file-system", state)
    assert words in (told.expected or "")
    assert bool(told.cure) == (state != "ok")


def test_what_a_running_command_may_need_is_not_called_a_rest():
    found = [home_checks.Entry(Path("keys/.x.pem.0badcafe.part"), 0o100600, 0, NOW)]
    assert [f.state for f in home_checks.left_over(found, NOW, Path("/h"))] == ["ok"]
    later = NOW + home_checks.STALE
    assert [f.state for f in home_checks.left_over(found, later, Path("/h"))] == ["warning"]


@pytest.mark.parametrize(
    ("newest", "now", "state"),
    [
        (None, datetime(1970, 1, 2, tzinfo=UTC), "wrong"),
        (NOW, NOW - timedelta(minutes=4), "ok"),
        (NOW, NOW - timedelta(minutes=6), "wrong"),
        (NOW, NOW + clocks.FAR, "ok"),
        (NOW, NOW + clocks.FAR + DAY, "warning"),
    ],
)
def test_the_clock_is_held_against_what_is_stored(newest, now, state):
    evidence = [] if newest is None else [(newest, "a test")]
    [told] = clocks.judge(evidence, now)
    assert told.state == state
    assert ("timedatectl" in (told.cure or "")) == (state != "ok")


def test_the_newest_of_all_that_is_stored_counts_as_evidence(lived_in):
    for side in ("isolated", "workstation"):
        home = homes.open_home(lived_in.root / side)
        scene = Scene(home.path, home, catalog.load(), NOW, {}, 0, [])
        found = {what for _, what in clocks.evidence(scene)}
        database = databases.path_of(home).name
        assert found == {
            f"an entry of {database}",
            "the audit log's last entry",
            "the trust store",
        }


# ---- keys with a passphrase


@pytest.fixture
def protected(copy) -> Site:
    path = copy.isolated / "keys" / "default.pem"
    path.write_bytes(keys.to_pem(copy.exporter, b"right"))
    return copy


def test_a_protected_key_is_named_and_nobody_is_asked(protected):
    said = doctor(protected.isolated)
    assert "protected by a passphrase" in the(said, "keys.readable", "ok")["found"]
    assert the(said, "keys.pair", "not checked")


def test_a_passphrase_that_is_configured_is_tried(protected, monkeypatch):
    monkeypatch.setenv("AIRGAP_PASSPHRASE", "right")
    assert the(doctor(protected.isolated), "keys.pair", "ok")
    monkeypatch.setenv("AIRGAP_PASSPHRASE", "wrong-passphrase")
    told = run("doctor", "--home", protected.isolated, "--json")
    assert (
        "does not open the key" in the(json.loads(told.stdout), "keys.readable", "warning")["found"]
    )
    assert "wrong-passphrase" not in told.output


# ---- credentials and settings of the environment


def test_of_a_credential_only_the_fingerprint_is_said(copy, monkeypatch):
    credential(copy, 0o600)
    monkeypatch.setenv("AIRGAP_API_KEY", API_KEY)
    monkeypatch.setenv("AIRGAP_LICENSE_KEY", "not one key")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")
    done = run("doctor", "--home", copy.workstation, "--json", code=4)
    for secret in (LICENSE, API_KEY, "not one key", "hunter2"):
        assert secret not in done.output
    said = json.loads(done.stdout)
    assert the(said, "credentials.files", "ok")["found"].startswith("license:")
    assert the(said, "credentials.environment", "ok")["found"].startswith("api_key:")
    assert "correct the variable" in the(said, "credentials.environment", "wrong")["cure"]
    assert "http://***@proxy.example:3128" in the(said, "network.proxy", "ok")["found"]


def test_a_variable_that_is_none_and_a_profile_that_is_none_are_told_so(copy, monkeypatch):
    monkeypatch.setenv("AIRGAP_IMPORT_BECAON_URL", "https://beacon.example")
    told = the(doctor(copy.workstation), "home.configuration", "warning")
    assert told["cure"] == "did you mean AIRGAP_IMPORT_BEACON_URL?"
    monkeypatch.delenv("AIRGAP_IMPORT_BECAON_URL")
    monkeypatch.setenv("AIRGAP_PROFILE", "mars")
    told = the(doctor(copy.workstation, code=2), "home.configuration", "wrong")
    assert "no such profile: mars" in told["found"]


def test_files_and_urls_that_the_environment_or_a_profile_names_are_looked_at(copy, monkeypatch):
    copy.license_file.chmod(0o644)
    monkeypatch.setenv("AIRGAP_IMPORT_LICENSE_FILE", str(copy.license_file))
    told = the(doctor(copy.workstation, code=4), "credentials.files", "wrong")
    assert told["where"].endswith(", AIRGAP_IMPORT_LICENSE_FILE")
    said = doctor(copy.workstation, "--profile", "eu", code=4)
    assert "https://eu.api.smith.langchain.com" in json.dumps(said)


@pytest.mark.parametrize(
    "value", ["garbage://nowhere", "http://me:hunter2@proxy.example:port", "http://", "http://[::1"]
)
def test_proxy_variables_that_can_not_be_used_are_told_so(copy, monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", value)
    said = doctor(copy.workstation, code=2)
    told = the(said, "network.proxy", "wrong")
    assert "correct the variable" in told["cure"]
    assert "HTTPS_PROXY" in told["where"]
    assert "hunter2" not in json.dumps(said)


# ---- the machine


def test_libraries_are_held_against_the_bounds_of_the_package():
    required = ["click<9,>=8.2", "msgpack<2,>=1.2.1", 'httpx<1,>=0.28; extra == "importer"']
    [told] = programs.libraries(required, {"click": "8.4.1", "msgpack": "1.2.10", "httpx": "0.28"})
    assert told.state == "ok"
    found = list(
        programs.libraries(required, {"click": "8.10rc1", "msgpack": "1.2", "httpx": "1.0"})
    )
    assert [(f.state, f.found) for f in found] == [("wrong", "msgpack 1.2"), ("wrong", "httpx 1.0")]
    [told] = programs.libraries(required, {"msgpack": "1.2.1"})
    assert told.found == "click is not installed"
    assert "--require-hashes" in (told.cure or "")


def test_the_bounds_of_this_very_package_are_read():
    said = [line for line in importlib.metadata.requires("airgap") or [] if "extra" not in line]
    there = programs.installed(said)
    assert len(there) == len(said) == 9
    old = dict.fromkeys(there, "0.0.1")
    assert len(list(programs.libraries(said, old))) == 9


@pytest.mark.parametrize("needs_importer", [True, False])
def test_only_the_workstation_needs_the_http_client(needs_importer):
    required = ['httpx<1,>=0.28; extra == "importer"', 'h11<1,>=0.16; extra == "capture"']
    [told] = programs.extras(required, {"h11": "0.16"}, needs_importer=needs_importer)
    assert told.state == ("wrong" if needs_importer else "ok")
    assert "installed: capture; not installed: importer" in told.found


def test_old_programs_are_told_so():
    assert [f.state for f in programs.python((3, 10, 1), "linux")] == ["wrong"]
    assert [f.state for f in programs.python((3, 14, 0), "darwin")] == ["warning"]
    assert [f.state for f in programs.sqlite("3.36.0")] == ["wrong"]
    assert [f.state for f in programs.sqlite("3.37")] == ["ok"]


def test_a_library_without_some_algorithms_is_told_so(monkeypatch):
    def lacking(*_: object, **__: object) -> None:
        raise AirgapError("not here")

    monkeypatch.setattr(keys, "generate", lacking)
    [told] = programs.cryptography()
    assert (told.state, "without hybrid keys" in told.found) == ("warning", True)
    assert told.cure


def test_an_installed_file_that_was_changed_is_named_by_deep(tmp_path, monkeypatch):
    info = tmp_path / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (tmp_path / "made_up.py").write_text("")
    empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    (info / "RECORD").write_text(f"made_up.py,{empty},0\nmade_up-1.0.dist-info/RECORD,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [(f.state, f.found) for f in programs.files(["made-up"])] == [
        ("ok", "1 file as installed")
    ]
    (tmp_path / "made_up.py").write_text("import os")
    [told] = programs.files(["made-up"])
    assert (told.state, told.where) == ("wrong", str(tmp_path / "made_up.py"))
    assert "find out who changed it" in (told.cure or "")
    (tmp_path / "made_up.py").unlink()
    assert [f.state for f in programs.files(["made-up"])] == ["wrong"]


def test_a_workstation_without_the_http_client_is_told_so(copy, monkeypatch):
    for name in ("airgap.replay.probe", "airgap.replay.curl", "airgap.doctor.network"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("airgap.doctor.network", raising=False)
    monkeypatch.setitem(sys.modules, "pycurl", None)
    told = the(doctor(copy.workstation, code=2), "network.client", "wrong")
    assert "requirements.lock" in told["cure"]


# ---- the command


def test_without_a_home_it_works_and_says_how_to_make_one(tmp_path):
    said = doctor(tmp_path / "nowhere", code=2)
    assert of(said, "wrong") == {"home.there"}
    assert said["side"] is None
    assert the(said, "versions.libraries", "ok")
    assert the(said, "keys.present", "not checked")


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(copy, monkeypatch):
    def broken(_: Scene) -> list[Finding]:
        raise ZeroDivisionError(f"with {LICENSE}\x1b[31m")

    monkeypatch.setattr(running, "_OF_A_HOME", (("keys.present", broken), *running._OF_A_HOME[2:]))
    said = doctor(copy.isolated, code=1)
    told = the(said, "doctor.check", "wrong")
    assert "keys.present broke: ZeroDivisionError" in told["found"]
    assert LICENSE not in told["found"]
    assert "\x1b" not in told["found"]
    assert the(said, "trust.readable", "ok")


def test_the_exit_status_is_the_gravest_findings():
    lost = wrong("trust.peers", "x", cure="y")
    assert exit_code([ok("home.there", "x"), warning("trust.expiry", "x", cure="y")]) == 0
    assert exit_code([warning("trust.expiry", "x", cure="y")], strict=True) == 4
    assert exit_code([wrong("network.proxy", "x", cure="y"), lost]) == 4
    assert exit_code([lost, wrong("database.intact", "x", cure="y")]) == 5
    assert {check.exit_code for check in CHECKS.values()} <= set(GRAVITY)


def test_quiet_prints_what_is_wrong_and_its_cure_alone(copy):
    assert run("doctor", "--home", copy.isolated, "--quiet").output == ""
    (copy.isolated / "airgap.toml").chmod(0o644)
    assert run("doctor", "--home", copy.isolated, "--quiet").output == ""
    said = run("doctor", "--home", copy.isolated, "--quiet", "--strict", code=4).output
    assert said.startswith("airgap doctor: warning: home.permissions: ")
    (copy.isolated / "keys" / "default.pem").chmod(0o644)
    said = run("doctor", "--home", copy.isolated, "--quiet", code=4).output.splitlines()
    assert said[0].startswith("airgap doctor: wrong: home.permissions: ")
    assert any(line.strip().startswith("cure:") for line in said)
    assert not any(" ok " in line for line in said)


def test_people_read_groups_and_the_cure_right_below_in_80_columns(copy):
    (copy.isolated / "keys" / "default.pem").chmod(0o644)
    lines = run("doctor", "--home", copy.isolated, code=4).output.splitlines()
    paths = str(copy.root)
    assert [line for line in lines if len(line) > 80 and paths not in line] == []
    headings = [line for line in lines if line and not line.startswith(" ")][:-2]
    assert headings == [h for h in GROUPS.values() if h in headings]
    at = next(
        i for i, line in enumerate(lines) if line.startswith("  wrong        home.permissions")
    )
    below = " ".join(line.strip() for line in lines[at + 1 : at + 8])
    assert below.index("where:") < below.index("expected: mode 0600") < below.index("cure:")
    assert lines[-2] == "Begin with home.permissions."
    assert lines[-1].endswith(" not checked. Exit status 4.")
    assert lines[-1].startswith("1 wrong, 0 warnings, ")


def test_list_names_every_check_and_its_exit_status():
    said = json.loads(run("doctor", "--list", "--json").stdout)
    VALIDATOR.validate(said)
    assert [c["id"] for c in said["checks"]] == list(CHECKS)
    told = run("doctor", "--list").output
    assert all(name in told for name in CHECKS)
    assert {name.partition(".")[0] for name in CHECKS} == set(GROUPS)


def test_doctor_is_not_in_the_audit_log(copy):
    before = (copy.isolated / "audit.jsonl").read_bytes()
    doctor(copy.isolated)
    assert (copy.isolated / "audit.jsonl").read_bytes() == before


def test_the_schema_describes_every_property():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def walk(schema: dict) -> None:
        for found in schema.get("properties", {}).values():
            assert found["description"]
            walk(found)
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False
        if "items" in schema:
            walk(schema["items"])

    walk(SCHEMA)
    said = {"id": "home.there", "state": "wrong", "found": "x", "where": None, "expected": None}
    broken = {"cure": None, "exit_code": 2, **said}
    finding = VALIDATOR.evolve(schema=SCHEMA["properties"]["findings"]["items"])
    assert not finding.is_valid(broken)
    assert finding.is_valid({**broken, "cure": "y"})


SHOWN_ELSEWHERE = {
    "home.owner": "test_files_of_another_user_are_named",
    "home.writable": "test_a_home_on_a_disk_that_turned_read_only_is_told_so",
    "home.file-system": "test_a_home_belongs_on_a_disk_of_this_machine",
    "home.space": "test_a_small_disk_in_memory_and_sticks_that_need_care_are_told_so",
    "home.inodes": "test_a_small_disk_in_memory_and_sticks_that_need_care_are_told_so",
    "media.sticks": "test_a_small_disk_in_memory_and_sticks_that_need_care_are_told_so",
    "media.left-over": "test_a_small_disk_in_memory_and_sticks_that_need_care_are_told_so",
    "credentials.environment": "test_of_a_credential_only_the_fingerprint_is_said",
    "network.proxy": "test_proxy_variables_that_can_not_be_used_are_told_so",
    "network.client": "test_a_workstation_without_the_http_client_is_told_so",
    "versions.python": "test_old_programs_are_told_so",
    "versions.sqlite": "test_old_programs_are_told_so",
    "versions.cryptography": "test_a_library_without_some_algorithms_is_told_so",
    "versions.libraries": "test_libraries_are_held_against_the_bounds_of_the_package",
    "versions.extras": "test_only_the_workstation_needs_the_http_client",
    "versions.files": "test_an_installed_file_that_was_changed_is_named_by_deep",
    "doctor.check": "test_a_check_that_breaks_is_a_finding_and_the_others_go_on",
    "network.reachable": "test_doctor_probe.py",
    "database.reached": "test_shared_ledger.py",
    "clock.beacon": "test_doctor_probe.py",
}


def test_every_check_is_shown_by_a_test():
    shown = {case[0] for case in CASES} | SHOWN_ELSEWHERE.keys()
    assert shown == CHECKS.keys()
    beside = {path.name for path in Path(__file__).parent.iterdir()}
    assert all(name in globals() or name in beside for name in SHOWN_ELSEWHERE.values())
