"""A workstation that was in use: bundles, receipts, decisions, and a record in each state."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crashing import copy_of
from servers import answer, reset, serving
from support import LICENSE, Site, day, run, transaction


def told(site: Site, *words: object, code: int | None = 0) -> Any:
    """Return what a command of the workstation's says to machines."""
    return json.loads(run(*words, "--home", site.workstation, "--json", code=code).stdout)


def answers(connection: Any, body: bytes, _number: int) -> None:
    """Deliver, refuse, leave in doubt, or send away, by the day that a report is about."""
    if b"trace_transactions" in body:
        connection.sendall(answer(200, {"inserted_count": 2}))
    elif b'"from_timestamp":"2026-01-02' in body:
        connection.sendall(answer(422, {"detail": "no"}))
    elif b'"from_timestamp":"2026-01-03' in body:
        reset(connection, body, 0)
    elif b'"from_timestamp":"2026-01-05' in body:
        connection.sendall(answer(401))
    else:
        connection.sendall(answer(204))


def lived_in(root: Path) -> Site:
    """Return a site whose ledger, a file, has two bundles, and one record or more in each state."""
    site = Site.build(root)
    values = [
        day(1),
        {"license": LICENSE, "trace_transactions": [transaction(1), transaction(2)]},
    ]
    site.collect(values)
    site.export()
    with serving(answers) as server:
        site.import_(server.url)
    site.collect([day(n) for n in (1, 2, 3, 5, 6, 7)])
    site.export()
    with serving(answers) as server:
        site.import_(server.url, "--in-flight", "1", code=6)
    [doubt] = told(site, "ledger", "list", "--state", "in_doubt")["records"]
    choice = ("--resend", "--reason", "support: not counted")
    run("ledger", "resolve", "--home", site.workstation, doubt["id"], *choice)
    with serving(answers) as server:
        site.import_(server.url, "--in-flight", "1", code=6)
    # A run was cut off while it sent one.
    with closing(sqlite3.connect(site.workstation / "ledger.sqlite")) as connection:
        last = "(SELECT max(record) FROM open_record WHERE state = 'waiting')"
        connection.execute(f"UPDATE open_record SET state = 'sending' WHERE record = {last}")
        connection.commit()
    return site


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A workstation whose ledger has bundles, receipts, history, and a record in each state."""
    return lived_in(tmp_path_factory.mktemp("lived"))


@pytest.fixture
def lived(kept: Site, tmp_path: Path) -> Site:
    """A copy of it, to be changed."""
    return copy_of(kept, tmp_path / "site")
