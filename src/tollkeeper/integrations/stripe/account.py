"""One Stripe account as `core.provider.Provider`: what is sold, what was used, what is owed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from tollkeeper.core.customers import Customer, Environment
from tollkeeper.core.errors import NotFound
from tollkeeper.core.provider import (
    CheckoutLine,
    CheckoutRequest,
    MeterFaults,
    MeterReport,
    OwedLine,
    ProviderCharge,
    ProviderCheckout,
    ProviderCustomer,
    ProviderDispute,
    ProviderEvent,
    ProviderInvoice,
    ProviderRefused,
    ProviderSubscription,
    Reported,
)
from tollkeeper.integrations.stripe import objects
from tollkeeper.integrations.stripe.amounts import minor
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.integrations.stripe.objects import REFERENCE

METER_EVENTS: Final = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
"""Thin events: reports of usage that Stripe took and threw away later."""
_DUPLICATE: Final = re.compile(r"(already|duplicate)\b.*identifier|identifier.*\balready\b", re.IGNORECASE | re.DOTALL)
_REPEATED: Final = frozenset({"duplicate_meter_event", "resource_already_exists"})
"""Stripe says `An event already exists with identifier …`; a stand-in may say it in other words."""
_PLACES: Final = 9
"""Of a quantity, after the point."""


class StripeAccount:
    """`Provider` over the official client. Which environment it bills is what its key says."""

    name = "stripe"

    def __init__(self, calls: Calls, portal_configuration: Callable[[], str | None] = lambda: None) -> None:
        """`portal_configuration` names the one that we made; without one Stripe takes the account's own."""
        self.calls = calls
        self._portal_configuration = portal_configuration
        self.environment: Environment = calls.environment

    # usage

    def report(self, report: MeterReport, key: str) -> Reported:
        """A repeated identifier is a 400, and means that it was delivered."""
        params: Any = {
            "event_name": report.event_name,
            "identifier": report.identifier,
            "timestamp": report.at // 1_000_000,
            "payload": {"stripe_customer_id": report.customer, "value": format(report.value, "f")},
        }
        try:
            self.calls.post(lambda c, o: c.v1.billing.meter_events.create(params, o), key, retries=0)
        except ProviderRefused as refused:
            if refused.reason in _REPEATED or _DUPLICATE.search(refused.detail):
                return "duplicate"
            raise
        return "accepted"

    def reported(self, meter: str, customer: str, start: int, end: int) -> Decimal:
        """Stripe takes whole minutes only, and answers with a float (`_exact`)."""
        params: Any = {"customer": customer, "start_time": start // 1_000_000, "end_time": end // 1_000_000}
        total = Decimal(0)
        for data in self.calls.pages(lambda c, p: c.v1.billing.meters.event_summaries.list(meter, p), {**params}):
            total += _exact(data["aggregated_value"])
        return total

    # selling

    def make_customer(self, customer: Customer, key: str) -> str:
        params: Any = {"name": customer.name, "metadata": {"tollkeeper_customer": customer.id}}
        if customer.email:
            params["email"] = customer.email
        return str(self.calls.post(lambda c, o: c.v1.customers.create(params, o), key)["id"])

    def customer(self, customer: str) -> ProviderCustomer:
        return objects.customer(self.calls.get(lambda c: c.v1.customers.retrieve(customer)))

    def checkout(self, request: CheckoutRequest, key: str) -> ProviderCheckout:
        metadata = {**request.metadata, "tollkeeper_purchase": request.reference}
        params: Any = {
            "mode": request.mode,
            "customer": request.customer,
            "client_reference_id": request.reference,
            "line_items": [_line(line) for line in request.lines],
            "success_url": request.success_url,
            "cancel_url": request.cancel_url,
            "metadata": metadata,
        }
        if request.mode == "subscription":
            data: dict[str, Any] = {"metadata": metadata}
            if request.trial_days:
                data["trial_period_days"] = request.trial_days
            params["subscription_data"] = data
        else:
            params["payment_intent_data"] = {"metadata": metadata}
            params["invoice_creation"] = {"enabled": True, "invoice_data": {"metadata": metadata}}
        if request.coupon:
            params["discounts"] = [{"coupon": request.coupon}]
        elif request.allow_promotion_codes:
            params["allow_promotion_codes"] = True
        if request.automatic_tax:
            params["automatic_tax"] = {"enabled": True}
        if request.collect_tax_ids:
            params["tax_id_collection"] = {"enabled": True}
        if request.automatic_tax or request.collect_tax_ids:
            params["customer_update"] = {
                "address": "auto",
                "name": "auto",
            }  # Stripe asks for it with an existing customer
        return objects.checkout(self.calls.post(lambda c, o: c.v1.checkout.sessions.create(params, o), key))

    def read_checkout(self, checkout: str) -> ProviderCheckout:
        return objects.checkout(self.calls.get(lambda c: c.v1.checkout.sessions.retrieve(checkout)))

    def expire_checkout(self, checkout: str, key: str) -> ProviderCheckout:
        """One that is complete or expired is refused, and read as it is."""
        try:
            return objects.checkout(
                self.calls.post(lambda c, o: c.v1.checkout.sessions.expire(checkout, options=o), key)
            )
        except ProviderRefused:
            return self.read_checkout(checkout)

    def portal(self, customer: str, return_url: str, key: str) -> str:
        params: Any = {"customer": customer, "return_url": return_url}
        if configuration := self._portal_configuration():
            params["configuration"] = configuration
        return str(self.calls.post(lambda c, o: c.v1.billing_portal.sessions.create(params, o), key)["url"])

    # contracts

    def subscription(self, subscription: str) -> ProviderSubscription:
        return objects.subscription(self.calls.get(lambda c: c.v1.subscriptions.retrieve(subscription)))

    def subscriptions(self, customer: str | None = None) -> Iterator[ProviderSubscription]:
        params: dict[str, Any] = {"status": "all"}
        if customer is not None:
            params["customer"] = customer
        for data in self.calls.pages(lambda c, p: c.v1.subscriptions.list(p), params):
            yield objects.subscription(data)

    def change_plan(
        self,
        subscription: str,
        prices: Sequence[CheckoutLine],
        when: Literal["now", "period_end"],
        key: str,
        ours: Callable[[str], bool],
    ) -> ProviderSubscription:
        """Now: invoiced at once, and a new period begins. At the period's end: by a schedule of two phases."""
        before = self.calls.get(lambda c: c.v1.subscriptions.retrieve(subscription))
        if when == "period_end":
            self._schedule(before, prices, key, ours)
            return self.subscription(subscription)
        wanted = {line.price: line for line in prices}
        kept = {item["price"]["id"] for item in before["items"]["data"]} & set(wanted)
        items: list[dict[str, Any]] = [
            {"id": item["id"], "deleted": True}
            for item in before["items"]["data"]
            if item["price"]["id"] not in kept and ours(item["price"]["id"])
        ]
        items += [_line(line) for price, line in wanted.items() if price not in kept]
        params: Any = {
            "items": items,
            "proration_behavior": "always_invoice",
            "billing_cycle_anchor": {"type": "now"},
        }
        return objects.subscription(
            self.calls.post(lambda c, o: c.v1.subscriptions.update(subscription, params, o), key)
        )

    def _schedule(
        self, before: Mapping[str, Any], prices: Sequence[CheckoutLine], key: str, ours: Callable[[str], bool]
    ) -> None:
        schedule = objects.id_of(before.get("schedule"))
        if schedule is None:
            made: Any = {"from_subscription": before["id"]}
            schedule = self.calls.post(lambda c, o: c.v1.subscription_schedules.create(made, o), f"{key}-make")["id"]
        items = before["items"]["data"]
        running = [CheckoutLine(item["price"]["id"], item.get("quantity")) for item in items]
        following = [*prices, *(line for line in running if not ours(line.price))]
        start = min(item["current_period_start"] for item in items)
        end = max(item["current_period_end"] for item in items)
        params: Any = {
            "end_behavior": "release",
            "proration_behavior": "none",
            "phases": [
                {"items": [_line(line) for line in running], "start_date": start, "end_date": end},
                {"items": [_line(line) for line in following], "start_date": end},
            ],
        }
        self.calls.post(lambda c, o: c.v1.subscription_schedules.update(schedule, params, o), key)

    def cancel(self, subscription: str, when: Literal["now", "period_end"], key: str) -> ProviderSubscription:
        if when == "now":
            params: Any = {"invoice_now": True}  # what was paid ahead is not given back, as is Stripe's default
            data = self.calls.post(lambda c, o: c.v1.subscriptions.cancel(subscription, params, o), key)
        else:
            later: Any = {"cancel_at": "max_period_end"}
            data = self.calls.post(lambda c, o: c.v1.subscriptions.update(subscription, later, o), key)
        return objects.subscription(data)

    def pause(self, subscription: str, paused: bool, key: str) -> ProviderSubscription:
        """Paused: invoices are voided, and the contract stands still at our gate."""
        params: Any = {"pause_collection": {"behavior": "void"} if paused else ""}
        return objects.subscription(
            self.calls.post(lambda c, o: c.v1.subscriptions.update(subscription, params, o), key)
        )

    # invoices

    def invoice(self, invoice: str) -> ProviderInvoice:
        """With all its lines, however many."""
        data = self.calls.get(lambda c: c.v1.invoices.retrieve(invoice))
        if (data.get("lines") or {}).get("has_more"):
            data["lines"]["data"] = list(self.calls.pages(lambda c, p: c.v1.invoices.line_items.list(invoice, p), {}))
        return objects.invoice(data)

    def charge(self, charge: str) -> ProviderCharge:
        """A charge does not name its invoice: the payments of invoices do, by the payment intent."""
        data = self.calls.get(lambda c: c.v1.charges.retrieve(charge))
        payment = objects.id_of(data.get("payment_intent"))
        invoice = None
        if payment is not None:
            params: Any = {"payment": {"type": "payment_intent", "payment_intent": payment}, "limit": 1}
            found = self.calls.get(lambda c: c.v1.invoice_payments.list(params))["data"]
            invoice = objects.id_of(found[0]["invoice"]) if found else None
        return objects.charge(data, invoice)

    def dispute(self, dispute: str) -> ProviderDispute:
        return objects.dispute(self.calls.get(lambda c: c.v1.disputes.retrieve(dispute)))

    def preview(self, subscription: str, lines: Sequence[OwedLine] = ()) -> ProviderInvoice:
        """With the plan that follows: a schedule, when there is one, is what the next invoice is made by."""
        schedule = objects.id_of(self.calls.get(lambda c: c.v1.subscriptions.retrieve(subscription)).get("schedule"))
        params: Any = {"subscription": subscription} if schedule is None else {"schedule": schedule}
        if lines:
            params["invoice_items"] = [
                {
                    "amount": minor(line.amount, line.currency),
                    "currency": line.currency,
                    "description": line.description,
                    "period": {"start": line.start // 1_000_000, "end": line.end // 1_000_000},
                }
                for line in lines
            ]
        return objects.invoice(self.calls.get(lambda c: c.v1.invoices.create_preview(params)))

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
        params: Any = {
            "customer": customer,
            "amount": minor(amount, currency),
            "currency": currency,
            "description": description,
            "metadata": dict(metadata or {}),
        }
        if invoice is not None:
            params["invoice"] = invoice
        if subscription is not None:
            params["subscription"] = subscription
        if period is not None:
            params["period"] = {"start": period[0] // 1_000_000, "end": period[1] // 1_000_000}
        return str(self.calls.post(lambda c, o: c.v1.invoice_items.create(params, o), key)["id"])

    def find_line(self, customer: str, reference: str) -> str | None:
        """Stripe lists the newest first; lines of the last days are on the first page or two."""
        return _with(reference, self.calls.pages(lambda c, p: c.v1.invoice_items.list(p), {"customer": customer}))

    def credit(self, invoice: str, amount: Decimal, memo: str, key: str, reference: str) -> str:
        """Of a paid invoice onto the balance: whether money is sent back the seller decides."""
        held = self.calls.get(lambda c: c.v1.invoices.retrieve(invoice))
        whole = minor(amount, held["currency"])
        metadata = {REFERENCE: reference}
        params: Any = {"invoice": invoice, "amount": whole, "memo": memo, "metadata": metadata}
        if held["status"] == "paid":
            params["credit_amount"] = whole
        return str(self.calls.post(lambda c, o: c.v1.credit_notes.create(params, o), key)["id"])

    def find_credit(self, invoice: str, reference: str) -> str | None:
        return _with(reference, self.calls.pages(lambda c, p: c.v1.credit_notes.list(p), {"invoice": invoice}))

    def invoice_lines(self, customer: str, currency: str, description: str, key: str, reference: str) -> str | None:
        """Left to Stripe to finalise and to charge. The payment method is the last contract's, since a customer often has none."""
        waiting: Any = {"customer": customer, "pending": True, "limit": 1}
        if not self.calls.get(lambda c: c.v1.invoice_items.list(waiting))["data"]:
            return None
        params: Any = {
            "customer": customer,
            "currency": currency,
            "description": description,
            "auto_advance": True,
            "pending_invoice_items_behavior": "include",
            "metadata": {REFERENCE: reference},
        }
        last: Any = {"customer": customer, "status": "all", "limit": 1}
        for contract in self.calls.get(lambda c: c.v1.subscriptions.list(last))["data"]:
            if method := objects.id_of(contract.get("default_payment_method")):
                params["default_payment_method"] = method
        return str(self.calls.post(lambda c, o: c.v1.invoices.create(params, o), key)["id"])

    def find_invoice(self, customer: str, reference: str) -> str | None:
        return _with(reference, self.calls.pages(lambda c, p: c.v1.invoices.list(p), {"customer": customer}))

    # what happened

    def events(self, since: int) -> Iterator[ProviderEvent]:
        """Stripe lists the newest first, and keeps 30 days; a page is asked for as it is needed."""
        found = list(self.calls.pages(lambda c, p: c.v1.events.list(p), {"created": {"gte": since // 1_000_000}}))
        for data in reversed(found):
            yield ProviderEvent(
                id=data["id"],
                type=data["type"],
                created_at=int(data["created"]) * 1_000_000,
                live=bool(data.get("livemode", self.environment == "live")),
                object=objects.id_of(data["data"]["object"]) if data["data"]["object"].get("id") else None,
                payload=json.dumps(data, separators=(",", ":")).encode(),
            )

    def meter_events_told(self, since: int) -> Iterator[ProviderEvent]:
        """Thin events, of the last 30 days; the list has no data in them that would be needed."""
        at = datetime.fromtimestamp(since // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
        params = {"types": list(METER_EVENTS), "created": {"gte": at}}
        found = list(self.calls.thin_pages(lambda c, p: c.v2.core.events.list(p), params))
        for data in sorted(found, key=lambda one: objects.written_instant(one["created"])):
            yield ProviderEvent(
                id=data["id"],
                type=data["type"],
                created_at=objects.written_instant(data["created"]),
                live=bool(data.get("livemode", self.environment == "live")),
                object=(data.get("related_object") or {}).get("id"),
                payload=json.dumps(data, separators=(",", ":")).encode(),
            )

    def meter_faults(self, event: str, sent: Mapping[str, Any]) -> MeterFaults:
        try:
            return objects.meter_faults(self.calls.get(lambda c: c.v2.core.events.retrieve(event)))
        except NotFound:
            if not sent.get("data"):
                raise
        return objects.meter_faults(sent)


def _exact(value: float | str) -> Decimal:
    """A sum that was made with floats, without the noise of its last digits: 15 digits are exact, and quantities have 9 places."""
    if isinstance(value, float) and not value.is_integer():
        return round(Decimal(format(value, ".15g")), _PLACES).normalize()
    return Decimal(int(value) if isinstance(value, float) else value)


def _with(reference: str, found: Iterator[Mapping[str, Any]]) -> str | None:
    """The id of the first that was made for a message of ours."""
    return next((str(one["id"]) for one in found if (one.get("metadata") or {}).get(REFERENCE) == reference), None)


def _line(line: CheckoutLine) -> dict[str, Any]:
    return {"price": line.price} if line.quantity is None else {"price": line.price, "quantity": line.quantity}
