"""Invoices of our own, without a payment provider, held to sums worked out by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from spine import DAY, SECOND, Spine
from tollkeeper.core.errors import Conflict
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.periods import period_at
from tollkeeper.services.invoicing import Invoicing

CATALOG = """
currency = "usd"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[plans.free]
product = "api"

[plans.pro]
product = "api"
[[plans.pro.prices]]
key = "fee"
model = "flat"
flat_amount = "30"
[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "graduated"
tiers = [{up_to = "2", unit_amount = "0"}, {up_to = "inf", unit_amount = "0.50"}]

[plans.max]
product = "api"
[[plans.max.prices]]
key = "fee"
model = "flat"
flat_amount = "90"
[[plans.max.prices]]
key = "setup"
model = "flat"
interval = "once"
flat_amount = "10"
[[plans.max.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.10"

[plans.annual]
product = "api"
[[plans.annual.prices]]
key = "fee"
model = "flat"
interval = "year"
flat_amount = "365"
"""


class Books:
    def __init__(self, folder: Path) -> None:
        self.spine = Spine(folder, CATALOG)
        self.toll = self.spine.app
        self.invoicing = Invoicing(self.toll.database, self.toll.usage, self.toll.clock)
        self.invoicing.run_once()  # invoicing begins now

    @property
    def now(self) -> int:
        return self.toll.clock.now_us()

    def turn(self) -> list[Invoice]:
        while self.invoicing.run_once():
            pass
        return list(self.invoicing.page("live").items)[::-1]

    def call(self, customer: str, times: int) -> None:
        key = self.toll.keys.create(customer=customer, environment="live").key
        for _ in range(times):
            assert self.toll.gate.check(key, "api_calls").code == "VALID"


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def lines(invoice: Invoice) -> list[tuple[str, str]]:
    return [(line["key"], line["amount"]) for line in invoice.document["lines"]]


def test_a_month_is_invoiced_once_an_hour_after_its_end(books: Books) -> None:
    customer = books.spine.customer("pro")
    start, end = period_at(books.now, "UTC", books.now)
    books.call(customer, 5)
    books.spine.time.now = end * 1000
    assert books.turn() == []
    books.spine.time.move(3600 * SECOND)
    (invoice,) = books.turn()
    assert (invoice.number, invoice.status, str(invoice.total)) == ("INV-000001", "open", "31.50")
    assert lines(invoice) == [("fee", "30.00"), ("calls", "1.50")]  # 3 × 0.50 above the 2 that are free
    assert (invoice.period_start, invoice.period_end) == (start, end)
    assert books.turn() == [invoice]


def test_usage_that_came_after_the_invoice_is_a_line_on_the_next(books: Books) -> None:
    customer = books.spine.customer("pro")
    _, end = period_at(books.now, "UTC", books.now)
    books.call(customer, 5)
    books.spine.time.now = end * 1000 + 2 * 3600 * SECOND
    books.turn()
    event = {
        "id": "late",
        "source": "job",
        "type": "api.call",
        "customer": customer,
        "time": datetime(2026, 9, 30, tzinfo=UTC),
    }
    (answer,) = ingest(books, event)
    assert answer == "accepted"
    _, second = period_at(end, "UTC", end)
    books.spine.time.now = second * 1000 + 2 * 3600 * SECOND
    first, after = books.turn()
    assert lines(first) == [("fee", "30.00"), ("calls", "1.50")]
    assert lines(after) == [("fee", "30.00"), ("calls", "0.50")]
    assert after.document["lines"][1]["corrects"] == first.period_start
    _, third = period_at(end, "UTC", second)
    books.spine.time.now = third * 1000 + 2 * 3600 * SECOND
    assert lines(books.turn()[2]) == [("fee", "30.00")]  # corrected once


def ingest(books: Books, event: dict[str, Any]) -> list[str]:
    found = asyncio.run(books.toll.ingest.ingest("live", [UsageEvent(**event)]))
    return [one.status for one in found]


def test_a_move_charges_each_flat_price_for_its_part_to_the_second(books: Books) -> None:
    customer = books.spine.customer("pro")
    start, end = period_at(books.now, "UTC", books.now)
    whole = end - start
    books.spine.time.move(10 * DAY)
    books.toll.customers.move(customer, "max")
    part = Decimal(10 * 86_400_000_000) / whole
    books.spine.time.now = end * 1000 + 2 * 3600 * SECOND
    (invoice,) = books.turn()
    cent = Decimal("0.01")
    assert lines(invoice) == [
        ("fee", str((30 * part).quantize(cent))),
        ("fee", str((90 * (1 - part)).quantize(cent))),
        ("setup", "10.00"),
    ]


def test_a_year_is_charged_when_it_ends(books: Books) -> None:
    books.spine.customer("annual")
    start = books.now
    _, end = period_at(start, "UTC", start, "year")
    for month in range(1, 13):
        books.spine.time.now = start * 1000 + month * 31 * DAY
        found = books.turn()
    books.spine.time.now = end * 1000 + 2 * 3600 * SECOND
    found = books.turn()
    assert [lines(one) for one in found] == [[("fee", "365.00")]]


def test_a_plan_without_a_price_is_not_invoiced(books: Books) -> None:
    books.spine.customer("free")
    books.spine.time.move(70 * DAY)
    assert books.turn() == []


def test_what_ended_before_invoicing_began_is_left_alone(tmp_path: Path) -> None:
    spine = Spine(tmp_path, CATALOG)
    spine.customer("pro")
    spine.time.move(100 * DAY)
    invoicing = Invoicing(spine.app.database, spine.app.usage, spine.app.clock)
    invoicing.run_once()
    assert list(invoicing.page("live").items) == []


def test_a_plan_in_shadow_bills_nobody(books: Books) -> None:
    books.spine.customer("pro")
    books.toll.catalog.apply('shadow = ["pro"]\n' + CATALOG)
    books.spine.time.move(40 * DAY)
    assert books.turn() == []


def test_the_preview_is_what_the_invoice_will_say(books: Books) -> None:
    customer = books.spine.customer("pro")
    books.call(customer, 5)
    preview = books.invoicing.preview(customer)
    assert (preview.status, preview.id, str(preview.total)) == ("draft", "", "31.50")
    books.spine.time.move(40 * DAY)
    (invoice,) = books.turn()
    assert invoice.document["lines"] == preview.document["lines"]


def test_an_invoice_is_paid_or_void_once(books: Books) -> None:
    books.spine.customer("pro")
    books.spine.time.move(40 * DAY)
    (invoice,) = books.turn()
    paid = books.invoicing.settle(invoice.id, "paid")
    assert (paid.status, paid.amount_paid, paid.paid_at) == ("paid", paid.total, books.now)
    assert books.invoicing.settle(invoice.id, "paid") == paid
    with pytest.raises(Conflict):
        books.invoicing.settle(invoice.id, "void")


def test_numbers_follow_one_another(books: Books) -> None:
    for _ in range(3):
        books.spine.customer("pro")
    books.spine.time.move(40 * DAY)
    assert sorted(str(one.number) for one in books.turn()) == ["INV-000001", "INV-000002", "INV-000003"]
