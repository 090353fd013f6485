"""The provider's own list of events, read again and again into the inbox: what no webhook brought comes in this way.

In test mode this replaces a tunnel to a developer's machine. An event that came as a webhook is in the inbox already and stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tollkeeper.core.inbox import SECOND_US, InboxEvent, polled
from tollkeeper.core.ports import Database
from tollkeeper.core.provider import Provider, ProviderEvent
from tollkeeper.services.clock import Clock
from tollkeeper.services.inbox import Inbox

OVERLAP_US: Final = 300 * SECOND_US
"""Read again each time: events do not appear in the list in the order of their times."""
FIRST_US: Final = 86_400 * SECOND_US
"""How far back it reads the first time. What happened earlier was about nothing of ours, and an old account remembers a lot of it."""
STORED_AT_ONCE: Final = 100


class EventPoll:
    """Reads on from the newest event seen, less the overlap; after a restart too. The first time, those of the last day.

    `caught` counts events that were here before any webhook. `listed`: another list than `Provider.events`, and its name.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        provider: Provider,
        inbox: Inbox,
        listed: tuple[str, Callable[[int], Iterator[ProviderEvent]]] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._provider = provider
        self._inbox = inbox
        kind, self._listed = listed or ("events", provider.events)
        self.name = f"{kind}/{provider.name}/{provider.environment}"
        self.caught = 0

    def run_once(self) -> bool:
        """One pass; never more to do at once. Raises what the provider raises; what was read until then is kept."""
        with self._database.read() as rows:
            mark = rows.watermarks.get(self.name)
        batch: list[InboxEvent] = []
        begun = self._clock.now_us()
        since = begun - FIRST_US if mark is None else mark - OVERLAP_US
        for event in self._listed(max(0, since)):
            batch.append(polled(self._provider.name, event, self._provider.environment, self._clock.now_us()))
            if len(batch) == STORED_AT_ONCE:
                mark = self._store(batch, mark)
                batch = []
        if batch:
            self._store(batch, mark)
        elif mark is None:  # nothing yet: what comes is read from here on, however late that is
            with self._database.write() as rows:
                rows.watermarks.set(self.name, begun, begun)
        return False

    def _store(self, batch: list[InboxEvent], mark: int | None) -> int:
        """A pass is in the order of time, so that one that breaks off has left nothing out before the mark.

        Times ahead of our own clock (a provider's movable clock) do not move it: what happens now must not lie before it.
        """
        now = self._clock.now_us()
        mark = max(mark or 0, min(batch[-1].created_at, now))
        self.caught += self._inbox.store(batch, (self.name, mark))
        return mark
