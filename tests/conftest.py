"""Fixtures: two homes that trust each other, a stick, and a real HTTP server on loopback."""

import compileall
import os
from collections.abc import Iterator
from pathlib import Path

import forking
import pytest
from authorities import authority, tls_beacon  # noqa: F401 - fixtures
from hypothesis import settings
from lived import kept, lived  # noqa: F401 - fixtures
from postgres import postgres, postgres_server  # noqa: F401 - fixtures
from releasing import images, installed, release, release_key, unpacked  # noqa: F401 - fixtures
from support import REPOSITORY, Site, report

from airgap import catalog
from airgap.replay.rehearsal import RehearsalBeacon

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("airgap", deadline=None)
settings.load_profile("airgap")

# Begun first, so that both workers end together; the others are quick, whoever takes them.
LONG = (
    "test_release.py",
    "test_release_containers.py",
    "test_release_kubernetes.py",
    "test_release_systemd.py",
    "test_langgraph_server.py",
    "test_demo.py",
    "test_model.py",
    "test_crash.py",
    "test_kill.py",
    "test_capture.py",
    "test_soak.py",
    "test_isolation.py",
    "test_sandbox.py",
    "test_every_byte.py",
    "test_benchmarks.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Compile airgap once, and not in each of the hundreds of processes that tests start."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(REPOSITORY / "airgap", quiet=2)
        # Workers, which start now, keep what they compile of the tests as well.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that are marked so with a ledger in a file, and with one in PostgreSQL."""
    if metafunc.definition.get_closest_marker("both_ledgers"):
        metafunc.fixturenames.append("ledger_kind")
        metafunc.parametrize("ledger_kind", ["file", "server"], indirect=True)


@pytest.fixture
def ledger_kind(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _clean_environment: None
) -> Iterator[str]:
    """Let every command of a test use a shared ledger, if it is to; hold that it used no file then."""
    if request.param == "server":
        monkeypatch.setenv("AIRGAP_LEDGER", request.getfixturevalue("postgres").url)
    yield request.param
    if request.param == "server":
        site: Site = request.getfixturevalue("site")
        assert not (site.workstation / "ledger.sqlite").exists()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def schemas() -> catalog.Catalog:
    return catalog.load()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.build(tmp_path)


@pytest.fixture
def exported(site: Site) -> Site:
    """A site with one bundle of three usage reports on its stick."""
    site.collect([report(n, n) for n in range(3)])
    site.export()
    return site


@pytest.fixture
def forks() -> forking.Forks:
    return forking.shared()


@pytest.fixture
def beacon(schemas: catalog.Catalog) -> Iterator[RehearsalBeacon]:
    with RehearsalBeacon(schemas, keep_requests=True) as server:
        yield server


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AIRGAP_LICENSE_KEY", "AIRGAP_API_KEY", "AIRGAP_PASSPHRASE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AIRGAP_LEDGER", raising=False)
    monkeypatch.delenv("AIRGAP_SEALING_PASSPHRASE", raising=False)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRGAP_HOME", str(tmp_path / "no-home"))
    # The polite default is for the beacon of others.
    monkeypatch.setenv("AIRGAP_IMPORT_RATE", "100000")
