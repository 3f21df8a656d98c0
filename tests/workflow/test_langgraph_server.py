"""The real LangGraph server: every run and node that it made arrives at the beacon, and once."""

import signal
from pathlib import Path

from captures import Capture, capture
from langgraph_server import NODES, Between, Server, langgraph, needs_server, until
from support import Site

from airgap.replay.rehearsal import RehearsalBeacon

pytestmark = needs_server

RUNS, NODE_COUNT = "langgraph.platform.runs", "langgraph.platform.nodes"


def arrive(endpoint: Capture, *servers: Server) -> None:
    """Wait until all that was made is in the outbox."""
    holds(endpoint, sum(server.runs for server in servers))


def holds(endpoint: Capture, made: int) -> None:
    """Wait until so many runs wait in the outbox, with all their nodes.

    The server counts a run before its nodes, so a report can hold the one without the others.
    """
    wanted = (made, NODES * made)
    until(
        lambda: tuple(endpoint.waiting().get(name, 0) for name in (RUNS, NODE_COUNT)) == wanted,
        f"{made} runs in the outbox",
    )


def assert_delivered(site: Site, beacon: RehearsalBeacon, *servers: Server) -> None:
    """Export in the clear, import, and compare what the beacon has with what was made."""
    site.export("--compression", "none")
    site.import_(beacon.url)
    made = sum(server.runs for server in servers)
    sums = beacon.totals.as_map()["usage_report"]["sums"]
    assert (sums[RUNS], sums[NODE_COUNT]) == (made, NODES * made)
    site.apply()
    assert site.status()["confirmed"]["usage_report"]["sums"][RUNS] == made


def test_runs_and_nodes_at_the_beacon_are_those_made_whatever_happens_on_the_way(
    site: Site, beacon: RehearsalBeacon
):
    with capture(site) as endpoint, Between(endpoint.port) as between:
        with langgraph(between.url) as server:
            server.make(5)
            arrive(endpoint, server)

            # Answers are lost: the server sends the same start again, with more in it.
            between.lose = True
            server.make(4)
            until(lambda: between.lost >= 2, "two lost answers")
            server.make(3)
            arrive(endpoint, server)
            # What was not answered leaves in a bundle all the same.
            site.export()
            server.make(2)
            lost = between.lost
            until(lambda: between.lost > lost + 1, "more lost answers")
            between.lose = False
            server.make(1)
            holds(endpoint, 3)

            # The endpoint is killed, and comes back.
            endpoint.end(signal.SIGKILL)
            server.make(6)
            endpoint.start()
            holds(endpoint, 9)

            # Slow answers.
            between.delay = 0.5
            server.make(3)
            holds(endpoint, 12)
        assert endpoint.end() == 0
        assert_delivered(site, beacon, server)


def test_replicas_that_report_at_the_same_time_add_up(site: Site, beacon: RehearsalBeacon):
    with capture(site) as endpoint:
        with langgraph(endpoint.url) as one, langgraph(endpoint.url) as other:
            one.make(4)
            other.make(3)
            arrive(endpoint, one, other)
        assert endpoint.end() == 0
        assert_delivered(site, beacon, one, other)


def test_with_tracing_left_on_nothing_of_a_run_is_kept_or_said(site: Site, beacon: RehearsalBeacon):
    marker = "patient-4711-of-ward-9"
    with capture(site) as endpoint, Between(endpoint.port) as between:
        tracing = {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_API_KEY": "lsv2_pt_EXAMPLE_not_a_real_key",
            "LANGSMITH_ENDPOINT": between.url,
        }
        with langgraph(between.url, **tracing) as server:
            # Refused unread, so the marker is not sent in every run.
            until(lambda: server.make(1, marker) or marker.encode() in between.sent, "run data")
            arrive(endpoint, server)
        assert endpoint.end() == 0
        assert_delivered(site, beacon, server)
    warnings = [line for line in endpoint.said.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "LANGSMITH_TRACING=false" in warnings[0]
    kept = [path for folder in (site.isolated, site.stick) for path in folder.rglob("*")]
    found = b"".join(path.read_bytes() for path in filter(Path.is_file, kept))
    assert RUNS.encode() in site.bundle.read_bytes(), "what is searched is in the clear"
    assert marker.encode() not in found
    assert marker not in endpoint.said


def test_the_servers_own_metrics_come_in_under_its_offline_licence(
    site: Site, beacon: RehearsalBeacon
):
    licence = "EXAMPLE-offline-licence-not-a-real-one"
    (site.root / "license.key").write_text(licence)
    with capture(site) as endpoint:
        metrics = {
            "LANGGRAPH_CLOUD_LICENSE_KEY": licence,
            "LANGGRAPH_METRICS_ENABLED": "true",
            "LANGGRAPH_METRICS_ENDPOINT": f"{endpoint.url}/v1/beacon/v1/metrics",
            "LANGGRAPH_METRICS_EXPORT_INTERVAL_MS": "300",
        }
        with langgraph(endpoint.url, **metrics):
            until(lambda: "otlp_metrics" in site.status()["waiting"], "the server's metrics")
        assert endpoint.end() == 0
    assert licence not in endpoint.said
    site.export()
    site.import_(beacon.url)
    metrics_seen = [seen for seen in beacon.seen if seen.kind == "otlp_metrics"]
    assert metrics_seen
    assert all(b"lg_api_num_pending_runs" in seen.body for seen in metrics_seen)
    assert licence.encode() not in site.bundle.read_bytes()
