"""by_hand.toml, line by line: the sums as they are written, the rating engine, the sandbox's arithmetic, and whole invoices."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from accounts.accountant import DIGITS, cost, lines, minor, rounded
from core.sums import value
from reports.lived import Lived
from sandbox.conftest import Running
from spine import Spine
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.provider_prices import rated_here
from tollkeeper.core.rating import rate
from tollkeeper.core.rating_read import read_question
from tollkeeper.integrations.stripe.prices import price_params
from tollkeeper.sandbox.arithmetic import rated
from tollkeeper.services.invoicing import Invoicing

BOOK: Mapping[str, list[dict[str, Any]]] = tomllib.loads(Path(__file__).with_name("by_hand.toml").read_text())
RATED, CONTRACTS, OWN = BOOK["rated"], BOOK["contract"], BOOK["own"]
PLANS = """
currency = "usd"
fallback = "free"
[meters.calls]
event_type = "api.call"
aggregation = "count"
[plans.free]
product = "api"
[plans.pro]
product = "api"
prices = [
  {key = "fee", model = "flat", flat_amount = "30"},
  {key = "calls", meter = "calls", model = "per_unit", unit_amount = "0.50"},
  {key = "fee_jpy", currency = "jpy", model = "flat", flat_amount = "3000"},
  {key = "calls_jpy", currency = "jpy", meter = "calls", model = "per_unit", unit_amount = "51.5"},
  {key = "fee_kwd", currency = "kwd", model = "flat", flat_amount = "9.5"},
  {key = "calls_kwd", currency = "kwd", meter = "calls", model = "per_unit", unit_amount = "0.1535"},
]
[plans.max]
product = "api"
prices = [
  {key = "fee", model = "flat", flat_amount = "90"},
  {key = "calls", meter = "calls", model = "per_unit", unit_amount = "0.10"},
  {key = "fee_jpy", currency = "jpy", model = "flat", flat_amount = "9000"},
  {key = "fee_kwd", currency = "kwd", model = "flat", flat_amount = "28"},
]
[plans.tried]
product = "api"
trial_days = 7
prices = [
  {key = "fee", model = "flat", flat_amount = "20"},
  {key = "calls", meter = "calls", model = "per_unit", unit_amount = "0.10"},
]
[plans.annual]
product = "api"
prices = [
  {key = "fee", model = "flat", interval = "year", flat_amount = "365"},
  {key = "calls", meter = "calls", model = "per_unit", unit_amount = "0.20"},
]
[plans.yearly]
product = "api"
prices = [{key = "calls", meter = "calls", interval = "year", model = "graduated", tiers = [
  {up_to = "5", unit_amount = "1"}, {up_to = "inf", unit_amount = "0.10"}]}]
[plans.tiers]
product = "api"
prices = [{key = "calls", meter = "calls", model = "graduated", tiers = [
  {up_to = "3", unit_amount = "1"}, {up_to = "inf", unit_amount = "0.25"}]}]
"""


def named(found: Iterable[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("one", found, ids=lambda one: one["name"])


def currency(one: Mapping[str, Any]) -> str:
    return str(one.get("currency", "usd"))


def rated_by_us(one: Mapping[str, Any]) -> bool:
    """What Stripe's prices cannot say, and currencies that it does not charge to the last digit."""
    return "charged" in one or bool({"minimum", "maximum", "quantity_round"} & set(one["price"]))


def worked(text: str, currency: str) -> int:
    """The minor units of `what it comes about by = the amount`, which is held to it."""
    left, _, right = text.rpartition(" = ")
    amount = minor(right, currency)
    assert rounded(value(left) * 10 ** DIGITS[currency]) == amount, text
    return int(amount)


def invoice(one: Mapping[str, Any], currency: str) -> tuple[Counter[int], int, int]:
    """Lines, what is taken off, and the total in minor units; the total is held to them."""
    amounts = Counter(worked(text, currency) for text in one["lines"])
    off = worked(one["off"], currency) if "off" in one else 0
    total = minor(one["total"], currency)
    assert sum(amount * many for amount, many in amounts.items()) - off == total, one
    return amounts, off, int(total)


def instant(when: datetime) -> datetime:
    return when.astimezone(UTC)


# one price


@named(RATED)
def test_the_rating_engine_has_the_lines_and_the_sum(one: dict[str, Any]) -> None:
    price, used = read_question({**one["price"], "currency": currency(one)}, one["used"])
    found = rate(price, used)
    amounts, _, total = invoice(one, currency(one))
    assert Counter(int(minor(line.amount, currency(one))) for line in found.lines if line.amount) == amounts
    assert minor(found.amount, currency(one)) == total


@named(RATED)
def test_the_accountant_has_them(one: dict[str, Any]) -> None:
    used = Fraction(one["used"])
    assert Counter(lines(one["price"], used, currency(one))) == invoice(one, currency(one))[0]
    assert cost(one["price"], used, currency(one)) == invoice(one, currency(one))[2]


@named([one for one in RATED if not rated_by_us(one)])
def test_the_sandbox_has_the_lines(one: dict[str, Any]) -> None:
    price, used = read_question({**one["price"], "currency": currency(one)}, one["used"])
    assert rated_here(price) is None
    params = {"billing_scheme": "per_unit", **price_params(price, "mtr_1")}
    for tier in params.get("tiers", ()):
        tier["up_to"] = None if tier["up_to"] == "inf" else tier["up_to"]
    assert Counter(piece.amount for piece in rated(params, used) if piece.amount) == invoice(one, currency(one))[0]


# whole invoices


class Kept(Lived):
    """A house whose invoices are read as the provider has them, and held against ours."""

    used: list[str]
    resting = True

    def settle(self) -> None:
        if self.resting:
            super().settle()

    def lived(self, one: Mapping[str, Any]) -> None:
        """The steps, with a stop right after each invoice is made and one after it is final."""
        stops: list[tuple[datetime, dict[str, Any]]] = [(instant(step["at"]), step) for step in one["steps"]]
        for made in one["invoices"]:
            stops += [(instant(made["made"]) + after, {}) for after in (timedelta(seconds=8), timedelta(hours=2))]
        self.used = []
        for when, step in sorted(stops, key=lambda stop: stop[0]):
            self.at(max(when, self.now))
            self.step(step)
            self.settle()
        self.until(instant(one["until"]))

    def step(self, step: Mapping[str, Any]) -> None:
        checkouts, v1 = self.money.checkouts, self.running.client.v1
        assert checkouts is not None
        if "use" in step:
            self.used += self.use(step["use"], instant(step.get("for", step["at"])))
        for _ in range(step.get("void", 0)):
            self.void(self.used.pop())
        if "change" in step:
            checkouts.change("acme", step["change"])
        if "cancel" in step:
            checkouts.cancel("acme", step["cancel"])
        if "refund" in step:
            (charge,) = v1.charges.list({}).data
            v1.refunds.create({"charge": charge.id, "amount": step["refund"]})

    def found(self, customer: str = "acme") -> list[tuple[datetime, tuple[Counter[int], int, int]]]:
        """When each invoice with anything on it was made, and its lines, discount and total."""
        v1 = self.running.client.v1
        with self.toll.database.read() as rows:
            held = rows.provider_objects.get("stripe", "test", "customer", customer)
            assert held is not None
            kept = {row.id: row for row in rows.invoices.of("test", customer)}
        found = []
        for one in reversed(v1.invoices.list({"customer": held.id, "limit": 100}).data):
            amounts = Counter(line.amount for line in one.lines.data if line.amount)
            off = sum(part.amount for part in one.total_discount_amounts or ())
            row = kept.pop(one.id)
            assert (row.status, int(minor(row.total, row.currency))) == (one.status, one.total)
            if amounts and one.status != "draft":
                found.append((datetime.fromtimestamp(one.created, UTC), (amounts, off, one.total)))
        assert not kept
        return found

    def drifted(self) -> list[Any]:
        assert self.money.drift is not None
        self.money.drift.check_all()
        return list(self.money.drift.told())


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


def test_there_are_enough_of_them() -> None:
    assert len(RATED) + sum(len(one["invoices"]) for one in [*CONTRACTS, *OWN]) >= 60


def closed(house: Kept) -> None:
    house.browser.close()
    house.money.close()
    house.toll.close()


@named(CONTRACTS)
def test_a_contract_has_these_invoices(tmp_path: Path, running: Running, one: dict[str, Any]) -> None:
    house = type("House", (Kept,), {"currency": currency(one)})(tmp_path, running, PLANS)
    house.at(instant(one["begin"]))
    if "coupon" in one:
        house.coupon = running.client.v1.coupons.create(one["coupon"]).id
    house.buy(one["plan"])
    house.lived(one)
    expected = [(instant(made["made"]), invoice(made, currency(one))) for made in one["invoices"]]
    assert house.found() == expected
    with house.toll.database.read() as rows:
        refunded = [row.refunded for row in rows.invoices.of("test", "acme") if row.refunded]
    assert refunded == [Decimal(made["refunded"]) for made in one["invoices"] if "refunded" in made]
    assert house.drifted() == []
    closed(house)


def test_each_price_comes_to_the_same_on_an_invoice(tmp_path: Path, running: Running) -> None:
    catalog = """
currency = "usd"
[meters.used]
event_type = "used"
aggregation = "sum"
value_property = "value"
[plans.free]
product = "api"
"""
    for number, one in enumerate(RATED):
        price = {"key": "used", "meter": "used", "currency": currency(one), **one["price"]}
        catalog += f'[plans.r{number}]\nproduct = "api"\nprices = [{inline(price)}]\n'
    house = Kept(tmp_path, running, catalog)
    house.resting = False
    for number, one in enumerate(RATED):
        house.customer(f"c{number}", currency(one))
        house.buy(f"r{number}", f"c{number}")
        event = UsageEvent(
            f"u{number}",
            "used",
            "t",
            customer=f"c{number}",
            time=house.now + timedelta(seconds=1),
            data={"value": one["used"]},
        )
        house.move(2)
        assert [result.status for result in house.toll.ingest.ingest_wait("test", [event])] == ["accepted"]
    house.resting = True
    house.settle()
    house.until(datetime(2027, 2, 28, 15, 38, tzinfo=UTC) + timedelta(seconds=2 * len(RATED)))
    house.invoice_now()
    for number, one in enumerate(RATED):
        amounts, off, total = invoice(one, currency(one))
        if rated_by_us(one):  # one line
            total = int(minor(one.get("charged", one["total"]), currency(one)))
            amounts = Counter([total])
        assert [found for _, found in house.found(f"c{number}")] == [(amounts, off, total)], one
    assert house.drifted() == []
    closed(house)


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {inline(one)}" for name, one in value.items()) + "}"
    return "[" + ", ".join(map(inline, value)) + "]" if isinstance(value, list) else f'"{value}"'


# our own


@named(OWN)
def test_without_a_provider_these_invoices_are_issued(tmp_path: Path, one: dict[str, Any]) -> None:
    spine = Spine(tmp_path, PLANS)
    begin = instant(one["begin"])
    spine.time.now = int(begin.timestamp()) * 10**9
    invoicing = Invoicing(spine.app.database, spine.app.usage, spine.app.clock)
    invoicing.run_once()
    customer = spine.customer(one["plan"], zone=one["zone"])
    stops: list[tuple[datetime, dict[str, Any]]] = [(instant(step["at"]), step) for step in one["steps"]]
    stops += [(instant(made["end"]) + timedelta(hours=1, seconds=1), {}) for made in one["invoices"]]
    for when, step in sorted([*stops, (instant(one["until"]), {})], key=lambda stop: stop[0]):
        spine.time.now = int(when.timestamp()) * 10**9
        if "use" in step:
            at = instant(step.get("for", step["at"]))
            events = [UsageEvent(f"{at}-{n}", "api.call", "t", customer=customer, time=at) for n in range(step["use"])]
            assert {one.status for one in spine.app.ingest.ingest_wait("live", events)} == {"accepted"}
        if "change" in step:
            spine.app.customers.move(customer, step["change"])
        invoicing.run_once()
    found = list(invoicing.page("live").items)[::-1]
    assert [
        (
            made.period_end,
            Counter(int(minor(line["amount"], "usd")) for line in made.document["lines"] if Decimal(line["amount"])),
        )
        for made in found
    ] == [(int(instant(made["end"]).timestamp()) * 10**6, invoice(made, "usd")[0]) for made in one["invoices"]]
    assert [str(made.total) for made in found] == [made["total"] for made in one["invoices"]]
    spine.app.close()
