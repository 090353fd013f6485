"""The oldest events of the log removed, with the ids that recognise them. Rollups stay: they are what is billed.

Only a prefix of the log is ever removed, so `compacted_before_seq` says all there is to say about what is missing. `compacted_until`
is the latest event time that was removed: usage of later cells can still be proven from the log alone. The newest event is always kept,
so that sequence numbers never begin again. Freed pages are used by later events; the file does not shrink.
"""

from __future__ import annotations

from typing import NamedTuple

from tollkeeper.core.events import ULID_TIMED, UUID_TIMED
from tollkeeper.storage.sql.usage.log import UsageLog, timed_key

OLDEST = "SELECT seq, time, delay, flags, source, id FROM events WHERE seq < ? ORDER BY seq LIMIT ?"
SET_INFO = "INSERT INTO info VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


class Compacted(NamedTuple):
    """`removed` events; `more`: there is more to remove now."""

    removed: int
    more: bool


def compact(log: UsageLog, before_us: int, most: int) -> Compacted:
    """Remove at most `most` events that arrived before `before_us`, in one transaction. For the writer's thread, between two commits."""
    newest = 0
    latest = -(1 << 62)
    keys: list[tuple[bytes]] = []
    removed = 0
    for seq, time, delay, flags, source, id in log.db.execute(OLDEST, (log.last_seq, most)):
        if time + delay * 1000 >= before_us:
            break
        removed += 1
        newest = seq
        latest = max(latest, time)
        if flags >> 1 in (UUID_TIMED, ULID_TIMED):
            keys.append((timed_key(id, source, flags),))
    with log.transaction() as random_ids:
        if removed:
            log.db.executemany("DELETE FROM timed_ids WHERE key = ?", keys)
            log.db.execute("DELETE FROM events WHERE seq <= ?", (newest,))
            log.db.execute("DELETE FROM corrected WHERE event <= ?", (newest,))
            known = log.db.execute("SELECT value FROM info WHERE key = 'compacted_until'").get
            until = latest if known is None else max(latest, int(known))
            log.db.executemany(SET_INFO, [("compacted_before_seq", str(newest + 1)), ("compacted_until", str(until))])
            random_ids.prune(newest + 1)
        leftover = random_ids.remove()
    return Compacted(removed, removed == most or leftover)
