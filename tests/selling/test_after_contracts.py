"""A line that waits for the next invoice when its contract ends, or is followed by another, is on exactly one invoice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from reports.lived import Lived
from sandbox.conftest import Running
from tollkeeper.core.billing import Adjustment

FEBRUARY = datetime(2027, 2, 28, 15, 37, 13, tzinfo=UTC)
LATE = datetime(2027, 2, 26, tzinfo=UTC)
MARCH = datetime(2027, 3, 31, 15, 37, 13, tzinfo=UTC)


class Waiting(Lived):
    """A month of three calls was invoiced, and two more of it came late: a line of 1.00 waits while the second month runs."""

    during: datetime
    used: list[str]

    def begin(self, late: int = 2) -> None:
        self.buy("pro")
        self.move(3600)
        self.during = self.now
        self.used = self.use(3)
        self.settle()
        self.until(FEBRUARY)
        self.invoice_now()
        assert self.invoices() == [("paid", "30.00"), ("paid", "31.50")]
        self.use(late, self.during)
        self.rest()
        assert [one["amount"] for one in self.pending()] == ([50 * late] if late else [])

    @property
    def v1(self) -> Any:
        return self.running.client.v1

    def pending(self) -> list[Any]:
        return list(self.v1.invoice_items.list({"pending": True}).data)

    def rest(self) -> None:
        for _ in range(2):
            self.invoice_now()

    def lines(self) -> list[Adjustment]:
        with self.toll.database.read() as rows:
            return list(rows.adjustments.of("test", "acme"))

    def the_one(self) -> str:
        """Which invoice has the line that waited."""
        assert self.pending() == []
        [line] = self.lines()
        (found,) = [
            invoice.id
            for invoice in self.v1.invoices.list({"limit": 100}).data
            for one in self.v1.invoices.line_items.list(invoice.id).data
            if one.metadata.to_dict().get("tollkeeper_message") == line.outbox
        ]
        assert line.invoice == found
        return str(found)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    running = Running()
    made = Waiting(tmp_path, running)
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()
    running.stop()


def test_a_contract_ended_at_once_takes_it_on_its_last_invoice(waiting: Waiting) -> None:
    waiting.begin()
    waiting.use(1)
    waiting.move(3600)
    waiting.cancel()
    waiting.rest()
    assert waiting.invoices()[2:] == [("paid", "1.50")]  # the call of March beside it
    waiting.the_one()
    assert waiting.collected() == Decimal("63.00")


def test_a_contract_that_ends_with_its_period_takes_it_on_its_last_invoice(waiting: Waiting) -> None:
    waiting.begin()
    assert waiting.money.checkouts is not None
    waiting.money.checkouts.cancel("acme", "period_end")
    waiting.until(MARCH)
    waiting.rest()
    assert waiting.invoices()[2:] == [("paid", "1.00")]
    waiting.the_one()
    assert waiting.contract() == ("free", "active")


@pytest.mark.parametrize("fault", [None, "drop_before", "drop_after", "500"])
def test_a_contract_that_was_deleted_by_hand_is_followed_by_one_invoice_of_it(
    waiting: Waiting, fault: str | None
) -> None:
    waiting.begin()
    (bought,) = waiting.v1.subscriptions.list({}).data
    waiting.v1.subscriptions.cancel(bought.id, {})
    if fault is not None:
        waiting.running.control("/faults", {"kind": fault, "method": "POST", "path": "/v1/invoices", "count": 1})
    waiting.rest()
    waiting.rest()
    assert waiting.invoices()[2:] == [("paid", "1.00")]
    waiting.the_one()
    waiting.use(1, waiting.during)
    waiting.rest()
    assert waiting.invoices()[2:] == [("paid", "1.00"), ("paid", "0.50")]
    assert waiting.pending() == []


def test_what_was_charged_too_much_is_credit_of_the_customer_after_the_end(waiting: Waiting) -> None:
    waiting.begin(late=0)
    waiting.void(*waiting.used[:2])
    waiting.rest()
    assert [one["amount"] for one in waiting.pending()] == [-100]
    (bought,) = waiting.v1.subscriptions.list({}).data
    waiting.v1.subscriptions.cancel(bought.id, {})
    waiting.rest()
    assert waiting.invoices()[2:] == [("paid", "-1.00")]
    waiting.the_one()
    assert waiting.v1.customers.retrieve(bought.customer).balance == -100


@pytest.mark.parametrize("when", ["now", "period_end"])
def test_another_plan_takes_it_on_its_next_invoice(waiting: Waiting, when: Any) -> None:
    waiting.begin()
    assert waiting.money.checkouts is not None
    waiting.money.checkouts.change("acme", "max", when)
    waiting.settle()
    if when == "period_end":
        waiting.until(MARCH)
    waiting.rest()
    assert len(waiting.invoices()) == 3
    assert waiting.the_one() == waiting.v1.invoices.list({}).data[0].id
    assert waiting.contract() == ("max", "active")


@pytest.mark.parametrize("settled", [True, False])
def test_a_contract_bought_after_a_deletion_leaves_it_on_one_invoice(waiting: Waiting, settled: bool) -> None:
    waiting.begin()
    (bought,) = waiting.v1.subscriptions.list({}).data
    waiting.v1.subscriptions.cancel(bought.id, {})
    if settled:
        waiting.rest()
    else:
        assert waiting.money.event_poll is not None
        assert waiting.money.inbox_effects is not None
        while waiting.money.event_poll.run_once() or waiting.money.inbox_effects.run_once():
            pass  # the end is known, and nothing was sent of what follows from it
    waiting.buy("max")
    waiting.rest()
    waiting.the_one()
    waiting.cancel()
    waiting.rest()
    assert waiting.collected() == Decimal("152.50")  # 30, 31.50, 1, 90
    waiting.the_one()


def test_usage_of_an_ended_contract_that_comes_when_another_runs_is_on_that_ones_next_invoice(waiting: Waiting) -> None:
    waiting.begin(late=0)
    waiting.cancel()
    waiting.buy("max")
    waiting.use(2, waiting.during)
    waiting.rest()
    assert [one["amount"] for one in waiting.pending()] == [100]
    waiting.until(waiting.now.replace(month=4, day=1))
    waiting.rest()
    assert waiting.invoices()[-1] == ("paid", "91.00")
    waiting.the_one()


def test_late_usage_is_on_the_draft_that_is_open(waiting: Waiting) -> None:
    waiting.begin(late=0)
    waiting.until(MARCH)
    waiting.use(2, LATE)
    waiting.void(waiting.used[0])
    waiting.settle()
    assert waiting.pending() == []
    waiting.rest()
    assert waiting.invoices()[2:] == [("paid", "30.50")]
    waiting.the_one()


@pytest.mark.parametrize("fault", [None, "drop_before", "drop_after", "500"])
def test_a_draft_that_is_final_before_late_usage_arrives_leaves_it_to_the_next_invoice(
    waiting: Waiting, fault: str | None
) -> None:
    waiting.begin(late=0)
    waiting.until(MARCH)
    (draft,) = waiting.v1.invoices.list({"status": "draft"}).data
    waiting.use(2, LATE)
    if fault is not None:
        waiting.running.control("/faults", {"kind": fault, "method": "POST", "path": "/v1/invoiceitems", "count": 1})
    if fault == "drop_after":  # the line is on the draft, and nobody knows
        waiting.settle()
        waiting.v1.invoices.finalize_invoice(draft.id)
    else:
        waiting.v1.invoices.finalize_invoice(draft.id)
        while waiting.money.reports.run_once():  # no event was read: here the invoice is a draft
            pass
    waiting.rest()
    waiting.rest()
    with_it = fault == "drop_after"
    assert waiting.invoices()[2:] == [("paid", "31.00" if with_it else "30.00")]
    waiting.until(waiting.now.replace(month=4, day=30, hour=23, minute=0))
    waiting.rest()
    assert waiting.invoices()[3:] == [("paid", "30.00" if with_it else "31.00")]
    waiting.the_one()
