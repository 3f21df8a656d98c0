"""Imports go one way: cli -> workflows -> bundle, trust, outbox -> catalog, errors. Never back."""

import ast
from pathlib import Path

import pytest
from support import REPOSITORY

PACKAGE = REPOSITORY / "airgap"
MODULES = {
    ".".join(p.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(PACKAGE.rglob("*.py"))
}
# Lower layers first; a module may import from its own layer and from those before it.
LAYERS = [
    (
        "airgap.errors",
        "airgap.limits",
        "airgap.text",
        "airgap.timestamps",
        "airgap.jsontext",
        "airgap.wire",
        "airgap.mounts",
        "airgap.carrier",
        "airgap.coverage",
        "airgap.pagestyle",
        "airgap.examples",
        "airgap.pgurl",
        "airgap.pgsession",
    ),
    ("airgap.catalog", "airgap.windows", "airgap.codes", "airgap.pages"),
    ("airgap.charts", "airgap.dictionary", "airgap.configuration"),
    ("airgap.settings",),
    ("airgap.credentials", "airgap.privacy", "airgap.files", "airgap.records", "airgap.findings"),
    ("airgap.causes", "airgap.calendars"),
    ("airgap.readback", "airgap.contents"),
    ("airgap.blockwise",),
    (
        "airgap.bundle",
        "airgap.sightings",
        "airgap.stored",
        "airgap.trust",
        "airgap.database",
        "airgap.audit",
    ),
    ("airgap.quarantine", "airgap.vouching", "airgap.moved"),
    ("airgap.verify", "airgap.media", "airgap.home", "airgap.unsealing", "airgap.arrivals"),
    ("airgap.outbox_layout", "airgap.known_ids"),
    ("airgap.outbox", "airgap.review"),
    ("airgap.batches",),
    ("airgap.collection", "airgap.confirmation", "airgap.marking"),
    ("airgap.captured", "airgap.applying"),
    ("airgap.overview",),
    ("airgap.unconfirmed",),
    ("airgap.packing",),
    ("airgap.collect", "airgap.export", "airgap.replay"),
    ("airgap.capture", "airgap.collecting", "airgap.exporting", "airgap.doctor"),
    ("airgap.isolated", "airgap.workstation"),
    ("airgap.cli", "airgap.__main__"),
]
ISOLATED = {
    "airgap.outbox",
    "airgap.outbox_layout",
    "airgap.known_ids",
    "airgap.batches",
    "airgap.captured",
    "airgap.collecting",
    "airgap.collection",
    "airgap.export",
    "airgap.exporting",
    "airgap.packing",
    "airgap.isolated",
    "airgap.applying",
    "airgap.confirmation",
    "airgap.marking",
    "airgap.overview",
    "airgap.unconfirmed",
}
NETWORK = {"socket", "ssl", "http", "urllib.request", "pycurl", "httpx", "asyncio", "ftplib"}
NETWORK |= {"smtplib"}


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}" in MODULES
                else node.module
                for alias in node.names
            )
    return found


def layer(name: str) -> int:
    for number, members in enumerate(LAYERS):
        if any(name == member or name.startswith(member + ".") for member in members):
            return number
    return -1


@pytest.mark.parametrize("name", [m for m in MODULES if m != "airgap"])
def test_module_imports_nothing_from_a_layer_above(name):
    assert layer(name) >= 0, f"{name} is in no layer"
    above = {
        i for i in imports(MODULES[name]) if i.startswith("airgap.") and layer(i) > layer(name)
    }
    assert not above


def test_the_two_sides_never_import_each_other():
    for name, path in MODULES.items():
        if name.startswith("airgap.collect") or name in ISOLATED:
            assert not {i for i in imports(path) if i.startswith("airgap.replay")}, name
        if name.startswith("airgap.capture"):
            assert not {i for i in imports(path) if i.startswith("airgap.replay")}, name
        if name.startswith("airgap.replay"):
            assert not {
                i
                for i in imports(path)
                if i.startswith(("airgap.collect", "airgap.capture")) or i in ISOLATED
            }, name


def test_only_replay_and_capture_import_network_modules():
    for name, path in MODULES.items():
        if not name.startswith(("airgap.replay", "airgap.capture", "airgap.cli.capture")):
            assert not {i for i in imports(path) if i in NETWORK or i.split(".")[0] in NETWORK}, (
                name
            )


def test_the_format_knows_neither_files_nor_trust():
    for name, path in MODULES.items():
        if name.startswith("airgap.bundle"):
            assert not {
                i for i in imports(path) if i.startswith(("airgap.trust", "airgap.media"))
            }, name


def test_no_module_is_long_and_no_function_either():
    for name, path in MODULES.items():
        text = path.read_text()
        assert len(text.splitlines()) <= 500, name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length <= 90, f"{name}.{node.name}: {length} lines"
