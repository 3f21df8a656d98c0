"""The demo: the whole journey, by the installed command, from the tree and from a wheel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import LICENSE, REPOSITORY, report, write_lines

_EQUAL = "Equal at every hop: source, outbox, bundle, ledger, beacon, receipt, confirmed"


def demo(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "airgap", "demo", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_demo_ends_with_equal_totals_at_every_hop_and_prints_each_step():
    output = demo()
    assert _EQUAL in output
    for step in (
        "init",
        "key generate",
        "trust add",
        "collect",
        "export",
        "import",
        "receipt apply",
    ):
        assert f"$ airgap {step}" in output
    readme = (REPOSITORY / "README.md").read_text()
    [shown] = re.findall(r"^== Totals at every hop\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert set(shown.splitlines()) - {"..."} <= set(output.splitlines())


def test_demo_takes_a_file_of_the_user(tmp_path):
    path = write_lines(tmp_path / "mine.json", [report(n, n) for n in range(7)])
    output = demo(path)
    assert _EQUAL in output
    assert LICENSE not in output


def test_demo_of_a_bad_file_says_what_is_wrong_and_fails(tmp_path):
    path = write_lines(tmp_path / "mine.jsonl", [report(1, hostname="x")])
    done = subprocess.run(
        [sys.executable, "-m", "airgap", "demo", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "unknown 'hostname'" in done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Build source archive and wheel from a copy of what git knows, as a release is."""
    tree = tmp_path_factory.mktemp("tree")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).exists():
            target.write_bytes((REPOSITORY / name).read_bytes())
    (tree / "keys").mkdir(exist_ok=True)
    (tree / "keys" / "stray.pem").write_text("a private key that lies about\n")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tree / "dist", tree],
        check=True,
        capture_output=True,
    )
    [archive] = (tree / "dist").glob("*.tar.gz")
    listed = subprocess.run(
        ["tar", "tzf", archive], capture_output=True, text=True, check=True
    ).stdout
    assert "stray.pem" not in listed
    assert "schemas/endpoints.json" in listed
    [made] = (tree / "dist").glob("*.whl")
    return made


def test_the_schemas_load_from_a_wheel_on_the_path_and_from_an_uninstalled_checkout(
    wheel, tmp_path
):
    checkout = tmp_path / "checkout"
    for name in ("airgap", "schemas"):
        shutil.copytree(REPOSITORY / name, checkout / name)
    shutil.copy(REPOSITORY / "pyproject.toml", checkout)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import airgap\nfrom airgap import catalog\n"
        "print(airgap.__file__, len(catalog.load().kinds), catalog.load().schema_digest('record'))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, str(place)],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        ).stdout.split()
        for place in (wheel, checkout)
    ]
    for place, output in zip((wheel, checkout), outputs, strict=True):
        assert output[0].startswith(str(place))
        assert output[1] == "8"
    assert outputs[0][2] == outputs[1][2]
