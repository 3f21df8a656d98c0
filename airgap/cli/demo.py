"""``airgap demo``: the whole journey on this machine, by the commands that a person would type."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import click

from airgap import catalog, jsontext, media, quarantine, verify
from airgap.cli.common import Output, airgap_command
from airgap.collect import jsonfiles
from airgap.collect.payloads import Rules
from airgap.credentials import fingerprint
from airgap.errors import DamagedError, UsageError
from airgap.export import BUNDLE_SUFFIX
from airgap.home import open_home
from airgap.outbox import Outbox
from airgap.records import Totals
from airgap.replay.ledger import Ledger
from airgap.replay.receipts import RECEIPT_SUFFIX
from airgap.timestamps import system_clock
from airgap.trust import store as trust_store

_MADE_UP_LICENSE = "lcl_EXAMPLE_made_up_for_the_demo"
_SOURCE = "demo.site"


@airgap_command("demo", home=False)
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--keep", is_flag=True, help="Keep the demo's folder, to look around in it.")
@click.pass_context
def command(ctx: click.Context, out: Output, file: Path | None, *, keep: bool) -> None:
    """Show the whole journey on this machine: collect, export, import, replay, receipt.

    Two temporary homes, a folder as the stick, and a rehearsal beacon on loopback; nothing
    leaves this machine. FILE's records take the place of the sample records.

    \b
    Example:
      airgap demo
      airgap demo usage.jsonl --keep
    """
    _require_importer()
    folder = Path(mkdtemp(prefix="airgap-demo-"))
    demo = _Demo(out, folder)
    try:
        hops = demo.run(file)
        out.result(
            {"hops": {name: totals.as_map() for name, totals in hops}, "folder": str(folder)}
        )
        _compare(out, hops)
    except _StepError as error:
        ctx.exit(error.status)
    finally:
        if keep:
            out.say(f"Kept {folder}")
        else:
            rmtree(folder, ignore_errors=True)


def _require_importer() -> None:
    """Check before the first step that the last ones can be done.

    Raises:
        UsageError: the workstation's parts are not installed.
    """
    if find_spec("pycurl") is None:
        raise UsageError(
            "the demo needs the workstation's parts, which are not installed",
            expected="PycURL, which the workstation's installation has",
            hint="install.sh TARGET --workstation; or the pycurl that requirements.lock names",
        )


class _StepError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Demo:
    """Runs the steps in a folder of its own."""

    def __init__(self, out: Output, folder: Path) -> None:
        self._out = out
        self._folder = folder
        self._schemas = catalog.load()

    def run(self, file: Path | None) -> list[tuple[str, Totals]]:
        """Run all steps; return the totals of each hop."""
        from airgap.replay.rehearsal import RehearsalBeacon

        source = self._folder / "usage.jsonl"
        source.write_bytes(file.read_bytes() if file else self._schemas.sample_bytes())
        self._folder.joinpath("stick").mkdir()
        flags = self._write_credentials(source)
        self._heading("Isolated host: a home, a key, and its public half on the stick")
        self._step(f"init --home isolated --source {_SOURCE}")
        self._step("key generate --home isolated --no-passphrase")
        self._copy("isolated/keys/default.pub", "stick/exporter.pub")
        self._heading("Workstation: the same, and each side trusts the other's key")
        self._step("init --home workstation --workstation relay")
        self._step("key generate --home workstation --no-passphrase")
        self._step(
            f"trust add --home workstation stick/exporter.pub --role exporter --source {_SOURCE}"
        )
        self._copy("workstation/keys/default.pub", "stick/importer.pub")
        self._step("trust add --home isolated stick/importer.pub --role importer")
        self._heading("Isolated host: collect and export")
        self._step("collect --home isolated usage.jsonl --license-file license.key")
        self._step("export --home isolated --to stick")
        self._heading(
            "Workstation: verify and deliver to a rehearsal beacon, then sign the receipt"
        )
        with RehearsalBeacon(self._schemas) as beacon:
            urls = f"--beacon-url {beacon.url} --api-url {beacon.url}"
            self._step(f"import --home workstation stick {flags} {urls}")
            delivered = beacon.totals
        self._heading("Isolated host: the receipt confirms what was delivered")
        self._step("receipt apply --home isolated stick")
        self._step("status --home isolated --max-age 9999d")  # the samples are old
        return list(self._hops(delivered))

    def _heading(self, text: str) -> None:
        self._out.say("", f"== {text}")

    def _step(self, arguments: str) -> None:
        """Run one command as a person would, and show it."""
        self._out.say("", f"$ airgap {arguments}")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRGAP_")}
        environment |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "airgap", *shlex.split(arguments)],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self._out.say(*done.stdout.rstrip().split("\n"))
        if done.returncode:
            click.echo(
                f"airgap: error: the step ended with exit status {done.returncode}", err=True
            )
            raise _StepError(done.returncode)

    def _copy(self, source: str, target: str) -> None:
        self._out.say("", f"$ cp {source} {target}")
        self._folder.joinpath(target).write_bytes(self._folder.joinpath(source).read_bytes())

    def _write_credentials(self, source: Path) -> str:
        """Put the keys that the source holds where the workstation would have its own."""
        found = {("license", _MADE_UP_LICENSE): "license.key"}
        for number, pair in enumerate(sorted(set(_credentials_in(source, self._schemas)))):
            found[pair] = f"{pair[0]}-{number}.key"
        flags: list[str] = []
        for (kind, secret), name in found.items():
            path = self._folder / name
            path.touch(mode=0o600)
            path.write_text(secret + "\n")
            flags.append(f"--{kind.replace('_', '-')}-file {name}")
        return " ".join(flags)

    def _hops(self, delivered: Totals) -> Iterator[tuple[str, Totals]]:
        isolated = open_home(self._folder / "isolated")
        workstation = open_home(self._folder / "workstation")
        outbox = Outbox(isolated.outbox_path, isolated.name, self._schemas)
        ledger = Ledger(workstation.ledger_path, self._schemas, system_clock)
        try:
            yield "source", self._source_totals()
            yield "outbox", outbox.totals(1)
            yield "bundle", self._file_totals(BUNDLE_SUFFIX)
            held = Totals()
            for bundle in ledger.bundles():
                held.merge(ledger.bundle_totals(bundle, "delivered"))
            yield "ledger", held
            yield "beacon", delivered
            yield "receipt", self._file_totals(RECEIPT_SUFFIX)
            yield "confirmed", outbox.confirmed()
        finally:
            outbox.close()
            ledger.close()

    def _source_totals(self) -> Totals:
        """Count the source file anew, without the outbox."""
        license_key = fingerprint("license", _MADE_UP_LICENSE)
        rules = Rules(defaults={"license": license_key})
        totals = Totals()
        for record in jsonfiles.read(self._folder / "usage.jsonl", self._schemas, rules):
            totals.add(self._schemas.kind(record.kind), record.payload)
        return totals

    def _file_totals(self, suffix: str) -> Totals:
        totals = Totals()
        for path in media.files([self._folder / "stick"], (suffix,)):
            with quarantine.copied(path, self._folder) as stream:
                if suffix == BUNDLE_SUFFIX:
                    trust = trust_store.load(self._folder / "workstation/trust.json", self._schemas)
                    bundle = verify.verify_bundle(
                        stream, name=path.name, trust=trust, catalog=self._schemas
                    )
                    totals.merge(bundle.totals)
                else:
                    trust = trust_store.load(self._folder / "isolated/trust.json", self._schemas)
                    receipt = verify.verify_receipt(
                        stream, name=path.name, trust=trust, catalog=self._schemas
                    )
                    totals.merge(receipt.totals)
        return totals


def _compare(out: Output, hops: list[tuple[str, Totals]]) -> None:
    names = [name for name, _ in hops]
    out.say("", "== Totals at every hop", "")
    out.table(("kind", "measure", *(f"{name}#" for name in names)), _rows([t for _, t in hops]))
    for (here, mine), (there, theirs) in pairwise(hops):
        mine.require_equal(theirs, here=f"the {here}", there=f"the {there}")
    if not hops[0][1].records:
        raise DamagedError("no record made the journey")
    out.say(f"Equal at every hop: {', '.join(names)}. Nothing left this machine.")
    out.say("Next: airgap --help, or the README for your own site.")


def _rows(totals: list[Totals]) -> Iterator[tuple[str, ...]]:
    for kind in sorted({name for t in totals for name in t.kinds}):
        found = [t.kinds.get(kind) for t in totals]
        yield (kind, "records", *(f"{f.records:,}" if f else "-" for f in found))
        for measure in sorted({name for f in found if f for name in f.sums}):
            yield ("", measure, *(f"{f.sums.get(measure, 0):,}" if f else "-" for f in found))


def _credentials_in(source: Path, schemas: catalog.Catalog) -> Iterator[tuple[str, str]]:
    """Yield the credentials in a file's requests, which the demo's own workstation then has."""
    places = [d.credential for k in schemas.kinds.values() for d in k.dialects.values()]
    raw = source.read_bytes()
    try:
        values: list[Any] = [jsontext.parse(raw.strip())]
    except jsontext.NotExactError:
        values = []
        for line in raw.splitlines():
            try:
                values.append(jsontext.parse(line.strip()))
            except jsontext.NotExactError:
                continue
    for value in (item for v in values for item in (v if isinstance(v, list) else [v])):
        for fields in (
            (value, value.get("payload"), value.get("headers")) if isinstance(value, dict) else ()
        ):
            for place in places:
                secret = fields.get(place.name) if isinstance(fields, dict) else None
                if isinstance(secret, str) and secret:
                    yield place.type, secret
