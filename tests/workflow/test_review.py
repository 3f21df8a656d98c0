"""The review sheet: all that leaves stands on it, nothing on it acts, and reviewers get the same bytes."""

import html
import json
import os
import re
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import LICENSE, REPOSITORY, SOURCE, Site, report, run, transaction

from airgap import catalog
from airgap.records import Record, Totals
from airgap.review import facts as facts_module
from airgap.review import html as pages
from airgap.review import news, text
from airgap.review.tally import fields, path_text
from airgap.text import printable
from airgap.trust import keys

VECTORS = REPOSITORY / "tests" / "vectors"
LOOK = REPOSITORY / "tests" / "looks" / "review.txt"

NASTY = (
    "</td><script>alert(1)</script><img src=http://elsewhere/ onerror=x>&\u202e\u0000\x1b[31m'\""
)
ALLOWED = "usage_report/tags/site.cost_centre"


def review(site: Site, *options: object, code: int | None = 0, bundle=None):
    return run("review", "--home", site.workstation, bundle or site.bundle, *options, code=code)


class Active(HTMLParser):
    """Gathers what could act or load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag in {"script", "iframe", "object", "embed", "img", "link", "form", "base", "video"}:
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]
        self.found += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "action", "xlink:href") and not str(value).startswith("#")
        ]


def active(page: str) -> list[str]:
    parser = Active()
    parser.feed(page)
    assert "default-src 'none'" in parser.policy
    assert "script" not in parser.policy
    return parser.found


@pytest.fixture
def nasty(site: Site) -> Site:
    tags = {"langgraph.platform.revision": NASTY, "site.cost_centre": NASTY}
    site.collect([report(3, tags=tags)], "--allow", ALLOWED)
    site.export("--message", "<b>bold</b>", "--message-in-bundle")
    return site


def test_nothing_that_a_record_holds_can_act_on_the_page_or_drive_a_terminal(nasty: Site):
    page, slip = nasty.root / "r.html", nasty.root / "s.html"
    shown = review(nasty, "--html", page, "--slip", slip)
    for path in (page, slip):
        data = path.read_text()
        assert not active(data)
        assert "\u202e" not in data
        assert "\x00" not in data
        assert "<script" not in data
    assert html.escape("<script>alert(1)</script>", quote=False) in page.read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;" in page.read_text()
    for text_shown in (shown.stdout, (nasty.workstation / "reviews").glob("*.txt")):
        told = text_shown if isinstance(text_shown, str) else next(text_shown).read_text()
        assert "\x1b" not in told
        assert "\u202e" not in told


def test_a_name_that_nobody_knows_stands_first_on_the_sheet_and_is_marked(nasty: Site):
    page = nasty.root / "r.html"
    shown = review(nasty, "--html", page).stdout
    first = shown[shown.index("Look at these first") : shown.index("What is new")]
    assert ALLOWED in " ".join(first.split())
    assert "UNKNOWN NAME, allowed by the site" in shown
    assert "UNKNOWN NAME, allowed by the site" in page.read_text()


def test_two_reviewers_get_the_same_bytes_and_sign_the_same_digest(exported: Site):
    made = []
    for side in ("workstation", "isolated"):
        page = exported.root / f"{side}.html"
        home = exported.root / side
        result = run("review", "--home", home, exported.bundle, "--html", page, "--json")
        value = json.loads(result.stdout)
        assert sha256(page.read_bytes()).hexdigest() == value["html_sha256"]
        made.append((page.read_bytes(), value["html_sha256"], value["sheet_sha256"]))
    assert made[0] == made[1]


def reviewer(site: Site) -> None:
    home = ("--home", site.isolated)
    run("key", "generate", *home, "--name", "alice", "--role", "reviewer", "--no-passphrase")


def countersign(site: Site, *options: object, code: int | None = 0):
    return run(
        "countersign", "--home", site.isolated, site.bundle, "--key", "alice", *options, code=code
    )


def test_an_approval_carries_the_digest_of_the_page_that_was_read(exported: Site):
    reviewer(exported)
    page = exported.root / "r.html"
    review(exported, "--html", page)
    result = countersign(exported, "--sheet", page, "--json")
    assert json.loads(result.stdout)["review_sha256"] == sha256(page.read_bytes()).hexdigest()


def test_countersign_refuses_a_sheet_that_was_changed_or_is_of_another_bundle(exported: Site):
    reviewer(exported)
    page = exported.root / "r.html"
    review(exported, "--html", page)
    data = page.read_bytes()
    page.write_bytes(data.replace(b"records", b"Records", 1))
    refused = countersign(exported, "--sheet", page, code=2)
    assert "not the review sheet of this bundle" in refused.output
    assert not list(exported.stick.glob("*.approval"))
    exported.collect([report(9, 20)])
    exported.export()
    other = exported.stick / f"{SOURCE}-000002.airgap"
    review(
        exported,
        "--html",
        page,
        "--since",
        exported.stick / f"{SOURCE}-000001.airgap",
        bundle=other,
    )
    first = exported.stick / f"{SOURCE}-000001.airgap"
    refused = run("countersign", "--home", exported.isolated, first, "--key", "alice",
                  "--sheet", page, code=2)  # fmt: skip
    assert "not the review sheet of this bundle" in refused.output


def test_what_is_new_since_the_last_bundle_is_named_kind_by_kind(site: Site):
    site.collect([report(1, 0)])
    site.export()
    first = site.stick / f"{SOURCE}-000001.airgap"
    site.collect(
        [report(2, 1, tags={"site.cost_centre": "x", "langgraph.platform.plan": "developer"})],
        "--allow", ALLOWED,
    )  # fmt: skip
    site.collect([transaction(1)], "--license-file", site.license_file)
    site.export()
    second = site.stick / f"{SOURCE}-000002.airgap"
    alone = review(site, bundle=second).stdout
    assert "NOT COMPARED" in alone
    review(site, bundle=first)
    for options in ((), ("--since", first)):
        value = json.loads(review(site, *options, "--json", bundle=second).stdout)
        assert value["compared_with"]["sequence"] == 1
        assert value["new"]["kinds"] == ["trace_transactions"]
        assert value["new"]["fields"] == [ALLOWED]
        assert value["new"]["texts"] == ['usage_report/tags/langgraph.platform.plan = "developer"']
        assert value["new"]["allowed"] == [ALLOWED]
        assert value["new"]["credentials"] == []
    refused = review(site, "--since", second, bundle=first, code=2)
    assert "no earlier bundle of the same source" in refused.output


def test_the_sheet_reads_as_it_did(tmp_path):
    """Of a golden bundle; AIRGAP_WRITE_LOOKS=1 writes it anew: look at what changed."""
    home = tmp_path / "home"
    run("init", "--home", home, "--workstation", "relay-1")
    key = VECTORS / "exporter.pub"
    public = keys.public_from_bytes(key.read_bytes(), where="vectors")
    run("trust", "add", "--home", home, key, "--role", "exporter", "--source", "*",
        "--fingerprint", public.fingerprint)  # fmt: skip
    bundle = VECTORS / "bundle-zstd.airgap"
    value = json.loads(run("review", "--home", home, bundle, "--json").stdout)
    sheet = Path(value["sheet"]).read_text()
    if os.environ.get("AIRGAP_WRITE_LOOKS"):
        LOOK.write_text(sheet)
    assert sheet == LOOK.read_text()
    assert sha256(sheet.encode()).hexdigest() == value["sheet_sha256"]
    schema = json.loads((REPOSITORY / "schemas/output/review.schema.json").read_text())
    jsonschema.validate(value, schema)


def test_a_review_writes_over_no_file_that_is_no_page(exported: Site):
    other = exported.root / "notes.txt"
    other.write_text("mine")
    refused = review(exported, "--html", other, code=2)
    assert "it is no page" in refused.output
    assert other.read_text() == "mine"


def test_a_gap_is_named_on_the_sheet_and_hatched_in_the_charts(site: Site):
    days = [1, 2, 3, 8, 9]
    site.collect([
        report(n, from_timestamp=f"2026-01-{n:02d}T00:00:00Z", to_timestamp=f"2026-01-{n + 1:02d}T00:00:00Z")
        for n in days
    ])  # fmt: skip
    site.export()
    page = site.root / "r.html"
    shown = review(site, "--html", page).stdout
    assert "gap 2026-01-04 .. 2026-01-08" in " ".join(shown.split())
    assert "url(#" in page.read_text()
    cells = re.findall(r"<td[^>]*>gap</td>", page.read_text())
    assert len(cells) >= 4


def test_the_slip_says_the_id_in_digits_words_and_as_a_code(exported: Site):
    from airgap.trust import spoken

    slip = exported.root / "s.html"
    value = json.loads(review(exported, "--slip", slip, "--json").stdout)
    page = slip.read_text()
    digits = value["bundle_id"]
    groups = " ".join(digits[n : n + 4] for n in range(0, 64, 4))
    assert groups in page
    assert spoken.words(digits) in page
    assert 'class="qr"' in page
    for hop in ("Handed out by", "Carried by", "Taken in by"):
        assert hop in page


def test_a_bundle_without_records_is_reviewed_too(site: Site):
    site.export("--no-usage", "2026-03-01..2026-03-04")
    page = site.root / "r.html"
    shown = review(site, "--html", page).stdout
    assert "no usage of any kind from 2026-03-01T00:00:00Z to 2026-03-04T00:00:00Z" in " ".join(
        shown.split()
    )
    assert "No record is in it." in shown
    assert not active(page.read_text())


def test_no_key_of_a_source_is_on_any_sheet(exported: Site):
    page, slip = exported.root / "r.html", exported.root / "s.html"
    result = review(exported, "--html", page, "--slip", slip)
    for told in (result.output, page.read_text(), slip.read_text()):
        assert LICENSE not in told
    assert "none; 1 fingerprint" in page.read_text()


SCHEMAS = catalog.load()
DIALECT = next(iter(SCHEMAS.kind("usage_report").dialects))
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
PAYLOADS = st.builds(
    lambda tags, runs: {
        "from_timestamp": "2026-01-06T00:00:00Z",
        "to_timestamp": "2026-01-06T01:00:00Z",
        "tags": tags,
        "measures": {"langgraph.platform.runs": runs},
        "logs": [],
    },
    st.dictionaries(TEXT.filter(bool), TEXT, max_size=4),
    st.integers(0, 2**53),
)


def bundle_of(payloads: list[dict]) -> facts_module.Facts:
    records = [
        Record("usage_report", DIALECT, "license:" + "0" * 32, n, p) for n, p in enumerate(payloads)
    ]
    totals = Totals()
    for record in records:
        totals.add(SCHEMAS.kind("usage_report"), record.payload)
    manifest = {
        "source": SOURCE, "sequence": 1, "previous": None, "created_at": "2026-02-01T00:00:00Z",
        "producer": "airgap 0", "records": len(records), "totals": totals.as_map(),
        "period": {"from": "2026-01-06T00:00:00Z", "to": "2026-01-06T01:00:00Z"},
        "schemas": {"usage_report": SCHEMAS.schema_digest("kinds/usage_report")},
        "credentials": ["license:" + "0" * 32], "allowed": [], "pseudonymised": [],
        "no_usage": None, "message": None,
    }  # fmt: skip
    return facts_module.gather(manifest, "0" * 64, records, SCHEMAS, ["someone"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=4))
def test_every_field_and_every_text_that_leaves_stands_on_both_sheets(payloads):
    found = bundle_of(payloads)
    told = news.compare(found, None)
    sheet = text.sheet(found, told)
    page = pages.page(found, told)
    shown = html.unescape(re.sub(r"<[^>]*>", "", page.decode()))
    squeezed = re.sub(r"\s", "", sheet)
    for payload in payloads:
        for path, value in fields(payload):
            name = printable(path_text(path), 100_000)
            assert re.sub(r"\s", "", name) in squeezed
            assert re.sub(r"\s", "", name) in re.sub(r"\s", "", shown)
            # A text that looks like a key is masked, and more than four numbers are a range.
            if isinstance(value, str) and "tags" in path and not found.key_like:
                for where in (squeezed, re.sub(r"\s", "", shown)):
                    assert re.sub(r"\s", "", f'"{printable(value, 64)}"') in where
    for total in found.kinds[0].sums.values():
        assert f"{total:,}" in sheet
        assert f"{total:,}" in page.decode()
    assert all(len(line) <= 80 or not line.isascii() for line in sheet.splitlines())
    assert page == pages.page(bundle_of(payloads), told)
    assert not active(page.decode())
