"""Start the real LangGraph server as its own command line does, with a shorter reporting interval.

Run by the server's own interpreter: ``launch.py PORT SECONDS``.
"""

import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from langgraph_api.cli import run_server

_start = uvicorn.run


def _started(*arguments: Any, **options: Any) -> None:
    # Only here is the environment as the server wants it, so that its modules can be loaded.
    import langgraph_api.metadata

    langgraph_api.metadata.INTERVAL = float(sys.argv[2])
    if os.environ.get("LANGGRAPH_METRICS_ENABLED"):
        # The licensed image does this when it starts; the runtime in memory leaves it out.
        from langgraph_api.self_hosted_metrics import initialize_self_hosted_metrics

        initialize_self_hosted_metrics()
    _start(*arguments, **options)


uvicorn.run = _started
run_server(
    "127.0.0.1",
    int(sys.argv[1]),
    graphs={"tiny": f"{Path(__file__).parent / 'graph.py'}:graph"},
    n_jobs_per_worker=4,
    disable_persistence=True,
    allow_blocking=True,
)
