"""Doctor's probe: what it sends, and what it says of each way in which a host is not there."""

import json
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import authorities
import pytest
import sandbox
from authorities import HERE, HOUR
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from servers import always, answer, reset, serving, silence, tunnel
from support import Site, run

from airgap import __version__
from airgap import home as homes

NOW = datetime.now(UTC)
needs_offline = pytest.mark.skipif(bool(sandbox.no_namespace()), reason=str(sandbox.no_namespace()))


@pytest.fixture(scope="module")
def workstation(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("probed"))


def made(root: Path) -> Path:
    """Return a new workstation's home, with the audit log that a first command begins."""
    home = Site.build(root).workstation
    (home / "audit.jsonl").touch(0o600)
    return home


def probe(home: Path, url: str, *options: object, code: int = 0, api: str | None = None) -> dict:
    done = run(
        *("doctor", "--home", home, "--probe", "--json", "--beacon-url", url),
        *("--api-url", api or url, *options),
        code=code,
    )
    return json.loads(done.stdout)


def the(said: dict, name: str) -> dict:
    [found] = [f for f in said["findings"] if f["id"] == name]
    return found


# ---- certificates as sites have them


certificate = partial(authorities.certificate, now=NOW)
ENDS = {
    "good": {"names": HERE},
    "named otherwise": {"names": (x509.DNSName("elsewhere.invalid"),)},
    "expired": {"names": HERE, "start": -3 * HOUR, "end": -HOUR},
    "early": {"names": HERE, "start": HOUR, "end": 2 * HOUR},
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Path:
    """Certificates of a site's authority for hosts in several states, and of a stranger's authority."""
    folder, pem = tmp_path_factory.mktemp("pki"), serialization.Encoding.PEM
    ca_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    ca = certificate("site authority", ca_key, None, ca_key, ca=True, end=400 * 24 * HOUR)
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    for name, how in ENDS.items():
        made = certificate("beacon", key, ca.subject, ca_key, **how)
        (folder / f"{name}.pem").write_bytes(made.public_bytes(pem) + private)
    for name, how in {"stranger": {"end": 99 * 24 * HOUR}, "ended": {"start": -2 * HOUR, "end": -HOUR}, "ends": {}}.items():  # fmt: skip
        other = certificate(f"{name} authority", key, None, key, ca=True, **how)
        (folder / f"{name}-ca.pem").write_bytes(other.public_bytes(pem))
    leaf = certificate("beacon", key, ca.subject, ca_key, names=HERE)
    (folder / "leaf.pem").write_bytes(leaf.public_bytes(pem))
    return folder


@pytest.fixture(autouse=True)
def _few_authorities(pki, monkeypatch) -> None:
    """Those of this machine are many, and say nothing here."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pki / "ca.pem"))


@contextmanager
def tls(chain: Path, reply: bytes):
    """Serve one answer over TLS, any number of times; yield the port and what was read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    listener = socket.create_server(("127.0.0.1", 0))
    heads: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                connection.settimeout(5)
                with context.wrap_socket(connection, server_side=True) as stream:
                    heads.append(stream.recv(65536))
                    stream.sendall(reply)
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


EXACTLY = (
    "HEAD / HTTP/1.1\r\n"
    "Host: {host}\r\n"
    f"User-Agent: airgap/{__version__}\r\n"
    "Accept: */*\r\n"
    "Connection: close\r\n"
    "\r\n"
)


def same(head: bytes, host: str) -> bool:
    """Tell whether a request is the documented one; the order of headers says nothing."""
    wanted = EXACTLY.format(host=host).strip().split("\r\n")
    found = head.decode().strip().split("\r\n")
    return found[0] == wanted[0] and sorted(map(str.lower, found)) == sorted(map(str.lower, wanted))


# ---- what leaves


def test_the_probe_sends_exactly_what_is_documented_once_to_each_host(workstation):
    with serving(always(answer(404))) as one, serving(always(answer(200))) as other:
        said = probe(workstation, one.url + "/some/path", api=other.url)
    for server in (one, other):
        [head] = server.heads
        assert same(head, server.url.removeprefix("http://")), head
        assert server.bodies == [b""]
    found = [f for f in said["findings"] if f["id"] == "network.reachable"]
    assert [(f["state"], f["where"]) for f in found] == [
        ("ok", one.url + "/some/path"),
        ("ok", other.url),
    ]
    assert "answered 404" in found[0]["found"]


def test_the_probe_carries_no_key_even_where_there_are_some(workstation, monkeypatch):
    monkeypatch.setenv("AIRGAP_LICENSE_KEY", "lcl_EXAMPLE_not_a_real_key")
    monkeypatch.setenv("AIRGAP_API_KEY", "lsv2_pt_EXAMPLE_not_a_real_key")
    with serving(always(answer(401))) as server:
        probe(workstation, server.url)
    [head] = server.heads
    assert same(head, server.url.removeprefix("http://"))


def test_without_probe_nothing_is_sent(workstation):
    with serving(always(answer(200))) as server:
        done = run("doctor", "--home", workstation, "--json", "--beacon-url", server.url)
    assert server.heads == []
    assert the(json.loads(done.stdout), "network.reachable")["state"] == "not checked"


def test_the_isolated_side_and_an_unknown_one_refuse_to_probe(tmp_path):
    home = homes.create(tmp_path / "isolated", "isolated", "bank-a.prod").path
    with serving(always(answer(200))) as server:
        for path in (home, tmp_path / "nowhere"):
            done = run("doctor", "--home", path, "--probe", "--beacon-url", server.url, code=2)
            assert "the isolated side opens no connection" in done.output
    assert server.heads == []


def test_what_is_sent_is_said_by_help(workstation):
    said = " ".join(run("doctor", "--help").output.split())
    for part in ("HEAD /", "Host", "User-Agent", "Accept: */*", "Connection: close", "No key"):
        assert part in said
    for host in ("beacon.langchain.com", "api.smith.langchain.com"):
        assert host in said


# ---- TLS, with and without a proxy


def test_a_host_behind_tls_is_reached_with_the_sites_authority(workstation, pki):
    with tls(pki / "good.pem", answer(405)) as (port, heads):
        said = probe(workstation, f"https://127.0.0.1:{port}", "--ca-file", pki / "ca.pem")
    assert the(said, "network.reachable")["state"] == "ok"
    assert [same(head, f"127.0.0.1:{port}") for head in heads] == [True]
    assert the(said, "network.authorities")["state"] == "ok"


def test_a_host_behind_a_proxy_and_tls_is_reached_and_the_password_is_not_shown(
    workstation, pki, monkeypatch
):
    with tls(pki / "good.pem", answer(404)) as (port, heads), serving(tunnel(port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//me:hunter2@"))
        said = probe(workstation, "https://beacon.invalid", "--ca-file", pki / "ca.pem")
    assert proxy.heads[0].startswith(b"CONNECT beacon.invalid:443")
    assert [same(head, "beacon.invalid") for head in heads] == [True]
    told = the(said, "network.reachable")
    assert (told["state"], "through http://***@127.0.0.1" in told["found"]) == ("ok", True)
    assert "hunter2" not in json.dumps(said)


@pytest.mark.parametrize(
    ("chain", "ca", "words", "cure"),
    [
        ("named otherwise", "ca", "for another name", "correct the URL"),
        ("good", "stranger-ca", "does not know", "--ca-file FILE"),
        ("expired", "ca", "has expired", "set the clock right if it is ahead"),
        ("early", "ca", "not valid yet", "set the clock right if it is behind"),
    ],
)
def test_a_certificate_that_is_not_right_is_told_so_with_its_cure(
    workstation, pki, chain, ca, words, cure
):
    with tls(pki / f"{chain}.pem", answer(200)) as (port, heads):
        url = f"https://127.0.0.1:{port}"
        said = probe(workstation, url, "--ca-file", pki / f"{ca}.pem", code=7)
    told = the(said, "network.reachable")
    assert words in told["found"], told
    assert cure in told["cure"]
    # A handshake may come to its end; of the request nothing leaves.
    assert b"".join(heads) == b""


@pytest.mark.parametrize(
    ("ca", "state", "words"),
    [
        ("ended-ca.pem", "wrong", "ended authority expired at"),
        ("ends-ca.pem", "warning", "ends authority expires at"),
        ("leaf.pem", "wrong", "no authority's certificate, but 1 other"),
    ],
)
def test_authorities_that_end_or_are_none_are_told_so(workstation, pki, ca, state, words):
    done = run(
        *("doctor", "--home", workstation, "--json", "--ca-file", pki / ca),
        code=2 if state == "wrong" else 0,
    )
    told = the(json.loads(done.stdout), "network.authorities")
    assert told["state"] == state
    assert words in told["found"]
    assert "certificate authority" in told["cure"] or "authority that follows" in told["cure"]


def test_settings_that_can_not_be_used_stop_the_probe(workstation, pki):
    with serving(always(answer(200))) as server:
        said = probe(workstation, server.url, "--ca-file", pki / "ended-ca.pem", code=2)
    assert server.heads == []
    assert "can't be used" in the(said, "network.reachable")["found"]


# ---- each stage at which it can fail


@pytest.mark.parametrize(
    ("status", "words", "cure"),
    [
        (407, "demands a login (407)", "USER:PASSWORD"),
        (403, "the proxy refuses", "ask who runs it"),
    ],
)
def test_a_proxy_that_refuses_is_told_so(workstation, monkeypatch, status, words, cure):
    with serving(always(answer(status))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        said = probe(workstation, "https://beacon.invalid", code=7)
    told = the(said, "network.reachable")
    assert words in told["found"]
    assert cure in told["cure"]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_port_where_nothing_listens_is_told_so(workstation):
    told = the(probe(workstation, f"http://127.0.0.1:{closed_port()}", code=7), "network.reachable")
    assert "refused" in told["found"]
    assert "HTTPS_PROXY" in told["cure"]


def test_a_proxy_where_nothing_listens_is_named(workstation, monkeypatch):
    proxy = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    told = the(probe(workstation, "https://beacon.invalid", code=7), "network.reachable")
    assert f"the proxy {proxy} can't be reached" in told["found"]
    assert "correct HTTPS_PROXY" in told["cure"]


def test_a_host_that_never_answers_is_told_so(workstation):
    with serving(silence(5)) as server:
        said = probe(workstation, server.url, "--timeout", "0.2", code=7)
    told = the(said, "network.reachable")
    assert "in time" in told["found"]
    assert "--timeout" in told["cure"]


def test_a_connection_that_is_cut_is_told_so(workstation):
    with serving(reset) as server:
        told = the(probe(workstation, server.url, code=7), "network.reachable")
    assert "without an answer" in told["found"]
    assert "firewall" in told["cure"]


def greet(listener: socket.socket) -> None:
    """Answer a handshake in plain words."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"220 mail.example ESMTP\r\n")


def test_a_port_that_speaks_no_tls_is_told_so(workstation):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, args=(listener,), daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        told = the(probe(workstation, url, code=7), "network.reachable")
        thread.join(10)
    assert "no TLS" in told["found"]
    assert "scheme" in told["cure"]


@needs_offline
def test_names_that_can_not_be_resolved_and_missing_routes_are_told_so(workstation):
    command = [sys.executable, "-m", "airgap", "doctor", "--home", workstation, "--probe", "--json"]
    command += ["--beacon-url", "https://beacon.invalid", "--api-url", "http://127.0.0.1:9"]
    done = subprocess.run(sandbox.offline(command), capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    name, route = [f for f in json.loads(done.stdout)["findings"] if f["id"] == "network.reachable"]
    assert "can't be resolved" in name["found"]
    assert "getent hosts" in name["cure"]
    assert "no route" in route["found"]
    assert "default route" in route["cure"]


# ---- answers that are not the host's own, and its clock


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (answer(302, Location="https://login.example/?from=here"), "wrong"),
        (answer(511), "wrong"),
        (answer(407), "wrong"),
        (answer(200, Content_Type="text/html; charset=utf-8"), "warning"),
        (answer(404, Content_Type="text/html"), "ok"),
        (answer(307, Location="/docs"), "ok"),
        (answer(500), "ok"),
    ],
)
def test_an_answer_counts_unless_another_machine_gives_it(workstation, reply, state):
    with serving(always(reply)) as server:
        said = probe(workstation, server.url, code=7 if state == "wrong" else 0)
    told = the(said, "network.reachable")
    assert told["state"] == state, told
    assert bool(told["cure"]) == (state != "ok")
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    ("off", "state", "words"),
    [
        (timedelta(), "ok", "Date is"),
        (-3 * HOUR, "wrong", "3 hours ahead"),
        (timedelta(days=2), "wrong", "2 days behind"),
        (None, "not checked", "no Date"),
    ],
)
def test_the_clock_is_held_against_the_hosts_date(workstation, off, state, words):
    headers = {} if off is None else {"Date": format_datetime(datetime.now(UTC) + off, usegmt=True)}
    with serving(always(answer(200, **headers))) as server:
        said = probe(workstation, server.url, code=9 if state == "wrong" else 0)
    told = the(said, "clock.beacon")
    assert told["state"] == state
    assert words in told["found"]
    assert ("timedatectl" in (told["cure"] or "")) == (state == "wrong")


def test_urls_of_an_import_in_the_configuration_are_those_that_are_asked(tmp_path):
    home = made(tmp_path)
    with serving(always(answer(404))) as server:
        with (home / "airgap.toml").open("a") as file:
            file.write(f'[import]\nbeacon_url = "{server.url}"\napi_url = "{server.url}"\n')
        run("doctor", "--home", home, "--probe")
    assert len(server.heads) == 1
