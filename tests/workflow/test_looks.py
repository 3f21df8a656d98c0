"""How import, status and report look, held against captures in ``tests/looks``.

``AIRGAP_WRITE_LOOKS=1 pytest tests/workflow/test_looks.py`` writes them anew; look at what changed.
"""

import csv
import html.parser
import io
import json
import os
import stat
from datetime import UTC, datetime

import jsonschema
import pytest
from servers import always, answer, serving
from support import LICENSE, REPOSITORY, Site, day, run, transaction
from terminals import shown

from airgap import timestamps

LOOKS = REPOSITORY / "tests" / "looks"
NOW = datetime(2026, 1, 28, 9, 30, tzinfo=UTC)
HOSTILE = '=HYPERLINK("http://x","</script><script>1")'


def reply(connection, body, _number):
    """Answer by the day that a report is about: some are refused, some fail, most are taken."""
    if b"trace_transactions" in body:
        connection.sendall(answer(200, {"inserted_count": 3}))
    elif b'from_timestamp":"2026-01-05' in body or b'from_timestamp":"2026-01-06' in body:
        connection.sendall(answer(422, {"detail": "licence ended, case 12345"}))
    elif b'from_timestamp":"2026-01-13' in body:
        connection.sendall(answer(500))
    elif b'from_timestamp":"2026-01-14' in body:
        connection.sendall(answer(404, b"<html>\x1b[31mnot found</html>"))
    else:
        connection.sendall(answer(204))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A site of which a bundle was delivered in part, whose receipt came back, and that went on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRGAP_HOME", "/nonexistent")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "AIRGAP_LICENSE_KEY"):
            patch.delenv(name, raising=False)
        patch.setattr(timestamps, "system_clock", lambda: NOW)
        site = Site.build(tmp_path_factory.mktemp("looks"))
        traces = [transaction(n) for n in range(3)]
        days = [day(n) for n in (*range(2, 9), *range(12, 20))]
        site.collect([*days, {"license": LICENSE, "trace_transactions": traces}])
        patch.chdir(site.root)
        stick, site.stick = site.stick, site.stick.relative_to(site.root)
        site.export()
        with serving(reply) as server:
            site.import_(server.url, "--in-flight", "1", code=6)
        site.apply()
        site.collect([day(n) for n in (21, 22)])
        (site.root / "second").mkdir()
        run("export", "--home", site.isolated, "--to", "second")
        site.collect([day(24)])
        site.stick = stick
        yield site


def arguments_of(site, name):
    return {
        "import": (
            *("import", "--home", site.workstation, "stick", "--license-file", site.license_file),
            *("--beacon-url", "http://127.0.0.1:1"),
        ),
        "status-workstation": ("status", "--home", site.workstation),
        "status-isolated": ("status", "--home", site.isolated),
        "report": ("report", "--home", site.workstation, "--from", "2026-01"),
    }[name]


@pytest.mark.parametrize(
    ("name", "width", "how"),
    [
        ("import", 80, "colour"),
        ("import", 120, "plain"),
        ("status-workstation", 80, "colour"),
        ("status-workstation", 120, "plain"),
        ("status-workstation", 80, "latin-1"),
        ("status-isolated", 80, "plain"),
        ("status-isolated", 120, "colour"),
        ("report", 80, "plain"),
        ("report", 120, "colour"),
    ],
)
def test_it_looks_as_it_did(told, monkeypatch, name, width, how):
    monkeypatch.setattr(timestamps, "system_clock", lambda: NOW)
    monkeypatch.chdir(told.root)
    encoding = "latin-1" if how == "latin-1" else "utf-8"
    text = shown(
        monkeypatch,
        *arguments_of(told, name),
        width=width,
        colour=how == "colour",
        encoding=encoding,
    ).replace(str(told.root), "/home/ops")
    assert "Traceback" not in text
    assert LICENSE not in text
    path = LOOKS / f"{name}-{width}-{how}.txt"
    if os.environ.get("AIRGAP_WRITE_LOOKS"):
        path.write_text(text)
    assert text == path.read_text()


def test_no_line_but_that_of_what_is_covered_is_wider_than_80_columns():
    for path in LOOKS.glob("*-80-plain.txt"):
        for line in path.read_text().splitlines():
            assert len(line) <= 80 or line.startswith("Collected: "), line


def test_json_tells_import_and_status_per_source_and_kind_with_causes_and_days(told, monkeypatch):
    monkeypatch.setattr(timestamps, "system_clock", lambda: NOW)
    monkeypatch.chdir(told.root)
    done = json.loads(run(*arguments_of(told, "import"), "--json", code=6).stdout)
    said = json.loads(run(*arguments_of(told, "status-workstation"), "--json").stdout)
    home = json.loads(run(*arguments_of(told, "status-isolated"), "--json").stdout)
    [_, usage] = done["by_source"]
    assert usage == {
        "source": "bank-a.prod",
        "kind": "usage_report",
        "delivered": 11,
        "waiting": 0,
        "sending": 0,
        "in_doubt": 1,
        "dead": 3,
    }
    assert done["undelivered"] == said["undelivered"]
    # The isolated host knows the same causes, by the receipt.
    assert home["undelivered"] == said["undelivered"]
    assert [(g["cause"], g["status"], g["records"]) for g in home["undelivered"]] == [
        ("body-refused", 422, 2),
        ("wrong-address", 404, 1),
        ("server-error", 500, 1),
    ]
    assert home["undelivered"][0]["sums"] == {
        "langgraph.platform.nodes": 33,
        "langgraph.platform.runs": 11,
    }
    [calendar] = [c for c in home["calendar"] if c["kind"] == "usage_report"]
    days = {n: mark for n, mark in enumerate(calendar["months"][0]["days"], 1) if mark != "nothing"}
    assert {n for n, mark in days.items() if mark == "dead"} == {5, 6, 14}
    assert {n for n, mark in days.items() if mark == "in_doubt"} == {13}
    assert {n for n, mark in days.items() if mark == "gap"} == {9, 10, 11}
    assert {n for n, mark in days.items() if mark == "on_its_way"} == {21, 22}
    assert {n for n, mark in days.items() if mark == "waiting"} == {24}


def test_without_the_receipt_the_isolated_host_says_that_the_reason_is_not_known(told, monkeypatch):
    monkeypatch.setattr(timestamps, "system_clock", lambda: NOW)
    [kept] = (told.isolated / "receipts").iterdir()
    away = kept.rename(told.root / "away")
    try:
        said = json.loads(run("status", "--home", told.isolated, "--json").stdout)
    finally:
        away.rename(kept)
    assert {(g["state"], g["cause"], g["records"]) for g in said["undelivered"]} == {
        ("dead", "unknown", 3),
        ("in_doubt", "unknown", 1),
    }


def test_the_calendar_is_as_long_as_was_asked_and_goes_away_when_told(told, monkeypatch):
    monkeypatch.setattr(timestamps, "system_clock", lambda: datetime(2026, 4, 2, tzinfo=UTC))

    def months(*options):
        said = json.loads(run("status", "--home", told.workstation, "--json", *options).stdout)
        return {c["kind"]: [m["month"] for m in c["months"]] for c in said["calendar"]}

    assert months("--calendar", "0") == {}
    assert months("--calendar", "2")["usage_report"] == ["2026-01"], "all is older"
    assert months()["usage_report"] == ["2026-01", "2026-02", "2026-03", "2026-04"]


def test_report_writes_files_for_their_owner_alone_and_replaces_none_unless_told(told, monkeypatch):
    monkeypatch.chdir(told.root)
    home = ("report", "--home", told.workstation)
    files = ("--csv", "all.csv", "--csv-days", "days.csv", "--html", "page.html")
    said = json.loads(run(*home, *files, "--json").stdout)
    for name in ("all.csv", "days.csv", "page.html"):
        assert stat.S_IMODE((told.root / name).stat().st_mode) == 0o600
        assert str(told.root / name) in said["written"]
        assert "there is a file of this name" in run(*home, "--csv", name, code=2).output
    before = (told.root / "all.csv").read_bytes()
    run(*home, *files, "--force")
    assert (told.root / "all.csv").read_bytes() == before
    assert run(*home, "--csv", "-").stdout_bytes == before
    rows = list(csv.DictReader(io.StringIO(before.decode(), newline=""), strict=True))
    runs = [r for r in rows if r["measure"] == "langgraph.platform.runs"]
    delivered = said["totals"]["delivered"]["usage_report"]["sums"]["langgraph.platform.runs"]
    assert sum(int(r["value"]) for r in runs if r["outcome"] == "delivered") == delivered == 121
    assert {r["receipt"] for r in runs} == {"bank-a.prod-000001-r1.receipt"}


@pytest.mark.parametrize("options", [(), ("--by", "delivery", "--from", "2026-01")])
def test_what_report_prints_for_machines_is_as_its_schema_says(told, options):
    schema = json.loads((REPOSITORY / "schemas" / "output" / "report.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    said = json.loads(run("report", "--home", told.workstation, "--json", *options).stdout)
    jsonschema.Draft202012Validator(schema).validate(said)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "2026-02", "--to", "2026-01"), "ends before it starts"),
        (("--csv", "-", "--json"), "two outputs"),
        (("--csv", "-", "--csv-days", "-"), "two outputs"),
        (("--csv", "x.csv", "--html", "x.csv"), "two outputs"),
        (("--html", "-"), "a page goes to a file"),
        (("--from", "2026-13"), "give a day or a month"),
        (("--source", "nobody"), "nothing was imported of this source"),
    ],
)
def test_report_says_what_it_can_not_do_and_writes_nothing(told, monkeypatch, options, words):
    monkeypatch.chdir(told.root)
    before = set(told.root.iterdir())
    said = run("report", "--home", told.workstation, *options, code=2)
    assert words in said.output
    assert set(told.root.iterdir()) == before


class Page(html.parser.HTMLParser):
    """Keeps the tags, the attributes and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "style") or k.startswith("on")]

    def handle_data(self, data):
        self.text += data


def test_a_page_is_self_contained_and_what_came_from_a_file_is_text_in_it(site):
    site.collect([day(3, measures={HOSTILE: 7})], "--allow", f"usage_report/measures/{HOSTILE}")
    site.export()
    with serving(always(answer(422, b"<script>alert(1)</script>"))) as server:
        site.import_(server.url, code=6)
    path = site.root / "page.html"
    run("report", "--home", site.workstation, "--html", path, "--csv", site.root / "a.csv")
    page = Page(path.read_text())
    assert not page.tags & {"script", "img", "link", "iframe", "object", "form", "base"}
    assert page.links == []
    assert HOSTILE in page.text
    assert "<script>alert(1)</script>" in page.text
    assert "default-src 'none'" in path.read_text()
    [row] = csv.DictReader(io.StringIO((site.root / "a.csv").read_text(), newline=""))
    assert row["measure"] == "'" + HOSTILE
