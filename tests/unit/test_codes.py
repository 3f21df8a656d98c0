"""Codes: typed by hand, bound to one bundle, one source and one workstation."""

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import codes
from airgap.errors import InputRefusedError, TrustError

SECRET = bytes(range(16))
ABOUT = {"source": "bank-a.prod", "importer": "relay-1", "bundle_id": "ab" * 32}


def test_a_code_is_the_beginning_of_an_hmac_over_what_it_says():
    said = b"airgap code v1\0bank-a.prod\0relay-1\0" + b"ab" * 32 + b"\0delivered"
    expected = base64.b32encode(hmac.digest(SECRET, said, "sha256")[:10]).decode()
    shown = codes.code(SECRET, **ABOUT)
    assert shown.replace("-", "") == expected
    assert [len(group) for group in shown.split("-")] == [4, 4, 4, 4]


@pytest.mark.parametrize(
    "form", [str, str.lower, lambda c: c.replace("-", " "), lambda c: f" {c}\n"]
)
def test_a_code_may_be_typed_in_any_grouping_and_case(form):
    codes.check_code(form(codes.code(SECRET, **ABOUT)), SECRET, **ABOUT)


@pytest.mark.parametrize("name", ["source", "importer", "bundle_id"])
def test_a_code_of_something_else_is_refused(name):
    other = codes.code(SECRET, **{**ABOUT, name: "x" * len(ABOUT[name])})
    with pytest.raises(TrustError):
        codes.check_code(other, SECRET, **ABOUT)


@given(st.integers(0, 15), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_one_wrong_letter_is_refused(place, letter):
    right = codes.code(SECRET, **ABOUT).replace("-", "")
    typed = right[:place] + letter + right[place + 1 :]
    if typed == right:
        codes.check_code(typed, SECRET, **ABOUT)
        return
    with pytest.raises(TrustError) as caught:
        codes.check_code(typed, SECRET, **ABOUT)
    assert right not in str(caught.value.as_json()).replace("-", "")


@pytest.mark.parametrize("typed", ["", "AAAA", "ÄÄÄÄ-ÄÄÄÄ-ÄÄÄÄ-ÄÄÄÄ", "A" * 10_000, "1890-" * 4])
def test_what_is_no_code_is_refused(typed):
    with pytest.raises(TrustError):
        codes.check_code(typed, SECRET, **ABOUT)


@given(st.binary(min_size=16, max_size=16))
def test_a_pairing_secret_survives_being_typed_with_look_alikes(secret):
    shown = codes.secret_text(secret)
    assert codes.secret_from_text(shown) == secret
    assert codes.secret_from_text(shown.lower().replace("o", "0").replace("b", "8")) == secret


@given(st.integers(0, 31), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_mistyped_pairing_secret_is_refused(place, letter):
    right = codes.secret_text(SECRET).replace("-", "")
    typed = right[:place] + letter + right[place + 1 :]
    if typed != right:
        with pytest.raises(InputRefusedError):
            codes.secret_from_text(typed)
