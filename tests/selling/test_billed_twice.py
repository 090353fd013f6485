"""A second subscription with our prices that was made by hand at Stripe bills the same usage: told, and put right by doing what is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from reports.lived import Lived
from sandbox.conftest import Running


class Twice(Lived):
    """Two calls under the first contract, four while there are two."""

    first: str
    second: str

    def begin(self) -> None:
        v1: Any = self.running.client.v1
        self.buy("pro")
        self.move(3600)
        self.use(2)
        self.move(3600)
        self.settle()
        assert self.told() == []
        (bought,) = v1.subscriptions.list({}).data
        items = [{"price": item.price.id} for item in bought["items"].data]
        params = {"customer": bought.customer, "items": items, "default_payment_method": bought.default_payment_method}
        self.first, self.second = bought.id, v1.subscriptions.create(params).id
        self.settle()
        self.move(3600)
        self.use(4)
        self.move(3600)
        self.settle()

    def told(self) -> list[str]:
        assert self.money.drift is not None
        self.money.drift.check_all()
        return [one.check.explanation for one in self.money.drift.told()]

    def cancel_by_hand(self, subscription: str, *, last_invoice: bool = False) -> None:
        self.running.client.v1.subscriptions.cancel(subscription, {"invoice_now": True} if last_invoice else {})
        self.settle()
        self.move(3600)
        self.use(8)
        self.settle()


@pytest.fixture
def twice(tmp_path: Path, running: Running) -> Iterator[Twice]:
    made = Twice(tmp_path, running)
    made.begin()
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()


def test_what_is_to_be_done_is_told_with_the_names_of_both(twice: Twice) -> None:
    assert twice.told() == [
        f"{twice.first} and {twice.second} bill the same usage: cancel {twice.second} at Stripe, at once and without a last "
        f"invoice, and refund what it has charged; {twice.first} bills all of the usage, that of the time between too"
    ]


def test_done_as_told_everything_is_billed_once_and_nothing_drifts(twice: Twice) -> None:
    twice.cancel_by_hand(twice.second)
    assert twice.told() == []
    twice.until(twice.now + timedelta(days=28))
    twice.invoice_now()
    assert twice.invoices()[2:] == [("paid", "37.00")]  # the next month's fee, and 14 calls at 0.50
    assert twice.told() == []
    twice.use(1)
    twice.settle()
    twice.until(twice.now + timedelta(days=31))
    twice.invoice_now()
    assert twice.invoices()[3:] == [("paid", "30.50")]
    assert twice.told() == []


def test_usage_between_that_the_second_has_charged_stays_told(twice: Twice) -> None:
    twice.cancel_by_hand(twice.second, last_invoice=True)
    assert ("paid", "2.00") in twice.invoices()
    twice.until(twice.now + timedelta(days=28))
    twice.invoice_now()
    assert twice.invoices()[3:] == [("paid", "37.00")]
    assert twice.collected() == Decimal("99.00")  # two fees and a third, 14 calls, and 4 of them again
    assert [f"refund what it has charged; {twice.first} bills all" in one for one in twice.told()] == [True]


def test_the_second_may_take_the_place_of_the_first(twice: Twice) -> None:
    twice.cancel_by_hand(twice.first, last_invoice=True)
    twice.until(twice.now + timedelta(days=28))
    twice.invoice_now()
    assert twice.contract() == ("pro", "active")
    assert ("paid", "36.00") in twice.invoices()  # 12 calls since it began
