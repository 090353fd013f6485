"""What the tests of billing share: a stopped clock, and prices made with few words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import stripe

from sandbox.conftest import Running

START = "2027-01-31T15:37:12+00:00"
HOUR, DAY = 3600, 86_400


def at(text: str) -> int:
    """Seconds since 1970 of an instant in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


class Desk:
    """A sandbox whose clock stands still, with one product and one meter."""

    def __init__(self, running: Running, start: str = START) -> None:
        self.running = running
        self.client = running.client
        self.v1 = running.client.v1
        self.move(start)
        self.meter = self.v1.billing.meters.create(
            {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        self.product = self.v1.products.create({"name": "Pro"})
        self._sent = 0

    def move(self, instant: str) -> None:
        """The clock stands at an instant; what was due on the way is done."""
        self.running.control("/clock", {"set": instant if "+" in instant else instant + "+00:00", "frozen": True})

    def wait(self, seconds: int) -> None:
        self.running.control("/clock", {"advance": seconds, "frozen": True})

    @property
    def now(self) -> int:
        return int(self.running.control("/clock")["seconds"])

    def price(self, amount: int | str = 1000, **more: Any) -> str:
        """A licensed price by the month, in cents."""
        params: Any = {
            "product": self.product.id,
            "currency": "usd",
            "unit_amount_decimal": str(amount),
            "recurring": {"interval": "month"},
            **more,
        }
        return self.v1.prices.create(params).id

    def metered(self, **more: Any) -> str:
        """A metered price by the month: 0.2 cents a call."""
        params: Any = {
            "product": self.product.id,
            "currency": "usd",
            "recurring": {"interval": "month", "usage_type": "metered", "meter": self.meter.id},
            **({} if "tiers" in more else {"unit_amount_decimal": "0.2"}),
            **more,
        }
        return self.v1.prices.create(params).id

    def customer(self, card: str | None = "pm_card_visa", **more: Any) -> str:
        """A customer with a default card."""
        params: Any = {"name": "Ada", "email": "ada@example.com", **more}
        id = self.v1.customers.create(params).id
        if card is not None:
            method = self.v1.payment_methods.attach(card, {"customer": id}).id
            self.v1.customers.update(id, {"invoice_settings": {"default_payment_method": method}})
        return id

    def use(self, customer: str, value: int | str, when: str | int | None = None) -> None:
        """Report usage at an instant, now without one."""
        self._sent += 1
        stamp = self.now if when is None else at(when) if isinstance(when, str) else when
        self.v1.billing.meter_events.create(
            {
                "event_name": "calls",
                "identifier": f"use-{self._sent}",
                "payload": {"stripe_customer_id": customer, "value": str(value)},
                "timestamp": stamp,
            }
        )

    def subscribe(self, customer: str, *prices: str, **more: Any) -> stripe.Subscription:
        params: Any = {"customer": customer, "items": [{"price": price} for price in prices], **more}
        return self.v1.subscriptions.create(params)

    def invoices(self, subscription: str) -> list[stripe.Invoice]:
        """Oldest first."""
        return list(reversed(self.v1.invoices.list({"subscription": subscription, "limit": 100}).data))

    def types(self) -> list[str]:
        """The types of all events, oldest first."""
        return [event.type for event in reversed(list(self.v1.events.list({"limit": 100}).auto_paging_iter()))]


def lines(invoice: stripe.Invoice) -> list[tuple[str | None, int]]:
    """Description and amount of each line."""
    return [(line.description, line.amount) for line in invoice.lines.data]
