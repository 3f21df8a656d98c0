"""What ``--json`` prints is a promise: each command has a schema, and prints what it says."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import outputs
import pytest
from everything import first_half, second_half, words_of
from servers import answer, serving
from support import REPOSITORY, SOURCE, Site, every_command, report, run

from airgap import errors
from airgap.errors import EXIT_CODES, AirgapError

PAGE = (outputs.FOLDER / "README.md").read_text()
NAMES = sorted(p.name.removesuffix(".schema.json") for p in outputs.FOLDER.glob("*.schema.json"))


def parts(schema, path=""):
    """Yield every part of a schema that describes a value, with its place."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from parts(inner, f"{path}/{name}")
    for word in ("items", "additionalProperties"):
        yield from parts(schema.get(word), f"{path}/{word}")
    for one in schema.get("anyOf", ()):
        if "type" in one:  # else it narrows what is described above
            yield from parts(one, path)
    for name, inner in schema.get("$defs", {}).items():
        yield from parts(inner, f"$defs/{name}")


def test_every_command_has_a_schema_of_what_it_prints_and_every_schema_a_command():
    commands = {"-".join(words) for words in every_command()}
    assert commands | {"common", "error"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_describes_every_property_and_lets_no_other_pass(name):
    schema = json.loads((outputs.FOLDER / f"{name}.schema.json").read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for place, part in parts(schema):
        for inner, value in part.get("properties", {}).items():
            told = value.get("description") or "common.schema.json" in value.get("$ref", "")
            assert told or "trust-store.schema.json" in value.get("$ref", ""), f"{place}/{inner}"
        if part.get("properties") and (place, name) != ("/entries/items", "audit-show"):
            assert part.get("additionalProperties") is False, place
    if name != "common":
        outputs.validator(name)


def told(site: Site, commands: list[tuple[object, ...]]) -> set[tuple[str, ...]]:
    """Run commands for machines and return their words; each output is checked where it is printed."""
    done = set()
    for command in commands:
        words = words_of(tuple(map(str, command)))
        result = run(*command, "--json", code=None)
        assert result.exit_code == 0, (command, result.output)
        assert not json.loads(result.stdout).keys() >= outputs.ERROR
        done.add(words)
    return done


def in_part(connection, _body: bytes, number: int) -> None:
    """Refuse the first request, take the second without an answer, and accept the others."""
    if number == 0:
        connection.sendall(answer(422, {"detail": "no"}))
    elif number > 1:
        connection.sendall(answer(204))


def test_every_command_prints_what_its_schema_says(site: Site, beacon):
    done = told(site, first_half(site))
    site.import_(beacon.url)
    done |= told(site, second_half(site))
    done |= told(site, connected(site, beacon))
    for name, options, number in (
        ("capture", ("--home", site.isolated, "--listen", "127.0.0.1:0"), signal.SIGTERM),
        ("rehearse", ("--port", "0"), signal.SIGINT),
    ):
        stopped(name, options, number)
        done.add((name,))
    # That one needs a server, and is held to its schema in test_ledger_move.py.
    assert set(every_command()) - done == {("ledger", "move")}


def connected(site: Site, beacon) -> list[tuple[object, ...]]:
    """Return what is done on the workstation, after a delivery in part."""
    site.collect([report(n, 12 + n) for n in range(4)])
    site.export("--key", "default")
    with serving(in_part) as server:
        site.import_(server.url, "--in-flight", "1", code=6)
    home = ("--home", site.workstation)
    left = json.loads(run("ledger", "list", *home, "--json").stdout)["records"]
    [doubt] = [one["id"] for one in left if one["state"] == "in_doubt"]
    again = ("--resume", "--license-file", site.license_file, "--api-key-file", site.api_key_file,
             "--beacon-url", beacon.url, "--api-url", beacon.url)  # fmt: skip
    return [
        ("ledger", "list", *home),
        ("ledger", "show", *home, doubt),
        ("ledger", "resolve", *home, doubt, "--delivered", "--reason", "asked"),
        ("ledger", "deadletter", "export", *home, "--to", site.root / "dead.jsonl"),
        ("ledger", "deadletter", "retry", *home, "all", "--reason", "mended"),
        ("import", *home, *again, "--dry-run"),
        ("import", *home, *again),
        ("receipt", "code", *home, SOURCE),
        ("report", *home),
        ("status", *home),
        ("demo",),
    ]


def stopped(name: str, options: tuple[object, ...], number: signal.Signals) -> None:
    """Run a command that goes on until a signal comes, and check what it prints then."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRGAP_")}
    with subprocess.Popen(
        [sys.executable, "-m", "airgap", name, *map(str, options), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        while "127.0.0.1:" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    outputs.check((name,), out, process.returncode)


def test_an_error_is_one_object_whoever_finds_it(site: Site, tmp_path):
    environment = {**os.environ, "AIRGAP_HOME": str(site.isolated)}
    for words, code in (
        (("export", "--to", "/nowhere", "--json"), 2),
        (("export", "--too", "/nowhere", "--json"), 2),
        (("exprot", "--json"), 2),
        (("verify", "/nowhere", "--json"), 2),
        (("status", "--home", str(tmp_path / "none"), "--json"), 2),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "airgap", *words],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == code, (words, done.stderr)
        outputs.check(("error",), done.stdout, code)
        assert "airgap" in done.stderr


def test_the_exit_statuses_of_readme_help_and_schema_are_those_of_the_errors():
    readme = (REPOSITORY / "README.md").read_text()
    rows = re.findall(r"^\| ([0-9]+) \| (.+?) \| (.*?) ?\|$", readme, re.MULTILINE)
    assert [(int(a), b, c) for a, b, c in rows if int(a) in EXIT_CODES] == [
        (code, *said) for code, said in EXIT_CODES.items()
    ]
    listed = re.findall(r"(\d+) [a-z]", run("--help").stdout.partition("Exit status:")[2])
    assert list(map(int, listed)) == list(EXIT_CODES)
    shared = json.loads((outputs.FOLDER / "common.schema.json").read_text())["$defs"]["error"]
    assert shared["properties"]["exit_code"]["enum"] == [c for c in EXIT_CODES if c]
    classes = [
        c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, AirgapError)
    ]
    assert {c.exit_code for c in classes} == set(EXIT_CODES) - {0}
    for one in classes:
        if one is not AirgapError:
            assert one.__name__ in shared["properties"]["error"]["description"]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is missing: apt-get install jq")
def test_the_examples_for_jq_say_what_they_should(exported: Site, beacon):
    lines = re.findall(r"^    airgap (.+?) \| jq (?:-r )?'(.+)'$", PAGE, re.MULTILINE)
    assert [line.split()[0] for line, _ in lines] == ["status", "verify", "report"]
    exported.import_(beacon.url)
    (exported.stick / "bad.airgap").write_bytes(b"no bundle")
    said = []
    for line, query in lines:
        words = [str(exported.stick) if w == "/media/stick" else w for w in line.split()]
        out = run(*words, "--home", exported.workstation, code=None).stdout
        done = subprocess.run(
            ["jq", "-rc", query], input=out, capture_output=True, text=True, check=True
        )
        said.append(done.stdout.splitlines())
    assert said[0]
    assert said[1] == [str(exported.stick / "bad.airgap")]
    assert json.loads(said[2][0]) == {"langgraph.platform.nodes": 9, "langgraph.platform.runs": 3}
