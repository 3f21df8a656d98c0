"""Every byte of a bundle changed in turn, every length cut: refused before a request leaves."""

import json

import pytest
from support import LICENSE, bundle_fields, report, transaction

from airgap import catalog, timestamps
from airgap.contents import Contents
from airgap.credentials import Keyring, fingerprint
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


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.soak), 8])
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_import_refuses_every_changed_byte_and_every_cut(
    site, beacon, importer, compression, every
):
    """The short form: each byte by one of the two changes, and each eighth cut."""
    site.collect([report(3), {"license": LICENSE, "trace_transactions": [transaction(1)]}])
    site.export("--compression", compression)
    good = site.bundle.read_bytes()
    assert 1000 < len(good) < 4000
    variants = 0
    for position in range(len(good)):
        for change in (0x01, 0xFF) if position % every == 0 else ((0x01, 0xFF)[position % 2],):
            bad = bytearray(good)
            bad[position] ^= change
            result, ledger = importer(bytes(bad))
            assert result.error is not None, f"byte {position} changed by {change:02x} was accepted"
            assert result.error.exit_code in (3, 4, 5)
            variants += 1
        if position % every:
            continue
        result, ledger = importer(good[:position])
        assert result.error is not None, f"cut at {position} was accepted"
        variants += 1
    for tail in (b"\x00", b"\n", good):
        result, ledger = importer(good + tail)
        assert result.error is not None
    assert variants == len(good) + 2 * len(range(0, len(good), every))
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


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.soak), 16])
def test_a_sealed_bundle_with_any_byte_changed_or_cut_is_refused_opened_or_not(site, every):
    """With the key and without: what can be verified unopened covers every byte as well."""
    import io

    from airgap import verify
    from airgap.bundle.layout import Header
    from airgap.bundle.sealing import Context
    from airgap.bundle.writer import Writer
    from airgap.errors import AirgapError
    from airgap.export import Seal
    from airgap.records import Record
    from airgap.trust import recipients

    schemas = catalog.load()
    own = recipients.from_seeds(bytes(31) + b"x")
    seal = Seal((own.public,), lambda size: b"k" * size)
    header, file_key = seal.begin(Header("bundle", "none", 300), Context("bank-a.prod", 1))
    stream, contents = io.BytesIO(), Contents()
    writer = Writer(stream, header, file_key)
    for number in range(2):
        payload = {k: v for k, v in transaction(number).items() if k != "license"}
        record = Record(
            "trace_transactions", "documents", fingerprint("license", LICENSE), 0, payload
        )
        contents.add(record, schemas.kind(record.kind), where="test")
        writer.add(record.as_map())
    writer.finish(bundle_fields(**contents.as_map(schemas)), [site.exporter.sign])

    def check(data, *, with_key):
        def opener(sealing, context, where):
            return own.unwrap(sealing, context, where=where)

        if with_key:
            return verify.verify_bundle(
                io.BytesIO(data), name="b", trust=site.trust, catalog=schemas, opener=opener
            )
        return verify.verify_unopened(io.BytesIO(data), name="b", trust=site.trust, catalog=schemas)

    good = stream.getvalue()
    assert 1500 < len(good) < 4500
    assert len(check(good, with_key=True).manifest["chunks"]) == 2
    assert check(good, with_key=False).sealing is not None
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        # The short form: each byte by one of the two ways, some cuts by both.
        tried = [(bytes(bad), bool(position % 2))]
        if position % every == 0:
            tried += [(bytes(bad), not position % 2), (good[:position], True)]
            tried += [(good[:position], False)]
        for variant, with_key in tried:
            with pytest.raises(AirgapError) as caught:
                check(variant, with_key=with_key)
            assert caught.value.exit_code in (3, 4, 5)
