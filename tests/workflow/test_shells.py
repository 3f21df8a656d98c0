"""Completion in real shells, and manual pages that a manual reader takes without a warning."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import SOURCE, Site, every_command, run

from airgap.errors import EXIT_CODES

BIN = Path(sys.executable).parent


def needs(program: str):
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is missing: apt-get install {program}"
    )


def asked(site: Site, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(site.root),
        "AIRGAP_HOME": str(site.workstation),
        "TERM": "dumb",
        **more,
    }
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=site.root, timeout=60
    )  # fmt: skip


def in_bash(site: Site, line: str) -> list[str]:
    words = line.split(" ")
    script = (
        f"source <(airgap completion bash); COMP_WORDS=({' '.join(w or chr(39) * 2 for w in words)});"
        f"COMP_CWORD={len(words) - 1}; _airgap_completion airgap; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = asked(site, ["bash", "--norc", "-c", script])
    assert not done.stderr
    return done.stdout.split()


def in_fish(site: Site, line: str) -> list[str]:
    script = f"airgap completion fish | source; complete -C '{line}'"
    done = asked(site, ["fish", "--no-config", "-c", script])
    return [offered.split("\t")[0] for offered in done.stdout.splitlines()]


@needs("bash")
def test_bash_offers_commands_options_names_of_keys_and_profiles(site: Site):
    assert in_bash(site, "airgap im") == ["import"]
    assert "--license-file" in in_bash(site, "airgap import --lic")
    assert in_bash(site, "airgap import --key def") == ["default"]
    assert set(in_bash(site, "airgap import --profile ")) == {"us", "eu"}
    assert "generate" in in_bash(site, "airgap key ")


@needs("fish")
def test_fish_offers_commands_options_and_names(site: Site):
    assert "import" in in_fish(site, "airgap im")
    assert "--license-file" in in_fish(site, "airgap import --lic")
    assert "default" in in_fish(site, "airgap import --key def")


@needs("zsh")
def test_zsh_takes_the_script_and_knows_the_command(site: Site):
    script = 'autoload -U compinit; compinit -u -D; eval "$(airgap completion zsh)"; print -r -- $_comps[airgap]'
    done = asked(site, ["zsh", "-f", "-c", script])
    assert done.stdout.strip() == "_airgap_completion"
    offered = asked(
        site, ["airgap"], _AIRGAP_COMPLETE="zsh_complete", COMP_WORDS="airgap im", COMP_CWORD="1"
    )
    assert "import" in offered.stdout.split()
    assert not offered.stderr


def test_completion_never_says_an_error_whatever_is_broken(site: Site):
    (site.workstation / "airgap.toml").write_text("[[[")
    (site.workstation / "trust.json").write_text("{")
    for words in ("airgap import --key ", "airgap nothing ", "airgap import --profile "):
        done = asked(site, ["airgap"], _AIRGAP_COMPLETE="bash_complete", COMP_WORDS=words,
                     COMP_CWORD=str(len(words.split(" ")) - 1))  # fmt: skip
        assert done.returncode == 0
        assert not done.stderr
        assert "Traceback" not in done.stdout


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    assert f"Next: man -M {folder} airgap" in run("man", "--to", folder).output
    return folder


def test_every_command_has_a_page_with_its_options_example_and_exit_status(manual: Path):
    for words in every_command():
        page = (manual / "man1" / f"airgap-{'-'.join(words)}.1").read_text()
        for part in ("NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"):
            assert f'.SH "{part}"' in page, (words, part)
        for code in EXIT_CODES:
            assert f".B {code}\n" in page
    assert (manual / "man5" / "airgap.toml.5").exists()


@needs("mandoc")
def test_a_manual_reader_takes_every_page_without_a_warning(manual: Path):
    pages = sorted(manual.glob("man*/*"))
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", *pages], capture_output=True, text=True, check=False
    )
    # The date is the release's, which a page that the program makes does not know.
    said = [line for line in done.stdout.splitlines() if 'missing date, using ""' not in line]
    assert not said
    shown = subprocess.run(
        ["mandoc", "-Tutf8", manual / "man1" / "airgap-export.1"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    plain = re.sub(r".\x08", "", shown)
    assert "airgap export --to /media/stick" in plain
    assert f"{SOURCE}" not in plain


def test_no_word_of_a_help_can_be_a_request_to_the_reader(manual: Path):
    for page in manual.glob("man*/*"):
        for line in page.read_text().splitlines():
            if line.startswith((".", "'")):
                assert re.match(r"\.(TH|SH|PP|TP|B|nf|fi|RS|RE)( |$)", line), line
