"""The outbox looked at, and what was given up begun anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tollkeeper.core.errors import Conflict, NotFound
from tollkeeper.core.ids import new_id
from tollkeeper.core.outbox import DELIVERED, METER_EVENT, OutboxMessage, Status, identify
from tollkeeper.core.ports import Database
from tollkeeper.services.clock import Clock
from tollkeeper.services.topics import KEPT_US as KNOWN_US


@dataclass(frozen=True, slots=True)
class OutboxState:
    """How much stands in which state, everything delivered left out, and for how many seconds the oldest has been owed."""

    counts: Mapping[Status, int]
    oldest_seconds: float


KEPT_US: Final = 40 * 86_400 * 1_000_000
"""How long messages are kept after the invoice of their period was finalised: longer than a report can be sent or thrown away."""
PIECE: Final = 200


class Outbox:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._after: tuple[str, str, int] | None = None
        self.removed = 0

    def forget(self) -> bool:
        """Remove messages of periods that were invoiced long ago, a piece at a time; true when there may be more.

        Those of a period stay that has one which is not settled, or that was not found equal to the provider: they explain it. What each
        period came to stays in the books.
        """
        before = self._clock.now_us() - KEPT_US
        with self._database.read() as rows:
            found = rows.periods.unsettled(self._after, PIECE)
        old = [one for one in found if one.state == "invoiced" and (one.finalized_at or one.end) < before]
        if old:
            with self._database.write() as rows:
                for one in old:
                    self.removed += rows.outbox.forget(one.environment, one.customer, one.start, before)
        more = len(found) == PIECE
        self._after = (found[-1].environment, found[-1].customer, found[-1].start) if more else None
        return more

    def list(
        self, status: Status | None = None, topic: str | None = None, before: str | None = None, most: int = 50
    ) -> Sequence[OutboxMessage]:
        """The newest first, ids below `before`."""
        with self._database.read() as rows:
            return rows.outbox.list(status, topic, before, most)

    def get(self, message: str) -> OutboxMessage:
        """Raises NotFound."""
        with self._database.read() as rows:
            found = rows.outbox.get(message)
        if found is None:
            raise NotFound(f"There is no message {message[:60]!r} in the outbox.")
        return found

    def state(self) -> OutboxState:
        with self._database.read() as rows:
            counts, oldest = rows.outbox.counts(), rows.outbox.oldest()
        waits = 0.0 if oldest is None else max(0.0, (self._clock.now_us() - oldest) / 1_000_000)
        return OutboxState(counts, waits)

    def replay(self, message: str) -> OutboxMessage:
        """Send once more what was put aside (dead), or usage that the provider rejected: the latter as a new message, since the
        provider remembers the identifier of what it threw away. Raises NotFound, Conflict.
        """
        now = self._clock.now_us()
        with self._database.write() as rows:
            found = rows.outbox.get(message)
            if found is None:
                raise NotFound(f"There is no message {message[:60]!r} in the outbox.")
            if found.status == "dead":
                doubted = found.doubt_since is not None and now >= found.doubt_since + KNOWN_US
                rows.outbox.replay(found, "unknown" if doubted else "pending", now)
                again: OutboxMessage | None = rows.outbox.get(message)
            elif found.status == "rejected" and found.topic == METER_EVENT:
                period = found.customer and rows.periods.get(found.environment, found.customer, found.period_start or 0)
                if period and period.state == "invoiced":
                    raise Conflict(f"The period of {found.id} was invoiced: it is carried forward by itself.")
                again = OutboxMessage(
                    id=new_id("out", now // 1000, self._clock.random_bits(80)),
                    environment=found.environment,
                    topic=found.topic,
                    lane=found.lane,
                    identifier=identify("again", found.identifier),
                    payload={**found.payload, "replaces": found.id},
                    priority=found.priority,
                    created_at=now,
                    due_at=now,
                    customer=found.customer,
                    meter=found.meter,
                    period_start=found.period_start,
                    quantity=found.quantity,
                )
                rows.outbox.put([again])
                rows.outbox.replaced(found.id, again.id, now)
            elif found.status in DELIVERED:
                raise Conflict(f"Message {found.id} was delivered; it is not sent again.")
            else:
                raise Conflict(f"Message {found.id} is {found.status}; only dead and rejected ones are sent again.")
        assert again is not None
        return again
