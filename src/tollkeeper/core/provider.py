"""What is known of a payment provider: its objects as values, what may go wrong with a call, and the port that services speak to.

Amounts are Decimal in major units, instants µs, statuses open sets: a status that nobody foresaw is carried as it is.
An adapter (`integrations/stripe`) turns the provider's answers into these; nothing of its shapes passes beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from tollkeeper.core.customers import Customer, Environment
from tollkeeper.core.errors import TollkeeperError

Reported = Literal["accepted", "duplicate"]


class ProviderMissing(TollkeeperError):
    """There is no payment provider: set STRIPE_SECRET_KEY and start the server again."""

    code = "provider_missing"
    permanent = True


class ProviderUnavailable(TollkeeperError):
    """The payment provider did not answer. Whether it did what was asked is not known."""

    code = "provider_unavailable"


class ProviderBusy(TollkeeperError):
    """The payment provider asks to be called less often. Nothing was done."""

    code = "provider_busy"

    def __init__(self, detail: str = "", retry_after: float = 0.0, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after = retry_after


class ProviderUnauthorized(ProviderBusy):
    """The payment provider does not accept our key, or the key may not do this. Nothing was done; it waits until the key is mended."""

    code = "provider_unauthorized"


class ProviderRefused(TollkeeperError):
    """The payment provider refused. Nothing was done, and the same again will be refused again."""

    code = "provider_refused"
    permanent = True

    def __init__(self, detail: str = "", reason: str = "", **extra: Any) -> None:
        """`reason` is the provider's own word for it."""
        super().__init__(detail, **extra)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProviderCustomer:
    """Who is billed, as the provider knows them. `currency` is None until something was bought."""

    id: str
    name: str
    email: str | None
    currency: str | None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeterReport:
    """Usage to be added to a customer's meter. `identifier` is remembered by the provider; `value` may be negative, to take back."""

    identifier: str
    event_name: str
    customer: str
    value: Decimal
    at: int


@dataclass(frozen=True, slots=True)
class ProviderItem:
    """One price of a subscription, with its own period [start, end)."""

    id: str
    price: str
    period_start: int
    period_end: int
    quantity: int | None = None
    metered: bool = False


@dataclass(frozen=True, slots=True)
class ProviderSubscription:
    """A contract as the provider has it now. `anchor` is what its periods are counted from; `cancelled_at`: when it ended for good."""

    id: str
    customer: str
    status: str
    items: tuple[ProviderItem, ...]
    anchor: int
    created_at: int
    cancel_at: int | None = None
    ended_at: int | None = None
    trial_start: int | None = None
    trial_end: int | None = None
    paused: bool = False
    latest_invoice: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """One line of an invoice. `price` and `item` are None for what was put on it by itself; `reference` is then that of `add_line`."""

    id: str
    description: str
    amount: Decimal
    quantity: Decimal | None
    price: str | None
    item: str | None
    period_start: int
    period_end: int
    proration: bool = False
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class OwedLine:
    """What would be put on the next invoice by `add_line`: an amount in major units, for [start, end) in µs."""

    amount: Decimal
    currency: str
    description: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ProviderInvoice:
    """An invoice as the provider has it now. status: draft, open, paid, void, uncollectible."""

    id: str
    customer: str
    subscription: str | None
    number: str | None
    status: str
    reason: str | None
    currency: str
    total: Decimal
    amount_due: Decimal
    amount_paid: Decimal
    period_start: int
    period_end: int
    created_at: int
    finalized_at: int | None
    paid_at: int | None
    next_attempt_at: int | None
    hosted_url: str | None
    lines: tuple[ProviderLine, ...]
    voided_at: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderCharge:
    """Money that was taken. `payment` is what a checkout of a single payment names; `invoice` what it paid for."""

    id: str
    customer: str | None
    payment: str | None
    invoice: str | None
    currency: str
    amount: Decimal
    refunded: Decimal


@dataclass(frozen=True, slots=True)
class ProviderDispute:
    """A payment that the payer's bank takes back. status: needs_response, under_review, won, lost, warning_…"""

    id: str
    charge: str
    status: str
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class ProviderCheckout:
    """A checkout at the provider. status: open, complete, expired; payment_status: paid, unpaid, no_payment_required."""

    id: str
    url: str | None
    status: str
    payment_status: str
    customer: str | None
    subscription: str | None
    payment: str | None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """Something that happened at the provider. `object` is the id of what it is about; `payload` the event as it came."""

    id: str
    type: str
    created_at: int
    live: bool
    object: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class MeterFault:
    """Why usage that had been taken was thrown away later, and how often. `named`: for some of it the call (its key, or the identifier
    of the report) and what the provider says of it."""

    code: str
    count: int
    named: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MeterFaults:
    """What was thrown away in [start, end] of one meter (the provider's id); None: of none that exists."""

    meter: str | None
    start: int
    end: int
    faults: tuple[MeterFault, ...]


@dataclass(frozen=True, slots=True)
class CheckoutLine:
    """`price` is the provider's id; metered prices take no quantity."""

    price: str
    quantity: int | None


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """What to sell. `reference` is our purchase; it comes back in the metadata of the session and of what is made."""

    reference: str
    customer: str
    mode: Literal["subscription", "payment"]
    lines: Sequence[CheckoutLine]
    success_url: str
    cancel_url: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    trial_days: int | None = None
    coupon: str | None = None
    allow_promotion_codes: bool = False
    automatic_tax: bool = False
    collect_tax_ids: bool = False


class Provider(Protocol):
    """One account of a payment provider, in one environment. Synchronous; safe in any thread.

    Every call that changes something takes the `key` under which the provider remembers it: the same key again is the same call.
    Raises ProviderUnavailable (the outcome is unknown), ProviderBusy, ProviderRefused; NotFound where a read finds nothing.
    """

    name: str
    environment: Environment

    def report(self, report: MeterReport, key: str) -> Reported: ...

    def reported(self, meter: str, customer: str, start: int, end: int) -> Decimal:
        """What the provider's meter (its id) has for [start, end), whole minutes as the provider demands."""
        ...

    def make_customer(self, customer: Customer, key: str) -> str: ...

    def customer(self, customer: str) -> ProviderCustomer: ...

    def checkout(self, request: CheckoutRequest, key: str) -> ProviderCheckout: ...

    def read_checkout(self, checkout: str) -> ProviderCheckout: ...

    def expire_checkout(self, checkout: str, key: str) -> ProviderCheckout:
        """End a checkout that is still open, so that nobody can pay it any more; what it is now (it may have been paid just before)."""
        ...

    def portal(self, customer: str, return_url: str, key: str) -> str:
        """A link to the provider's own pages for one customer."""
        ...

    def subscription(self, subscription: str) -> ProviderSubscription: ...

    def subscriptions(self, customer: str | None = None) -> Iterator[ProviderSubscription]:
        """All of them, ended ones too; of one customer, or of every one."""
        ...

    def change_plan(
        self,
        subscription: str,
        prices: Sequence[CheckoutLine],
        when: Literal["now", "period_end"],
        key: str,
        ours: Callable[[str], bool],
    ) -> ProviderSubscription:
        """Put a subscription on other prices, with proration and an invoice when it is now. Items of prices that are not `ours` stay."""
        ...

    def cancel(self, subscription: str, when: Literal["now", "period_end"], key: str) -> ProviderSubscription:
        """Now: metered usage so far is invoiced."""
        ...

    def pause(self, subscription: str, paused: bool, key: str) -> ProviderSubscription: ...

    def invoice(self, invoice: str) -> ProviderInvoice: ...

    def charge(self, charge: str) -> ProviderCharge: ...

    def dispute(self, dispute: str) -> ProviderDispute: ...

    def preview(self, subscription: str, lines: Sequence[OwedLine] = ()) -> ProviderInvoice:
        """The next invoice of a subscription as it would be now, with lines that will be put on it."""
        ...

    def add_line(
        self,
        customer: str,
        amount: Decimal,
        currency: str,
        description: str,
        key: str,
        *,
        invoice: str | None = None,
        subscription: str | None = None,
        period: tuple[int, int] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """A signed amount on a draft `invoice`, or (None) on the customer's next one. The id of the line."""
        ...

    def find_line(self, customer: str, reference: str) -> str | None:
        """The id of the line that was added with `reference` as its metadata's `tollkeeper_message`; None: there is none."""
        ...

    def credit(self, invoice: str, amount: Decimal, memo: str, key: str, reference: str) -> str:
        """Take an amount (above 0) off a finalised invoice: off what is still to be paid, else onto the customer's balance. The id of
        the note, which carries `reference` as its metadata's `tollkeeper_message`."""
        ...

    def find_credit(self, invoice: str, reference: str) -> str | None:
        """The id of the note that was made with `reference`; None: there is none."""
        ...

    def invoice_lines(self, customer: str, currency: str, description: str, key: str, reference: str) -> str | None:
        """Make an invoice of the lines that wait for one, charged as the customer's last contract was. None: nothing waits."""
        ...

    def find_invoice(self, customer: str, reference: str) -> str | None:
        """The id of the invoice that was made with `reference`; None: there is none."""
        ...

    def events(self, since: int) -> Iterator[ProviderEvent]:
        """What happened at or after an instant, oldest first, as far back as the provider remembers."""
        ...

    def meter_events_told(self, since: int) -> Iterator[ProviderEvent]:
        """As `events`, of the kinds about meters, which are not among those."""
        ...

    def meter_faults(self, event: str, sent: Mapping[str, Any]) -> MeterFaults:
        """What an event of those tells, read from the provider; where it has none of that id, what was `sent` of it."""
        ...
