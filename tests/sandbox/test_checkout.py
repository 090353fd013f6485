"""Checkout: strict at its creation, and a page that a person can click through without a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import stripe

from sandbox.billing import DAY, HOUR, Desk
from sandbox.conftest import Running

SUCCESS = "https://shop.example/done?session={CHECKOUT_SESSION_ID}"


@pytest.fixture
def desk(running: Running) -> Desk:
    return Desk(running)


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


def session_of(desk: Desk, *lines: dict[str, Any], mode: str = "subscription", **more: Any) -> stripe.checkout.Session:
    params: Any = {"mode": mode, "success_url": SUCCESS, "line_items": list(lines), **more}
    return desk.v1.checkout.sessions.create(params)


def pay(browser: httpx.Client, url: str | None, number: str = "4242 4242 4242 4242", **more: str) -> httpx.Response:
    """Fill in the form that the page shows, and press its button."""
    assert url is not None
    page = browser.get(url)
    assert page.status_code == 200
    shown = set(re.findall(r'name="([a-z_]+)"', page.text))
    typed = {
        "email": "ada@example.com",
        "number": number,
        "name": "Ada Lovelace",
        "expiry": "12 / 30",
        "cvc": "123",
        "do": "pay",
        **more,
    }
    assert set(typed) - {"email"} <= shown
    return browser.post(url, data={name: value for name, value in typed.items() if name in shown})


def test_a_subscription_is_bought_by_a_click_and_the_shop_is_told(desk: Desk, browser: httpx.Client) -> None:
    licensed, metered = desk.price(1900), desk.metered()
    session = session_of(
        desk,
        {"price": licensed, "quantity": 2},
        {"price": metered},
        client_reference_id="order-7",
        metadata={"a": "b"},
        subscription_data={"metadata": {"plan": "pro"}},
    )
    assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 3800)
    answer = pay(browser, session.url)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"https://shop.example/done?session={session.id}"
    done = desk.v1.checkout.sessions.retrieve(session.id, {"expand": ["line_items", "subscription"]})
    assert (done.status, done.payment_status, done.client_reference_id, done.url) == (
        "complete",
        "paid",
        "order-7",
        None,
    )
    assert done.customer_details.email == "ada@example.com"
    assert [(item.price.id, item.quantity) for item in done.line_items.data] == [(licensed, 2), (metered, None)]
    subscription: Any = done.subscription
    assert (subscription.status, subscription.metadata.to_dict()) == ("active", {"plan": "pro"})
    assert subscription.default_payment_method is not None
    assert desk.v1.invoices.retrieve(str(done.invoice)).amount_paid == 3800  # 2 × 1,900
    (event,) = desk.v1.events.list({"type": "checkout.session.completed"}).data
    assert (event.data.object["id"], event.data.object["subscription"]) == (session.id, subscription.id)
    assert "Thank you" in browser.get(session.url).text


def test_a_declined_card_buys_nothing_and_another_may_be_tried(desk: Desk, browser: httpx.Client) -> None:
    session = session_of(desk, {"price": desk.price(1900), "quantity": 1})
    answer = pay(browser, session.url, "4000000000000002")
    assert answer.status_code == 402
    assert "Your card was declined." in answer.text
    assert desk.v1.subscriptions.list({"status": "all"}).data == []
    assert desk.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert "payment_intent.payment_failed" in desk.types()
    assert pay(browser, session.url).status_code == 303
    assert desk.v1.checkout.sessions.retrieve(session.id).status == "complete"


def test_a_card_that_asks_for_authentication_pays_when_confirmed_and_not_when_refused(
    desk: Desk, browser: httpx.Client
) -> None:
    session = session_of(desk, {"price": desk.price(1900), "quantity": 1})
    bank = pay(browser, session.url, "4000002500003155").headers["location"]
    assert browser.post(bank, data={"do": "fail"}).headers["location"] == session.url
    assert desk.v1.checkout.sessions.retrieve(session.id).status == "open"
    bank = pay(browser, session.url, "4000002500003155").headers["location"]
    assert "Is it you?" in browser.get(bank).text
    assert browser.post(bank, data={"do": "confirm"}).headers["location"].startswith("https://shop.example/done")
    done = desk.v1.checkout.sessions.retrieve(session.id)
    assert done.payment_status == "paid"
    # authenticated once, it pays the next month by itself
    desk.wait(28 * DAY + HOUR)
    assert [row.status for row in desk.invoices(str(done.subscription))] == ["paid", "paid"]


def test_a_card_that_attaches_and_fails_later_leaves_the_subscription_past_due(
    desk: Desk, browser: httpx.Client
) -> None:
    session = session_of(desk, {"price": desk.metered()})
    assert pay(browser, session.url, "4000000000000341").status_code == 303
    done = desk.v1.checkout.sessions.retrieve(session.id)
    assert (done.payment_status, done.amount_total) == ("no_payment_required", 0)
    desk.use(str(done.customer), 10_000)
    desk.wait(28 * DAY + HOUR)
    assert desk.v1.subscriptions.retrieve(str(done.subscription)).status == "past_due"


def test_a_purchase_once_makes_a_payment_and_an_invoice_when_asked(desk: Desk, browser: httpx.Client) -> None:
    once = desk.v1.prices.create({"product": desk.product.id, "currency": "usd", "unit_amount": 4900}).id
    session = session_of(
        desk,
        {"price": once, "quantity": 2},
        mode="payment",
        payment_intent_data={"metadata": {"for": "download"}},
        invoice_creation={"enabled": True},
    )
    assert pay(browser, session.url).status_code == 303
    done = desk.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent", "invoice"]})
    intent, invoice = done.payment_intent, done.invoice
    assert isinstance(intent, stripe.PaymentIntent)
    assert isinstance(invoice, stripe.Invoice)
    assert (intent.status, intent.amount_received, intent.metadata["for"]) == ("succeeded", 9800, "download")
    assert (invoice.status, invoice.total, invoice.amount_paid) == ("paid", 9800, 9800)  # 2 × 4,900


def test_a_trial_asks_for_a_card_and_charges_it_when_it_ends(desk: Desk, browser: httpx.Client) -> None:
    session = session_of(desk, {"price": desk.price(1900), "quantity": 1}, subscription_data={"trial_period_days": 14})
    assert session.amount_total == 0
    assert pay(browser, session.url).status_code == 303
    done = desk.v1.checkout.sessions.retrieve(session.id)
    subscription = desk.v1.subscriptions.retrieve(str(done.subscription))
    assert (subscription.status, subscription.trial_end) == ("trialing", desk.now + 14 * DAY)
    desk.wait(14 * DAY + HOUR)
    assert [(row.total, row.status) for row in desk.invoices(subscription.id)] == [(0, "paid"), (1900, "paid")]
    assert desk.types().count("customer.subscription.trial_will_end") == 1


def test_a_promotion_code_is_typed_in_and_lasts_as_long_as_its_coupon(desk: Desk, browser: httpx.Client) -> None:
    coupon = desk.v1.coupons.create({"percent_off": 25, "duration": "repeating", "duration_in_months": 2})
    desk.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "SPRING"})
    session = session_of(desk, {"price": desk.price(1999), "quantity": 1}, allow_promotion_codes=True)
    assert session.url
    assert "This code is invalid." in browser.post(session.url, data={"do": "promotion", "promotion": "WINTER"}).text
    # 1,999 × 25 % = 499.75 → 500 off
    assert "$14.99" in browser.post(session.url, data={"do": "promotion", "promotion": "spring"}).text
    assert pay(browser, session.url).status_code == 303
    done = desk.v1.checkout.sessions.retrieve(session.id)
    assert (done.amount_subtotal, done.amount_total, done.total_details.amount_discount) == (1999, 1499, 500)
    for month in ("02-28", "03-31", "04-30"):
        desk.move(f"2027-{month}T16:37:12")
    totals = [row.total for row in desk.invoices(str(done.subscription))]
    assert totals == [1499, 1499, 1999, 1999]  # in force until 31 March, 15:37:12


def test_a_card_is_saved_without_a_charge(desk: Desk, browser: httpx.Client) -> None:
    customer = desk.customer(card=None)
    session = desk.v1.checkout.sessions.create(
        {"mode": "setup", "currency": "usd", "customer": customer, "success_url": SUCCESS}
    )
    assert pay(browser, session.url).status_code == 303
    done = desk.v1.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent"]})
    assert (done.payment_status, done.amount_total) == ("no_payment_required", None)
    assert done.setup_intent.payment_method == desk.v1.payment_methods.list({"customer": customer}).data[0].id
    assert desk.v1.charges.list().data == []


def test_a_session_expires_after_a_day_and_sells_nothing_then(desk: Desk, browser: httpx.Client) -> None:
    session = session_of(desk, {"price": desk.metered()})
    desk.wait(DAY)
    expired = desk.v1.checkout.sessions.retrieve(session.id)
    assert (expired.status, expired.url) == ("expired", None)
    assert session.url
    assert "expired" in browser.post(session.url, data={"do": "pay", "number": "4242424242424242", "email": "a@b"}).text
    assert desk.v1.subscriptions.list({"status": "all"}).data == []
    assert desk.types()[-1] == "checkout.session.expired"


def test_what_is_typed_in_is_shown_as_text(desk: Desk, browser: httpx.Client) -> None:
    session = session_of(desk, {"price": desk.metered()})
    assert session.url
    page = browser.post(session.url, data={"do": "pay", "email": "a@b", "name": '"><script>alert(1)</script>'})
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"line_items": [{"price": "METERED", "quantity": 1}]}, "line_items[0][quantity]"),
        ({"line_items": [{"price": "LICENSED"}]}, "line_items[0][quantity]"),
        ({"mode": "payment"}, "line_items"),
        ({"payment_method_types": ["card"]}, "payment_method_types"),
        ({"subscription_data": {"trial_period_days": 0}}, "subscription_data[trial_period_days]"),
        ({"subscription_data": {"metadata": {}, "trial": 1}}, "subscription_data[trial]"),
        ({"payment_intent_data": {"metadata": {"a": "b"}}}, "payment_intent_data"),
        ({"customer": "CUSTOMER", "customer_email": "a@b.c"}, "customer"),
        ({"customer": "CUSTOMER", "tax_id_collection": {"enabled": True}}, "tax_id_collection"),
        ({"customer": "CUSTOMER", "automatic_tax": {"enabled": True}}, "automatic_tax"),
        ({"allow_promotion_codes": True, "discounts": [{"coupon": "x"}]}, "allow_promotion_codes"),
        ({"success_url": "shop.example/done"}, "success_url"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"expires_at": 1_800_000_000}, "expires_at"),
        ({"line_items": []}, "line_items"),
    ],
)
def test_what_stripe_refuses_is_refused(desk: Desk, change: dict[str, Any], param: str) -> None:
    named = {"METERED": desk.metered(), "LICENSED": desk.price(), "CUSTOMER": desk.customer()}

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: put(item) for name, item in value.items()}
        if isinstance(value, list):
            return [put(item) for item in value]
        return named.get(value, value) if isinstance(value, str) else value

    params: Any = {
        "mode": "subscription",
        "success_url": SUCCESS,
        "line_items": [{"price": named["METERED"]}],
        **put(change),
    }
    with pytest.raises(stripe.InvalidRequestError) as refused:
        desk.v1.checkout.sessions.create(params)
    assert refused.value.param == param


@pytest.mark.parametrize(("account", "paid"), [("AT611904300234573201", True), ("AT861904300235473202", False)])
def test_a_bank_account_answers_days_later(desk: Desk, browser: httpx.Client, account: str, paid: bool) -> None:
    once = desk.v1.prices.create({"product": desk.product.id, "currency": "eur", "unit_amount": 4900}).id
    session = session_of(desk, {"price": once, "quantity": 1}, mode="payment", invoice_creation={"enabled": True})
    assert pay(browser, session.url, account).status_code == 303
    waiting = desk.v1.checkout.sessions.retrieve(session.id)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    assert desk.v1.payment_intents.retrieve(str(waiting.payment_intent)).status == "processing"
    desk.wait(3 * DAY)
    done = desk.v1.checkout.sessions.retrieve(session.id)
    assert done.payment_status == ("paid" if paid else "unpaid")
    assert (done.invoice is not None) == paid
    assert desk.types()[-1] == f"checkout.session.async_payment_{'succeeded' if paid else 'failed'}"
