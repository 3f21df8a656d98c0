"""What a hostile review of this version found, each held by its own test."""

import base64
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from servers import always, answer, serving
from support import API_KEY, LICENSE, SOURCE, bundle_fields, report, run, transaction, write_lines

from airgap import catalog, verify
from airgap.bundle import codec
from airgap.bundle.layout import Header
from airgap.bundle.writer import Writer
from airgap.trust import keys

NAME = f"{SOURCE}-000001.airgap"
METRICS = {"resourceMetrics": []}


# ---- the stick leads elsewhere


@pytest.mark.parametrize("name", [NAME, f".{NAME}.part"])
def test_export_never_writes_through_a_link_on_the_stick(site, name):
    victim = site.root / "victim"
    victim.write_text("the operator's own file")
    (site.stick / name).symlink_to(victim)
    site.collect([report(1)])
    site.export(code=8 if name == NAME else 0)
    assert victim.read_text() == "the operator's own file"
    if name != NAME:
        assert not site.stick.joinpath(NAME).is_symlink()
        run("verify", "--home", site.workstation, site.stick / NAME)


def test_a_name_without_content_that_a_crash_left_is_no_obstacle(site):
    (site.stick / NAME).touch()
    site.collect([report(1)])
    site.export()
    run("verify", "--home", site.workstation, site.bundle)


# ---- credentials where none may be


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "usage_report", "credential": f"license:{LICENSE}", "payload": {}},
        {"kind": "otlp_metrics", "payload": METRICS, "credential": "license:short"},
        {
            "X-Langchain-License-Key": 'my"secret-long-key',
            "resourceMetrics": [{"a": 'my"secret-long-key'}],
        },
        report(
            1, license='quoted"secret-key', tags={"langgraph.platform.host": 'quoted"secret-key'}
        ),
        report(1, license="short"),
        report(1, license="grüße-an-alle"),
        report(1, license="with space in it"),
        {
            "kind": "otlp_metrics",
            "headers": {"X-Langchain-License-Key": LICENSE},
            "payload": {
                "content_type": "application/json",
                "content_encoding": "gzip",
                "encoding": "base64",
                "body": base64.b64encode(gzip.compress(LICENSE.encode() + b" {}")).decode(),
            },
        },
        {
            "kind": "otlp_metrics",
            "headers": {"X-Langchain-License-Key": LICENSE},
            "payload": {
                "content_type": "application/x-protobuf",
                "content_encoding": "gzip",
                "encoding": "base64",
                "body": base64.b64encode(gzip.compress(b"\n" + LICENSE.encode())).decode(),
            },
        },
    ],
)
def test_collect_refuses_a_credential_in_every_disguise(site, line):
    result = site.collect([line], code=3)
    for secret in (LICENSE, "secret"):
        assert secret not in result.output
    for path in site.isolated.rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes()


def test_a_credential_inside_an_otlp_body_is_taken_out_of_the_text_too(site):
    line = {"X-Langchain-License-Key": 'my"secret-long-key', "resourceMetrics": []}
    site.collect([line])
    site.export()
    [record] = map(json.loads, run("cat", "--home", site.isolated, site.bundle).stdout.splitlines())
    assert record["payload"]["body"] == '{"resourceMetrics":[]}'


def test_a_wrapped_otlp_body_leaves_without_its_wrapper(site, beacon):
    site.collect(
        [{"kind": "otlp_metrics", "payload": METRICS}], "--license-file", site.license_file
    )
    site.collect([{"kind": "otlp_metrics", "payload": "hello"}], code=3)
    site.export()
    site.import_(beacon.url)
    assert json.loads(beacon.seen[0].body) == METRICS


@pytest.mark.parametrize(
    "line",
    [
        {
            "kind": "usage_report",
            "dialect": "documents",
            "payload": report(1, license=None, api_key=API_KEY),
        },
        {"kind": "usage_report", "dialect": "documents", "payload": report(1, api_key=API_KEY)},
        {"kind": "usage_report", "credential": "license:" + "0" * 32, "payload": report(1)},
        report(1, license=None),
        {
            "kind": "api_key_verification",
            "payload": {},
            "headers": {"X-Api-Key": API_KEY, "x-api-key": LICENSE},
        },
    ],
)
def test_a_requests_own_credential_is_never_dropped_or_replaced(site, line):
    site.collect([line], "--license-file", site.license_file, code=3)
    assert site.status()["waiting"] == {}


def test_what_the_server_says_can_not_put_a_key_into_ledger_or_receipt(site):
    site.collect([report(1)])
    site.export()
    with serving(always(f"x {LICENSE}\r\n\r\n".encode())) as server:
        result = site.import_(server.url, code=6)
    run("ledger", "resolve", "all", "--resend", "--reason", "once more", "--home", site.workstation)
    with serving(always(answer(422, {"detail": f"the key {LICENSE} is odd"}))) as server:
        result = site.import_(server.url, code=6)
    listed = run("ledger", "list", "--home", site.workstation).output
    note = ("--reason", f"asked about {LICENSE}")
    [record] = json.loads(run("ledger", "list", "--home", site.workstation, "--json").stdout)[
        "records"
    ]
    assert record["detail"].endswith('"the key <masked> is odd"}')
    run("ledger", "resolve", record["id"], "--resend", "--home", site.workstation, *note)
    assert LICENSE not in result.output + listed
    for folder in (site.workstation, site.stick):
        for path in folder.rglob("*"):
            assert not path.is_file() or LICENSE.encode() not in path.read_bytes(), path


# ---- what would block the outbox


@pytest.mark.parametrize(
    "line",
    [
        report(1, from_timestamp="0001-01-01T00:00:00+14:00"),
        report(1, to_timestamp="9999-12-31T23:59:59-14:00"),
        {"kind": "otlp_metrics", "payload": {"resourceMetrics": ["é" * 2_600_000]}},
        {
            "kind": "otlp_metrics",
            "payload": {
                "content_type": "application/x-protobuf",
                "content_encoding": "identity",
                "encoding": "base64",
                "body": "A===",
            },
        },
    ],
    ids=["year 0", "year 10000", "body too large", "not base64"],
)
def test_collect_refuses_what_export_or_import_would_refuse(site, line):
    site.collect([line], "--license-file", site.license_file, code=3)
    assert site.status()["waiting"] == {}
    site.collect([report(1)])
    site.export()


def test_more_credentials_than_a_manifest_holds_go_into_another_bundle(site):
    site.collect(report(1, license=f"lcl_EXAMPLE_{number:06d}") for number in range(1030))
    made = json.loads(site.export("--json").stdout)["made"]
    assert [m["totals"]["usage_report"]["records"] for m in made] == [1024, 6]


# ---- hostile files, signed or not


def _unsigned(path, header):
    data = bytes.fromhex("c40c896169726761700d0a1a0a01") + codec.encode(header)
    envelope = codec.encode({"payload_type": "t", "payload": b"", "signatures": []})
    path.write_bytes(
        data
        + envelope
        + b"\xc4\x18"
        + len(data).to_bytes(8)
        + len(envelope).to_bytes(8)
        + b"airgap.\n"
    )


def test_binary_where_text_belongs_refuses_that_file_and_stops_no_other(site, beacon):
    _unsigned(site.stick / "a.airgap", {**Header("bundle").as_map(), "chunk_size": b"x"})
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url, code=5)
    assert beacon.totals.records == 1


@pytest.mark.parametrize("element", [5, {}, {"kind": [1]}, None, "x"])
def test_cat_and_inspect_unverified_show_hostile_elements_without_a_traceback(site, element):
    stream = io.BytesIO()
    writer = Writer(stream, Header("bundle"))
    writer.add(element)
    writer.finish(bundle_fields(), [keys.generate().sign])
    path = site.stick / "odd.airgap"
    path.write_bytes(stream.getvalue())
    assert "invalid" in run("cat", "--unverified", "--home", site.isolated, path).stdout
    assert "NOT CHECKED" in run("inspect", "--unverified", "--home", site.isolated, path).output


def test_inspect_unverified_reads_every_chunk_before_it_says_so(site):
    site.collect([report(1)])
    site.export("--compression", "none")
    data = bytearray(site.bundle.read_bytes())
    data[200] ^= 1
    site.bundle.write_bytes(data)
    run("inspect", "--unverified", "--home", site.isolated, site.bundle, code=5)


def test_a_sequence_beyond_the_schema_is_refused(site):
    value = {"sequence": 2**63 - 1}
    problems = catalog.load().problems("bundle-manifest", value)
    assert any(p.path == "/sequence" for p in problems)


def test_a_measure_of_zero_that_no_record_has_is_a_difference():
    from airgap.records import KindTotal, Totals

    one = Totals({"usage_report": KindTotal(1, {"a": 1})})
    other = Totals({"usage_report": KindTotal(1, {"a": 1, "b": 0})})
    assert one.differences(other)


# ---- servers


@pytest.mark.parametrize("count", ["0", "98", "100.0", "1e2", "101"])
def test_fresh_transactions_are_delivered_only_when_they_were_inserted(site, count):
    """One record in doubt may have been counted before; the 99 fresh ones may not."""
    site.collect([{"license": LICENSE, "trace_transactions": [transaction(0)]}])
    site.export()
    with serving(always(b"")) as server:
        site.import_(server.url, "--attempts", "1", code=7)
    site.collect(
        [{"license": LICENSE, "trace_transactions": [transaction(n) for n in range(1, 100)]}]
    )
    site.export()
    body = b'{"inserted_count":%s}' % count.encode()
    with serving(always(answer(200, body))) as server:
        site.import_(server.url, code=None)
    assert len(server.bodies) == 1
    assert "delivered" not in site.status("workstation")["states"]["trace_transactions"]


@pytest.mark.parametrize(
    "header", ["9" * 5000, "Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "\x7f", "1" * 30]
)
def test_a_hostile_retry_after_ends_no_run_with_a_traceback(site, header):
    site.collect([report(1)])
    site.export()
    with serving(always(answer(429, Retry_After=header))) as server:
        site.import_(server.url, "--attempts", "1", code=7)
    assert site.status("workstation")["states"]["usage_report"] == {"waiting": 1}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:abc",
        "http://127.0.0.1:0",
        "http://[::1",
        "https://h\x7f",
        "https://é..com",
        f"https://{'a' * 300}.com",
        "https://:pw@h",
        "https://h/?q=1",
    ],
)
def test_a_base_url_that_can_not_be_one_is_refused_before_anything_is_marked(site, url):
    site.collect([report(1)])
    site.export()
    assert "can't be used" in site.import_(url, code=2).output
    assert site.status("workstation")["states"] == {}


@pytest.mark.parametrize("option", [("--timeout", "nan"), ("--receipt-to", "/nowhere/x")])
def test_options_that_would_fail_later_fail_before_a_request_leaves(site, beacon, option):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url, *option, code=2)
    assert not beacon.seen


def test_a_dialect_that_some_records_can_not_take_is_refused_before_a_request_leaves(site, beacon):
    site.collect([report(1), report(2, 1, license=None, api_key=API_KEY)])
    site.export()
    site.import_(beacon.url, "--dialect", "usage_report=langgraph-api", code=2)
    assert not beacon.seen


def test_a_revoked_own_key_is_said_before_a_request_leaves(site, beacon):
    site.collect([report(1)])
    site.export()
    run("trust", "revoke", "--home", site.workstation, site.importer.public.key_id)
    assert "can't sign receipts" in site.import_(beacon.url, code=4).output
    assert not beacon.seen


def test_a_server_that_dribbles_for_ever_is_left_at_the_deadline(tmp_path):
    from dribble import deliver_with_deadline

    states, stop = deliver_with_deadline(tmp_path)
    assert states == {"usage_report": {"in_doubt": 1}}
    assert stop == "unreachable"


def test_a_second_interruption_stops_at_once(site):
    site.collect([report(1)])
    site.export()
    release = threading.Event()

    def hold(connection, _body, _number):
        process.send_signal(signal.SIGINT)
        release.wait(30)
        connection.sendall(answer(204))

    with serving(hold) as server:
        arguments = ["--home", site.workstation, site.stick, "--license-file", site.license_file]
        arguments += ["--beacon-url", server.url, "--timeout", "25"]
        process = subprocess.Popen(
            [sys.executable, "-m", "airgap", "import", *map(str, arguments)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for line in process.stderr:
            if "again to stop at once" in line:
                process.send_signal(signal.SIGINT)
                break
        assert process.wait(15) == 130
        process.stderr.close()
        release.set()
    assert site.status("workstation")["states"]["usage_report"] == {"sending": 1}


def test_a_compressed_answer_is_not_unpacked(site):
    bomb = gzip.compress(b"x" * 50_000_000)
    site.collect([{"license": LICENSE}])
    site.export()
    with serving(always(answer(200, bomb, Content_Encoding="gzip"))) as server:
        site.import_(server.url, code=7)
    assert b"accept-encoding: identity" in server.heads[0].lower()


# ---- two of something


def test_each_receipt_lies_beside_its_own_bundle_and_on_nobody_elses_stick(site, beacon):
    first, second = site.stick, site.root / "other-stick"
    second.mkdir()
    site.collect([report(1)])
    site.export()
    site.collect([report(1), report(2, 1)])
    run("export", "--home", site.isolated, "--to", second)
    site.import_paths([first, second], beacon.url)
    assert [p.name for p in first.glob("*.receipt")] == [f"{SOURCE}-000001-r1.receipt"]
    assert [p.name for p in second.glob("*.receipt")] == [f"{SOURCE}-000002-r1.receipt"]


def test_a_second_receipt_of_one_number_is_refused(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    site.apply()
    [path] = site.stick.glob("*.receipt")
    data = path.read_bytes()
    receipt = verify.verify_receipt(
        io.BytesIO(data), name="r", trust=site.trust, catalog=catalog.load()
    )
    stream = io.BytesIO()
    writer = Writer(stream, Header("receipt"))
    for outcome in receipt.outcomes():
        writer.add({**outcome, "detail": "another one"})
    own = ("header_sha256", "chunks", "records")
    writer.finish({k: v for k, v in receipt.manifest.items() if k not in own}, [site.importer.sign])
    path.write_bytes(stream.getvalue())
    assert "is another one here" in site.apply(code=9).output


def test_keys_added_at_the_same_time_are_all_kept_or_refused_aloud(site):
    processes = []
    for number in range(4):
        public = site.root / f"{number}.pub"
        public.write_text(keys.generate().public.pem)
        arguments = ["trust", "add", "--home", site.workstation, public, "--role", "importer"]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "airgap", *map(str, arguments)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
    added = [process.wait(60) for process in processes].count(0)
    assert added >= 1
    assert len(site.trust.keys) == 2 + added


def test_dry_run_refuses_a_fork_as_the_import_does(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    (site.isolated / "outbox.sqlite").unlink()
    for suffix in ("-wal", "-shm"):
        (site.isolated / f"outbox.sqlite{suffix}").unlink(missing_ok=True)
    site.bundle.unlink()
    site.collect([report(2, 1)])
    site.export()
    assert "forks" in site.import_(beacon.url, "--dry-run", code=9).output
    assert "forks" in site.import_(beacon.url, code=9).output


# ---- configuration and the command line


@pytest.mark.parametrize(
    "table",
    ["[export]\nto = 5\n", "[export]\nunheard = 1\n", "export = 3\n", "[export]\nmax_size = -5\n"],
)
def test_a_configuration_that_can_not_be_meant_is_refused(site, table):
    file = site.isolated / "airgap.toml"
    text = file.read_text()
    file.write_text(text + table if table.startswith("[") else table + text)
    result = run("export", "--home", site.isolated, "--to", site.stick, code=2)
    assert "airgap.toml" in result.output


def test_a_misspelt_option_is_one_json_object_too(site):
    done = subprocess.run(
        [sys.executable, "-m", "airgap", "status", "--jsno", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2


def test_a_long_path_and_a_home_that_is_in_the_way_are_said_in_words(site, beacon):
    run("verify", "--home", site.isolated, "x" * 300, code=8)
    site.collect([report(1)])
    site.export()
    (site.workstation / "quarantine").write_text("in the way")
    site.import_(beacon.url, code=8)


def test_line_numbers_count_blank_lines_and_a_growing_first_line_waits(site):
    path = site.root / "odd.jsonl"
    path.write_text("\n\n" + json.dumps(report(1)) + "\n\n{}\n")
    assert "line 5" in run("collect", "--home", site.isolated, path, code=3).output
    part = site.root / "usage.log"
    part.write_text('{"license": "lcl_EXA')
    run("collect", "--home", site.isolated, part, "--growing")


def test_a_refused_export_leaves_no_temporary_file(site):
    site.collect([report(1)])
    run("trust", "revoke", "--home", site.isolated, site.exporter.public.key_id)
    site.export(code=4)
    assert list((site.isolated / "bundles").iterdir()) == []


def test_a_trust_store_that_is_a_dangling_link_is_not_an_empty_one(site):
    path = site.workstation / "trust.json"
    path.unlink()
    path.symlink_to(site.root / "nowhere")
    assert "leads nowhere" in run("trust", "list", "--home", site.workstation, code=4).output


def test_collecting_standard_input_does_not_lock_the_outbox(site):
    arguments = [sys.executable, "-m", "airgap", "collect", "--home", str(site.isolated), "-"]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    process.stdin.write(json.dumps(report(1)).encode() + b"\n")
    process.stdin.flush()
    write_lines(site.root / "other.jsonl", [report(2, 1)])
    run("collect", "--home", site.isolated, site.root / "other.jsonl")
    process.stdin.close()
    assert process.wait(30) == 0
    assert site.status()["waiting"]["usage_report"]["records"] == 2


def test_names_that_are_not_utf_8_are_no_traceback(site, beacon):
    folder = Path(os.fsdecode(os.fsencode(site.root) + b"/st\xffick"))
    folder.mkdir()
    site.collect([report(1)])
    run("export", "--home", site.isolated, "--to", folder, "--json")
    assert "ick" in site.status()["bundles"][0]["written_to"]
