"""What airgap needs of the system, shown by a kernel that refuses everything else."""

import errno
import json
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sandbox
from everything import CONNECTED, first_half, second_half, words_of
from forging import forged
from support import (
    REPOSITORY,
    Site,
    every_command,
    report,
    trusted,
)

from airgap import catalog, limits
from airgap.bundle import codec, layout
from airgap.bundle.layout import Header
from airgap.trust import keys
from airgap.trust import store as trust_store

VECTORS = REPOSITORY / "tests" / "vectors"
GOLDEN = sorted(p for p in VECTORS.iterdir() if p.suffix in (".airgap", ".receipt"))
INDEX = json.loads((VECTORS / "index.json").read_bytes())

no_strace = None if shutil.which("strace") else "strace is not installed (Debian: strace)"
no_network = sandbox.no_namespace()
no_mounts = sandbox.no_namespace("-m")
needs_seccomp = pytest.mark.skipif(bool(sandbox.no_seccomp()), reason=str(sandbox.no_seccomp()))
needs_landlock = pytest.mark.skipif(bool(sandbox.no_landlock()), reason=str(sandbox.no_landlock()))
needs_offline = pytest.mark.skipif(bool(no_network), reason=str(no_network))
needs_strace = pytest.mark.skipif(bool(no_strace), reason=str(no_strace))
needs_mounts = pytest.mark.skipif(bool(no_mounts), reason=str(no_mounts))


def program(*arguments: object) -> list[str]:
    return [sys.executable, sandbox.PROGRAM, *map(str, arguments)]


def airgap(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "airgap", *map(str, arguments)]


def call(command: list[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def told(command: list[str]) -> Any:
    return json.loads(call(command).stdout)


# ---- the isolated side where there is no network


def run_offline(site: Site, commands: list[tuple[object, ...]]) -> list[tuple[str, ...]]:
    """Run commands without a network; hold that each works and asks for no socket."""
    spec, trace = site.root / "commands.json", site.root / "trace"
    spec.write_text(json.dumps([list(map(str, words)) for words in commands]))
    ends = told(sandbox.offline(sandbox.watched(trace, program("commands", spec))))
    names = [words_of(tuple(map(str, words))) for words in commands]
    for name, end in zip(names, ends, strict=True):
        assert end["code"] == 0, (name, end["said"])
    # Not even a socket of the machine's own (AF_UNIX): nothing that is imported needs one.
    assert trace.read_text() == ""
    return names


@needs_offline
@needs_strace
def test_every_isolated_command_works_without_a_network_and_asks_for_no_socket(site, beacon):
    done = run_offline(site, first_half(site))
    site.import_(beacon.url)
    done += run_offline(site, second_half(site))
    forgotten = set(every_command()) - CONNECTED - {("capture",)} - set(done)
    assert not forgotten, (
        "add the new command to first_half or second_half of tests/everything.py, or to CONNECTED"
    )
    assert site.status()["waiting"] == {}


@needs_offline
@needs_strace
def test_a_socket_would_be_seen_there_and_would_reach_nobody(tmp_path):
    code = (
        "import socket, pathlib\n"
        "print(pathlib.Path('/proc/net/dev').read_text())\n"
        "print(socket.socket().connect_ex(('127.0.0.1', 9)))"
    )
    trace = tmp_path / "trace"
    said = call(sandbox.offline(sandbox.watched(trace, (sys.executable, "-c", code)))).stdout
    assert re.findall(r"^ *(\S+):", said, re.MULTILINE) == ["lo"]
    assert int(said.split()[-1]) == errno.ENETUNREACH
    assert "AF_INET" in trace.read_text()


@needs_offline
@needs_strace
def test_capture_opens_its_listener_and_nothing_else_where_there_is_only_loopback(site):
    trace = site.root / "trace"
    arguments = ("--home", site.isolated, "--listen", "127.0.0.1:0")
    body = json.dumps({k: v for k, v in report(1).items() if k != "license"})
    arguments += ("--api-key-file", site.api_key_file)
    command = program("capture", trace, body, *arguments)
    end = told(sandbox.offline(command, loopback=True))
    assert (end["status"], end["code"]) == (204, 0)
    calls = [line.split(" ", 1)[1].strip() for line in trace.read_text().splitlines()]
    made = [c for c in calls if c.startswith("socket(")]
    assert [re.findall(r"AF_\w+|SOCK_STREAM", c) for c in made] == [["AF_INET", "SOCK_STREAM"]]
    # asyncio wakes its own loop, when a signal comes, through a pair that nobody else can reach.
    pairs = [c for c in calls if c.startswith("socketpair(")]
    assert all(c.startswith("socketpair(AF_UNIX, SOCK_STREAM") for c in pairs)
    assert sum(c.startswith("bind(") for c in calls) == 1
    assert sum(c.startswith("listen(") for c in calls) == 1
    accepted = [c for c in calls if c.startswith("accept") and not c.endswith("unavailable)")]
    assert len(accepted) == 1
    assert not [c for c in calls if c.startswith(("connect(", "sendto(AF", "sendmsg("))]
    assert site.status()["waiting"]["usage_report"]["records"] == 1


# ---- what verification needs of the system


@pytest.fixture(scope="module")
def golden_trust(tmp_path_factory) -> Path:
    """The trust store of the golden files."""
    found = trust_store.TrustStore({})
    for role in ("exporter", "importer"):
        key = keys.from_seed(INDEX["keys"][role]["seed_ascii"].encode())
        found = found.with_key(trusted(key, role))
    quantum = keys.from_seed(INDEX["keys"]["quantum"]["seed_ascii"].encode(), keys.HYBRID)
    found = found.with_key(trusted(quantum, "exporter"))
    path = tmp_path_factory.mktemp("golden") / "trust.json"
    trust_store.save(path, found)
    return path


EXPORTER = keys.from_seed(INDEX["keys"]["exporter"]["seed_ascii"].encode())


def elements(*values: object) -> tuple[int, bytes]:
    return len(values), codec.array_header(len(values)) + b"".join(map(codec.encode, values))


@needs_seccomp
def test_verification_of_an_open_file_needs_to_read_to_seek_and_memory_and_nothing_else(
    golden_trust, tmp_path
):
    violations = [
        forged(tmp_path / "no-record.airgap", EXPORTER, [elements({"kind": "usage_report"})]),
        forged(tmp_path / "no-manifest.airgap", EXPORTER, [], source="UPPER", created_at="soon"),
    ]
    files = [*GOLDEN, *violations]
    free = told(program("verify", "plain", golden_trust, *files))
    confined = told(program("verify", "confined", golden_trust, *files))
    assert confined == free
    for path, verdict in zip(files, confined, strict=True):
        accepted = INDEX["accepted"].get(path.name)
        assert isinstance(verdict, list) == (accepted is not None), path.name
        if accepted and "id" in accepted:
            assert verdict[0] == accepted["id"]
    assert [v["error"] for v in confined[-2:]] == ["InputRefusedError"] * 2


@needs_seccomp
def test_the_filter_refuses_all_that_verification_does_not_need(golden_trust):
    file = VECTORS / "bundle-zstd.airgap"
    found = told(program("try", "refuse", golden_trust, file))
    verified = found.pop("verified")
    assert verified[0][0] == INDEX["accepted"][file.name]["id"]
    assert found == dict.fromkeys(
        (
            *("open", "create", "list", "unlink", "rename"),
            *("socket", "execute", "fork", "kill", "code"),
        ),
        errno.EPERM,
    )
    call(program("try", "kill", golden_trust, file, "open"), -signal.SIGSYS)


def test_the_list_of_what_verification_needs_is_the_documented_one():
    text = (REPOSITORY / "keys" / "README.md").read_text()
    section = text.split("## What verification needs of the system")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    listed = [name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(listed) == sorted(sandbox.VERIFICATION_NEEDS)


# ---- bounded memory and time


def full_chunk(*records: dict[str, Any]) -> tuple[int, bytes]:
    """Return a chunk that expands to what is allowed, of these records over and over."""
    packed = [codec.encode(record) for record in records]
    times = (limits.MAX_CHUNK_SIZE - 5) // sum(map(len, packed))
    count = times * len(packed)
    return count, codec.array_header(count) + b"".join(packed) * times


def snapshot() -> dict[str, Any]:
    moment = {"from_timestamp": "2026-01-06T00:00:00Z", "to_timestamp": "2026-01-07T00:00:00Z"}
    return {
        "kind": "usage_snapshot",
        "dialect": "documents",
        "credential": "license:" + 32 * "0",
        "occurrence": 0,
        "payload": {**moment, "measures": {}},
    }


def of_snapshots(count: int) -> dict[str, Any]:
    """Return the manifest's fields that follow from so many snapshots."""
    return {
        "totals": {"usage_snapshot": {"records": count, "sums": {}}},
        "period": {"from": "2026-01-06T00:00:00Z", "to": "2026-01-07T00:00:00Z"},
        "schemas": {"usage_snapshot": catalog.load().schema_digest("kinds/usage_snapshot")},
        "credentials": ["license:" + 32 * "0"],
    }


MEMORY = 128 * 1024**2
"""What verification may take beside the interpreter: eight times the largest chunk."""
SECONDS = 30


def test_a_chunk_of_as_many_records_as_it_can_hold_is_verified_within_bounds(
    golden_trust, tmp_path
):
    count, data = full_chunk(snapshot())
    path = forged(tmp_path / "full.airgap", EXPORTER, [(count, data)], **of_snapshots(count))
    assert len(data) > 0.99 * limits.MAX_CHUNK_SIZE
    assert path.stat().st_size < limits.MAX_CHUNK_SIZE / 50
    [[_, found, _]] = told(program("bounded", MEMORY, SECONDS, golden_trust, path))
    assert found == count


@pytest.mark.parametrize("garbage", [b"\x90", b"\x81\xa1a", b"\xa0", b"\xdc\x10\x00"])
def test_an_envelope_as_large_as_it_can_be_is_refused_within_bounds(
    garbage, golden_trust, tmp_path
):
    path = tmp_path / "garbage.airgap"
    start = layout.PREAMBLE + Header("bundle").encode()
    data = (garbage * (limits.MAX_ENVELOPE_SIZE // len(garbage)))[: limits.MAX_ENVELOPE_SIZE]
    path.write_bytes(start + data + layout.footer(len(start), len(data)))
    [verdict] = told(program("bounded", MEMORY, 5, golden_trust, path))
    assert verdict["error"] == "DamagedError"


def test_the_bounds_bite(golden_trust, tmp_path):
    count, data = full_chunk(snapshot())
    path = forged(tmp_path / "full.airgap", EXPORTER, [(count, data)], **of_snapshots(count))
    done = subprocess.run(
        program("bounded", 8 * 1024**2, SECONDS, golden_trust, path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "MemoryError" in done.stderr


# ---- a stick that can't be written


def looked_at(site: Site) -> list[tuple[str, ...]]:
    """Return what a workstation does before anything is sent."""
    home = ("--home", site.workstation)
    license_file = ("--license-file", site.license_file)
    return [
        tuple(map(str, words))
        for words in (
            ("verify", *home, site.stick),
            ("import", *home, site.stick, *license_file, "--dry-run"),
        )
    ]


@needs_landlock
def test_verify_and_a_dry_run_need_the_stick_to_read_and_the_home_to_write(exported):
    site = exported
    read = f"{site.stick}:{site.license_file}"
    for words in looked_at(site):
        said = call(program("landlocked", read, site.workstation, *words)).stdout
        assert "verified, 3 records" in said
    for place, code in ((site.stick, errno.EACCES), (site.workstation, None)):
        attempt = program("landlocked", read, site.workstation, "try", place / "new")
        assert told(attempt) == [code]
    attempt = program("landlocked", read, site.workstation, "try", site.bundle, "/etc/passwd")
    assert told(attempt) == [errno.EACCES, errno.EACCES]


@needs_mounts
def test_import_from_a_read_only_mount_delivers_and_keeps_the_receipt_in_the_home(exported, beacon):
    site = exported
    before = {p.name: p.read_bytes() for p in site.stick.iterdir()}
    words = ["import", "--home", site.workstation, site.stick, "--beacon-url", beacon.url]
    words += ["--license-file", site.license_file, "--json"]
    for command, code in ((["touch", str(site.stick / "new")], 1), (airgap(*words), 0)):
        done = call(sandbox.read_only(site.stick, command), code)
    assert "the receipt stays in the home" in done.stderr
    assert json.loads(done.stdout)["states"]["usage_report"]["delivered"] == 3
    assert {p.name: p.read_bytes() for p in site.stick.iterdir()} == before
    again = site.import_(beacon.url)
    assert "nothing of it is delivered twice" in again.stdout
    [receipt] = site.stick.glob("*.receipt")
    site.apply()
    assert site.status()["waiting"] == {}
    assert stat.S_ISREG(receipt.lstat().st_mode)


# ---- a workstation that has lost its network


@needs_offline
def test_an_import_without_a_network_takes_in_and_is_resumed_when_it_is_back(exported, beacon):
    site = exported
    words = ["import", "--home", site.workstation, "--beacon-url", beacon.url, "--attempts", 1]
    words += ["--license-file", site.license_file, "--json"]
    done = call(sandbox.offline(airgap(*words, site.stick)), 7)
    told_ = json.loads(done.stdout)
    assert [f["error"] for f in told_["files"]] == [None]
    assert told_["states"]["usage_report"] == {"waiting": 3}
    assert told_["error"]["error"] == "UnreachableError"
    assert "--resume" in done.stderr
    assert not beacon.seen
    resumed = json.loads(call(airgap(*words, "--resume")).stdout)
    assert resumed["states"]["usage_report"] == {"delivered": 3}
    assert len(beacon.seen) == 3
