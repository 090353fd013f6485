"""What stored events do: each is claimed, its object read from the provider, and its effect committed with its own mark as processed.

Events that are about the same thing are worked on one at a time, under a lease with a fence; the lease is given back in the transaction
of the effect, so that a worker who was overtaken (a pause, a clock that jumped) commits nothing. What is read is read under the lease:
a state that is committed later was also read later.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.inbox import (
    MOST_ATTEMPTS,
    SECOND_US,
    AfterCommit,
    Effect,
    Effects,
    InboxEvent,
    wait_us,
)
from tollkeeper.core.ports import Database
from tollkeeper.core.provider import Provider
from tollkeeper.services.clock import Clock

logger = logging.getLogger("tollkeeper.inbox")

LEASE_US: Final = 600 * SECOND_US
"""Longer than a provider's slowest answer, retries included; only after a crash on several machines does anybody wait for it."""
HELD_US: Final = SECOND_US
AT_ONCE: Final = 8
"""Objects that are read from the provider at the same time."""
CLAIMED: Final = 32
LOOKED_AT: Final = 64


class Claim(NamedTuple):
    """An event that is ours to work on, until the lease's end."""

    event: InboxEvent
    effect: Effect
    about: str
    fence: int


class Answer(NamedTuple):
    """What the provider said of a claim's object, or why it did not."""

    claim: Claim
    fetched: Any
    error: BaseException | None


class InboxEffects:
    """Applies `effects` to what is in the inbox of one account. `outcomes` counts what this process did.

    The outcomes: done, ignored, failed (and tried again later), dead, overtaken.
    """

    def __init__(
        self, database: Database, clock: Clock, provider: Provider, effects: Effects, *, at_once: int = AT_ONCE
    ) -> None:
        self._database = database
        self._clock = clock
        self._provider = provider
        self._effects = effects
        self._at_once = at_once
        self._resumed = False
        self.outcomes: Counter[str] = Counter()

    def resume(self) -> None:
        """Take up what the process before left under way. Only for the one owner of the database, and before anything is claimed."""
        with self._database.write() as rows:
            rows.leases.clear(self._provider.name)
            rows.inbox.resume(self._provider.name, self._clock.now_us())
        self._resumed = True

    def run_once(self) -> bool:
        """Work on a few events that are due; true when there may be more.

        Objects are read from the provider several at a time. What has been read by the time a transaction ends goes into the next,
        together.
        """
        if not self._resumed:
            self.resume()
        claims, moved = self._claim()
        waiting: SimpleQueue[Claim] = SimpleQueue()
        for claim in claims:
            waiting.put(claim)
        answers: SimpleQueue[Answer] = SimpleQueue()

        def read() -> None:
            with contextlib.suppress(Empty):
                while True:
                    answers.put(self._read(waiting.get_nowait()))

        # daemons: a provider that does not answer must not hold up the end of the process
        for _ in range(min(len(claims), self._at_once) - 1):
            threading.Thread(target=read, name="inbox-read", daemon=True).start()
        if len(claims) == 1:
            read()
        elif claims:
            threading.Thread(target=read, name="inbox-read", daemon=True).start()
        left = len(claims)
        while left:
            group = [answers.get()]
            with contextlib.suppress(Empty):
                while True:
                    group.append(answers.get_nowait())
            left -= len(group)
            self._settle(group)
        return moved

    def _claim(self) -> tuple[Sequence[Claim], bool]:
        """At most one event of each thing, and whether anything was found to do."""
        name, environment, now = self._provider.name, self._provider.environment, self._clock.now_us()
        with self._database.read() as rows:
            due = rows.inbox.due(name, environment, now, LOOKED_AT)
        if not due:
            return (), False
        unknown: list[InboxEvent] = []
        wanted: dict[str, tuple[InboxEvent, Effect]] = {}
        for event in due:
            effect = self._effects.get(event.type)
            if effect is None:
                unknown.append(event)
            elif len(wanted) < CLAIMED:
                wanted.setdefault(self._about(effect, event), (event, effect))
        claims: list[Claim] = []
        with self._database.write() as rows:
            for event in unknown:
                rows.inbox.settle(event, "ignored", now, "Nothing here acts on events of this type.")
            until = now + LEASE_US
            for about, (event, effect) in wanted.items():
                fence = rows.leases.take(name, environment, about, now, until)
                if fence is None:
                    rows.inbox.put_off(event, now + HELD_US)  # so that it does not stand before the others
                elif rows.inbox.claim(event, until):
                    claimed = event._replace(attempts=event.attempts + 1, due_at=until)
                    claims.append(Claim(claimed, effect, about, fence))
                else:  # somebody else has just done it
                    rows.leases.give_back(name, environment, about, fence)
        self.outcomes["ignored"] += len(unknown)
        return claims, bool(claims or unknown)

    def _about(self, effect: Effect, event: InboxEvent) -> str:
        try:
            return effect.about(event)
        except Exception:  # the attempt fails visibly, where it is counted
            logger.exception("what %s %s is about is not known", event.type, event.id)
            return event.id

    def _read(self, claim: Claim) -> Answer:
        try:
            return Answer(claim, claim.effect.fetch(self._provider, claim.event), None)
        except BaseException as error:  # whoever waits for the answer is to have it
            return Answer(claim, None, error)

    def _settle(self, group: Sequence[Answer]) -> None:
        """Commit the effects of what was read; put off what could not be read."""
        for answer in group:
            if answer.error is not None:
                self._failed(answer.claim, answer.error)
        good = [answer for answer in group if answer.error is None]
        try:
            self._apply(good)
        except Exception as error:
            if len(good) == 1:
                self._failed(good[0].claim, error)
                return
            for answer in good:  # one of them is at fault; each on its own, so that the others are not to suffer
                self._settle([answer])

    def _apply(self, group: Sequence[Answer]) -> None:
        """One transaction: leases given back, effects, marks."""
        if not group:
            return
        now = self._clock.now_us()
        done: list[tuple[InboxEvent, Sequence[AfterCommit]]] = []
        overtaken: list[InboxEvent] = []
        with self._database.write() as rows:
            for claim, fetched, _ in group:
                event = claim.event
                held = rows.leases.give_back(event.provider, event.environment, claim.about, claim.fence)
                if held and rows.inbox.settle(event, "done", now):
                    done.append((event, claim.effect.apply(rows, event, fetched, now)))
                else:
                    overtaken.append(event)
        self.outcomes["done"] += len(done)
        self.outcomes["overtaken"] += len(overtaken)
        for event in overtaken:
            logger.warning("%s %s was overtaken; nothing of it was kept here", event.type, event.id)
        for event, after in done:
            for call in after:
                try:
                    call()
                except Exception:
                    logger.exception("after the effect of %s %s", event.type, event.id)

    def _failed(self, claim: Claim, error: BaseException) -> None:
        """Put it off, or give it up after the last attempt. Raises StorageUnavailable, and what ends a process."""
        if not isinstance(error, Exception):
            raise error
        event = claim.event
        foreseen = isinstance(error, TollkeeperError)
        told = (error.detail if isinstance(error, TollkeeperError) else f"{type(error).__name__}: {error}")[:500]
        now = self._clock.now_us()
        wait = wait_us(event.attempts, self._clock.random_bits(32) / 2**32, getattr(error, "retry_after", 0.0))
        last = event.attempts >= MOST_ATTEMPTS
        with self._database.write() as rows:
            if not rows.leases.give_back(event.provider, event.environment, claim.about, claim.fence):
                self.outcomes["overtaken"] += 1
                return
            if last:
                rows.inbox.settle(event, "dead", now, told)
            else:
                rows.inbox.put_off(event, now + wait, told)
        self.outcomes["dead" if last else "failed"] += 1
        level = logging.ERROR if last or not foreseen else logging.WARNING
        text = "given up" if last else f"tried again in {wait // SECOND_US} s"
        logger.log(
            level,
            "the effect of %s %s failed, attempt %d, %s: %s",
            event.type,
            event.id,
            event.attempts,
            text,
            told,
            exc_info=None if foreseen else error,
        )
