"""What is refused, with its exit status and a message that says what, where and the next step."""

import io
import json
import os

import pytest
from support import (
    API_KEY,
    LICENSE,
    SOURCE,
    bundle_fields,
    report,
    run,
    transaction,
    trusted,
    write_lines,
)

from airgap import catalog, verify
from airgap.bundle import codec
from airgap.bundle.envelope import Envelope
from airgap.bundle.layout import FORMAT, Header, footer
from airgap.bundle.writer import Writer
from airgap.contents import Contents
from airgap.errors import AirgapError
from airgap.records import Record
from airgap.trust import keys
from airgap.trust import store as trust_store

SCHEMAS = catalog.load()


@pytest.fixture
def exported(site):
    site.collect([report(1), {"license": LICENSE}])
    site.export()
    return site


def refused(site, beacon, code, *words):
    """Import and check: exit status, words in the message, a hint, nothing sent or kept."""
    result = site.import_(beacon.url, code=code)
    for word in words:
        assert word in result.output, result.output
    assert "hint:" in result.output
    assert not beacon.seen
    assert site.status("workstation")["states"] == {}
    assert LICENSE not in result.output
    return result


def forge(site, *, signer=None, records=None, raw=None, **fields):
    """Write a bundle that the trusted exporter's key signs although it is not right."""
    stream = io.BytesIO()
    writer, contents = Writer(stream, Header("bundle")), Contents()
    for record in records if records is not None else [_record()]:
        if isinstance(record, Record):
            contents.add(record, SCHEMAS.kind(record.kind), where="forged")
        writer.add(record.as_map() if isinstance(record, Record) else record)
    manifest = {**bundle_fields(), **contents.as_map(SCHEMAS), **fields}
    made = writer.finish(manifest, [(signer or site.exporter).sign])
    (site.stick / "forged.airgap").write_bytes(stream.getvalue())
    return made


def _record(**changes):
    from airgap.credentials import fingerprint

    payload = {k: v for k, v in report(1, **changes).items() if k != "license"}
    return Record("usage_report", "documents", fingerprint("license", LICENSE), 0, payload)


def _change_envelope(path, change):
    data = path.read_bytes()
    offset, length = int.from_bytes(data[-24:-16]), int.from_bytes(data[-16:-8])
    value = codec.decode_own(data[offset : offset + length])
    encoded = codec.encode(change(value))
    path.write_bytes(data[:offset] + encoded + footer(offset, len(encoded)))


def test_import_refuses_an_unsigned_bundle(exported, beacon):
    _change_envelope(exported.bundle, lambda v: {**v, "signatures": []})
    refused(exported, beacon, 4, "the file is not signed")


def test_import_refuses_a_bundle_signed_by_an_unknown_key(exported, beacon):
    forge(exported, signer=keys.generate())
    (exported.stick / f"{SOURCE}-000001.airgap").unlink()
    refused(exported, beacon, 4, "not in the trust store", "trust add")


def test_import_refuses_a_bundle_whose_signature_is_another_keys(exported, beacon):
    stranger = keys.generate()

    def change(value):
        message = Envelope(value["payload_type"], value["payload"], ()).message
        value["signatures"][0]["signature"] = stranger.sign(message).signature
        return value

    _change_envelope(exported.bundle, change)
    refused(exported, beacon, 4, "is wrong", "changed after it was signed")


def test_import_refuses_a_bundle_signed_by_a_revoked_key_and_gives_the_reason(exported, beacon):
    key_id = exported.exporter.public.key_id
    run("trust", "revoke", "--home", exported.workstation, key_id[:16], "--reason", "laptop lost")
    refused(exported, beacon, 4, "revoked key", "laptop lost")


def test_import_refuses_a_bundle_signed_by_a_removed_key(exported, beacon):
    run("trust", "remove", "--home", exported.workstation, exported.exporter.public.key_id[:16])
    refused(exported, beacon, 4, "not in the trust store")


def test_import_refuses_a_bundle_signed_by_an_importers_key(site, beacon):
    forge(site, signer=site.importer)
    refused(site, beacon, 4, "nobody signed as exporter")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": ("bank-b",)}, "may not sign for this source"),
        ({"not_before": "2026-02-02T00:00:00Z"}, "made before the key"),
        ({"not_after": "2026-02-01T00:00:00Z"}, "had expired"),
    ],
)
def test_import_refuses_a_key_outside_its_source_or_time(site, beacon, changes, words):
    from airgap import timestamps

    changes = {k: timestamps.parse(v) if isinstance(v, str) else v for k, v in changes.items()}
    store = trust_store.TrustStore({}).with_key(trusted(site.exporter, "exporter", **changes))
    store = store.with_key(trusted(site.importer, "importer"))
    trust_store.save(site.workstation / "trust.json", store)
    forge(site)
    refused(site, beacon, 4, words)


@pytest.mark.parametrize("damage", ["truncated", "trailing", "empty", "text", "flipped"])
def test_import_refuses_a_damaged_file(exported, beacon, damage):
    good = exported.bundle.read_bytes()
    exported.bundle.write_bytes(
        {
            "truncated": good[:-100],
            "trailing": good + b"\0",
            "empty": b"",
            "text": b"this is not a bundle\n" * 20,
            "flipped": good[:200] + bytes([good[200] ^ 4]) + good[201:],
        }[damage]
    )
    refused(exported, beacon, 5, "copy the file")


def test_import_refuses_swapped_chunks_of_two_valid_bundles(site, beacon):
    site.collect([report(1)])
    site.export("--compression", "none")
    site.collect([report(2, 1)])
    site.export("--compression", "none")
    one, two = sorted(site.stick.glob("*.airgap"))
    first, second = one.read_bytes(), two.read_bytes()
    start = 14 + len(Header("bundle", "none").encode())
    offset = int.from_bytes(second[-24:-16])
    assert int.from_bytes(first[-24:-16]) == offset
    two.unlink()
    one.write_bytes(first[:start] + second[start:offset] + first[offset:])
    refused(site, beacon, 5, "a chunk is not the one that was signed")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({**_record().as_map(), "extra": 1}, "extra"),
        ({**_record().as_map(), "occurrence": -1}, "occurrence"),
        ({**_record().as_map(), "payload": {**_record().payload, "hostname": "x"}}, "hostname"),
        ({**_record().as_map(), "kind": "unheard_of"}, "unknown kind"),
        ({**_record().as_map(), "dialect": "slang"}, "unknown dialect"),
        ({**_record().as_map(), "credential": "api_key:" + "0" * 32}, "another type of credential"),
        ({**_record().as_map(), "payload": {**_record().payload, "logs": ["x"]}}, "/logs"),
        (
            {**_record().as_map(), "payload": {**_record().payload, "from_timestamp": "yesterday"}},
            "date-time",
        ),
    ],
)
def test_import_refuses_a_record_that_breaks_its_schema_even_when_signed(
    site, beacon, record, words
):
    forge(site, records=[record])
    result = refused(site, beacon, 3, words)
    assert "record 0" in result.output


@pytest.mark.parametrize("value", [1.0, 1e300, b"", b"x", 2**63, 2**64 - 1])
def test_import_refuses_floats_bytes_and_larger_integers_where_integers_belong(site, beacon, value):
    record = {**_record().as_map()}
    record["payload"] = {**record["payload"], "measures": {"langgraph.platform.runs": value}}
    forge(site, records=[record])
    result = site.import_(beacon.url, code=None)
    assert result.exit_code in (3, 5)
    assert not beacon.seen


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"totals": {"usage_report": {"records": 2, "sums": {}}}}, "totals part"),
        ({"period": None}, "manifest's period"),
        ({"credentials": []}, "manifest's credentials"),
        ({"allowed": ["usage_report/tags/x"]}, "manifest's allowed"),
        ({"schemas": {}}, "manifest's schemas"),
    ],
)
def test_import_refuses_a_signed_manifest_that_lies_about_its_records(site, beacon, fields, words):
    forge(site, **fields)
    result = site.import_(beacon.url, code=5)
    assert words in result.output
    assert not beacon.seen


def test_import_refuses_a_bundle_that_holds_a_record_twice(site, beacon):
    forge(site, records=[_record(), _record()])
    assert "twice" in site.import_(beacon.url, code=5).output
    assert not beacon.seen
    assert site.status("workstation")["states"] == {}


def test_import_refuses_two_different_bundles_with_one_sequence(exported, beacon):
    exported.import_(beacon.url)
    forge(exported, records=[_record(to_timestamp="2026-01-07T00:00:00Z")])
    result = exported.import_paths([exported.stick / "forged.airgap"], beacon.url, code=9)
    assert "forks" in result.output
    assert "restored snapshot" in result.output
    assert len(beacon.seen) == 2


def test_import_refuses_a_bundle_that_follows_another_predecessor(exported, beacon):
    exported.import_(beacon.url)
    forge(
        exported,
        sequence=2,
        previous="0" * 64,
        records=[_record(to_timestamp="2026-01-07T00:00:00Z")],
    )
    result = exported.import_paths([exported.stick / "forged.airgap"], beacon.url, code=9)
    assert "forks" in result.output


def test_import_refuses_a_credential_that_matches_no_fingerprint(exported, beacon):
    exported.license_file.write_text("lcl_EXAMPLE_of_another_customer\n")
    result = refused(exported, beacon, 4, "no credential here matches", "--license-file")
    assert "EXAMPLE_of_another" not in result.output


def test_a_refused_file_does_not_stop_the_others_and_is_never_success(exported, beacon):
    (exported.stick / "a-broken.airgap").write_bytes(b"broken")
    result = exported.import_(beacon.url, code=5)
    assert "1 of 2 files refused" in result.output
    assert len(beacon.seen) == 2


def test_import_takes_no_receipt_for_a_bundle_and_apply_no_bundle_for_a_receipt(exported, beacon):
    exported.import_(beacon.url)
    [receipt] = exported.stick.glob("*.receipt")
    fake = exported.root / "fake.airgap"
    fake.write_bytes(receipt.read_bytes())
    assert (
        "this is a receipt, not a bundle"
        in exported.import_paths([fake], beacon.url, code=3).output
    )
    bundle = exported.root / "fake.receipt"
    bundle.write_bytes(exported.bundle.read_bytes())
    result = run("receipt", "apply", "--home", exported.isolated, bundle, code=3)
    assert "this is a bundle, not a receipt" in result.output


# ---- receipts


def _receipt(site, bundle_id, elements, totals, signer=None, number=1, **fields):
    stream = io.BytesIO()
    writer = Writer(stream, Header("receipt"))
    for outcome in elements:
        writer.add(outcome)
    counts = dict.fromkeys(("delivered", "dead", "in_doubt", "waiting"), 0)
    for outcome in elements:
        counts[outcome["outcome"]] += 1
    manifest = {
        "format": FORMAT,
        "file_type": "receipt",
        "source": SOURCE,
        "importer": "relay-1",
        "bundle_id": bundle_id,
        "bundle_sequence": 1,
        "bundle_previous": None,
        "number": number,
        "previous": None if number == 1 else "0" * 64,
        "created_at": "2026-02-01T00:00:00Z",
        "producer": "forger",
        "outcomes": counts,
        "totals": totals,
        **fields,
    }
    made = writer.finish(manifest, [(signer or site.importer).sign])
    (site.stick / "forged.receipt").write_bytes(stream.getvalue())
    return made.document_id


def _outcome(identifier, outcome="delivered"):
    return {
        "id": identifier,
        "outcome": outcome,
        "status": 204,
        "at": None,
        "detail": None,
        "answer": None,
    }


@pytest.fixture
def waiting_for_receipt(exported):
    lines = run("cat", "--home", exported.isolated, exported.bundle).stdout.splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    bundle = exported.status()["bundles"][0]
    totals = json.loads(
        run("inspect", "--home", exported.isolated, exported.bundle, "--json").stdout
    )
    return exported, bundle["bundle_id"], ids, totals["manifest"]["totals"]


def test_apply_takes_a_right_receipt_and_refuses_its_variants(waiting_for_receipt):
    site, bundle_id, ids, totals = waiting_for_receipt
    good = [_outcome(i) for i in ids]
    cases = [
        (3, {"bundle_id": "0" * 64}, good, totals, "not about this outbox"),
        (3, {}, good[:1], {}, "not about this outbox"),
        (3, {}, [*good, _outcome("0" * 32)], totals, "not about this outbox"),
        (3, {}, [good[0], good[0]], totals, "not about this outbox"),
        (5, {}, good, {}, "totals part"),
        (5, {}, [good[0], _outcome(ids[1], "waiting")], totals, "totals part"),
        (
            5,
            {"outcomes": {"delivered": 1, "dead": 0, "in_doubt": 0, "waiting": 1}},
            good,
            totals,
            "outcomes",
        ),
        (4, {"signer": site.exporter}, good, totals, "nobody signed as importer"),
        (4, {"signer": keys.generate()}, good, totals, "not in the trust store"),
    ]
    for code, fields, outcomes, claimed, words in cases:
        _receipt(site, fields.pop("bundle_id", bundle_id), outcomes, claimed, **fields)
        assert words in site.apply(code=code).output
        assert site.status()["confirmed"] == {}
    _receipt(site, bundle_id, good, totals)
    site.apply()
    assert site.status()["confirmed"] == totals


def test_an_older_receipt_never_takes_a_confirmation_back(waiting_for_receipt):
    site, bundle_id, ids, totals = waiting_for_receipt
    second = _receipt(site, bundle_id, [_outcome(i) for i in ids], totals, number=2)
    site.apply()
    _receipt(site, bundle_id, [_outcome(i, "dead") for i in ids], {}, number=1)
    assert "older than one applied before, nothing changed" in site.apply().output
    _receipt(site, bundle_id, [_outcome(i, "dead") for i in ids], {}, number=3, previous=second)
    site.apply()
    assert site.status()["confirmed"] == totals


# ---- sources


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (report(1, hostname="x"), "unknown 'hostname'"),
        (report(1, tags={"a.new.tag": "x"}), "usage_report/tags/a.new.tag"),
        (report(1, measures={"a.new.measure": 1}), "usage_report/measures/a.new.measure"),
        (report(1, logs=[{"message": "x"}]), "/logs"),
        (report(1, measures={"langgraph.platform.runs": -1}), "at least 0"),
        (report(1, measures={"langgraph.platform.runs": 2**63}), "at most 9223372036854775807"),
        (report(1, measures={"langgraph.platform.runs": "5"}), "expected: integer"),
        (report(1, measures={"langgraph.platform.runs": 5.0}), "fraction or exponent"),
        (report(1, from_timestamp="06/01/2026 09:00"), "date-time"),
        (report(1, license=None), "is not a key"),
        ({k: v for k, v in report(1).items() if k != "license"}, "carries no credential"),
        (report(1, license=""), "is not a key"),
        (report(1, api_key=API_KEY), "more than one credential"),
        (report(1, tags={"langgraph.platform.host": LICENSE}), "looks like a credential"),
        (report(1, tags={"langgraph.platform.host": API_KEY}), "looks like a credential"),
        (
            report(1, license="an-airgapped-key-without-prefix", tags={"langgraph.platform.host": "an-airgapped-key-without-prefix"}),
            "looks like a credential",
        ),
        ({"license": LICENSE, "trace_transactions": [transaction(1, trace_count=-1)]}, "at least 0"),
        ({"license": LICENSE, "trace_transactions": [], "more": 1}, "not a list of trace_transactions"),
        ({"something": "else"}, "not a request of any known kind"),
        ({}, "not a request of any known kind"),
        ([1], "not a request body"),
        ("text", "not a request body"),
    ],
)  # fmt: skip
def test_collect_refuses_and_takes_nothing_over(site, line, words):
    result = site.collect([report(9, 9), line], code=3)
    assert words in result.output
    assert "line 2" in result.output
    assert LICENSE not in result.output
    assert API_KEY not in result.output
    assert site.status()["waiting"] == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b'{"a":1,"a":2}\n', "same key twice"),
        (b'{"license":"x","measures":{"a":99999999999999999999}}\n', "does not fit 64 bits"),
        (b"id,trace_count\n1,2\n", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b'{"license": "lcl_EXAMPLE_cut', "not JSON"),
    ],
)
def test_collect_refuses_what_is_not_exact_json(site, text, words):
    path = site.root / "odd.jsonl"
    path.write_bytes(text)
    result = run("collect", "--home", site.isolated, path, code=3)
    assert words in result.output
    assert "EXAMPLE_cut" not in result.output


def test_collect_names_every_bad_line_of_a_file_at_once(site):
    lines = [report(1, n, logs=["x"] if n % 2 else []) for n in range(6)]
    result = site.collect(lines, code=3)
    assert [f"line {n}" in result.output for n in (2, 4, 6)] == [True] * 3


def test_an_unknown_name_leaves_only_when_it_is_allowed_and_the_manifest_says_so(site, beacon):
    line = report(1, tags={"a.new.tag": "x"})
    site.collect([line], code=3)
    site.collect([line], "--allow", "usage_report/tags/a.new.tag")
    site.export()
    assert (
        "usage_report/tags/a.new.tag" in run("inspect", "--home", site.isolated, site.bundle).output
    )
    site.import_(beacon.url)
    assert json.loads(beacon.seen[0].body)["tags"] == {"a.new.tag": "x"}


def test_a_last_line_that_is_still_being_written_is_refused_or_left_for_next_time(site):
    path = write_lines(site.root / "growing.jsonl", [report(1)])
    with path.open("ab") as file:
        file.write(json.dumps(report(2, 1)).encode()[:50])
    run("collect", "--home", site.isolated, path, code=3)
    run("collect", "--home", site.isolated, path, "--growing")
    assert site.status()["waiting"]["usage_report"]["records"] == 1


def test_no_credential_is_in_any_file_of_the_isolated_home_or_on_the_stick(exported):
    for folder in (exported.isolated, exported.stick):
        for path in folder.rglob("*"):
            if path.is_file():
                assert LICENSE.encode() not in path.read_bytes(), path


def test_no_credential_is_in_any_file_of_the_workstations_home(exported, beacon):
    exported.import_(beacon.url, "--with-answers")
    for folder in (exported.workstation, exported.stick):
        for path in folder.rglob("*"):
            if path.is_file():
                assert LICENSE.encode() not in path.read_bytes(), path


# ---- files that are no files


@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder", "device"])
def test_import_opens_nothing_but_regular_files(site, beacon, kind):
    path = site.stick / "odd.airgap"
    if kind == "symlink":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "x").write_bytes(b"")
    else:
        path = "/dev/zero"
    paths = [site.stick] if kind != "device" else [path]
    result = site.import_paths(paths, beacon.url, code=3)
    assert "not a regular file" in result.output


def test_a_file_name_with_terminal_escapes_is_shown_harmlessly(site, beacon):
    (site.stick / "\x1b[2J\u202egpj.airgap").write_bytes(b"x")
    result = site.import_(beacon.url, code=5)
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output


def test_a_damaged_trust_store_never_counts_as_an_empty_one(exported, beacon):
    for text in ("", "{}", '{"format":"airgap-trust/2","keys":[{}]}', "not json"):
        (exported.workstation / "trust.json").write_text(text)
        result = exported.import_(beacon.url, code=4)
        assert "trust store" in result.output
        assert not beacon.seen


def test_verified_types_are_made_by_verification_only():
    for made in (verify.VerifiedBundle, verify.VerifiedReceipt):
        with pytest.raises(TypeError, match="only made by verification"):
            made(object(), None, {}, (), SCHEMAS)


def test_errors_have_the_documented_exit_statuses():
    from airgap import errors

    found = {cls.__name__: cls.exit_code for cls in AirgapError.__subclasses__()}
    assert found == {
        "UsageError": 2,
        "InputRefusedError": 3,
        "TrustError": 4,
        "DamagedError": 5,
        "PartialDeliveryError": 6,
        "UnreachableError": 7,
        "MediumError": 8,
        "SequenceError": 9,
        "OverdueError": 10,
        "InterruptedRunError": 130,
    }
    assert all(f"{code}" in errors.__doc__ for code in found.values())
