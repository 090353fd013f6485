"""An invoice that was voided: its units stand as voided, are billed on request, and nothing is given back that was not charged."""

from __future__ import annotations

from collections.abc import Iterator
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


def test_what_stood_on_a_voided_invoice_is_told_as_voided_and_billed_only_on_request(house: Voiding) -> None:
    house.begin()
    house.use(5)
    house.use(1, type="llm", tokens=300)
    draft = house.close(FEBRUARY)
    assert draft.total == 3000 + 350 + 300
    house.void_invoice(draft.id)
    assert house.told() == {"api_calls": ("voided", "5"), "tokens": ("voided", "300")}
    assert house.explained() == [
        f"5 voided with invoice {draft.id} (calls, 3.50 usd)",
        f"300 voided with invoice {draft.id} (tokens, 3.00 usd)",
    ]
    assert house.repair(voided=False) == []
    house.month(MARCH)
    assert house.collected() == 30 + 30 + 2  # two fees, and the least of March's tokens
    assert house.told() == {"api_calls": ("voided", "5"), "tokens": ("voided", "300")}
    assert house.repair() == ["3.50", "3.00"]
    assert house.told() == {}
    assert house.repair() == []
    house.month(APRIL)
    assert house.collected() == 30 + 30 + 2 + 30 + 2 + D("3.50") + 3
    reasons = [one.reason for one in house.adjusted("sent") if one.amount == D("3.50")]
    assert reasons == [f"5 api_calls 2027-01-31 to 2027-02-28: invoice {draft.id} was voided"]
    assert house.told() == {}


def test_what_changes_after_the_void_is_priced_by_what_is_really_billed(house: Voiding) -> None:
    house.begin("plain")
    calls = house.use(5)
    draft = house.close(FEBRUARY)
    house.void_invoice(draft.id)
    house.void(*calls[:2])  # never charged, so nothing goes back
    house.settle()
    assert house.told() == {"api_calls": ("voided", "3")}
    assert house.adjusted("pending", "sent") == []
    late = house.use(1, house.during)
    house.settle()
    assert [(one.quantity, str(one.amount)) for one in house.adjusted("sent")] == [(D(1), "0.25")]
    assert house.told() == {"api_calls": ("voided", "3")}
    assert house.repair() == ["3.00"]  # 4 cost 3.25
    house.void(late[0], *calls[2:])
    house.settle()
    house.month(MARCH)
    assert house.collected() == 30 + 30
    assert house.told() == {}


def test_more_is_voided_than_was_billed_of_it_late_and_the_customer_gets_that_back_and_no_more(house: Voiding) -> None:
    house.begin("plain")
    calls = house.use(2)
    house.void_invoice(house.close(FEBRUARY).id)
    late = house.use(2, house.during)
    house.settle()
    house.month(MARCH)
    assert house.collected() == 30 + 30 + D("1.25")
    house.void(*calls, *late)
    house.settle()
    house.month(APRIL)
    assert house.collected() == 30 + 30 + 30
    assert house.told() == {}


def test_what_was_given_back_before_the_invoice_of_it_was_voided_is_not_given_away_twice(house: Voiding) -> None:
    house.begin("plain")
    calls = house.use(5)
    february = house.close(FEBRUARY)
    house.v1.invoices.finalize_invoice(february.id, {"auto_advance": False})  # open, and not paid
    house.settle()
    house.void(calls[0])
    house.settle()
    house.month(MARCH)
    assert house.newest().total == 3000 - 25
    house.void_invoice(february.id)
    house.settle()
    assert house.told() == {"api_calls": ("voided", "4")}
    house.month(APRIL)
    assert house.collected() == 30 + D("29.75") + D("30.25")
    assert house.repair() == ["3.25"]


def test_a_line_of_an_earlier_month_is_voided_with_the_invoice_it_is_on(house: Voiding) -> None:
    house.begin("plain")
    house.use(2)
    house.month(FEBRUARY)
    house.use(2, house.during)  # the third at 1.00, the fourth at 0.25
    house.settle()
    draft = house.close(MARCH)
    assert draft.total == 3000 + 125
    house.void_invoice(draft.id)
    assert house.told() == {"api_calls": ("voided", "2")}
    assert house.explained() == [f"2 voided with invoice {draft.id} (calls, 1.25 usd)"]
    assert house.repair() == ["1.25"]
    house.month(APRIL)
    assert house.collected() == 30 + 32 + 30 + D("1.25")
    assert house.told() == {}


def test_a_credit_on_a_voided_invoice_goes_on_the_next_one_by_itself(house: Voiding) -> None:
    house.begin("plain")
    calls = house.use(5)
    house.month(FEBRUARY)
    house.void(*calls[:2])
    house.settle()
    draft = house.close(MARCH)
    assert draft.total == 3000 - 50
    house.void_invoice(draft.id)
    assert house.told() == {}
    house.month(APRIL)
    assert house.collected() == 30 + D("33.50") + 30 - D("0.50")


def test_a_credit_note_on_the_invoice_that_is_voided_then_is_no_debt(house: Voiding) -> None:
    house.begin("plain")
    (bought,) = house.v1.subscriptions.list({}).data
    card = house.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": str(bought.customer)}).id
    house.v1.subscriptions.update(bought.id, {"default_payment_method": card})
    calls = house.use(5)
    house.move(3600)
    house.cancel()
    last = house.newest()
    assert (last.status, last.total) == ("open", 350)
    house.void(calls[0])
    house.settle()
    assert [note.amount for note in house.v1.credit_notes.list({}).data] == [25]
    house.void_invoice(last.id)
    house.settle()
    assert house.told() == {"api_calls": ("voided", "4")}
    assert [one for one in house.adjusted("pending", "sent") if one.amount] == []


def test_an_uncollectible_invoice_stays_billed(house: Voiding) -> None:
    house.begin("plain")
    house.use(5)
    draft = house.close(FEBRUARY)
    house.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    house.v1.invoices.mark_uncollectible(draft.id)
    house.settle()
    assert house.told() == {}
    house.use(1, house.during)
    house.settle()
    assert [str(one.amount) for one in house.adjusted()] == ["0.25"]
    house.v1.invoices.void_invoice(draft.id)  # and may be voided after all
    house.settle()
    assert house.told() == {"api_calls": ("voided", "5")}


def test_a_voided_last_invoice_is_billed_by_another_one(house: Voiding) -> None:
    house.begin("plain")
    house.use(5)
    house.move(3600)
    house.cancel()
    house.use(4, house.during)
    house.settle()
    (alone,) = [one for one in house.v1.invoices.list({}).data if one.status == "draft"]
    assert alone.total == 100
    house.void_invoice(alone.id)
    assert house.told() == {"api_calls": ("voided", "4")}
    assert house.repair() == ["1.00"]
    house.settle()
    house.invoice_now()
    assert house.collected() == 30 + D("4.50")
    assert house.told() == {}


@pytest.mark.parametrize("paused", [False, True])
def test_usage_of_a_contract_that_was_ended_by_hand_without_an_invoice_does_not_count_as_billed(
    house: Voiding, paused: bool
) -> None:
    house.begin("plain")
    house.use(5)
    house.move(3600)
    house.settle()
    if paused:
        house.pause()
    house.move(3600)
    (bought,) = house.v1.subscriptions.list({}).data
    house.v1.subscriptions.cancel(bought.id, {})
    house.settle()
    house.move(2 * 3600)
    assert house.money.subscriptions is not None
    house.money.subscriptions.close_ends()
    house.settle()
    if not paused:  # usage before a pause is billed by itself
        assert house.told() == {"api_calls": ("uninvoiced", "5")}
        assert house.repair(voided=False) == ["3.50"]
    house.settle()
    house.invoice_now()
    assert house.collected() == D("33.50")
    assert house.told() == {}


def test_a_deleted_draft_is_as_one_that_was_voided(house: Voiding) -> None:
    house.begin("plain")
    house.use(5)
    house.move(3600)
    house.cancel()
    house.use(1, house.during)
    house.settle()
    (alone,) = [one for one in house.v1.invoices.list({}).data if one.status == "draft"]
    house.v1.invoices.delete(alone.id)
    house.settle()
    assert house.told() == {"api_calls": ("voided", "1")}
    assert house.repair() == ["0.25"]
    house.settle()
    house.invoice_now()
    assert house.collected() == 30 + D("3.75")
    assert house.told() == {}
