"""airgap from Python: the journey in ten lines, as the README shows it, with the commands' promises."""

import json
import re
import subprocess
import sys

import pytest
from langgraph_server import free_port
from support import LICENSE, REPOSITORY, Site, report, write_lines

import airgap
from airgap import AirgapError, IsolatedHost, Workstation
from airgap.audit import check
from airgap.errors import InputRefusedError, TrustError, UnreachableError, UsageError
from airgap.replay.importing import Sending

README = (REPOSITORY / "README.md").read_text()


def journey() -> str:
    """Return the README's block of Python."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return block


@pytest.fixture
def sides(site: Site) -> tuple[IsolatedHost, Workstation]:
    return IsolatedHost(site.isolated), Workstation(site.workstation)


def test_the_readmes_ten_lines_make_the_whole_journey(site: Site, beacon, monkeypatch):
    """Run as they stand, but for where the beacon is and where the folders are."""
    block = journey()
    lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 10
    write_lines(site.root / "usage.jsonl", [report(3, hour) for hour in range(4)])
    here = block.replace('"/srv/airgap"', repr(str(site.isolated)))
    here = here.replace('"/srv/relay"', repr(str(site.workstation)))
    here = here.replace('"/media/stick"', repr(str(site.stick)))
    here = here.replace('"/etc/airgap/license.key"', repr(str(site.license_file)))
    urls = {"beacon": beacon.url, "api": beacon.url}
    there = re.sub(r"(import_bundles\(.*?)\)\n", rf"\1, urls={urls!r})\n", here)
    assert there.count(beacon.url) == 2
    monkeypatch.chdir(site.root)
    found: dict[str, object] = {}
    exec(compile(there, "README.md", "exec"), found)
    assert beacon.totals.kinds["usage_report"].sums["langgraph.platform.runs"] == 12
    host = found["host"]
    assert isinstance(host, IsolatedHost)
    assert host.status().confirmed.kinds["usage_report"].sums["langgraph.platform.runs"] == 12


def test_what_a_script_adds_is_counted_once(sides):
    host, _ = sides
    first = host.add([report(3, 0), report(4, 1)], license_files=[])
    again = host.add([report(3, 0), report(4, 1)])
    assert (first.read.records, first.new.records) == (2, 2)
    assert (again.read.records, again.new.records) == (2, 0)
    assert again.waiting.kinds["usage_report"].sums["langgraph.platform.runs"] == 7


def test_a_script_gets_the_same_refusals_as_an_operator(sides, site: Site):
    host, station = sides
    with pytest.raises(InputRefusedError) as refused:
        host.add([{**report(3), "surprise": 1}])
    assert "surprise" in str(refused.value) + str(refused.value.found) + str(refused.value.where)
    assert LICENSE not in str(refused.value.as_json())
    assert host.status().waiting.records == 0
    with pytest.raises(UsageError):
        station.import_bundles()
    with pytest.raises(UsageError):
        IsolatedHost(site.workstation)
    assert issubclass(TrustError, AirgapError)


def test_a_refused_file_and_an_unfinished_delivery_are_in_the_result(sides, site: Site, beacon):
    host, station = sides
    host.add([report(1, hour) for hour in range(3)])
    (path,) = host.export(site.stick).paths
    (site.stick / "damaged.airgap").write_bytes(path.read_bytes()[:-9])
    nobody = f"http://127.0.0.1:{free_port()}"
    done = station.import_bundles(
        site.stick,
        license_files=[site.license_file],
        urls={"beacon": nobody, "api": nobody},
        sending=Sending(attempts=1),
    )
    refused = [one for one in done.taken.imported if one.error is not None]
    assert [one.path.name for one in refused] == ["damaged.airgap"]
    assert isinstance(done.problem, UnreachableError)
    assert (done.count("waiting"), done.count("delivered")) == (3, 0)
    later = station.import_bundles(
        resume=True,
        license_files=[site.license_file],
        urls={"beacon": beacon.url, "api": beacon.url},
    )
    assert later.problem is None
    assert later.count("delivered") == 3 == beacon.totals.records


def test_a_scripts_runs_are_in_the_audit_log(sides, site: Site):
    host, _ = sides
    host.add([report(1)])
    with pytest.raises(InputRefusedError):
        host.add([{"no": "report"}])
    log = site.isolated / "audit.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    mine = [(e["event"], e.get("exit")) for e in entries if e["command"] == "python: add"]
    assert mine == [("begin", None), ("collected", None), ("end", 0), ("begin", None), ("end", 3)]
    assert not check(log).unended


def test_the_public_names_load_nothing_before_they_are_used():
    code = (
        "import sys, airgap; before = set(sys.modules); airgap.__version__;"
        "assert not {m for m in sys.modules if m.startswith('airgap.')}, sys.modules;"
        "airgap.IsolatedHost; assert 'airgap.replay' not in sys.modules;"
        "assert not {'socket', 'ssl', 'http', 'pycurl', 'httpx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(airgap.__all__) == {"AirgapError", "IsolatedHost", "Workstation", "__version__"}
    with pytest.raises(AttributeError):
        airgap.nothing  # noqa: B018
