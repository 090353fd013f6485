"""A pause: usage is billed, before it and whatever the gate let through in it; the fee of the paused time is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from reports.voiding import APRIL, CATALOG, FEBRUARY, MARCH, Voiding
from sandbox.conftest import Running

D = Decimal


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Voiding]:
    running = Running()
    made = Voiding(tmp_path, running, CATALOG)
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()
    running.stop()


def statuses(house: Voiding) -> list[tuple[str, int]]:
    """Of all invoices, the oldest first."""
    return [(one.status, one.total) for one in house.v1.invoices.list({}).data][::-1]


def test_usage_before_a_pause_is_on_the_first_invoice_after_it(house: Voiding) -> None:
    house.begin()
    house.use(5)
    house.use(1, type="llm", tokens=300)
    house.move(3600)
    house.settle()
    house.pause()
    house.use(1)  # such as a batch that came late: whatever was let through is usage
    house.settle()
    house.month(FEBRUARY)
    house.month(MARCH)
    assert statuses(house) == [("paid", 3000), ("void", 3000 + 375), ("void", 3000)]
    assert [str(one.amount) for one in house.adjusted("pending")] == [
        "3.75",
        "3.00",
    ]  # they wait for the end of the pause
    assert house.told() == {}
    assert house.v1.invoice_items.list({"pending": True}).data == []
    house.pause(False)
    assert [str(one.amount) for one in house.adjusted("sent")] == ["3.75", "3.00"]
    house.month(APRIL)
    assert statuses(house)[3:] == [("paid", 3000 + 375 + 300 + 200)]  # and the least of April's tokens; none of March's
    assert house.told() == {}
    reasons = [one.reason for one in house.adjusted("sent") if one.price == "calls"]
    assert len(reasons) == 1
    assert "was voided by a pause" in reasons[0]


def test_usage_of_a_contract_that_ends_paused_is_invoiced_by_itself(house: Voiding) -> None:
    house.begin("plain")
    house.use(5)
    house.move(3600)
    house.settle()
    house.pause()
    house.month(FEBRUARY)
    house.cancel()
    house.settle()
    house.invoice_now()
    assert [one for one in statuses(house) if one[1]] == [("paid", 3000), ("void", 3350), ("paid", 350)]
    assert house.told() == {}
    assert house.collected() == D("33.50")


@pytest.mark.parametrize("when", ["now", "period_end"])
def test_the_final_invoice_of_a_paused_contract_is_void_and_its_usage_billed(house: Voiding, when: str) -> None:
    house.begin("plain")
    house.use(5)
    house.move(3600)
    house.settle()
    house.pause()
    house.move(60)
    assert house.money.checkouts is not None
    house.money.checkouts.cancel("acme", when)  # type: ignore[arg-type]
    house.month(FEBRUARY)
    house.settle()
    house.invoice_now()
    assert house.contract() == ("free", "active")
    assert statuses(house) == [("paid", 3000), ("void", 350), ("paid", 350)]
    assert house.told() == {}


def test_corrections_in_a_pause_are_settled_with_the_rest_to_the_cent(house: Voiding) -> None:
    house.begin("plain")
    calls = house.use(5)
    house.month(FEBRUARY)
    assert house.collected() == 30 + 30 + D("3.50")
    march = house.now
    house.use(4)
    house.move(3600)
    house.settle()
    house.pause()
    house.month(MARCH)
    house.void(calls[0])  # of a month that was paid: −0.25
    house.use(1, march)  # of the paused one: a fifth
    house.settle()
    house.month(APRIL)
    assert house.collected() == 30 + 30 + D("3.50")
    house.pause(False)
    house.month(APRIL + timedelta(days=31))
    assert house.collected() == 30 + 30 + D("3.50") + 30 + D("3.50") - D("0.25")
    assert house.told() == {}


def test_a_line_that_waited_when_the_pause_began_is_not_lost_with_the_invoice_it_is_on(house: Voiding) -> None:
    house.begin("plain")
    house.use(5)
    house.month(FEBRUARY)
    house.use(4, house.during)
    house.settle()
    assert [one.amount for one in house.v1.invoice_items.list({"pending": True}).data] == [100]
    house.pause()
    house.month(MARCH)
    assert statuses(house)[2:] == [("void", 3100)]
    assert [str(one.amount) for one in house.adjusted("pending")] == ["1.00"]
    house.pause(False)
    house.month(APRIL)
    assert statuses(house)[3:] == [("paid", 3100)]
    assert house.told() == {}


def test_an_invoice_that_a_person_voids_after_a_pause_stays_voided(house: Voiding) -> None:
    house.begin("plain")
    house.move(3600)
    house.pause()
    house.month(FEBRUARY)
    house.pause(False)
    house.use(5)
    house.void_invoice(house.close(MARCH).id)
    assert house.told() == {"api_calls": ("voided", "5")}
    assert house.adjusted("pending", "sent") == []


def test_a_pause_that_nobody_saw_shows_as_voided(house: Voiding) -> None:
    house.begin("plain")
    house.use(5)
    house.move(3600)
    house.settle()
    (bought,) = house.v1.subscriptions.list({}).data
    house.v1.subscriptions.update(bought.id, {"pause_collection": {"behavior": "void"}})
    house.at(FEBRUARY + timedelta(seconds=5))
    house.v1.subscriptions.update(bought.id, {"pause_collection": ""})
    house.settle()
    assert house.told() == {"api_calls": ("voided", "5")}
    assert house.repair() == ["3.50"]
