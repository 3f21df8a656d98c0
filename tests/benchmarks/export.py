"""What collecting and exporting cost, beside a bare loop over the same records.

    python tests/benchmarks/export.py
    python tests/benchmarks/export.py --records 1000000

The bare loop parses (orjson), validates (jsonschema-rs), packs (msgpack), compresses (zstd) and hashes
(SHA-256), and keeps nothing; from PostgreSQL it fetches through a server-side cursor as well. ``airgap
collect`` and ``airgap export`` are the commands themselves, without what starting Python takes. Each
step runs in a process of its own, in turns. Only ratios mean something on another machine.
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

KINDS = {"usage_report": "remote_metrics", "trace_transactions": "trace_count_transactions"}
SCHEMAS = Path(__file__).parent.parent.parent / "schemas"
LICENSE = "lcl_EXAMPLE_not_a_real_key"
CHUNK = 1024**2
SERVERS = 50
"""Servers that report at the same times, each with tags of its own."""
_PERIOD = 300
TAGS = {
    "langgraph.python.version": "1.2.0",
    "langgraph_api.version": "0.16.7",
    "langgraph.platform.variant": "standard",
    "langgraph.platform.host": "self-hosted",
    "langgraph.platform.tenant_id": "3a1c2b6f-4430-4b92-8a5b-79b8b567bbc1",
    "langgraph.platform.project_id": "c5b5f53a-4716-4326-8967-d4f7f7799735",
    "langgraph.platform.plan": "enterprise",
    "user_app.uses_indexing": "true",
    "user_app.uses_custom_app": "false",
    "user_app.uses_custom_auth": "true",
    "user_app.uses_thread_ttl": "true",
    "user_app.uses_store_ttl": "false",
}
_FILL = {
    "usage_report": """
INSERT INTO remote_metrics (id, from_timestamp, to_timestamp, received_at, measures, tags, logs)
SELECT md5('metric ' || n)::uuid, at, at + interval '5 minutes', at + interval '6 minutes',
    jsonb_build_object('langgraph.platform.runs', n * 2654435761 % 1000,
        'langgraph.platform.nodes', n * 2654435761 / 1000 % 10000,
        'langgraph.platform.py_graphs', 3, 'langgraph.platform.js_graphs', 0),
    '{tags}'::jsonb || jsonb_build_object('langgraph.platform.revision', 'r' || n % {servers}), '[]'
FROM generate_series(1, {records}) AS n,
    LATERAL (SELECT timestamptz '2024-01-01 00:00:00+00' + n / {servers} * interval '5 minutes' AS at)
        AS w;
ANALYZE""",
    "trace_transactions": """
INSERT INTO trace_count_transactions
SELECT md5('transaction ' || n)::uuid, md5('tenant ' || n % 7)::uuid, md5('session ' || n % 97)::uuid,
    n % 97 + 1, at, at + interval '5 minutes', at - interval '1 hour', at, 'pending', n % 3,
    'base_trace', 'c5b5f53a-4716-4326-8967-d4f7f7799735', 'local', at
FROM generate_series(1, {records}) AS n,
    LATERAL (SELECT timestamptz '2024-01-01 00:00:00+00' + n / {servers} * interval '5 minutes' AS at)
        AS w;
ANALYZE""",
}


def uuid(text: str) -> str:
    """Return a made-up UUID that follows from a text."""
    found = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))


def moment(number: int) -> str:
    """Return the start of the n-th five minutes."""
    at = time.gmtime(1_704_067_200 + _PERIOD * number)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", at)


def request(kind: str, number: int) -> dict[str, Any]:
    """Return the n-th made-up request: a report of about 730 bytes, or a transaction."""
    start, end = moment(number // SERVERS), moment(number // SERVERS + 1)
    if kind == "usage_report":
        mixed = number * 2_654_435_761 % 2**32
        return {
            "license": LICENSE,
            "from_timestamp": start,
            "to_timestamp": end,
            "tags": {**TAGS, "langgraph.platform.revision": f"r{number % SERVERS}"},
            "measures": {
                "langgraph.platform.runs": mixed % 1000,
                "langgraph.platform.nodes": mixed // 1000 % 10_000,
                "langgraph.platform.py_graphs": 3,
                "langgraph.platform.js_graphs": 0,
            },
            "logs": [],
        }
    return {
        "id": uuid(f"transaction {number}"),
        "tenant_id": uuid(f"tenant {number % 7}"),
        "session_id": uuid(f"session {number % 97}"),
        "trace_count": number % 97 + 1,
        "start_insertion_time": start,
        "end_insertion_time": end,
        "start_interval_time": start,
        "end_interval_time": end,
        "status": "completed",
        "num_failed_send_attempts": number % 3,
        "transaction_type": "base_trace",
        "organization_id": "c5b5f53a-4716-4326-8967-d4f7f7799735",
    }


def bare(kind: str, bodies: Iterable[Any]) -> int:
    """Parse, validate, pack, compress and hash; return the compressed bytes."""
    import jsonschema_rs
    import msgpack
    import zstandard

    schema = json.loads((SCHEMAS / "kinds" / f"{kind}.schema.json").read_bytes())
    valid = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True).is_valid
    pack = msgpack.Packer(use_bin_type=True, strict_types=True).pack
    compress = zstandard.ZstdCompressor(level=3).compress
    written, pending, size = 0, [], 0
    for body in bodies:
        if not valid(body):
            raise ValueError("a record breaks its schema")
        data = pack(body)
        pending.append(data)
        size += len(data)
        if size >= CHUNK:
            written += _closed(compress, pending)
            pending, size = [], 0
    return written + _closed(compress, pending)


def _closed(compress: Any, pending: list[bytes]) -> int:
    data = compress(b"".join(pending))
    hashlib.sha256(data).digest()
    return len(data)


def of_lines(path: Path) -> Iterator[Any]:
    """Yield the bodies of JSON lines, without their licence."""
    import orjson

    with path.open("rb") as lines:
        for line in lines:
            body = orjson.loads(line)
            body.pop("license", None)
            yield body


def of_database(kind: str, url: str) -> Iterator[Any]:
    """Yield what the rows of LangSmith's table hold, as they come through a server-side cursor."""
    import orjson
    import psycopg

    rfc = '\'YYYY-MM-DD"T"HH24:MI:SS"Z"\''
    columns = (
        f"to_char(from_timestamp, {rfc}), to_char(to_timestamp, {rfc}), tags::text, measures::text"
        if kind == "usage_report"
        else f"id::text, tenant_id::text, session_id::text, trace_count,"
        f" to_char(insertion_time_range_start, {rfc}), to_char(insertion_time_range_end, {rfc}),"
        f" to_char(interval_start, {rfc}), to_char(interval_end, {rfc}), status,"
        " num_failed_send_attempts, transaction_type, organization_id::text"
    )
    order = "from_timestamp" if kind == "usage_report" else "insertion_time_range_start"
    names = tuple(request("trace_transactions", 0))
    with psycopg.connect(url) as connection, connection.cursor(name="bare") as cursor:
        connection.execute("SET TimeZone = 'UTC'")
        cursor.itersize = 2000
        cursor.execute(f"SELECT {columns} FROM {KINDS[kind]} ORDER BY {order}, id")
        for row in cursor:
            if kind == "usage_report":
                start, end, tags, measures = row
                yield {
                    "from_timestamp": start,
                    "to_timestamp": end,
                    "tags": orjson.loads(tags),
                    "measures": orjson.loads(measures),
                    "logs": [],
                }
            else:
                yield dict(zip(names, row, strict=True))


def peak() -> float:
    """Return the most memory that this process has held, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell how much memory a process has held")


def child(step: str, kind: str, source: str, root: Path) -> dict[str, float]:
    """Run one step in this process; return seconds, MiB and what it wrote."""
    if step == "bare":
        is_url = source.startswith("postgresql:")
        bodies = of_database(kind, source) if is_url else of_lines(Path(source))
        started, used = time.perf_counter(), time.process_time()
        written = bare(kind, bodies)
        return took(started, used, written)
    from airgap.cli.main import cli

    home, stick = root / "isolated", root / "stick"
    arguments = {
        "collect": [
            *("collect", "--home", home, source, "--license-file", root / "license.key"),
            *(("--table", KINDS[kind]) if source.startswith("postgresql:") else ()),
        ],
        "export": ["export", "--home", home, "--to", stick],
    }[step]
    with contextlib.suppress(SystemExit):
        cli.main([*map(str, arguments), "--help"], standalone_mode=False)
    started, used = time.perf_counter(), time.process_time()
    cli.main([*map(str, arguments), "--quiet"], standalone_mode=False)
    figures = took(started, used, 0)
    figures["bytes"] = sum(path.stat().st_size for path in stick.glob("*.airgap"))
    return figures


def took(started: float, used: float, written: int) -> dict[str, float]:
    """Return what a step took since its start: seconds, of these the processors', MiB, and bytes.

    What a process that it started took is in it: as if both had held the most at the same time.
    """
    other = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - used + other.ru_utime + other.ru_stime,
        "peak": peak() + other.ru_maxrss / 1024,
        "bytes": written,
    }


def stepped(step: str, kind: str, source: str, root: Path) -> dict[str, float]:
    """Return what one step took, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", step, kind, source, root],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{step} of {kind} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(kind: str, source: str, rounds: int) -> list[dict[str, dict[str, float]]]:
    """Return what each round's steps took, each time into a new home."""
    from support import Site

    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="airgap-bench-") as folder:
            site = Site.build(Path(folder))
            found.append(
                {
                    step: stepped(step, kind, source, site.root)
                    for step in ("bare", "collect", "export")
                }
            )
    return found


def told(
    kind: str, name: str, records: int, rounds: list[dict[str, dict[str, float]]]
) -> list[dict[str, Any]]:
    """Return one line of the table per step, and one for collecting and exporting together."""
    for one in rounds:
        together = one["collect"], one["export"]
        one["both"] = {
            "seconds": sum(step["seconds"] for step in together),
            "processor": sum(step["processor"] for step in together),
            "peak": max(step["peak"] for step in together),
            "bytes": one["export"]["bytes"],
        }
    return [
        {
            "kind": kind,
            "source": name,
            "step": step,
            "rate": records / statistics.median(one[step]["seconds"] for one in rounds),
            "ratio": against_bare(rounds, step, "seconds"),
            "processor_ratio": against_bare(rounds, step, "processor"),
            "peak": max(one[step]["peak"] for one in rounds),
            "bytes": rounds[0][step]["bytes"] / records,
        }
        for step in ("bare", "collect", "export", "both")
    ]


def against_bare(rounds: list[dict[str, dict[str, float]]], step: str, figure: str) -> float:
    """Return how many times of a step the bare loop would do in the step's time."""
    return statistics.median(one["bare"][figure] / one[step][figure] for one in rounds)


@contextlib.contextmanager
def source_of(kind: str, name: str, records: int, server: Any) -> Iterator[str]:
    """Make a source of so many records, and yield its path or URL."""
    if name == "postgresql":
        tags = json.dumps(TAGS)
        server.execute(_FILL[kind].format(tags=tags, servers=SERVERS, records=records))
        yield server.url
        return
    with tempfile.TemporaryDirectory(prefix="airgap-lines-") as root:
        path = Path(root) / f"{kind}.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for number in range(records):
                lines.write(json.dumps(request(kind, number), separators=(",", ":")) + "\n")
        yield str(path)


def main() -> None:
    """Print the figures as a table of this page's kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--source", choices=("lines", "postgresql"), action="append")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        step, kind, source, root = options.child
        with contextlib.redirect_stdout(io.StringIO()):
            figures = child(step, kind, source, Path(root))
        print(json.dumps(figures))
        return
    import postgres

    found: list[dict[str, Any]] = []
    sources = options.source or ["lines", "postgresql"]
    print(
        f"Python {platform.python_version()}, {options.records:,} records, median of {options.rounds}"
    )
    print(
        "| kind | source | step | records/s | against bare | processor | peak, MiB | bytes a record |\n"
        "|---|---|---|---:|---:|---:|---:|---:|"
    )
    with contextlib.ExitStack() as stack:
        server = None
        if "postgresql" in sources and postgres.binaries() is None:
            print("PostgreSQL is not installed, so it is left out", file=sys.stderr)
            sources.remove("postgresql")
        if "postgresql" in sources:
            server = stack.enter_context(postgres.running())
        for kind, name in itertools.product(options.kind or KINDS, sources):
            with source_of(kind, name, options.records, server) as source:
                lines = told(kind, name, options.records, measured(kind, source, options.rounds))
            found += lines
            for line in lines:
                print(
                    f"| {kind} | {name} | {line['step']} | {line['rate']:,.0f} | {line['ratio']:.2f}"
                    f" | {line['processor_ratio']:.2f} | {line['peak']:.0f} | {line['bytes']:.1f} |",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
