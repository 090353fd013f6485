"""A side effect owed to the outside, as a row: its states, when it is tried again, what its identifier is made of. Pure.

    pending ─claim→ sending ─accepted, duplicate→ sent ─in the provider's summary→ confirmed
       ↑ busy, refused for now ┘   │ ├─refused for good→ rejected (also long after, by the provider's own event)
       │                           │ └─too often→ dead
       └──── safe to send again ─ unknown ←─ no answer, or the sender died
    too_old: the provider no longer takes usage of that time; carried_forward: billed as an adjustment instead

Messages of a lane go one after another: one is at its head (pending, sending or unknown), the others are `queued` behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from tollkeeper.core.customers import Environment

Status = Literal[
    "queued",
    "pending",
    "sending",
    "unknown",
    "sent",
    "confirmed",
    "rejected",
    "too_old",
    "carried_forward",
    "dead",
]
STATUSES: Final[tuple[Status, ...]] = (
    "queued",
    "pending",
    "sending",
    "unknown",
    "sent",
    "confirmed",
    "rejected",
    "too_old",
    "carried_forward",
    "dead",
)
OPEN: Final[frozenset[Status]] = frozenset({"queued", "pending", "sending", "unknown"})
"""Not settled: it may still be sent."""
DELIVERED: Final[frozenset[Status]] = frozenset({"sent", "confirmed"})

METER_EVENT: Final = "meter_event"
INVOICE_LINE: Final = "invoice_line"
CREDIT_NOTE: Final = "credit_note"
LAST_INVOICE: Final = "last_invoice"
"""Of a customer without a contract: what waits as lines is put on an invoice of its own."""

FIRST: Final = 0
NORMAL: Final = 5
PRIORITIES: Final = (FIRST, NORMAL)
"""Of a claim: all that is due of the first goes before any of the next."""

SECOND_US: Final = 1_000_000
SHORTEST_BACKOFF: Final = 1.0
LONGEST_BACKOFF: Final = 3600.0


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """`identifier` is fixed before anything is sent and never used for something else; unique within a topic.

    `doubt_since`: since when the provider may have it without our knowing, None when it certainly has not. `fence` grows with each claim.
    customer, meter, period_start and quantity: of usage.
    """

    id: str
    environment: Environment
    topic: str
    lane: str
    identifier: str
    payload: Mapping[str, Any]
    priority: int
    created_at: int
    due_at: int
    status: Status = "pending"
    attempts: int = 0
    lease_until: int | None = None
    fence: int = 0
    last_attempt_at: int | None = None
    doubt_since: int | None = None
    error: str | None = None
    settled_at: int | None = None
    customer: str | None = None
    meter: str | None = None
    period_start: int | None = None
    quantity: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ended. pending and unknown: `due_at` says when it is looked at again. `certain`: the provider has not got it."""

    message: OutboxMessage
    status: Status
    due_at: int
    error: str | None = None
    certain: bool = False


class NotYet(Exception):
    """What a message needs is not there yet, such as its customer at the provider. Nothing was done; it waits."""


def identify(*parts: str | int) -> str:
    """An identifier of 64 characters: the same parts give the same, others another one."""
    text = "\0".join(str(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def usage_lane(environment: str, customer: str, meter: str) -> str:
    return f"usage/{environment}/{customer}/{meter}"


def backoff_us(attempts: int, random32: int, retry_after: float = 0.0) -> int:
    """Microseconds until the next attempt after `attempts` of them: 1 s doubled each time up to an hour, half of it by chance (0 ≤
    random32 < 2³²), and never before `retry_after` seconds."""
    longest: float = min(SHORTEST_BACKOFF * 2 ** min(max(attempts - 1, 0), 32), LONGEST_BACKOFF)
    seconds = longest / 2 + longest / 2 * (random32 / 2**32)
    return round(max(seconds, retry_after) * SECOND_US)
