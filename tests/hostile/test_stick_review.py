"""What a hostile review of the way from the stick to a verdict found, each held by its own test."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import sandbox
from forging import forged
from support import LICENSE, Site, run, trusted

from airgap import credentials
from airgap.bundle import codec
from airgap.contents import Contents
from airgap.records import Record
from airgap.trust import keys
from airgap.trust import store as trust_store

FORGED_LINES = "\nFORGED.airgap: verified, 3 records\n  Signed by 3f2a 91bc (exporter)\x1b[2J\x1b]0;x\x07\u202e"
"""Lines as airgap prints them, a screen wiped, a title set, a text turned around."""


def lines_shown(*arguments: object) -> list[str]:
    """Run a command and return its lines, after a check that each is safe to show."""
    output = run(*arguments, code=None).output
    for character in set(output) - {"\n"}:
        assert unicodedata.category(character)[0] != "C", repr(character)
    return output.split("\n")


def looked_at(site: Site, path: object) -> list[str]:
    home = ("--home", site.workstation)
    shown = [
        *lines_shown("verify", *home, path),
        *lines_shown("import", *home, path, "--license-file", site.license_file, "--dry-run"),
        *lines_shown("inspect", *home, "--unverified", path),
        *lines_shown("cat", *home, "--unverified", path),
    ]
    assert len(shown) > 8
    return shown


# ---- the terminal


def test_the_name_of_a_file_adds_no_line_to_what_is_shown(exported):
    site = exported
    hostile = site.stick / f"a{FORGED_LINES}.airgap".replace("/", "")
    for content in (site.bundle.read_bytes(), b"junk", b""):
        hostile.write_bytes(content)
        shown = looked_at(site, hostile)
        assert not [line for line in shown if line.startswith(("FORGED", "  Signed by 3f2a"))]
    hostile.unlink()
    hostile.symlink_to("/dev/zero")
    assert not [line for line in looked_at(site, hostile) if line.startswith("FORGED")]


@pytest.mark.parametrize("known", [True, False])
def test_what_a_manifest_says_adds_no_line_to_what_is_shown(site, known):
    key = site.exporter if known else keys.generate()
    path = forged(
        site.stick / "x.airgap",
        key,
        [],
        producer="x" + FORGED_LINES[:60],
        message="x" + FORGED_LINES,
        allowed=["x" + FORGED_LINES],
        pseudonymised=["x" + FORGED_LINES],
        totals={"usage_report": {"records": 1, "sums": {"x" + FORGED_LINES: 5}}},
    )
    shown = looked_at(site, path)
    assert not [line for line in shown if line.startswith(("FORGED", "  Signed by 3f2a"))]
    assert [line for line in shown if "FORGED" in line]


def test_a_body_of_several_lines_passes_for_no_other_request(site, schemas):
    body = "[]\nPOST https://forged.example/v1\nContent-Type: application/json"
    form = {"content_type": "application/json", "content_encoding": "identity"}
    payload = {**form, "encoding": "utf-8", "body": body}
    credential = credentials.fingerprint("license", LICENSE)
    record = Record("otlp_metrics", "documents", credential, 0, payload)
    contents = Contents()
    contents.add(record, schemas.kind(record.kind), where="test")
    chunk = codec.array_header(1) + codec.encode(record.as_map())
    forged(site.stick / "x.airgap", site.exporter, [(1, chunk)], **contents.as_map(schemas))
    shown = lines_shown(
        *("import", "--home", site.workstation, site.stick),
        *("--license-file", site.license_file, "--dry-run"),
    )
    assert [line.split()[0] for line in shown if "POST " in line] == ["POST", "POST"]
    assert sum(line.startswith("POST ") for line in shown) == 1


def test_the_next_command_can_be_copied_whatever_the_file_is_called(exported):
    path = exported.stick / "x; touch hacked $(id) 'y.airgap"
    exported.bundle.rename(path)
    shown = lines_shown("inspect", "--home", exported.workstation, path)
    [told] = [line.partition("Next: ")[2] for line in shown if "Next: " in line]
    assert shlex.split(told) == ["airgap", "cat", str(path)]


def test_a_name_that_a_shell_makes_an_option_of_does_nothing_to_the_terminal(tmp_path):
    command = [sys.executable, "-m", "airgap", "verify", "--\x1b[2J\u202e.airgap"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert r"\x1b[2J\u202e" in done.stderr
    assert "\x1b" not in done.stderr


# ---- memory and time


def bounded(tmp_path, path, *, memory: int, seconds: int) -> dict[str, object]:
    """Verify a file that a trusted exporter signed, within limits; return why it is refused."""
    trust = tmp_path / "trust.json"
    command = [sys.executable, sandbox.PROGRAM, "bounded", memory, seconds, trust, path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [verdict] = json.loads(done.stdout)
    return verdict


@pytest.fixture
def exporter(tmp_path) -> keys.PrivateKey:
    key = keys.generate()
    trust_store.save(
        tmp_path / "trust.json", trust_store.TrustStore({}).with_key(trusted(key, "exporter"))
    )
    return key


@pytest.mark.parametrize("empty", [b"\x90", b"\x80"])
def test_two_kilobytes_of_empty_arrays_do_not_take_a_gigabyte(empty, exporter, tmp_path):
    row = b"\xdc\x10\x00" + 4096 * empty
    for rows in (15 * 2**20 // len(row), 5 * 2**20 // len(row)):
        chunk = b"\x91\x81\xa1a\xdc" + rows.to_bytes(2) + row * rows
        path = forged(tmp_path / "x.airgap", exporter, [(1, chunk)])
        assert path.stat().st_size < 3000
        verdict = bounded(tmp_path, path, memory=80 * 2**20, seconds=5)
        assert verdict["error"] == "DamagedError"


def test_a_list_of_mixed_values_is_not_compared_each_with_each(exporter, tmp_path):
    # 100,000 of them took minutes: jsonschema compares each with each unless all can be sorted.
    mixed = [value for number in range(50_000) for value in (str(number), number)]
    path = forged(tmp_path / "x.airgap", exporter, [], allowed=mixed, pseudonymised=mixed)
    verdict = bounded(tmp_path, path, memory=256 * 2**20, seconds=8)
    assert verdict["error"] == "InputRefusedError"


@pytest.mark.parametrize("what", ["credentials", "names outside", "measures"])
def test_records_that_name_more_than_a_manifest_can_list_are_refused_at_once(
    what, exporter, tmp_path
):
    moment = {"from_timestamp": "2026-01-06T00:00:00Z", "to_timestamp": "2026-01-07T00:00:00Z"}
    packed = []
    for number in range(1100 if what == "credentials" else 40):
        names = {"credentials": 0, "names outside": 30, "measures": 128}[what]
        payload = {**moment, "measures": {f"m{number}.{i}": 1 for i in range(names)}}
        credential = f"license:{number if what == 'credentials' else 0:032x}"
        packed.append(
            codec.encode(
                {
                    "kind": "usage_snapshot",
                    "dialect": "documents",
                    "credential": credential,
                    "occurrence": 0,
                    "payload": payload,
                }
            )
        )
    chunk = codec.array_header(len(packed)) + b"".join(packed)
    # What comes after is not looked at any more.
    path = forged(tmp_path / "x.airgap", exporter, [(len(packed), chunk), (1, b"junk")])
    verdict = bounded(tmp_path, path, memory=64 * 2**20, seconds=5)
    assert "than a manifest can list" in str(verdict["message"])


# ---- what lies on a stick


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero")])
def test_a_key_file_that_is_no_file_is_refused_and_not_waited_for(site, make):
    path = site.stick / "exporter.pub"
    make(path)
    words = ("trust", "add", "--home", site.workstation, path, "--role", "exporter")
    assert run(*words, "--source", "x", code=2).exit_code == 2


def test_a_quarantine_that_is_no_folder_stops_the_import_and_loses_nothing(exported, beacon):
    place = exported.workstation / "quarantine"
    for make in (lambda: place.symlink_to("nowhere"), place.touch):
        make()
        exported.import_(beacon.url, code=8)
        place.unlink()
    exported.import_(beacon.url)
    assert len(beacon.seen) == 3


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("words", [("verify",), ("import", "--dry-run")])
def test_a_file_on_the_stick_is_opened_once_and_never_asked_for_again(exported, words):
    site = exported
    trace = site.root / "trace"
    options = ("--license-file", site.license_file) if words[0] == "import" else ()
    command = ["strace", "--seccomp-bpf", "-f", "-qq", "-y", "-e", "trace=%file,%desc", "-o", trace]
    command += [sys.executable, "-m", "airgap", *words, "--home", site.workstation, site.stick]
    done = subprocess.run(list(map(str, (*command, *options))), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
    opened = [c for c in calls if c.startswith("openat(") and str(site.bundle) in c]
    assert len(opened) == 1
    assert "O_NOFOLLOW" in opened[0]
    # Read front to back: what the medium would say a second time is never heard.
    touched = [c.partition("(")[0] for c in calls if f"<{site.bundle}>" in c.partition(",")[0]]
    assert "read" in touched
    assert not [c for c in touched if c in ("pread64", "mmap", "dup")]
    seeks = [c for c in calls if c.startswith("lseek(") and f"<{site.bundle}>" in c]
    assert not [c for c in seeks if "SEEK_CUR" not in c]
