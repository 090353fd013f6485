"""Tollkeeper's server with an effect for webhooks, for the benchmark; settings in the environment.

The effect counts in the database how often it was applied to each event. The object is read from memory: what a provider's answer takes
is the provider's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tollkeeper.core.inbox import AfterCommit, InboxEvent
from tollkeeper.core.ports import Repositories
from tollkeeper.server import on_a_loop, opened
from tollkeeper.services.inbox_effects import InboxEffects
from tollkeeper.services.runner import Runner, Step
from tollkeeper.settings import Settings


class Memory:
    """A provider that is never asked over a network."""

    name = "stripe"
    environment = "test"


class Counting:
    def about(self, event: InboxEvent) -> str:
        return event.id  # as if each were about another invoice

    def fetch(self, provider: Any, event: InboxEvent) -> None:
        return None

    def apply(self, rows: Repositories, event: InboxEvent, fetched: Any, now: int) -> Sequence[AfterCommit]:
        name = f"applied:{event.id}"
        rows.watermarks.set(name, (rows.watermarks.get(name) or 0) + 1, now)
        return ()


def main() -> None:
    provider: Any = Memory()
    with opened(Settings.load()) as server:
        inbox = server.money.inbox
        inbox.account = "test"
        clock = server.toll.clock
        effects = InboxEffects(server.toll.database, clock, provider, {"invoice.paid": Counting()})
        runner = Runner([Step("inbox", effects.run_once, 1.0)], clock)
        inbox.on_stored = runner.wake
        server.runners = (runner,)
        on_a_loop(server.run())


if __name__ == "__main__":
    main()
