"""What tests share: a site of two homes, the command line in-process, made-up requests."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import outputs
from click.testing import CliRunner, Result

from airgap import catalog, home, timestamps
from airgap.cli.main import cli
from airgap.trust import keys
from airgap.trust import store as trust_store
from airgap.trust.entries import Role, TrustedKey

LICENSE = "lcl_EXAMPLE_not_a_real_key"
API_KEY = "lsv2_pt_EXAMPLE_not_a_real_key"
SOURCE = "bank-a.prod"
REPOSITORY = Path(__file__).parent.parent


def run(*arguments: object, code: int | None = 0, stdin: bytes | None = None) -> Result:
    """Run a command in this process and check its exit status; None takes any."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    typed = tuple(str(a) for a in arguments)
    if "--json" in typed and (result.stdout or result.exit_code != 2):
        [words] = [c for c in every_command() if typed[: len(c)] == c]
        outputs.check(words, result.stdout, result.exit_code)
    if code is not None:
        assert result.exit_code == code, f"{arguments}\n{result.output}"
    return result


def every_command(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command that is no group."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from every_command(found, (*path, name))


def report(run_count: int = 1, hour: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a made-up usage report."""
    return {
        "license": LICENSE,
        "from_timestamp": f"2026-01-06T{hour:02d}:00:00Z",
        "to_timestamp": f"2026-01-06T{hour:02d}:59:59Z",
        "tags": {"langgraph.platform.host": "self-hosted", "langgraph.platform.plan": "enterprise"},
        "measures": {
            "langgraph.platform.runs": run_count,
            "langgraph.platform.nodes": 3 * run_count,
        },
        "logs": [],
        **changes,
    }


def day(number: int, **changes: Any) -> dict[str, Any]:
    """Return a made-up usage report of a whole day in January 2026."""
    times = {
        "from_timestamp": f"2026-01-{number:02d}T00:00:00Z",
        "to_timestamp": f"2026-01-{number + 1:02d}T00:00:00Z",
    }
    return report(number, **times, **changes)


def transaction(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a made-up trace transaction."""
    return {
        "id": f"af28dfea-5358-463d-a2dc-37df{number:08x}",
        "tenant_id": "3a1c2b6f-4430-4b92-8a5b-79b8b567bbc1",
        "session_id": "b26ae531-cdb3-42a5-8bcf-05355199fe27",
        "trace_count": 5,
        "start_insertion_time": "2025-01-06T10:00:00Z",
        "end_insertion_time": "2025-01-06T11:00:00Z",
        "start_interval_time": "2025-01-06T09:00:00Z",
        "end_interval_time": "2025-01-06T10:00:00Z",
        "status": "completed",
        "num_failed_send_attempts": 0,
        "transaction_type": "type1",
        "organization_id": "c5b5f53a-4716-4326-8967-d4f7f7799735",
        **changes,
    }


def write_lines(path: Path, values: Iterable[Any]) -> Path:
    """Write values as JSON lines."""
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@dataclass
class Site:
    """An isolated home and a workstation that trust each other's keys, and a folder as the stick."""

    root: Path
    isolated: Path
    workstation: Path
    stick: Path
    exporter: keys.PrivateKey
    importer: keys.PrivateKey
    license_file: Path
    api_key_file: Path

    @classmethod
    def build(cls, root: Path) -> "Site":
        isolated = home.create(root / "isolated", "isolated", SOURCE)
        workstation = home.create(root / "workstation", "workstation", "relay-1")
        exporter, importer = keys.generate(), keys.generate()
        isolated.add_key("default", exporter, None)
        workstation.add_key("default", importer, None)
        for one in (isolated, workstation):
            store = trust_store.TrustStore({})
            for key, role in ((exporter, "exporter"), (importer, "importer")):
                store = store.with_key(trusted(key, role))
            trust_store.save(one.trust_path, store)
        stick = root / "stick"
        stick.mkdir()
        for name, secret in (("license.key", LICENSE), ("api.key", API_KEY)):
            (root / name).write_text(secret + "\n")
        return cls(
            root,
            isolated.path,
            workstation.path,
            stick,
            exporter,
            importer,
            root / "license.key",
            root / "api.key",
        )

    def collect(self, values: Iterable[Any], *options: object, code: int | None = 0) -> Result:
        path = write_lines(self.root / "usage.jsonl", values)
        return run("collect", "--home", self.isolated, path, *options, code=code)

    def export(self, *options: object, code: int | None = 0) -> Result:
        return run("export", "--home", self.isolated, "--to", self.stick, *options, code=code)

    def import_(self, url: str, *options: object, code: int | None = 0) -> Result:
        return self.import_paths([self.stick], url, *options, code=code)

    def import_paths(
        self, paths: Iterable[Path], url: str, *options: object, code: int | None = 0
    ) -> Result:
        return run(
            "import",
            "--home",
            self.workstation,
            *paths,
            "--license-file",
            self.license_file,
            "--api-key-file",
            self.api_key_file,
            "--beacon-url",
            url,
            "--api-url",
            url,
            *options,
            code=code,
        )

    def apply(self, *options: object, code: int | None = 0) -> Result:
        return run("receipt", "apply", "--home", self.isolated, self.stick, *options, code=code)

    def status(self, side: str = "isolated") -> dict[str, Any]:
        result = run("status", "--home", self.root / side, "--json")
        value: dict[str, Any] = json.loads(result.stdout)
        return value

    @property
    def bundle(self) -> Path:
        [path] = self.stick.glob("*.airgap")
        return path

    @property
    def trust(self) -> trust_store.TrustStore:
        return trust_store.load(self.workstation / "trust.json", catalog.load())


def bundle_fields(**changes: Any) -> dict[str, Any]:
    """Return the manifest of an empty first bundle, without what the writer adds."""
    return {
        "format": "airgap/1",
        "file_type": "bundle",
        "source": SOURCE,
        "sequence": 1,
        "previous": None,
        "created_at": "2026-02-01T00:00:00Z",
        "producer": "test",
        "totals": {},
        "period": None,
        "schemas": {},
        "credentials": [],
        "allowed": [],
        "pseudonymised": [],
        "no_usage": None,
        "message": None,
        **changes,
    }


def trusted(key: keys.PrivateKey, role: Role, source: str = "*", **changes: Any) -> TrustedKey:
    """Return a trust store entry."""
    values: dict[str, Any] = {
        "public": key.public,
        "roles": (role,),
        "sources": (source,),
        "not_before": None,
        "not_after": None,
        "revoked": None,
        "comment": "test",
        "added_at": timestamps.parse("2026-01-01T00:00:00Z"),
        **changes,
    }
    return TrustedKey(**values)
