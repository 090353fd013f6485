"""The billing portal and the pages of invoices: what a person can do there, and what the configuration does not let them do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import stripe

from sandbox.billing import DAY, HOUR, Desk, at
from sandbox.conftest import Running

FEATURES: dict[str, Any] = {
    "customer_update": {"enabled": True, "allowed_updates": ["email", "name", "address"]},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
}


@pytest.fixture
def desk(running: Running) -> Desk:
    return Desk(running)


@pytest.fixture
def browser(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url) as client:
        yield client


def portal(desk: Desk, customer: str, features: dict[str, Any]) -> str:
    configuration = desk.v1.billing_portal.configurations.create({"features": features}).id
    params: Any = {"customer": customer, "configuration": configuration, "return_url": "https://shop.example/account"}
    return desk.v1.billing_portal.sessions.create(params).url


def test_a_person_cancels_at_the_end_of_the_period_and_thinks_better_of_it(desk: Desk, browser: httpx.Client) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1900), desk.metered())
    url = portal(desk, customer, FEATURES)
    page = browser.get(url).text
    assert "https://shop.example/account" in page
    assert "Change plan" not in page
    cancel = f"{url}/cancel/{subscription.id}"
    assert "28 Feb 2027" in browser.get(cancel).text
    assert browser.post(cancel, data={"do": "cancel"}).status_code == 303
    assert desk.v1.subscriptions.retrieve(subscription.id).cancel_at == at("2027-02-28T15:37:12")
    assert "It ends on 28 Feb 2027." in browser.get(url).text
    browser.post(cancel, data={"do": "keep"})
    assert desk.v1.subscriptions.retrieve(subscription.id).cancel_at is None


def test_a_person_changes_between_the_prices_offered_and_no_other(desk: Desk, browser: httpx.Client) -> None:
    customer = desk.customer()
    cheap, dear, other = desk.price(1000), desk.price(3000), desk.price(1)
    subscription = desk.subscribe(customer, cheap)
    offered: Any = {
        "enabled": True,
        "default_allowed_updates": ["price"],
        "products": [{"product": desk.product.id, "prices": [cheap, dear]}],
        "proration_behavior": "always_invoice",
    }
    desk.wait(14 * DAY)
    url = portal(desk, customer, {**FEATURES, "subscription_update": offered})
    change = f"{url}/change/{subscription.id}"
    assert "Choose a plan." in browser.post(change, data={"price": other}).text
    assert browser.post(change, data={"price": dear}).status_code == 303
    # half of 28 days is left: −1,000 ÷ 2 + 3,000 ÷ 2
    assert [row.total for row in desk.invoices(subscription.id)] == [1000, 1000]


def test_a_person_changes_the_card_and_pays_what_is_open(desk: Desk, browser: httpx.Client) -> None:
    customer = desk.customer("pm_card_chargeCustomerFail")
    subscription = desk.subscribe(customer, desk.metered())
    desk.use(customer, 1000)
    desk.wait(28 * DAY + HOUR)
    (invoice,) = desk.invoices(subscription.id)
    hosted = str(invoice.hosted_invoice_url)
    assert "Pay $2.00" in browser.get(hosted).text
    assert browser.post(hosted, data={"number": "4000000000000002"}).status_code == 402
    assert browser.post(hosted, data={"number": "4242424242424242", "name": "Ada"}).status_code == 303
    assert desk.v1.invoices.retrieve(invoice.id).status == "paid"
    assert "Paid on 28 Feb 2027" in browser.get(hosted).text
    assert "1000 × Pro" in browser.get(str(invoice.invoice_pdf)).text
    assert browser.get(hosted[:-1] + "x").status_code == 404
    url = portal(desk, customer, FEATURES)
    assert browser.post(f"{url}/card", data={"number": "4000000000000002"}).status_code == 402
    assert browser.post(f"{url}/card", data={"number": "5555 5555 5555 4444"}).status_code == 303
    assert "Mastercard ending in 4444" in browser.get(url).text


def test_details_change_as_far_as_allowed(desk: Desk, browser: httpx.Client) -> None:
    customer = desk.customer()
    url = portal(desk, customer, {"customer_update": {"enabled": True, "allowed_updates": ["name"]}})
    browser.post(f"{url}/details", data={"name": "Grace <b>", "email": "grace@example.com"})
    held = desk.v1.customers.retrieve(customer)
    assert (held.name, held.email) == ("Grace <b>", "ada@example.com")
    assert "Grace &lt;b&gt;" in browser.get(url).text
    assert browser.post(f"{url}/card", data={"number": "4242424242424242"}).status_code == 403


def test_one_customer_cannot_touch_another_one_s_subscription(desk: Desk, browser: httpx.Client) -> None:
    mine, theirs = desk.customer(), desk.customer()
    subscription = desk.subscribe(theirs, desk.price(1000))
    url = portal(desk, mine, FEATURES)
    assert browser.post(f"{url}/cancel/{subscription.id}", data={"do": "cancel"}).status_code == 404
    assert desk.v1.subscriptions.retrieve(subscription.id).cancel_at is None


def test_a_session_ends_after_an_hour(desk: Desk, browser: httpx.Client) -> None:
    url = portal(desk, desk.customer(), FEATURES)
    desk.wait(HOUR - 1)
    assert browser.get(url).status_code == 200
    desk.wait(1)
    assert browser.get(url).status_code == 410


def test_a_configuration_is_needed_and_offers_no_metered_price(desk: Desk) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        desk.v1.billing_portal.sessions.create({"customer": desk.customer()})
    assert refused.value.param == "configuration"
    offered: Any = {
        "enabled": True,
        "default_allowed_updates": ["price"],
        "products": [{"product": desk.product.id, "prices": [desk.metered()]}],
    }
    with pytest.raises(stripe.InvalidRequestError) as refused:
        desk.v1.billing_portal.configurations.create({"features": {"subscription_update": offered}})
    assert refused.value.param == "features[subscription_update][products][0][prices][0]"
