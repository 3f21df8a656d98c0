"""`airgap verify --digests-only`: quick, and it never says that a file was verified."""

import json
import os

import pytest
from support import bundle_fields, report, run

from airgap import catalog, verify
from airgap.bundle.layout import Header
from airgap.bundle.writer import Writer
from airgap.errors import TrustError


def ask(site, path, *options, code=0):
    return run("verify", "--home", site.workstation, "--digests-only", path, *options, code=code)


@pytest.fixture
def file(exported, beacon, request):
    """A bundle, the same sealed to somebody else, or its receipt; with the site."""
    if request.param == "sealed":
        made = json.loads(
            run(
                "recipient", "generate", "--home", exported.workstation, "--no-passphrase", "--json"
            ).stdout
        )
        run("recipient", "add", "--home", exported.isolated, made["public_key"],
            "--name", "relay-1", "--fingerprint", made["fingerprint"])  # fmt: skip
        exported.bundle.unlink()
        exported.collect([report(9, 9)])
        exported.export("--seal-to", "relay-1")
    if request.param == "receipt":
        exported.import_(beacon.url)
        [path] = exported.stick.glob("*.receipt")
        return exported, path
    return exported, exported.bundle


@pytest.mark.parametrize("file", ["bundle", "sealed", "receipt"], indirect=True)
def test_what_holds_is_said_and_that_no_record_was_looked_into(file):
    site, path = file
    said = ask(site, path).output
    assert "signatures and digests are right; NOT LOOKED INTO: " in said
    assert "1 of 1 file with right signatures and digests. No record was looked into" in said
    assert "verified" not in said.lower()
    [one] = json.loads(ask(site, path, "--json").stdout)["files"]
    assert (one["ok"], one["verified"], one["digests_only"], one["opened"]) == (
        True,
        False,
        True,
        False,
    )


@pytest.mark.parametrize("file", ["bundle", "sealed", "receipt"], indirect=True)
def test_every_changed_byte_is_refused(file):
    site, path = file
    data = path.read_bytes()
    for at in (0, 20, len(data) // 3, len(data) // 2, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert "REFUSED" in ask(site, path, code=None).output, at
        assert ask(site, path, code=None).exit_code in (3, 4, 5)
    path.write_bytes(data[:-100])
    assert "cut short" in ask(site, path, code=5).output


def test_a_signer_who_is_not_trusted_and_a_demand_that_is_not_met_are_refused(exported):
    run(
        "trust",
        "policy",
        "set",
        "--home",
        exported.workstation,
        "--source",
        "*",
        "--reviewers",
        "1",
    )
    assert "REFUSED" in ask(exported, exported.bundle, code=4).output
    run("trust", "policy", "remove", "--home", exported.workstation, "--source", "*")
    run("trust", "remove", "--home", exported.workstation, exported.exporter.public.fingerprint)
    assert "REFUSED" in ask(exported, exported.bundle, code=4).output


def test_nothing_but_a_regular_file_is_opened(exported):
    os.mkfifo(exported.root / "pipe.airgap")
    (exported.root / "link.airgap").symlink_to(exported.bundle)
    for name in ("pipe.airgap", "link.airgap"):
        assert "not a regular file" in ask(exported, exported.root / name, code=3).output


def test_what_a_trusted_signer_says_wrongly_is_only_found_by_verification(site):
    """So nothing acts on what this checks: what it makes is no verified bundle."""
    path = site.stick / "wrong.airgap"
    with path.open("wb") as stream:
        writer = Writer(stream, Header("bundle"))
        writer.add({"no": "record"})
        total = {"usage_report": {"records": 1, "sums": {}}}
        writer.finish(bundle_fields(totals=total), [site.exporter.sign])
    assert "NOT LOOKED INTO: 1 record, as the signer says" in ask(site, path).output
    run("verify", "--home", site.workstation, path, code=3)
    with path.open("rb") as stream:
        unread = verify.verify_digests(stream, name="w", trust=site.trust, catalog=catalog.load())
        assert not isinstance(unread, verify.VerifiedBundle)
        assert not hasattr(unread, "records")


def test_totals_that_do_not_count_the_chunks_records_are_refused(site):
    path = site.stick / "wrong.airgap"
    with path.open("wb") as stream:
        writer = Writer(stream, Header("bundle"))
        writer.add({"no": "record"})
        writer.finish(bundle_fields(), [site.exporter.sign])
    assert "count another number of records" in ask(site, path, code=5).output


def test_no_setting_and_no_variable_can_ask_for_it(exported, monkeypatch):
    monkeypatch.setenv("AIRGAP_VERIFY_DIGESTS_ONLY", "1")
    assert (
        "1 of 1 file verified"
        in run("verify", "--home", exported.workstation, exported.stick).output
    )
    with (exported.workstation / "airgap.toml").open("a") as file:
        file.write("\n[verify]\ndigests-only = true\n")
    run("verify", "--home", exported.workstation, exported.stick, code=2)


def test_an_unknown_key_refuses_the_library_call_too(exported):
    empty = type(exported.trust)({})
    with exported.bundle.open("rb") as stream, pytest.raises(TrustError):
        verify.verify_digests(stream, name="b", trust=empty, catalog=catalog.load())
