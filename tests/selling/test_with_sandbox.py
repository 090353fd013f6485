"""The whole life at the sandbox, by the official client over HTTP: what is bought, used, paid, changed, owed and ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.conftest import Running
from spine import Spine
from tollkeeper.core.errors import Conflict
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.provider import ProviderUnavailable
from tollkeeper.money import Money
from tollkeeper.services.delivery import Delivery
from tollkeeper.settings import Settings

START = datetime(2027, 1, 31, 15, 37, 12, tzinfo=UTC)
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
flat_amount = "30"
[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.50"
[plans.max]
product = "api"
quotas = [{meter = "api_calls", limit = "40", kind = "hard"}]
[[plans.max.prices]]
key = "fee"
model = "flat"
flat_amount = "90"
[[plans.max.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.10"
[plans.tried]
product = "api"
trial_days = 7
[[plans.tried.prices]]
key = "fee"
model = "flat"
flat_amount = "20"
[[plans.tried.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.10"
[[plans.tried.prices]]
key = "least"
meter = "api_calls"
model = "per_unit"
unit_amount = "0"
minimum = "5"
[plans.forever]
product = "api"
[[plans.forever.prices]]
key = "once"
model = "flat"
interval = "once"
flat_amount = "99"
"""


class House:
    """A server's money beside a sandbox; both clocks are moved together."""

    zone = "UTC"
    coupon: str | None = None
    currency: str | None = None

    def __init__(self, folder: Path, running: Running, catalog: str = CATALOG) -> None:
        self.running = running
        self.spine = Spine(folder, catalog)
        self.toll = self.spine.app
        self.at(START)
        settings = Settings.load({"STRIPE_SECRET_KEY": "sk_test_tests1234", "STRIPE_API_BASE": running.url}, cwd=folder)
        self.money = Money(self.toll, settings)
        assert self.money.provider_catalog is not None
        self.money.provider_catalog.apply()
        self.customer("acme", self.currency)
        self.browser = httpx.Client()

    def customer(self, id: str, currency: str | None = None) -> None:
        self.toll.customers.create(
            id=id, name=id, email="ops@acme.example", plan="free", currency=currency, zone=self.zone
        )

    def at(self, when: datetime) -> None:
        self.spine.time.now = int(when.timestamp()) * 1_000_000_000
        self.running.control("/clock", {"set": when.isoformat(), "frozen": True})

    def move(self, seconds: int) -> None:
        self.spine.time.move(seconds * 1_000_000_000)
        self.running.control("/clock", {"advance": seconds, "frozen": True})

    def settle(self) -> None:
        """Let everything come to rest: events read and applied, usage reported and sent."""
        money = self.money
        assert money.event_poll is not None
        assert money.inbox_effects is not None
        assert money.dispatcher is not None
        assert money.subscriptions is not None
        for _ in range(3):
            money.subscriptions.close_ends()
            while money.event_poll.run_once():
                pass
            while money.inbox_effects.run_once():
                pass
            while money.reports.run_once():
                pass
            while money.dispatcher.run_once():
                pass

    def buy(self, plan: str, customer: str = "acme") -> None:
        assert self.money.checkouts is not None
        url = str(self.money.checkouts.buy(customer, plan, coupon=self.coupon).document["url"])
        shown = set(re.findall(r'name="([a-z_]+)"', self.browser.get(url).text))
        typed = {
            "email": "ops@acme.example",
            "number": "4242 4242 4242 4242",
            "name": "Ada",
            "expiry": "12 / 30",
            "cvc": "123",
            "do": "pay",
        }
        answer = self.browser.post(url, data={name: value for name, value in typed.items() if name in shown})
        assert answer.status_code in (302, 303)
        self.settle()

    def contract(self) -> tuple[str, str] | None:
        found = self.toll.customers.get("acme").subscription("test")
        return None if found is None else (found.plan, found.status)

    def invoices(self) -> list[tuple[str, str]]:
        with self.toll.database.read() as rows:
            return [(one.status, str(one.total)) for one in rows.invoices.of("test", "acme")]

    def periods(self) -> list[Any]:
        with self.toll.database.read() as rows:
            return list(rows.periods.of("test", "acme"))


@pytest.fixture
def house(tmp_path: Path, running: Running) -> Iterator[House]:
    made = House(tmp_path, running)
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()


def test_from_checkout_over_a_paid_month_to_the_last_invoice(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    check = house.toll.gate.check
    assert [check(key, "api_calls").code for _ in range(6)] == ["VALID"] * 5 + ["QUOTA_EXCEEDED"]
    house.move(60)
    house.buy("pro")
    assert house.contract() == ("pro", "active")
    assert house.invoices() == [("paid", "30.00")]
    (period,) = house.periods()
    assert datetime.fromtimestamp(period.start / 1e6, UTC) == datetime(2027, 1, 31, 15, 38, 12, tzinfo=UTC)
    assert datetime.fromtimestamp(period.end / 1e6, UTC) == datetime(2027, 2, 28, 15, 38, 12, tzinfo=UTC)
    house.move(3600)
    assert [check(key, "api_calls").code for _ in range(7)] == ["VALID"] * 7
    house.settle()
    house.at(datetime(2027, 2, 28, 15, 38, 11, tzinfo=UTC))
    assert check(key, "api_calls").code == "VALID"  # in the last second
    house.move(5)
    house.settle()
    assert [p.state for p in house.periods()] == ["closing", "open"]
    house.move(2 * 3600)
    house.settle()
    assert house.invoices() == [("paid", "30.00"), ("paid", "34.00")]  # the next month, and 8 calls at 0.50
    assert [p.state for p in house.periods()] == ["invoiced", "open"]
    assert [check(key, "api_calls").code for _ in range(3)] == ["VALID"] * 3
    house.settle()
    house.move(3600)
    assert house.money.checkouts is not None
    house.money.checkouts.cancel("acme", "now")
    house.settle()
    house.move(2 * 3600)
    house.settle()
    assert house.contract() == ("free", "active")
    assert house.invoices()[2:] == [("paid", "1.50")]  # 3 calls
    assert [p.state for p in house.periods()] == ["invoiced", "invoiced"]


def test_an_upgrade_bills_the_used_part_and_cuts_the_period(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    house.buy("pro")
    house.move(3600)
    assert [house.toll.gate.check(key, "api_calls").code for _ in range(4)] == ["VALID"] * 4
    house.settle()
    house.move(14 * 86_400)  # half of February
    assert house.money.checkouts is not None
    house.money.checkouts.change("acme", "max")
    assert house.contract() == ("max", "active")
    house.settle()
    first, second = house.periods()
    assert (first.plan, second.plan, first.end) == ("pro", "max", second.start)
    assert house.toll.customers.get("acme").subscription("test").carried_from == first.start  # type: ignore[union-attr]


def test_a_card_that_fails_later_is_graced_and_then_refused(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    house.buy("pro")
    v1 = house.running.client.v1
    (bought,) = v1.subscriptions.list({}).data
    card = v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": str(bought.customer)}).id
    v1.subscriptions.update(bought.id, {"default_payment_method": card})
    house.at(datetime(2027, 2, 28, 17, 40, tzinfo=UTC))
    house.settle()
    house.move(2 * 3600)
    house.settle()
    assert house.contract() == ("pro", "past_due")
    assert house.toll.gate.check(key, "api_calls").code == "VALID"
    house.move(4 * 86_400)
    assert house.money.subscriptions is not None
    house.money.subscriptions.lapse()
    refused = house.toll.gate.check(key, "api_calls")
    assert refused.code == "PAYMENT_REQUIRED"
    assert "/buy/" in str(refused.problem("https://toll.example"))


def test_a_single_payment_that_is_refunded_takes_its_plan_along(house: House) -> None:
    house.buy("forever")
    assert house.contract() == ("forever", "active")
    v1 = house.running.client.v1
    (charge,) = v1.charges.list({}).data
    v1.refunds.create({"charge": charge.id})
    house.settle()
    assert house.contract() == ("free", "active")
    with house.toll.database.read() as rows:
        assert [str(one.refunded) for one in rows.invoices.of("test", "acme")] == ["99.00"]


def test_a_dispute_stops_the_calls_until_it_is_won(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    house.buy("pro")
    (charge,) = house.running.client.v1.charges.list({}).data
    opened = house.running.control("/disputes", {"charge": charge.id})
    house.settle()
    assert house.toll.gate.check(key, "api_calls").code == "PAYMENT_REQUIRED"
    dispute = opened.get("id") or opened["dispute"]["id"]
    house.running.control("/disputes", {"dispute": dispute, "status": "won"})
    house.settle()
    assert house.toll.gate.check(key, "api_calls").code == "VALID"


def test_usage_of_the_last_second_is_on_the_invoice_of_a_contract_that_is_ended_at_once(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    house.buy("pro")
    for _ in range(3):  # in the first minute of the period, which no report has told of yet
        assert house.toll.gate.check(key, "api_calls").code == "VALID"
    house.settle()
    house.move(5)
    assert house.money.checkouts is not None
    house.money.checkouts.cancel("acme", "now")
    house.settle()
    assert house.invoices() == [("paid", "30.00"), ("paid", "1.50")]
    with house.toll.database.read() as rows:
        assert rows.adjustments.of("test", "acme") == []


def test_nothing_is_ended_while_its_usage_cannot_be_delivered(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    house.buy("pro")
    house.move(120)
    assert house.toll.gate.check(key, "api_calls").code == "VALID"
    house.running.control("/faults", {"kind": "500", "method": "POST", "path": "/v1/billing/meter_events", "count": 50})
    assert house.money.dispatcher is not None
    delivery = Delivery(
        house.toll.database, house.money.reports, house.money.dispatcher, house.toll.clock, lambda s: None
    )
    with pytest.raises(ProviderUnavailable, match="nothing was ended"):
        delivery.before_cut("test", "acme")
    assert house.contract() == ("pro", "active")


def test_a_second_checkout_leaves_nothing_to_pay_at_the_first(house: House) -> None:
    assert house.money.checkouts is not None
    first, second = house.money.checkouts.buy("acme", "pro"), house.money.checkouts.buy("acme", "max")
    sessions = house.running.client.v1.checkout.sessions
    assert [sessions.retrieve(str(one.session)).status for one in (first, second)] == ["expired", "open"]
    house.buy("max")
    assert house.contract() == ("max", "active")
    assert [one.status for one in house.running.client.v1.subscriptions.list({}).data] == ["active"]


def support(house: House) -> str:
    """A price that the seller made by hand."""
    v1 = house.running.client.v1
    product = v1.products.create({"name": "Support"})
    recurring: Any = {"interval": "month"}
    return v1.prices.create({"product": product.id, "currency": "usd", "unit_amount": 10000, "recurring": recurring}).id


def prices(house: House, subscription: str) -> list[str]:
    return [item.price.id for item in house.running.client.v1.subscriptions.retrieve(subscription)["items"].data]


def test_what_the_seller_sells_beside_a_plan_survives_a_change_of_it(house: House) -> None:
    house.buy("pro")
    v1 = house.running.client.v1
    (bought,) = v1.subscriptions.list({}).data
    beside = support(house)
    v1.subscription_items.create({"subscription": bought.id, "price": beside})
    house.settle()
    house.move(86_400)
    assert house.money.checkouts is not None
    house.money.checkouts.change("acme", "max")
    house.settle()
    assert beside in prices(house, bought.id)
    assert house.contract() == ("max", "active")
    house.money.checkouts.change("acme", "pro")  # cheaper, so from the end of the period on
    house.at(datetime(2027, 3, 1, 15, 40, tzinfo=UTC))
    house.settle()
    assert house.contract() == ("pro", "active")
    assert beside in prices(house, bought.id)


def test_a_subscription_that_is_none_of_ours_neither_bars_a_purchase_nor_is_changed_by_one(house: House) -> None:
    v1 = house.running.client.v1
    assert house.money.checkouts is not None
    house.money.checkouts.portal("acme")
    (customer,) = v1.customers.list({}).data
    card = v1.payment_methods.attach("pm_card_visa", {"customer": customer.id}).id
    beside = support(house)
    theirs = v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": beside}], "default_payment_method": card}
    )
    house.settle()
    assert house.contract() == ("free", "active")
    offered = {plan.key: action for plan, action in house.money.checkouts.offer("acme").plans}
    assert (offered["pro"], offered["max"]) == ("buy", "buy")
    with pytest.raises(Conflict, match="no running subscription"):
        house.money.checkouts.change("acme", "max")
    with pytest.raises(Conflict, match="no running subscription"):
        house.money.checkouts.cancel("acme", "now")
    house.buy("pro")
    assert house.contract() == ("pro", "active")
    assert prices(house, theirs.id) == [beside]


def test_every_call_that_changes_something_has_a_key_and_is_one_that_the_api_version_takes(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    house.buy("pro")
    house.move(3600)
    assert house.toll.gate.check(key, "api_calls").code == "VALID"
    house.settle()
    checkouts = house.money.checkouts
    assert checkouts is not None
    checkouts.preview("acme")
    checkouts.change("acme", "max")
    checkouts.pause("acme")
    checkouts.pause("acme", paused=False)
    checkouts.change("acme", "pro", "period_end")
    checkouts.portal("acme")
    checkouts.cancel("acme", "period_end")
    checkouts.cancel("acme", "now")
    calls = [one for one in house.running.control("/calls")["calls"] if one["path"].startswith("/v1/")]
    assert len(calls) > 30
    assert {one["status"] for one in calls} == {200}
    assert [one["path"] for one in calls if one["method"] == "POST" and not one["idempotency_key"]] == []


def test_usage_in_a_trial_costs_nothing_however_late_it_comes_and_is_no_drift(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    house.buy("tried")
    assert house.contract() == ("tried", "trialing")
    house.move(3600)
    assert [house.toll.gate.check(key, "api_calls").code for _ in range(4)] == ["VALID"] * 4
    house.settle()
    house.at(datetime(2027, 2, 7, 15, 37, 13, tzinfo=UTC))
    house.settle()
    house.move(2 * 3600)
    house.settle()
    assert house.contract() == ("tried", "active")
    assert house.invoices() == [("paid", "0.00"), ("paid", "20.00")]  # the trial; the first month's fee, and no minimum
    late = UsageEvent(id="late", source="job", type="api.call", customer="acme", time=datetime(2027, 2, 6, tzinfo=UTC))
    asyncio.run(house.toll.ingest.ingest("test", [late]))
    assert [house.toll.gate.check(key, "api_calls").code for _ in range(3)] == ["VALID"] * 3
    house.settle()
    drift = house.money.drift
    assert drift is not None
    drift.check_all()
    assert drift.told() == []
    house.at(datetime(2027, 3, 7, 15, 37, 13, tzinfo=UTC))
    house.settle()
    house.move(2 * 3600)
    house.settle()
    assert house.invoices()[2:] == [("paid", "25.30")]  # the next fee, 3 calls at 0.10, and the minimum of 5
    drift.check_all()
    assert drift.told() == []


def test_a_customer_that_was_deleted_at_the_provider_can_buy_again_and_is_billed_there(house: House) -> None:
    key = house.toll.keys.create(customer="acme", environment="test").key
    v1 = house.running.client.v1
    house.buy("pro")
    house.move(120)
    assert house.toll.gate.check(key, "api_calls").code == "VALID"
    house.settle()  # under the id that is deleted now
    (first,) = v1.customers.list({}).data
    (charge,) = v1.charges.list({}).data
    v1.customers.delete(first.id)
    house.settle()
    assert house.contract() == ("free", "active")
    house.move(60)
    house.buy("pro")
    assert house.contract() == ("pro", "active")
    (second,) = v1.customers.list({}).data
    assert second.id != first.id
    house.move(120)
    assert [house.toll.gate.check(key, "api_calls").code for _ in range(3)] == ["VALID"] * 3
    house.settle()
    house.move(5)
    assert house.money.checkouts is not None
    house.money.checkouts.cancel("acme", "now")
    house.settle()
    assert ("paid", "1.50") in house.invoices()  # 3 calls, at the new one
    v1.refunds.create({"charge": charge.id})  # of the old one
    house.settle()
    with house.toll.database.read() as rows:
        assert sorted(str(one.refunded) for one in rows.invoices.of("test", "acme"))[-1] == "30.00"
