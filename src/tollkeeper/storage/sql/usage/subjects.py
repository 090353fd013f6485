"""A bound on how many subjects of one customer have rollups of their own on one day; the others are folded together.

Without it a client that puts a fresh subject on every event would make a rollup row of every event. Totals are exact either way: only
the split by subject ends, and shows as `other`. What passes the gate is never folded together: its subjects are keys, which the seller
makes.

The first subjects of a day, in the order of the log, have rows of their own. What counts is the first row of the log by which a meter
counts an event of a subject: the event as it was sent, or an amendment. This is kept in `own_subjects` and stays, though all events of the
subject be voided; and once one was refused, no other is taken that day. So all events of a subject from outside are in one place, and which
one it is follows from the log alone.
"""

from __future__ import annotations

from typing import Any, Final

import apsw

OTHER: Final = -1
MOST_SUBJECTS: Final = 1_000
REMEMBERED: Final = 10_000

ADOPT = """
INSERT INTO own_subjects
SELECT DISTINCT day, environment, customer, subject FROM rollups
WHERE day = ? AND environment = ? AND customer = ? AND subject <> 0
"""


class SubjectCap:
    """Used by the writer alone, inside its transaction."""

    def __init__(self, db: apsw.Connection, most: int = MOST_SUBJECTS) -> None:
        self._db = db
        self._most = most
        self._own: dict[tuple[int, int, int], set[int]] = {}  # with OTHER, once one was refused

    def fold(self, day: int, environment: int, customer: int, subject: int) -> int:
        """The subject's number for its rollup, or OTHER; where there is room it has rows of its own from now on."""
        where = (day, environment, customer)
        own = self._own.get(where)
        if own is None:
            own = self._read(where)
        if subject in own:
            return subject
        if OTHER in own:
            return OTHER
        taken = subject if len(own) < self._most else OTHER
        self._db.execute("INSERT INTO own_subjects VALUES (?, ?, ?, ?)", (*where, taken))
        own.add(taken)
        return taken

    def place(self, day: int, environment: int, customer: int, subject: int) -> int:
        """Where the rows of a subject are that a meter counted: its number, or OTHER."""
        where = (day, environment, customer)
        own = self._own.get(where)
        if own is None:
            own = self._read(where)
        return OTHER if OTHER in own and subject not in own else subject

    def _read(self, where: tuple[int, int, int]) -> set[int]:
        if len(self._own) >= REMEMBERED:
            self._own.clear()
        own = self._stored(where)
        if not own and where[0] < own_since(self._db):
            self._db.execute(ADOPT, where)
            own = self._stored(where)
        self._own[where] = own
        return own

    def _stored(self, where: tuple[int, int, int]) -> set[int]:
        rows: Any = self._db.execute(
            "SELECT subject FROM own_subjects WHERE day = ? AND environment = ? AND customer = ?", where
        )
        return {row[0] for row in rows}

    def forget(self) -> None:
        """The transaction failed."""
        self._own.clear()


def own_since(db: apsw.Connection) -> int:
    """The first day of which it is known what has rows of its own; of earlier ones it is taken from the rows there are."""
    return int(db.execute("SELECT max(day) FROM own_since").get or 0)
