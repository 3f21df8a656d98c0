"""airgap.toml: every mistake is named, and a setting's origin is never in doubt."""

import json
import re
import shlex

import click
import jsonschema
import pytest
import settings_schema
from support import LICENSE, REPOSITORY, Site, day, every_command, run

from airgap import catalog, configuration, settings
from airgap.cli.main import cli

SCHEMAS = catalog.load()


def write(site: Site, text: str, side: str = "workstation") -> None:
    file = site.root / side / "airgap.toml"
    file.write_text(file.read_text() + text)


def shown(site: Site, *words: str) -> dict[str, dict]:
    out = run("config", "show", "--home", site.workstation, *words, "--json").stdout
    value = json.loads(out)
    schema = json.loads((REPOSITORY / "schemas/output/config-show.schema.json").read_text())
    jsonschema.validate(value, schema)
    return {row["setting"]: row for row in value["settings"]}


def test_the_schema_of_the_configuration_is_made_from_the_commands():
    """Made anew by: python tests/settings_schema.py."""
    assert json.loads(settings_schema.FILE.read_text()) == settings_schema.make()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "\n[import]\ntimeuot = 5\n",
            ("import.timeuot", "did you mean timeout", "airgap.toml, line "),
        ),
        ('\n[import]\ntimeout = "soon"\n', ("import.timeout", "a number")),
        ("\n[import]\nin_flight = 65\n", ("import.in_flight", "64")),
        ("\n[imprt]\ntimeout = 5\n", ("imprt", "did you mean import")),
        ("\n[key.genrate]\nname = 'x'\n", ("key.genrate", "did you mean generate")),
        ("\n[import]\nprofile = 'uk'\n", ("import.profile", "us, eu")),
        ("\n[profiles.us]\ntimeout = 5\n", ("profiles.us", "brings along")),
        ("\n[import\n", ("airgap.toml, line", "TOML 1.0")),
        ("\n[import]\nresume = true\n", ("import.resume",)),
    ],
)
def test_a_mistake_anywhere_in_the_file_stops_every_command_and_is_named(site, text, said):
    write(site, text)
    for command in (("status",), ("verify", site.stick), ("config", "check")):
        result = run(*command, "--home", site.workstation, code=2)
        for words in said:
            if command[0] != "config" or not words.startswith(("did", "airgap.toml,")):
                assert words in result.output, (command, result.output)
        assert "Traceback" not in result.output


def test_the_checker_and_the_schema_come_to_the_same_verdict(site):
    validator = jsonschema.Draft202012Validator(SCHEMAS.schema(settings.SCHEMA))
    good = {"side": "isolated", "name": "bank-a.prod"}
    cases = [
        good,
        {},
        {**good, "side": "other"},
        {**good, "name": "Bank A"},
        {**good, "import": {"timeout": 30.5}},
        {**good, "import": {"timeout": True}},
        {**good, "import": {"attempts": 0}},
        {**good, "import": {"license_file": ["a"]}},
        {**good, "import": {"license_file": "a"}},
        {**good, "import": {"dialect": ["usage_report=documents"]}},
        {**good, "import": {"dialect": ["usage_report=nothing"]}},
        {**good, "status": {"max_age": "35d"}},
        {**good, "status": {"max_age": "a while"}},
        {**good, "ledger": "/srv/ledger.sqlite"},
        {**good, "ledger": {"path": "/srv/ledger.sqlite", "list": {"limit": 5}}},
        {**good, "profiles": {"lab": {"timeout": 5}}},
        {**good, "profiles": {"lab": {"resume": True}}},
        {**good, "contact": "x" * 300},
    ]
    for case in cases:
        mine = list(configuration.mistakes(case, SCHEMAS.schema(settings.SCHEMA)))
        assert (not mine) == validator.is_valid(case), case


def test_the_flag_counts_before_the_variable_the_file_the_profile_and_the_default(
    site, monkeypatch
):
    assert shown(site, "import")["import.timeout"]["origin"] == "default"
    write(site, '\nprofile = "lab"\n[profiles.lab]\ntimeout = 5\n')
    file = site.workstation / "airgap.toml"
    # A table ends where the next begins: what is the home's own comes first.
    file.write_text('profile = "lab"\n' + file.read_text().replace('\nprofile = "lab"\n', "\n"))
    row = shown(site, "import")["import.timeout"]
    assert (row["value"], row["origin"], row["profile"]) == (5, "profile", "lab")
    write(site, "\n[import]\ntimeout = 6\n")
    row = shown(site, "import")["import.timeout"]
    assert (row["value"], row["origin"]) == (6, "file")
    assert file.read_text().splitlines()[row["line"] - 1] == "timeout = 6"
    monkeypatch.setenv("AIRGAP_IMPORT_TIMEOUT", "7")
    row = shown(site, "import")["import.timeout"]
    assert (row["value"], row["variable"]) == (7, "AIRGAP_IMPORT_TIMEOUT")
    monkeypatch.setenv("AIRGAP_IMPORT_TIMEOUT", "-7")
    refused = run("import", "--home", site.workstation, "--resume", code=2)
    assert "AIRGAP_IMPORT_TIMEOUT" in refused.output
    unread = run("import", "--home", site.workstation, "--resume", "--timeout", "0", code=2)
    assert "AIRGAP_IMPORT_TIMEOUT" not in unread.output


def test_a_profile_says_where_requests_go_and_import_says_so(site):
    site.collect([day(1)])
    site.export()
    for profile, host in (("us", "//api.smith."), ("eu", "//eu.api.smith.")):
        out = run(
            "import", "--home", site.workstation, site.stick, "--license-file", site.license_file,
            "--api-key-file", site.api_key_file, "--profile", profile, "--dry-run",
        ).stdout  # fmt: skip
        assert f"Profile {profile}:" in out
        assert host in out
    refused = run("import", "--home", site.workstation, "--resume", "--profile", "uk", code=2)
    assert "us, eu" in refused.output


def test_the_built_in_profiles_are_what_their_schema_says():
    jsonschema.validate(
        json.loads((REPOSITORY / "schemas/profiles.json").read_text()),
        json.loads((REPOSITORY / "schemas/profiles.schema.json").read_text()),
    )


def test_no_secret_is_shown_wherever_it_was_put(site, monkeypatch):
    monkeypatch.setenv("AIRGAP_LICENSE_KEY", LICENSE)
    monkeypatch.setenv("AIRGAP_PASSPHRASE", "battery staple")
    monkeypatch.setenv("AIRGAP_IMPORT_LICENSE_FILE", LICENSE)
    monkeypatch.setenv("HTTPS_PROXY", "http://somebody:hunter2@proxy:3128")
    write(site, f'\n[import]\napi_url = "https://x/{LICENSE}"\n')
    for words in ((), ("import",)):
        for form in ((), ("--json",)):
            out = run(
                "config", "show", "--home", site.workstation, *words, "--origin", *form
            ).output
            for secret in (LICENSE, "battery", "hunter2"):
                assert secret not in out
    assert "AIRGAP_PASSPHRASE" in out
    shown = run("config", "show", "--home", site.workstation).output
    assert re.search(r"AIRGAP_PASSPHRASE +set, not shown", shown)


def test_a_variable_that_is_none_is_named_with_what_was_meant(site, monkeypatch):
    monkeypatch.setenv("AIRGAP_IMPORT_TIMEOT", "5")
    result = run("config", "check", "--home", site.workstation)
    assert "AIRGAP_IMPORT_TIMEOT" in result.output
    assert "AIRGAP_IMPORT_TIMEOUT" in result.output


def test_settings_of_nested_commands_are_taken(site):
    write(site, '\n[key.generate]\nname = "chosen"\n', "isolated")
    run("key", "generate", "--home", site.isolated, "--no-passphrase")
    assert (site.isolated / "keys" / "chosen.pem").exists()


def test_config_path_and_check_say_where_the_file_is(site):
    told = json.loads(run("config", "path", "--home", site.isolated, "--json").stdout)
    assert told == {"path": str(site.isolated / "airgap.toml"), "exists": True}
    assert "no mistake" in run("config", "check", "--home", site.isolated).stdout


def found_by(typed: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that a line calls, and what follows its words."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), typed[0])
        assert inner is not None, typed
        command, typed = inner, typed[1:]
    return command, typed


def test_every_example_in_a_help_is_a_command_line_that_the_command_takes():
    """Parsed as it stands; nothing is run."""
    seen = 0
    for words in every_command():
        own, _ = found_by(list(words))
        examples = [
            line.strip()
            for line in (own.help or "").partition("\b\n")[2].splitlines()
            if line.strip().startswith("airgap ")
        ]
        assert any(found_by(line.split()[1:])[0].name == own.name for line in examples), words
        for line in examples:
            command, rest = found_by(shlex.split(re.split(r" [>#|] ", line)[0], comments=True)[1:])
            plain = click.Context(command, info_name=command.name)
            values, left, _ = command.make_parser(plain).parse_args(list(rest))
            assert not left, line
            for parameter in command.get_params(plain):
                if isinstance(parameter, click.Argument) and parameter.required:
                    assert values.get(parameter.name) not in (None, ()), line
            seen += 1
    assert seen > 60
