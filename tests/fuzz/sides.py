"""What the fuzzer tries beyond verification: the workstation's ledger and the isolated outbox.

Each target makes a file of a recipe (see ``recipes.py``), so that it verifies, and gives it to the
side that acts on it. Real databases, in memory where the system has a file system for that.
"""

import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import second_reader
from click.testing import CliRunner
from fuzz import recipes, scratch, targets

from airgap import confirmation, home, timestamps, verify
from airgap.bundle import codec
from airgap.cli.main import cli
from airgap.credentials import Keyring
from airgap.errors import AirgapError, SequenceError
from airgap.outbox import Outbox, StoredBundle
from airgap.records import lasting_digest
from airgap.replay import chain, requests
from airgap.replay.ledger import Ledger
from airgap.trust import store as trust_store

NOW = timestamps.parse("2026-03-01T00:00:00Z")
KEYRING = Keyring.of([("license", "lcl_EXAMPLE_not_a_real_key"), ("api_key", "lsv2_pt_EXAMPLE_not_a_real_key")])  # fmt: skip


def _forget(connection: Any, *tables: str) -> None:
    for table in tables:
        connection.execute(f"DELETE FROM {table}")


# ---- the workstation


@cache
def _ledger() -> Ledger:
    return Ledger(scratch.folder() / "ledger.sqlite", targets.SCHEMAS, lambda: NOW)


def taken_in(data: bytes) -> None:
    """Hold the ledger to have of a verified bundle exactly what is in it, or nothing."""
    bundle = _verified(data, "bundle")
    if not isinstance(bundle, verify.VerifiedBundle):
        return
    ledger = _ledger()
    try:
        assert chain.find(ledger, bundle) is None
        chain.odd(bundle, NOW)
        added = ledger.add_bundle(bundle)
    except SequenceError as error:
        first = bundle.sequence == 1
        assert first != (bundle.manifest["previous"] is None), f"refused alone: {error}"
        return
    except AirgapError as error:
        targets._hold_error(error)
        ids = [name for name, _ in bundle.records()]
        assert len(set(ids)) < len(ids), f"refused, though no record is in it twice: {error}"
        assert ledger.bundles() == []
        assert ledger.states(scoped=False) == {}
        return
    try:
        assert added.known == added.conflicts == 0
        chain.odd(bundle, NOW, added)
        chain.standing(ledger, bundle.source, 86_400_000_000)
        assert chain.find(ledger, bundle) == added.bundle
        assert ledger.bundle_totals(added.bundle).as_map() == bundle.totals.as_map()
        assert len(list(ledger.outcomes(added.bundle))) == bundle.manifest["records"]
        ledger.set_scope([added.bundle])
        _hold_requests(ledger, bundle)
    finally:
        connection = ledger.database.connection
        with ledger.database.transaction():
            names = [row[0] for row in connection.execute(_TABLES)]
            connection.execute("PRAGMA defer_foreign_keys = ON")
            _forget(connection, *names)


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


def _hold_requests(ledger: Ledger, bundle: verify.VerifiedBundle) -> None:
    """Hold what would be sent to be every record once, with masks where credentials go."""
    routes = requests.Routes(targets.SCHEMAS.bases, {})
    entries = {kind: list(ledger.waiting(kind)) for kind in targets.SCHEMAS.kinds}
    assert sum(map(len, entries.values())) == bundle.manifest["records"]
    try:
        for batch, request in requests.plan(entries, targets.SCHEMAS, KEYRING, routes):
            assert len(batch.entries) <= batch.kind.batch_max
            for secret in KEYRING.secrets.values():
                assert secret.encode() not in request.body
    except AirgapError as error:
        targets._hold_error(error)


def _verified(data: bytes, file_type: str) -> object:
    """Return what a recipe verifies as, or None."""
    recipe = recipes.decode(data)
    if recipe is None:
        return None
    header = recipes.lenient(recipe.header)
    if not isinstance(header, dict) or header.get("file_type") != file_type:
        return None
    found = targets._ours(recipes.build(recipe))
    return None if isinstance(found, AirgapError) else found


# ---- what people see


@cache
def _home() -> Path:
    made = home.create(scratch.folder() / "workstation", "workstation", "relay-1")
    trust_store.save(made.trust_path, targets.golden_trust())
    return made.path


_COMMANDS = (
    ("verify",),
    ("verify", "--json"),
    ("inspect",),
    ("inspect", "--unverified"),
    ("inspect", "--unverified", "--json"),
    ("cat",),
    ("cat", "--unverified"),
)


def shown(data: bytes) -> None:
    """Hold the commands that look at a file to say what is wrong, and to be harmless in a terminal."""
    recipe = recipes.decode(data)
    if recipe is None:
        return
    path = scratch.folder() / "shown.airgap"
    path.write_bytes(recipes.build(recipe))
    arguments = _COMMANDS[sum(data) % len(_COMMANDS)]
    result = CliRunner().invoke(cli, [*arguments, "--home", str(_home()), str(path)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2, 3, 4, 5), result.output
    assert result.exit_code == 0 or "hint:" in result.output or "--json" in arguments
    for character in result.output:
        kind = unicodedata.category(character)
        assert character == "\n" or kind not in ("Cc", "Cf", "Zl", "Zp"), repr(result.output)


# ---- the isolated host


@cache
def _sent() -> tuple[Outbox, second_reader.Document]:
    """Return an outbox that has sent the golden bundle, and that bundle."""
    data = (recipes.VECTORS / "bundle-none.airgap").read_bytes()
    document = second_reader.verify(data, targets.second_keys(), recipes.RULES)
    bundle = targets._ours(data)
    assert isinstance(bundle, verify.VerifiedBundle)
    outbox = Outbox(scratch.folder() / "outbox.sqlite", bundle.source, targets.SCHEMAS)
    with outbox.database.transaction() as connection:
        for name, record in bundle.records():
            lasting = lasting_digest(record, targets.SCHEMAS.kind(record.kind))
            connection.execute(
                "INSERT INTO record (id, kind, dialect, credential, occurrence, payload, lasting,"
                " collected_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (name, record.kind, record.dialect, record.credential, record.occurrence,
                 codec.encode(record.payload), lasting, "2026-01-31T00:00:00Z"),
            )  # fmt: skip
    count = len(document.elements)
    stored = StoredBundle(
        1, bundle.document_id, "x.airgap", 1, count, bundle.manifest["created_at"], None
    )
    outbox.add_bundle(stored, bundle.envelope.payload, bundle.timeline)
    return outbox, document


def answered(data: bytes) -> None:
    """Hold a receipt to confirm exactly what it says of exactly the bundle that it answers, or nothing."""
    receipt = _verified(data, "receipt")
    if not isinstance(receipt, verify.VerifiedReceipt):
        return
    outbox, bundle = _sent()
    built = recipes.build(recipes.decode(data) or recipes.Recipe(0, b"", b"", ()))
    theirs = second_reader.verify(built, targets.second_keys(), recipes.RULES)
    try:
        second_reader.check_answer(theirs, bundle, recipes.RULES)
        right = True
    except second_reader.Refused:
        right = False
    try:
        confirmation.apply(outbox, receipt, NOW)
    except AirgapError as error:
        targets._hold_error(error)
        assert not right, f"refused alone: {error}"
        assert outbox.confirmed().as_map() == {}
        return
    try:
        assert right, "applied, though it is no answer to the bundle"
        said = {outcome["id"]: outcome["outcome"] for outcome in receipt.outcomes()}
        rows = outbox.database.connection.execute("SELECT id, outcome FROM record").fetchall()
        assert {row[0].hex(): row[1] for row in rows} == said
        assert outbox.confirmed().as_map() == receipt.totals.as_map()
        changed = confirmation.apply(outbox, receipt, NOW)
        assert not any(changed.values()), "applied twice"
    finally:
        with outbox.database.transaction() as connection:
            connection.execute("DELETE FROM receipt")
            connection.execute("UPDATE record SET outcome = NULL")
