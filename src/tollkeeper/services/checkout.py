"""Buying at the payment provider, and changing what was bought: checkout, portal, another plan, an end, a pause.

What is owed to the provider is asked for under a key that it remembers, and what it answers is applied at once; its events then find
nothing left to do.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Literal
from urllib.parse import urlsplit

from tollkeeper.core.customers import Customer, Environment, Subscription
from tollkeeper.core.errors import Conflict, NotFound
from tollkeeper.core.ids import new_id
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.plans import Catalog, Plan, Price
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.ports_money import ProviderObject
from tollkeeper.core.provider import (
    CheckoutLine,
    CheckoutRequest,
    OwedLine,
    Provider,
    ProviderInvoice,
    ProviderSubscription,
)
from tollkeeper.core.provider_catalog import carrier, price_key
from tollkeeper.core.provider_prices import needs_carrier, sold_prices
from tollkeeper.core.purchases import Purchase
from tollkeeper.core.subscriptions import GRANTS, KnownSubscription
from tollkeeper.services import fields
from tollkeeper.services.clock import Clock
from tollkeeper.services.fields import invalid
from tollkeeper.services.subscription_effects import read_bought, read_contract
from tollkeeper.services.subscription_records import Read
from tollkeeper.services.subscriptions import Subscriptions

When = Literal["now", "period_end"]
MONTHS: Final[Mapping[str, int]] = {"month": 1, "year": 12}


@dataclass(frozen=True, slots=True)
class Standing:
    """What a customer has in one environment: our subscription, and what of the provider's it follows (None: it was not bought there).

    `ended`: where nothing bought is running, what ended last.
    """

    environment: Environment
    subscription: Subscription | None
    bought: KnownSubscription | None
    ended: KnownSubscription | None = None


Action = Literal["buy", "change", "current", "none"]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a customer can buy now, and how: a checkout, a dearer plan in place of the running one, or (none) not by a link.

    `meters` gives the unit of each meter, `features` what each feature is called; `owed` is the invoice that is to be paid first.
    `paid`: the plan that the customer is on was bought.
    """

    name: str
    customer: Customer
    standing: Standing
    plans: Sequence[tuple[Plan, Action]]
    meters: Mapping[str, str]
    features: Mapping[str, str]
    owed: Invoice | None
    paid: bool


class Checkouts:
    """`public_url` is where people come back to; `deliver(environment, customer, followed)` brings usage to the provider before
    a period is cut, `followed` by another.

    `rated` gives what prices that are rated here come to in the running period.
    """

    def __init__(
        self,
        database: Database,
        provider: Provider,
        subscriptions: Subscriptions,
        clock: Clock,
        public_url: str,
        deliver: Callable[[Environment, str, bool], None],
        rated: Callable[[Repositories, Environment, str], Sequence[OwedLine]] = lambda rows, environment, customer: (),
    ) -> None:
        self._deliver = deliver
        self._rated = rated
        self._database = database
        self._provider = provider
        self._subscriptions = subscriptions
        self._clock = clock
        self.public_url = public_url.rstrip("/")
        self._locks = tuple(threading.Lock() for _ in range(64))

    @property
    def environment(self) -> Environment:
        return self._provider.environment

    @property
    def provider(self) -> str:
        return self._provider.name

    def buy(
        self,
        customer: str,
        plan: str,
        *,
        success_url: str | None = None,
        cancel_url: str | None = None,
        coupon: str | None = None,
        trial_days: int | None = None,
    ) -> Purchase:
        """A checkout for the plan on offer; its `document["url"]` is where to send the person.

        A plan all of whose prices are charged once is a single payment, any other a subscription. `trial_days` None: the plan's, for a
        customer who bought nothing before. An earlier one that is still open ends, since both could be paid, and usage would be billed
        by two subscriptions. Raises NotFound, InvalidRequest, Conflict (there is a subscription to be changed instead), and what the
        provider raises.
        """
        with self._lock(customer):
            return self._buy(customer, plan, success_url, cancel_url, coupon, trial_days)

    def _buy(
        self,
        customer: str,
        plan: str,
        success_url: str | None,
        cancel_url: str | None,
        coupon: str | None,
        trial_days: int | None,
    ) -> Purchase:
        urls = [_address(name, url) for name, url in (("success_url", success_url), ("cancel_url", cancel_url))]
        now = self._clock.now_us()
        with self._database.read() as rows:
            record = _customer(rows, customer)
            bought, catalog = _offered(rows, plan)
            lines, kind = self._lines(rows, bought, record), _kind(bought, record.currency)
            begun = [one for one in rows.purchases.of(self.environment, customer) if one.status == "open"]
        for one in begun:
            if one.kind == kind and (kind == "subscription" or one.plan == bought.key):
                self._expire(one)
        with self._database.read() as rows:
            known = rows.provider_subscriptions.of(self.environment, customer)
            running = _running(known)
        if running is not None and kind == "subscription":
            raise Conflict(
                f"{customer} has a subscription already ({running.plan or running.id}, {running.status}). Change its plan instead."
            )
        days = trial_days if trial_days is not None else (0 if known else bought.trial_days)
        id = new_id("pur", now // 1000, self._clock.random_bits(80))
        back = f"{self.public_url}/docs"
        purchase = Purchase(
            self.environment, id, self._provider.name, None, customer, kind, bought.key, bought.version, "open", now
        )
        at_provider = self._at_provider(record, look=True)
        with self._database.write() as rows:
            rows.purchases.put(purchase)
        made = self._provider.checkout(
            CheckoutRequest(
                reference=id,
                customer=at_provider,
                mode=kind,
                lines=lines,
                success_url=urls[0] or back,
                cancel_url=urls[1] or back,
                metadata={
                    "tollkeeper_customer": customer,
                    "tollkeeper_plan": bought.key,
                    "tollkeeper_version": str(bought.version),
                },
                trial_days=days or None if kind == "subscription" else None,
                coupon=coupon,
                allow_promotion_codes=catalog.promotion_codes and coupon is None,
                automatic_tax=catalog.automatic_tax,
                collect_tax_ids=catalog.tax_ids,
            ),
            f"tk-{id}",
        )
        with self._database.write() as rows:
            stored = rows.purchases.get(self.environment, id) or purchase
            stored = replace(stored, session=made.id, document={**stored.document, "url": made.url})
            rows.purchases.put(stored)
        return stored

    def _expire(self, purchase: Purchase) -> None:
        """No payment for an earlier checkout any more. What was paid before that is applied. Raises Conflict."""
        if purchase.session is None:  # the answer was lost, and nobody was told where to pay
            return
        begun = self._clock.now_us()
        now = self._provider.expire_checkout(purchase.session, self._key("expire"))
        if now.status == "expired":
            with self._database.write() as rows:
                kept = rows.purchases.get(self.environment, purchase.id)
                if kept is not None and kept.status == "open":
                    rows.purchases.put(replace(kept, status="expired"))
            return
        self._write(read_bought(self._provider, now, begun))
        if purchase.kind == "payment":
            raise Conflict(f"{purchase.plan} was paid a moment ago, or its payment is on its way.")

    def offer(self, customer: str) -> Offer:
        """The plans on offer in the customer's currency. Raises NotFound."""
        standing = self.standing(customer)
        with self._database.read() as rows:
            record = _customer(rows, customer)
            current = rows.catalog.current()
            catalog = current.catalog if current is not None else None
            bought, ours = standing.bought, standing.subscription
            running = rows.catalog.plan(bought.plan, bought.plan_version or 0) if bought and bought.plan else None
            owed = open_invoice(rows.invoices.of(self.environment, customer))
            granted = {one.document.get("granted") for one in rows.purchases.of(self.environment, customer)}
        paid = ours is not None and (bought is not None or ours.id in granted)
        plans: list[tuple[Plan, Action]] = []
        for plan in catalog.plans.values() if catalog is not None else ():
            action: Action = "buy"
            priced = any(price.currency == record.currency for price in plan.prices)
            if ours is not None and plan.key == ours.plan and (paid or not priced):
                action = "current"
            elif not priced:
                action = "none"
            elif bought is not None and _kind(plan, record.currency) == "subscription":
                cheaper = running is not None and monthly(plan, record.currency) < monthly(running, record.currency)
                action = "none" if cheaper else "change"
            plans.append((plan, action))
        units = {key: meter.unit for key, meter in catalog.meters.items()} if catalog is not None else {}
        features = {key: one.description for key, one in catalog.features.items()} if catalog is not None else {}
        return Offer(catalog.name if catalog is not None else "", record, standing, plans, units, features, owed, paid)

    def purchase(self, purchase: str) -> Purchase:
        """Raises NotFound."""
        with self._database.read() as rows:
            found = rows.purchases.get(self.environment, purchase) if fields.is_identifier(purchase) else None
        if found is None:
            raise NotFound(f"There is no purchase {str(purchase)[:80]!r}.")
        return found

    def portal(self, customer: str, return_url: str | None = None) -> str:
        """A link to the provider's own pages for one customer: invoices, cards, cancelling. For nobody else's eyes."""
        return_url = _address("return_url", return_url) or f"{self.public_url}/docs"
        with self._database.read() as rows:
            record = _customer(rows, customer)
        return self._provider.portal(self._at_provider(record, look=True), return_url, self._key("portal"))

    def standing(self, customer: str, environment: Environment | None = None) -> Standing:
        """Raises NotFound."""
        environment = environment or self.environment
        with self._database.read() as rows:
            _customer(rows, customer)
            current = [s for s in rows.subscriptions.current([customer])[customer] if s.environment == environment]
            known = rows.provider_subscriptions.of(environment, customer)
        ours = current[0] if current else None
        bought = next((one for one in known if ours is not None and one.subscription == ours.id), None)
        bought = bought or _running(known)
        over = [one for one in known if one.ended_at is not None] if bought is None else []
        ended = max(over, key=lambda one: (one.ended_at or 0, one.created_at), default=None)
        return Standing(environment, ours, bought, ended)

    def change(self, customer: str, plan: str, when: When | None = None) -> Standing:
        """Another plan. `when` None: at once when it costs more each month, at the end of the period when it costs less.

        At once: what was used is invoiced, what was paid ahead is given back, and a new period begins; what was used in the month of quota
        that is cut short counts against the new quotas. Raises NotFound, InvalidRequest, Conflict, and what the provider raises.
        """
        with self._lock(customer):
            self._change(customer, plan, when)
        return self.standing(customer)

    def _change(self, customer: str, plan: str, when: When | None) -> None:
        with self._database.read() as rows:
            record = _customer(rows, customer)
            wanted, _ = _offered(rows, plan)
            running = self._bought(rows, customer)
            before = rows.catalog.plan(running.plan, running.plan_version or 0) if running.plan else None
            if _kind(wanted, record.currency) == "payment":
                raise invalid("plan", f"{plan} is a single payment; buy it by a checkout")
            lines = self._lines(rows, wanted, record, recurring=True)
        if (running.plan, running.plan_version) != (wanted.key, wanted.version):
            if when is None:
                dearer = before is None or monthly(wanted, record.currency) >= monthly(before, record.currency)
                when = "now" if dearer else "period_end"
            if when == "now":
                self._deliver(self.environment, customer, True)
            self._provider.change_plan(running.id, lines, when, self._key("change"), self._is_ours)
            self._applied(running.id)

    def _is_ours(self, price: str) -> bool:
        """Whether a price at the provider is one of our catalog's, now or once. What else a contract has is the seller's own."""
        with self._database.read() as rows:
            return rows.provider_objects.by_id(self._provider.name, self.environment, "price", price) is not None

    def cancel(self, customer: str, when: When = "period_end") -> Standing:
        """End what was bought; usage up to then is invoiced. Raises NotFound, Conflict, and what the provider raises."""

        def end(running: KnownSubscription) -> ProviderSubscription:
            if when == "now":
                self._deliver(self.environment, customer, False)
            return self._provider.cancel(running.id, when, self._key("cancel"))

        return self._told(customer, end)

    def pause(self, customer: str, paused: bool = True) -> Standing:
        """Nothing is charged and no call passes until it is resumed (`paused` False)."""
        return self._told(customer, lambda running: self._provider.pause(running.id, paused, self._key("pause")))

    def preview(self, customer: str) -> ProviderInvoice:
        """The next invoice as it would be now. Raises NotFound, Conflict, and what the provider raises."""
        with self._database.read() as rows:
            _customer(rows, customer)
            running = self._bought(rows, customer)
            lines = self._rated(rows, self.environment, customer)
        return self._provider.preview(running.id, lines)

    def _told(self, customer: str, tell: Callable[[KnownSubscription], ProviderSubscription]) -> Standing:
        with self._database.read() as rows:
            _customer(rows, customer)
            running = self._bought(rows, customer)
        tell(running)
        self._applied(running.id)
        return self.standing(customer)

    def _applied(self, subscription: str) -> None:
        """What the provider has now, written at once."""
        self._write(read_contract(self._provider, subscription, self._clock.now_us()))

    def _write(self, read: Read) -> None:
        with self._database.write() as rows:
            customer = self._subscriptions.apply(rows, self.environment, read, self._clock.now_us())
        if customer is not None:
            self._subscriptions.after_commit(customer)()

    def _bought(self, rows: Repositories, customer: str) -> KnownSubscription:
        running = _running(rows.provider_subscriptions.of(self.environment, customer))
        if running is None:
            raise Conflict(f"{customer} has no running subscription in {self.environment}: begin with a checkout.")
        return running

    def _lines(
        self, rows: Repositories, plan: Plan, customer: Customer, *, recurring: bool = False
    ) -> Sequence[CheckoutLine]:
        """The provider's prices of a plan, in the customer's currency. Raises Conflict where the provider does not have them yet."""
        currency = customer.currency
        prices = [p for p in sold_prices(plan, currency) if not recurring or p.interval != "once"]
        if needs_carrier(plan, currency) and _kind(plan, currency) == "subscription":
            prices.append(carrier(currency, plan))
        if not any(price.currency == currency for price in plan.prices):
            raise invalid("plan", f"plan {plan.key!r} has no price in {currency}, so there is nothing to buy")
        lines = []
        for price in prices:
            held = rows.provider_objects.get(self._provider.name, self.environment, "price", price_key(plan, price.key))
            if held is None:
                at = self._provider.name
                raise Conflict(f"Plan {plan.key} version {plan.version} is not at {at} yet. Run: tollkeeper {at} apply")
            lines.append(CheckoutLine(held.id, None if price.meter is not None else 1))
        return lines

    def _at_provider(self, customer: Customer, *, look: bool = False) -> str:
        """The provider's id of a customer, made when there is none. `look`: another is made when the one that was made is deleted."""
        where = (self._provider.name, self.environment, "customer", customer.id)
        with self._database.read() as rows:
            held = rows.provider_objects.get(*where)
        key = f"tk-customer-{self.environment}-{customer.id}-{customer.created_at}"
        if held is not None:
            if not look or self._is_there(held.id):
                return held.id
            key = f"{key}-{held.id}"
        id = self._provider.make_customer(customer, key)
        with self._database.write() as rows:
            now = rows.provider_objects.get(*where)
            if now is not None and now != held:  # made by another at the same time
                return now.id
            rows.provider_objects.put(ProviderObject(*where, id=id, fingerprint="", made_at=self._clock.now_us()))
        return id

    def _is_there(self, customer: str) -> bool:
        try:
            self._provider.customer(customer)
        except NotFound:
            return False
        return True

    def _lock(self, customer: str) -> threading.Lock:
        """What is bought for one customer is bought by one thread at a time."""
        return self._locks[zlib.crc32(str(customer).encode()) % len(self._locks)]

    def _key(self, what: str) -> str:
        return new_id(f"tk-{what}", self._clock.now_us() // 1000, self._clock.random_bits(80))


def monthly(plan: Plan, currency: str) -> Decimal:
    """What a plan costs a month before any usage."""
    return sum(
        (
            (price.flat_amount or Decimal(0)) / MONTHS[price.interval]
            for price in plan.prices
            if price.currency == currency and price.model == "flat" and price.interval in MONTHS
        ),
        Decimal(0),
    )


def open_invoice(invoices: Sequence[Invoice]) -> Invoice | None:
    """The oldest one that is owed."""
    return next((invoice for invoice in invoices if invoice.status == "open"), None)


def _running(known: Sequence[KnownSubscription]) -> KnownSubscription | None:
    """The newest of a plan of ours that has not ended. What is sold beside it, at prices that are not ours, is left alone."""
    held = (one for one in reversed(known) if one.ended_at is None and one.status in GRANTS)
    return next((one for one in held if one.plan is not None), None)


def _kind(plan: Plan, currency: str) -> Literal["subscription", "payment"]:
    prices: list[Price] = [price for price in plan.prices if price.currency == currency]
    return "payment" if prices and all(price.interval == "once" for price in prices) else "subscription"


def _customer(rows: Repositories, customer: str) -> Customer:
    found = rows.customers.get(customer) if fields.is_identifier(customer) else None
    if found is None:
        raise NotFound(f"There is no customer {str(customer)[:80]!r}.")
    return found


def _offered(rows: Repositories, plan: str) -> tuple[Plan, Catalog]:
    current = rows.catalog.current()
    found = current.catalog.plans.get(plan) if current is not None else None
    if current is None or found is None:
        raise invalid("plan", f"there is no plan {str(plan)[:80]!r} on offer")
    return found, current.catalog


def _address(field: str, url: str | None) -> str | None:
    """An address that the provider may send a browser to."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or len(url) > 2000:
        raise invalid(field, "an http or https address such as https://example.com/thanks")
    return url
