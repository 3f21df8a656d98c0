"""What hybrid keys and sealing cost, beside Ed25519 and no sealing.

    python tests/benchmarks/keys.py

Each round signs and verifies with both algorithms, and writes and verifies the same bundle plain and
sealed to each suite, in turns in one process. Only ratios mean something on another machine.
"""

import argparse
import io
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import SOURCE, bundle_fields, report, trusted

from airgap import catalog, verify
from airgap.bundle.layout import Header
from airgap.bundle.sealing import Context, FileKey, Sealing
from airgap.bundle.writer import Writer
from airgap.collect.payloads import Rules, records_of
from airgap.contents import Contents
from airgap.records import Record
from airgap.trust import keys, recipients
from airgap.trust.keys import ED25519, HYBRID, PrivateKey
from airgap.trust.recipients import RecipientKey
from airgap.trust.store import TrustStore

SCHEMAS = catalog.load()
MESSAGE = os.urandom(4096)


def records(count: int) -> list[Record]:
    """Return made-up usage reports."""
    made = [report(n, n % 24) for n in range(count)]
    return [
        record.repeated(number)
        for number, value in enumerate(made)
        for record in records_of(value, json.dumps(value).encode(), SCHEMAS, Rules(), where="b")
    ]


def timed(step: Callable[[], object], times: int) -> float:
    """Return how many milliseconds one call takes."""
    started = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - started) / times * 1000


def written(found: list[Record], key: PrivateKey, recipient: RecipientKey | None) -> bytes:
    """Return a bundle of the records, sealed where there is a recipient."""
    file_key, header = None, Header("bundle")
    if recipient is not None:
        secret = os.urandom(32)
        file_key = FileKey(secret)
        wrapped = recipient.public.wrap(secret, Context(SOURCE, 1))
        header = Header("bundle", sealing=Sealing(file_key.commitment, (wrapped,)))
    stream = io.BytesIO()
    writer, contents = Writer(stream, header, file_key), Contents()
    for record in found:
        contents.add(record, SCHEMAS.kind(record.kind), where="b")
        writer.add(record.as_map())
    writer.finish(bundle_fields(**contents.as_map(SCHEMAS)), [key.sign])
    return stream.getvalue()


def main() -> None:
    """Print the figures as tables of this page's kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=200, help="signatures in a round")
    parser.add_argument("--records", type=int, default=5000, help="records of the bundle")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    signing = {name: keys.generate(name) for name in (ED25519, HYBRID)}
    opening = {
        "plain": None,
        "x25519": recipients.generate(hybrid=False),
        "mlkem768-x25519": recipients.generate(hybrid=True),
    }
    trust = TrustStore({}).with_key(trusted(signing[ED25519], "exporter"))
    found = records(options.records)
    figures: dict[str, dict[str, list[float]]] = {}

    def note(what: str, name: str, value: float) -> None:
        figures.setdefault(what, {}).setdefault(name, []).append(value)

    for _ in range(options.rounds):
        for name, key in signing.items():
            made = key.sign(MESSAGE).signature
            note("sign, ms", name, timed(lambda k=key: k.sign(MESSAGE), options.times))
            note(
                "verify, ms",
                name,
                timed(lambda k=key, m=made: k.public.verifies(m, MESSAGE), options.times),
            )
            note("signature, bytes", name, len(made))
        for name, recipient in opening.items():
            data = written(found, signing[ED25519], recipient)
            note(
                "write, ms",
                name,
                timed(lambda r=recipient: written(found, signing[ED25519], r), 1),
            )

            def opener(sealing, context, where, key=recipient):
                return key.unwrap(sealing, context, where=where)

            note(
                "verify and open, ms",
                name,
                timed(
                    lambda d=data, o=opener: verify.verify_bundle(
                        io.BytesIO(d), name="b", trust=trust, catalog=SCHEMAS, opener=o
                    ),
                    1,
                ),
            )
            note("bundle, bytes", name, len(data))
    print(
        f"Python {platform.python_version()}, {options.records:,} records, median of {options.rounds}"
    )
    print("| what | name | median | against the first |\n|---|---|---:|---:|")
    told = []
    for what, by_name in figures.items():
        first = None
        for name, values in by_name.items():
            middle = statistics.median(values)
            first = first or middle
            told.append({"what": what, "name": name, "median": middle, "ratio": middle / first})
            print(f"| {what} | {name} | {middle:,.3f} | {middle / first:.2f} |")
    if options.json:
        options.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
