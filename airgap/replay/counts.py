"""How many records are in which state, without a look at those that are delivered.

A ledger keeps every record for good, so nearly all of a large one are delivered. How many a bundle
brought is stored when it comes, and what is not delivered is in a table of its own. The rest is delivered.
"""

from airgap.database import Connection

SOURCE = (
    "(SELECT x.source FROM bundle_record y JOIN bundle x ON x.number = y.bundle"
    " WHERE y.record = o.record LIMIT 1)"
)
"""Whose a record is; the source is part of its id, so every bundle of it says the same."""
_FIRST = (
    "NOT EXISTS (SELECT 1 FROM bundle_record e WHERE e.record = b.record AND e.bundle < b.bundle{})"
)
NOTE = (
    "INSERT INTO bundle_kind (bundle, kind, records, fresh)"
    " SELECT b.bundle, r.kind, count(*), sum(CASE WHEN " + _FIRST.format("") + " THEN 1 ELSE 0 END)"
    " FROM bundle_record b JOIN record r ON r.number = b.record WHERE {where} GROUP BY b.bundle, r.kind"
)
"""Stores how many records of each kind bundles hold."""
_CONFLICTS = (
    "SELECT x.source, r.kind, count(*) FROM bundle_record b JOIN bundle x ON x.number = b.bundle"
    " JOIN record r ON r.number = b.record WHERE b.conflict IS NOT NULL"
)
_STATE = "CASE WHEN d.record IS NULL THEN o.state ELSE 'delivered' END"
_SCOPED = "SELECT bundle FROM scope"
_ALL_ITS_OWN = (
    "SELECT d.bundle FROM delivered_bundle d WHERE NOT EXISTS (SELECT 1 FROM bundle_kind k"
    " WHERE k.bundle = d.bundle AND k.records <> k.fresh)"
)
"""Bundles that are delivered as a whole, and whose records no earlier one had brought."""

Counts = dict[tuple[str, str], dict[str, int]]
"""By source and kind, how many records are in each state."""


def note(connection: Connection, bundle: int) -> None:
    """Store how many records of each kind a bundle holds, when all of them are in."""
    connection.execute(NOTE.format(where="b.bundle = ?"), (bundle,))


def everything(connection: Connection) -> Counts:
    """Return how many records there are; what was told another way under a known id counts as dead."""
    found: Counts = {}
    for source, kind, count in connection.execute(
        "SELECT x.source, k.kind, CAST(sum(k.fresh) AS BIGINT) FROM bundle_kind k"
        " JOIN bundle x ON x.number = k.bundle GROUP BY x.source, k.kind"
    ):
        found[source, kind] = {"delivered": int(count)}
    for source, kind, state, count in connection.execute(
        f"SELECT {SOURCE} AS source, o.kind, o.state, count(*) FROM open_record o GROUP BY 1, 2, 3"
    ):
        states = found[source, kind]
        states[state] = count
        states["delivered"] -= count
    _add(found, connection.execute(f"{_CONFLICTS} GROUP BY x.source, r.kind").fetchall())
    return _sorted(found)


def by_kind(connection: Connection) -> dict[str, dict[str, int]]:
    """Return the same by kind, whosever they are."""
    found: dict[str, dict[str, int]] = {}
    for kind, count in connection.execute(
        "SELECT kind, CAST(sum(fresh) AS BIGINT) FROM bundle_kind GROUP BY kind"
    ):
        found[kind] = {"delivered": int(count)}
    for kind, state, count in connection.execute(
        "SELECT kind, state, count(*) FROM open_record GROUP BY kind, state"
    ):
        found[kind][state] = count
        found[kind]["delivered"] -= count
    for _, kind, count in connection.execute(f"{_CONFLICTS} GROUP BY x.source, r.kind"):
        found[kind]["dead"] = found[kind].get("dead", 0) + count
    return {kind: _some(states) for kind, states in sorted(found.items()) if _some(states)}


def of_scope(connection: Connection) -> Counts:
    """Return how many records the chosen bundles hold, each once."""
    found: Counts = {}
    for source, kind, count in connection.execute(
        "SELECT x.source, k.kind, CAST(sum(k.fresh) AS BIGINT) FROM bundle_kind k"
        f" JOIN bundle x ON x.number = k.bundle WHERE k.bundle IN ({_SCOPED})"
        f" AND k.bundle IN ({_ALL_ITS_OWN}) GROUP BY x.source, k.kind"
    ):
        found[source, kind] = {"delivered": int(count)}
    first = _FIRST.format(f" AND e.bundle IN ({_SCOPED})")
    for source, kind, state, count in connection.execute(
        # In this order: SQLite would else begin with every record of every bundle.
        f"SELECT x.source, r.kind, {_STATE} AS state, count(*) FROM scope s CROSS JOIN bundle x"
        " CROSS JOIN bundle_record b CROSS JOIN record r LEFT JOIN open_record o ON o.record = b.record"
        " LEFT JOIN delivered_record d ON d.record = b.record WHERE x.number = s.bundle"
        " AND b.bundle = s.bundle AND r.number = b.record"
        f" AND s.bundle NOT IN ({_ALL_ITS_OWN}) AND {first} GROUP BY 1, 2, 3"
    ):
        states = found.setdefault((source, kind), {})
        states[state] = states.get(state, 0) + count
    of_these = f"{_CONFLICTS} AND b.bundle IN ({_SCOPED}) GROUP BY x.source, r.kind"
    _add(found, connection.execute(of_these).fetchall())
    return _sorted(found)


def per_kind(counts: Counts) -> dict[str, dict[str, int]]:
    """Return counts by kind, whosever they are."""
    found: dict[str, dict[str, int]] = {}
    for (_, kind), states in counts.items():
        into = found.setdefault(kind, {})
        for state, count in states.items():
            into[state] = into.get(state, 0) + count
    return dict(sorted(found.items()))


def per_bundle(connection: Connection) -> dict[int, dict[str, int]]:
    """Return by bundle how many of its records, known ones too, are in which state."""
    found = {
        number: {"delivered": int(count)}
        for number, count in connection.execute(
            "SELECT bundle, CAST(sum(records) AS BIGINT) FROM bundle_kind GROUP BY bundle"
        )
    }
    conflicts = connection.execute(
        "SELECT bundle, 'dead', count(*) FROM bundle_record WHERE conflict IS NOT NULL GROUP BY bundle"
    ).fetchall()
    for number, state, count in [
        *conflicts,
        *connection.execute(
            # In this order, as in ``of_scope``.
            "SELECT b.bundle, o.state, count(*) FROM open_record o CROSS JOIN bundle_record b"
            " WHERE b.record = o.record AND b.conflict IS NULL GROUP BY b.bundle, o.state"
        ),
    ]:
        states = found[number]
        states[state] = states.get(state, 0) + count
        states["delivered"] -= count
    return {number: _some(states) for number, states in found.items()}


def _add(found: Counts, conflicts: list[tuple[str, str, int]]) -> None:
    for source, kind, count in conflicts:
        states = found.setdefault((source, kind), {})
        states["dead"] = states.get("dead", 0) + count


def _sorted(found: Counts) -> Counts:
    return {place: _some(states) for place, states in sorted(found.items()) if _some(states)}


def _some(states: dict[str, int]) -> dict[str, int]:
    return {state: count for state, count in sorted(states.items()) if count}
