"""How commands behave around the edges: homes, configuration, quiet, concurrency, mistakes."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import LICENSE, REPOSITORY, SOURCE, every_command, report, run, write_lines

from airgap import timestamps
from airgap.cli.main import COMMANDS
from airgap.files import exclusive
from airgap.replay.importing import Sending


def test_every_mistake_about_homes_has_its_own_message(site, tmp_path):
    missing = run("status", "--home", tmp_path / "nowhere", code=2).output
    assert "there is no airgap home here" in missing
    assert "airgap init --source NAME" in missing
    wrong = run("export", "--home", site.workstation, "--to", site.stick, code=2).output
    assert "this home is the workstation side's" in wrong
    again = run("init", "--home", site.isolated, "--source", "x", code=2).output
    assert "there is a home already: isolated side, bank-a.prod" in again
    assert (
        "can't be used"
        in run("init", "--home", tmp_path / "x", "--source", "Bank A", code=2).output
    )
    assert "say which side" in run("init", "--home", tmp_path / "x", code=2).output
    (tmp_path / "file").write_text("")
    run("init", "--home", tmp_path / "file", "--source", "x", code=2)
    (site.isolated / "airgap.toml").write_text("side = ")
    assert "configuration can't be read" in run("status", "--home", site.isolated, code=2).output


def test_export_without_a_key_says_how_to_make_one(tmp_path):
    home = tmp_path / "home"
    run("init", "--home", home, "--source", "x")
    path = write_lines(tmp_path / "usage.jsonl", [report(1)])
    run("collect", "--home", home, path)
    assert "airgap key generate" in run("export", "--home", home, "--to", tmp_path, code=2).output


def test_what_was_mistyped_or_put_elsewhere_is_named(site):
    for typed, meant in (
        (("improt", site.stick), "Did you mean import?"),
        (("Export",), "Did you mean export?"),
        (("help",), "airgap --help lists them"),
        (("--home", site.isolated, "status"), "--home goes after the command"),
        (("--hlep",), "Did you mean"),
        (("export", site.stick), "the folder goes after --to"),
        (("export", "--to", "/media/USB", "DISK"), "a path with spaces needs quotes"),
    ):
        assert meant in run(*typed, code=2).output


def test_a_path_with_spaces_is_quoted_in_the_command_that_comes_next(site):
    site.stick = site.root / "USB DISK"
    site.stick.mkdir()
    site.collect([report(1)])
    assert f"airgap import '{site.stick}'\n" in site.export().output
    run("key", "generate", "--home", site.isolated, "--name", "alice", "--role", "reviewer", "--no-passphrase")  # fmt: skip
    approve = ("countersign", site.bundle, "--home", site.isolated, "--key", "alice")
    assert f"airgap review '{site.bundle}'\n" in run(*approve, code=2).output
    several = run("key", "fingerprint", "--home", site.isolated, code=2).output
    assert "there are 2 keys; name one: alice, default" in several


def test_ctrl_c_before_the_first_request_says_what_is_kept_and_how_to_go_on(
    site, beacon, monkeypatch
):
    site.collect([report(1)])
    site.export()
    with monkeypatch.context() as patch:
        patch.setattr(Sending, "run", lambda *_: signal.raise_signal(signal.SIGINT))
        said = site.import_(beacon.url, code=1).output
    assert "verified, 1 record" in said
    assert "what was verified is kept. Next, with the same options: airgap import --resume" in said
    site.import_paths([], beacon.url, "--resume")
    assert beacon.totals.records == 1


def test_options_come_from_flag_then_environment_then_the_homes_file(site, beacon, monkeypatch):
    site.collect([report(1)])
    site.export()
    file = site.workstation / "airgap.toml"
    table = f'[import]\nlicense_file = ["{site.license_file}"]\nbeacon_url = "http://127.0.0.1:1"\n'
    file.write_text(file.read_text() + table)
    monkeypatch.setenv("AIRGAP_BEACON_URL", "http://127.0.0.1:2")
    arguments = ("import", "--home", site.workstation, site.stick, "--dry-run", "--json")
    shown = json.loads(run(*arguments, "--beacon-url", beacon.url).stdout)
    assert shown["requests"][0]["url"].startswith(beacon.url)
    shown = json.loads(run(*arguments).stdout)
    assert shown["requests"][0]["url"].startswith("http://127.0.0.1:2/")
    monkeypatch.delenv("AIRGAP_BEACON_URL")
    shown = json.loads(run(*arguments).stdout)
    assert shown["requests"][0]["url"].startswith("http://127.0.0.1:1/")


def test_credentials_may_come_from_the_environment_and_never_from_the_command_line(
    site, beacon, monkeypatch
):
    site.collect([report(1)])
    site.export()
    monkeypatch.setenv("AIRGAP_LICENSE_KEY", LICENSE)
    run("import", "--home", site.workstation, site.stick, "--beacon-url", beacon.url)
    assert beacon.totals.records == 1
    for name in COMMANDS:
        for parameter in run(name, "--help").output.split():
            assert parameter not in ("--license", "--api-key", "--passphrase")


def test_a_dialect_can_be_chosen_where_it_takes_the_same_credential(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url, "--dialect", "usage_report=slang", "--dry-run", code=2)
    assert "can't be sent in the dialect" in (
        site.import_(beacon.url, "--dialect", "usage_report=api-key", "--dry-run", code=2).output
    )
    site.import_(beacon.url, "--dialect", "usage_report=langgraph-api")
    assert beacon.seen[0].path == "/v1/beacon/metadata/submit"
    assert json.loads(beacon.seen[0].body)["license_key"] == LICENSE


def test_quiet_prints_nothing_but_errors(site, beacon):
    site.collect([report(1)])
    assert run("export", "--home", site.isolated, "--to", site.stick, "--quiet").output == ""
    assert site.import_(beacon.url, "--quiet").output == ""
    assert (
        "REFUSED"
        not in site.import_paths([site.license_file], beacon.url, "--quiet", code=5).stdout
    )


def test_a_second_export_or_import_at_the_same_time_is_refused(site, beacon):
    site.collect([report(1)])
    with exclusive(site.isolated / "export.lock", "export"):
        assert "another airgap export" in site.export(code=2).output
    site.export()
    with exclusive(site.workstation / "ledger.sqlite.lock", "import"):
        assert "another airgap import" in site.import_(beacon.url, code=2).output
    site.import_(beacon.url)


def test_a_folder_without_bundles_and_a_missing_path_say_so(site, beacon):
    assert "no .airgap file" in site.import_(beacon.url, code=2).output
    missing = site.import_paths([site.stick / "x.airgap"], beacon.url, code=2)
    assert "no such file or folder" in missing.output
    assert "name the files or folders" in run("import", "--home", site.workstation, code=2).output


def test_a_receipt_that_can_not_be_written_beside_the_bundle_stays_in_the_home(site, beacon):
    site.collect([report(1)])
    site.export()
    (site.stick / f"{SOURCE}-000001-r1.receipt").write_bytes(b"something of the operator's")
    result = site.import_(beacon.url)
    assert "the receipt stays in the home" in result.output
    [kept] = (site.workstation / "receipts").glob("*.receipt")
    run("receipt", "apply", "--home", site.isolated, kept)
    assert site.status()["confirmed"]["usage_report"]["records"] == 1
    assert (
        site.stick / f"{SOURCE}-000001-r1.receipt"
    ).read_bytes() == b"something of the operator's"


def test_import_works_without_the_http_client_up_to_the_point_of_sending(site, tmp_path):
    site.collect([report(1)])
    site.export()
    (tmp_path / "pycurl.py").write_text("raise ImportError('not installed')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    arguments = [
        "import",
        "--home",
        site.workstation,
        site.stick,
        "--license-file",
        site.license_file,
    ]

    def go(*more):
        return subprocess.run(
            [sys.executable, "-m", "airgap", *map(str, (*arguments, *more))],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert go("--dry-run").returncode == 0
    done = go()
    assert done.returncode == 2
    assert "--workstation, or the pycurl that requirements.lock names" in done.stderr
    assert site.status("workstation")["states"]["usage_report"] == {"waiting": 1}


def test_output_cut_off_by_the_reader_is_no_error(site):
    site.collect(
        [report(n, n % 24, to_timestamp=f"2026-03-{1 + n % 28:02d}T00:00:00Z") for n in range(2000)]
    )
    site.export()
    done = subprocess.run(
        [
            *("bash", "-c", '"$@" | head -1; exit "${PIPESTATUS[0]}"', "bash"),
            *(sys.executable, "-m", "airgap", "cat", "--home", site.isolated, site.bundle),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 1
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("name", ["outbox.sqlite", "ledger.sqlite"])
def test_a_damaged_database_is_said_without_a_traceback(site, beacon, name):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    side = site.isolated if name.startswith("outbox") else site.workstation
    for suffix in ("-wal", "-shm"):
        side.joinpath(name + suffix).unlink(missing_ok=True)
    path = side / name
    good = path.read_bytes()
    path.write_bytes(b"not a database at all, but long enough to look at" * 100)
    assert "database is damaged" in run("status", "--home", side, code=5).output
    path.write_bytes(good[:4096] + bytes(len(good) - 4096))
    run("status", "--home", side, code=5)


def test_a_home_is_never_made_in_a_folder_that_holds_something(tmp_path):
    tmp_path.joinpath("file").write_text("the operator's")
    before = tmp_path.stat().st_mode
    assert "not empty" in run("init", "--home", tmp_path, "--source", "x", code=2).output
    assert tmp_path.stat().st_mode == before


def test_a_full_disk_is_exit_status_8_and_loses_nothing(site):
    """The home's file system refuses to grow: simulated by the process's file size limit."""
    site.collect(
        [report(n, n % 24, to_timestamp=f"2026-03-{1 + n % 28:02d}T00:00:00Z") for n in range(3000)]
    )
    before = site.status()
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "from airgap.cli.main import main; main()"
    )
    arguments = ["export", "--home", site.isolated, "--to", site.stick, "--compression", "none"]
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 8, done.stderr
    assert "Traceback" not in done.stderr
    assert site.status() == before
    assert list(site.stick.iterdir()) == []
    site.export()
    assert site.bundle.exists()


def test_standard_input_is_a_source(site):
    run("collect", "--home", site.isolated, "-", stdin=json.dumps(report(1)).encode())
    assert site.status()["waiting"]["usage_report"]["records"] == 1


def test_the_rehearsal_beacon_runs_by_itself_and_counts(site):
    process = subprocess.Popen(
        [sys.executable, "-m", "airgap", "rehearse", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = re.search(r"http://\S+(?=;)", process.stderr.readline())[0]
    site.collect([report(4)])
    site.export()
    site.import_(url)
    process.terminate()
    output, _ = process.communicate(timeout=20)
    value = json.loads(output)
    assert value["requests"] == {"204": 1}
    assert value["totals"]["usage_report"]["sums"]["langgraph.platform.runs"] == 4


@pytest.mark.parametrize(
    ("path", "body", "status", "note"),
    [
        ("/v1/elsewhere", b"{}", 404, "no documented endpoint"),
        ("/v1/beacon/verify", b"{}", 401, "no credential"),
        ("/v1/beacon/verify", b"not json", 400, "not JSON"),
        ("/v1/beacon/verify", b'{"license":"x","more":1}', 422, "unknown 'more'"),
        ("/v1/metadata/submit", b'{"from_timestamp":"x"}', 401, "no credential"),
        ("/v1/metadata/submit", json.dumps(report(1, logs=["x"])).encode(), 422, "/logs"),
        ("/v1/beacon/ingest-traces", b'{"license":"x","trace_transactions":[]}', 422, "1 to 500"),
        ("/v1/beacon/v1/metrics", b"{}", 401, "X-Langchain-License-Key"),
    ],
)
def test_the_rehearsal_beacon_refuses_what_is_not_documented(beacon, path, body, status, note):
    import httpx

    answer = httpx.post(
        beacon.url + path, content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status
    assert note in answer.json()["detail"]


def test_every_example_in_the_documents_names_options_that_exist():
    pages = ("README.md", "keys/README.md", "airgap/README.md", "airgap/collect/README.md")
    text = "".join((REPOSITORY / page).read_text() for page in pages)
    helps: dict[str, str] = dict.fromkeys(COMMANDS, "")
    for path in every_command():
        helps[path[0]] += run(*path, "--help").output
    names = "|".join(COMMANDS)
    for line in re.findall(rf"airgap ((?:{names}) [^`\n]*)", text):
        name = line.split()[0]
        for option in re.findall(r"(?<![\w-])--[a-z-]+", line):
            known = helps[name] + "".join(helps.values() if "   " in line else [])
            assert option in known, f"{name} has no {option}"


def test_the_readme_shows_what_the_commands_print(site, beacon, monkeypatch):
    shown = (REPOSITORY / "README.md").read_text().splitlines()
    lines = (REPOSITORY / "schemas" / "samples.jsonl").read_text().splitlines()[2:22]
    (site.root / "usage.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(timestamps, "system_clock", lambda: datetime(2026, 1, 7, tzinfo=UTC))
    monkeypatch.chdir(site.root)  # so that no path is too long for a column
    site.stick = Path("stick")
    outputs = [
        run("collect", "--home", site.isolated, site.root / "usage.jsonl").output,
        site.export().output,
        site.import_(beacon.url).output,
    ]
    outputs.append(site.apply().output)
    text = "".join(outputs).replace(f"{site.root}/usage.jsonl", "/var/log/langgraph/usage.jsonl")
    text = text.replace(str(site.isolated), "/home/ops/.local/share/airgap")
    for line in text.replace("stick", "/media/stick").splitlines():
        assert line in shown, line
    said = run("status", "--home", site.isolated).output.replace("stick", "/media/stick")
    said = said.replace(str(site.isolated), "/home/ops/.local/share/airgap").splitlines()
    start = shown.index("$ airgap status") + 1
    block = shown[start : shown.index("...", start)]
    assert [_narrow(line) for line in block] == [_narrow(line) for line in said[: len(block)]]


def _narrow(line):
    """Return a line of a table whatever the width of its columns, which follows the paths."""
    return re.sub(r"\s+", " ", re.sub("─+", "─", line)).strip()


def test_the_isolated_commands_need_no_http_client(site, tmp_path):
    for name in ("pycurl", "certifi", "httpx", "h11"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not installed')")
    path = write_lines(site.root / "usage.jsonl", [report(1)])
    for arguments in (
        ("collect", "--home", site.isolated, path),
        ("export", "--home", site.isolated, "--to", site.stick),
        ("verify", "--home", site.isolated, site.stick),
        ("status", "--home", site.isolated),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "airgap", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_what_should_not_happen_is_exit_status_1_and_asks_to_be_reported(exported):
    with closing(sqlite3.connect(exported.isolated / "outbox.sqlite")) as outbox:
        outbox.execute("ALTER TABLE bundle RENAME COLUMN written_to TO elsewhere")
    said = run("status", "--home", exported.isolated, code=1).output
    assert "airgap: error: the database refused: no such column" in said
    assert "run `airgap --version` and report it with this message" in said


@pytest.mark.parametrize(
    "words",
    [
        ("cat", "{missing}"),
        ("cat", "{missing}", "--unverified"),
        ("inspect", "{missing}"),
        ("review", "{missing}"),
        ("review", "{bundle}", "--since", "{missing}"),
        ("verify", "{missing}"),
        ("import", "{missing}"),
        ("collect", "{missing}"),
        ("receipt", "apply", "{missing}"),
        ("countersign", "{missing}", "--key", "alice"),
        ("countersign", "{bundle}", "--key", "alice", "--sheet", "{missing}"),
        ("recipient", "add", "{missing}", "--fingerprint", "0" * 32),
        ("trust", "add", "{missing}", "--role", "reviewer"),
        ("trust", "succeed", "{missing}"),
        ("trust", "update", "{missing}"),
    ],
    ids=" ".join,
)
def test_a_file_that_is_named_and_not_there_is_a_mistake_in_the_command_and_no_fault_of_a_stick(
    exported, words
):
    missing = exported.root / "nosuch.airgap"
    home = exported.workstation if words[0] == "import" else exported.isolated
    if words[0] == "countersign":
        run(
            *("key", "generate", "--home", home, "--name", "alice", "--role", "reviewer"),
            "--no-passphrase",
        )
    typed = [word.format(missing=missing, bundle=exported.bundle) for word in words]
    result = run(*typed, "--home", home, code=2)
    assert re.search(rf"where: +{re.escape(str(missing))}\n", result.output), result.output


def test_the_demo_says_before_it_begins_that_the_workstation_s_parts_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycurl", None)
    output = run("demo", code=2).output
    assert "the demo needs the workstation's parts" in output
    assert "install.sh TARGET --workstation" in output
    assert "$ airgap" not in output
