"""How much memory a step takes, told by a process of its own.

    python peaks.py journey FOLDER RECORDS    collect and export so many usage reports
    python peaks.py questions FOLDER RECORDS  ask an outbox of so many records what export asks it

Prints the most memory that each step held, in KiB, as JSON; of ``questions`` what they took beyond reading
all records.
"""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from support import SOURCE, Site, report, run

from airgap import catalog, outbox, timestamps
from airgap.outbox import Outbox, StoredBundle
from airgap.records import KindTotal, Totals

_START = datetime(2024, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_FILL = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO record (id, kind, dialect, credential, occurrence, payload, lasting, outcome, collected_at)
SELECT randomblob(16), 'usage_report', 'documents', 'license:0', 0, x'80', x'', 'delivered', '' FROM n"""


def peak() -> int:
    """Return the most memory that this process has held, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("this system does not tell how much memory a process has held")


def reports(records: int) -> Iterator[dict[str, object]]:
    """Yield reports of minutes that follow each other, of fifty servers each."""
    for number in range(records):
        start, end = (timestamps.to_text(_START + _MINUTE * (number // 50 + i)) for i in (0, 1))
        yield report(number, from_timestamp=start, to_timestamp=end)


def journey(folder: Path, records: int) -> dict[str, int]:
    """Collect and export; of the outbox little is held in memory, so that all else shows."""
    outbox._CACHE = 1024**2
    site = Site.build(folder)
    lines = folder / "usage.jsonl"
    with lines.open("w") as stream:
        stream.writelines(json.dumps(one) + "\n" for one in reports(records))
    run("collect", "--home", site.isolated, lines, "--license-file", site.license_file)
    collected = peak()
    site.export()
    return {"collect": collected, "export": peak()}


def questions(folder: Path, records: int) -> dict[str, int]:
    """Ask what export asks about a bundle of all records, once they have been read."""
    held = Outbox(folder / "outbox.sqlite", SOURCE, catalog.load())
    held.database.connection.execute(_FILL, (records,))
    totals = Totals()
    for some in held.stored(1):
        totals.kinds.setdefault(some[0].kind, KindTotal()).records += len(some)
    before = peak()
    bundle = StoredBundle(1, "", "", 1, records, "2026-01-01T00:00:00Z", None)
    assert held.counted(1, records, totals) == totals
    assert held.outcomes(bundle) == {"delivered": records}
    held.is_confirmed(bundle)
    held.require_whole()
    return {"questions": peak() - before}


if __name__ == "__main__":
    step, where, count = sys.argv[1:]
    found = {"journey": journey, "questions": questions}[step](Path(where), int(count))
    sys.stdout.write(json.dumps(found))
