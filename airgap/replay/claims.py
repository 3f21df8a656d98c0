"""Who may send which record: one run alone, or several at a time that claim their work.

A file's ledger is worked on by one run at a time; a lock file sees to that. In a shared ledger each
run has a number, and a lock of the server's on it that lives as long as the run's session: whether a
run is alive is the database's word, and no clock's. A run claims records before it sends them. What
is merely claimed was never sent, so the claims of a run that died are free again. What it was sending
is in doubt, or waits again where the endpoint tells duplicates.
"""

from collections.abc import Callable, Sequence
from typing import Any

from airgap import timestamps
from airgap.catalog import Catalog
from airgap.database import Connection, Store
from airgap.text import plural

SCOPE = (
    "EXISTS (SELECT 1 FROM bundle_record b JOIN scope s ON s.bundle = b.bundle"
    " WHERE b.record = o.record)"
)
_ENTRY = "o.record, r.id, r.kind, r.dialect, r.credential, r.occurrence, r.payload, o.attempts, o.doubted"
_CUT_OFF = "the run was cut off after sending began"
_POLL = 0.2
_SPACE = int.from_bytes(b"agld")
"""First half of the numbers of advisory locks on runs (PostgreSQL manual, section 13.3.5)."""
ALIVE = (
    "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
    f" AND classid::bigint = {_SPACE}"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
"""Numbers of the runs whose sessions are there."""


class Alone:
    """A ledger on which one run works at a time.

    Args:
        database: the ledger's.
        catalog: says which endpoints tell duplicates.
        clock: the present.
    """

    def __init__(self, database: Store, catalog: Catalog, clock: timestamps.Clock) -> None:
        self._database = database
        self._catalog = catalog
        self._clock = clock
        self.warn: Callable[[str], None] = lambda _: None
        """Takes what somebody should know."""
        self.who = ""
        """Who runs, for people at another workstation."""

    @property
    def held(self) -> str:
        """A further condition for a waiting record to be sent by this run, or nothing."""
        return ""

    @property
    def freed(self) -> str:
        """What else is set of a record that is to wait again, for whoever comes."""
        return ""

    @property
    def carried(self) -> str:
        """A further column that a record keeps when it is delivered, or nothing."""
        return ""

    def page(self, kind: str, last: int, limit: int) -> list[tuple[Any, ...]]:
        """Return the scope's next waiting records of a kind that this run may send, oldest first.

        Args:
            kind: the kind.
            last: only records with a higher number.
            limit: at most so many.
        """
        return self._database.connection.execute(
            # In this order, which SQLite takes the word for; a server chooses by itself.
            f"SELECT {_ENTRY} FROM open_record o CROSS JOIN record r WHERE r.number = o.record"
            f" AND o.state = 'waiting' AND o.kind = ? AND o.record > ? AND {SCOPE}"
            f" ORDER BY o.record LIMIT {limit}",
            (kind, last),
        ).fetchall()

    def recover(self) -> int:
        """Settle records that a run left in ``sending`` when it was cut off.

        Returns:
            How many records are newly in doubt.
        """
        with self._database.transaction() as connection:
            return self._settle(connection, "", ())

    def has_cut_off(self) -> bool | None:
        """Tell whether what is in ``sending`` was left by a run that is gone; None: not known here."""
        return None

    def await_others(
        self,
        kinds: Sequence[str],
        sleep: Callable[[float], None],
        interrupted: Callable[[], bool],
    ) -> bool:
        """Wait until no other run has records of the scope in hand.

        Args:
            kinds: records of these kinds only.
            sleep: waits for so many seconds.
            interrupted: whether nobody wants to wait any longer.

        Returns:
            Whether to look once more for records to send.
        """
        del kinds, sleep, interrupted
        return False

    def release(self) -> None:
        """Let others have what this run holds and does not send."""

    def end(self) -> None:
        """End the run."""

    def _settle(self, connection: Connection, only: str, values: tuple[object, ...]) -> int:
        told = [k.name for k in self._catalog.kinds.values() if k.duplicates_told]
        marks = ", ".join("?" * len(told))
        now = timestamps.to_text(self._clock())
        connection.execute(
            "INSERT INTO event (record, at, state, detail) SELECT record, CAST(? AS TEXT), CASE WHEN"
            f" kind IN ({marks}) THEN 'waiting' ELSE 'in_doubt' END, CAST(? AS TEXT)"
            f" FROM open_record WHERE state = 'sending'{only}",
            (now, *told, _CUT_OFF, *values),
        )
        connection.execute(
            "UPDATE open_record SET state = 'waiting', doubted = 1, detail = ?, changed_at = ?"
            f" WHERE state = 'sending' AND kind IN ({marks}){only}",
            (_CUT_OFF, now, *told, *values),
        )
        return connection.execute(
            "UPDATE open_record SET state = 'in_doubt', doubted = 1, detail = ?, changed_at = ?"
            f" WHERE state = 'sending'{only}",
            (_CUT_OFF, now, *values),
        ).rowcount


class Sharing(Alone):
    """A run among others on a ledger in PostgreSQL.

    Args:
        database: the ledger's.
        catalog: says which endpoints tell duplicates.
        clock: the present.
        dry: whether nothing is to be sent, so that nothing is claimed.
    """

    def __init__(
        self, database: Store, catalog: Catalog, clock: timestamps.Clock, *, dry: bool = False
    ) -> None:
        super().__init__(database, catalog, clock)
        self._dry = dry
        self._number: int | None = None
        self._left = 0

    @property
    def held(self) -> str:
        """That this run has claimed it."""
        return f" AND claimed_by = {self._number or 0}"

    @property
    def freed(self) -> str:
        """That no run has claimed it."""
        return ", claimed_by = NULL"

    @property
    def carried(self) -> str:
        """Which run sent it."""
        return ", claimed_by"

    def page(self, kind: str, last: int, limit: int) -> list[tuple[Any, ...]]:
        """Claim records; what another run locks or holds at this moment is its own."""
        if self._dry:
            return super().page(kind, last, limit)
        number = self._begun()
        with self._database.transaction() as connection:
            # Through the indexes, a few hundred records at a time, however many there are.
            connection.execute("SELECT set_config('enable_hashjoin', 'off', true)")
            connection.execute("SELECT set_config('enable_mergejoin', 'off', true)")
            # As a CTE, since a subquery may be run more than once, and then takes more than its limit.
            rows = connection.execute(
                "WITH page AS (SELECT o.record FROM open_record o"
                " WHERE o.state = 'waiting' AND o.claimed_by IS NULL AND o.kind = ? AND o.record > ?"
                f" AND {SCOPE} ORDER BY o.record LIMIT {limit} FOR UPDATE SKIP LOCKED)"
                " UPDATE open_record o SET claimed_by = ? FROM page JOIN record r"
                f" ON r.number = page.record WHERE o.record = page.record RETURNING {_ENTRY}",
                (kind, last, number),
            ).fetchall()
        return sorted(rows)

    def recover(self) -> int:
        """Settle what runs left whose session is gone, and free what they had claimed."""
        rows = self._database.connection.execute(
            "SELECT number FROM run WHERE ended_at IS NULL AND number <> ? ORDER BY number",
            (self._number or 0,),
        ).fetchall()
        newly = 0
        for (number,) in rows:
            with self._database.transaction() as connection:
                [gone] = connection.execute(
                    "SELECT pg_try_advisory_xact_lock(?, CAST(? AS INTEGER))", (_SPACE, number)
                ).fetchone()
                if gone:
                    newly += self._settle(connection, " AND claimed_by = ?", (number,))
                    self._finish(connection, number)
        return newly

    def has_cut_off(self) -> bool | None:
        """Tell whether a record is being sent by no run that is alive."""
        statement = (
            "SELECT 1 FROM open_record WHERE state = 'sending'"
            f" AND (claimed_by IS NULL OR claimed_by NOT IN ({ALIVE})) LIMIT 1"
        )
        # Twice: locks are those of this moment, and rows may be older by as much as it takes to end a run.
        return all(
            self._database.connection.execute(statement).fetchone() is not None for _ in range(2)
        )

    def await_others(
        self,
        kinds: Sequence[str],
        sleep: Callable[[float], None],
        interrupted: Callable[[], bool],
    ) -> bool:
        """Wait for the others; what they leave, or left when they died, is to be sent by this run."""
        self.release()
        said = False
        while True:
            doubtful = self.recover()
            if doubtful:
                self.warn(
                    f"{plural(doubtful, 'record')} of a run that was cut off are now in doubt"
                )
            found = self._elsewhere(kinds)
            if found is None:
                return self._is_more(kinds)
            if interrupted():
                return True
            if not said:
                count, who = found
                self.warn(
                    f"{plural(count, 'record')} of these bundles are with another importer ({who}): "
                    "waiting until it is through"
                )
            said = True
            sleep(_POLL)

    def release(self) -> None:
        """Let others have what this run claimed and did not send."""
        if self._number is not None:
            self._database.connection.execute(
                "UPDATE open_record SET claimed_by = NULL WHERE state = 'waiting' AND claimed_by = ?",
                (self._number,),
            )

    def end(self) -> None:
        """Say that this run is over; its session's end would say so too."""
        if self._number is not None:
            with self._database.transaction() as connection:
                self._finish(connection, self._number)
            self._number = None

    def _begun(self) -> int:
        """Return this run's number, which is locked before anybody else can see it."""
        if self._number is None:
            with self._database.transaction() as connection:
                [[number]] = connection.execute(
                    "INSERT INTO run (importer, started_at) VALUES (?, ?) RETURNING number",
                    (self.who, timestamps.to_text(self._clock())),
                ).fetchall()
                connection.execute(
                    "SELECT pg_advisory_lock(?, CAST(? AS INTEGER))", (_SPACE, number)
                )
            self._number = int(number)
        return self._number

    def _finish(self, connection: Connection, number: int) -> None:
        connection.execute(
            "UPDATE open_record SET claimed_by = NULL WHERE state = 'waiting' AND claimed_by = ?",
            (number,),
        )
        # One that broke off with requests in flight is not over until these are settled.
        connection.execute(
            "UPDATE run SET ended_at = ? WHERE number = ? AND NOT EXISTS (SELECT 1 FROM open_record"
            " WHERE state = 'sending' AND claimed_by = ?)",
            (timestamps.to_text(self._clock()), number, number),
        )

    def _is_more(self, kinds: Sequence[str]) -> bool:
        """Tell whether others left records of the scope after this run had passed them by.

        What this run tried in vain waits too. So it looks again only where another run was there
        meanwhile, and only until a look changes nothing.
        """
        [left] = self._database.connection.execute(
            "SELECT count(*) FROM open_record o WHERE o.state = 'waiting' AND o.claimed_by IS NULL"
            f" AND o.kind IN ({', '.join('?' * len(kinds))}) AND {SCOPE}",
            list(kinds),
        ).fetchone()
        more = left > 0 and left != self._left and self._has_company()
        self._left = left if more else 0
        return bool(more)

    def _has_company(self) -> bool:
        """Tell whether another run is there, or was since this one began."""
        row = self._database.connection.execute(
            "SELECT 1 FROM run o LEFT JOIN run m ON m.number = ? WHERE o.number <> ?"
            " AND (o.ended_at IS NULL OR m.number IS NULL OR o.ended_at >= m.started_at) LIMIT 1",
            (self._number or 0, self._number or 0),
        ).fetchone()
        return row is not None

    def _elsewhere(self, kinds: Sequence[str]) -> tuple[int, str] | None:
        """Return how many of the scope's records other runs have in hand, and whose these are."""
        rows = self._database.connection.execute(
            "SELECT o.claimed_by, count(*) FROM open_record o WHERE o.claimed_by IS NOT NULL"
            " AND o.state IN ('waiting', 'sending') AND o.claimed_by <> ?"
            f" AND o.kind IN ({', '.join('?' * len(kinds))}) AND {SCOPE} GROUP BY o.claimed_by",
            (self._number or 0, *kinds),
        ).fetchall()
        if not rows:
            return None
        names = self._database.connection.execute(
            f"SELECT DISTINCT importer FROM run WHERE number IN ({', '.join('?' * len(rows))})",
            [row[0] for row in rows],
        ).fetchall()
        return sum(row[1] for row in rows), ", ".join(sorted(row[0] for row in names))
