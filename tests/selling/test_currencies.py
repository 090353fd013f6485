"""Currencies that are not charged to their last digit: nothing is sent that Stripe refuses, and the rounding is told."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from reports.lived import Lived
from sandbox.conftest import Running

CATALOG = """
currency = "{currency}"
fallback = "free"
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
flat_amount = "{fee}"
[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "{unit}"
"""
PRICES = [  # in Stripe's unit: the fee, the first 7 calls, then 3 more, so that 10 are paid, and what 3 cost
    ("kwd", "9.5", "1.001", 9500, 7010, 3000, 3000, "7.007 kwd, charged as 7.010"),
    ("isk", "900", "70.5", 90000, 49400, 21100, 21200, None),
    ("ugx", "9000", "700.2", 900000, 490100, 210100, 210100, None),
    ("mga", "9000", "700.3", 9000, 4902, 2101, 2101, "4902.10 mga, charged as 4902.00"),
]


@pytest.mark.parametrize(("currency", "fee", "unit", "whole", "first", "more", "three", "told"), PRICES)
def test_what_is_charged_is_what_stripe_takes_and_adds_up(
    tmp_path: Path, currency: str, fee: str, unit: str, whole: int, first: int, more: int, three: int, told: str | None
) -> None:
    running = Running()
    lived = Lived(tmp_path, running, CATALOG.format(currency=currency, fee=fee, unit=unit))
    try:
        lived.buy("pro")
        lived.move(3600)
        during = lived.now
        used = lived.use(7)
        lived.move(3600)
        lived.cancel()
        for _ in range(3):
            lived.invoice_now()
        lived.use(3, during)
        for _ in range(3):
            lived.invoice_now()
        v1: Any = running.client.v1
        invoices = list(reversed(v1.invoices.list({"limit": 100}).data))
        assert [(one.status, one.total, one.amount_paid) for one in invoices] == [
            ("paid", amount, amount) for amount in (whole, first, more)
        ]
        assert v1.customers.retrieve(invoices[0].customer).balance == 0
        with lived.toll.database.read() as rows:
            lines = rows.adjustments.of("test", "acme")
            totals = [one.total for one in rows.invoices.of("test", "acme")]
        assert totals[0] == Decimal(fee)
        assert totals[1:] == [one.amount for one in lines]
        if told:
            assert lines[0].reason.endswith(f"; all of it costs {told}")
        else:  # there is no smaller unit here
            assert "all of it" not in lines[0].reason
        lived.void(*used)
        for _ in range(3):
            lived.invoice_now()
        [credit] = [one.total for one in v1.invoices.list({"limit": 100}).data if one.total < 0]
        assert first + more + credit == three
        assert v1.customers.retrieve(invoices[0].customer).balance == credit
        assert {one["status"] for one in running.control("/calls")["calls"] if one["method"] == "POST"} == {200}
    finally:
        lived.browser.close()
        lived.money.close()
        lived.toll.close()
        running.stop()
