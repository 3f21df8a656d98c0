"""The whole journey over real files, a real database on each side and a real HTTP server."""

import json

import pytest
from support import API_KEY, LICENSE, SOURCE, report, run, transaction, write_lines

from airgap.credentials import fingerprint

# The documented samples: LangChain's pages on egress for LangSmith and for LangGraph Platform.
SNAPSHOT = {
    "license_key": LICENSE,
    "from_timestamp": "2026-03-25T02:00:00+00:00",
    "to_timestamp": "2026-03-26T02:00:00+00:00",
    "measures": {"workspaces": 12, "users": 63, "projects": 87, "active_pats_30d": 47},
}
REPORT = {
    "license": LICENSE,
    "from_timestamp": "2025-01-06T09:00:00Z",
    "to_timestamp": "2025-01-06T10:00:00Z",
    "tags": {
        "langgraph.python.version": "0.1.0",
        "langgraph_api.version": "0.2.0",
        "langgraph.platform.revision": "abc123",
        "langgraph.platform.variant": "standard",
        "langgraph.platform.host": "host-1",
        "langgraph.platform.tenant_id": "3a1c2b6f-4430-4b92-8a5b-79b8b567bbc1",
        "langgraph.platform.project_id": "c5b5f53a-4716-4326-8967-d4f7f7799735",
        "langgraph.platform.plan": "enterprise",
        "user_app.uses_indexing": "true",
        "user_app.uses_custom_app": "false",
        "user_app.uses_custom_auth": "true",
        "user_app.uses_thread_ttl": "true",
        "user_app.uses_store_ttl": "false",
    },
    "measures": {"langgraph.platform.runs": 150, "langgraph.platform.nodes": 450},
    "logs": [],
}
BODY = {k: v for k, v in REPORT.items() if k != "license"}
METRICS = (
    '{"resourceMetrics":[{"resource":{"attributes":[]},"scopeMetrics":[{"metrics":[{"name":"latency",'
    '"gauge":{"dataPoints":[{"asDouble":12.34,"timeUnixNano":1678886400000000000}]}}]}]}]}'
)
TRACES = '{"resourceSpans": [{"scopeSpans": [{"spans": [{"spanId": "3c191d03fa8be0"}]}]}]}'
LOGS = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":13}]}]}]}'
PROTOBUF = {
    "kind": "otlp_metrics",
    "headers": {"X-Langchain-License-Key": LICENSE},
    "payload": {
        "content_type": "application/x-protobuf",
        "content_encoding": "identity",
        "encoding": "base64",
        "body": "CgA=",
    },
}
TRANSACTIONS = {
    "license": LICENSE,
    "trace_transactions": [transaction(1), transaction(2, trace_count=7)],
}


@pytest.fixture
def documented(tmp_path):
    lines = [
        {"license": LICENSE},
        {"X-Api-Key": API_KEY},
        REPORT,
        {**BODY, "license_key": LICENSE},
        {**BODY, "api_key": API_KEY},
        TRANSACTIONS,
        SNAPSHOT,
        PROTOBUF,
    ]
    path = write_lines(tmp_path / "documented.jsonl", lines)
    with path.open("a") as file:
        file.write(f"{METRICS}\n{TRACES}\n{LOGS}\n")
    return path


@pytest.mark.both_ledgers
def test_the_beacon_receives_request_by_request_what_a_connected_installation_would_send(
    site, beacon, documented
):
    run("collect", "--home", site.isolated, documented, "--license-file", site.license_file)
    site.export()
    site.import_(beacon.url)
    seen = [(r.path, r.status, r.body) for r in beacon.seen]
    assert [path for path, _, _ in seen[:2]] == ["/v1/beacon/verify", "/auth"]
    posted = {
        (path, body if path.startswith("/v1/beacon/v1/") else _parse(body))
        for path, _, body in seen
    }
    assert posted == {
        ("/v1/beacon/verify", _parse({"license": LICENSE})),
        ("/auth", None),
        ("/v1/metadata/submit", _parse(REPORT)),
        ("/v1/beacon/metadata/submit", _parse({**BODY, "license_key": LICENSE})),
        ("/v1/metadata/submit", _parse({**BODY, "api_key": API_KEY})),
        ("/v1/beacon/ingest-traces", _parse(TRANSACTIONS)),
        ("/v1/beacon/usage-snapshot", _parse(SNAPSHOT)),
        ("/v1/beacon/v1/metrics", METRICS.encode()),
        ("/v1/beacon/v1/metrics", b"\n\x00"),
        ("/v1/beacon/v1/traces", TRACES.encode()),
        ("/v1/beacon/v1/logs", LOGS.encode()),
    }
    assert len(seen) == 11
    assert {status for _, status, _ in seen} == {200, 204}
    headers = {r.path: r.headers for r in beacon.seen}
    assert headers["/auth"]["x-api-key"] == API_KEY
    assert headers["/v1/beacon/v1/logs"]["x-langchain-license-key"] == LICENSE
    assert headers["/v1/metadata/submit"]["content-type"] == "application/json"
    protobuf = next(r for r in beacon.seen if r.body == b"\n\x00")
    assert protobuf.headers["content-type"] == "application/x-protobuf"
    assert len({r.headers["idempotency-key"] for r in beacon.seen}) == 11


def _parse(body):
    if body == b"":
        return None
    value = json.loads(body) if isinstance(body, bytes) else body
    return json.dumps(value, sort_keys=True)


@pytest.mark.both_ledgers
def test_totals_are_equal_from_source_to_receipt(site, beacon):
    values = [report(n, n) for n in range(12)] + [TRANSACTIONS, SNAPSHOT]
    collected = json.loads(site.collect(values, "--json").stdout)
    exported = json.loads(site.export("--json").stdout)
    site.import_(beacon.url)
    applied = json.loads(site.apply("--json").stdout)
    source = collected["read"]
    assert source["usage_report"]["sums"]["langgraph.platform.runs"] == sum(range(12))
    assert source["trace_transactions"] == {"records": 2, "sums": {"trace_count": 12}}
    assert source == exported["made"][0]["totals"] == beacon.totals.as_map() == applied["confirmed"]


def test_integers_beyond_2_to_the_53_arrive_exactly(site, beacon):
    site.collect([report(2**53 + 1, measures={"langgraph.platform.runs": 2**63 - 1})])
    site.export()
    site.import_(beacon.url)
    assert json.loads(beacon.seen[0].body)["measures"]["langgraph.platform.runs"] == 2**63 - 1


def test_sums_beyond_64_bits_go_into_several_bundles_and_stay_exact(site, beacon):
    site.collect([report(2**61, hour) for hour in range(8)])
    made = json.loads(site.export("--json").stdout)["made"]
    assert len(made) > 1
    site.import_(beacon.url)
    site.apply()
    confirmed = site.status()["confirmed"]["usage_report"]
    assert confirmed["sums"]["langgraph.platform.runs"] == 8 * 2**61


def test_collecting_again_adds_nothing_twice_and_a_grown_file_adds_what_is_new(site):
    first = json.loads(site.collect([report(1), report(2, 1)], "--json").stdout)
    again = json.loads(site.collect([report(1), report(2, 1)], "--json").stdout)
    grown = json.loads(site.collect([report(1), report(2, 1), report(3, 2)], "--json").stdout)
    assert [r["new"].get("usage_report", {}).get("records", 0) for r in (first, again, grown)] == [
        2,
        0,
        1,
    ]
    assert grown["waiting"]["usage_report"]["records"] == 3


def test_two_identical_lines_are_two_records_also_after_collecting_again(site, beacon):
    same = report(5)
    site.collect([same, same])
    site.collect([same, same])
    site.collect([same, same, same])
    assert site.status()["waiting"]["usage_report"]["records"] == 3
    site.export()
    site.import_(beacon.url)
    assert beacon.totals.kinds["usage_report"].sums["langgraph.platform.runs"] == 15


def test_the_same_transaction_is_one_record_wherever_it_comes_from(site):
    one = {"license": LICENSE, "trace_transactions": [transaction(1)]}
    later = {"license": LICENSE, "trace_transactions": [transaction(1, num_failed_send_attempts=3)]}
    site.collect([one, one, later])
    assert site.status()["waiting"]["trace_transactions"]["records"] == 1
    conflict = {"license": LICENSE, "trace_transactions": [transaction(1, trace_count=6)]}
    result = site.collect([conflict], code=3)
    assert "comes again with other content" in result.output
    # Another credential would report one customer's traces as another's.
    moved = {"license": "lcl_EXAMPLE_of_another", "trace_transactions": [transaction(1)]}
    assert "comes again with other content" in site.collect([moved], code=3).output


def test_export_marks_nothing_as_sent_and_writes_the_same_bytes_again(site):
    site.collect([report(1)])
    site.export()
    before = site.bundle.read_bytes()
    site.bundle.unlink()
    assert "Nothing to write" in site.export().output
    assert not list(site.stick.glob("*.airgap"))
    site.export("--again")
    assert site.bundle.read_bytes() == before
    assert site.status()["bundles"][0]["outcomes"] == {"unknown": 1}


def test_a_bundle_that_never_reached_a_medium_is_written_by_the_next_export(site):
    site.collect([report(1)])
    blocked = site.stick / f"{SOURCE}-000001.airgap"
    blocked.write_bytes(b"something else")
    assert "is there already, with other content" in site.export(code=8).output
    assert blocked.read_bytes() == b"something else"
    blocked.unlink()
    site.export()
    assert run("verify", "--home", site.workstation, site.bundle).exit_code == 0


def test_large_exports_are_several_complete_bundles_in_one_chain(site, beacon):
    site.collect(
        report(n, n % 24, to_timestamp=f"2026-02-{1 + n % 28:02d}T00:00:00Z") for n in range(6000)
    )
    site.export("--max-size", "256KiB", "--compression", "none")
    bundles = sorted(site.stick.glob("*.airgap"))
    assert len(bundles) > 3
    assert all(b.stat().st_size <= 256 * 1024 for b in bundles)
    assert run("verify", "--home", site.workstation, *bundles).exit_code == 0
    assert sum(
        b["outcomes"]["unknown"] for b in site.status()["bundles"]
    ) == 6000  # fmt: skip
    # A later bundle alone is taken too, and what is missing before it is said.
    result = site.import_paths([bundles[1]], beacon.url)
    assert f"{SOURCE}: bundle 1 not seen" in result.output


def test_import_of_a_bundle_a_second_time_is_a_no_op_that_says_so(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    result = site.import_(beacon.url)
    assert "imported before; nothing of it is delivered twice" in result.output
    assert sum(beacon.requests.values()) == 1


def test_the_same_record_in_two_sites_bundles_of_one_source_is_delivered_once(site, beacon):
    site.collect([report(1), report(2, 1)])
    site.export()
    site.collect([report(1), report(2, 1), report(3, 2)])
    site.export()
    site.import_(beacon.url)
    assert beacon.totals.kinds["usage_report"].records == 3


def test_dry_run_shows_exactly_the_requests_that_leave_with_keys_masked(site, beacon, documented):
    run("collect", "--home", site.isolated, documented, "--license-file", site.license_file)
    site.export()
    shown = json.loads(site.import_(beacon.url, "--dry-run", "--json").stdout)["requests"]
    assert not beacon.seen
    assert not (site.workstation / "ledger.sqlite").exists()
    assert LICENSE not in json.dumps(shown)
    assert API_KEY not in json.dumps(shown)
    site.import_(beacon.url)
    masks = {LICENSE: fingerprint("license", LICENSE), API_KEY: fingerprint("api_key", API_KEY)}
    sent = []
    for seen in beacon.seen:
        body = seen.body.decode()
        for secret, mask in masks.items():
            body = body.replace(secret, f"<{mask}>")
        sent.append((f"{beacon.url}{seen.path}", body, seen.headers["idempotency-key"]))
    assert sorted((r["url"], r["body"], r["headers"]["Idempotency-Key"]) for r in shown) == sorted(
        sent
    )


def test_dry_run_of_a_bundle_that_was_delivered_shows_nothing_and_needs_no_key(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    shown = json.loads(
        run("import", "--home", site.workstation, site.stick, "--dry-run", "--json").stdout
    )
    assert (shown["requests"], shown["refused"]) == ([], [])


def test_the_token_is_kept_and_goes_into_the_receipt_only_when_asked(site, beacon):
    site.collect([{"license": LICENSE}, {"X-Api-Key": API_KEY}])
    site.export()
    site.import_(beacon.url)
    [plain] = site.stick.glob("*.receipt")
    outcomes = [json.loads(line) for line in _cat(site, plain)]
    assert [o["answer"] for o in outcomes] == [None, None]
    site.import_(beacon.url, "--with-answers")
    newer = site.stick / plain.name.replace("-r1", "-r2")
    answers = [json.loads(line)["answer"] for line in _cat(site, newer)]
    assert answers[0]["token"].count(".") == 2
    assert answers[1] == {"org_id": "00000000-0000-4000-8000-000000000000"}


def _cat(site, path):
    return run("cat", "--home", site.workstation, path).stdout.splitlines()


def test_cat_prints_records_that_can_be_collected_again_as_the_same_records(site, tmp_path):
    site.collect([report(1), report(2, 1), TRANSACTIONS])
    site.export()
    lines = [json.loads(line) for line in _cat(site, site.bundle)]
    assert len(lines) == 4
    assert all(len(line["id"]) == 32 for line in lines)
    wrapped = [{k: line[k] for k in ("kind", "dialect", "credential", "payload")} for line in lines]
    result = json.loads(site.collect(wrapped, "--json").stdout)
    assert result["new"] == {}


def test_a_receipt_confirms_and_applying_it_twice_changes_nothing(site, beacon):
    site.collect([report(1)])
    site.export()
    site.import_(beacon.url)
    site.apply()
    before = site.status()
    assert "applied before, nothing changed" in site.apply().output
    assert site.status() == before
    assert before["bundles"][0]["outcomes"] == {"delivered": 1}
    assert "Nothing to write: every bundle is confirmed" in site.export("--again").output


def test_an_openssh_key_can_sign_and_be_trusted(site, beacon, tmp_path):
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "id_ed25519", tmp_path / "id_ed25519.pub"
    private.write_bytes(
        key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption())
    )
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH)
        + b" me@host\n"
    )
    for home in (site.isolated, site.workstation):
        run("trust", "add", "--home", home, public, "--role", "exporter", "--source", SOURCE)
    site.collect([report(1)])
    site.export("--key", private)
    site.import_(beacon.url)
    assert beacon.totals.records == 1


def test_identical_input_key_and_clock_give_identical_bytes(site, tmp_path, monkeypatch):
    from datetime import UTC, datetime

    from support import Site

    from airgap import timestamps

    monkeypatch.setattr(timestamps, "system_clock", lambda: datetime(2026, 1, 31, tzinfo=UTC))
    other = Site.build(tmp_path / "other")
    (other.isolated / "keys" / "default.pem").write_bytes(
        (site.isolated / "keys" / "default.pem").read_bytes()
    )
    (other.isolated / "trust.json").write_bytes((site.isolated / "trust.json").read_bytes())
    for one in (site, other):
        one.collect([report(n, n) for n in range(5)])
        one.export()
    assert site.bundle.read_bytes() == other.bundle.read_bytes()


def test_collecting_again_what_has_left_makes_no_empty_bundle(site):
    site.collect([report(1)])
    site.export()
    site.collect([report(1)])
    assert "Nothing to write" in site.export().output
    assert [b["sequence"] for b in site.status()["bundles"]] == [1]
