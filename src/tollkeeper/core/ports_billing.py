"""Repositories of outbox, periods, reports and adjustments, as protocols; see `core.ports` for how a transaction works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from tollkeeper.core.billing import Adjustment, BillingPeriod, PeriodState, UsageReport
from tollkeeper.core.customers import Environment
from tollkeeper.core.drift import DriftCheck, DriftSum
from tollkeeper.core.outbox import OutboxMessage, Settlement, Status


class OutboxRepository(Protocol):
    def put(self, messages: Sequence[OutboxMessage]) -> int:
        """Owe these. One whose topic and identifier are there already is left out. How many were new."""
        ...

    def get(self, message: str) -> OutboxMessage | None: ...

    def by_identifier(self, topic: str, identifier: str) -> OutboxMessage | None: ...

    def owed(self, environment: Environment, customer: str) -> bool:
        """Whether usage of a customer is still on its way."""
        ...

    def waiting(self, environment: Environment, now: int) -> bool:
        """Whether there is anything to send, to look into or to give up on."""
        ...

    def claim(self, environment: Environment, now: int, lease_until: int, most: int) -> Sequence[OutboxMessage]:
        """Take what is due for sending, in order of priority and due date. Costs the same whatever waits behind."""
        ...

    def doubtful(self, environment: Environment, now: int, lease_until: int, most: int) -> Sequence[OutboxMessage]:
        """Take messages of unknown outcome that are due to be looked into."""
        ...

    def expire(self, now: int) -> int:
        """Make what a sender took and never settled within its lease `unknown`."""
        ...

    def resume(self, now: int) -> int:
        """Make what any sender has taken `unknown` and due now, whatever its lease: none of them is there any more. How many."""
        ...

    def settle(self, settlements: Sequence[Settlement], now: int) -> Sequence[bool]:
        """Write down how attempts ended; false where another claim has been made since, and nothing was written."""
        ...

    def hurry(self, environment: Environment, customer: str, now: int) -> int:
        """Put everything that is owed for a customer in front, at once."""
        ...

    def reject(self, topic: str, identifier: str, error: str, now: int) -> OutboxMessage | None:
        """The provider took it first and refused it later. The message as it was; None when there is none, or it was settled otherwise."""
        ...

    def withdraw(
        self, environment: Environment, customer: str, period_start: int, now: int, meter: str | None = None
    ) -> Sequence[OutboxMessage]:
        """Make usage of a period that the provider has not got (queued, pending, too_old, rejected) `carried_forward`; what was
        withdrawn, as it was."""
        ...

    def replay(self, message: OutboxMessage, status: Status, now: int) -> None:
        """Begin anew with a dead one: `pending`, or `unknown` when the provider may have it."""
        ...

    def set_aside(self, environment: Environment, customer: str, meter: str, period_start: int, now: int) -> int:
        """Rejected and dead usage of a period is billed by adjustment: `carried_forward`. How many messages."""
        ...

    def replaced(self, message: str, by: str, now: int) -> None:
        """Another message was made in the place of this one, which is `carried_forward`."""
        ...

    def confirm(self, environment: Environment, customer: str, meter: str, period_start: int) -> int:
        """Everything sent of a period is in the provider's summary."""
        ...

    def forget(self, environment: Environment, customer: str, period_start: int, before: int) -> int:
        """Remove what was settled of a period before an instant, if all of it is settled, and ledger and provider were found equal but
        for what was given away. How many messages."""
        ...

    def delivered(self, environment: Environment, customer: str, meter: str, period_start: int, until: int) -> Decimal:
        """How much usage of a period was there at an instant."""
        ...

    def deliveries(
        self, environment: Environment, customer: str, meter: str, period_start: int
    ) -> Sequence[tuple[int, Decimal]]:
        """When each report of a period was known to be there, and how much it was, in order of time."""
        ...

    def taken(self, environment: Environment, meter: str, start: int, end: int) -> Sequence[OutboxMessage]:
        """What the provider took of a meter, last tried in [start, end]."""
        ...

    def quantities(
        self, environment: Environment, customer: str, meter: str, period_start: int
    ) -> Mapping[Status, Decimal]:
        """How much usage of a period is in which state."""
        ...

    def of_period(
        self, environment: Environment, customer: str, meter: str, period_start: int, most: int
    ) -> Sequence[OutboxMessage]:
        """The newest first."""
        ...

    def list(self, status: Status | None, topic: str | None, before: str | None, most: int) -> Sequence[OutboxMessage]:
        """The newest first, ids below `before`; None does not filter."""
        ...

    def counts(self) -> Mapping[Status, int]:
        """Of everything that is not delivered."""
        ...

    def oldest(self) -> int | None:
        """When the oldest message that is still owed was made."""
        ...


class PeriodRepository(Protocol):
    def put(self, period: BillingPeriod) -> None:
        """Add or change one. With other bounds or another plan than before its totals are `stale`."""
        ...

    def get(self, environment: Environment, customer: str, start: int) -> BillingPeriod | None: ...

    def overlapping(
        self, environment: Environment, customers: Sequence[str], start: int, end: int
    ) -> Sequence[BillingPeriod]:
        """Those whose usage has an instant of [start, end), oldest first."""
        ...

    def of(self, environment: Environment, customer: str) -> Sequence[BillingPeriod]:
        """Oldest first."""
        ...

    def remove(self, environment: Environment, customer: str, start: int) -> None:
        """One that never came to be: its contract ended before."""
        ...

    def stale(self, environment: Environment, now: int, most: int) -> Sequence[BillingPeriod]:
        """Those that are ready (`core.billing.ready_at`)."""
        ...

    def looked_at(self, period: BillingPeriod) -> bool:
        """No longer stale; false when it was changed since it was read."""
        ...

    def move(
        self,
        environment: Environment,
        customer: str,
        start: int,
        state: PeriodState,
        invoice: str | None,
        finalized_at: int | None = None,
    ) -> None:
        """Into another state; its totals are stale."""
        ...

    def doubt(self, environment: Environment, customer: str, start: int) -> None:
        """Its totals are stale."""
        ...

    def unbilled_ends(self, provider: str, after: int, before: int) -> Sequence[tuple[Environment, str]]:
        """Environment and customer of open periods that ended in (after, before] with their contract."""
        ...

    def unsettled(self, after: tuple[str, str, int] | None, most: int) -> Sequence[BillingPeriod]:
        """With a provider, by environment, customer and start, those greater than `after`; invoiced ones included."""
        ...


class ReportRepository(Protocol):
    def get(self, environment: Environment, customer: str, meter: str, period_start: int) -> UsageReport | None: ...

    def of(self, environment: Environment, customer: str, period_start: int) -> Sequence[UsageReport]: ...

    def put(self, report: UsageReport, now: int) -> None: ...


class AdjustmentRepository(Protocol):
    def add(self, adjustment: Adjustment) -> None: ...

    def of(self, environment: Environment, customer: str, period_start: int | None = None) -> Sequence[Adjustment]:
        """Oldest first; None: of every period."""
        ...

    def by_outbox(self, message: str) -> Adjustment | None: ...

    def change(self, adjustment: Adjustment) -> None:
        """Write its state, outbox message and invoice."""
        ...


class DriftRepository(Protocol):
    def put(self, check: DriftCheck) -> None:
        """Keep the last comparison of a customer, meter and period."""
        ...

    def get(self, environment: Environment, customer: str, meter: str, period_start: int) -> DriftCheck | None: ...

    def list(self, environment: Environment, customer: str | None, drifted: bool) -> Sequence[DriftCheck]:
        """`drifted`: only those that are not equal. At most 10,000."""
        ...

    def remove(self, check: DriftCheck) -> None:
        """What it is about is no longer there."""
        ...

    def sums(self, environment: Environment) -> Mapping[tuple[str, str], DriftSum]:
        """By meter and state, what is equal too."""
        ...
