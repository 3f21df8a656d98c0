"""Lint, types, the two README commands, and what may not be in the repository."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
PRIVATE = re.compile(
    rb"-----BEGIN (OPENSSH |EC |RSA |ENCRYPTED )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{16}"
)


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False, text=True
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


@pytest.mark.parametrize(
    "command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=" ".join
)
def test_house_rules(command):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def commands() -> list[str]:
    """Return the README's blocks of the two commands."""
    return [
        block.replace("\\\n", " ")
        for block in re.findall(r"```sh\n(python3 -m venv.*?)```", README, re.DOTALL)
    ]


def test_readme_has_the_two_commands_and_ci_runs_exactly_the_second():
    first, second = (re.sub(r"\s+", " ", c).strip() for c in commands())
    assert first.endswith("airgap demo")
    assert second.endswith("pytest")
    script = (REPOSITORY / ".ci" / "run").read_text().replace("\\\n", " ")
    assert second in re.sub(r"[ \t]+", " ", script)


def pages() -> list[str]:
    """Return the names of all documents."""
    return [name for name in tracked() if name.endswith(".md")]


def headings(page: Path) -> set[str]:
    """Return what GitHub calls a document's headings in links."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


def test_every_command_that_a_document_names_exists():
    from airgap.cli.main import COMMANDS

    for page in pages():
        text = (REPOSITORY / page).read_text()
        for name in re.findall(r"(?:^|`)airgap ([a-z]+)\b(?! key v1`)", text, re.MULTILINE):
            assert name in COMMANDS, f"{page}: airgap {name}"


def test_every_link_within_the_documents_leads_somewhere():
    for page in pages():
        path = REPOSITORY / page
        for target, place in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", path.read_text()):
            if "://" in target:
                continue
            there = path.parent / target if target else path
            assert there.exists(), f"{page}: {target}"
            if place:
                assert place[1:] in headings(there), f"{page}: {target}{place}"


def test_every_test_that_the_threat_model_names_exists():
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "keys" / "threats.md").read_text()))
    there = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    assert len(named) > 40
    assert named <= there


def test_every_dependency_is_locked_with_a_hash():
    for name in ("requirements.lock", "requirements-dev.lock"):
        entries = re.findall(
            r"^[a-z0-9_.-]+==.*?(?=^[a-z0-9]|\Z)",
            (REPOSITORY / name).read_text(),
            re.MULTILINE | re.DOTALL,
        )
        assert len(entries) > 20
        assert all("--hash=sha256:" in entry for entry in entries)


def test_no_private_key_and_no_real_looking_credential_is_tracked():
    for name in tracked():
        data = (REPOSITORY / name).read_bytes()
        assert not PRIVATE.search(data), name
        for found in re.findall(rb"\b(lcl_[A-Za-z0-9_]{8,}|lsv2_(?:pt|sk)_[A-Za-z0-9_]{8,})", data):
            assert b"EXAMPLE" in found, f"{name}: {found!r}"


def test_the_changelog_names_the_version():
    from airgap import __version__

    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()
