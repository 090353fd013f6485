"""What a piece of the log touched, for whoever reports usage by reading on from a sequence."""

from __future__ import annotations

from typing import Any

import apsw

from tollkeeper.core.metering import CELL_SECONDS, Meter
from tollkeeper.core.usage import Touched
from tollkeeper.storage.sql.usage.meters import read_definition

TOUCHED = f"""
SELECT flags & 1, customer, type, epoch, time / 1000000 / {CELL_SECONDS}, min(time), max(time) FROM events
WHERE seq > ? AND seq <= ? GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608 - constants only


def meter_spans(db: apsw.Connection) -> list[tuple[int, Meter, int, int | None]]:
    rows = db.execute(
        "SELECT number, key, definition, from_epoch, until_epoch FROM meters JOIN meter_epochs USING (number)"
    )
    return [(number, read_definition(key, text), since, until) for number, key, text, since, until in rows]


def touched(db: apsw.Connection, after_seq: int, most: int) -> tuple[list[Touched], int]:
    """What the rows of the log in (after_seq, after_seq + most] may have changed, and the last sequence looked at.

    Events and corrections alike, by a seek in the log; no data is read, so a meter whose filters or value an event lacks is told, too.
    """
    with db:
        upto = min(after_seq + most, int(db.execute("SELECT coalesce(max(seq), 0) FROM events").get or 0))
        rows: Any = db.execute(TOUCHED, (after_seq, upto)).fetchall()
        spans = meter_spans(db)
        names: dict[int, str] = {}
        for row in rows:
            for number in row[1:3]:
                if number not in names:
                    names[number] = str(db.execute("SELECT name FROM names WHERE number = ?", (number,)).get)
    found: dict[tuple[str, str, str, int], tuple[int, int]] = {}
    for environment, customer, type, epoch, quarter, first, last in rows:
        for _, meter, since, until in spans:
            if meter.event_type == names[type] and since <= epoch and (until is None or epoch < until):
                where = ("test" if environment else "live", names[customer], meter.key, quarter * CELL_SECONDS)
                before = found.get(where, (first, last))
                found[where] = (min(first, before[0]), max(last, before[1]))
    return [Touched(*where, *span) for where, span in found.items()], max(upto, after_seq)
