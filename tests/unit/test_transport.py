"""HTTP as it comes: Retry-After in both forms, bounded answers, no key in a failure."""

import threading
from datetime import datetime

import pytest
from servers import always, answer, conversing, serving

from airgap import timestamps
from airgap.replay.answers import Answer, DoubtfulError, NotSentError
from airgap.replay.requests import Request
from airgap.replay.transport import HttpTransport

NOW = timestamps.parse("2026-01-31T12:00:00Z")


def ok_then_hang_up(number: int) -> bool:
    """Answer the first request of a connection, and close it once the second was read."""
    return number == 0


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


def test_a_connection_that_breaks_after_it_was_kept_alive_sends_nothing_a_second_time(transport):
    """What promise 3 forbids, libcurl does unless it is kept from it."""
    with conversing(ok_then_hang_up) as server:
        transport.send(Request(server.url, {}, b"first"))
        with pytest.raises(DoubtfulError):
            transport.send(Request(server.url, {}, b"second"))
        assert transport.send(Request(server.url, {}, b"third")).status == 204
    assert server.bodies == [b"first", b"second", b"third"]


def test_a_request_without_a_body_is_not_sent_twice_either(transport):
    with conversing(ok_then_hang_up) as server:
        for _ in range(3):
            assert transport.send(Request(server.url, {}, b"")).status == 204
    # Each had a connection of its own, of which none was broken off.
    assert [number for number, _ in server.turns] == [0, 0, 0]


def test_connections_are_kept_alive(transport):
    with conversing(lambda _number: True) as server:
        for number in range(5):
            transport.send(Request(server.url, {}, b"%d" % number))
    assert [number for number, _ in server.turns] == [0, 1, 2, 3, 4]


def test_a_large_body_leaves_whole(transport):
    body = bytes(range(256)) * 12_000
    with serving(always(answer(204))) as server:
        assert transport.send(Request(server.url, {}, body)).status == 204
    assert server.bodies == [body]


@pytest.mark.parametrize("value", ["a\r\nX-Api-Key: b", "a\nb", "a\0b", "ä"])
def test_a_header_that_would_be_two_is_not_sent(transport, value):
    with serving(always(answer(204))) as server:
        with pytest.raises(NotSentError):
            transport.send(Request(server.url, {"X-Api-Key": value}, b"{}"))
    assert server.heads == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "file:///etc/passwd", "nothing", ""])
def test_only_http_is_spoken(transport, url):
    with pytest.raises(NotSentError):
        transport.send(Request(url, {}, b"{}"))


def test_nothing_is_added_to_what_the_request_says(transport):
    with serving(always(answer(204))) as server:
        transport.send(Request(f"{server.url}/v1", {"User-Agent": "airgap/0"}, b"{}"))
    [head] = server.heads
    assert sorted(head.decode().split("\r\n")) == [
        "Accept-Encoding: identity",
        "Accept: application/json",
        "Content-Length: 2",
        f"Host: {server.url.removeprefix('http://')}",
        "POST /v1 HTTP/1.1",
        "User-Agent: airgap/0",
    ]


def test_a_proxy_sees_no_key_and_gets_its_own(monkeypatch):
    with serving(always(answer(407))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//me:hunter2@"))
        with (
            HttpTransport(timeout=5, in_flight=1, ca_file=None, clock=lambda: NOW) as transport,
            pytest.raises(NotSentError, match=r"ProxyError: .*407") as caught,
        ):
            transport.send(Request("https://beacon.invalid/v1", {"X-Api-Key": "EXAMPLE"}, b"{}"))
    [head] = proxy.heads
    assert b"EXAMPLE" not in head
    assert b"Proxy-Authorization: Basic bWU6aHVudGVyMg==" in head
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 100 Continue\r\nRetry-After: 9\r\n\r\n" + answer(429),
        b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: gzip\r\n\r\n" + answer(429),
    ],
)
def test_what_an_interim_answer_says_does_not_count(transport, reply):
    with serving(always(reply)) as server:
        said = transport.send(Request(server.url, {}, b"{}"))
    assert (said.status, said.retry_after) == (429, None)


def test_a_compressed_answer_is_not_understood(transport):
    with serving(always(answer(200, {"token": "t"}, Content_Encoding="gzip"))) as server:
        assert transport.send(Request(server.url, {}, b"{}")).body == b""


def test_many_requests_are_in_flight_in_one_thread(transport):
    together = threading.Barrier(8, timeout=10)

    def reply(connection, _body, _number):
        together.wait()
        connection.sendall(answer(204))

    with serving(reply) as server:
        for number in range(8):
            transport.begin(number, Request(server.url, {}, b"%d" % number))
        landed = []
        while len(landed) < 8:
            landed += transport.landed(1)
    assert sorted(landed, key=lambda item: item[0]) == [(n, Answer(204, b"")) for n in range(8)]


def test_what_is_given_up_is_over_and_its_connection_closed(transport):
    closed = threading.Event()

    def reply(connection, _body, _number):
        connection.settimeout(10)
        if connection.recv(1) == b"":
            closed.set()

    with serving(reply) as server:
        transport.begin(7, Request(server.url, {}, b"{}"))
        while not server.bodies:
            assert transport.landed(0.01) == []
        transport.give_up(7)
        assert closed.wait(10)
    assert transport.landed(0) == []
