"""The catalog put into the account by the official client, and what the doctor says of it."""

from __future__ import annotations

from typing import Any

import pytest

from tollkeeper.core.doctor import Finding
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.provider import ProviderUnavailable
from tollkeeper.integrations.stripe.client import API_VERSION, Calls
from tollkeeper.integrations.stripe.doctor import EVENTS, StripeDoctor
from tollkeeper.integrations.stripe.probe import StripeProbe
from tollkeeper.services.doctor import Doctor

from .conftest import CATALOG, PUBLIC_URL, Shop


def applied(shop: Shop) -> list[tuple[str, str, str]]:
    done: list[tuple[str, str, str]] = []
    shop.catalog.apply(lambda change, id: done.append((change.action, change.kind, change.key)))
    return done


def made(shop: Shop) -> dict[str, int]:
    """How many objects of a kind the account has."""
    objects: dict[str, int] = shop.sandbox.control("/state")["objects"]
    return {kind: objects[kind] for kind in ("product", "price", "billing.meter", "billing_portal.configuration")}


def test_an_apply_makes_what_is_sold_and_a_second_one_nothing(shop: Shop) -> None:
    assert applied(shop) == [
        ("make", "product", "free"),
        ("make", "product", "pro"),
        ("make", "product", "custom"),
        ("make", "meter", "calls"),
        ("make", "meter", "seats"),
        ("make", "price", "pro@1/fee"),
        ("make", "price", "pro@1/calls"),
        ("make", "price", "pro@1/seats"),
        ("make", "price", "custom@1/_plan"),
        ("make", "portal", "default"),
    ]
    assert applied(shop) == []
    assert [(one.plan, one.price, one.reason) for one in shop.catalog.plan().rated_here] == [
        ("custom", "calls", "it has a minimum or a maximum")
    ]


def test_a_price_at_stripe_is_what_the_catalog_says(shop: Shop) -> None:
    applied(shop)
    v1 = shop.sandbox.client.v1
    calls: Any = v1.prices.retrieve(shop.id("price", "pro@1/calls") or "", {"expand": ["tiers"]})
    assert (calls.billing_scheme, calls.tiers_mode, calls.recurring.meter) == (
        "tiered",
        "graduated",
        shop.id("meter", "calls"),
    )
    assert [(tier.up_to, str(tier.unit_amount_decimal)) for tier in calls.tiers] == [(1000, "0"), (None, "0.2")]
    seats: Any = v1.prices.retrieve(shop.id("price", "pro@1/seats") or "")
    assert (seats.unit_amount, seats.transform_quantity.divide_by, seats.transform_quantity.round) == (200, 5, "up")
    fee: Any = v1.prices.retrieve(shop.id("price", "pro@1/fee") or "")
    assert (fee.unit_amount, fee.recurring.interval, fee.recurring.usage_type) == (900, "month", "licensed")
    meter: Any = v1.billing.meters.retrieve(shop.id("meter", "seats") or "")
    assert (meter.event_name, meter.default_aggregation.formula) == ("tk_01234567_seats", "sum")


def test_another_version_gets_prices_of_its_own_and_the_old_ones_are_sold_no_more(shop: Shop) -> None:
    applied(shop)
    shop.desk.catalog.apply(CATALOG.replace('flat_amount = "9"', 'flat_amount = "12"'))
    assert applied(shop) == [
        ("make", "price", "pro@2/fee"),
        ("make", "price", "pro@2/calls"),
        ("make", "price", "pro@2/seats"),
        ("retire", "price", "pro@1/calls"),
        ("retire", "price", "pro@1/fee"),
        ("retire", "price", "pro@1/seats"),
    ]
    v1 = shop.sandbox.client.v1
    old: Any = v1.prices.retrieve(shop.id("price", "pro@1/fee") or "")
    new: Any = v1.prices.retrieve(shop.id("price", "pro@2/fee") or "")
    assert (old.active, old.unit_amount, new.active, new.unit_amount) == (False, 900, True, 1200)


def test_prices_that_somebody_is_on_stay_on_sale_to_them(shop: Shop) -> None:
    applied(shop)
    shop.desk.customers.create("acme", "Acme", plan="pro")
    shop.desk.catalog.apply(CATALOG.replace('flat_amount = "9"', 'flat_amount = "12"'))
    assert [change for change in applied(shop) if change[0] == "retire"] == []


def test_a_plan_that_comes_back_is_taken_up_again(shop: Shop) -> None:
    applied(shop)
    before = made(shop)
    without = CATALOG[: CATALOG.index("[plans.custom]")]
    shop.desk.catalog.apply(without)
    assert ("retire", "product", "custom") in applied(shop)
    shop.desk.catalog.apply(CATALOG)
    assert ("change", "product", "custom") in applied(shop)
    product: Any = shop.sandbox.client.v1.products.retrieve(shop.id("product", "custom") or "")
    assert product.active
    assert made(shop)["product"] == before["product"]


def test_an_apply_that_breaks_off_anywhere_goes_on_and_makes_nothing_twice(shop: Shop) -> None:
    for skip in range(30):  # the answer to a later call is lost each time
        shop.sandbox.control("/faults", method="DELETE")
        shop.sandbox.control(
            "/faults", {"kind": "drop_after", "method": "POST", "path": "*", "count": 9, "skip": skip % 4}
        )
        try:
            applied(shop)
            break
        except ProviderUnavailable:
            continue
    shop.sandbox.control("/faults", method="DELETE")
    applied(shop)
    assert made(shop) == {"product": 3, "price": 4, "billing.meter": 2, "billing_portal.configuration": 1}


def test_what_is_there_is_adopted_when_our_ids_are_lost(shop: Shop) -> None:
    applied(shop)
    ids = {key: shop.id("price", key) for key in ("pro@1/fee", "pro@1/calls")}
    with shop.desk.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM provider_objects WHERE kind <> 'portal'")
    shop.sandbox.control("/clock", {"advance": 2 * 86_400})  # Stripe has forgotten the keys of those calls
    applied(shop)
    assert {key: shop.id("price", key) for key in ids} == ids
    assert made(shop) == {"product": 3, "price": 4, "billing.meter": 2, "billing_portal.configuration": 1}


# the doctor


def findings(shop: Shop) -> dict[str, Finding]:
    doctor = Doctor(shop.doctor, shop.catalog, lambda bits: 1, lambda run: [])
    return {finding.name: finding for finding in doctor.look()}


def test_the_doctor_names_what_is_missing_and_the_command_that_mends_it(shop: Shop) -> None:
    found = findings(shop)
    assert found["key"].verdict == "ok"
    assert (found["catalog"].verdict, found["catalog"].mend) == ("failed", "tollkeeper stripe apply")
    assert (found["webhook endpoint"].verdict, found["webhook endpoint"].mend) == (
        "failed",
        "tollkeeper stripe webhook",
    )
    applied(shop)
    id, secrets = shop.doctor.webhook("k1")
    assert [secret[:6] for secret in secrets] == ["whsec_", "whsec_"]
    assert {one.verdict for one in findings(shop).values()} == {"ok"}
    endpoint: Any = shop.sandbox.client.v1.webhook_endpoints.retrieve(id)
    assert (endpoint.url, endpoint.api_version) == (f"{PUBLIC_URL}/webhooks/stripe", API_VERSION)
    assert shop.doctor.webhook("k2") == (id, [])


def test_an_endpoint_that_lacks_an_event_has_another_version_or_is_off_is_told(shop: Shop) -> None:
    v1 = shop.sandbox.client.v1
    url = f"{PUBLIC_URL}/webhooks/stripe"
    few = v1.webhook_endpoints.create({"url": url, "api_version": API_VERSION, "enabled_events": list(EVENTS[1:])})
    assert EVENTS[0] in findings(shop)["webhook endpoint"].detail
    v1.webhook_endpoints.update(few.id, {"disabled": True})
    assert "disabled" in findings(shop)["webhook endpoint"].detail
    v1.webhook_endpoints.delete(few.id)
    v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
    assert API_VERSION in findings(shop)["webhook endpoint"].detail


def test_permissions_that_a_restricted_key_lacks_are_named(shop: Shop) -> None:
    key = "rk_test_narrow1234"
    shop.sandbox.control("/keys", {"key": key, "permissions": {"customer": "write"}})
    doctor = StripeDoctor(Calls(key, shop.sandbox.url), PUBLIC_URL, has_webhook_secret=True)
    first = next(iter(doctor.findings()))
    assert first.verdict == "failed"
    assert "Prices: Write" in first.detail
    assert "Customers: Write" not in first.detail


def test_a_server_on_this_machine_is_told_that_events_are_polled(shop: Shop) -> None:
    doctor = StripeDoctor(shop.calls, "http://127.0.0.1:3000", has_webhook_secret=False)
    endpoint = next(one for one in doctor.findings() if one.name == "webhook endpoint")
    assert endpoint.verdict == "warning"
    assert "polled" in endpoint.detail


def test_nobody_there_is_told_as_such() -> None:
    doctor = StripeDoctor(Calls("sk_test_x", "http://127.0.0.1:9"), PUBLIC_URL, has_webhook_secret=True)
    (finding,) = doctor.findings()
    assert (finding.verdict, "did not answer" in finding.detail) == ("failed", True)


# the probe


def test_the_probe_finds_what_we_assume_and_leaves_nothing_behind(shop: Shop) -> None:
    found = {one.name: one.verdict for one in StripeProbe(shop.calls, "run1", lambda seconds: None).findings()}
    assert found == {
        "decimal values": "ok",
        "repeated identifier": "ok",
        "identifier with another value": "ok",
        "identifier at another meter": "ok",
        "negative values": "ok",
        "sum of decimals": "ok",
        "flat amount without usage": "ok",
    }
    v1 = shop.sandbox.client.v1
    assert v1.billing.meters.list({"status": "active"}).data == []
    assert [product.active for product in v1.products.list().data] == [False]
    assert v1.customers.list().data == []


def test_a_live_key_is_not_probed() -> None:
    with pytest.raises(InvalidRequest, match="test key"):
        StripeProbe(Calls("sk_live_x"), "run1")
