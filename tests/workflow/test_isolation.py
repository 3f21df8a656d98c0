"""Promise 8: the isolated side opens no connection and loads no network module; help is quick."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support import SOURCE, every_command, report, run, write_lines

from airgap import home as homes
from airgap.cli.main import COMMANDS

_WATCHED = """
import json, os, sys
def watch(event, args):
    if event.startswith("socket.") or event in ("urllib.Request", "http.client.connect"):
        sys.stderr.write(f"NETWORK {event}\\n")
        raise SystemExit(99)
sys.addaudithook(watch)
from airgap.cli.main import main
def run(words):
    sys.argv[1:] = words
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        # Not "socket" itself: jsonschema-rs imports email.utils, which does. That nothing is opened
        # is shown below by the system calls.
        bad = {"ssl", "_ssl", "http.client", "http.server", "pycurl", "httpx", "urllib.request", "asyncio"}
        loaded = sorted(bad & sys.modules.keys())
        if loaded:
            sys.stderr.write(f"LOADED {loaded}\\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
ends = []
for words in json.loads(sys.stdin.read()):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for descriptor in (1, 2):
            os.dup2(writing, descriptor)
        run(words)
    os.close(writing)
    with os.fdopen(reading) as said:
        ends.append([said.read(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])])
print(json.dumps(ends))
"""


def assert_isolated(words: tuple[object, ...], said: str, code: int) -> None:
    assert "NETWORK" not in said, words
    assert "LOADED" not in said, (words, said)
    assert code == 0, (words, said)


def watched(*commands: tuple[object, ...]) -> list[tuple[str, int]]:
    """Run commands, each in a process of its own that begins with what each begins with."""
    typed = json.dumps([list(map(str, words)) for words in commands])
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED], input=typed, capture_output=True, text=True, check=True
    )
    return [(said, code) for said, code in json.loads(done.stdout)]


def all_isolated(*commands: tuple[object, ...]) -> None:
    for words, (said, code) in zip(commands, watched(*commands), strict=True):
        assert_isolated(words, said, code)


def test_no_command_of_the_isolated_side_loads_a_network_module(site, beacon, tmp_path):
    source = write_lines(tmp_path / "usage.jsonl", [report(1)])
    rows = tmp_path / "snapshots.csv"
    rows.write_text(
        "id,from_timestamp,to_timestamp,measures\n"
        "af28dfea-5358-463d-a2dc-37df00000001,2026-01-06 00:00:00+00,2026-01-07 00:00:00+00,"
        '"{""users"": 3}"\n'
    )
    home = ("--home", site.isolated)
    all_isolated(
        ("init", "--home", tmp_path / "other", "--source", "x"),
        ("key", "generate", "--home", tmp_path / "other", "--no-passphrase"),
        ("key", "list", *home),
        ("trust", "list", *home),
        ("collect", *home, source),
        ("collect", *home, rows, "--license-file", site.license_file),
        ("export", *home, "--to", site.stick),
        ("status", *home),
        ("doctor", *home, "--deep"),
    )
    site.import_(beacon.url)
    pairing = run("receipt", "pair", "--home", site.workstation, SOURCE, "--json").stdout
    secret = tmp_path / "secret"
    secret.write_text(json.loads(pairing)["secret"])
    code = json.loads(run("receipt", "code", "--home", site.workstation, SOURCE, "--json").stdout)
    code = code["codes"][0]["code"]
    anew = ("--home", homes.create(tmp_path / "anew", "isolated", SOURCE).path)
    shutil.copy(site.isolated / "trust.json", anew[1])
    all_isolated(
        ("inspect", *home, site.bundle),
        ("cat", *home, site.bundle),
        ("verify", *home, site.stick),
        ("receipt", "apply", *home, site.stick),
        ("receipt", "pair", *home, "relay-1", "--secret-file", secret),
        ("receipt", "enter", *home, "1", code),
        ("export", *home, "--to", site.stick, "--no-usage", "2026-01-10..2026-01-11"),
        ("outbox", "prune", *home, "--older-than", "0s"),
        ("outbox", "continue", *anew, *site.stick.glob("*.receipt")),
        ("audit", "verify", *home),
        ("audit", "show", *home),
        ("status", *home, "--json", "--max-age", "9000d", "--gap-over", "9000d", "--check"),
    )


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_command_of_the_isolated_side_asks_the_kernel_for_a_network_socket(site, tmp_path):
    source = write_lines(tmp_path / "usage.jsonl", [report(1)])
    for number, arguments in enumerate(
        (
            ("collect", "--home", site.isolated, source),
            ("export", "--home", site.isolated, "--to", site.stick),
            ("verify", "--home", site.isolated, site.stick),
            ("status", "--home", site.isolated),
            ("outbox", "prune", "--home", site.isolated, "--older-than", "0s"),
            ("audit", "verify", "--home", site.isolated),
            ("doctor", "--home", site.isolated),
        )
    ):
        trace = tmp_path / f"trace-{number}"
        command = ["strace", "--seccomp-bpf", "-f", "-qq", "-e", "trace=%network", "-o", trace]
        command += [sys.executable, "-m", "airgap", *arguments]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        assert "AF_INET" not in trace.read_text(), arguments


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_capture_listens_and_never_connects(site, tmp_path):
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,bind", "-o", trace]
    command += [sys.executable, "-m", "airgap", "capture", "--home", site.isolated]
    command += ["--listen", "127.0.0.1:0", "--api-key-file", site.api_key_file]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    with process, process.stdout as said:
        url = said.readline().removeprefix("Listening on ").strip()
        body = {k: v for k, v in report(1).items() if k != "license"}
        answer = httpx.post(f"{url}/v1/metadata/submit", json=body)
        assert answer.status_code == 204
        # strace passes no signal on, so the process is asked by itself.
        child = next(
            iter(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        )
        os.kill(int(child), signal.SIGTERM)
        said.read()
    text = trace.read_text()
    assert "bind(" in text
    assert not [line for line in text.splitlines() if "connect(" in line and "AF_INET" in line]
    assert site.status()["waiting"]["usage_report"]["records"] == 1


def test_every_commands_help_has_an_example_and_the_options_that_all_have():
    for command in every_command():
        output = run(*command, "--help").output
        for part in ("Example", "--json", "--quiet"):
            assert part in output, command


@pytest.fixture(scope="module")
def helped():
    names = ["", *COMMANDS]
    return dict(zip(names, watched(*((*name.split(), "--help") for name in names)), strict=True))


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_loads_no_network_module(helped, name):
    assert_isolated((name, "--help"), *helped[name])


def test_help_loads_no_heavy_module():
    code = "import sys; from airgap.cli.main import main\ntry: main()\nfinally: sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    heavy = {
        "cryptography",
        "jsonschema",
        "jsonschema_rs",
        "msgpack",
        "orjson",
        "zstandard",
        "rich",
        "sqlite3",
    }
    assert not heavy & set(done.stderr.split())


def test_every_command_prints_one_json_object_and_nothing_else_on_stdout(site, beacon):
    source = write_lines(site.root / "usage.jsonl", [report(1)])
    isolated, workstation = ("--home", site.isolated), ("--home", site.workstation)
    url = ("--beacon-url", beacon.url, "--license-file", site.license_file)
    for arguments in (
        ("key", "list", *isolated),
        ("key", "fingerprint", *isolated),
        ("trust", "list", *isolated),
        ("collect", *isolated, source),
        ("export", *isolated, "--to", site.stick),
        ("inspect", *isolated, site.stick / "bank-a.prod-000001.airgap"),
        ("cat", *isolated, site.stick / "bank-a.prod-000001.airgap"),
        ("verify", *isolated, site.stick),
        ("import", *workstation, site.stick, *url, "--dry-run"),
        ("import", *workstation, site.stick, *url),
        ("ledger", "list", *workstation),
        ("ledger", "deadletter", "export", *workstation, "--to", site.root / "dead.jsonl"),
        ("receipt", "apply", *isolated, site.stick),
        ("receipt", "pair", *workstation, SOURCE),
        ("receipt", "code", *workstation, SOURCE),
        ("outbox", "prune", *isolated, "--older-than", "0s"),
        ("audit", "verify", *isolated),
        ("audit", "show", *isolated),
        ("status", *isolated),
        ("status", *workstation),
        ("doctor", *isolated),
        ("doctor", *workstation),
    ):
        assert isinstance(json.loads(run(*arguments, "--json").stdout), dict), arguments


def test_errors_are_one_json_object_too(site):
    result = run("export", "--home", site.isolated, "--to", "/nowhere", "--json", code=2)
    value = json.loads(result.stdout)
    assert (value["error"], value["exit_code"]) == ("UsageError", 2)
    assert value["hint"]
