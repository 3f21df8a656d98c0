"""Keys: made, protected, read, refused."""

import base64
import importlib.util
import os
import select
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from support import run

from airgap.errors import TrustError
from airgap.trust import keys, points

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def no_passphrase(_what):
    return None


def test_a_generated_key_is_0600_and_its_public_half_is_trusted_for_its_own_side(tmp_path):
    home = tmp_path / "home"
    run("init", "--home", home, "--source", "bank-a")
    run("key", "generate", "--home", home, "--no-passphrase")
    assert (home / "keys" / "default.pem").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert "exporter" in run("trust", "list", "--home", home).output
    assert (
        run("key", "fingerprint", "--home", home).output.strip()
        in run("key", "list", "--home", home).output
    )


def test_a_key_is_never_overwritten(tmp_path):
    home = tmp_path / "home"
    run("init", "--home", home, "--source", "bank-a")
    run("key", "generate", "--home", home, "--no-passphrase")
    before = (home / "keys" / "default.pem").read_bytes()
    assert "already" in run("key", "generate", "--home", home, "--no-passphrase", code=2).output
    assert (home / "keys" / "default.pem").read_bytes() == before


@pytest.mark.parametrize("how", ["nobody to ask", "empty file", "empty variable"])
@pytest.mark.parametrize("made", ["key", "successor", "sealing key"])
def test_no_unprotected_private_key_is_made_unless_no_passphrase_says_so(
    site, monkeypatch, how, made
):
    words = {
        "key": ("key", "generate", "--name", "new"),
        "successor": ("key", "rotate", "new"),
        "sealing key": ("recipient", "generate", "--name", "new"),
    }[made]
    prefix = "sealing-" if made == "sealing key" else ""
    variable = f"AIRGAP_{prefix}passphrase".upper().replace("-", "_")
    empty = site.root / "empty"
    empty.write_text("\nsecond line\n")
    monkeypatch.delenv(variable, raising=False)
    if how == "empty variable":
        monkeypatch.setenv(variable, "")
    given = (f"--{prefix}passphrase-file", empty) if how == "empty file" else ()
    command = (*words[:2], "--home", site.isolated, *words[2:])
    before = sorted(site.isolated.rglob("*.p*"))
    output = run(*command, *given, code=2).output
    assert "no passphrase was given" in output
    for way in (f"--{prefix}passphrase-file FILE", variable, "--no-passphrase"):
        assert way in output
    assert sorted(site.isolated.rglob("*.p*")) == before
    run(*command, "--no-passphrase")


@pytest.mark.parametrize("how", ["file", "environment"])
def test_a_passphrase_protects_the_key_and_comes_from_file_or_environment(site, monkeypatch, how):
    from support import report

    secret = "correct horse EXAMPLE"
    words = site.root / "passphrase"
    words.write_text(secret + "\n")
    given = ["--passphrase-file", words] if how == "file" else []
    if how == "environment":
        monkeypatch.setenv("AIRGAP_PASSPHRASE", secret)
    run("key", "generate", "--home", site.isolated, "--name", "second", *given)
    pem = (site.isolated / "keys" / "second.pem").read_bytes()
    assert b"ENCRYPTED PRIVATE KEY" in pem
    site.collect([report(1)])
    assert site.export("--key", "second", *given).exit_code == 0
    monkeypatch.delenv("AIRGAP_PASSPHRASE", raising=False)
    site.collect([report(1), report(2, 1)])
    assert "none was given" in site.export("--key", "second", code=4).output
    words.write_text("wrong\n")
    result = site.export("--key", "second", "--passphrase-file", words, code=4)
    assert "does not open" in result.output
    assert secret not in result.output


def test_a_private_key_that_others_can_read_is_refused(site):
    from support import report

    (site.isolated / "keys" / "default.pem").chmod(0o644)
    site.collect([report(1)])
    result = site.export(code=4)
    assert "can be read by others" in result.output
    assert "chmod 600" in result.output


def _double(point):
    x, y = point
    common = D * x * x * y * y % P
    return (
        2 * x * y * pow(1 + common, -1, P) % P,
        (y * y + x * x) * pow(1 - common, -1, P) % P,
    )


def test_the_refused_points_are_exactly_those_of_small_order():
    canonical = {y for y in points._SMALL_ORDER_Y if y < P}
    assert len(canonical) == 5
    for y in canonical:
        x_squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(x_squared, (P + 3) // 8, P)
        if x * x % P != x_squared:
            x = x * pow(2, (P - 1) // 4, P) % P
        assert x * x % P == x_squared
        point = (x, y)
        for _ in range(3):
            point = _double(point)
        assert point == (0, 1)


@pytest.mark.parametrize("y", sorted(points._SMALL_ORDER_Y))
@pytest.mark.parametrize("sign", [0, 1])
def test_a_public_key_that_anyone_can_sign_for_is_refused(y, sign):
    raw = (y | sign << 255).to_bytes(32, "little")
    public = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    pem = public.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(TrustError, match="small order"):
        keys.public_from_bytes(pem, where="test")


def test_a_public_key_that_is_no_point_of_the_curve_is_refused():
    off = next(y for y in range(2, 50) if not points._is_on_curve(y))
    public = ed25519.Ed25519PublicKey.from_public_bytes(off.to_bytes(32, "little"))
    pem = public.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(TrustError, match="no point at all"):
        keys.public_from_bytes(pem, where="test")


def _pem(key):
    return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


def _ed448_of_32_bytes() -> bytes:
    """Return a private key whose algorithm wants 57 bytes, for which OpenSSL has no name."""
    form = (ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    der = ed25519.Ed25519PrivateKey.generate().private_bytes(*form)
    text = base64.encodebytes(der.replace(b"\x2b\x65\x70", b"\x2b\x65\x71"))
    return b"-----BEGIN PRIVATE KEY-----\n" + text + b"-----END PRIVATE KEY-----\n"


def _ssh(name: bytes, *fields: bytes) -> bytes:
    """Return a public key as OpenSSH writes it (RFC 4253, section 6.6)."""
    parts = (len(part).to_bytes(4) + part for part in (name, *fields))
    return name + b" " + base64.b64encode(b"".join(parts)) + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        _pem(ed25519.Ed25519PrivateKey.generate()),
        keys.generate().public.pem.encode() * 2,
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"ssh-ed25519 AAAA\nssh-ed25519 AAAA\n",
        pytest.param(_ssh(b"ecdsa-sha2-nistp256", b"nistp256", b"\x02" * 33), id="compressed"),
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_what_is_not_one_ed25519_public_key_is_refused(data):
    with pytest.raises(TrustError):
        keys.public_from_bytes(data, where="test")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        keys.generate().public.pem.encode(),
        _pem(ec.generate_private_key(ec.SECP256R1())),
        pytest.param(_ed448_of_32_bytes(), id="Ed448 of 32 bytes"),
    ],
)
def test_what_is_not_an_ed25519_private_key_is_refused(data):
    with pytest.raises(TrustError):
        keys.private_from_bytes(data, no_passphrase, where="test")


def test_a_private_key_never_shows_itself():
    key = keys.from_seed(b"airgap test vector exporter key!")
    assert repr(key) == f"PrivateKey({key.public.key_id})"


def test_key_id_is_what_openssl_says_of_the_public_key(tmp_path):
    from hashlib import sha256

    key = keys.generate()
    pem = tmp_path / "key.pub"
    pem.write_text(key.public.pem)
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", pem, "-outform", "DER"],
        capture_output=True,
        check=True,
    ).stdout
    assert sha256(der).hexdigest() == key.public.key_id


def test_openssl_verifies_a_bundles_signature_as_the_specification_says(site, tmp_path):
    from support import report

    from airgap.bundle import envelope

    site.collect([report(1)])
    site.export()
    data = site.bundle.read_bytes()
    offset, length = int.from_bytes(data[-24:-16]), int.from_bytes(data[-16:-8])
    made = envelope.decode(data[offset : offset + length], where="test")
    (tmp_path / "message").write_bytes(made.message)
    (tmp_path / "signature").write_bytes(made.signatures[0].signature)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey"]
    command += [site.isolated / "keys" / "default.pub", "-rawin"]
    command += ["-in", tmp_path / "message", "-sigfile", tmp_path / "signature"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Signature Verified Successfully" in done.stdout, done.stdout + done.stderr


def test_trust_is_added_listed_checked_and_removed(site, tmp_path):
    key = keys.generate()
    public = tmp_path / "new.pub"
    public.write_text(key.public.pem)
    home = ("--home", site.workstation)
    assert (
        "for which source"
        in run("trust", "add", *home, public, "--role", "exporter", code=2).output
    )
    add = ("trust", "add", *home, public, "--role", "exporter", "--source", "bank-b")
    assert run(*add, "--fingerprint", "0" * 16, code=4)
    for few in ("", key.public.fingerprint[:9]):
        said = run(*add, "--fingerprint", few, code=2).output
        assert f"too few digits ({len(few) and 8} of at least 16)" in said
    added = run(
        *add,
        "--fingerprint",
        key.public.fingerprint,
        "--comment",
        "Bank B",
        "--until",
        "2030-01-01",
    ).output
    assert "It matches the fingerprint that you gave." in added
    assert "Compare it" not in added
    listed = run("trust", "list", *home).output
    assert key.public.fingerprint in listed
    assert "Bank B" in listed
    assert "2030-01-01" in listed
    assert "in the trust store already" in run(*add, code=4).output
    run("trust", "remove", *home, key.public.key_id[:8])
    assert key.public.fingerprint not in run("trust", "list", *home).output
    assert run("trust", "remove", *home, key.public.key_id[:8], code=2)
    assert run(
        "trust",
        "add",
        *home,
        site.workstation / "keys" / "default.pem",
        "--role",
        "importer",
        code=4,
    )


def test_a_terminal_is_asked_twice_for_a_new_passphrase_and_once_to_sign(site):
    from support import report

    home = ("--home", str(site.isolated))
    output = typed(
        ["key", "generate", *home, "--name", "asked"], b"open sesame\n", b"open sesame\n"
    )
    assert "protected by the passphrase" in output
    assert "open sesame" not in output
    site.collect([report(1)])
    signing = ["export", *home, "--to", str(site.stick), "--key", "asked"]
    output = typed(signing, b"open sesame\n")
    assert "Wrote" in output
    assert "open sesame" not in output


_ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def typed(arguments, *lines):
    """Run a command on a pseudo-terminal, answer its prompts, and return what it showed."""
    command = [sys.executable, "-c", _ON_A_TERMINAL, sys.executable, "-m", "airgap", *arguments]
    shown, answers = b"", list(lines)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        while select.select([process.stdout], [], [], 30)[0]:
            part = os.read(process.stdout.fileno(), 4096)
            if not part:
                break
            shown += part
            # getpass prints the space when it listens; what is typed before is thrown away.
            if answers and part.endswith(b" ") and shown.endswith(b": "):
                process.stdin.write(answers.pop(0))
                process.stdin.flush()
        else:
            process.kill()
    assert process.returncode == 0, shown.decode()
    return shown.decode()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_an_encrypted_openssh_key_opens_or_says_what_it_needs(tmp_path):
    path = tmp_path / "id_ed25519"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", path], check=True
    )
    data = path.read_bytes()
    if importlib.util.find_spec("bcrypt") is None:
        with pytest.raises(TrustError, match="bcrypt"):
            keys.private_from_bytes(data, lambda _: b"open sesame", where="test")
        return
    key = keys.private_from_bytes(data, lambda _: b"open sesame", where="test")
    public = keys.public_from_bytes(path.with_suffix(".pub").read_bytes(), where="test")
    assert key.public.key_id == public.key_id
