"""Signatures are over exact bytes with their type."""

import pytest

from airgap.bundle import envelope
from airgap.bundle.envelope import Envelope, Signature
from airgap.errors import DamagedError


def test_pre_authentication_encoding_is_that_of_the_dsse_protocol():
    # The protocol's own example.
    assert (
        envelope.pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_lengths_are_bytes_and_not_characters():
    encoded = envelope.pre_authentication_encoding("größe", "☃".encode())
    assert encoded == "DSSEv1 7 größe 3 ☃".encode()


def test_type_and_payload_can_not_be_moved_into_one_another():
    one = envelope.pre_authentication_encoding("a", b" 1 b")
    assert one != envelope.pre_authentication_encoding("a 1 ", b"b")


def test_document_id_does_not_depend_on_signatures():
    bare = Envelope("t", b"p", ())
    assert bare.document_id == Envelope("t", b"p", (Signature("k", "a", b"s"),)).document_id


def test_envelope_comes_back_as_it_was():
    made = Envelope("t", b"p", (Signature("k", "ed25519", b"s" * 64),))
    assert envelope.decode(made.encode(), where="here") == made


@pytest.mark.parametrize(
    "value",
    [
        {"payload_type": "t", "payload": b"p"},
        {"payload": b"p", "payload_type": "t", "signatures": []},
        {"payload_type": b"t", "payload": b"p", "signatures": []},
        {"payload_type": "t", "payload": "p", "signatures": []},
        {"payload_type": "t", "payload": b"p", "signatures": [], "more": 1},
        {"payload_type": "t", "payload": b"p", "signatures": [{"key_id": "k"}]},
        {
            "payload_type": "t",
            "payload": b"p",
            "signatures": [{"key_id": "k", "algorithm": "a", "signature": "s"}],
        },
        {
            "payload_type": "t",
            "payload": b"p",
            "signatures": [{"key_id": "k", "algorithm": "a", "signature": b"s"}] * 9,
        },
        [],
    ],
)
def test_decode_refuses_another_form(value):
    from airgap.bundle import codec

    with pytest.raises(DamagedError):
        envelope.decode(codec.encode(value), where="here")
