"""HTTP as it comes: Retry-After in both forms, bounded answers, no key in a failure."""

from datetime import datetime

import pytest
from servers import always, answer, serving

from airgap import timestamps
from airgap.replay.answers import DoubtfulError
from airgap.replay.requests import Request
from airgap.replay.transport import HttpTransport

NOW = timestamps.parse("2026-01-31T12:00:00Z")


@pytest.fixture
def transport():
    def clock() -> datetime:
        return NOW

    with HttpTransport(timeout=5, in_flight=1, ca_file=None, clock=clock) as made:
        yield made


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17.0),
        ("0", 0.0),
        ("Sat, 31 Jan 2026 12:00:30 GMT", 30.0),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0),
        ("99999999999999999999", 86_400.0),
        ("-5", None),
        ("soon", None),
        ("Sat, 31 Jan 2026 12:00:30", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(transport, header, seconds):
    with serving(always(answer(429, Retry_After=header))) as server:
        assert transport.send(Request(server.url, {}, b"")).retry_after == seconds


def test_an_answer_beyond_a_mebibyte_is_not_kept(transport):
    with serving(always(answer(200, b"x" * 2_000_000))) as server:
        assert transport.send(Request(server.url, {}, b"")).body == b""


def test_a_failure_shows_neither_url_nor_headers_nor_body(transport):
    with serving(always(b"")) as server, pytest.raises(DoubtfulError) as caught:
        transport.send(Request(f"{server.url}/EXAMPLE", {"X-Api-Key": "EXAMPLE"}, b"EXAMPLE"))
    assert "EXAMPLE" not in str(caught.value)
    assert "EXAMPLE" not in repr(Request("http://h", {"X-Api-Key": "EXAMPLE"}, b"EXAMPLE"))
