"""By which ids the outbox knows its records, and how a collection puts in many new ones.

Ids come in no order. Put in one by one, each changes another page of their table, and once that is larger
than what is held in memory, each is read from the disk and written there. So a collection that sees
nothing but new records sets ids aside, and puts in many at once, in order: each page is written once for
all of them. Only then it shows whether one of them was known, and ``airgap.batches`` has to know what to
do about that.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from sqlite3 import Connection

MOST = 500_000
"""Ids that are set aside at most; they take some 20 MB of memory."""
_AT_ONCE = 250


class KnownIds:
    """The ids of an outbox, within a transaction of it.

    Args:
        connection: to the outbox.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.apart = 0
        """How many are set aside."""
        connection.execute("DROP TABLE IF EXISTS temp.new_id")
        connection.execute(
            "CREATE TEMP TABLE new_id (id BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID"
        )

    def put(self, ids: Sequence[bytes], first: int, *, apart: bool) -> bool:
        """Put in the ids of new records, or nothing where one of them is known; tell whether they are in.

        Args:
            ids: the ids.
            first: the first one's record; those of the others follow.
            apart: whether they are set aside; of those before they are only held against these.
        """
        put = insert(
            self._connection,
            f"INSERT OR IGNORE INTO {'temp.new_id' if apart else 'known_id'} VALUES ",
            "(?, ?)",
            [(identifier, number) for number, identifier in enumerate(ids, first)],
            _AT_ONCE,
        )
        self.apart += put if apart else 0
        if put < len(ids):
            self.take_back(ids, first - 1)
        return put == len(ids)

    def take_back(self, ids: Sequence[bytes], last: int) -> None:
        """Take out those of some ids that belong to records behind a number."""
        places = ",".join("?" * len(ids))
        for table in ("temp.new_id", "known_id") if self.apart else ("known_id",):
            gone = self._connection.execute(
                f"DELETE FROM {table} WHERE id IN ({places}) AND number > ?", (*ids, last)
            ).rowcount
            self.apart -= gone if table == "temp.new_id" else 0

    def join(self, last: int) -> bool:
        """Put in what was set aside, or nothing where one of them is known; tell whether they are in.

        Either way nothing is aside any more.

        Args:
            last: number of the last record before those.
        """
        execute = self._connection.execute
        put = execute("INSERT OR IGNORE INTO known_id SELECT id, number FROM temp.new_id").rowcount
        is_new = put == self.apart
        if not is_new:
            execute(
                "DELETE FROM known_id WHERE number > ? AND id IN (SELECT id FROM temp.new_id)",
                (last,),
            )
        execute("DELETE FROM temp.new_id")
        self.apart = 0
        return is_new


def insert(
    connection: Connection,
    statement: str,
    values: str,
    rows: Sequence[Iterable[object]],
    at_once: int,
    common: tuple[object, ...] = (),
) -> int:
    """Insert rows, many with one statement, and return how many went in.

    Args:
        connection: to the database.
        statement: up to ``VALUES``.
        values: the places of one row.
        rows: the rows.
        at_once: rows of one statement.
        common: what all of them have, ``?1`` and so on.
    """
    put, whole = 0, statement + ",".join([values] * at_once)
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        text = whole if len(some) == at_once else statement + ",".join([values] * len(some))
        put += connection.execute(text, (*common, *chain.from_iterable(some))).rowcount
    return put
