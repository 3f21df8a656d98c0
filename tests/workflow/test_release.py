"""The offline release: the same bytes for the same commit, signed, and installed where there is no network."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import sandbox
from releasing import SCRIPT, SIGNER, TARGET, Installed, made, version
from support import LICENSE, REPOSITORY, report, write_lines

no_network = sandbox.no_namespace()
needs_offline = pytest.mark.skipif(bool(no_network), reason=str(no_network))
needs_ssh = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None,
    reason="ssh-keygen is missing: apt-get install openssh-client",
)
needs_shellcheck = pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is missing: apt-get install shellcheck"
)


@needs_ssh
def test_the_same_tree_and_wheels_give_the_same_bytes(release: Path, unpacked: Path, tmp_path):
    wheels = tmp_path / "wheels"
    shutil.copytree(unpacked / "wheels", wheels, ignore=shutil.ignore_patterns("airgap-*"))
    again = made(tmp_path / "again", "--wheels", wheels)
    assert again.name == release.name
    assert (
        hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(release.read_bytes()).digest()
    )


@needs_ssh
def test_the_signature_is_checked_by_what_every_host_has_and_a_changed_byte_is_refused(
    release: Path, release_key: Path, tmp_path
):
    """As keys/README.md tells it."""
    signers = tmp_path / "allowed_signers"
    signers.write_text(
        f'{SIGNER} namespaces="airgap-release" {Path(f"{release_key}.pub").read_text()}'
    )
    command = [
        *("ssh-keygen", "-Y", "verify", "-f", signers, "-I", SIGNER, "-n", "airgap-release"),
        *("-s", f"{release}.sig"),
    ]
    data = release.read_bytes()
    good = subprocess.run(command, input=data, capture_output=True, check=False)
    assert good.returncode == 0, good.stderr
    changed = data[:-1] + bytes([data[-1] ^ 1])
    assert subprocess.run(command, input=changed, capture_output=True, check=False).returncode
    assert "ssh-keygen -Y verify" in (REPOSITORY / "keys" / "README.md").read_text()


def test_without_what_it_needs_the_script_says_so_in_one_line():
    done = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, "--help"], capture_output=True, text=True, check=False
    )
    needs = "release: needs requirements-dev.lock: .venv/bin/python .ci/release FOLDER\n"
    assert (done.returncode, done.stderr) == (2, needs)


@needs_ssh
def test_every_file_is_in_the_sums_and_every_wheel_in_the_bill_of_materials(unpacked: Path):
    sums = dict(
        reversed(line.split("  ", 1)) for line in (unpacked / "SHA256SUMS").read_text().splitlines()
    )
    files = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    assert files - {"SHA256SUMS"} == sums.keys()
    bill = json.loads((unpacked / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    told = {c["bom-ref"]: c["hashes"][0]["content"] for c in bill["components"]}
    wheels = {p.name: sums[f"wheels/{p.name}"] for p in (unpacked / "wheels").iterdir()}
    assert told == wheels
    assert all(c["version"] and c["purl"].startswith("pkg:pypi/") for c in bill["components"])
    assert not [name for name in files if name.endswith((".pem", ".key"))]


@needs_ssh
@needs_offline
def test_what_was_installed_without_a_network_makes_the_isolated_half_of_the_journey(
    installed: Installed, tmp_path
):
    airgap, home = TARGET / "bin" / "airgap", ("--home", tmp_path / "home")
    (tmp_path / "license.key").write_text(LICENSE + "\n")
    source = write_lines(tmp_path / "usage.jsonl", [report(n, n) for n in range(3)])
    stick = tmp_path / "stick"
    stick.mkdir()
    interfaces = installed.offline("cat", "/proc/net/dev", home=tmp_path).stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    for words in (
        ("init", *home, "--source", "bank-a.prod"),
        ("key", "generate", *home, "--no-passphrase"),
        ("collect", *home, source, "--license-file", tmp_path / "license.key"),
        ("export", *home, "--to", stick),
        ("review", *home, stick / "bank-a.prod-000001.airgap", "--html", tmp_path / "r.html"),
        ("doctor", *home),
    ):
        done = installed.offline(airgap, *words, home=tmp_path)
        if words[0] != "doctor":  # which misses the importer's key
            assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr
    assert (stick / "bank-a.prod-000001.airgap").exists()


@needs_ssh
@needs_offline
def test_what_was_installed_without_a_network_makes_the_whole_journey_over_loopback(
    installed: Installed, tmp_path
):
    done = installed.offline(TARGET / "bin" / "airgap", "demo", home=tmp_path, loopback=True)
    assert (
        "Equal at every hop: source, outbox, bundle, ledger, beacon, receipt, confirmed."
        in done.stdout
    )
    page = installed.opt / "airgap" / "current" / "share" / "man" / "man1" / "airgap-export.1"
    assert page.exists()


@needs_ssh
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{target}", "--python", "/bin/true"], "is no CPython 3.11 or newer"),
        (["{target}", "--with", "everything"], "there is no part everything"),
        (["{full}"], "is there and is no airgap installation"),
        (["{target}", "{full}"], "two targets"),
        (["{target}", "--fast"], "unknown option --fast"),
    ],
)
def test_install_says_what_is_wrong_and_leaves_nothing(unpacked: Path, tmp_path, words, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    places = {"target": tmp_path / "target", "full": tmp_path / "full"}
    typed = [word.format(**places) for word in words]
    if "--python" not in typed:
        typed += ["--python", sys.executable]
    done = subprocess.run(
        [unpacked / "install.sh", *typed], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "install.sh: hint: " in done.stderr
    assert not (tmp_path / "target").exists()
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine"]


@needs_ssh
def test_install_refuses_a_release_of_which_a_byte_was_changed(unpacked: Path, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(unpacked, copy)
    lock = copy / "locks" / "core.lock"
    lock.write_text(lock.read_text() + "\n")
    done = subprocess.run(
        [copy / "install.sh", tmp_path / "target"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "the release is damaged: locks/core.lock: FAILED" in done.stderr
    assert not (tmp_path / "target").exists()


@needs_ssh
@needs_offline
def test_the_next_release_is_installed_beside_and_the_same_one_is_not_installed_twice(
    unpacked: Path, installed: Installed
):
    words = (unpacked / "install.sh", TARGET, "--python", sys.executable)
    done = installed.offline(*words, home=unpacked.parent)
    assert done.returncode == 1
    assert "is installed in" in done.stderr
    again = f"rm -r '{TARGET}/versions/{version()}', then this command again with every part"
    assert again in done.stderr
    target = installed.opt / "airgap"
    assert (target / "current").resolve() == target / "versions" / version()


@needs_ssh
@needs_offline
def test_others_may_run_what_root_installs_with_a_mask_that_keeps_all_to_itself(
    installed: Installed,
):
    """The fixture installs so, with umask 077."""
    closed = [
        path
        for path in (installed.opt / "airgap").rglob("*")
        if not path.is_symlink() and not path.stat().st_mode & (1 if path.is_dir() else 4)
    ]
    assert closed == []


@needs_ssh
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_install_warns_of_a_python_that_others_can_t_reach(unpacked: Path, tmp_path, mode):
    """As pyenv puts it under /root; the target is no folder, so that nothing is installed."""
    private = tmp_path / "private"
    private.mkdir()
    python = private / "python3"
    shutil.copy(Path(sys.executable).resolve(), python)
    private.chmod(mode)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    home = f"PYTHONHOME={sys.base_prefix}"
    done = subprocess.run(
        ["env", home, unpacked / "install.sh", full, "--python", python],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "is no airgap installation" in done.stderr
    warned = f"can't run {python}, by which airgap runs: see {private}\n" in done.stderr
    assert warned == (mode == 0o700), done.stderr
    assert not warned or "--python, such as /usr/bin/python3" in done.stderr


@needs_shellcheck
def test_the_shell_scripts_pass_shellcheck():
    scripts = [REPOSITORY / ".ci" / name for name in ("install.sh", "run")]
    scripts += [REPOSITORY / "tests" / name for name in ("apart.sh", "booted.sh", "runtime.sh")]
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.soak
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_there_are_wheels_for_every_python_and_machine(machine, tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, "--dirty", "--platform", machine],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with tarfile.open(done.stdout.splitlines()[-1]) as tar:
        names = tar.getnames()
    for tag in ("cp311", "cp312", "cp313"):
        assert [n for n in names if "orjson" in n and tag in n and machine in n], (tag, machine)
