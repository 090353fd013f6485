"""What stored events do: each is claimed, its object read from the provider, and its effect committed with its own mark as processed.

Events that are about the same thing are worked on one at a time, under a lease with a fence; the lease is given back in the transaction
of the effect, so that a worker who was overtaken (a pause, a clock that jumped) commits nothing. What is read is read under the lease:
a state that is committed later was also read later.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.inbox import (
    MOST_ATTEMPTS,
    SECOND_US,
    AfterCommit,
    Effect,
    Effects,
    InboxEvent,
    LeaseLost,
    wait_us,
)
from tollkeeper.core.ports import Database
from tollkeeper.core.provider import Provider
from tollkeeper.services.clock import Clock

logger = logging.getLogger("tollkeeper.inbox")

LEASE_US: Final = 300 * SECOND_US
"""Longer than a provider's slowest answer, retries included; only after a crash on several machines does anybody wait for it."""
HELD_US: Final = SECOND_US
AT_ONCE: Final = 8
"""Objects that are read from the provider at the same time."""
LOOKED_AT: Final = 64


class Claim(NamedTuple):
    """An event that is ours to work on, until the lease's end."""

    event: InboxEvent
    effect: Effect
    about: str
    fence: int


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
        """Work on a few events that are due; true when there may be more."""
        if not self._resumed:
            self.resume()
        claims, moved = self._claim()
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                self._work(claims[number])
            except Exception as error:
                failures.append(error)

        # daemons: a provider that does not answer must not hold up the end of the process
        threads = [
            threading.Thread(target=work, args=(number,), name="inbox-effect", daemon=True)
            for number in range(1, len(claims))
        ]
        for thread in threads:
            thread.start()
        if claims:
            work(0)
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
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
            elif len(wanted) < self._at_once:
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

    def _work(self, claim: Claim) -> None:
        event, effect = claim.event, claim.effect
        try:
            fetched = effect.fetch(self._provider, event)
            after: Sequence[AfterCommit] = ()
            now = self._clock.now_us()
            with self._database.write() as rows:
                held = rows.leases.give_back(event.provider, event.environment, claim.about, claim.fence)
                if not held or not rows.inbox.settle(event, "done", now):
                    raise LeaseLost
                after = effect.apply(rows, event, fetched, now)
        except LeaseLost:
            self.outcomes["overtaken"] += 1
            logger.warning("%s %s was overtaken; nothing of it was kept here", event.type, event.id)
            return
        except Exception as error:
            self._failed(claim, error)
            return
        self.outcomes["done"] += 1
        for call in after:
            try:
                call()
            except Exception:
                logger.exception("after the effect of %s %s", event.type, event.id)

    def _failed(self, claim: Claim, error: Exception) -> None:
        """Put it off, or give it up after the last attempt. Raises StorageUnavailable."""
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
