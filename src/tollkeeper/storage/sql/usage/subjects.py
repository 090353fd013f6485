"""A bound on how many subjects of one customer have rollups of their own on one day; the others are folded together.

Without it a client that puts a fresh subject on every event would make a rollup row of every event. Totals are exact either way: only
the split by subject ends, and shows as `other`. The first subjects of a day, in the order of the log, keep theirs. What passes the gate is
never folded together: its subjects are keys, which the seller makes.
"""

from __future__ import annotations

from typing import Final

import apsw

OTHER: Final = -1
MOST_SUBJECTS: Final = 1_000
REMEMBERED: Final = 10_000


class SubjectCap:
    """Used by the writer alone, inside its transaction."""

    def __init__(self, db: apsw.Connection, most: int = MOST_SUBJECTS) -> None:
        self._db = db
        self._most = most
        self._seen: dict[tuple[int, int, int], set[int]] = {}

    def fold(self, day: int, environment: int, customer: int, subject: int) -> int:
        """The subject's number for its rollup, or OTHER."""
        where = (day, environment, customer)
        seen = self._seen.get(where)
        if seen is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            rows = self._db.execute(
                "SELECT DISTINCT subject FROM rollups WHERE day = ? AND environment = ? AND customer = ? AND subject > 0",
                where,
            )
            seen = self._seen[where] = {row[0] for row in rows}
        if subject in seen:
            return subject
        if len(seen) >= self._most:
            return OTHER
        seen.add(subject)
        return subject

    def forget(self) -> None:
        """The transaction failed."""
        self._seen.clear()
