"""What comes after the last invoice of a contract that has ended is invoiced or credited, once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from reports.lived import Lived
from sandbox.conftest import Running

FAULTS = [None, "drop_before", "drop_after", "500"]


class Ended(Lived):
    """A month of three calls at 0.50 that was cancelled and paid."""

    during: datetime
    used: list[str]

    def begin(self) -> None:
        self.buy("pro")
        self.move(3600)
        self.during = self.now
        self.used = self.use(3)
        self.move(3600)
        self.cancel()
        assert self.invoices() == [("paid", "30.00"), ("paid", "1.50")]

    @property
    def v1(self) -> Any:
        return self.running.client.v1

    def fault(self, kind: str | None, path: str) -> None:
        if kind is not None:
            self.running.control("/faults", {"kind": kind, "method": "POST", "path": path, "count": 1})

    def come_to_rest(self) -> None:
        for _ in range(3):
            self.spine.time.move(7200 * 1_000_000_000)
            self.running.control("/clock", {"advance": 7200, "frozen": True})
            self.settle()


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Ended]:
    running = Running()
    made = Ended(tmp_path, running)
    made.begin()
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()
    running.stop()


@pytest.mark.parametrize("fault", FAULTS)
def test_late_usage_is_on_one_invoice_of_its_own_that_is_paid(ended: Ended, fault: str | None) -> None:
    ended.use(2, ended.during)
    ended.fault(fault, "/v1/invoices")
    ended.come_to_rest()
    assert ended.invoices()[2:] == [("paid", "1.00")]
    assert ended.collected() == Decimal("32.50")
    assert ended.v1.invoice_items.list({"pending": True}).data == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_void_is_one_credit_note_on_the_invoice_it_is_about(ended: Ended, fault: str | None) -> None:
    ended.void(ended.used[0])
    ended.fault(fault, "/v1/credit_notes")
    ended.come_to_rest()
    (note,) = ended.v1.credit_notes.list({}).data
    assert (note.amount, note.customer_balance_transaction is not None) == (50, True)
    assert ended.collected() == Decimal("31.00")
    assert ended.v1.invoice_items.list({"pending": True}).data == []


def test_what_the_invoice_cannot_give_back_is_credit_of_the_customer(ended: Ended) -> None:
    last = next(one for one in ended.v1.invoices.list({}).data if one.total == 150)
    ended.v1.credit_notes.create({"invoice": last.id, "amount": 150, "out_of_band_amount": 150})
    ended.void(*ended.used[:2])
    ended.come_to_rest()
    assert ended.v1.invoice_items.list({"pending": True}).data == []
    assert ended.v1.customers.retrieve(last.customer).balance == -100
    assert len(ended.v1.credit_notes.list({}).data) == 1
    with ended.toll.database.read() as rows:
        assert {one.state for one in rows.adjustments.of("test", "acme")} == {"sent"}


def test_usage_that_comes_late_again_and_again_is_billed_once_each(ended: Ended) -> None:
    for _ in range(3):
        ended.use(1, ended.during)
        ended.come_to_rest()
    ended.void(ended.used[0])
    ended.come_to_rest()
    assert ended.collected() == Decimal("32.50")  # 30, and 5 calls
    assert ended.money.drift is not None
    ended.money.drift.check_all()
    assert ended.money.drift.told() == []
