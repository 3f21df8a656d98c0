"""What a process of its own vouches for is what verification finds, and nothing hangs on it."""

import io
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import Site, report, run, transaction

from airgap import catalog, exporting, verify, vouching
from airgap.bundle.layout import Header
from airgap.bundle.writer import Writer
from airgap.collect.payloads import Rules, record_of
from airgap.contents import Contents, Vouched
from airgap.errors import DamagedError
from airgap.exporting import Order
from airgap.home import open_home
from airgap.trust import store as trust_store
from airgap.verify import verify_bundle
from airgap.vouching import Voucher, vouch

SCHEMAS = catalog.load()
NOW = datetime(2026, 2, 1, tzinfo=UTC)
RULES = Rules(defaults={"license": "license:" + "0" * 32})
USAGE = [
    *(report(count, hour) for count in range(3) for hour in range(4)),
    report(5, from_timestamp="2026-01-09T00:00:00Z", to_timestamp="2026-01-08T00:00:00Z"),
    report(6, 3, measures={"langgraph.platform.runs": 2**62, "odd": 0}, api_key="lsv2_pt_EXAMPLE"),
    *(transaction(number) for number in range(5)),
]
USAGE[-6].pop("license")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a site of which a few records are many, and chunks are small."""
    monkeypatch.setattr(vouching, "WORTH_IT", 1)
    monkeypatch.setattr(vouching, "can_help", lambda: True)
    monkeypatch.setattr(exporting, "Header", lambda *given: Header(*given, 2000))
    made = Site.build(tmp_path / "site")
    options = ("--license-file", made.license_file, "--allow", "usage_report/measures/odd")
    made.collect(USAGE, *options)
    return made


@pytest.fixture
def exported(site, tmp_path):
    """Return what exports from a copy of the site: the bundle, and what the outbox knows of it."""

    def run(name: str, *, aside: bool, seal_to: tuple[str, ...] = ()):
        root = tmp_path / name
        shutil.copytree(site.root, root)
        home = open_home(root / "isolated")
        order = Order(root / "stick", lambda _: b"", note=False, aside=aside, seal_to=seal_to)
        exporting.run(home, SCHEMAS, order, NOW)
        [path] = (root / "stick").glob("*.airgap")
        with closing(sqlite3.connect(home.outbox_path)) as connection:
            rows = connection.execute(
                "SELECT sequence, bundle_id, first, last, covered, used, manifest FROM bundle"
            ).fetchall()
        return path.read_bytes(), rows

    return run


def test_a_bundle_that_was_vouched_for_is_the_same_and_the_outbox_knows_the_same_of_it(
    exported, monkeypatch
):
    alone = exported("alone", aside=False)
    monkeypatch.setattr(verify, "_read_contents", None)
    assert exported("aside", aside=True) == alone


def test_a_sealed_bundle_is_vouched_for_as_it_was_before_it_was_sealed(site, exported, monkeypatch):
    key = json.loads(
        run("recipient", "generate", "--no-passphrase", "--home", site.workstation, "--json").stdout
    )
    named = ("--name", "desk", "--fingerprint", key["fingerprint"])
    run("recipient", "add", "--home", site.isolated, key["public_key"], *named)
    monkeypatch.setattr(verify, "_read_contents", None)
    [[*row, _]], [[*plain, _]] = (
        exported(name, aside=True, seal_to=names)[1]
        for name, names in (("sealed", ("desk",)), ("plain", ()))
    )
    assert row[2:] == plain[2:]


@pytest.mark.parametrize("when", ["at once", "after the first chunk", "before the answer"])
def test_a_process_that_is_killed_is_done_without(exported, monkeypatch, when):
    alone = exported("alone", aside=False)
    seen = []

    class Killed(Voucher):
        def __init__(self, compression):
            super().__init__(compression)
            seen.append(self._process.pid)
            if when == "at once":
                self._process.kill()
                self._process.wait()

        def show(self, *chunk):
            super().show(*chunk)
            if when == "after the first chunk" and self._process is not None:
                self._process.kill()

        def answer(self):
            if when == "before the answer":
                self._process.kill()
            return super().answer()

    monkeypatch.setattr(vouching, "Voucher", Killed)
    assert exported("killed", aside=True) == alone
    assert len(seen) == 1
    assert not Path(f"/proc/{seen[0]}").exists()


def test_without_a_program_to_start_export_looks_itself(exported, monkeypatch):
    alone = exported("alone", aside=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert exported("aside", aside=True) == alone


def test_the_process_has_no_secret_no_open_file_and_nothing_of_the_network(monkeypatch):
    monkeypatch.setenv("AIRGAP_PASSPHRASE", "secret words")
    monkeypatch.setenv("PGPASSWORD", "secret words")
    with Voucher("zstd") as voucher, Path("/dev/null").open("rb") as other:
        os.set_inheritable(other.fileno(), True)
        process = voucher._process
        assert process is not None
        voucher.show(*chunk_of([report(1)]))
        folder = Path(f"/proc/{process.pid}")
        assert b"secret words" not in (folder / "environ").read_bytes()
        assert len(list((folder / "fd").iterdir())) == 3
        assert b"secret words" not in (folder / "cmdline").read_bytes()
        assert voucher.answer() is not None
    loaded = subprocess.run(
        [sys.executable, "-c", "import airgap.vouching, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"ssl", "http.client", "airgap.trust", "sqlite3", "airgap.outbox"} & set(loaded)


def records(values):
    """Return records as a bundle has them."""
    return [
        record_of(
            "trace_transactions" if "trace_count" in value else "usage_report",
            {name: item for name, item in value.items() if name != "license"},
            SCHEMAS,
            RULES,
            where="a test",
        )
        for value in values
    ]


def chunk_of(values):
    """Return one chunk as a writer shows it."""
    shown = []
    writer = Writer(io.BytesIO(), Header("bundle"), None, lambda *chunk: shown.append(chunk))
    for one in values:
        writer.add(one if "kind" in one else records([one])[0].as_map())
    writer.finish({}, [])
    [found] = shown
    return found


def stream_of(*chunks, end=True):
    head = struct.Struct(">III")
    parts = [head.pack(len(data), *rest) + data for data, *rest in chunks]
    return io.BytesIO(b"".join(parts) + (head.pack(0, 0, 0) if end else b""))


def test_nothing_is_vouched_for_unless_every_record_passes_and_all_have_come():
    data, expanded, count = chunk_of(USAGE[:3])
    assert vouch(stream_of((data, expanded, count)), "zstd") is not None
    assert vouch(stream_of((data, expanded, count), end=False), "zstd") is None
    assert vouch(io.BytesIO(stream_of((data, expanded, count)).getvalue()[:50]), "zstd") is None
    wrong = [
        {**records([report(1)])[0].as_map(), "kind": "unknown"},
        {**records([report(1)])[0].as_map(), "occurrence": -1},
        {**records([report(1)])[0].as_map(), "more": 1},
    ]
    for one in wrong:
        assert vouch(stream_of(chunk_of([one])), "zstd") is None
    for lie in ((data, expanded + 1, count), (data, expanded, count + 1), (data, 2**31, count)):
        try:
            assert vouch(stream_of(lie), "zstd") is None
        except DamagedError:
            continue


def test_what_was_seen_in_other_chunks_counts_for_nothing(site, exported, monkeypatch):
    data, _ = exported("alone", aside=False)
    trust = trust_store.load(site.isolated / "trust.json", SCHEMAS)

    def verified(vouched):
        return verify_bundle(
            io.BytesIO(data), name="test", trust=trust, catalog=SCHEMAS, vouched=vouched
        ).totals

    totals = verified(None)
    assert verified(Vouched([], Contents())) == totals
    assert verified(Vouched([(b"\x00" * 32, 1, 1)], Contents())) == totals
    seen = []
    monkeypatch.setattr(
        Voucher, "answer", lambda self, answer=Voucher.answer: seen.append(answer(self)) or seen[-1]
    )
    exported("aside", aside=True)
    assert verified(seen[0]) == totals
    with pytest.raises(DamagedError, match="totals part"):
        verified(replace(seen[0], contents=Contents()))


def test_what_is_no_answer_is_done_without(tmp_path, exported, monkeypatch):
    alone = exported("alone", aside=False)
    # A host's own start-up code may write to the standard output of every Python.
    (tmp_path / "sitecustomize.py").write_text("print('Python 3 of this site')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert exported("aside", aside=True) == alone
