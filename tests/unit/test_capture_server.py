"""The capture endpoint's HTTP: what arrives is whole, and nobody takes more than the bounds give."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise

import pytest
from capturing import OK, Client, Recorder, chunked, detail, post, running, until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from support import REPOSITORY

from airgap.capture import systemd
from airgap.capture.server import Answer, Bounds, Head, listen, serve
from airgap.errors import UsageError

SECRET = "lsv2_pt_EXAMPLE_secret"
QUICK = Bounds(
    max_head=2048,
    max_body=64 * 1024,
    head_seconds=0.15,
    body_seconds=0.15,
    idle_seconds=0.15,
    answer_seconds=0.15,
    grace_seconds=0.15,
    discard_bytes=256 * 1024,
    discard_seconds=0.15,
)


@pytest.fixture(autouse=True)
def _silence(caplog):
    """Whatever happens, nothing is logged."""
    caplog.set_level(logging.DEBUG)
    yield
    assert [r for r in caplog.records if "selector" not in r.getMessage()] == []


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def server(recorder):
    with running(recorder) as started:
        yield started


@pytest.fixture
def quick(recorder):
    with running(recorder, QUICK) as started:
        yield started


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 here")


class TestWhatArrives:
    def test_a_report_arrives_whole_and_is_answered(self, server, recorder):
        with server.client() as client:
            status, headers, body = client.send(post(b'{"a": 1}')).answer()
        assert (status, body) == (200, OK.body)
        assert headers["content-type"] == "application/json"
        assert "date" in headers
        assert recorder.seen[0][1] == b'{"a": 1}'

    def test_the_handler_sees_path_headers_and_peer_as_they_came(self, server, recorder):
        more = "X-Twice: a\r\nx-TWICE: b, c\r\nX-Latin: \xe9\r\nX-Fold: a\r\n b\r\n"
        with server.client() as client:
            client.send(post(path="/a%2Fb/../c?key=1?2", headers=more)).answer()
        head = recorder.seen[0][0]
        assert (head.method, head.path, head.peer) == ("POST", "/a%2Fb/../c", "127.0.0.1")
        assert head.headers["x-twice"] == "a, b, c"
        assert head.headers["x-latin"].encode("latin-1").decode() == "\xe9"
        assert head.headers["x-fold"] == "a b"

    def test_a_heads_repr_holds_no_credential(self):
        assert SECRET not in repr(Head("POST", f"/{SECRET}", {"x-api-key": SECRET}, "::1"))

    def test_a_connection_is_used_again(self, server, recorder):
        with server.client() as client:
            for number in range(5):
                assert client.send(post(b"%d" % number)).status() == 200
        assert [body for _, body in recorder.seen] == [b"0", b"1", b"2", b"3", b"4"]

    def test_connection_close_is_honoured(self, server):
        with server.client() as client:
            assert (
                client.send(post(headers="Connection: close\r\n")).answer()[1]["connection"]
                == "close"
            )
            assert client.rest() == b""

    def test_http_1_0_is_answered_and_closed(self, server, recorder):
        with server.client() as client:
            status, headers, body = client.send(
                post(b"old", version="1.0").replace(b"Host: capture\r\n", b"")
            ).answer()
            assert (status, headers["connection"], body) == (200, "close", OK.body)
            assert client.rest() == b""
        assert recorder.seen[0][1] == b"old"

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            ("http://capture/a/b?c", "/a/b"),
            ("HTTPS://capture:1", "/"),
            ("http://capture?x", "/"),
            ("//capture/a", "//capture/a"),
        ],
    )
    def test_the_absolute_form_is_understood(self, server, recorder, target, path):
        with server.client() as client:
            assert client.send(post(path=target)).status() == 200
        assert recorder.seen[0][0].path == path

    def test_chunks_are_put_together_and_trailers_dropped(self, server, recorder):
        with server.client() as client:
            assert (
                client.send(
                    chunked(b"ab", b"c" * 5000, end=b"0;x=y\r\nX-Trailer: z\r\n\r\n")
                ).status()
                == 200
            )
        head, body = recorder.seen[0]
        assert body == b"ab" + b"c" * 5000
        assert "x-trailer" not in head.headers

    @pytest.mark.parametrize(
        "request_",
        [post(b"twelve bytes"), chunked(b"twelve", b" bytes")],
        ids=["length", "chunked"],
    )
    def test_a_request_may_come_byte_by_byte(self, server, recorder, request_):
        with server.client() as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in request_:
                client.send(bytes([byte]))
            assert client.status() == 200
        assert recorder.seen[0][1] == b"twelve bytes"

    def test_pipelined_requests_are_answered_in_order(self, server, recorder):
        async def echo(_head, body):
            await asyncio.sleep(random.random() / 100)
            return Answer(200, body)

        recorder.answered = echo
        with server.client() as client:
            client.send(
                b"".join(post(b"%d" % n) if n % 2 else chunked(b"%d" % n) for n in range(20))
            )
            assert [client.answer()[2] for _ in range(20)] == [b"%d" % n for n in range(20)]

    def test_what_follows_a_broken_request_is_not_taken_for_one(self, server, recorder):
        with server.client() as client:
            client.send(b"BROKEN\r\n\r\n" + post(b"smuggled"))
            assert client.status() == 400
            assert client.rest() == b""
        assert recorder.seen == []

    def test_fifty_clients_at_once(self, server, recorder):
        def one(number):
            with server.client() as client:
                for turn in range(4):
                    body = b"%d/%d " % (number, turn) * (1 + number * 40)
                    assert client.send(post(body) if turn % 2 else chunked(body)).status() == 200

        with ThreadPoolExecutor(50) as pool:
            list(pool.map(one, range(50)))
        assert sorted(b for _, b in recorder.seen) == sorted(
            b"%d/%d " % (n, t) * (1 + n * 40) for n in range(50) for t in range(4)
        )

    def test_answers_without_content_have_none(self, server, recorder):
        async def nothing(_head, _body):
            return Answer(204)

        recorder.answered = nothing
        with server.client() as client:
            status, headers, _ = client.send(post()).answer()
            assert status == 204
            assert "content-length" not in headers
            assert client.send(post()).status() == 204

    def test_a_head_request_is_answered_without_its_body(self, server):
        with server.client() as client:
            client.send(b"HEAD /v1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.answer(head_only=True)[1]["content-length"] == str(len(OK.body))
            assert client.send(post()).status() == 200

    def test_an_offer_of_another_protocol_is_passed_over(self, server):
        with server.client() as client:
            client.send(post(headers="Connection: Upgrade\r\nUpgrade: h2c\r\n"))
            assert client.status() == 200
            assert client.send(post()).status() == 200


class TestHealth:
    def test_the_server_answers_without_asking_the_handler(self, server, recorder):
        recorder.refused = lambda _: Answer(401)
        with server.client() as client:
            assert (
                client.send(b"GET /healthz?x HTTP/1.1\r\nHost: x\r\n\r\n").answer()[2]
                == b'{"ok": true}'
            )
            client.send(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.answer(head_only=True)[0] == 200
            assert client.send(post(b"", path="/healthz")).status() == 401

    def test_it_says_what_it_was_given_to_say(self, recorder):
        answers = [Answer(503, b'{"ok": false}')]
        with running(recorder, health=answers.pop) as server, server.client() as client:
            health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            assert client.send(health).answer()[::2] == (503, b'{"ok": false}')
            assert client.send(health).status() == 500

    def test_it_is_answered_while_all_places_are_taken(self, recorder):
        with (
            running(recorder, Bounds(max_requests=1)) as server,
            server.client() as slow,
            server.client() as client,
        ):
            slow.send(post(b"12345")[:-1])
            assert client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status() == 200
            assert slow.send(b"5").status() == 200


HOST = "Host: x\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"POST /{SECRET} HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}{HOST}\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}", 400),
        (f"POST / HTTP/1.1\r\n{HOST}Content-Length: -1\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}Content-Length: {'9' * 500}\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}Content-Length: 99999999999999999999\r\n\r\n", 413),
        (f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{SECRET}\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{'f' * 21}\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}X-Api-Key : {SECRET}\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}X-Api-Key: {SECRET}\x1b[31m\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}X-Api-Key: {SECRET}\0\r\n\r\n", 400),
        (f"{SECRET} / HTTP/1.1\r\n{HOST}\r\n", 501),
        (f"TRACE / HTTP/1.1\r\n{HOST}\r\n", 501),
        (f"CONNECT {SECRET}:443 HTTP/1.1\r\n{HOST}\r\n", 501),
        (f"POST {SECRET} HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"POST /#{SECRET} HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"POST ftp://x/{SECRET} HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"POST / HTTP/1.1 {SECRET}\r\n{HOST}\r\n", 400),
        (f"POST /  HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"POST / HTTP/3.0\r\n{HOST}\r\n", 505),
        (f"POST / HTTP/1.2\r\n{HOST}\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 505),
        (f"GET /{SECRET}\r\n\r\n", 400),
        ("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400),
        ("\r\n\r\n", 400),
        ("\0" * 100, 400),
    ],
)  # fmt: skip
def test_a_request_that_is_not_clear_is_refused_without_repeating_it(
    server, recorder, request_, status
):
    with server.client() as client:
        found, headers, body = client.send(request_.encode("latin-1")).answer()
        assert found == status
        assert headers["connection"] == "close"
        assert len(detail(body)) < 80
        assert SECRET.encode() not in str(headers).encode() + body
        assert client.rest() == b""
    assert recorder.seen == []


class TestSize:
    def test_a_head_of_the_bound_is_read_and_one_more_byte_is_not(self, recorder):
        bounds = Bounds(max_head=1000)
        empty = len(post(b"", headers="X: \r\n"))
        with running(recorder, bounds) as server:
            for more, status in ((0, 200), (1, 431)):
                for pieces in (1, 2):
                    request = post(b"", headers=f"X: {'x' * (1000 - empty + more)}\r\n")
                    assert len(request) == 1000 + more
                    with server.client() as client:
                        client.send(request[: len(request) // pieces])
                        client.send(request[len(request) // pieces :])
                        found, _, body = client.answer()
                        assert found == status
                        assert more == 0 or "head" in detail(body)

    def test_the_bound_holds_for_a_pipelined_head(self, recorder):
        with running(recorder, Bounds(max_head=1000)) as server, server.client() as client:
            client.send(chunked(b"x" * 2000) + post(headers=f"X: {'x' * 1000}\r\n"))
            assert [client.status(), client.status()] == [200, 431]

    def test_headers_are_counted_too(self, recorder):
        with running(recorder, Bounds(max_fields=10)) as server:
            for more, status in ((8, 200), (9, 431)):
                with server.client() as client:
                    assert client.send(post(headers="a:\r\n" * more)).status() == status

    def test_a_head_without_end_is_cut_off(self, server, recorder):
        with server.client() as client:
            client.send(b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
            assert client.status() == 431

    def test_a_length_beyond_the_bound_is_refused_before_any_of_it_is_sent(self, quick, recorder):
        head = post(b"x" * (QUICK.max_body + 1), headers="Expect: 100-continue\r\n")[
            : -QUICK.max_body - 1
        ]
        with quick.client() as client:
            status, headers, body = client.send(head).answer()
        assert (status, headers["connection"]) == (413, "close")
        assert "body" in detail(body)

    @pytest.mark.parametrize("make", [post, chunked])
    def test_a_body_of_the_bound_is_read(self, recorder, make):
        with running(recorder, Bounds(max_body=10_000)) as server, server.client() as client:
            assert client.send(make(b"x" * 10_000)).status() == 200

    def test_chunks_beyond_the_bound_are_refused_though_all_was_sent_first(self, quick, recorder):
        with quick.client() as client:
            client.send(chunked(*[b"x" * 1000] * 200))
            assert client.status() == 413
        assert recorder.seen == []

    def test_chunks_that_are_mostly_framing_are_refused(self, recorder):
        with running(recorder, Bounds(max_head=1024)) as server:
            for parts in ([b"x"] * 5000, [b""] * 0):
                with server.client() as client:
                    client.send(
                        chunked(*parts, end=b"1;" + b"y" * 900 + b"\r\nx\r\n" if not parts else b"")
                    )
                    if not parts:
                        client.send((b"1;" + b"y" * 900 + b"\r\nx\r\n") * 20)
                    assert client.status() == 400

    def test_trailers_without_end_are_refused(self, quick):
        with quick.client() as client:
            client.send(chunked(b"x", end=b"0\r\n") + b"X: y\r\n" * 2000)
            assert client.status() == 400


class TestTime:
    def test_a_head_that_trickles_in_is_cut_off(self, quick):
        started = time.monotonic()
        with quick.client() as client:
            client.send(b"POST / HTTP/1.1\r\n")
            for _ in range(12):
                time.sleep(0.02)
                try:
                    client.send(b"X: y\r\n")
                except OSError:
                    break
            assert client.rest().startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 1

    def test_a_silent_connection_is_closed_without_a_word(self, quick):
        with quick.client() as client:
            assert client.rest() == b""

    def test_an_idle_connection_is_closed_without_a_word(self, quick):
        with quick.client() as client:
            assert client.send(post()).status() == 200
            assert client.rest() == b""

    def test_a_further_head_has_its_own_time(self, recorder):
        bounds = Bounds(head_seconds=0.1, idle_seconds=5)
        with running(recorder, bounds) as server, server.client() as client:
            assert client.send(post()).status() == 200
            time.sleep(0.15)
            assert client.send(post()).status() == 200
            started = time.monotonic()
            client.send(b"POST")
            assert client.status() == 408
            assert time.monotonic() - started < 2

    @pytest.mark.parametrize(
        "request_", [post(b"x" * 100)[:-50], chunked(b"x", end=b"")], ids=["length", "chunked"]
    )
    def test_a_body_that_stops_is_cut_off(self, quick, recorder, request_):
        with quick.client() as client:
            status, headers, _ = client.send(request_).answer()
            assert (status, headers["connection"]) == (408, "close")
        assert recorder.seen == []

    def test_a_client_that_never_reads_its_answer_is_dropped(self, recorder):
        async def large(_head, _body):
            return Answer(200, b"x" * 8_000_000)

        recorder.answered = large
        bounds = Bounds(answer_seconds=0.1, max_connections=1)
        with running(recorder, bounds) as server, server.client(receive=4096) as deaf:
            deaf.send(post())
            with server.client() as client:
                assert client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status() == 200
            with pytest.raises(ConnectionResetError):
                deaf.answer()

    def test_a_client_that_pipelines_and_never_reads_is_dropped(self, recorder):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        bounds = Bounds(answer_seconds=0.1)
        with running(recorder, bounds, sockets=[listener]) as server:
            with server.client(receive=4096) as deaf, pytest.raises(ConnectionError):
                deaf.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000_000)

    def test_a_client_that_floods_does_not_keep_others_waiting(self, server):
        done = threading.Event()

        def flood():
            with server.client() as client:
                reading = threading.Thread(target=client.rest)
                reading.start()
                while not done.is_set():
                    client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
                client.sock.shutdown(socket.SHUT_RDWR)
                reading.join()

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            time.sleep(0.05)
            started = time.monotonic()
            with server.client() as client:
                assert client.send(post()).status() == 200
            assert time.monotonic() - started < 2
        finally:
            done.set()
            thread.join()


class TestRefusal:
    def test_it_reaches_a_client_that_sends_all_before_it_reads(self, server, recorder):
        recorder.refused = lambda head: (
            Answer(401, b'{"detail": "no"}') if "x-api-key" not in head.headers else None
        )
        with server.client() as client:
            status, headers, body = client.send(post(b"x" * 4_000_000)).answer()
            assert (status, headers["connection"], body) == (401, "close", b'{"detail": "no"}')
            assert client.rest() == b""
        assert recorder.seen == []

    def test_what_is_thrown_away_is_bounded_in_bytes(self, recorder):
        recorder.refused = lambda _: Answer(401)
        bounds = Bounds(discard_bytes=100_000, discard_seconds=60)
        with running(recorder, bounds) as server, server.client() as client:
            with pytest.raises(ConnectionError):
                client.send(post(b"x" * 50_000_000))

    def test_what_is_thrown_away_is_bounded_in_time(self, quick, recorder):
        recorder.refused = lambda _: Answer(401)
        with quick.client() as client:
            client.send(post(b"x" * 1000)[:-1000])
            assert client.status() == 401
            started = time.monotonic()

            def trickle():
                while time.monotonic() < started + 5:
                    client.send(b"x")
                    time.sleep(0.01)

            with pytest.raises(ConnectionError):
                trickle()

    def test_without_a_body_the_connection_goes_on(self, server, recorder):
        recorder.refused = lambda head: Answer(405) if head.method == "GET" else None
        with server.client() as client:
            assert client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").status() == 405
            assert client.send(post()).status() == 200

    def test_no_place_is_taken_by_who_is_refused(self, recorder):
        recorder.refused = lambda head: Answer(401) if head.path == "/no" else None
        with running(recorder, Bounds(max_requests=1)) as server:
            clients = [server.client() for _ in range(5)]
            for client in clients:
                client.send(post(b"x" * 9, path="/no")[:-1])
            with server.client() as client:
                assert client.send(post()).status() == 200
            for client in clients:
                client.sock.close()

    def test_continue_is_said_once_the_body_is_wanted(self, server, recorder):
        recorder.refused = lambda head: Answer(403) if head.path == "/no" else None
        expecting = "Expect: 100-continue\r\n"
        with server.client() as client:
            client.send(post(b"ab", headers=expecting)[:-2])
            assert client.status() == 100
            assert client.send(b"ab").status() == 200
            client.send(post(b"ab", path="/no", headers=expecting)[:-2])
            assert client.status() == 403
            assert client.rest() == b""
        assert [body for _, body in recorder.seen] == [b"ab"]


class TestFaults:
    @pytest.mark.parametrize(
        "error",
        [
            ValueError(SECRET),
            OSError(28, SECRET),
            TimeoutError(SECRET),
            asyncio.CancelledError(SECRET),
            MemoryError(),
            KeyError(SECRET),
        ],
        ids=lambda e: type(e).__name__,
    )
    def test_a_handler_that_fails_is_a_500_that_tells_nothing(self, server, recorder, error, capfd):
        async def fail(_head, _body):
            raise error

        recorder.answered = fail
        with server.client() as client:
            for _ in range(2):
                status, _, body = client.send(post(SECRET.encode())).answer()
                assert status == 500
                assert SECRET not in detail(body)
        assert capfd.readouterr() == ("", "")

    def test_a_refusal_that_fails_is_a_500_too(self, server, recorder):
        def fail(_head):
            raise OSError(SECRET)

        recorder.refused = fail
        with server.client() as client:
            status, _, body = client.send(post(b"x" * 100_000)).answer()
        assert (status, SECRET in detail(body)) == (500, False)

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            Answer(99),
            Answer(1000),
            Answer(200, b"", f"a\r\nX: {SECRET}"),
            Answer(200, SECRET),
            Answer("200"),
        ],
    )
    def test_an_answer_that_cant_be_sent_is_a_500(self, server, recorder, wrong):
        async def answer(_head, _body):
            return wrong

        recorder.answered = answer
        with server.client() as client:
            status, _, body = client.send(post()).answer()
            assert (status, SECRET in detail(body)) == (500, False)
            assert client.rest() == b""

    def test_a_handler_that_takes_too_long_is_cancelled(self, quick, recorder):
        ended = []

        async def slow(_head, _body):
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(True)

        recorder.answered = slow
        with quick.client() as client:
            assert client.send(post()).status() == 503
        assert ended == [True]

    def test_a_client_that_goes_away_meanwhile_does_not_stop_the_handler(self, server, recorder):
        ended = []

        async def slow(_head, _body):
            await asyncio.sleep(0.05)
            ended.append(True)
            return OK

        recorder.answered = slow
        with server.client() as client:
            client.send(post())
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: ended == [True])

    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    @pytest.mark.parametrize(
        "request_", [post(b"whole"), chunked(b"who", b"le")], ids=["length", "chunked"]
    )
    def test_a_client_that_goes_away_at_any_byte_harms_nobody(
        self, server, recorder, request_, reset
    ):
        for cut in range(len(request_)):
            client = server.client().send(request_[:cut])
            if reset:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
        with server.client() as client:
            assert client.send(request_).status() == 200
        assert [body for _, body in recorder.seen] == [b"whole"]

    def test_a_client_that_has_finished_sending_still_gets_its_answer(self, server, recorder):
        for request, status in ((post(), 200), (post()[:-1], 400), (post()[:10], 400)):
            with server.client() as client:
                client.send(request).sock.shutdown(socket.SHUT_WR)
                assert client.status() == status
                assert client.rest() == b""


WHOLE = [
    post(b'{"a": 1}'),
    chunked(b'{"a"', b": 1}"),
    post(b'{"a": 1}', headers="Expect: 100-continue\r\nX-Api-Key: abc\r\n"),
    post(b'{"a": 1}', version="1.0"),
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
]
TOKENS = [b"\r\n", b"\n", b"\0", b" ", b":", b"HTTP/1.1", b"chunked", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\xff"]  # fmt: skip


@st.composite
def mutated(draw):
    """Return valid requests with bytes taken out, put in and changed, and where they are cut."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 5))):
        where = draw(st.integers(0, len(data)))
        data[where : where + draw(st.integers(0, 4))] = draw(
            st.sampled_from(TOKENS) | st.binary(max_size=4)
        )
    return bytes(data)


@pytest.fixture(scope="module")
def shared():
    recorder = Recorder()
    bounds = Bounds(max_head=512, max_body=1024, head_seconds=2, body_seconds=2, discard_seconds=2)
    with running(recorder, bounds) as server:
        yield server, recorder


class TestAnyBytes:
    def talk(self, server, pieces):
        """Send the pieces, say that this was all, and return everything that was answered."""
        with server.client() as client:
            try:
                for piece in pieces:
                    client.send(piece)
                client.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return client.rest()

    @settings(max_examples=150, deadline=None)
    @given(
        data=st.binary(max_size=2000) | mutated(), cuts=st.lists(st.integers(0, 2000), max_size=4)
    )
    def test_any_bytes_are_answered_or_dropped_and_no_body_is_made_up(self, shared, data, cuts):
        server, recorder = shared
        recorder.seen.clear()
        edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
        started = time.monotonic()
        said = self.talk(server, [data[a:b] for a, b in pairwise(edges)])
        assert time.monotonic() - started < 1.5, "nobody should have waited for a time limit"
        assert said == b"" or said.startswith(b"HTTP/1.1 ")
        assert b"HTTP/1.1 500" not in said
        for _, body in recorder.seen:
            # A chunked body is put together, so its parts are looked for one after the other.
            where = 0
            for byte in body:
                where = data.index(byte, where) + 1

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.tuples(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=5), st.booleans()), min_size=1, max_size=4), st.randoms())  # fmt: skip
    def test_however_valid_requests_are_cut_each_body_arrives_as_it_was_sent(
        self, shared, bodies, chance
    ):
        server, recorder = shared
        recorder.seen.clear()
        data = b""
        for body, sizes, in_chunks in bodies:
            parts, rest = [], body
            for size in sizes:
                parts.append(rest[:size])
                rest = rest[size:]
            data += chunked(*[p for p in [*parts, rest] if p]) if in_chunks else post(body)
        edges = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(6))})
        said = self.talk(server, [data[a:b] for a, b in pairwise(edges)])
        assert said.count(b"HTTP/1.1 200 OK") == len(bodies)
        assert [body for _, body in recorder.seen] == [body for body, _, _ in bodies]


class TestManyAtOnce:
    def test_connections_beyond_the_bound_wait_and_are_served(self, recorder):
        gate = threading.Event()

        async def slow(_head, body):
            await asyncio.to_thread(gate.wait, 5)
            recorder.seen.append((_head, body))
            return OK

        recorder.answered = slow
        with running(recorder, Bounds(max_connections=2)) as server:
            clients = [server.client().send(post(b"%d" % n)) for n in range(8)]
            time.sleep(0.05)
            assert recorder.seen == []
            started = time.monotonic()
            gate.set()
            assert [client.status() for client in clients] == [200] * 8
            assert time.monotonic() - started < 2, "nobody waits for a client to close"
            for client in clients:
                client.sock.close()
        assert len(recorder.seen) == 8

    def test_an_idle_connection_gives_way_the_longest_idle_first(self, recorder):
        with running(recorder, Bounds(max_connections=2)) as server:
            first, second = server.client(), server.client()
            assert [first.send(post()).status(), second.send(post()).status()] == [200, 200]
            with server.client() as third:
                assert third.send(post()).status() == 200
                assert first.rest() == b""
                assert second.send(post()).status() == 200
            first.sock.close()
            second.sock.close()

    def test_requests_beyond_the_bound_wait_for_a_place(self, recorder):
        at_once = []
        now = [0]

        async def count(_head, _body):
            now[0] += 1
            at_once.append(now[0])
            await asyncio.sleep(0.01)
            now[0] -= 1
            return OK

        recorder.answered = count
        with running(recorder, Bounds(max_requests=3)) as server:
            clients = [server.client().send(post(b"x" * 1000)) for n in range(12)]
            assert [client.status() for client in clients] == [200] * 12
            for client in clients:
                client.sock.close()
        assert max(at_once) == 3

    def test_a_request_that_finds_no_place_is_told_to_come_back(self, recorder):
        bounds = Bounds(max_requests=1, body_seconds=0.1)

        async def slow(_head, _body):
            await asyncio.sleep(0.25)
            return OK

        recorder.answered = slow
        with (
            running(recorder, bounds) as server,
            server.client() as first,
            server.client() as second,
        ):
            first.send(post())
            time.sleep(0.02)
            status, headers, body = second.send(post(b"x" * 1000)).answer()
            assert (status, headers["connection"]) == (503, "close")
            assert "later" in detail(body)
            assert first.status() == 200

    def test_bodies_in_memory_are_bounded_however_many_clients_send(self, recorder):
        mebibyte = 1024**2
        bounds = Bounds(max_requests=2, max_body=mebibyte, body_seconds=20)
        request = post(b"x" * mebibyte)
        lengths = []

        async def length(_head, body):
            lengths.append(len(body))
            await asyncio.sleep(0.005)
            return OK

        recorder.answered = length
        with running(recorder, bounds) as server, ThreadPoolExecutor(16) as pool:

            def one(_):
                with server.client() as client:
                    return client.send(request).status()

            one(0)
            tracemalloc.start()
            try:
                assert list(pool.map(one, range(16))) == [200] * 16
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert set(lengths) == {mebibyte}
        # 2 that grow, 1 copy, and 16 times what a connection and its client's thread take.
        assert peak < (2 * 9 / 8 + 1) * mebibyte + 16 * 100_000

    def test_nothing_of_a_request_is_kept_after_its_answer(self, recorder):
        async def forget(_head, body):
            if body.startswith(b"bad"):
                raise ValueError(body)
            return OK

        recorder.answered = forget
        with running(recorder) as server, server.client() as client:
            client.send(post()).answer()
            tracemalloc.start()
            try:
                for start in (b"bad", b"good"):
                    client.send(
                        post(start + b"x" * 1_000_000, headers=f"X: {'y' * 20_000}\r\n")
                    ).answer()
                    until(lambda: tracemalloc.get_traced_memory()[0] < 20_000)
            finally:
                tracemalloc.stop()


class TestStopping:
    def test_a_request_in_flight_is_answered_and_idle_connections_end_at_once(self, recorder):
        async def slow(_head, _body):
            await asyncio.sleep(0.1)
            return OK

        recorder.answered = slow
        with (
            running(recorder) as server,
            server.client() as idle,
            server.client() as busy,
            server.client() as silent,
        ):
            assert idle.send(post()).status() == 200
            busy.send(post(b"12345")[:-1])
            time.sleep(0.02)
            started = time.monotonic()
            server.stop()
            assert idle.rest() == b""
            assert silent.rest() == b""
            assert time.monotonic() - started < 2, "they were cut off by the grace, not let go"
            with pytest.raises(ConnectionError):
                server.client()
            status, headers, _ = busy.send(b"5").answer()
            assert (status, headers["connection"]) == (200, "close")
            busy.sock.close()
            server.thread.join(1)
            assert not server.thread.is_alive()

    def test_what_outlasts_the_grace_is_cut_off(self, quick, recorder):
        with running(Recorder(), Bounds(grace_seconds=0.1)) as server, server.client() as client:
            client.send(post(b"12345")[:-1])
            time.sleep(0.02)
            started = time.monotonic()
            server.stop()
            assert client.rest() == b""
            server.thread.join(1)
            assert 0.05 < time.monotonic() - started < 1

    @pytest.mark.parametrize("steps", range(8))
    def test_cancelling_the_server_ends_it_too_however_far_a_connection_is(self, recorder, steps):
        async def main():
            ports = []
            up = asyncio.Event()

            def ready(urls):
                ports.append(int(urls[0].rpartition(":")[2]))
                up.set()

            task = asyncio.create_task(serve(recorder, stop=asyncio.Event(), ready=ready))
            await up.wait()
            with Client(ports[0]) as client:
                client.send(b"POST")
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert client.rest() == b""

        asyncio.run(main())
        gc.collect()


class TestListening:
    @IPV6
    def test_localhost_is_both_addresses_with_one_port(self, recorder):
        with running(recorder, host="localhost") as server:
            port = server.port
            assert server.urls == [f"http://127.0.0.1:{port}", f"http://[::1]:{port}"]
            for host in ("127.0.0.1", "::1"):
                with server.client(host=host) as client:
                    assert client.send(post()).status() == 200
        assert [head.peer for head, _ in recorder.seen] == ["127.0.0.1", "::1"]

    @IPV6
    def test_a_client_by_ipv4_is_called_so_on_a_dual_socket(self, recorder):
        sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        with running(recorder, sockets=[sock]) as server:
            assert server.urls == [f"http://[::]:{server.port}"]
            with server.client() as client:
                assert client.send(post()).status() == 200
        assert recorder.seen[0][0].peer == "127.0.0.1"

    def test_accepting_goes_on_after_the_kernel_had_nothing_to_give(self, recorder):
        failures = [OSError(24, "too many files"), ConnectionAbortedError()]

        class Exhausted(socket.socket):
            def accept(self):
                if failures:
                    raise failures.pop()
                return super().accept()

        listener = Exhausted()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with running(recorder, sockets=[listener]) as server, server.client() as client:
            assert client.send(post()).status() == 200

    def test_a_port_that_is_taken_is_named(self, server):
        with pytest.raises(UsageError) as caught, running(Recorder(), port=server.port):
            pass
        assert "in use" in str(caught.value)
        assert caught.value.where == f"127.0.0.1, port {server.port}"
        assert "ss -ltnp" in caught.value.hint

    @pytest.mark.parametrize(
        ("host", "port"),
        [("capture.example", 0), ("", 0), ("[::1]", 0), ("192.0.2.1", 0), ("127.0.0.1", 65536), ("127.0.0.1", -1), ("a" * 100, 0), ("\udcff", 0)],
    )  # fmt: skip
    def test_an_address_that_is_none_is_refused_without_looking_it_up(self, host, port):
        with pytest.raises(UsageError), running(Recorder(), host=host, port=port):
            pass

    @pytest.mark.parametrize("host", ["capture.example", "127.0.0.1", "localhost", ""])
    def test_no_name_server_is_asked(self, monkeypatch, host):
        real = socket.getaddrinfo

        def numeric(*args, flags=0, **more):
            assert flags & socket.AI_NUMERICHOST
            return real(*args, flags=flags, **more)

        monkeypatch.setattr(socket, "getaddrinfo", numeric)
        with contextlib.suppress(UsageError):
            for sock in listen(host, 0):
                sock.close()

    def test_a_socket_that_cant_be_served_on_is_refused(self, tmp_path):
        for family, kind in (
            (socket.AF_UNIX, socket.SOCK_STREAM),
            (socket.AF_INET, socket.SOCK_DGRAM),
            (socket.AF_INET, socket.SOCK_STREAM),
        ):
            with socket.socket(family, kind) as sock:
                with (
                    pytest.raises(UsageError, match="not one to serve on"),
                    running(Recorder(), sockets=[sock]),
                ):
                    pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class TestTls:
    @pytest.fixture
    def tls(self, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        return context

    @pytest.fixture
    def trusting(self, certificate):
        return ssl.create_default_context(cafile=str(certificate))

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_requests_are_served(self, recorder, tls, trusting, version):
        trusting.maximum_version = trusting.minimum_version = version
        body = os.urandom(300_000)

        async def echo(_head, body):
            return Answer(200, body)

        recorder.answered = echo
        with running(recorder, tls=tls) as server:
            assert server.urls[0].startswith("https://127.0.0.1:")
            with server.client(tls=trusting) as client:
                assert client.send(post(body)).answer()[2] == body
                assert client.send(chunked(body)).answer()[2] == body
                client.send(post(headers="Connection: close\r\n")).answer()
                # Not cut off: TLS's own end is there, or this would raise.
                assert client.sock.recv(1) == b""

    def test_a_handshake_that_never_ends_is_cut_off(self, recorder, tls, trusting):
        with running(recorder, QUICK, tls=tls) as server:
            outgoing = ssl.MemoryBIO()
            hello = trusting.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                hello.do_handshake()
            for start in (b"", outgoing.read()[:100]):
                with server.client() as client:
                    started = time.monotonic()
                    client.send(start)
                    assert client.rest() == b""
                    assert time.monotonic() - started < 1

    def test_a_silent_and_an_idle_connection_are_closed(self, recorder, tls, trusting):
        with running(recorder, QUICK, tls=tls) as server:
            with server.client(tls=trusting) as client:
                assert client.rest() == b""
            with server.client(tls=trusting) as client:
                assert client.send(post()).status() == 200
                assert client.rest() == b""

    def test_plain_http_and_garbage_are_dropped(self, recorder, tls):
        with running(recorder, QUICK, tls=tls) as server:
            for data in (post(), b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000):
                with server.client() as client:
                    try:
                        client.send(data)
                    except ConnectionError:
                        continue
                    # A TLS alert, if it gets there.
                    assert client.rest()[:2] in {b"", b"\x15\x03"}
        assert recorder.seen == []

    def test_a_refusal_reaches_a_client_that_sends_all_first(self, recorder, tls, trusting):
        recorder.refused = lambda _: Answer(401)
        with running(recorder, tls=tls) as server, server.client(tls=trusting) as client:
            assert client.send(post(b"x" * 1_000_000)).status() == 401

    def test_a_connection_cut_below_tls_makes_no_body(self, recorder, tls, trusting):
        with running(recorder, tls=tls) as server:
            for cut in (5, 60, len(post(b"whole")) - 1):
                client = server.client(tls=trusting).send(post(b"whole")[:cut])
                client.sock.shutdown(socket.SHUT_RDWR)
                client.sock.close()
        assert recorder.seen == []

    def test_a_stop_ends_idle_connections_properly(self, recorder, tls, trusting):
        with running(recorder, tls=tls) as server, server.client(tls=trusting) as client:
            assert client.send(post()).status() == 200
            server.stop()
            assert client.sock.recv(1) == b""


class TestSystemd:
    @pytest.mark.parametrize("abstract", [False, True])
    def test_the_state_is_told(self, tmp_path, abstract):
        name = f"@airgap-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(name.replace("@", "\0", 1))
            sock.settimeout(5)
            assert systemd.notify(systemd.READY, {"NOTIFY_SOCKET": name})
            assert systemd.notify(systemd.STOPPING, {"NOTIFY_SOCKET": name})
            assert [sock.recv(100), sock.recv(100)] == [b"READY=1", b"STOPPING=1"]

    @pytest.mark.parametrize(
        "address", ["", "relative", "vsock:2:1", "/nowhere/at/all", "/" + "x" * 500]
    )
    def test_nobody_who_listens_is_no_error(self, address):
        assert not systemd.notify(systemd.READY, {"NOTIFY_SOCKET": address})
        assert not systemd.notify(systemd.READY, {})

    def activated(self, fds, process="os.getpid()"):
        """Return what a process finds that has two sockets from file descriptor 3 on."""
        script = f"""if True:
            import os, socket, sys
            a, b = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
            a_fd, b_fd = os.dup(a.fileno()), os.dup(b.fileno())
            names = [a.getsockname(), b.getsockname()]
            a.detach(), b.detach()
            os.dup2(a_fd, 3), os.dup2(b_fd, 4)
            from airgap.capture import systemd
            from airgap.errors import UsageError
            environ = {{"LISTEN_PID": str({process}), "LISTEN_FDS": {fds!r}, "LISTEN_FDNAMES": "x"}}
            try:
                found = systemd.listening(environ)
            except UsageError as error:
                print(error.where)
                sys.exit()
            print([s.getsockname() for s in found] == names[:len(found)], len(found),
                  any(os.get_inheritable(s.fileno()) for s in found), sorted(environ))
        """
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
        )
        return done.stdout.strip()

    def test_sockets_that_systemd_opened_are_taken_over(self):
        assert self.activated("2") == "True 2 False []"

    def test_another_process_sockets_are_left_alone(self):
        assert self.activated("2", "1").startswith("True 0 False ['LISTEN_FDNAMES'")
        assert systemd.listening({}) == []

    @pytest.mark.parametrize("fds", ["", "x", "-1", "99", "1" * 5000])
    def test_a_number_that_is_none_is_refused(self, fds):
        assert self.activated(fds) == "LISTEN_FDS"


def test_every_error_body_is_json_with_nothing_but_a_detail():
    from airgap.capture.connection import _DETAILS, _failure

    for status in _DETAILS:
        assert json.loads(_failure(status).body) == {"detail": _DETAILS[status]}
