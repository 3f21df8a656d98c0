"""A real PostgreSQL server with LangSmith's tables, for tests: loopback and a Unix socket only.

The columns are the published ones (the queries of LangSmith's Helm chart); the values are made up.
The server never runs as root, syncs nothing to disk, and is gone with the test session.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

OWNER = "langsmith"
"""The role that owns the tables, as LangSmith's own does."""
READER = "reader"
"""A role that may read the tables and do nothing else."""
DATABASE = "langsmith"
ORGANIZATION = "c5b5f53a-4716-4326-8967-d4f7f7799735"
TENANT = "3a1c2b6f-4430-4b92-8a5b-79b8b567bbc1"
TRANSACTIONS = "trace_count_transactions"

_SCHEMA = """
CREATE TABLE organizations (id uuid PRIMARY KEY, display_name text);
CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    organization_id uuid REFERENCES organizations,
    display_name text
);
CREATE TABLE trace_count_transactions (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    session_id uuid,
    trace_count integer NOT NULL,
    insertion_time_range_start timestamptz NOT NULL,
    insertion_time_range_end timestamptz NOT NULL,
    interval_start timestamptz NOT NULL,
    interval_end timestamptz NOT NULL,
    status text NOT NULL,
    num_failed_send_attempts integer NOT NULL DEFAULT 0,
    transaction_type text NOT NULL,
    organization_id uuid,
    source text NOT NULL DEFAULT 'local',
    created_at timestamptz NOT NULL DEFAULT now(),
    backfill_id uuid,
    backfilled_at timestamptz
);
CREATE TABLE remote_metrics (
    id uuid PRIMARY KEY,
    from_timestamp timestamptz NOT NULL,
    to_timestamp timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    measures jsonb NOT NULL,
    tags jsonb NOT NULL,
    logs jsonb,
    reported_status text NOT NULL DEFAULT 'pending',
    num_failed_metronome_send_attempts integer NOT NULL DEFAULT 0,
    tenant_id uuid,
    self_hosted_customer_id uuid,
    backfill_id uuid,
    backfilled_at timestamptz
);
CREATE TABLE usage_snapshots (
    id uuid PRIMARY KEY,
    from_timestamp timestamptz NOT NULL,
    to_timestamp timestamptz NOT NULL,
    measures jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE agent_builder_usage (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    from_timestamp timestamptz NOT NULL,
    to_timestamp timestamptz NOT NULL,
    agent_runs bigint NOT NULL,
    agent_messages bigint NOT NULL
);
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
"""

# Times step by 37 minutes and some microseconds from March 2026 on, so that a thousand rows cross
# the change to summer time, and no two rows share an instant.
_AT = "timestamptz '2026-03-15 00:00:00+00' + n * interval '37 minutes 1.234567 seconds'"

_FILL = {
    "transactions": f"""
INSERT INTO trace_count_transactions
SELECT md5('transaction ' || n)::uuid, '{TENANT}', md5('session ' || n % 7)::uuid, n % 97 + 1,
    {_AT}, {_AT} + interval '5 minutes', {_AT} - interval '1 hour', {_AT},
    coalesce(:status, (ARRAY['pending', 'todo', 'should_retry', 'failed', 'needs_backfill', 'sent'])
        [n % 6 + 1]),
    n % 3, CASE WHEN n % 2 = 0 THEN 'base_trace' ELSE 'long_lived_trace' END,
    CASE WHEN n % 5 = 0 THEN NULL ELSE '{ORGANIZATION}'::uuid END,
    CASE WHEN n % 11 = 10 THEN 'remote' ELSE 'local' END, {_AT}
FROM generate_series(:first, :last) AS n;
""",
    "metrics": f"""
INSERT INTO remote_metrics
SELECT md5('metric ' || n)::uuid, {_AT}, {_AT} + interval '36 minutes', {_AT} + interval '1 hour',
    jsonb_build_object('langgraph.platform.runs', n, 'langgraph.platform.nodes', 3 * n),
    jsonb_build_object('langgraph.platform.host', 'self-hosted',
        'langgraph.platform.plan', 'enterprise'),
    '[]', coalesce(:status, CASE WHEN n % 4 = 3 THEN 'sent' ELSE 'pending' END), n % 3,
    CASE WHEN n % 5 = 0 THEN NULL ELSE '{TENANT}'::uuid END, NULL
FROM generate_series(:first, :last) AS n;
""",
    "snapshots": f"""
INSERT INTO usage_snapshots
SELECT md5('snapshot ' || n)::uuid, {_AT}, {_AT} + interval '36 minutes',
    jsonb_build_object('workspaces', n % 9, 'users', n), {_AT} + interval '1 hour'
FROM generate_series(:first, :last) AS n;
""",
    "agents": f"""
INSERT INTO agent_builder_usage
SELECT md5('agent ' || n)::uuid, '{TENANT}', {_AT}, {_AT} + interval '36 minutes', n, 7 * n
FROM generate_series(:first, :last) AS n;
""",
}


@dataclass(frozen=True)
class PostgresServer:
    """A running server; ``langsmith`` is the role that owns the tables of database ``langsmith``."""

    binaries: Path
    root: Path
    """Holds the socket and the cluster."""
    port: int
    password: str
    """Of every role, over TCP; the socket asks for none."""

    @property
    def url(self) -> str:
        """The owner's connection through the Unix socket."""
        return self.url_as(OWNER)

    def url_as(self, role: str) -> str:
        """Return a role's connection through the Unix socket; see ``OWNER`` and ``READER``."""
        return f"postgresql://{role}@/{DATABASE}?host={self.root}&port={self.port}"

    def tcp_url(self, password: str | None = None, role: str = OWNER) -> str:
        """Return the connection over loopback, in the form that LangSmith's script wants."""
        secret = self.password if password is None else password
        return f"postgres://{role}:{secret}@127.0.0.1:{self.port}/{DATABASE}"

    def psql(
        self, sql: str, *options: str, env: Mapping[str, str] | None = None, role: str = OWNER
    ) -> subprocess.CompletedProcess[bytes]:
        """Run statements from a file, as LangSmith's script does, and return whatever came of it.

        Args:
            sql: the statements.
            options: further options of psql.
            env: its whole environment but for PATH and HOME; PGTZ and the like go here.
            role: who runs it.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".sql", encoding="utf-8") as file:
            file.write(sql)
            file.flush()
            return subprocess.run(
                [
                    *(str(self.binaries / "psql"), "-h", str(self.root), "-p", str(self.port)),
                    *("-U", role, "-d", DATABASE, *options, "-f", file.name),
                ],
                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})},
                capture_output=True,
                check=False,
                timeout=60,
            )

    def execute(self, sql: str, *options: str, role: str = OWNER) -> str:
        """Run statements that must succeed; return the values without headers or alignment."""
        done = self.psql(sql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *options, role=role)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().rstrip("\n")

    def csv(self, sql: str, *options: str, env: Mapping[str, str] | None = None) -> bytes:
        """Return what LangSmith's script would have written to its file; errors go nowhere."""
        return self.psql(sql, "-A", "-F", ",", "--csv", "-q", *options, env=env).stdout

    def fill(
        self,
        transactions: int = 0,
        metrics: int = 0,
        snapshots: int = 0,
        agents: int = 0,
        *,
        status: str | None = None,
    ) -> None:
        """Add rows to the tables, numbered on from those that are there.

        Args:
            transactions: rows of trace_count_transactions; one of eleven is not of source local.
            metrics: rows of remote_metrics; one of five has no tenant.
            snapshots: rows of usage_snapshots.
            agents: rows of agent_builder_usage.
            status: of each new row; by default a mixture of what is and is not reported.
        """
        wanted = {
            "transactions": (TRANSACTIONS, transactions),
            "metrics": ("remote_metrics", metrics),
            "snapshots": ("usage_snapshots", snapshots),
            "agents": ("agent_builder_usage", agents),
        }
        shown = "NULL" if status is None else f"'{status}'"
        for name, (table, count) in wanted.items():
            if count:
                there = int(self.execute(f"SELECT count(*) FROM {table};"))
                bounds = ("-v", f"first={there + 1}", "-v", f"last={there + count}")
                self.execute(_FILL[name], *bounds, "-v", f"status={shown}")

    def reset(self) -> None:
        """Empty the tables, but for one organization with one tenant; no ledger is left."""
        self.execute(f"""
            DROP SCHEMA IF EXISTS airgap_ledger CASCADE;
            TRUNCATE organizations, tenants, trace_count_transactions, remote_metrics,
                usage_snapshots, agent_builder_usage;
            INSERT INTO organizations VALUES ('{ORGANIZATION}', 'Bank A');
            INSERT INTO tenants VALUES ('{TENANT}', '{ORGANIZATION}', 'Größe, "naïve"; café');
        """)


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None where there is no server."""
    folders: list[Path] = []
    if found := shutil.which("pg_config"):
        done = subprocess.run([found, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(done.stdout.strip()))
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wanted = ("initdb", "pg_ctl", "postgres", "psql")
    return next((f for f in folders if all(os.access(f / w, os.X_OK) for w in wanted)), None)


@contextlib.contextmanager
def running() -> Iterator[PostgresServer]:
    """Run a server with empty tables; skips the test where PostgreSQL is not installed."""
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL's server (initdb, pg_ctl, postgres, psql) is not installed")
    # A socket's path may have 107 characters, which pytest's own folders can exceed.
    root = Path(tempfile.mkdtemp(prefix="airgap-pg-", dir="/tmp"))
    try:
        server = PostgresServer(folder, root, _free_port(), secrets.token_urlsafe(18))
        as_user = _unprivileged(root)
        _initialise(server, as_user)
        try:
            _start(server, as_user)
            server.reset()
            yield server
        finally:
            _pg_ctl(server, as_user, "stop", "-m", "immediate")
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def standby(server: PostgresServer) -> Iterator[PostgresServer]:
    """Run a server beside that follows it, and takes nothing else."""
    as_user, folder = _unprivileged(server.root), server.root / "standby"
    other = replace(server, port=_free_port())
    place = ("-h", server.root, "-p", str(server.port), "-U", "postgres")
    _run(
        [server.binaries / "pg_basebackup", *place, "-D", folder, "-R", "-c", "fast"],
        as_user,
        server.root,
    )
    control = [server.binaries / "pg_ctl", "-D", folder, "-w"]
    options = ("-l", server.root / "standby-log", "-o", f"-p {other.port}")
    try:
        _run([*control, "start", *options], as_user, server.root)
        yield other
    finally:
        _run([*control, "stop", "-m", "immediate"], as_user, server.root)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the session; use ``postgres``, which is empty when a test begins."""
    with running() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresServer:
    postgres_server.reset()
    return postgres_server


def _unprivileged(root: Path) -> dict[str, Any]:
    """Return how to start programs that refuse to run as root, and give them the folder."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            os.chown(root, entry.pw_uid, entry.pw_gid)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no other user here")


def _initialise(server: PostgresServer, as_user: dict[str, Any]) -> None:
    password_file = server.root / "password"
    password_file.write_text(server.password)
    password_file.chmod(0o644)  # within a folder that only the server's user may enter
    _run(
        [
            *(server.binaries / "initdb", "-D", server.root / "data", "-U", "postgres"),
            *("--no-sync", "--encoding=UTF8", "--locale=C", "--no-instructions"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password_file}"),
        ],
        as_user,
        server.root,
    )
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(server.root),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": "30",
        "shared_buffers": "32MB",
        "timezone": "UTC",
    }
    with (server.root / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{key} = '{value}'\n" for key, value in settings.items())


def _start(server: PostgresServer, as_user: dict[str, Any]) -> None:
    _pg_ctl(server, as_user, "start", "-l", server.root / "log", "-o", f"-p {server.port}")
    setup = [server.binaries / "psql", "-X", "-q", "-h", server.root, "-p", str(server.port)]
    setup += ["-U", "postgres", "-d", "postgres", "-v", "ON_ERROR_STOP=1"]
    for role in (OWNER, READER):
        setup += ["-c", f"CREATE ROLE {role} LOGIN PASSWORD '{server.password}'"]
    _run([*setup, "-c", f"CREATE DATABASE {DATABASE} OWNER {OWNER}"], {}, server.root)
    # PostgreSQL 15 took the right to create from everybody, and 14 did not have pg_database_owner.
    grant = [*setup[:9], DATABASE, "-c", f"GRANT CREATE ON SCHEMA public TO {OWNER}"]
    _run(grant, {}, server.root)
    server.execute(_SCHEMA)


def _pg_ctl(server: PostgresServer, as_user: dict[str, Any], *arguments: object) -> None:
    _run([server.binaries / "pg_ctl", "-D", server.root / "data", "-w", *arguments], as_user, server.root)  # fmt: skip


def _run(command: list[Any], as_user: dict[str, Any], folder: Path) -> None:
    # Output goes to a file: a server that is started here would keep a pipe open for ever.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(c) for c in command],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=120,
            **as_user,
        )
        output.seek(0)
        assert done.returncode == 0, f"{command[0]}: {output.read().decode(errors='replace')}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


OF_NO_USE = [
    (lambda p: p.tcp_url("wrong-secret"), 2, "password authentication failed"),
    (lambda p: f"postgresql://{OWNER}@127.0.0.1:1/x", 7, "can't be reached"),
    (lambda p: p.url.replace("/langsmith?", "/nothing?"), 2, "does not exist"),
    (lambda p: f"postgresql://u:top-secret@h@127.0.0.1:{p.port}/x", 2, "can't be read"),
    (lambda p: p.url_as(READER), 2, "role may not do this"),
]
"""URLs of a server by which no ledger can be reached: each with the exit status and words of the error."""
