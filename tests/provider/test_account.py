"""The adapter against the sandbox, by the official client: each call is one that the pinned API version takes, and tells what happened."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from tollkeeper.core.customers import Customer
from tollkeeper.core.errors import NotFound, SettingsInvalid
from tollkeeper.core.provider import (
    MeterReport,
    ProviderBusy,
    ProviderRefused,
    ProviderUnauthorized,
    ProviderUnavailable,
)
from tollkeeper.core.provider_catalog import Thing, event_name
from tollkeeper.integrations.stripe.account import StripeAccount
from tollkeeper.integrations.stripe.client import Calls, environment_of

from .conftest import INSTALLATION, Shop

D = Decimal
SECOND = 1_000_000
MINUTE = 60 * SECOND
ADA = Customer("acme", "Acme Ltd", "ada@example.com", "usd", "UTC", 0)


NOW = int(time.time()) * SECOND


def now() -> int:
    """The same instant for every call: a repeat under the same key is one with the same parameters."""
    return NOW


def meter(shop: Shop) -> str:
    return shop.shelf.make(Thing("meter", "calls", {"name": "calls"}), lambda kind, key: "", "k-meter")


def report(
    shop: Shop, customer: str, identifier: str, value: str, at: int | None = None, key: str | None = None
) -> str:
    name = event_name(INSTALLATION, "calls")
    made = MeterReport(identifier, name, customer, D(value), now() if at is None else at)
    return shop.account.report(made, key or identifier)


def reported(shop: Shop, id: str, customer: str) -> Decimal:
    start = now() - now() % MINUTE - 60 * MINUTE
    return shop.account.reported(id, customer, start, start + 120 * MINUTE)


def test_a_customer_is_made_once_for_one_key_and_says_whose_it_is(shop: Shop) -> None:
    first = shop.account.make_customer(ADA, "k1")
    assert shop.account.make_customer(ADA, "k1") == first
    kept: Any = shop.sandbox.client.v1.customers.retrieve(first)
    assert (kept.name, kept.email, kept.metadata["tollkeeper_customer"]) == ("Acme Ltd", "ada@example.com", "acme")


def test_usage_is_counted_once_whatever_is_sent_again(shop: Shop) -> None:
    id, customer = meter(shop), shop.account.make_customer(ADA, "k1")
    assert report(shop, customer, "r1", "3") == "accepted"
    assert report(shop, customer, "r1", "3") == "accepted"  # the same key: the same call
    assert report(shop, customer, "r1", "3", key="r1-again") == "duplicate"
    assert report(shop, customer, "r2", "0.000000001") == "accepted"
    assert report(shop, customer, "r3", "-1") == "accepted"
    assert reported(shop, id, customer) == D("2.000000001")


def test_a_report_that_stripe_will_not_have_is_refused_for_good(shop: Shop) -> None:
    meter(shop)
    customer = shop.account.make_customer(ADA, "k1")
    with pytest.raises(ProviderRefused) as refused:
        report(shop, customer, "r1", "1", at=now() - 36 * 86_400 * SECOND)
    assert refused.value.permanent


def test_a_connection_that_breaks_leaves_the_outcome_unknown_and_a_repeat_finds_it(shop: Shop) -> None:
    id, customer = meter(shop), shop.account.make_customer(ADA, "k1")
    path = {"method": "POST", "path": "/v1/billing/meter_events", "count": 1}
    for kind in ("drop_before", "drop_after"):
        shop.sandbox.control("/faults", {**path, "kind": kind})
        with pytest.raises(ProviderUnavailable):
            report(shop, customer, f"r-{kind}", "1")
    assert reported(shop, id, customer) == 1
    assert report(shop, customer, "r-drop_before", "1", key="b2") == "accepted"
    assert report(shop, customer, "r-drop_after", "1", key="a2") == "duplicate"
    assert reported(shop, id, customer) == 2


def test_too_many_calls_and_failures_of_stripe_are_told_apart(shop: Shop) -> None:
    meter(shop)
    customer = shop.account.make_customer(ADA, "k1")
    path = {"method": "POST", "path": "/v1/billing/meter_events", "count": 1}
    shop.sandbox.control("/faults", {**path, "kind": "429"})
    with pytest.raises(ProviderBusy):
        report(shop, customer, "r1", "1")
    shop.sandbox.control("/faults", {**path, "kind": "500"})
    with pytest.raises(ProviderUnavailable):
        report(shop, customer, "r1", "1")


def test_nobody_there_is_an_unknown_outcome() -> None:
    account = StripeAccount(Calls("sk_test_x", "http://127.0.0.1:9"))
    with pytest.raises(ProviderUnavailable, match="did not answer"):
        account.report(MeterReport("r1", "calls", "cus_1", D(1), now()), "r1")


def test_a_key_that_is_not_accepted_is_no_refusal_of_the_call(shop: Shop) -> None:
    with pytest.raises(ProviderUnauthorized, match="STRIPE_SECRET_KEY"):
        StripeAccount(Calls("sk_live_tests1234", shop.sandbox.url)).make_customer(ADA, "k1")


def test_what_is_not_there_is_not_found(shop: Shop) -> None:
    with pytest.raises(NotFound):
        shop.account.subscription("sub_none")
    with pytest.raises(NotFound):
        shop.account.invoice("in_none")


@pytest.mark.parametrize(
    ("key", "expected"),
    [("sk_test_1", "test"), ("rk_test_1", "test"), ("sk_live_1", "live"), ("rk_live_1", "live")],
)
def test_the_key_says_which_environment_is_billed(key: str, expected: str) -> None:
    assert environment_of(key) == expected


@pytest.mark.parametrize("key", ["pk_test_1", "whsec_1", "sk_1", ""])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(SettingsInvalid):
        environment_of(key)
