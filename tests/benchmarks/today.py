"""What airgap costs beside what people use today, for the same usage reports in the same run.

    python tests/benchmarks/today.py

Each way makes, from the same reports, what would be put on a stick, and then looks at it as far as that way can:
LangSmith's query to CSV in a tar.gz; JSON lines through zstd, signed by minisign; JSON lines through zstd, encrypted
by age; JSON lines that `jsonschema` validates; airgap, from JSON lines and from PostgreSQL. Whole processes of the
real tools, in turns. A tool that is missing is named, with what installs it. The database is a server of its own
on loopback, its tables filled before any clock runs. Only ratios mean something on another machine.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import postgres
import pytest
import sample
from support import LICENSE, Site, write_lines

AIRGAP = (sys.executable, "-m", "airgap")
QUERY = """SELECT id, from_timestamp, to_timestamp, measures, tags, logs, tenant_id
FROM remote_metrics WHERE reported_status = 'pending' ORDER BY from_timestamp;"""
VALIDATE = """
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
valid = jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid
with open(sys.argv[2]) as lines, open(sys.argv[3], "w") as out:
    for line in lines:
        value = json.loads(line)
        value.pop("license", None)
        assert valid(value)
        out.write(line)
"""


@dataclass(frozen=True)
class Way:
    """One way to carry usage reports.

    Args:
        name: what it is called.
        needs: the programs it needs, with what installs them.
        make: writes into an empty folder what goes on the stick.
        check: looks at it as far as this way can.
        gives: whether what arrives is signed, validated, counted against the source, confirmed back;
            and whether the licence key stays at home.
    """

    name: str
    needs: dict[str, str]
    make: Callable[[Path], object]
    check: Callable[[Path], object]
    gives: tuple[str, str, str, str, str]


def do(*command: object, **more: Any) -> None:
    """Run a process that must end well."""
    quiet = subprocess.DEVNULL
    done = subprocess.run(
        [*map(str, command)], check=False, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, **more
    )
    assert done.returncode == 0, (command, done.stderr)


def piped(first: list[object], second: list[object]) -> None:
    """Run two processes, the output of one into the other."""
    with subprocess.Popen([*map(str, first)], stdout=subprocess.PIPE) as one:
        subprocess.run([*map(str, second)], stdin=one.stdout, stdout=subprocess.DEVNULL, check=True)
    assert one.returncode == 0, first


def load(server: postgres.PostgresServer, lines: Path) -> None:
    """Fill the table of usage reports from JSON lines."""
    server.execute(f"""
        CREATE TEMPORARY TABLE line (body jsonb, number serial);
        \\copy line (body) FROM '{lines}' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')
        INSERT INTO remote_metrics (id, from_timestamp, to_timestamp, measures, tags, logs, tenant_id)
        SELECT md5(number::text)::uuid, (body->>'from_timestamp')::timestamptz,
            (body->>'to_timestamp')::timestamptz, body->'measures', body->'tags', '[]',
            '{postgres.TENANT}' FROM line;
    """)


def ways(folder: Path, lines: Path, server: postgres.PostgresServer | None) -> Iterator[Way]:
    """Yield every way, ready to be taken."""
    schema = Path(__file__).parent.parent.parent / "schemas" / "kinds" / "usage_report.schema.json"
    yield airgap("airgap, from JSON lines", folder, lines)
    if server is not None:
        yield airgap("airgap, from PostgreSQL", folder, server.url)

        def query(to: Path) -> None:
            (to / "usage.csv").write_bytes(server.csv(QUERY))
            do("tar", "-czf", to / "usage.tar.gz", "-C", to, "usage.csv")
            (to / "usage.csv").unlink()

        yield Way("SQL to CSV, tar.gz", {"tar": "tar"}, query,
                  lambda to: do("tar", "-xzf", to / "usage.tar.gz", "-C", folder),
                  ("no", "no", "no", "no", "yes"))  # fmt: skip
    else:
        nothing = {"a server of PostgreSQL": "postgresql"}
        yield Way("SQL to CSV, tar.gz", nothing, print, print, ("no", "no", "no", "no", "yes"))
    secret, public = folder / "minisign.key", folder / "minisign.pub"
    if shutil.which("minisign"):
        do("minisign", "-G", "-W", "-s", secret, "-p", public)

    def sign(to: Path) -> None:
        do("zstd", "-q", "-3", lines, "-o", to / "usage.zst")
        do("minisign", "-S", "-s", secret, "-m", to / "usage.zst")

    def verify(to: Path) -> None:
        do("minisign", "-V", "-q", "-p", public, "-m", to / "usage.zst")
        do("zstd", "-q", "-t", to / "usage.zst")

    zstd = {"zstd": "zstd"}
    yield Way("zstd, minisign", {**zstd, "minisign": "minisign"}, sign, verify,
              ("yes", "no", "no", "no", "no"))  # fmt: skip
    identity, recipient = folder / "age.key", ""
    if shutil.which("age-keygen"):
        do("age-keygen", "-o", identity)
        recipient = identity.read_text().split("public key: ")[1].split()[0]
    yield Way("zstd, age", {**zstd, "age": "age"},
              lambda to: piped(["zstd", "-q", "-3", "-c", lines],
                               ["age", "-r", recipient, "-o", to / "usage.zst.age"]),
              lambda to: piped(["age", "-d", "-i", identity, to / "usage.zst.age"],
                               ["zstd", "-q", "-t", "-"]),
              ("no", "no", "no", "no", "encrypted"))  # fmt: skip

    def validate(source: Path, target: Path) -> None:
        do(sys.executable, "-c", VALIDATE, schema, source, target)

    yield Way("JSON lines, jsonschema", {}, lambda to: validate(lines, to / "usage.jsonl"),
              lambda to: validate(to / "usage.jsonl", folder / "again.jsonl"),
              ("no", "yes", "no", "no", "no"))  # fmt: skip


def airgap(name: str, folder: Path, source: object) -> Way:
    """Return airgap's own way: collected into a new home each time, exported, verified."""
    place = folder / name.replace(" ", "-")
    numbers = iter(range(10**6))

    def make(to: Path) -> None:
        root = place / str(next(numbers))
        root.mkdir(parents=True)
        site = Site.build(root)
        environment = {**os.environ, "AIRGAP_HOME": str(site.isolated)}
        do(
            *AIRGAP,
            "collect",
            source,
            "--license-file",
            site.license_file,
            "--quiet",
            env=environment,
        )
        do(*AIRGAP, "export", "--to", to, "--no-note", "--quiet", env=environment)

    def check(to: Path) -> None:
        root = max(place.iterdir(), key=lambda p: int(p.name))
        do(*AIRGAP, "verify", "--home", root / "workstation", to, "--quiet")

    return Way(name, {}, make, check, ("yes", "yes", "yes", "yes, by receipt", "yes"))


def taken(way: Way, folder: Path) -> tuple[float, float, int]:
    """Return seconds to make and to check, and bytes on the medium."""
    stick = Path(tempfile.mkdtemp(dir=folder))
    started = time.perf_counter()
    way.make(stick)
    made = time.perf_counter()
    size = sum(path.stat().st_size for path in stick.iterdir())
    way.check(stick)
    return made - started, time.perf_counter() - made, size


def main() -> None:
    """Print the figures as a table of this page's kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    given = parser.parse_args()
    figures: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines = write_lines(folder / "usage.jsonl", sample.usage_reports(given.records))
        assert LICENSE in lines.read_text()
        server = None
        with contextlib.suppress(pytest.skip.Exception):
            server = stack.enter_context(postgres.running())
            load(server, lines)
        every = list(ways(folder, lines, server))
        missing = {
            way.name: [
                package for program, package in way.needs.items() if not shutil.which(program)
            ]
            for way in every
        }
        found: dict[str, list[tuple[float, float, int]]] = {way.name: [] for way in every}
        for _ in range(given.rounds):
            for way in every:
                if not missing[way.name]:
                    found[way.name].append(taken(way, folder))
        for way in every:
            row: dict[str, object] = {"way": way.name, "gives": way.gives}
            if missing[way.name]:
                figures.append({**row, "missing": f"apt-get install {' '.join(missing[way.name])}"})
                continue
            make, check, size = map(statistics.median, zip(*found[way.name], strict=True))
            each = size / given.records
            figures.append({**row, "make": make, "check": check, "bytes": size, "each": each})
    print(
        f"Python {platform.python_version()}, {given.records:,} usage reports, median of {given.rounds}"
    )
    print(
        "| way | make, s | check, s | bytes a report | signed | validated | counted | confirmed | key stays |"
    )
    print("|---|---:|---:|---:|---|---|---|---|---|")
    for row in figures:
        numbers = (
            f"{row['missing']} | | " if "missing" in row
            else "{make:.2f} | {check:.2f} | {each:.1f}".format(**row)
        )  # fmt: skip
        print(f"| {row['way']} | {numbers} | {' | '.join(row['gives'])} |")  # type: ignore[arg-type]
    if given.json:
        given.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
