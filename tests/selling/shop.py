"""A Tollkeeper that sells at a provider in memory: plans with prices there, customers who buy, events delivered in any way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx

from selling.account import Account
from spine import DAY, SECOND, Spine
from tollkeeper.core.buy_links import BuyLinks
from tollkeeper.core.customers import Environment
from tollkeeper.core.ids import new_id
from tollkeeper.core.inbox import InboxEvent
from tollkeeper.core.ports_money import ProviderObject
from tollkeeper.services.checkout import Checkouts
from tollkeeper.services.invoicing import Invoicing
from tollkeeper.services.reports import Reports
from tollkeeper.services.subscription_effects import subscription_effects
from tollkeeper.services.subscriptions import Subscriptions
from tollkeeper.web.app import Services, create_app
from tollkeeper.web.auth import Authenticator
from tollkeeper.web.routes import MoneyServices

CATALOG = """
currency = "usd"
fallback = "free"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[plans.free]
product = "api"
quotas = [{meter = "api_calls", limit = "5", kind = "hard"}]

[plans.pro]
product = "api"
grace_days = 3
quotas = [{meter = "api_calls", limit = "20", kind = "hard"}]
[[plans.pro.prices]]
key = "fee"
model = "flat"
flat_amount = "29"
[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.01"

[plans.max]
product = "api"
trial_days = 14
quotas = [{meter = "api_calls", limit = "40", kind = "hard"}]
[[plans.max.prices]]
key = "fee"
model = "flat"
flat_amount = "99"
[[plans.max.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.005"

[plans.forever]
product = "api"
[[plans.forever.prices]]
key = "once"
model = "flat"
interval = "once"
flat_amount = "99"
"""
PRICES = ("pro@1/fee", "pro@1/calls", "max@1/fee", "max@1/calls", "forever@1/once")
PRO = ["price_pro_fee", "price_pro_calls"]
MAX = ["price_max_fee", "price_max_calls"]


class Shop:
    """`account` is the provider. Events wait in `account.happened` until they are delivered."""

    def __init__(self, folder: Path, environment: Environment = "live", catalog: str = CATALOG) -> None:
        self.environment: Environment = environment
        self.spine = Spine(folder, catalog)
        self.toll = self.spine.app
        self.account = Account(self.toll.clock.now_us, environment)
        toll = self.toll
        account = ("stripe", environment)
        self.reports = Reports(
            toll.database, toll.usage, toll.usage_file.reader, toll.usage_file.cuts, toll.clock, account
        )
        self.subscriptions = Subscriptions(toll.database, toll.clock, toll.changed, self.reports)
        self.effects = subscription_effects(self.subscriptions, toll.clock)
        with self.toll.database.write() as rows:
            for key in PRICES:
                plan, _, price = key.partition("@1/")
                self._name(rows, "price", key, f"price_{plan}_{price}")

    def _name(self, rows: Any, kind: str, key: str, id: str) -> None:
        rows.provider_objects.put(ProviderObject("stripe", self.environment, kind, key, id, "", 0))

    @property
    def now(self) -> int:
        return self.toll.clock.now_us()

    def move(self, days: float = 0, seconds: float = 0) -> None:
        self.spine.time.move(int(days * DAY + seconds * SECOND))

    def customer(self, plan: str | None = "free", id: str = "acme") -> str:
        """Known at the provider as `cus_acme`."""
        self.toll.customers.create(id=id, name="Acme", plan=plan)
        with self.toll.database.write() as rows:
            self._name(rows, "customer", id, f"cus_{id}")
        return f"cus_{id}"

    def deliver(self, event: InboxEvent) -> None:
        self.apply(event, self.effects[event.type].fetch(self.account, event))

    def apply(self, event: InboxEvent, fetched: Any) -> None:
        with self.toll.database.write() as rows:
            after = self.effects[event.type].apply(rows, event, fetched, self.now)
        for call in after:
            call()

    def deliver_all(self, events: Iterable[InboxEvent] | None = None) -> None:
        waiting = list(self.account.happened) if events is None else list(events)
        if events is None:
            self.account.happened.clear()
        for event in waiting:
            self.deliver(event)

    def state(self, customer: str = "acme") -> dict[str, Any]:
        """Everything that is kept of a customer, but for when it was read, ids of our own, and since when the free plan holds."""
        with self.toll.database.read() as rows:
            current = [s for s in rows.subscriptions.current([customer])[customer] if s.environment == self.environment]
            known = rows.provider_subscriptions.of(self.environment, customer)
            return {
                "contract": [
                    (s.plan, s.plan_version, s.status, s.anchor, s.zone, s.grace_until, s.carried_from)
                    if s.plan != "free"
                    else ("free",)
                    for s in current
                ],
                "known": [(k.id, k.status, k.ended_at, k.plan, k.period_start, k.period_end) for k in known],
                "periods": [
                    (p.start, p.end, p.plan, p.subscription, p.state, p.invoice)
                    for p in rows.periods.of(self.environment, customer)
                ],
                "invoices": [
                    (i.id, i.status, i.amount_paid, i.refunded, dict(i.disputes))
                    for i in rows.invoices.of(self.environment, customer)
                ],
                "purchases": [(p.id, p.status) for p in rows.purchases.of(self.environment, customer)],
            }

    def contract(self, customer: str = "acme") -> Any:
        found = self.toll.customers.get(customer).subscription(self.environment)
        return None if found is None else (found.plan, found.status)

    def checking(self, customer: str = "acme") -> Callable[[], str]:
        key = self.toll.keys.create(customer=customer, environment=self.environment).key
        return lambda: self.toll.gate.check(key, "api_calls").code


PUBLIC_URL = "https://toll.example"


class Storefront:
    """The HTTP surface of a shop, called without a socket."""

    def __init__(self, shop: Shop) -> None:
        toll = shop.toll
        clock = toll.clock
        self.checkouts = Checkouts(
            toll.database,
            shop.account,
            shop.subscriptions,
            clock,
            PUBLIC_URL,
            lambda environment, customer, followed: None,
        )
        self.links = BuyLinks(toll.database.signing_secret, lambda: clock.now_ns() // 1_000_000_000)
        self.invoicing = Invoicing(toll.database, toll.usage, clock)
        toll.gate.buy = lambda environment, customer: lambda now_s: self.links.token(environment, customer, now_s)
        authenticator = Authenticator("admin-token-of-the-tests", toll.key_by_digest, clock.now_us)
        services = Services(
            toll.catalog,
            toll.customers,
            toll.keys,
            toll.usage,
            toll.rating,
            toll.reservations,
            toll.shadow,
            toll.corrections,
            authenticator,
            lambda: None,
            lambda: False,
            MoneyServices(checkouts=self.checkouts, links=self.links, invoicing=self.invoicing),
        )
        self.app = create_app(
            services,
            public_url=PUBLIC_URL,
            new_request_id=lambda: new_id("req", clock.now_us() // 1000, clock.random_bits(80)),
        )

    def client(self, *, admin: bool = False) -> httpx.AsyncClient:
        headers = {"Authorization": "Bearer admin-token-of-the-tests"} if admin else {}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=PUBLIC_URL, headers=headers)
