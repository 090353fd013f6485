"""Asks a test account what Stripe's documents do not say for sure, and compares it with what we assume.

Makes a meter, a product, prices and a customer of its own, and takes them away again. Test mode only: nothing is charged.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tollkeeper.core.doctor import Finding
from tollkeeper.core.errors import InvalidRequest, TollkeeperError
from tollkeeper.core.provider import ProviderRefused
from tollkeeper.integrations.stripe.client import Calls

TIERS: Final = [
    {"up_to": 100, "unit_amount_decimal": "0", "flat_amount_decimal": "500"},
    {"up_to": "inf", "unit_amount_decimal": "2"},
]


@dataclass(frozen=True, slots=True)
class _Made:
    run: str
    event_name: str
    other_event_name: str
    customer: str
    product: str
    meter: str


class StripeProbe:
    """`run` is a word that makes this probe's names its own. `wait` lets Stripe take in what it was sent."""

    def __init__(self, calls: Calls, run: str, wait: Callable[[float], None] = time.sleep) -> None:
        """Raises InvalidRequest for a live key."""
        if calls.environment != "test":
            raise InvalidRequest(
                "The probe makes things at Stripe: it takes a test key, and STRIPE_SECRET_KEY is a live one."
            )
        self._calls = calls
        self._run = run
        self._wait = wait
        self._count = 0

    def findings(self) -> Iterator[Finding]:
        """One finding a question: `ok` where Stripe does what we assume, `warning` where it does otherwise."""
        with contextlib.ExitStack() as leave:
            made = self._make(leave)
            yield from self._meter_events(made)
            yield self._zero_usage(made, leave)

    def _make(self, leave: contextlib.ExitStack) -> _Made:
        names = (f"tk_probe_{self._run}", f"tk_probe_{self._run}_other")
        meters = [self._meter(name, leave) for name in names]
        product: Any = {"name": f"Tollkeeper probe {self._run}"}
        customer: Any = {"name": f"Tollkeeper probe {self._run}"}
        product_id = self._post(lambda c, o: c.v1.products.create(product, o))["id"]
        off: Any = {"active": False}
        leave.callback(lambda: self._post(lambda c, o: c.v1.products.update(product_id, off, o)))
        customer_id = self._post(lambda c, o: c.v1.customers.create(customer, o))["id"]
        leave.callback(lambda: self._calls.get(lambda c: c.v1.customers.delete(customer_id)))
        return _Made(self._run, *names, customer_id, product_id, meters[0])

    def _meter(self, name: str, leave: contextlib.ExitStack) -> str:
        params: Any = {"display_name": name, "event_name": name, "default_aggregation": {"formula": "sum"}}
        id = str(self._post(lambda c, o: c.v1.billing.meters.create(params, o))["id"])
        leave.callback(lambda: self._post(lambda c, o: c.v1.billing.meters.deactivate(id, options=o)))
        return id

    def _meter_events(self, made: _Made) -> Iterator[Finding]:
        first = f"probe-{made.run}-1"
        yield self._asked(
            "decimal values", "a meter takes 0.5", lambda: self._report(made, made.event_name, first, "0.5"), "taken"
        )
        yield self._asked(
            "repeated identifier", "the same identifier is refused",
            lambda: self._report(made, made.event_name, first, "0.5"), "refused",
        )  # fmt: skip
        yield self._asked(
            "identifier with another value", "the same identifier with another value is refused",
            lambda: self._report(made, made.event_name, first, "7"), "refused",
        )  # fmt: skip
        yield self._asked(
            "identifier at another meter", "an identifier is known to the account, so another meter refuses it",
            lambda: self._report(made, made.other_event_name, first, "0.5"), "refused",
        )  # fmt: skip
        yield self._asked(
            "negative values", "a meter takes -0.25, to take usage back",
            lambda: self._report(made, made.event_name, f"probe-{made.run}-2", "-0.25"), "taken",
        )  # fmt: skip
        yield self._summary(made)

    def _report(self, made: _Made, event_name: str, identifier: str, value: str) -> None:
        params: Any = {
            "event_name": event_name,
            "identifier": identifier,
            "payload": {"stripe_customer_id": made.customer, "value": value},
        }
        self._post(lambda c, o: c.v1.billing.meter_events.create(params, o), retries=0)

    def _summary(self, made: _Made) -> Finding:
        """Stripe counts with a delay: it is asked for up to a minute and a half."""
        now = int(time.time())
        params: Any = {
            "customer": made.customer,
            "start_time": now // 60 * 60 - 3600,
            "end_time": now // 60 * 60 + 3600,
        }
        found: float | None = None
        for _ in range(18):
            data = self._calls.get(lambda c: c.v1.billing.meters.event_summaries.list(made.meter, params))["data"]
            found = sum(one["aggregated_value"] for one in data)
            if found == 0.25:
                return Finding("sum of decimals", "ok", "0.5 - 0.25 is summed up as 0.25, as we assume.")
            self._wait(5.0)
        return Finding(
            "sum of decimals", "warning", f"0.5 - 0.25 came to {found} after 90 seconds; we assume 0.25.",
            "Ask again later: Stripe counts with a delay. If it stays, do not report fractions.",
        )  # fmt: skip

    def _zero_usage(self, made: _Made, leave: contextlib.ExitStack) -> Finding:
        price: Any = {
            "product": made.product,
            "currency": "usd",
            "recurring": {"interval": "month", "usage_type": "metered", "meter": made.meter},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": TIERS,
        }
        price_id = self._post(lambda c, o: c.v1.prices.create(price, o))["id"]
        contract: Any = {
            "customer": made.customer,
            "items": [{"price": price_id}],
            "collection_method": "send_invoice",
            "days_until_due": 30,
        }
        id = self._post(lambda c, o: c.v1.subscriptions.create(contract, o))["id"]
        leave.callback(lambda: self._calls.get(lambda c: c.v1.subscriptions.cancel(id)))
        preview: Any = {"subscription": id}
        total = self._post(lambda c, o: c.v1.invoices.create_preview(preview, o))["total"]
        return Finding(
            "flat amount without usage", "ok" if total == 500 else "warning",
            f"A first tier's flat amount of 5.00 comes to {total / 100:.2f} with next to no usage; we assume 5.00.",
            "" if total == 500 else "Set zero_usage_flat_fee = false in such prices.",
        )  # fmt: skip

    def _asked(self, name: str, assumed: str, ask: Callable[[], None], expected: str) -> Finding:
        try:
            ask()
            got, said = "taken", ""
        except ProviderRefused as refused:
            got, said = "refused", f" ({refused.detail})"
        except TollkeeperError as fault:
            return Finding(name, "failed", fault.detail, "Ask again.")
        if got == expected:
            return Finding(name, "ok", f"As we assume, {assumed}.")
        return Finding(
            name, "warning", f"We assume that {assumed}; it was {got}{said}.", "Tell the makers of Tollkeeper."
        )

    def _post(self, work: Callable[[Any, Any], Any], retries: int | None = None) -> dict[str, Any]:
        self._count += 1
        return self._calls.post(work, f"tk-probe-{self._run}-{self._count}", retries=retries)
