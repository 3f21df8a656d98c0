"""A site's private certificate authority, and a rehearsal beacon behind its TLS."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airgap.replay.rehearsal import RehearsalBeacon

HOUR = timedelta(hours=1)
HERE = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("beacon.invalid"))
"""Names of a server on this machine, and of one that only a proxy reaches."""


def certificate(name, key, issuer, signer, *, ca=False, now=None, start=-HOUR, end=HOUR, names=()):
    """Return a certificate of a key, signed by another, that is valid from and until so long from now."""
    now = now or datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, ca, ca, False, False), critical=True
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture
def authority(tmp_path):
    """Return paths of a private authority's certificate and of a server's chain and key."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = certificate("site authority", ca_key, None, ca_key, ca=True)
    made = certificate("beacon", key, ca.subject, ca_key, names=HERE)
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(ca.public_bytes(pem))
    (tmp_path / "server.pem").write_bytes(
        made.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return tmp_path / "ca.pem", tmp_path / "server.pem"


@pytest.fixture
def tls_beacon(schemas, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    server = RehearsalBeacon(schemas)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    with server:
        yield server
