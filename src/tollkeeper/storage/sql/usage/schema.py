"""Tables of the usage file, and its own small migrations: each step is one transaction, `user_version` says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from tollkeeper.core.errors import StorageMismatch

APPLICATION_ID = 0x544B5553  # "TKUS"

V1 = """
-- key/value: pair (the id shared with the main file), created_at
CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- strings that repeat, by number: s source, t type, u subject, c customer
CREATE TABLE names (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name)) STRICT;

-- a meter's definition, and the epochs in which it was in force (until_epoch NULL: still). An epoch is one set of meters;
-- each event says in which it was judged, so that folding the log again gives the same rollups whatever the catalog became
CREATE TABLE meters (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL, definition TEXT NOT NULL, UNIQUE (key, definition)
) STRICT;
CREATE TABLE meter_epochs (
    number INTEGER NOT NULL REFERENCES meters, from_epoch INTEGER NOT NULL, until_epoch INTEGER,
    PRIMARY KEY (number, from_epoch)
) STRICT, WITHOUT ROWID;

-- the log. flags = environment + 2 * kind of id; time in µs; delay = ms from time to arrival
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, delay INTEGER NOT NULL, flags INTEGER NOT NULL,
    source INTEGER NOT NULL, type INTEGER NOT NULL, subject INTEGER NOT NULL, customer INTEGER NOT NULL,
    epoch INTEGER NOT NULL, quantity INTEGER NOT NULL, id ANY NOT NULL, data TEXT
) STRICT;

-- dedupe of ids that carry their time: 16 bytes of id, then source and flags
CREATE TABLE timed_ids (key BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- usage folded: units + nanos / 10^9, per cell (its start in seconds) of a day. Day first, so that writes stay in one place
CREATE TABLE rollups (
    day INTEGER NOT NULL, environment INTEGER NOT NULL, customer INTEGER NOT NULL, meter INTEGER NOT NULL,
    subject INTEGER NOT NULL, cell INTEGER NOT NULL,
    events INTEGER NOT NULL, units INTEGER NOT NULL, nanos INTEGER NOT NULL,
    PRIMARY KEY (day, environment, customer, meter, subject, cell)
) STRICT, WITHOUT ROWID;

-- accepted events that no meter counts, so that a misnamed type is seen
CREATE TABLE unmatched (
    day INTEGER NOT NULL, environment INTEGER NOT NULL, type INTEGER NOT NULL, source INTEGER NOT NULL,
    events INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    PRIMARY KEY (day, environment, type, source)
) STRICT, WITHOUT ROWID;
"""

V2 = """
-- names, kind d: a combination of dimensions, the JSON array of its values. combination 0: the meter has none, -1: beyond the cap

-- usage by dimensions, for meters that declare some; `rollups` has their totals
CREATE TABLE dimensions (
    day INTEGER NOT NULL, environment INTEGER NOT NULL, customer INTEGER NOT NULL, meter INTEGER NOT NULL,
    combination INTEGER NOT NULL, subject INTEGER NOT NULL, cell INTEGER NOT NULL,
    events INTEGER NOT NULL, units INTEGER NOT NULL, nanos INTEGER NOT NULL,
    PRIMARY KEY (day, environment, customer, meter, combination, subject, cell)
) STRICT, WITHOUT ROWID;

-- max, min, latest: the value that is kept, and the time (µs) and sequence of its event
CREATE TABLE kept (
    day INTEGER NOT NULL, environment INTEGER NOT NULL, customer INTEGER NOT NULL, meter INTEGER NOT NULL,
    cell INTEGER NOT NULL, combination INTEGER NOT NULL, subject INTEGER NOT NULL,
    units INTEGER NOT NULL, nanos INTEGER NOT NULL, time INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (day, environment, customer, meter, cell, combination, subject)
) STRICT, WITHOUT ROWID;

-- unique: each value, and how many events had it
CREATE TABLE seen (
    day INTEGER NOT NULL, environment INTEGER NOT NULL, customer INTEGER NOT NULL, meter INTEGER NOT NULL,
    cell INTEGER NOT NULL, combination INTEGER NOT NULL, subject INTEGER NOT NULL, value TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (day, environment, customer, meter, cell, combination, subject, value)
) STRICT, WITHOUT ROWID;
"""

V3 = """
-- what was asked to be corrected. environment: 0 live, 1 test; selection and changes are JSON; upto: the log's last sequence then;
-- position: the sequence of the last event it has dealt with; applied_at (µs) NULL: it has not come to its end
CREATE TABLE corrections (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, environment INTEGER NOT NULL, action TEXT NOT NULL,
    selection TEXT NOT NULL, data TEXT, reason TEXT NOT NULL, author TEXT NOT NULL, made_at INTEGER NOT NULL,
    upto INTEGER NOT NULL, position INTEGER NOT NULL, events INTEGER NOT NULL, skipped INTEGER NOT NULL,
    applied_at INTEGER, changes TEXT NOT NULL
) STRICT;
CREATE INDEX corrections_open ON corrections (number) WHERE applied_at IS NULL;

-- an event, and the row of the log that corrected it: of several the last one holds. In `events` such a row has the kind 5 (void) or
-- 6 (amend), the sequence of its event as its id, and the data of the amendment
CREATE TABLE corrected (
    event INTEGER NOT NULL, seq INTEGER NOT NULL, correction INTEGER NOT NULL REFERENCES corrections,
    PRIMARY KEY (event, seq)
) STRICT, WITHOUT ROWID;
"""

V4 = """
-- instants (s) at which a customer's cells are divided besides its own calendar: bounds of billing periods
CREATE TABLE cuts (
    environment INTEGER NOT NULL, customer INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (environment, customer, at)
) STRICT, WITHOUT ROWID;
"""

V5 = """
-- which subjects of a customer's day, and which combinations of a customer's period (from start, s), have rows of their own: the first in
-- the log, corrections included, and for ever, whatever is voided later. -1: the bound was met, and all others are folded together
CREATE TABLE own_subjects (
    day INTEGER NOT NULL, environment INTEGER NOT NULL, customer INTEGER NOT NULL, subject INTEGER NOT NULL,
    PRIMARY KEY (day, environment, customer, subject)
) STRICT, WITHOUT ROWID;
CREATE TABLE own_combinations (
    environment INTEGER NOT NULL, customer INTEGER NOT NULL, meter INTEGER NOT NULL, start INTEGER NOT NULL,
    combination INTEGER NOT NULL, PRIMARY KEY (environment, customer, meter, start, combination)
) STRICT, WITHOUT ROWID;

-- the first day of which all of it is known; of earlier ones only what has rows
CREATE TABLE own_since (day INTEGER PRIMARY KEY) STRICT;
INSERT INTO own_since
SELECT coalesce(max(day) + 1, 0) FROM (SELECT max(day) AS day FROM rollups UNION ALL SELECT max(day) FROM unmatched);
"""


def migrations() -> list[str]:
    """The steps from an empty file; a step is never edited once released."""
    from tollkeeper.storage.sql.usage.random_ids import RandomIds

    return [V1 + RandomIds.SCHEMA, V2, V3, V4, V5]


def migrate(db: apsw.Connection, path: Path, info: Callable[[], dict[str, str]]) -> None:
    """Bring a file to this version. Refuses a file that is not ours or is newer (`StorageMismatch`)."""
    steps = migrations()
    application_id = db.pragma("application_id")
    version = db.pragma("user_version")
    if application_id not in (0, APPLICATION_ID) or (application_id == 0 and version != 0):
        raise StorageMismatch(
            f"{path} is a SQLite file of another program; name another file in TOLLKEEPER_DATABASE_URL."
        )
    if version > len(steps):
        raise StorageMismatch(
            f"{path} was written by a newer Tollkeeper (schema {version}, this one knows {len(steps)}): "
            "install that version, or restore a backup made before the upgrade."
        )
    if version == len(steps):
        return
    with db:
        for number, step in enumerate(steps[version:], start=version + 1):
            db.execute(step).fetchall()  # to its end, also past a statement that answers rows
            if number == 1:
                db.pragma("application_id", APPLICATION_ID)
                db.executemany("INSERT INTO info VALUES (?, ?)", list(info().items()))
            db.pragma("user_version", number)
