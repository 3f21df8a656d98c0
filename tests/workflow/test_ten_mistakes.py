"""The ten likeliest mistakes: each made for real, and cured by typing what its own message says."""

import re
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sticks
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from named import follow
from servers import always, answer, serving, tunnel
from support import LICENSE, SOURCE, Site, day, report, run

from airgap import home as homes
from airgap import timestamps
from airgap.files import exclusive
from airgap.replay.rehearsal import RehearsalBeacon
from airgap.trust import keys

BUNDLE = f"{SOURCE}-000001.airgap"


def states(site: Site) -> dict[str, int]:
    found: dict[str, int] = site.status("workstation")["states"].get("usage_report", {})
    return {state: count for state, count in found.items() if count}


def options(site: Site, url: str) -> list[object]:
    """Return what the operator of the workstation types at each import."""
    urls = ["--beacon-url", url, "--api-url", url]
    return ["--home", site.workstation, "--license-file", site.license_file, *urls]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Both sides' clock, to be set."""

    class Clock:
        now = datetime(2026, 2, 1, 12, tzinfo=UTC)

    monkeypatch.setattr(timestamps, "system_clock", lambda: Clock.now)
    return Clock


# ---- 1: the wrong stick


def test_wrong_stick_one_without_a_bundle(exported: Site, beacon: RehearsalBeacon):
    """Somebody's holiday is on it; or the bundle is, one folder further down."""
    other = exported.root / "other"
    other.mkdir()
    (other / "beach.jpg").write_bytes(b"x")
    said = exported.import_paths([other], beacon.url, code=2).output
    assert "there is no .airgap file in this folder" in said
    assert "found:    beach.jpg" in said
    assert "Next: " in follow(said, "media list").output
    exported.stick.rename(other / "march")
    said = exported.import_paths([other], beacon.url, code=2).output
    assert "subfolders are not searched" in said
    inside = other / re.search(r"found: +(\S+)/", said)[1]  # type: ignore[index]
    exported.import_paths([inside], beacon.url)
    assert states(exported) == {"delivered": 3}


def test_wrong_stick_one_that_is_another_customers(exported: Site, beacon: RehearsalBeacon):
    (exported.root / "b").mkdir()
    other = Site.build(exported.root / "b")
    other.collect([report(1)])
    other.export()
    said = exported.import_paths([other.stick], beacon.url, code=4).output
    assert "signed by a key that is not in the trust store" in said
    assert "another's is the wrong stick" in said
    looked = follow(said, "inspect", "--home", exported.workstation).output
    assert f"Bundle 1 of {SOURCE}" in looked
    assert "NOT CHECKED" in looked
    follow(looked, "cat", "--home", exported.workstation)
    exported.import_(beacon.url)
    assert beacon.totals.records == 3


def test_wrong_stick_one_without_a_receipt(exported: Site, beacon: RehearsalBeacon):
    said = exported.apply(code=2).output
    assert "there is no .receipt file in this folder" in said
    assert f"found:    {BUNDLE}" in said
    follow(said, "media list")
    follow(exported.import_(beacon.url).output, "receipt apply", "--home", exported.isolated, FOLDER=exported.stick)  # fmt: skip
    assert exported.status()["confirmed"]["usage_report"]["records"] == 3


# ---- 2: the wrong key


def test_wrong_key_a_new_one_that_nobody_told_the_workstation_of(
    site: Site, beacon: RehearsalBeacon
):
    run("key", "generate", "--home", site.isolated, "--name", "new", "--no-passphrase")
    site.collect([report(1)])
    site.export("--key", "new")
    said = site.import_(beacon.url, code=4).output
    assert "signed by a key that is not in the trust store" in said
    assert str(site.bundle) in said
    home, public = ("--home", site.workstation), site.isolated / "keys" / "new.pub"
    follow(said, "inspect", *home)
    follow(said, "trust add", *home, FILE_pub=public, NAME=SOURCE)
    site.import_(beacon.url)
    assert states(site) == {"delivered": 1}


def test_wrong_key_one_that_was_revoked(exported: Site, beacon: RehearsalBeacon):
    home = ("--home", exported.workstation)
    run("trust", "revoke", *home, exported.exporter.public.key_id, "--reason", "laptop lost")
    said = exported.import_(beacon.url, code=4).output
    assert "signed by a revoked key" in said
    assert "laptop lost" in said
    run("key", "generate", "--home", exported.isolated, "--name", "new", "--no-passphrase")
    public = exported.isolated / "keys" / "new.pub"
    run("trust", "add", *home, public, "--role", "exporter", "--source", SOURCE)
    other = exported.root / "other"
    other.mkdir()
    follow(said, "export --again", "--home", exported.isolated, NAME="new", FOLDER=other)
    exported.import_paths([other], beacon.url)
    assert states(exported) == {"delivered": 3}


@pytest.mark.parametrize(
    ("trusted_as", "words"),
    [
        (("--role", "exporter", "--source", "bank-b"), "may not sign for this source"),
        (("--role", "importer", "--source", "*"), "nobody signed as exporter"),
    ],
)
def test_wrong_key_one_that_is_trusted_for_something_else(
    exported: Site, beacon: RehearsalBeacon, trusted_as, words
):
    home, public = ("--home", exported.workstation), exported.isolated / "keys" / "default.pub"
    run("trust", "remove", *home, exported.exporter.public.key_id)
    run("trust", "add", *home, public, *trusted_as)
    said = exported.import_(beacon.url, code=4).output
    assert words in said
    follow(said, "trust remove", *home)
    follow(said, "trust add", *home, FILE_pub=public)
    exported.import_(beacon.url)
    assert states(exported) == {"delivered": 3}


# ---- 3: the wrong clock


def test_wrong_clock_one_that_was_a_year_ahead(site: Site, beacon: RehearsalBeacon, clock):
    clock.now += timedelta(days=365)
    site.collect([day(1)])
    site.export()
    clock.now -= timedelta(days=365)
    said = site.import_(beacon.url).output
    assert "one of the two is wrong; set it right before the next" in said
    site.collect([day(1), day(2)])
    said = site.export(code=9).output
    assert "the clock was set back" in said
    follow(said, "export --backdated", "--home", site.isolated, "--to", site.stick)
    said = site.import_(beacon.url, code=9).output
    assert "bundle 2 of bank-a.prod can't have been made when it says" in said
    follow(said, "import", *options(site, beacon.url), FOLDER=site.stick)
    assert states(site) == {"delivered": 2}


def test_wrong_clock_one_that_dated_a_bundle_before_its_key(
    site: Site, beacon: RehearsalBeacon, clock
):
    home, public = ("--home", site.workstation), site.isolated / "keys" / "default.pub"
    run("trust", "remove", *home, site.exporter.public.key_id)
    granted = ("--role", "exporter", "--source", SOURCE)
    run("trust", "add", *home, public, *granted, "--from", "2026-01-01")
    clock.now = datetime(2020, 1, 1, tzinfo=UTC)
    site.collect([day(1)])
    site.export()
    clock.now = datetime(2026, 2, 1, tzinfo=UTC)
    said = site.import_(beacon.url, code=4).output
    assert "the file was made before the key" in said
    assert "2020-01-01T00:00:00Z" in said
    follow(said, "trust remove", *home)
    follow(said, "trust add", *home, FILE_pub=public)
    site.import_(beacon.url)
    assert states(site) == {"delivered": 1}


# ---- 4: a stale trust store


def test_stale_trust_store(exported: Site, beacon: RehearsalBeacon, clock):
    """The root's signature counted until March; nobody carried the next version."""
    made, root_key = (
        homes.create(exported.root / "office", "workstation", "office"),
        keys.generate(),
    )
    made.add_key("root-1", root_key, None)
    office, home = ("--home", made.path), ("--home", exported.workstation)
    run("trust", "root", "add", *office, made.keys_path / "root-1.pub", "--threshold", 1)
    for side, role in ((exported.isolated, "exporter"), (exported.workstation, "importer")):
        public = side / "keys" / "default.pub"
        run("trust", "add", *office, public, "--role", role, "--source", SOURCE)
    sign = ("trust", "sign", *office, "--key", "root-1", "--to", exported.root)
    run(*sign, "--expires", "2026-03-01")
    run("trust", "update", *home, exported.root, "--root", root_key.public.fingerprint)
    clock.now = datetime(2026, 4, 1, tzinfo=UTC)
    said = exported.import_(beacon.url, code=4).output
    assert "the trust store has expired" in said
    assert "until 2026-03-01T00:00:00Z" in said
    run(*sign, "--expires", "2027-03-01")
    newest = max(exported.root.glob("*.trust"))
    follow(said, "trust update", *home, FILE=newest)
    exported.import_(beacon.url)
    assert states(exported) == {"delivered": 3}


# ---- 5: no space


def test_no_space_for_the_bundle(site: Site, beacon: RehearsalBeacon):
    site.collect([report(n, n) for n in range(3)])
    with sticks.stick("ext4", site.stick, sticks.MIB) as stick:
        film = stick.fill()
        said = site.export(code=8).output
        assert "there is not enough space on the medium" in said
        assert re.search(r"expected: 1\.\d KiB free\n +found: +0 B", said)
        assert "make room there, or name another stick, and run the command again" in said
        film.unlink()
        assert BUNDLE in site.export().output
        site.import_(beacon.url)
    assert states(site) == {"delivered": 3}


def test_no_space_for_the_receipt(site: Site, beacon: RehearsalBeacon):
    site.collect([report(n, n) for n in range(3)])
    other = site.root / "other"
    other.mkdir()
    with sticks.stick("ext4", site.stick, sticks.MIB) as stick:
        site.export()
        stick.fill()
        said = site.import_(beacon.url).output
    assert "the receipt stays in the home: there is not enough space on the medium" in said
    follow(said, "import --resume", "--home", site.workstation, FOLDER=other)
    follow(said, "receipt apply", "--home", site.isolated, FOLDER=other)
    assert site.status()["confirmed"]["usage_report"]["records"] == 3


# ---- 6: a proxy


def test_proxy_that_is_not_there(
    exported: Site, tls_beacon: RehearsalBeacon, authority, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://me:hunter2@127.0.0.1:{closed.getsockname()[1]}"
    url, more = "https://beacon.invalid", ("--attempts", "1", "--ca-file", authority[0])
    monkeypatch.setenv("HTTPS_PROXY", gone)
    said = exported.import_(url, *more, code=7).output
    assert f"where:    {url} through the proxy http://***@127.0.0.1:" in said
    assert "check network, firewall and proxy" in said
    assert "hunter2" not in said
    assert states(exported) == {"waiting": 3}
    with serving(tunnel(int(tls_beacon.url.rpartition(":")[2]))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        follow(said, "import --resume", *options(exported, url), *more)
    assert states(exported) == {"delivered": 3}


def test_proxy_that_nobody_named(
    exported: Site, tls_beacon: RehearsalBeacon, authority, monkeypatch: pytest.MonkeyPatch
):
    """Only the proxy knows names outside."""
    url, more = "https://beacon.invalid", ("--attempts", "1", "--ca-file", authority[0])
    said = exported.import_(url, *more, "--quiet", code=7).output
    assert f"where:    {url}\n" in said
    assert "HTTPS_PROXY where only a proxy knows names outside" in said
    with serving(tunnel(int(tls_beacon.url.rpartition(":")[2]))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        follow(said, "import --resume", *options(exported, url), *more)
    assert states(exported) == {"delivered": 3}


def test_proxy_that_demands_a_login(
    exported: Site, tls_beacon: RehearsalBeacon, authority, monkeypatch: pytest.MonkeyPatch
):
    url, more = "https://beacon.invalid", ("--attempts", "1", "--ca-file", authority[0])
    with serving(always(answer(407))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        said = exported.import_(url, *more, code=7).output
    assert "a proxy demands a login" in said
    assert "hint: give the proxy's name and password in HTTPS_PROXY" in said
    with serving(tunnel(int(tls_beacon.url.rpartition(":")[2]))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//me:hunter2@"))
        done = follow(said, "import --resume", *options(exported, url), *more)
    assert b"proxy-authorization: basic" in proxy.heads[0].lower()
    assert "hunter2" not in done.output
    assert states(exported) == {"delivered": 3}


# ---- 7: a certificate authority of one's own


def test_custom_ca_that_is_not_named(exported: Site, tls_beacon: RehearsalBeacon, authority):
    url = tls_beacon.url.replace("http:", "https:")
    said = exported.import_(url, "--attempts", "1", "--quiet", code=7).output
    assert f"where:    {url}\n" in said
    assert "unable to get local issuer certificate" in said
    assert "give its authority with --ca-file or SSL_CERT_FILE" in said
    follow(said, "import --resume", *options(exported, url), "--ca-file", authority[0])
    assert states(exported) == {"delivered": 3}


def test_custom_ca_that_is_no_pem_file(exported: Site, tls_beacon: RehearsalBeacon, authority):
    """Windows exports certificates in DER, under any name."""
    url, binary = tls_beacon.url.replace("http:", "https:"), exported.root / "ca.cer"
    certificate = x509.load_pem_x509_certificate(Path(authority[0]).read_bytes())
    binary.write_bytes(certificate.public_bytes(Encoding.DER))
    said = exported.import_(url, "--ca-file", binary, code=2).output
    assert "the certificate authorities can't be read" in said
    assert "a PEM file" in said
    command = re.search(r"openssl [^;\n]*", said)[0]  # type: ignore[index]
    assert str(binary) in command
    pem = exported.root / "ca2.pem"
    subprocess.run(command.replace("FILE.pem", str(pem)).split(), check=True, timeout=20)
    exported.import_(url, "--ca-file", pem)
    assert states(exported) == {"delivered": 3}


# ---- 8: another licence


def test_licence_mismatch(exported: Site, beacon: RehearsalBeacon):
    other = exported.root / "other.key"
    other.write_text("lcl_EXAMPLE_of_another_customer\n")
    command = ("import", "--home", exported.workstation, exported.stick)
    urls = ("--beacon-url", beacon.url, "--api-url", beacon.url)
    said = run(*command, *urls, "--license-file", other, code=4).output
    assert "no credential here matches the bundle's" in said
    assert "another customer's stick" in said
    assert "nothing of it was sent" in said
    assert "EXAMPLE" not in said
    assert beacon.requests == {}
    option = re.search(r"the same command with (--license-file) FILE", said)[1]  # type: ignore[index]
    run(*command, *urls, option, exported.license_file)
    assert states(exported) == {"delivered": 3}


def test_licence_given_as_an_api_key(exported: Site, beacon: RehearsalBeacon):
    command = ("import", "--home", exported.workstation, exported.stick)
    urls = ("--beacon-url", beacon.url, "--api-url", beacon.url)
    said = run(*command, *urls, "--api-key-file", exported.license_file, code=4).output
    option = re.search(r"as the wrong type: give its file as (--[a-z-]+) FILE", said)[1]  # type: ignore[index]
    run(*command, *urls, option, exported.license_file)
    assert states(exported) == {"delivered": 3}


def test_licence_itself_typed_in_place_of_its_file(exported: Site, beacon: RehearsalBeacon):
    command = ("import", "--home", exported.workstation, exported.stick)
    said = run(*command, "--license-file", LICENSE, code=2).output
    assert "the file of the licence key can't be read: No such file or directory" in said
    assert "not shown: it may be the key itself" in said
    assert LICENSE not in said


# ---- 9: partly delivered


def test_partial_delivery(exported: Site, beacon: RehearsalBeacon):
    """One is refused for good, of one nobody knows, one is delivered."""
    replies = [answer(422, {"detail": "unknown tag"}), answer(500), answer(204)]
    once = ("--in-flight", "1", "--attempts", "1")
    with serving(lambda c, _body, number: c.sendall(replies[number])) as server:
        said = exported.import_(server.url, *once, "--quiet", code=6).output
    assert "airgap: error: 1 record in doubt, 1 dead letter\n" in said
    home = ("--home", exported.workstation)
    listed = follow(said, "ledger list", *home).output
    ids = dict(re.findall(r"^ ?([0-9a-f]{32}) +(in doubt|dead)", listed, re.MULTILINE))
    named = {state: identifier for identifier, state in ids.items()}
    follow(listed, "ledger resolve", *home, ID=named["in doubt"], TEXT="case 4711: counted")
    after = follow(listed, "ledger deadletter retry", *home, ID=named["dead"], TEXT="tag allowed")
    assert "with the options of your import" in after.output
    said = follow(after.output, "import --resume", *options(exported, beacon.url)).output
    assert states(exported) == {"delivered": 3}
    assert beacon.totals.records == 1
    follow(said, "import --resume", *home, FOLDER=exported.stick)
    follow(said, "receipt apply", "--home", exported.isolated, FOLDER=exported.stick)
    assert exported.status()["confirmed"]["usage_report"]["records"] == 3


# ---- 10: imported twice


def test_second_import_of_the_same_stick(exported: Site, beacon: RehearsalBeacon):
    exported.import_(beacon.url)
    said = exported.import_(beacon.url).output
    assert "bundle 1 of bank-a.prod: imported before; nothing of it is delivered twice" in said
    assert beacon.totals.records == 3
    for words in ("3 records newly confirmed, 3 in all", "applied before, nothing changed"):
        applied = follow(said, "receipt apply", "--home", exported.isolated, FOLDER=exported.stick)
        assert words in applied.output
    assert "0 records newly confirmed, 3 in all" in applied.output
    assert exported.status()["confirmed"]["usage_report"]["records"] == 3


def test_second_import_while_the_first_still_runs(exported: Site, beacon: RehearsalBeacon):
    with exclusive(exported.workstation / "ledger.sqlite.lock", "import"):
        said = exported.import_(beacon.url, code=2).output
    assert "another airgap import is running on this home" in said
    assert "wait for it to end, then run the command again" in said
    exported.import_(beacon.url)
    assert states(exported) == {"delivered": 3}
