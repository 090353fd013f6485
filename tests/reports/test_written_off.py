"""`write_off`: late usage that is worth too little is not billed, and shown as that; what a customer is owed always goes back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from reports.voiding import CATALOG, FEBRUARY, MARCH, Voiding
from sandbox.conftest import Running

D = Decimal


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Voiding]:
    running = Running()
    made = Voiding(tmp_path, running, f'write_off = "0.60"\n{CATALOG}')
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()
    running.stop()


def test_small_late_usage_is_written_off_up_to_the_amount_in_all_and_billed_beyond_it(house: Voiding) -> None:
    house.begin("plain")
    house.use(5)
    house.month(FEBRUARY)
    for _ in range(2):
        house.use(1, house.during)
        house.settle()
    assert [(one.state, str(one.amount), one.quantity) for one in house.adjusted()] == [("written_off", "0.25", 1)] * 2
    assert house.told() == {"api_calls": ("written_off", "2")}
    assert house.explained() == ["2 written off (calls, 0.50 usd)"]
    house.use(1, house.during)  # 0.75 in all
    house.settle()
    assert [str(one.amount) for one in house.adjusted("sent")] == ["0.25"]
    assert house.told() == {"api_calls": ("written_off", "2")}
    assert house.repair() == []
    house.month(MARCH)
    assert house.collected() == 30 + D("33.50") + 30 + D("0.25")


def test_what_the_customer_is_owed_goes_back_and_what_was_written_off_was_never_charged(house: Voiding) -> None:
    house.begin("plain")
    calls = house.use(5)
    house.month(FEBRUARY)
    house.use(1, house.during)
    house.settle()
    assert house.told() == {"api_calls": ("written_off", "1")}
    house.void(calls[0])
    house.settle()
    assert house.told() == {}
    assert house.adjusted("pending", "sent") == []
    house.void(calls[1])
    house.settle()
    assert [str(one.amount) for one in house.adjusted("sent")] == ["-0.25"]
    house.month(MARCH)
    assert house.collected() == 30 + D("33.50") + 30 - D("0.25")
    assert house.told() == {}


def test_what_is_rated_here_is_written_off_too_but_never_what_was_billed_first(house: Voiding) -> None:
    house.begin("pro")
    house.use(1, type="llm", tokens=300)
    house.month(FEBRUARY)
    house.use(1, house.during, type="llm", tokens=20)
    house.settle()
    assert [(one.state, str(one.amount)) for one in house.adjusted()] == [("sent", "3.00"), ("written_off", "0.20")]
    assert house.told() == {"tokens": ("written_off", "20")}
    house.month(MARCH)
    assert house.collected() == 30 + 33 + 30 + 2


def test_each_period_has_an_amount_of_its_own(house: Voiding) -> None:
    house.begin("plain")
    house.use(5)
    house.month(FEBRUARY)
    march = house.now
    house.use(5)
    house.month(MARCH)
    for at in (FEBRUARY - timedelta(hours=1), march):
        house.use(2, at)
        house.settle()
    assert [(one.state, str(one.amount)) for one in house.adjusted()] == [("written_off", "0.50")] * 2
