"""Codes where no file may come back, and making room without forgetting."""

import json

import pytest
from servers import always, answer, serving
from support import report, run


@pytest.fixture
def delivered(site, beacon):
    site.collect([report(n, n) for n in range(3)])
    site.export()
    site.import_(beacon.url)
    return site


def pair(site, source="bank-a.prod"):
    made = json.loads(run("receipt", "pair", "--home", site.workstation, source, "--json").stdout)
    typed = f"{made['secret'].lower()}\n".encode()
    run("receipt", "pair", "--home", site.isolated, "relay-1", stdin=typed)


def code_of(site, sequence=1):
    result = run(
        "receipt", "code", "--home", site.workstation, "bank-a.prod", "--bundle", sequence, "--json"
    )
    return json.loads(result.stdout)["codes"][0]["code"]


def enter(site, sequence, code, expect=0):
    return run("receipt", "enter", "--home", site.isolated, sequence, code, code=expect)


def test_a_code_typed_in_confirms_the_whole_bundle_and_says_that_it_proves_less(delivered):
    site = delivered
    pair(site)
    result = enter(site, 1, code_of(site))
    assert (
        "3 records newly confirmed, by a code of relay-1; a receipt would prove more"
        in result.output
    )
    status = site.status()
    assert status["confirmed"]["usage_report"]["records"] == 3
    assert status["bundles"][0]["proofs"] == ["code"]
    assert "confirmed by code" in run("status", "--home", site.isolated).output
    assert (
        "proves less than a receipt"
        in run("receipt", "code", "--home", site.workstation, "bank-a.prod").output
    )
    site.apply()
    assert site.status()["bundles"][0]["proofs"] == ["code", "receipt"]


def test_a_code_of_another_bundle_or_another_pairing_is_refused(delivered, beacon):
    site = delivered
    pair(site)
    first = code_of(site)
    site.collect([report(9, 9)])
    site.export()
    enter(site, 2, first, expect=4)
    run("receipt", "pair", "--home", site.workstation, "bank-a.prod", "--new")
    enter(site, 1, code_of(site), expect=4)
    enter(site, 7, first, expect=2)
    assert site.status()["confirmed"] == {}


def test_there_is_no_code_for_a_bundle_that_is_not_delivered_as_a_whole(site):
    site.collect([report(n, n) for n in range(2)])
    site.export()
    with serving(lambda c, b, n: c.sendall(answer(204 if n else 422))) as server:
        site.import_(server.url, "--in-flight", "1", code=6)
    pair(site)
    result = run("receipt", "code", "--home", site.workstation, "bank-a.prod", code=2)
    assert "no such bundle was delivered as a whole" in result.output


def test_a_pairing_secret_is_private_never_replaced_by_itself_and_checked_when_typed(delivered):
    site = delivered
    pair(site)
    [path] = (site.workstation / "codes").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    said = run("receipt", "pair", "--home", site.workstation, "bank-a.prod", code=2).output
    assert "--new replaces it" in said
    assert path.read_bytes() == before
    said = run(
        "receipt", "pair", "--home", site.isolated, "relay-1", "--new", stdin=b"AAAA-BBBB\n", code=3
    ).output
    assert "mistyped" in said
    for name in ("../x", "", "a/b", "x" * 64):
        run("receipt", "pair", "--home", site.workstation, name, code=2)


def test_codes_need_a_pairing_and_a_choice_between_several(delivered):
    site = delivered
    assert (
        "airgap receipt pair"
        in run("receipt", "code", "--home", site.workstation, "bank-a.prod", code=2).output
    )
    assert "no workstation is paired" in enter(site, 1, "A" * 16, expect=2).output
    pair(site)
    (site.isolated / "codes" / "relay-2.secret").write_text("x")
    assert "--importer" in enter(site, 1, "A" * 16, expect=2).output


def prune(site, older_than="0s"):
    result = run("outbox", "prune", "--home", site.isolated, "--older-than", older_than, "--json")
    return json.loads(result.stdout)["pruned"]


def test_pruning_takes_confirmed_bundles_only_and_forgets_no_id_and_no_total(delivered, beacon):
    site = delivered
    values = [report(n, n) for n in range(3)]
    site.collect([*values, report(7, 7)])
    site.export()
    assert prune(site) == []
    site.apply()
    before = site.status()
    assert prune(site, "1h") == []
    assert prune(site) == [1]
    after = site.status()
    assert after["confirmed"] == before["confirmed"]
    assert after["covered"] == before["covered"]
    assert [b["pruned"] for b in after["bundles"]] == [True, False]
    assert [p.name for p in (site.isolated / "bundles").iterdir()] == ["bank-a.prod-000002.airgap"]
    again = json.loads(site.collect([*values, report(7, 7)], "--json").stdout)
    assert again["new"] == {}
    assert prune(site) == []
    # Receipts of a pruned bundle are still held against its ids.
    said = site.apply().output
    assert "applied before" in said
    site.import_(beacon.url)
    site.apply()
    assert site.status()["confirmed"]["usage_report"]["records"] == 4


def test_a_bundle_with_a_dead_letter_is_never_pruned(site):
    site.collect([report(n, n) for n in range(2)])
    site.export()
    with serving(lambda c, b, n: c.sendall(answer(204 if n else 422))) as server:
        site.import_(server.url, "--in-flight", "1", code=6)
    site.apply()
    assert prune(site) == []
    assert (site.isolated / "bundles" / site.bundle.name).exists()


def test_pruning_gives_space_back(site, beacon):
    tags = {f"t{i}": "x" * 200 for i in range(5)}
    allowed = [f"--allow=usage_report/tags/{name}" for name in tags]
    days = [f"2026-02-{1 + n % 28:02d}T00:00:00Z" for n in range(300)]
    site.collect(
        [report(n, n % 24, to_timestamp=day, tags=tags) for n, day in enumerate(days)], *allowed
    )
    with serving(always(answer(204))) as server:
        site.export()
        site.import_(server.url)
    site.apply()
    before = (site.isolated / "outbox.sqlite").stat().st_size
    prune(site)
    assert (site.isolated / "outbox.sqlite").stat().st_size < before / 2
