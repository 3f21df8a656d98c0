"""Every byte of a bundle changed in turn, every length cut: refused before a request leaves."""

import json

import pytest
from support import LICENSE, report, transaction

from airgap import catalog, timestamps
from airgap.credentials import Keyring
from airgap.home import open_home
from airgap.replay import intake
from airgap.replay.ledger import Ledger


@pytest.fixture
def importer(site, beacon):
    """Return a function that imports one file as the command does, and the state it leaves."""
    home = open_home(site.workstation)
    ledger = Ledger(home.ledger_path, catalog.load(), timestamps.system_clock)
    keyring = Keyring.of([("license", LICENSE)])
    trust = site.trust

    def import_bytes(data: bytes):
        path = site.root / "variant.airgap"
        path.write_bytes(data)
        taker = intake.Intake(home, ledger, trust, keyring, catalog.load(), timestamps.system_clock)
        [result] = taker.take([path], lambda _: None)
        return result, ledger

    yield import_bytes
    ledger.close()


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_import_refuses_every_changed_byte_and_every_cut(site, beacon, importer, compression):
    site.collect([report(3), {"license": LICENSE, "trace_transactions": [transaction(1)]}])
    site.export("--compression", compression)
    good = site.bundle.read_bytes()
    assert 1000 < len(good) < 4000
    variants = 0
    for position in range(len(good)):
        for change in (0x01, 0xFF):
            bad = bytearray(good)
            bad[position] ^= change
            result, ledger = importer(bytes(bad))
            assert result.error is not None, f"byte {position} changed by {change:02x} was accepted"
            assert result.error.exit_code in (3, 4, 5)
            variants += 1
        result, ledger = importer(good[:position])
        assert result.error is not None, f"cut at {position} was accepted"
        variants += 1
    for tail in (b"\x00", b"\n", good):
        result, ledger = importer(good + tail)
        assert result.error is not None
    assert variants == 3 * len(good)
    assert ledger.bundles() == []
    assert not beacon.seen
    result, _ = importer(good)
    assert result.error is None


def test_a_receipt_with_any_byte_changed_confirms_nothing(site, beacon):
    from airgap import verify

    site.collect([report(3)])
    site.export()
    site.import_(beacon.url)
    [path] = site.stick.glob("*.receipt")
    good = path.read_bytes()
    import io

    from airgap.errors import AirgapError

    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 0x80
        with pytest.raises(AirgapError):
            verify.verify_receipt(
                io.BytesIO(bytes(bad)), name="r", trust=site.trust, catalog=catalog.load()
            )
    bad = bytearray(good)
    bad[len(good) // 2] ^= 1
    path.write_bytes(bytes(bad))
    site.apply(code=None)
    assert json.dumps(site.status()["confirmed"]) == "{}"
