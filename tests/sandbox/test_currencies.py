"""Amounts that Stripe does not charge are refused where they are given, and rounded where an invoice comes to one."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.billing import Desk
from sandbox.conftest import Running
from tollkeeper.sandbox.arithmetic import due
from tollkeeper.sandbox.texts import money

CODE = "invalid_charge_amount_no_decimal_compatible"


@pytest.mark.parametrize(
    ("total", "balance", "currency", "expected"),
    [
        (5124, 0, "kwd", (5120, 4)),
        (5126, 4, "kwd", (5130, 0)),
        (5125, 0, "tnd", (5130, -5)),
        (70350, 0, "isk", (70400, -50)),
        (70349, 0, "ugx", (70300, 49)),
        (70349, 0, "huf", (70349, 0)),
        (-5124, 0, "kwd", (0, -5124)),
    ],
)
def test_an_invoice_is_rounded_to_what_can_be_charged_and_the_rest_is_on_the_balance(
    total: int, balance: int, currency: str, expected: tuple[int, int]
) -> None:
    assert due(total, balance, currency) == expected


@pytest.mark.parametrize(
    ("currency", "amount", "code"), [("kwd", 5124, None), ("isk", 1050, CODE), ("ugx", 70001, CODE)]
)
def test_an_amount_that_is_not_charged_is_refused(
    running: Running, currency: str, amount: int, code: str | None
) -> None:
    v1: Any = running.client.v1
    customer = v1.customers.create({"name": "Acme"}).id
    product = v1.products.create({"name": "Pro"}).id
    fee = {"product": product, "currency": currency, "recurring": {"interval": "month"}}
    for call in (
        lambda: v1.payment_intents.create({"amount": amount, "currency": currency}),
        lambda: v1.invoice_items.create({"customer": customer, "amount": amount, "currency": currency}),
        lambda: v1.invoice_items.create({"customer": customer, "amount": -amount, "currency": currency}),
        lambda: v1.prices.create({**fee, "unit_amount": amount}),
    ):
        with pytest.raises(stripe.InvalidRequestError, match="must be evenly divisible by") as refused:
            call()
        assert refused.value.code == code
    whole = amount - amount % 100
    assert v1.payment_intents.create({"amount": whole, "currency": currency}).amount == whole
    assert v1.invoice_items.create({"customer": customer, "amount": -whole, "currency": currency}).amount == -whole
    assert v1.prices.create({**fee, "unit_amount": whole}).unit_amount == whole


def test_a_part_of_a_dinar_that_is_not_charged_is_neither_refunded_nor_credited(running: Running) -> None:
    desk = Desk(running)
    customer = desk.v1.customers.create({"name": "Acme", "payment_method": "pm_card_visa"}).id
    params: Any = {
        "default_payment_method": desk.v1.payment_methods.list({"customer": customer, "type": "card"}).data[0].id
    }
    desk.v1.customers.update(customer, {"invoice_settings": params})
    bought: Any = {"customer": customer, "items": [{"price": desk.price(9500, currency="kwd")}]}
    desk.v1.subscriptions.create(bought)
    (invoice,) = desk.v1.invoices.list({}).data
    (charge,) = desk.v1.charges.list({}).data
    assert (invoice.status, charge.amount) == ("paid", 9500)
    with pytest.raises(stripe.InvalidRequestError, match="divisible by 10"):
        desk.v1.refunds.create({"charge": charge.id, "amount": 1234})
    with pytest.raises(stripe.InvalidRequestError, match="divisible by 10"):
        desk.v1.credit_notes.create({"invoice": str(invoice.id), "amount": 1234, "credit_amount": 1234})
    assert desk.v1.refunds.create({"charge": charge.id, "amount": 1230}).amount == 1230


def test_amounts_are_shown_with_the_digits_that_stripe_writes() -> None:
    assert [
        money(amount, currency) for amount, currency in ((5120, "kwd"), (70400, "isk"), (70300, "ugx"), (703, "mga"))
    ] == [
        "KWD 5.120",
        "ISK 704.00",
        "UGX 703.00",
        "MGA 703",
    ]
