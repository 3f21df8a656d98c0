"""Sealed bundles from end to end: who can read them, who can only verify them, and who is refused."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from support import LICENSE, REPOSITORY, Site, report, run, transaction

from airgap import catalog
from airgap.bundle import codec, envelope, layout, reader
from airgap.bundle.envelope import Envelope
from airgap.home import create, open_home
from airgap.trust import keys, recipients
from airgap.trust import store as trust_store

SECRET = "six made up words for the test"
WORDS = "tenant-of-the-customer"


def make_key(home, *options):
    """Make a sealing key on a workstation; return its fingerprint and its public file."""
    made = json.loads(run("recipient", "generate", "--home", home, *options, "--json").stdout)
    return made["fingerprint"], made["public_key"]


def enrol(site, name, fingerprint, public):
    run("recipient", "add", "--home", site.isolated, public, "--name", name, "--fingerprint", fingerprint)  # fmt: skip


@pytest.fixture
def sealing(site):
    """A site whose isolated side knows the workstation's sealing key as ``relay-1``."""
    enrol(site, "relay-1", *make_key(site.workstation, "--no-passphrase"))
    return site


def second_workstation(site: Site):
    """Return the home of another workstation that trusts the same exporter."""
    home = create(site.root / "second", "workstation", "relay-2")
    trust_store.save(home.trust_path, site.trust)
    return home.path


def header_of(path):
    with path.open("rb") as stream:
        return reader.open_file(stream, name="test", catalog=catalog.load()).header


def test_a_sealed_bundle_is_delivered_and_confirmed_and_shows_nothing_of_its_records(
    sealing, beacon
):
    site = sealing
    values = [report(4, tags={"langgraph.platform.host": WORDS})]
    site.collect([*values, {"license": LICENSE, "trace_transactions": [transaction(1)]}])
    result = site.export("--seal-to", "relay-1", "--compression", "none", "--json")
    [made] = json.loads(result.stdout)["made"]
    [entry] = header_of(site.bundle).sealing.recipients
    assert made["sealed_to"] == [entry.key_id]
    data = site.bundle.read_bytes()
    assert WORDS.encode() not in data
    assert b"tenant_id" not in data
    site.import_(beacon.url)
    assert beacon.totals.records == 2
    site.apply()
    assert site.status()["bundles"][0]["outcomes"] == {"delivered": 2}
    # A receipt is not sealed: it holds ids and outcomes, and no record.
    [receipt] = site.stick.glob("*.receipt")
    assert header_of(receipt).sealing is None
    assert WORDS.encode() not in receipt.read_bytes()


def test_each_of_several_recipients_opens_it_whatever_their_suites(sealing, beacon, monkeypatch):
    site = sealing
    second = second_workstation(site)
    monkeypatch.setenv("AIRGAP_SEALING_PASSPHRASE", SECRET)
    enrol(site, "safe", *make_key(second, "--hybrid", "--name", "spare"))
    monkeypatch.delenv("AIRGAP_SEALING_PASSPHRASE")
    site.collect([report(4), report(5, 3)])
    said = site.export("--seal-to", "relay-1", "--seal-to", "safe").output
    assert said.count("Sealed to ") == 2
    assert "(safe)" in said
    shown = run("inspect", "--home", site.isolated, site.bundle).output
    assert "(x25519, relay-1)" in shown
    assert "(mlkem768-x25519, safe)" in shown
    suites = [r.suite for r in header_of(site.bundle).sealing.recipients]
    assert suites == ["x25519", "mlkem768-x25519"]
    first = run("cat", "--home", site.workstation, site.bundle).stdout
    file = site.root / "passphrase"
    file.write_text(SECRET + "\n")
    other = run("cat", "--home", second, site.bundle, "--sealing-passphrase-file", file).stdout
    assert first == other
    assert len(first.splitlines()) == 2
    site.import_(beacon.url)
    assert beacon.totals.records == 2


def test_without_the_key_everything_but_the_records_is_verified(sealing):
    site = sealing
    site.collect([report(4)])
    site.export("--seal-to", "relay-1")
    second = second_workstation(site)
    for home in (site.isolated, second):
        said = run("verify", "--home", home, site.bundle).output
        assert "verified as far as it can be without opening, 1 record" in said
        shown = run("inspect", "--home", home, site.bundle).output
        assert "Sealed to" in shown
        assert "Not opened: no key of this home fits" in shown
        assert "Nobody here can read its records" in shown
        value = json.loads(run("inspect", "--home", home, site.bundle, "--json").stdout)
        assert (value["opened"], value["verified"]) == (False, True)
        assert value["sealed_to"][0]["suite"] == "x25519"
    opened = run("verify", "--home", site.workstation, site.bundle).output
    assert ": verified, 1 record" in opened
    assert "Opened with a key of this home" in opened
    data = bytearray(site.bundle.read_bytes())
    chunk = len(data) // 2
    while data[chunk] == data[chunk] ^ 1:
        chunk += 1
    data[chunk] ^= 1
    site.bundle.write_bytes(data)
    assert "REFUSED" in run("verify", "--home", second, site.bundle, code=None).output


def test_cat_and_import_refuse_a_bundle_that_is_sealed_to_others(sealing, beacon):
    site = sealing
    second = second_workstation(site)
    enrol(site, "second", *make_key(second, "--no-passphrase"))
    site.collect([report(4)])
    site.export("--seal-to", "second")
    for options in ((), ("--unverified",)):
        result = run("cat", "--home", site.workstation, site.bundle, *options, code=4)
        assert "the bundle is sealed, and no key here opens it" in result.output
        assert "to look at it all the same" not in result.output
    key = json.loads(run("recipient", "list", "--home", second, "--json").stdout)["recipients"][0]
    refused = site.import_(beacon.url, code=4).output
    assert f"the private key of {key['fingerprint']} (x25519)" in refused
    assert not beacon.seen
    assert (
        json.loads(run("ledger", "list", "--home", site.workstation, "--json").stdout)["records"]
        == []
    )


def test_a_passphrase_is_asked_for_only_where_the_key_fits_and_its_lack_is_exit_status_4(
    sealing, beacon, monkeypatch
):
    site = sealing
    monkeypatch.setenv("AIRGAP_SEALING_PASSPHRASE", SECRET)
    made = make_key(site.workstation, "--name", "guarded")
    monkeypatch.delenv("AIRGAP_SEALING_PASSPHRASE")
    site.collect([report(1)])
    site.export("--seal-to", "relay-1")
    # The guarded key is not among the recipients: nobody asks for its passphrase.
    run("cat", "--home", site.workstation, site.bundle)
    site.bundle.unlink()
    enrol(site, "guarded", *made)
    site.collect([report(2, 5)])
    site.export("--seal-to", "guarded")
    missing = run("cat", "--home", site.workstation, site.bundle, code=4).output
    assert "protected by a passphrase, and none was given" in missing
    assert "guarded.pem" in missing
    monkeypatch.setenv("AIRGAP_SEALING_PASSPHRASE", "wrong")
    assert "does not open the private key" in site.import_(beacon.url, code=4).output
    monkeypatch.setenv("AIRGAP_SEALING_PASSPHRASE", SECRET)
    assert SECRET not in site.import_(beacon.url).output
    assert SECRET not in (site.workstation / "audit.jsonl").read_text()
    assert beacon.totals.records == 1


def test_exporting_again_writes_the_same_bytes_and_signing_again_keeps_the_seal(sealing, beacon):
    site = sealing
    site.collect([report(1)])
    site.export("--seal-to", "relay-1")
    first = site.bundle.read_bytes()
    site.bundle.unlink()
    site.export("--again")
    assert site.bundle.read_bytes() == first
    before = header_of(site.bundle)
    run("key", "generate", "--home", site.isolated, "--name", "new", "--no-passphrase")
    public = site.isolated / "keys" / "new.pub"
    run("trust", "add", "--home", site.workstation, public, "--role", "exporter", "--source", "bank-a.prod")  # fmt: skip
    site.bundle.unlink()
    site.export("--again", "--sign-again", "--key", "new")
    assert site.bundle.read_bytes() != first
    assert header_of(site.bundle) == before
    site.import_(beacon.url)
    assert beacon.totals.records == 1


def test_a_declaration_of_no_usage_has_nothing_to_seal(sealing):
    site = sealing
    site.export("--no-usage", "2026-03-01..2026-03-04", "--seal-to", "relay-1")
    assert header_of(site.bundle).sealing is None
    assert "verified, 0 records" in run("verify", "--home", site.workstation, site.bundle).output


def test_several_bundles_of_one_export_have_a_file_key_each(sealing, beacon):
    site = sealing
    values = [
        report(n, n % 24, tags={"langgraph.platform.host": f"{n} {'x' * 240}"}) for n in range(600)
    ]
    site.collect(values)
    site.export("--seal-to", "relay-1", "--max-size", "256KiB", "--compression", "none")
    paths = sorted(site.stick.glob("*.airgap"))
    assert len(paths) > 1
    assert all(path.stat().st_size <= 256 * 1024 for path in paths)
    assert len({header_of(path).sealing.commitment for path in paths}) == len(paths)
    site.import_(beacon.url)
    assert beacon.totals.records == 600


def test_recipients_come_from_the_homes_file_too(sealing):
    site = sealing
    file = site.isolated / "airgap.toml"
    file.write_text(file.read_text() + '[export]\nseal_to = ["relay-1"]\n')
    site.collect([report(1)])
    site.export()
    assert header_of(site.bundle).sealing is not None


def test_a_dry_run_opens_a_sealed_bundle_as_an_import_would(sealing, beacon):
    site = sealing
    site.collect([report(4)])
    site.export("--seal-to", "relay-1")
    shown = json.loads(site.import_(beacon.url, "--dry-run", "--json").stdout)
    assert shown["requests"][0]["records"] == 1
    assert not beacon.seen


def test_a_key_that_was_swapped_on_the_stick_is_not_sealed_to(site):
    _, public = make_key(site.workstation, "--no-passphrase")
    told, _ = make_key(second_workstation(site), "--no-passphrase")
    add = ("recipient", "add", "--home", site.isolated)
    result = run(*add, public, "--fingerprint", told, code=4)
    assert "the key is not the one you expected" in result.output
    assert "Missing option '--fingerprint'" in run(*add, public, code=2).output
    own = json.loads(run("recipient", "list", "--home", site.workstation, "--json").stdout)
    fingerprint = own["recipients"][0]["fingerprint"]
    few = run(*add, public, "--fingerprint", fingerprint[:14], code=2).output
    assert "too few digits (12 of at least 16)" in few
    site.collect([report(1)])
    result = site.export("--seal-to", public, code=2)
    assert "a key that was never compared" in result.output
    assert list(site.stick.iterdir()) == []
    private = public.replace(".pub", ".pem")
    result = run(*add, private, "--fingerprint", fingerprint, code=4)
    assert "a private key: it never leaves its machine" in result.output
    assert list(open_home(site.isolated).path.glob("recipients/*")) == []


def test_recipients_are_added_listed_named_and_removed(site):
    fingerprint, public = make_key(site.workstation, "--no-passphrase", "--hybrid")
    assert "No recipients" in run("recipient", "list", "--home", site.isolated).output
    enrol(site, "relay-1", fingerprint[:19], public)
    assert fingerprint in run("recipient", "list", "--home", site.isolated).output
    for home, name in ((site.isolated, "relay-1"), (site.workstation, "default")):
        shown = run("recipient", "fingerprint", "--home", home, name).output
        assert shown.strip() == fingerprint
    assert run("recipient", "fingerprint", public).output.strip() == fingerprint
    run("recipient", "fingerprint", "--home", site.isolated, "nobody", code=2)
    again = run("recipient", "add", "--home", site.isolated, public, "--name", "x", "--fingerprint", fingerprint, code=2)  # fmt: skip
    assert "known already" in again.output
    site.collect([report(1)])
    assert "no such recipient" in site.export("--seal-to", "relay-9", code=2).output
    site.export("--seal-to", fingerprint[:19])
    assert header_of(site.bundle).sealing.recipients[0].suite == "mlkem768-x25519"
    run("recipient", "remove", "--home", site.isolated, "relay-1")
    run("recipient", "remove", "--home", site.isolated, "relay-1", code=2)
    assert "No recipients" in run("recipient", "list", "--home", site.isolated).output


def test_sealing_keys_are_never_overwritten(site):
    make_key(site.workstation, "--no-passphrase")
    path = site.workstation / "sealing" / "default.pem"
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    again = run("recipient", "generate", "--home", site.workstation, "--no-passphrase", code=2)
    assert "never overwrites" in again.output
    assert path.read_bytes() == before
    run("recipient", "generate", "--home", site.workstation, "--name", "../x", code=2)
    long = site.root / "long"
    long.write_text("x" * 1024)
    result = run("recipient", "generate", "--home", site.workstation, "--name", "long", "--sealing-passphrase-file", long, code=2)  # fmt: skip
    assert "too long" in result.output
    run("recipient", "add", "--home", site.workstation, path, "--fingerprint", "0" * 16, code=2)


def test_key_files_that_were_mixed_up_are_said(sealing):
    site = sealing
    site.collect([report(1)])
    site.export("--seal-to", "relay-1")
    path = site.workstation / "sealing" / "default.pem"
    path.write_bytes(recipients.to_pem(recipients.generate(hybrid=False), None))
    result = run("cat", "--home", site.workstation, site.bundle, code=4)
    assert "not the one of the public key beside it" in result.output


def test_more_recipients_than_the_format_takes_are_refused_before_anything_is_made(site):
    names = []
    for number in range(9):
        enrol(site, f"r{number}", *make_key(site.workstation, "--no-passphrase", "--name", f"r{number}"))  # fmt: skip
        names += ["--seal-to", f"r{number}"]
    site.collect([report(1)])
    assert "too many recipients" in site.export(*names, code=2).output
    assert list(site.stick.iterdir()) == []
    site.export(*names[:16])
    assert len(header_of(site.bundle).sealing.recipients) == 8


def test_a_sealed_bundle_signed_by_another_exporter_is_not_counted_as_that_ones(sealing, beacon):
    """Whoever found the stick may sign for bank-b: the sealed chunks must not become bank-b's."""
    site = sealing
    site.collect([report(4)])
    site.export("--seal-to", "relay-1")
    thief = keys.generate()
    public = site.root / "thief.pub"
    public.write_text(thief.public.pem)
    run("trust", "add", "--home", site.workstation, public, "--role", "exporter", "--source", "bank-b.prod")  # fmt: skip
    data = site.bundle.read_bytes()
    offset = int.from_bytes(data[-24:-16])
    old = envelope.decode(data[offset:-26], where="test")
    manifest = {**codec.decode_own(old.payload), "source": "bank-b.prod"}
    unsigned = Envelope(old.payload_type, codec.encode(manifest), ())
    signed = replace(unsigned, signatures=(thief.sign(unsigned.message),)).encode()
    site.bundle.write_bytes(data[:offset] + signed + layout.footer(offset, len(signed)))
    result = site.import_(beacon.url, code=5)
    assert "the wrapped file key does not open with the key that it names" in result.output
    assert "taken from another bundle" in result.output
    assert not beacon.seen


def test_a_sealed_bundle_is_reviewed_by_who_can_open_it_and_its_approvals_count_unopened(
    sealing, beacon
):
    site = sealing
    run("key", "generate", "--home", site.isolated, "--name", "alice", "--role", "reviewer", "--no-passphrase")  # fmt: skip
    alice = site.isolated / "keys" / "alice.pub"
    options = ("--role", "reviewer", "--source", "bank-a.prod")
    run("trust", "add", "--home", site.workstation, alice, *options)
    run("trust", "policy", "set", "--home", site.workstation, "--source", "bank-a.prod", "--reviewers", "1")  # fmt: skip
    site.collect([report(4)])
    site.export("--key", "default", "--seal-to", "relay-1")
    refused = run("review", "--home", site.isolated, site.bundle, code=4)
    assert "the bundle is sealed, and no key here opens it" in refused.output
    run("countersign", "--home", site.isolated, site.bundle, "--key", "alice", code=2)
    site.bundle.unlink()
    made = run(
        "recipient", "generate", "--home", site.isolated, "--name", "alice", "--no-passphrase"
    )
    assert "--seal-to alice" in made.output
    site.collect([report(5, 6)])
    site.export("--key", "default", "--seal-to", "relay-1", "--seal-to", "alice")
    site.import_(beacon.url, code=4)
    second = second_workstation(site)
    assert "as far as it can be" not in run("verify", "--home", second, site.bundle, code=4).output
    run("review", "--home", site.isolated, site.bundle)
    run("countersign", "--home", site.isolated, site.bundle, "--key", "alice")
    shown = run("verify", "--home", second, site.bundle).output
    assert "verified as far as it can be without opening" in shown
    assert "Approved by" in shown
    site.import_(beacon.url)
    assert beacon.totals.records == 1


def test_where_the_library_has_no_hpke_only_sealing_is_refused_and_says_so(sealing):
    site = sealing
    code = (
        "import sys; sys.modules['cryptography.hazmat.primitives.hpke'] = None\n"
        "from airgap.cli.main import main; main()"
    )

    def without_hpke(*arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )

    site.collect([report(1)])
    done = without_hpke(
        "export", "--home", site.isolated, "--to", site.stick, "--seal-to", "relay-1"
    )
    assert done.returncode == 4
    assert "no HPKE" in done.stderr
    assert "requirements.lock" in done.stderr
    assert without_hpke("export", "--home", site.isolated, "--to", site.stick).returncode == 0
    assert header_of(site.bundle).sealing is None


def test_sealing_is_in_the_log_with_the_recipients_fingerprints_and_no_key(sealing):
    site = sealing
    site.collect([report(1)])
    site.export("--seal-to", "relay-1")
    log = (site.isolated / "audit.jsonl").read_text()
    own = json.loads(run("recipient", "list", "--home", site.workstation, "--json").stdout)
    assert own["recipients"][0]["fingerprint"] in log
    assert '"sealed_to"' in log
    made = (site.workstation / "audit.jsonl").read_text()
    assert "sealing key made" in made
    assert "PRIVATE" not in made + log


def test_the_documented_sizes_are_the_real_ones(sealing):
    page = (REPOSITORY / "schemas" / "README.md").read_text()
    site = sealing
    enrol(site, "safe", *make_key(site.workstation, "--no-passphrase", "--hybrid", "--name", "h"))
    sizes = {}
    for names in ((), ("relay-1",), ("safe",), ("relay-1", "safe")):
        site.collect([report(1, len(sizes))])
        site.export("--compression", "none", *(o for n in names for o in ("--seal-to", n)))
        sizes[names] = len(header_of(site.bundle).encode())
        site.bundle.unlink()
    x25519 = sizes["relay-1", "safe"] - sizes["safe",]
    hybrid = sizes["relay-1", "safe"] - sizes["relay-1",]
    fixed = sizes["relay-1",] - x25519 - sizes[()]
    assert f"| `x25519` | 80 | {x25519:,} |" in page
    assert f"| `mlkem768-x25519` | 1,168 | {hybrid:,} |" in page
    assert f"{fixed:,} bytes beside the entries" in page
