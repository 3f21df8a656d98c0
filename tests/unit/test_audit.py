"""The audit log: whatever is changed in it shows."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import LICENSE

from airgap import audit, catalog, credentials
from airgap.audit import AuditLog
from airgap.errors import DamagedError, InputRefusedError, MediumError


def clock():
    return datetime(2026, 1, 1, tzinfo=UTC)


def log_at(path, run="r1"):
    return AuditLog(
        path, run, "export", clock, lambda text: credentials.redact(text, catalog.load())
    )


@pytest.fixture
def path(tmp_path):
    log = log_at(tmp_path / "audit.jsonl")
    log.write("begin", {"message": "Change 654987"})
    for number in range(5):
        log.write("bundle made", {"sequence": number})
    log.write("end", {"exit": 0})
    return tmp_path / "audit.jsonl"


def test_a_log_as_it_was_written_holds(path):
    found = audit.check(path)
    assert (found.entries, found.torn, found.unended) == (7, [], {})
    assert found.head == f"7:{found.head[2:]}"
    assert audit.check(path, found.head).entries == 7
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_changed_byte_of_every_line_but_the_last_shows(path):
    data = path.read_bytes()
    end_of_all_but_last = data.rstrip(b"\n").rindex(b"\n")
    head = audit.check(path).head
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        if position == end_of_all_but_last:
            assert audit.check(path).torn == [6]
        elif position < end_of_all_but_last:
            with pytest.raises(DamagedError):
                audit.check(path)
        with pytest.raises(DamagedError):
            audit.check(path, head)


@pytest.mark.parametrize("gone", range(6))
def test_a_removed_repeated_or_swapped_line_shows(path, gone):
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in (
        lines[:gone] + lines[gone + 1 :],
        lines[: gone + 1] + lines[gone:],
        [*lines[:gone], lines[gone + 1], lines[gone], *lines[gone + 2 :]],
    ):
        path.write_bytes(b"".join(changed))
        with pytest.raises(DamagedError, match="the audit log was changed"):
            audit.check(path)


def test_lines_cut_off_at_the_end_show_against_a_head_that_was_noted(path):
    head = audit.check(path).head
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    assert audit.check(path).entries == 5
    with pytest.raises(DamagedError):
        audit.check(path, head)


def test_a_log_written_anew_shows_against_a_head_that_was_noted(path):
    head = audit.check(path).head
    path.unlink()
    for number in range(9):
        log_at(path).write("bundle made", {"sequence": number})
    assert audit.check(path).entries == 9
    with pytest.raises(DamagedError):
        audit.check(path, head)


@pytest.mark.parametrize("head", ["", "7", "7:", "x:" + "0" * 64, "7:" + "0" * 63])
def test_a_head_that_is_none_is_refused_and_not_ignored(path, head):
    if head:
        with pytest.raises(InputRefusedError):
            audit.check(path, head)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 400), again=st.integers(0, 400))
def test_a_line_that_a_crash_cut_off_is_named_and_nothing_is_repaired(tmp_path, cut, again):
    path = tmp_path / "audit.jsonl"
    path.unlink(missing_ok=True)
    log = log_at(path)
    log.write("begin", {"text": "x" * 60})
    whole = path.read_bytes()
    log.write("end", {"text": "y" * 60})
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    before = path.read_bytes()
    log.write("begin", {})
    path.write_bytes(path.read_bytes()[: len(before) + 1 + again])
    log.write("end", {})
    assert path.read_bytes().startswith(before.rstrip(b"\n"))
    found = audit.check(path)
    entries = list(audit.entries(path))
    assert found.entries == len(path.read_bytes().splitlines())
    assert len(found.torn) + len(entries) == found.entries


def test_a_run_that_did_not_end_is_named(path):
    log_at(path, "r2").write("begin", {})
    assert audit.check(path).unended == {"r2": "export"}


def test_several_runs_at_a_time_write_one_chain(tmp_path):
    path = tmp_path / "audit.jsonl"

    def write(number):
        for _ in range(20):
            log_at(path, str(number)).write("event", {"number": number})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert audit.check(path).entries == 80


def test_no_credential_reaches_the_log_and_no_line_is_endless(path):
    log_at(path).write("begin", {"message": f"key is {LICENSE}"})
    log_at(path).write("begin", {"records": ["0" * 32] * 10_000})
    assert LICENSE not in path.read_text()
    assert max(map(len, path.read_text().splitlines())) < 66_000
    assert audit.check(path).entries == 9
    assert json.loads(path.read_text().splitlines()[-1])["records"]["entries"] == 10_000


def test_a_log_that_can_not_be_written_is_an_error_of_the_medium(tmp_path):
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MediumError):
        log_at(tmp_path / "audit.jsonl").write("begin", {})
    assert (tmp_path / "elsewhere").read_text() == ""
