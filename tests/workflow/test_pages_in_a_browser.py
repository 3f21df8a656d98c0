"""Pages as people get them: a real Chromium, light, dark, on a phone and on paper, and axe-core."""

import pytest
from browser import Browser, needs_axe, needs_browser
from support import SOURCE, Site, report, run, transaction


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A review page, a custody slip and a report page of a site with charts, a gap and free text."""
    site = Site.build(tmp_path_factory.mktemp("pages"))
    values = [
        report(
            n, from_timestamp=f"2026-01-{n:02d}T00:00:00Z", to_timestamp=f"2026-01-{n + 1:02d}T00:00:00Z",
            tags={"langgraph.platform.plan": f"plan <b>{n % 3}</b>", "site.cost_centre": "long " * 40},
        )
        for n in (1, 2, 3, 4, 5, 6, 9, 10, 11)
    ]  # fmt: skip
    allow = ("--allow", "usage_report/tags/site.cost_centre")
    site.collect(values[:3], *allow)
    site.export()
    site.collect([*values[3:], *(transaction(n) for n in range(5))], *allow,
                 "--license-file", site.license_file)  # fmt: skip
    site.export()
    first, second = (site.stick / f"{SOURCE}-00000{n}.airgap" for n in (1, 2))
    review, slip, told = (site.root / f"{n}.html" for n in ("review", "slip", "report"))
    run("review", "--home", site.workstation, second, "--since", first,
        "--html", review, "--slip", slip)  # fmt: skip
    nobody = "http://127.0.0.1:9"
    site.import_(nobody, "--attempts", "1", code=7)
    run("report", "--home", site.workstation, "--html", told)
    return {"review": review, "slip": slip, "report": told}


@pytest.fixture(scope="module")
def browser():
    with Browser() as running:
        yield running


SOME = {
    "review": ("light", "dark", "phone", "paper"),
    "report": ("light", "dark", "phone"),
    "slip": ("light", "dark"),
}
"""How each page is looked at; the long form goes through every way of each."""
EVERY = ("light", "dark", "phone", "dark phone", "paper")


@needs_axe
@pytest.mark.parametrize(
    ("name", "how"),
    [
        pytest.param(name, how, marks=() if how in some else pytest.mark.soak)
        for name, some in SOME.items()
        for how in EVERY
    ],
)
def test_axe_finds_nothing_against_a_page(browser, pages, name, how):
    page = browser.open(pages[name], width=390 if "phone" in how else 1280, dark="dark" in how)
    if how == "paper":
        page.on_paper()
    assert page.axe() == []


@needs_browser
@pytest.mark.parametrize("name", ["review", "slip", "report"])
def test_a_page_loads_nothing_but_itself_and_fits_a_phone(browser, pages, name):
    page = browser.open(pages[name], width=390)
    assert page.requests == [pages[name].resolve().as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.scripts.length") == 0


@needs_browser
def test_the_style_is_taken_the_policy_does_not_refuse_it(browser, pages):
    for path in pages.values():
        page = browser.open(path)
        assert "monospace" not in page.evaluate("getComputedStyle(document.body).fontFamily")
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = browser.open(path, dark=True).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        assert light != dark


@needs_browser
def test_on_paper_the_slip_is_one_page_and_a_review_few(browser, pages, tmp_path):
    for name, most in (("slip", 1), ("review", 12)):
        made = tmp_path / f"{name}.pdf"
        browser.open(pages[name]).print_to(made)
        assert 1 <= made.read_bytes().count(b"/Type /Page\n") <= most, name
