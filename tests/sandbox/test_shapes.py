"""What the sandbox answers has the fields that the official client's classes name, and none besides."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from sandbox.billing import DAY, HOUR, Desk
from sandbox.conftest import Running
from sandbox.shapes import faults

SUCCESS = "https://shop.example/done"


@pytest.fixture
def desk(running: Running) -> Desk:
    return Desk(running)


def a_life(desk: Desk) -> None:
    """At least one object of every kind, in several states."""
    v1 = desk.v1
    rate = v1.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False}).id
    coupon = v1.coupons.create({"percent_off": 10, "duration": "forever"}).id
    v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon}, "code": "TEN"})
    customer = desk.customer(address={"country": "DE"})
    subscription = desk.subscribe(
        customer,
        desk.price(1000),
        desk.metered(),
        default_tax_rates=[rate],
        discounts=[{"coupon": coupon}],
        trial_period_days=3,
    )
    v1.invoice_items.create({"customer": customer, "amount": 100, "currency": "usd"})
    desk.use(customer, 500)
    desk.wait(3 * DAY + HOUR)
    v1.subscription_schedules.create({"from_subscription": subscription.id})
    v1.invoices.create_preview({"subscription": subscription.id})
    invoice = desk.invoices(subscription.id)[-1]
    v1.credit_notes.create({"invoice": invoice.id, "amount": 100, "refund_amount": 60, "credit_amount": 40})
    other = desk.customer("pm_card_chargeCustomerFail")
    failing = desk.subscribe(other, desk.metered())
    desk.use(other, 5000)
    disputed = desk.customer("pm_card_createDispute")
    desk.subscribe(disputed, desk.price(700))
    asked = desk.customer("pm_card_authenticationRequired")
    desk.subscribe(asked, desk.price(700))
    desk.wait(31 * DAY)
    v1.subscriptions.cancel(failing.id, {"invoice_now": True})
    v1.setup_intents.create({"customer": customer, "confirm": True, "payment_method": "pm_card_visa"})
    configuration = v1.billing_portal.configurations.create({"features": {"invoice_history": {"enabled": True}}}).id
    v1.billing_portal.sessions.create({"customer": customer, "configuration": configuration})
    once: Any = {
        "price_data": {"currency": "usd", "unit_amount": 4900, "product_data": {"name": "Book"}},
        "quantity": 1,
    }
    session = v1.checkout.sessions.create(
        {"mode": "payment", "line_items": [once], "success_url": SUCCESS, "invoice_creation": {"enabled": True}}
    )
    httpx.post(str(session.url), data={"do": "pay", "email": "a@b.c", "name": "A", "number": "4242424242424242"})
    line: Any = {"price": desk.metered()}
    v1.checkout.sessions.create(
        {"mode": "subscription", "line_items": [line], "success_url": SUCCESS, "allow_promotion_codes": True}
    )


KINDS = [
    "balance_transaction", "billing_portal.configuration", "billing_portal.session", "charge", "checkout.session", "credit_note",
    "customer", "customer_balance_transaction", "discount", "dispute", "event", "invoice", "invoice_payment", "invoiceitem",
    "payment_intent", "payment_method", "promotion_code", "refund", "setup_intent", "subscription", "subscription_schedule",
]  # fmt: skip


def test_every_object_has_the_fields_of_the_client_s_class_and_no_other(desk: Desk) -> None:
    a_life(desk)
    found = {}
    for kind in KINDS:
        rows = desk.running.control(f"/state?kind={kind}")["objects"]
        assert rows, kind
        for row in rows:
            for fault in faults(row):
                found[re.sub(r"\[\d+\]", "[]", f"{kind}{fault}")] = row["id"]
    assert found == {}
    for removed in ("current_period_start", "current_period_end"):
        assert all(removed not in row for row in desk.running.control("/state?kind=subscription")["objects"])
    assert all("subscription" not in row for row in desk.running.control("/state?kind=invoice")["objects"])
