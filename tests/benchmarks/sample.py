"""Made-up requests as benchmarks need them: many, all different, the same in each run."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from support import LICENSE

SERVERS = 20
"""How many servers report the same hours."""
_START = datetime(2020, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


def _uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128)))


def usage_reports(count: int) -> Iterator[dict[str, Any]]:
    """Yield usage reports of about 730 bytes of JSON each: hours of ``SERVERS`` servers."""
    random = Random("usage reports")
    servers = [
        {
            "langgraph.python.version": "1.2.0",
            "langgraph_api.version": "0.16.7",
            "langgraph_checkpoint.version": "4.0.1",
            "langgraph.platform.revision": f"{random.getrandbits(28):07x}",
            "langgraph.platform.host": "self-hosted",
            "langgraph.platform.tenant_id": _uuid(random),
            "langgraph.platform.project_id": _uuid(random),
            "langgraph.platform.plan": "enterprise",
            "langgraph.platform.uses_custom_auth": "False",
            "user_app.uses_indexing": "true",
            "user_app.uses_custom_app": "false",
        }
        for _ in range(SERVERS)
    ]
    for number in range(count):
        start = _START + number // SERVERS * _HOUR
        runs = random.randrange(20_000)
        yield {
            "license": LICENSE,
            "from_timestamp": f"{start:%Y-%m-%dT%H:%M:%SZ}",
            "to_timestamp": f"{start + _HOUR:%Y-%m-%dT%H:%M:%SZ}",
            "tags": servers[number % SERVERS],
            "measures": {
                "langgraph.platform.runs": runs,
                "langgraph.platform.nodes": runs * 3 + random.randrange(100),
                "langgraph.platform.py_graphs": 3,
                "langgraph.platform.js_graphs": 0,
            },
            "logs": [],
        }


def transactions(count: int) -> Iterator[dict[str, Any]]:
    """Yield trace transactions: of five workspaces, some hundred an hour."""
    random = Random("trace transactions")
    tenants = [_uuid(random) for _ in range(5)]
    projects = [_uuid(random) for _ in range(40)]
    organization = _uuid(random)
    for number in range(count):
        start = _START + number // 300 * _HOUR
        first, last = f"{start:%Y-%m-%dT%H:%M:%SZ}", f"{start + _HOUR:%Y-%m-%dT%H:%M:%SZ}"
        inserted = start + timedelta(microseconds=random.randrange(3_600_000_000))
        yield {
            "id": _uuid(random),
            "tenant_id": random.choice(tenants),
            "session_id": random.choice(projects),
            "trace_count": random.randrange(1, 500),
            "start_insertion_time": f"{inserted:%Y-%m-%dT%H:%M:%S.%fZ}",
            "end_insertion_time": f"{inserted + timedelta(minutes=5):%Y-%m-%dT%H:%M:%S.%fZ}",
            "start_interval_time": first,
            "end_interval_time": last,
            "status": "pending",
            "num_failed_send_attempts": 0,
            "transaction_type": random.choice(["base_trace", "long_lived_trace"]),
            "organization_id": organization,
        }
