"""What came in from the payment provider: an event stored once with its raw bytes, its states, and when it is tried again.

pending ──► done       its effect was applied
        ├─► ignored    nobody here acts on this type, or it is of another mode
        └─► dead       its effect failed too often; `replay` makes it pending again
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from tollkeeper.core.customers import Environment

if TYPE_CHECKING:
    from tollkeeper.core.ports import Repositories
    from tollkeeper.core.provider import Provider, ProviderEvent

InboxStatus = Literal["pending", "done", "ignored", "dead"]

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
FIRST_WAIT_US: Final = SECOND_US
LONGEST_WAIT_US: Final = 4 * 3600 * SECOND_US
MOST_ATTEMPTS: Final = 24
"""With the waits above and below: about two days, so that neither an outage of the provider nor a wrong key loses an event."""
KEPT_US: Final = 40 * DAY_US
"""How long a settled event is kept: longer than the provider repeats one (3 days) or remembers it (30 days)."""


class InboxEvent(NamedTuple):
    """One event as it is stored. `object` is the id of what it is about; `payload` the bytes as they came. Instants µs."""

    provider: str
    id: str
    environment: Environment
    type: str
    object: str | None
    created_at: int
    received_at: int
    payload: bytes
    status: InboxStatus
    attempts: int
    due_at: int
    error: str | None = None
    processed_at: int | None = None

    def document(self) -> dict[str, Any]:
        """The event as JSON: what it was about at the time, which may be no longer so."""
        found = json.loads(self.payload)
        return found if isinstance(found, dict) else {}


class InboxState(NamedTuple):
    """What is in the inbox now. `oldest_seconds`: for how long the oldest pending event has waited; 0 when none does."""

    pending: int
    dead: int
    oldest_seconds: float


AfterCommit: TypeAlias = Callable[[], None]


class Effect(Protocol):
    """What an event of one type does. `fetch` runs outside any transaction, `apply` inside the one that marks the event as processed."""

    def about(self, event: InboxEvent) -> str:
        """What it is about, in words of the provider: events that are about the same are worked on one at a time.

        Choose what `apply` writes to: an invoice that changes a subscription is about the subscription.
        """
        ...

    def fetch(self, provider: Provider, event: InboxEvent) -> Any:
        """Read the object as it is now. Raises what the provider raises; it is tried again later."""
        ...

    def apply(self, rows: Repositories, event: InboxEvent, fetched: Any, now: int) -> Sequence[AfterCommit]:
        """Write what follows from it. The returned calls are made after the commit, once each.

        Called again when its transaction was taken back, so it changes nothing but `rows`. It happens once for each event, whatever is
        delivered how often; an operator's replay makes it happen again, so that what is added to books is added under an id of the
        provider's.
        """
        ...


Effects: TypeAlias = Mapping[str, Effect]
"""By type of event. A type without an effect is stored and ignored."""


def arrived(
    provider: str,
    id: str,
    type: str,
    object: str | None,
    created_at: int,
    live: bool,
    payload: bytes,
    account: Environment | None,
    now: int,
) -> InboxEvent:
    """An event as it is stored on arrival: of the other mode than the account's it is kept and never applied.

    `account` None: it is not known whose events these are; they wait.
    """
    environment: Environment = "live" if live else "test"
    if account is None or environment == account:
        return InboxEvent(provider, id, environment, type, object, created_at, now, payload, "pending", 0, now)
    error = f"It is a {environment} event, and this server speaks for a {account} account."
    return InboxEvent(provider, id, environment, type, object, created_at, now, payload, "ignored", 0, now, error, now)


def polled(provider: str, event: ProviderEvent, account: Environment, now: int) -> InboxEvent:
    """An event that was asked for rather than sent."""
    return arrived(
        provider, event.id, event.type, event.object, event.created_at, event.live, event.payload, account, now
    )


def wait_us(attempts: int, chance: float, at_least_s: float = 0.0) -> int:
    """µs until the next attempt after `attempts` failed ones: doubled each time, half of it by chance (0 to 1).

    `at_least_s`: what the provider asked for.
    """
    whole = min(FIRST_WAIT_US << min(attempts - 1, 32), LONGEST_WAIT_US)
    return max(whole // 2 + int(whole // 2 * chance), int(at_least_s * SECOND_US))
