"""Whatever an answer or a failure comes to has a cause of its own and a cure; few groups hold it all."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import report, transaction

from airgap import catalog
from airgap.catalog import load
from airgap.causes import CAUSES, Undelivered, cause_of, grouped
from airgap.cli.main import COMMANDS
from airgap.replay.answers import Answer
from airgap.replay.tallies import CONFLICT, CUT_OFF
from airgap.replay.verdict import judge

SCHEMAS = load()
STATE = {"again": "waiting", "held": "waiting", "stop": "waiting", "halve": "waiting"}
BODIES = (b"", b"no", b'{"inserted_count": 99}', b'{"detail": "licence ended"}')


def verdicts():
    """Yield state, status and reason of everything that an answer can come to."""
    for kind, status, body, (sent, doubted) in product(
        SCHEMAS.kinds.values(),
        (100, *range(200, 600), 999),
        BODIES,
        [(1, 0), (1, 1), (3, 0), (3, 2)],
    ):
        found = judge(kind, Answer(status, body), sent=sent, doubted=doubted)
        if found.meaning != "delivered":
            yield STATE.get(found.meaning, found.meaning), found.status, found.detail


def test_every_verdict_has_a_row_of_its_own_in_the_table():
    left = {v for v in set(verdicts()) if cause_of(*v).code == "unknown"}
    assert not left


@pytest.mark.parametrize(
    ("state", "status", "reason", "code"),
    [
        ("dead", 401, "answered 401: the credential is refused", "credential-refused"),
        ("dead", 400, "answered 400: refused for good", "body-refused"),
        ("dead", 422, "answered 422: refused for good: field measures", "body-refused"),
        ("dead", 404, "answered 404: refused for good", "wrong-address"),
        ("dead", 413, "answered 413: refused for good", "too-large"),
        ("dead", 415, "answered 415: refused for good", "wrong-form"),
        ("dead", 418, "answered 418: refused for good: teapot", "refused-otherwise"),
        ("dead", None, "can't be sent: an OTLP body is not base64", "cannot-be-sent"),
        ("dead", None, CONFLICT, "other-content"),
        ("in_doubt", 500, "answered 500; it may have counted the record before it failed", "server-error"),
        ("in_doubt", 200, "answered 200, but not with JSON; is this the beacon?", "not-the-beacon"),
        ("in_doubt", 200, "sent 3 records, and inserted_count says otherwise", "counted-otherwise"),
        ("in_doubt", 422, "answered 422: refused for good", "refused-after-doubt"),
        ("in_doubt", None, "no whole answer within 300 seconds", "no-answer-in-time"),
        ("in_doubt", None, "cut off after sending began: ReadTimeout", "no-answer-in-time"),
        ("in_doubt", None, "cut off after sending began: RemoteProtocolError", "cut-off"),
        ("in_doubt", None, CUT_OFF, "run-cut-off"),
        ("sending", None, CUT_OFF, "run-cut-off"),
        ("waiting", None, CUT_OFF, "cut-off"),
        ("waiting", 403, "answered 403: the credential is refused", "credential-refused"),
        ("waiting", 407, "answered 407: the credential is refused", "proxy-login"),
        ("waiting", 302, "answered 302, a redirection, which is never followed", "redirected"),
        ("waiting", 429, "answered 429", "busy"),
        ("waiting", 422, "answered 422: refused for good", "batch-refused"),
        ("waiting", None, "not sent: ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "tls"),
        ("waiting", None, "not sent: ConnectError: [Errno -2] Name or service not known", "no-such-host"),
        ("waiting", None, "not sent: ConnectError: [Errno 111] Connection refused", "unreachable"),
        ("waiting", None, "not sent: ConnectTimeout: timed out", "unreachable"),
        ("waiting", None, "not sent: ProxyError: 403 Forbidden", "proxy"),
        ("waiting", None, "not sent: ProxyError: 407 Proxy Authentication Required", "proxy-login"),
        ("waiting", None, "not sent: InvalidURL", "wrong-url"),
        ("waiting", None, "decided by hand (send again): case 4711", "decided-by-hand"),
    ],
)  # fmt: skip
def test_the_likely_failures_have_the_cure_that_fits(state, status, reason, code):
    assert cause_of(state, status, reason).code == code


def test_every_cure_names_commands_and_options_that_there_are(schemas):
    from support import every_command, run

    helps = "".join(run(*path, "--help").output for path in every_command())
    names = {" ".join(path) for path in every_command()}
    for cause in CAUSES:
        assert cause.title[0].islower() or cause.title[0].isupper()
        for option in re.findall(r"--[a-z-]+", cause.cure):
            assert option in helps, (cause.code, option)
        for called in re.findall(r"airgap ([a-z ]+)", cause.cure):
            first = called.split()[0]
            assert first in COMMANDS
            assert any(called.strip().startswith(name) for name in names), called


def made(number, reason, status=422, **changes):
    payload = {**report(number), **changes}
    payload.pop("license")
    return Undelivered(
        f"{number:032x}", "s", "usage_report", "beacon /x", "dead", status, reason, payload
    )


def test_words_that_differ_in_numbers_and_ids_alone_are_one_cause():
    found = grouped(
        (
            made(n, f"answered 422: refused for good: case {n}, id 00{n:06x}-aa")
            for n in range(1, 6)
        ),
        SCHEMAS,
    )
    assert len(found) == 1
    assert found[0].records == 5
    assert found[0].sums == {"langgraph.platform.runs": 15, "langgraph.platform.nodes": 45}
    assert found[0].ids == [f"{n:032x}" for n in (1, 2, 3)]
    assert found[0].said == "case 1, id 00000001-aa"


@given(
    st.lists(st.tuples(st.text(max_size=12), st.sampled_from([400, 404, 422, 500])), max_size=120)
)
def test_groups_are_few_printable_and_hold_every_record_whatever_the_beacon_says(said):
    records = [
        made(n, f"answered {status}: refused for good: {words}", status)
        for n, (words, status) in enumerate(said)
    ]
    found = grouped(records, SCHEMAS)
    assert len(found) <= 44
    assert sum(group.records for group in found) == len(records)
    assert sum(g.sums.get("langgraph.platform.runs", 0) for g in found) == sum(range(len(records)))
    for group in found:
        assert group.reason.isprintable()


def test_sums_of_batched_kinds_are_those_of_their_fields():
    payload = transaction(1)
    record = Undelivered("a", "s", "trace_transactions", "e", "dead", 400, "", payload)
    assert grouped([record], catalog.load())[0].sums == {"trace_count": 5}
