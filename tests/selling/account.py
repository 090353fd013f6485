"""A payment provider in memory: what was asked of it, and what it has now. Its clock is that of the tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

from tollkeeper.core.customers import Customer, Environment
from tollkeeper.core.errors import NotFound
from tollkeeper.core.inbox import InboxEvent
from tollkeeper.core.periods import period_at
from tollkeeper.core.provider import (
    CheckoutLine,
    CheckoutRequest,
    MeterReport,
    OwedLine,
    ProviderCharge,
    ProviderCheckout,
    ProviderCustomer,
    ProviderDispute,
    ProviderEvent,
    ProviderInvoice,
    ProviderItem,
    ProviderLine,
    ProviderRefused,
    ProviderSubscription,
    Reported,
)

METERED = "calls"


class Account:
    """`names` gives the metered prices by id; `happened` is what it would send, oldest first."""

    name = "stripe"

    def __init__(self, now: Any, environment: Environment = "live") -> None:
        self.environment: Environment = environment
        self.now = now
        self.customers: dict[str, str] = {}
        self.checkouts: dict[str, ProviderCheckout] = {}
        self.requests: dict[str, CheckoutRequest] = {}
        self.contracts: dict[str, ProviderSubscription] = {}
        self.invoices: dict[str, ProviderInvoice] = {}
        self.charges: dict[str, ProviderCharge] = {}
        self.disputes: dict[str, ProviderDispute] = {}
        self.keys: dict[str, Any] = {}
        self.happened: list[InboxEvent] = []
        self.calls: list[tuple[Any, ...]] = []
        self._next = 0

    def id(self, prefix: str) -> str:
        self._next += 1
        return f"{prefix}_{self._next}"

    def tell(self, type: str, object: str, customer: str | None) -> None:
        id = self.id("evt")
        payload = json.dumps(
            {"id": id, "type": type, "data": {"object": {"id": object, "customer": customer}}}
        ).encode()
        now = self.now()
        self.happened.append(
            InboxEvent("stripe", id, self.environment, type, object, now, now, payload, "pending", 0, now)
        )

    # the port

    def report(self, report: MeterReport, key: str) -> Reported:
        raise NotImplementedError

    def reported(self, meter: str, customer: str, start: int, end: int) -> Decimal:
        raise NotImplementedError

    def make_customer(self, customer: Customer, key: str) -> str:
        if key not in self.keys:
            self.keys[key] = self.id("cus")
            self.customers[customer.id] = self.keys[key]
        return str(self.keys[key])

    def customer(self, customer: str) -> ProviderCustomer:
        return ProviderCustomer(customer, "Acme", None, "usd")

    def checkout(self, request: CheckoutRequest, key: str) -> ProviderCheckout:
        if key in self.keys:
            return self.checkouts[self.keys[key]]
        id = self.keys[key] = self.id("cs")
        metadata = {**request.metadata, "tollkeeper_purchase": request.reference}
        self.requests[id] = request
        url = f"https://checkout.example/{id}"
        made = ProviderCheckout(id, url, "open", "unpaid", request.customer, None, None, metadata)
        self.checkouts[id] = made
        return made

    def read_checkout(self, checkout: str) -> ProviderCheckout:
        if checkout not in self.checkouts:
            raise NotFound(checkout)
        return self.checkouts[checkout]

    def expire_checkout(self, checkout: str, key: str) -> ProviderCheckout:
        if self.checkouts[checkout].status == "open":
            self.checkouts[checkout] = replace(self.checkouts[checkout], status="expired", url=None)
        return self.checkouts[checkout]

    def portal(self, customer: str, return_url: str, key: str) -> str:
        return f"https://billing.example/{customer}"

    def subscription(self, subscription: str) -> ProviderSubscription:
        if subscription not in self.contracts:
            raise NotFound(f"no {subscription}")
        return self.contracts[subscription]

    def subscriptions(self, customer: str | None = None) -> Iterator[ProviderSubscription]:
        yield from (one for one in self.contracts.values() if customer in (None, one.customer))

    def change_plan(
        self,
        subscription: str,
        prices: Sequence[CheckoutLine],
        when: Literal["now", "period_end"],
        key: str,
        ours: Callable[[str], bool],
    ) -> ProviderSubscription:
        self.calls.append(("change", subscription, tuple(line.price for line in prices), when))
        if when == "now":
            beside = [item.price for item in self.contracts[subscription].items if not ours(item.price)]
            self.upgrade(subscription, [*(line.price for line in prices), *beside])
        return self.contracts[subscription]

    def cancel(self, subscription: str, when: Literal["now", "period_end"], key: str) -> ProviderSubscription:
        self.calls.append(("cancel", subscription, when))
        if when == "now":
            self.end(subscription)
        else:
            one = self.contracts[subscription]
            self._put(replace(one, cancel_at=one.items[0].period_end), "customer.subscription.updated")
        return self.contracts[subscription]

    def pause(self, subscription: str, paused: bool, key: str) -> ProviderSubscription:
        self._put(replace(self.contracts[subscription], paused=paused), "customer.subscription.updated")
        return self.contracts[subscription]

    def invoice(self, invoice: str) -> ProviderInvoice:
        if invoice not in self.invoices:
            raise NotFound(invoice)
        return self.invoices[invoice]

    def charge(self, charge: str) -> ProviderCharge:
        return self.charges[charge]

    def dispute(self, dispute: str) -> ProviderDispute:
        return self.disputes[dispute]

    def preview(self, subscription: str, lines: Sequence[OwedLine] = ()) -> ProviderInvoice:
        return self.invoices[str(self.contracts[subscription].latest_invoice)]

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
        raise ProviderRefused

    def events(self, since: int) -> Iterator[ProviderEvent]:
        raise NotImplementedError

    # what happens there

    def pay(self, checkout: str, trial_days: int = 0) -> str | None:
        """Somebody paid: the contract, None for a single payment."""
        asked, session = self.requests[checkout], self.checkouts[checkout]
        assert session.status == "open", f"a checkout that is {session.status} takes no payment"
        customer = asked.customer
        if asked.mode == "payment":
            invoice = self._invoice(customer, None, "paid", [])
            payment = self.id("pi")
            self.charges[f"ch_{payment}"] = ProviderCharge(
                f"ch_{payment}", customer, payment, invoice, "usd", Decimal(99), Decimal(0)
            )
            self.checkouts[checkout] = replace(session, status="complete", payment_status="paid", payment=payment)
            self.tell("invoice.paid", invoice, customer)
            self.tell("checkout.session.completed", checkout, customer)
            return None
        days = asked.trial_days or trial_days
        id = self.begin(customer, [line.price for line in asked.lines], session.metadata, trial_days=days)
        self.checkouts[checkout] = replace(session, status="complete", payment_status="paid", subscription=id)
        self.tell("checkout.session.completed", checkout, customer)
        return id

    def begin(
        self,
        customer: str,
        prices: Sequence[str],
        metadata: Mapping[str, str] | None = None,
        *,
        trial_days: int = 0,
        status: str = "active",
    ) -> str:
        now = self.now() - self.now() % 1_000_000
        id = self.id("sub")
        end = now + trial_days * 86_400_000_000 if trial_days else period_at(now, "UTC", now)[1]
        status = "trialing" if trial_days else status
        invoice = self._invoice(customer, id, "paid", [(price, now, end) for price in prices if METERED not in price])
        self._put(
            ProviderSubscription(
                id,
                customer,
                status,
                tuple(ProviderItem(f"si_{id}_{p}", p, now, end, metered=METERED in p) for p in prices),
                end if trial_days else now,
                now,
                trial_end=end if trial_days else None,
                latest_invoice=invoice,
                metadata=dict(metadata or {}),
            ),
            "customer.subscription.created",
        )
        self.tell("invoice.paid", invoice, customer)
        self.tell("invoice.payment_succeeded", invoice, customer)
        return id

    def renew(self, id: str, *, paid: bool = True) -> str:
        """The period ends, and the next begins; a trial becomes a contract."""
        one = self.contracts[id]
        start = one.items[0].period_end
        end = period_at(one.anchor, "UTC", start)[1]
        lines = [(i.price, i.period_start, i.period_end) if i.metered else (i.price, start, end) for i in one.items]
        invoice = self._invoice(one.customer, id, "paid" if paid else "open", lines)
        items = tuple(replace(i, period_start=start, period_end=end) for i in one.items)
        status = "active" if paid else "past_due"
        self.tell("invoice.created", invoice, one.customer)
        self._put(replace(one, items=items, status=status, latest_invoice=invoice), "customer.subscription.updated")
        for type in ("invoice.paid", "invoice.payment_succeeded") if paid else ("invoice.payment_failed",):
            self.tell(type, invoice, one.customer)
        return invoice

    def settle(self, id: str) -> None:
        """What was owed is paid."""
        one = self.contracts[id]
        for invoice in self.invoices.values():
            if invoice.subscription == id and invoice.status == "open":
                self.invoices[invoice.id] = replace(
                    invoice, status="paid", amount_paid=invoice.total, paid_at=self.now()
                )
                self.tell("invoice.paid", invoice.id, one.customer)
        self._put(replace(one, status="active"), "customer.subscription.updated")

    def upgrade(self, id: str, prices: Sequence[str]) -> None:
        """At once: what was used is billed, and a new period begins."""
        one = self.contracts[id]
        now = self.now() - self.now() % 1_000_000
        end = period_at(now, "UTC", now)[1]
        lines = [(i.price, i.period_start, now) for i in one.items if i.metered]
        lines += [(price, now, end) for price in prices if METERED not in price]
        invoice = self._invoice(one.customer, id, "paid", lines)
        items = tuple(ProviderItem(f"si_{id}_{p}", p, now, end, metered=METERED in p) for p in prices)
        self.tell("invoice.created", invoice, one.customer)
        self._put(replace(one, items=items, anchor=now, latest_invoice=invoice), "customer.subscription.updated")
        self.tell("invoice.paid", invoice, one.customer)

    def end(self, id: str) -> None:
        one = self.contracts[id]
        now = self.now() - self.now() % 1_000_000
        lines = [(i.price, i.period_start, now) for i in one.items if i.metered]
        invoice = self._invoice(one.customer, id, "paid", lines)
        self._put(
            replace(one, status="canceled", ended_at=now, latest_invoice=invoice), "customer.subscription.deleted"
        )
        self.tell("invoice.created", invoice, one.customer)
        self.tell("invoice.paid", invoice, one.customer)

    def refund(self, charge: str) -> None:
        self.charges[charge] = replace(self.charges[charge], refunded=self.charges[charge].amount)
        self.tell("charge.refunded", charge, self.charges[charge].customer)

    def charge_of(self, invoice: str) -> str:
        id = self.id("ch")
        found = self.invoices[invoice]
        self.charges[id] = ProviderCharge(
            id, found.customer, self.id("pi"), invoice, found.currency, found.total, Decimal(0)
        )
        return id

    def dispute_of(self, charge: str, status: str, id: str | None = None) -> str:
        type = "charge.dispute.created" if id is None else "charge.dispute.closed"
        id = id or self.id("dp")
        self.disputes[id] = ProviderDispute(id, charge, status, self.charges[charge].amount, "usd")
        self.tell(type, id, None)
        return id

    def _put(self, contract: ProviderSubscription, type: str) -> None:
        self.contracts[contract.id] = contract
        self.tell(type, contract.id, contract.customer)

    def _invoice(
        self, customer: str, subscription: str | None, status: str, lines: Sequence[tuple[str, int, int]]
    ) -> str:
        id, now = self.id("in"), self.now() - self.now() % 1_000_000
        total = Decimal(99)
        self.invoices[id] = ProviderInvoice(
            id=id,
            customer=customer,
            subscription=subscription,
            number=f"A-{self._next}",
            status=status,
            reason=None,
            currency="usd",
            total=total,
            amount_due=total,
            amount_paid=total if status == "paid" else Decimal(0),
            period_start=now,
            period_end=now,
            created_at=now,
            finalized_at=now,
            paid_at=now if status == "paid" else None,
            next_attempt_at=None,
            hosted_url=f"https://invoice.example/{id}",
            lines=tuple(
                ProviderLine(f"il_{id}_{n}", price, Decimal(9), Decimal(1), price, None, start, end)
                for n, (price, start, end) in enumerate(lines)
            ),
        )
        return id
