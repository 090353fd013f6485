"""Sends what the outbox owes: claim, send by topic, settle.

Claims and settlements are transactions of their own, and nothing is held while the other side is spoken to. What was claimed by a process
that died is `unknown` once its lease has run out, as is what got no answer; its topic finds out before it is sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import NotFound, StorageUnavailable
from tollkeeper.core.outbox import SECOND_US, NotYet, OutboxMessage, Settlement, Status, backoff_us
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.provider import ProviderBusy, ProviderRefused, ProviderUnavailable
from tollkeeper.services.clock import Clock

logger = logging.getLogger("tollkeeper.dispatch")

BATCH: Final = 200
DOUBTS: Final = 20
"""Messages of unknown outcome looked into in one turn."""
LEASE_US: Final = 300 * SECOND_US
"""Longer than any call may take (the client gives up after 80 s)."""
MOST_ATTEMPTS: Final = 40
"""Of a message that fails for reasons of ours; with the longest backoff that is over a day."""


class Topic(Protocol):
    """What is done with the messages of one topic."""

    def send(self, message: OutboxMessage, now: int) -> Status:
        """Do it, under the message's identifier: `sent`, or `too_old` when it was not even tried. Raises the provider's errors."""
        ...

    def look(self, message: OutboxMessage, now: int) -> Settlement:
        """Find out what became of one whose outcome is unknown: sent, pending (safe to send again) or still unknown."""
        ...

    def settled(self, rows: Repositories, message: OutboxMessage, status: Status, now: int) -> None:
        """What follows from a settlement, in its transaction. Not called for pending and unknown."""
        ...


class _Work(Protocol):
    def __call__(self, message: OutboxMessage, /) -> Settlement: ...


class Bucket:
    """At most `rate` a second, one second's worth at once; None: as many as there are."""

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._left = rate or 0.0
        self._at = clock.steady_ns()

    def take(self, most: int) -> int:
        if self.rate is None:
            return most
        now = self._clock.steady_ns()
        self._left = min(self.rate, self._left + (now - self._at) / 1e9 * self.rate)
        self._at = now
        taken = min(most, int(self._left))
        self._left -= taken
        return taken

    def give_back(self, count: int) -> None:
        self._left += count


class Dispatcher:
    """A step of a runner of its own, since a slow provider must not hold up the others. `topics` by name.

    `sole`: no other process sends, so that what was under way when the one before was killed is taken up at once, not after its lease.
    """

    def __init__(
        self,
        database: Database,
        topics: Mapping[str, Topic],
        environment: Environment,
        clock: Clock,
        *,
        rate: float | None = None,
        threads: int = 8,
        batch: int = BATCH,
        sole: bool = False,
    ) -> None:
        self._database = database
        self._topics = topics
        self._environment: Environment = environment
        self._clock = clock
        self._bucket = Bucket(rate, clock)
        self._batch = batch if rate is None else max(1, min(batch, int(rate)))
        self._pool = ThreadPoolExecutor(threads, "outbox") if threads > 1 else None
        self._troubles = 0
        self._rest_until = 0
        self._left_over = sole
        self.counts: dict[str, int] = {}

    def close(self) -> None:
        """Begin nothing more; what is under way is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def run_once(self) -> bool:
        """Send a batch; true when there may be more to do at once."""
        now = self._clock.now_us()
        if self._clock.steady_ns() < self._rest_until:
            return False
        if self._left_over:
            with self._database.write() as rows:
                rows.outbox.resume(now)
            self._left_over = False
        with self._database.read() as rows:  # most turns find nothing, and a write waits for the disk
            if not rows.outbox.waiting(self._environment, now):
                return False
        most = self._bucket.take(1 if self._troubles else self._batch)
        with self._database.write() as rows:
            rows.outbox.expire(now)
            doubts = rows.outbox.doubtful(self._environment, now, now + LEASE_US, min(DOUBTS, most))
            claimed = rows.outbox.claim(self._environment, now, now + LEASE_US, most - len(doubts))
        self._bucket.give_back(most - len(doubts) - len(claimed))
        settlements = [*self._all(self._look, doubts), *self._all(self._send, claimed)]
        self._settle(settlements)
        return bool(doubts or claimed) and not self._troubles

    def _all(self, work: _Work, messages: Sequence[OutboxMessage]) -> list[Settlement]:
        if self._pool is None or len(messages) < 2:
            return [work(message) for message in messages]
        return list(self._pool.map(work, messages))

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        now = self._clock.now_us()
        if not settlements:
            return
        with self._database.write() as rows:
            written = rows.outbox.settle(settlements, now)
            for one, ours in zip(settlements, written, strict=True):
                if ours and one.status not in ("pending", "unknown"):
                    self._topics[one.message.topic].settled(rows, one.message, one.status, now)
        for one in settlements:
            self.counts[one.status] = self.counts.get(one.status, 0) + 1

    def _send(self, message: OutboxMessage) -> Settlement:
        now = self._clock.now_us()
        topic = self._topics.get(message.topic)
        if topic is None:
            return self._later(message, now, "nothing here sends messages of this topic", certain=True)
        try:
            status = topic.send(message, now)
        except ProviderBusy as error:
            self._rest(error.retry_after)
            return self._later(message, now, error.detail, certain=True, retry_after=error.retry_after)
        except NotYet as error:
            return self._later(message, now, str(error), certain=True)
        except ProviderUnavailable as error:
            self._rest(0.0)
            return self._later(message, now, error.detail, certain=False)
        except (ProviderRefused, NotFound) as error:
            self._troubles = 0
            if message.doubt_since != message.last_attempt_at:  # an earlier attempt may have come through
                return Settlement(message, "unknown", now + self._wait(message), error.detail)
            return Settlement(message, "rejected", now, error.detail, certain=True)
        except StorageUnavailable:
            raise
        except Exception as error:
            logger.exception("message %s of the outbox", message.id, extra={"outbox_message": message.id})
            return self._failed(message, now, error)
        self._troubles = 0
        return Settlement(message, status, now, certain=status == "too_old")

    def _failed(self, message: OutboxMessage, now: int, error: Exception) -> Settlement:
        """A fault of ours: whether it was sent before that is not known."""
        text = f"{type(error).__name__}: {error}"
        if message.attempts >= MOST_ATTEMPTS:
            return Settlement(message, "dead", now, text)
        return Settlement(message, "unknown", now + self._wait(message), text)

    def _later(
        self, message: OutboxMessage, now: int, error: str, *, certain: bool, retry_after: float = 0.0
    ) -> Settlement:
        due = now + self._wait(message, retry_after)
        if not certain:
            return Settlement(message, "unknown", due, error)
        # this attempt did nothing; an earlier one may have
        only = message.doubt_since == message.last_attempt_at
        return Settlement(message, "pending", due, error, certain=only)

    def _look(self, message: OutboxMessage) -> Settlement:
        now = self._clock.now_us()
        topic = self._topics.get(message.topic)
        if topic is None:
            return Settlement(message, "unknown", now + self._wait(message), message.error)
        try:
            found = topic.look(message, now)
        except (ProviderBusy, ProviderUnavailable) as error:
            self._rest(getattr(error, "retry_after", 0.0))
            return Settlement(message, "unknown", now + self._wait(message), error.detail)
        except StorageUnavailable:
            raise
        except Exception as error:
            logger.exception("message %s of the outbox", message.id, extra={"outbox_message": message.id})
            return Settlement(message, "unknown", now + self._wait(message), f"{type(error).__name__}: {error}")
        self._troubles = 0
        if found.status == "unknown" and found.due_at <= now:
            return Settlement(message, "unknown", now + self._wait(message), found.error)
        return found

    def _wait(self, message: OutboxMessage, retry_after: float = 0.0) -> int:
        return backoff_us(message.attempts, self._clock.random_bits(32), retry_after)

    def _rest(self, retry_after: float) -> None:
        """Speak to nobody for a while, then to one at a time until there is an answer."""
        self._troubles += 1
        wait = backoff_us(min(self._troubles, 6), self._clock.random_bits(32), retry_after)
        self._rest_until = max(self._rest_until, self._clock.steady_ns() + wait * 1000)
