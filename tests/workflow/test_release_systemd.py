"""The units that airgap ships, as they stand, under a real systemd: capture, collect, export, import, overdue."""

import json
from collections.abc import Iterator
from pathlib import Path

import booting
import pytest
from booting import EXAMPLES, Booted
from releasing import Installed
from support import SOURCE, Site, report, run

SERVICES = ("capture", "collect", "export", "import", "resume", "status")
TIMERS = ("collect", "export", "import", "resume", "status")
POST = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", 8787, timeout=30)
connection.request("POST", "/v1/metadata/submit", sys.argv[1], {"Content-Type": "application/json"})
print(connection.getresponse().status)
"""
CONNECT = "import socket; print(socket.socket().connect_ex(('127.0.0.1', 8787)))"


@pytest.fixture
def booted(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    reason = booting.no_systemd()
    if reason:
        pytest.skip(reason)
    with Booted(installed, tmp_path_factory.mktemp("booted")) as system:
        yield system


def test_units_capture_collect_and_export_without_a_network_and_tell_when_a_report_is_overdue(
    booted: Booted, tmp_path: Path
):
    booted.airgap("init", "--source", SOURCE)
    booted.airgap("key", "generate", "--no-passphrase")
    usage = "".join(json.dumps(report(n, n)) + "\n" for n in range(3))
    booted.write("/var/log/langgraph/usage.jsonl", usage)
    booted.run("systemctl", "start", "airgap-collect.service", "airgap-capture.socket")
    body = report(7, 9, api_key="lsv2_pt_EXAMPLE_not_a_real_key")
    del body["license"]
    assert booted.run("/usr/bin/python3", "-c", POST, json.dumps(body)).strip() == "204"
    # It answered, and can call nobody, not even over loopback: the socket is systemd's.
    within = ("nsenter", "-t", booted.shown("airgap-capture.service", "MainPID"), "-n")
    assert booted.run("/usr/bin/python3", "-c", CONNECT).strip() == "0"
    assert booted.run(*within, "/usr/bin/python3", "-c", CONNECT).strip() != "0"

    booted.run("systemctl", "start", "airgap-export.service")
    assert booted.shown("airgap-export.service", "ConditionResult") == "no"
    assert booted.run("ls", "/media/stick") == "", "no stick is mounted: nothing is written"
    (tmp_path / "stick").mkdir()
    booted.plug_in(tmp_path / "stick")
    booted.run("systemctl", "start", "airgap-export.service")
    told = json.loads(booted.airgap("inspect", f"/media/stick/{SOURCE}-000001.airgap", "--json"))
    totals = told["manifest"]["totals"]["usage_report"]
    assert (totals["records"], totals["sums"]["langgraph.platform.runs"]) == (4, 0 + 1 + 2 + 7)

    booted.run("systemctl", "start", "airgap-status.service")  # unconfirmed, and for a moment only
    late = "status --check --quiet --max-age 1s"
    booted.write(
        "/etc/systemd/system/airgap-status.service.d/late.conf",
        f"[Service]\nExecStart=\nExecStart=/opt/airgap/bin/airgap {late}\n",
    )
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "start", "airgap-status.service", code=1)
    assert booted.shown("airgap-status.service", "ExecMainStatus") == "10"
    booted.heard("airgap-status failed", "-u", "airgap-alert@airgap-status", "-t", "airgap")


def test_units_import_what_is_on_the_stick_once_and_deliver_later_what_the_beacon_did_not_take(
    booted: Booted, exported: Site
):
    booted.airgap("init", "--workstation", "relay-1")
    booted.airgap("key", "generate", "--no-passphrase")
    key = exported.isolated / "keys" / "default.pub"
    booted.write("/var/lib/airgap/bank-a.pub", key.read_text())
    booted.airgap(
        *("trust", "add", "/var/lib/airgap/bank-a.pub", "--role", "exporter", "--source", SOURCE)
    )
    place = "http://localhost:8321"
    booted.write(
        "/var/lib/airgap/airgap.toml",
        booted.run("cat", "/var/lib/airgap/airgap.toml")
        + f'\n[import]\nbeacon_url = "{place}"\napi_url = "{place}"\nattempts = 1\n',
    )
    booted.run("systemctl", "start", "airgap-import.service")
    assert booted.shown("airgap-import.service", "ConditionResult") == "no"
    booted.plug_in(exported.stick)
    booted.run("systemctl", "start", "airgap-import.service", code=1)
    assert booted.shown("airgap-import.service", "ExecMainStatus") == "7"
    alert = ("-u", "airgap-alert@airgap-import", "-t", "airgap", "-p", "err")
    booted.heard("airgap-import failed", *alert)

    beacon = ("/opt/airgap/bin/airgap", "rehearse", "--json")
    booted.run("systemd-run", "--unit=beacon", "--property=DynamicUser=yes", *beacon)
    booted.heard("127.0.0.1:8321", "-u", "beacon")
    for name in ("resume", "import", "import"):
        booted.run("systemctl", "start", f"airgap-{name}.service")
    booted.run("systemctl", "kill", "--signal=INT", "beacon")
    counted = json.loads(booted.heard('{"', "-u", "beacon"))
    assert counted["totals"]["usage_report"]["records"] == 3, "each was delivered once"
    # One for what was left waiting, one for what was delivered; none for an import of nothing new.
    names = sorted(p.name for p in exported.stick.glob("*.receipt"))
    assert names == [f"{SOURCE}-000001-r{number}.receipt" for number in (1, 2)]
    public = exported.root / "relay.pub"
    public.write_text(booted.run("cat", f"{booting.HOME}/keys/default.pub"))
    run("trust", "add", "--home", exported.isolated, public, "--role", "importer")
    exported.apply()
    assert exported.status()["confirmed"]["usage_report"]["records"] == 3


def test_timers_are_armed_and_every_service_is_confined_in_the_same_way(booted: Booted):
    timers = [f"airgap-{name}.timer" for name in TIMERS]
    booted.run("systemctl", "enable", "--now", *timers)
    listed = booted.run("systemctl", "list-timers", "--no-pager")
    assert [timer for timer in timers if timer not in listed] == []
    assert sorted(p.name for p in EXAMPLES.glob("*.timer")) == sorted(timers)
    blocks = set()
    for name in SERVICES:
        path = EXAMPLES / f"airgap-{name}.service"
        blocks.add(path.read_text().partition("User=airgap\n")[2])
        booted.run("systemd-analyze", "security", "--offline=true", "--threshold=15", path)
    assert len(blocks) == 1
