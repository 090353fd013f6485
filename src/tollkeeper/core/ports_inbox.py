"""Repositories of the inbox, as protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tollkeeper.core.customers import Environment
    from tollkeeper.core.inbox import InboxEvent, InboxStatus


class InboxRepository(Protocol):
    """Events of the payment provider, unique on (provider, id)."""

    def add(self, events: Sequence[InboxEvent]) -> int:
        """How many were new; one that is there already stays as it is."""
        ...

    def get(self, provider: str, id: str) -> InboxEvent | None: ...

    def due(self, provider: str, environment: Environment, now: int, limit: int) -> Sequence[InboxEvent]:
        """Pending ones whose time has come, the longest due first."""
        ...

    def claim(self, event: InboxEvent, until: int) -> bool:
        """Count an attempt and put it off until then. False: somebody else was first."""
        ...

    def settle(self, event: InboxEvent, status: InboxStatus, now: int, error: str | None = None) -> bool:
        """Done, ignored or dead. False: it is no longer pending."""
        ...

    def put_off(self, event: InboxEvent, due_at: int, error: str | None = None) -> None:
        """Try it again then; its attempts stay as they are, and so does an error that is not given anew."""
        ...

    def replay(self, provider: str, id: str, now: int) -> bool:
        """Pending again, from the first attempt. False: there is no such event."""
        ...

    def replay_dead(self, provider: str, now: int) -> int: ...

    def resume(self, provider: str, now: int) -> None:
        """Make due what was under way or put off when the process that owned it ended."""
        ...

    def list(
        self, status: InboxStatus | None, type: str | None, before: tuple[int, str] | None, limit: int
    ) -> Sequence[InboxEvent]:
        """Newest first by (received_at, id), those below `before`; without payloads."""
        ...

    def counts(self) -> Mapping[InboxStatus, int]:
        """How many are pending and dead."""
        ...

    def oldest_pending(self) -> int | None:
        """When the pending event that waits longest was received."""
        ...

    def forget(self, before: int, limit: int) -> int:
        """Remove settled events received before then, and leases that nobody took since. How many."""
        ...


class LeaseRepository(Protocol):
    """Who works on an object of the provider. `fence` grows with each lease; a commit names the one it holds."""

    def take(self, provider: str, environment: Environment, object: str, now: int, until: int) -> int | None:
        """The fence, or None while somebody else holds it."""
        ...

    def give_back(self, provider: str, environment: Environment, object: str, fence: int) -> bool:
        """False: it was taken by somebody else meanwhile."""
        ...

    def clear(self, provider: str) -> None:
        """Give back all: for the one owner of the database, when it starts."""
        ...
