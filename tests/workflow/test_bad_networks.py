"""The import command against real sockets that misbehave: nothing lost, nothing twice, doubt said."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from servers import always, answer, first, reset, serving, silence
from support import LICENSE, report, run, transaction

GOOD = answer(204)


def states(site):
    found = site.status("workstation")["states"].get("usage_report", {})
    assert sum(found.values()) == 3
    return {state: count for state, count in found.items() if count}


def test_records_cut_off_by_a_reset_are_in_doubt_and_a_person_decides(exported):
    with serving(reset) as server:
        result = exported.import_(server.url, code=6)
    assert "3 records in doubt" in result.output
    assert "airgap ledger list" in result.output
    assert len(server.bodies) == 3
    assert states(exported) == {"in_doubt": 3}
    listed = json.loads(run("ledger", "list", "--home", exported.workstation, "--json").stdout)[
        "records"
    ]
    assert "cut off after sending began" in listed[0]["detail"]
    home = ("--home", exported.workstation, "--reason", "case 4711")
    run("ledger", "resolve", listed[0]["id"][:12], "--delivered", *home)
    run("ledger", "resolve", "all", "--resend", *home)
    with serving(always(GOOD)) as server:
        exported.import_paths([], server.url, "--resume")
    assert len(server.bodies) == 2
    assert states(exported) == {"delivered": 3}


def test_a_beacon_that_never_answers_leaves_doubt(exported):
    with serving(silence(10)) as server:
        exported.import_(server.url, "--timeout", "0.2", "--in-flight", "3", code=6)
    assert len(server.bodies) == 3
    assert states(exported) == {"in_doubt": 3}


def test_nobody_listening_is_no_doubt_and_resume_delivers(exported):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    result = exported.import_(url, "--attempts", "2", code=7)
    assert "could not be reached" in result.output
    assert "airgap import --resume" in result.output
    assert states(exported) == {"waiting": 3}
    with serving(always(GOOD)) as server:
        shown = exported.import_paths([], server.url, "--resume", "--dry-run", "--json")
        assert len(json.loads(shown.stdout)["requests"]) == 3
        assert server.bodies == []
        exported.import_paths([], server.url, "--resume")
    assert states(exported) == {"delivered": 3}


def test_busy_answers_with_retry_after_are_waited_for(exported):
    with serving(first(2, answer(429, Retry_After="0"), GOOD)) as server:
        exported.import_(server.url)
    assert len(server.bodies) == 5
    assert states(exported) == {"delivered": 3}


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 204 No",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut",
    ],
)
def test_garbage_and_cut_answers_leave_doubt(exported, data):
    with serving(always(data)) as server:
        exported.import_(server.url, code=None)
    assert set(states(exported)) <= {"in_doubt", "waiting"}
    assert states(exported)["in_doubt"] == len(server.bodies)


def test_a_redirection_elsewhere_is_not_followed(exported):
    with serving(always(GOOD)) as elsewhere:
        redirect = answer(307, Location=f"{elsewhere.url}/v1/metadata/submit")
        with serving(always(redirect)) as server:
            result = exported.import_(server.url, code=7)
    assert elsewhere.bodies == []
    assert "never followed" in result.output
    assert states(exported) == {"waiting": 3}
    assert len(server.bodies) <= 4


def test_an_endless_answer_is_cut(exported):
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 3_000_000
    with serving(always(endless)) as server:
        exported.import_(server.url, code=7)
    assert states(exported)["in_doubt"] == len(server.bodies)


def test_http_to_another_machine_is_refused_before_anything_is_sent(exported):
    for url in ("http://10.0.0.1", "ftp://127.0.0.1", "http://user:pw@127.0.0.1", "127.0.0.1:80"):
        result = exported.import_(url, code=2)
        assert "can't be used" in result.output
        assert "pw" not in result.output


def test_kill_9_in_flight_leaves_doubt_and_resume_sends_nothing_twice(site):
    site.collect(
        [report(n, n) for n in range(8)]
        + [{"license": LICENSE, "trace_transactions": [transaction(1)]}]
    )
    site.export()

    def kill_at_third(connection, _body, number):
        if number == 2:
            os.kill(process.pid, signal.SIGKILL)
        connection.sendall(ok(connection, _body))

    def ok(_connection, body):
        return answer(200, {"inserted_count": 1}) if b"trace_transactions" in body else GOOD

    with serving(kill_at_third) as server:
        process = _start_import(site, server.url, "--in-flight", "2")
        assert process.wait(30) == -signal.SIGKILL
        process.stdout.close()
    sent_before = [b for b in server.bodies if b"from_timestamp" in b]
    with serving(lambda c, b, _n: c.sendall(ok(c, b))) as server:
        result = site.import_(server.url, code=6)
    assert "of a run that was cut off are now in doubt" in result.output
    sent_after = [b for b in server.bodies if b"from_timestamp" in b]
    assert not set(sent_before) & set(sent_after)
    found = site.status("workstation")["states"]
    assert found["trace_transactions"] == {"delivered": 1}
    assert sum(found["usage_report"].values()) == 8
    assert found["usage_report"]["in_doubt"] >= 1
    site.apply()
    assert (
        site.status()["bundles"][0]["outcomes"].get("in_doubt") == found["usage_report"]["in_doubt"]
    )


def test_ctrl_c_settles_what_is_in_flight_and_exits_130(site):
    site.collect(
        [report(n, n % 24, to_timestamp=f"2026-03-{1 + n % 28:02d}T00:00:00Z") for n in range(50)]
    )
    site.export()

    def interrupt_at_fifth(connection, _body, number):
        if number == 4:
            os.kill(process.pid, signal.SIGINT)
        connection.sendall(GOOD)

    with serving(interrupt_at_fifth) as server:
        process = _start_import(site, server.url)
        output = process.communicate(timeout=30)[0]
    assert process.returncode == 130, output
    assert b"stopped by you" in output
    assert b"Traceback" not in output
    found = site.status("workstation")["states"]["usage_report"]
    assert found["delivered"] == len(server.bodies)
    assert found.get("in_doubt", 0) == 0
    assert sum(found.values()) == 50


def _start_import(site, url, *options):
    arguments = ["--home", site.workstation, site.stick, "--license-file", site.license_file]
    arguments += ["--beacon-url", url, "--api-url", url, *options]
    return subprocess.Popen(
        [sys.executable, "-m", "airgap", "import", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
