"""The inbox: a provider's webhook is on the disk before it is answered. Its effect comes later (`services/inbox_effects.py`).

One thread stores what has queued up while the last transaction committed, all of it in the next. A webhook is answered after its
commit; when the commit fails the provider is told so, and sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Conflict, NotFound, StorageUnavailable, TollkeeperError
from tollkeeper.core.inbox import KEPT_US, SECOND_US, InboxEvent, InboxState, InboxStatus, arrived
from tollkeeper.core.ports import Database
from tollkeeper.core.webhooks import WebhookInvalid, check_signature
from tollkeeper.services.clock import Clock

logger = logging.getLogger("tollkeeper.inbox")

GROUP = 512
FORGOTTEN_AT_ONCE = 500


class Arrival(Protocol):
    """A webhook that waits for its commit: `done()` is called on `loop`, with `error` set when it is not stored."""

    loop: asyncio.AbstractEventLoop
    event: InboxEvent
    error: TollkeeperError | None

    def done(self) -> None: ...


class Inbox:
    """What one account's events come into. `secrets`: of the webhook endpoint, any of them signs. `account`: the mode of the account.

    `on_stored` is told after each commit that brought something new. The counts are of this process.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        provider: str = "stripe",
        account: Environment | None = None,
        secrets: Sequence[bytes] = (),
    ) -> None:
        self._database = database
        self._clock = clock
        self.provider = provider
        self.account = account
        self.secrets = tuple(secrets)
        self.on_stored: Callable[[], None] = lambda: None
        self.received = 0
        self.repeated = 0
        self.refused: Counter[str] = Counter()
        self._queue: SimpleQueue[list[Arrival] | None] = SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[Arrival]] = {}
        self._closing = False
        self._thread: threading.Thread | None = None

    def verify(self, header: str | None, body: bytes) -> None:
        """Raises NotFound when no secret is set, WebhookInvalid when the body is not signed by one, now."""
        if not self.secrets:
            self.refused["no_secret"] += 1
            raise NotFound("This server takes no webhooks: STRIPE_WEBHOOK_SECRET is not set.")
        try:
            check_signature(self.secrets, header, body, self._clock.now_ns() // 1_000_000_000)
        except WebhookInvalid as error:
            self.refused[error.reason] += 1
            raise

    def made(
        self, id: str, type: str, object: str | None, created_at: int | None, live: bool | None, payload: bytes
    ) -> InboxEvent:
        """The event as it is to be stored now: what does not say when it happened, now; what does not say its mode, of the account's."""
        now = self._clock.now_us()
        created_at = now if created_at is None else created_at
        live = self.account == "live" if live is None else live
        return arrived(self.provider, id, type, object, created_at, live, payload, self.account, now)

    def store(self, events: Sequence[InboxEvent], mark: tuple[str, int] | None = None) -> int:
        """Commit them, in the caller's thread; how many were new. Raises StorageUnavailable.

        `mark`: they were asked for, and this watermark is set with them.
        """
        try:
            with self._database.write() as rows:
                new = rows.inbox.add(events)
                if mark is not None:
                    rows.watermarks.set(*mark, self._clock.now_us())
        except StorageUnavailable:
            if mark is None:
                self.refused["storage"] += len(events)
            raise
        if mark is None:
            self.received += new
            self.repeated += len(events) - new
        if new:
            self.on_stored()
        return new

    def put(self, arrival: Arrival) -> None:
        """Store it with the next group; for the event loop's thread. Raises StorageUnavailable once it is closing."""
        if self._closing:
            raise StorageUnavailable("Tollkeeper is shutting down; nothing was recorded. Try again.")
        turn = self._turns.get(arrival.loop)
        if turn is None:
            self._turns[arrival.loop] = [arrival]
            arrival.loop.call_soon(self._gather, arrival.loop, 0)
        else:
            turn.append(arrival)

    def get(self, id: str) -> InboxEvent:
        """Raises NotFound."""
        with self._database.read() as rows:
            found = rows.inbox.get(self.provider, id)
        if found is None:
            raise NotFound(f"There is no event {id[:100]!r}.")
        return found

    def events(
        self,
        status: InboxStatus | None = None,
        type: str | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 50,
    ) -> Sequence[InboxEvent]:
        """Newest first by (received_at, id), those below `before`; without payloads."""
        with self._database.read() as rows:
            return rows.inbox.list(status, type, before, limit)

    def replay(self, id: str) -> InboxEvent:
        """Make an event pending again, whatever became of it. Raises NotFound, and Conflict for one of the other mode."""
        found = self.get(id)
        if self.account is not None and found.environment != self.account:
            raise Conflict(
                f"{id} is a {found.environment} event, and this server speaks for a {self.account} account. It is not applied."
            )
        with self._database.write() as rows:
            rows.inbox.replay(self.provider, id, self._clock.now_us())
        self.on_stored()
        return self.get(id)

    def replay_dead(self) -> int:
        """Make all dead ones pending again; how many."""
        with self._database.write() as rows:
            count = rows.inbox.replay_dead(self.provider, self._clock.now_us())
        self.on_stored()
        return count

    def state(self) -> InboxState:
        """How much waits, and for how long."""
        with self._database.read() as rows:
            counts, oldest = rows.inbox.counts(), rows.inbox.oldest_pending()
        waited = 0.0 if oldest is None else max(0.0, (self._clock.now_us() - oldest) / SECOND_US)
        return InboxState(counts["pending"], counts["dead"], waited)

    def forget(self) -> bool:
        """Remove what was settled long ago, a piece at a time; true when there may be more."""
        with self._database.write() as rows:
            return rows.inbox.forget(self._clock.now_us() - KEPT_US, FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE

    def close(self) -> None:
        """Store what is queued. Idempotent."""
        self._closing = True
        for loop in list(self._turns):
            self._end_turn(loop)
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _gather(self, loop: asyncio.AbstractEventLoop, had: int) -> None:
        """Hand over once a turn of the loop has brought no more: a commit costs nearly the same for few as for many."""
        turn = self._turns.get(loop)
        if turn is not None and had < len(turn) < GROUP:
            loop.call_soon(self._gather, loop, len(turn))
        else:
            self._end_turn(loop)

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = self._turns.pop(loop, None)
        if turn is None:
            return
        if self._thread is None:  # without a webhook there is no thread
            self._thread = threading.Thread(target=self._run, name="inbox-writer", daemon=True)
            self._thread.start()
        self._queue.put(turn)

    # the writer's thread

    def _run(self) -> None:
        stop = False
        while not stop:
            item = self._queue.get()
            group: list[Arrival] = []
            while True:
                if item is None:
                    stop = True
                    break
                group += item
                if len(group) >= GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            if group:
                self._commit(group)

    def _commit(self, group: list[Arrival]) -> None:
        try:
            self.store([arrival.event for arrival in group])
        except StorageUnavailable as error:
            logger.error("webhooks not stored: %s", error)
            failure = StorageUnavailable(
                f"The webhook could not be stored ({error.detail}) Nothing was recorded; send it again."
            )
            for arrival in group:
                arrival.error = failure
        except Exception as error:
            if len(group) > 1:  # one of them is at fault: find it, the others are not to suffer
                for arrival in group:
                    self._commit([arrival])
                return
            logger.exception("webhook not stored")
            self.refused["storage"] += 1
            group[0].error = StorageUnavailable(f"The webhook could not be stored ({type(error).__name__}).")
        loops: dict[asyncio.AbstractEventLoop, list[Arrival]] = {}
        for arrival in group:
            loops.setdefault(arrival.loop, []).append(arrival)
        for loop, arrivals in loops.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_finish, arrivals)


def _finish(arrivals: list[Any]) -> None:
    for arrival in arrivals:
        try:
            arrival.done()
        except Exception:
            logger.exception("after a webhook was stored")
