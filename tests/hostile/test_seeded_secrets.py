"""Keys, addresses and card numbers in every field of every source: none is kept, said, or leaves."""

import copy
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import PostgresServer
from support import Site, report, run, transaction, write_lines

SECRETS = {
    "license": "lcl_EXAMPLE_seeded_0123456789",
    "api key": "lsv2_pt_EXAMPLE_seeded_0123456789",
    "address": "seeded.person@bank.example",
    "card": "4111 1111 1111 1111",
}
SNAPSHOT = {
    "license_key": report()["license"],
    "from_timestamp": "2026-01-06T00:00:00Z",
    "to_timestamp": "2026-01-07T00:00:00Z",
    "measures": {"users": 1},
}
SPANS = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]},
            "scopeSpans": [{"spans": [{"name": "y", "spanId": "00f067aa0ba902b7"}]}],
        }
    ]
}
BODIES: dict[str, dict[str, Any]] = {
    "usage_report": report(tags={"langgraph.platform.host": "self-hosted"}),
    "trace_transactions": {
        "license": report()["license"],
        "trace_transactions": [transaction(1)],
    },
    "usage_snapshot": SNAPSHOT,
    "otlp_traces": {
        "kind": "otlp_traces",
        "payload": SPANS,
        "headers": {"X-Langchain-License-Key": report()["license"]},
    },
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield every place of a body where text could stand."""
    if isinstance(value, dict):
        yield (*path, "a new name")
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))
    else:
        yield path


def planted(value: Any, path: tuple[Any, ...], secret: str, *, as_name: bool) -> Any:
    """Return a copy with the secret at a place, as value, within text, or as a name."""
    made = copy.deepcopy(value)
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    last = path[-1]
    if as_name and isinstance(inner, dict):
        inner[secret] = inner.pop(last, "x")
    else:
        inner[last] = f"x {secret} y" if last != "license" else secret
    return made


def everything(site: Site, *outputs: str) -> bytes:
    """Return all that was kept or said: both homes, the stick, what was printed."""
    parts = [output.encode() for output in outputs]
    for folder in (site.isolated, site.stick):
        parts += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(parts)


def assert_none(site: Site, secret: str, *outputs: str) -> None:
    found = everything(site, *outputs)
    for form in (secret, secret.replace(" ", "")):
        assert form.encode() not in found


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("kind", BODIES)
def test_no_place_of_a_request_lets_a_secret_in(site: Site, kind: str, secret: str):
    said = []
    for path in places(BODIES[kind]):
        for as_name in (False, True):
            value = planted(BODIES[kind], path, SECRETS[secret], as_name=as_name)
            if path[-1] in ("license", "license_key", "X-Langchain-License-Key") and not as_name:
                continue  # the credential's own place, tested below
            source = write_lines(site.root / "usage.jsonl", [value])
            said.append(run("collect", "--home", site.isolated, source, code=None).output)
    assert len(said) > 5
    site.export("--compression", "none")
    assert_none(site, SECRETS[secret], *said)


def test_a_credential_in_its_own_place_becomes_a_fingerprint(site: Site):
    secret = SECRETS["license"]
    said = site.collect([report(license=secret)]).output
    said += site.export("--compression", "none").output
    said += run("cat", "--home", site.isolated, site.bundle).output
    said += run("inspect", "--home", site.isolated, site.bundle).output
    assert_none(site, secret, said)


def table(columns: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerow(columns)
    return text.getvalue()


ROWS = {
    "traces": {
        "id": "af28dfea-5358-463d-a2dc-37df00000001",
        "tenant_id": "3a1c2b6f-4430-4b92-8a5b-79b8b567bbc1",
        "session_id": "b26ae531-cdb3-42a5-8bcf-05355199fe27",
        "trace_count": "5",
        "insertion_time_range_start": "2026-01-06 10:00:00+00",
        "insertion_time_range_end": "2026-01-06 11:00:00+00",
        "interval_start": "2026-01-06 09:00:00+00",
        "interval_end": "2026-01-06 10:00:00+00",
        "status": "pending",
        "num_failed_send_attempts": "0",
        "transaction_type": "base",
        "organization_id": "c5b5f53a-4716-4326-8967-d4f7f7799735",
        "source": "local",
        "backfill_id": "af28dfea-5358-463d-a2dc-37df00000009",
        "workspace_name": "w",
        "customer_name": "c",
        "a_column_of_tomorrow": "t",
    },
    "metrics": {
        "id": "af28dfea-5358-463d-a2dc-37df00000002",
        "from_timestamp": "2026-01-06 10:00:00+00",
        "to_timestamp": "2026-01-06 11:00:00+00",
        "measures": '{"langgraph.platform.runs": 3}',
        "tags": '{"langgraph.platform.host": "self-hosted"}',
        "logs": "[]",
        "reported_status": "pending",
        "self_hosted_customer_id": "x",
        "organization_name": "o",
    },
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", ROWS)
def test_no_column_of_a_csv_file_lets_a_secret_in(site: Site, name: str, secret: str):
    said, taken = [], 0
    for column in ROWS[name]:
        for value in (
            SECRETS[secret],
            f"x {SECRETS[secret]} y",
            json.dumps({"n": SECRETS[secret]}),
        ):
            path = site.root / "rows.csv"
            path.write_text(table({**ROWS[name], column: value}))
            arguments = ("--home", site.isolated, path, "--license-file", site.license_file)
            done = run("collect", *arguments, code=None)
            said.append(done.output)
            taken += done.exit_code == 0
    assert taken, "a column that stays at home does not stop the file"
    site.export("--compression", "none")
    assert_none(site, SECRETS[secret], *said)


@pytest.mark.parametrize("secret", SECRETS)
def test_no_column_of_the_database_lets_a_secret_in(
    site: Site, postgres: PostgresServer, secret: str
):
    value, said = SECRETS[secret], []
    postgres.fill(transactions=3, metrics=3, status="pending")
    postgres.execute(f"UPDATE tenants SET display_name = '{value}'")
    for statement in (
        f"UPDATE trace_count_transactions SET transaction_type = 'x {value}'",
        f'UPDATE remote_metrics SET tags = tags || \'{{"langgraph.platform.plan": "{value}"}}\'',
        f'UPDATE remote_metrics SET tags = \'{{"{value}": "x"}}\'',
        f"UPDATE remote_metrics SET tags = '{{}}', measures = '{{\"{value}\": 1}}'",
        f"UPDATE remote_metrics SET measures = '{{}}', logs = '[\"{value}\"]'",
    ):
        postgres.execute(statement)
        for named in ("trace_count_transactions", "remote_metrics"):
            arguments = ("--home", site.isolated, postgres.url, "--table", named)
            files = ("--license-file", site.license_file)
            said.append(run("collect", *arguments, *files, code=None).output)
    assert_none(site, value, *said)


def test_a_secret_in_the_name_of_a_file_or_url_is_masked(site: Site, tmp_path: Path):
    secret = SECRETS["license"]
    done = run("collect", "--home", site.isolated, tmp_path / f"{secret}.jsonl", code=2)
    url = run("collect", "--home", site.isolated, f"postgresql://{secret}@127.0.0.1:1/x", code=2)
    assert_none(site, secret, done.output, url.output)
