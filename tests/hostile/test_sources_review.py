"""LangSmith's tables, read and marked by somebody who wants a row lost, counted twice or overheard."""

import os
from datetime import UTC, datetime
from typing import Any

import pytest
from postgres import PostgresServer
from support import Site, report, run, write_lines

from airgap import captured, home
from airgap.catalog import Catalog
from airgap.collect import pseudonyms
from airgap.collect.payloads import Rules, records_of
from airgap.outbox import Outbox
from airgap.sightings import Sighting

NOW = datetime(2026, 2, 1, tzinfo=UTC)
SECRET = "s3cretpw"
AT = "127.0.0.1:1/langsmith"


def collect(site: Site, *sources: object, code: int | None = 0):
    files = ("--license-file", site.license_file)
    return run("collect", "--home", site.isolated, *sources, *files, code=code)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}%x@{AT}",
        f"postgresql://u:100%25{SECRET}%zz@{AT}",
        f"postgresql://u:{SECRET}%00@{AT}",
        f"postgresql://u:{SECRET} {SECRET}@{AT}",
        f"postgresql://u:x/{SECRET}@{AT}",
        f"postgresql://u:{SECRET}/x@{AT}",
        f"postgresql://u:x@{SECRET}@{AT}",
        f"postgresql://u:x?{SECRET}@{AT}",
        f"postgresql://u:{SECRET}?/x@{AT}",
        f"postgresql://u:x#{SECRET}@{AT}",
        f"postgresql://u:{SECRET}:x@{AT}",
        f"postgresql://u:x:{SECRET}@{AT}",
        f"postgresql://{AT}?user=u&password=x@{SECRET}",
        f"postgresql://{AT}?user=u;password={SECRET}",
        f"postgresql://u@{AT}?pass%77ord={SECRET}",
        f"postgresql://u@{AT}?PASSWORD={SECRET}",
        f"postgresql://{AT}?sslpassword={SECRET}",
        f"POSTGRESQL://u:{SECRET}@{AT}",
        f"postgresql+psycopg://u:{SECRET}@{AT}",
        f"jdbc:postgresql://{AT}?user=u&password={SECRET}",
        f"host=127.0.0.1 port=1 password={SECRET} dbname=x",
        f"host=127.0.0.1 port=1 password = '{SECRET} x'",
    ],
)
def test_no_password_is_said_or_logged_however_wrongly_the_url_is_written(site: Site, url: str):
    result = collect(site, url, code=2)
    log = (site.isolated / "audit.jsonl").read_text()
    assert SECRET not in result.output + result.stderr + log
    assert "hint" in result.stderr
    shown = run("receipt", "apply", "--home", site.isolated, "--mark", url, code=2)
    assert SECRET not in shown.output + shown.stderr + (site.isolated / "audit.jsonl").read_text()


def test_a_url_that_says_how_long_to_wait_is_obeyed(postgres: PostgresServer):
    from airgap.collect.postgres import Langsmith

    database = Langsmith(f"{postgres.url}&connect_timeout=77&application_name=site")
    said = database._connection.info.get_parameters()
    database.close()
    assert (said["connect_timeout"], said["application_name"]) == ("77", "site")


TAG = "usage_report/tags/tenant"
UPPER = "3A1C2B6F-4430-4B92-8A5B-79B8B567BBC1"


def tagged(tenant: str) -> dict[str, Any]:
    value = report(1, 1, from_timestamp="2026-01-06T00:00:00.123456Z")
    value["tags"]["tenant"] = tenant
    return value


def runs(site: Site) -> int:
    total: int = site.status()["waiting"]["usage_report"]["sums"]["langgraph.platform.runs"]
    return total


def test_two_reports_that_look_the_same_under_pseudonyms_are_two(site: Site):
    path = write_lines(site.root / "usage.jsonl", map(tagged, (UPPER, UPPER.lower(), UPPER)))
    hidden = ("--allow", TAG, "--pseudonymise", TAG)
    for _ in range(2):
        collect(site, path, *hidden)
        assert runs(site) == 3
    collect(site, path, "--allow", TAG)
    assert runs(site) == 3


def test_what_was_captured_under_a_pseudonym_is_known_when_a_file_shows_it_under_the_same(
    site: Site, schemas: Catalog
):
    """Refused before with a constraint of SQLite, so that such a file could never be collected."""
    site_home = home.open_home(site.isolated)
    hidden = pseudonyms.chosen(
        (TAG,), schemas, lambda: pseudonyms.key_of(site_home.path / "pseudonym.key", os.urandom)
    )
    assert hidden is not None
    rules = Rules(allowed=frozenset({TAG}))
    records = records_of(tagged(UPPER), b"", schemas, rules, where="test")
    outbox = Outbox(site_home.outbox_path, site_home.name, schemas)
    captured.receive(outbox, [[hidden.applied(Sighting.of(r)) for r in records]], NOW)
    captured.take(outbox, NOW)
    outbox.close()
    path = write_lines(site.root / "usage.jsonl", [tagged(UPPER), tagged(UPPER)])
    for _ in range(2):
        collect(site, path, "--allow", TAG, "--pseudonymise", TAG)
        assert runs(site) == 2
