"""A stick with many bundles of many sources, each as its own isolated host would have made it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from support import LICENSE, Site, bundle_fields, report

from airgap import catalog, timestamps
from airgap.bundle.layout import Header
from airgap.bundle.writer import Writer
from airgap.credentials import fingerprint
from airgap.records import Record
from airgap.verify import Contents

START = datetime(2026, 1, 1, tzinfo=UTC)


def fill_stick(site: Site, sources: int, bundles: int, records: int) -> int:
    """Put bundles on a site's stick, a chain for each source; return how many records they hold.

    Args:
        site: its exporter's key signs for every source.
        sources: how many sources.
        bundles: of each source.
        records: hourly usage reports of each bundle.
    """
    for number in range(sources):
        previous = None
        for sequence in range(1, bundles + 1):
            previous = _write(site, f"site-{number:03d}", sequence, previous, records)
    return sources * bundles * records


def _write(site: Site, source: str, sequence: int, previous: str | None, records: int) -> str:
    schemas, contents = catalog.load(), Contents()
    kind = schemas.kind("usage_report")
    path: Path = site.stick / f"{source}-{sequence:06d}.airgap"
    with path.open("w+b") as stream:
        writer = Writer(stream, Header("bundle"))
        for hour in range((sequence - 1) * records, sequence * records):
            start = START + timedelta(hours=hour)
            times = {"from_timestamp": start, "to_timestamp": start + timedelta(hours=1)}
            body = report(hour, **{k: timestamps.to_text(v) for k, v in times.items()})
            del body["license"]
            record = Record("usage_report", "documents", fingerprint("license", LICENSE), 0, body)
            contents.add(record, kind, where="a test")
            writer.add(record.as_map())
        made_at = START + timedelta(hours=sequence * records)
        envelope = writer.finish(
            bundle_fields(
                source=source,
                sequence=sequence,
                previous=previous,
                created_at=timestamps.to_text(made_at),
                **contents.as_map(schemas),
            ),
            [site.exporter.sign],
        )
    return envelope.document_id
