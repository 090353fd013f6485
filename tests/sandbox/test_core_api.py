"""Keys, versions, errors, idempotency, lists, expand and metadata are as Stripe's."""

from __future__ import annotations

import base64
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox.conftest import KEY, Running


def named(client: stripe.StripeClient, *names: str) -> list[str]:
    return [client.v1.customers.create({"name": name}).id for name in names]


@pytest.mark.parametrize("key", ["sk_live_0123456789", "pk_test_0123456789", "whatever", "sk_test_"])
def test_only_a_secret_or_restricted_test_key_is_taken(running: Running, key: str) -> None:
    with pytest.raises(stripe.AuthenticationError) as refused:
        running.client_with(key).v1.customers.list()
    assert refused.value.http_status == 401
    assert key[8:-4] not in str(refused.value) or not key[8:-4]


@pytest.mark.parametrize("key", ["sk_test_123", "rk_test_x"])
def test_any_test_key_is_taken_however_short(running: Running, key: str) -> None:
    assert running.client_with(key).v1.customers.list().data == []


def test_basic_authentication_is_taken_and_none_is_refused(running: Running) -> None:
    request = urllib.request.Request(f"{running.url}/v1/account")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value:
        assert refused.value.code == 401
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{KEY}:".encode()).decode())
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
        assert answer.headers["Request-Id"].startswith("req_")


def test_another_version_is_refused(running: Running) -> None:
    client = stripe.StripeClient(KEY, stripe_version="2024-06-20", base_addresses={"api": running.url})
    with pytest.raises(stripe.InvalidRequestError, match="Invalid Stripe API version: 2024-06-20"):
        client.v1.customers.list()


def test_an_unknown_address_and_an_unknown_id_are_404(running: Running, client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL") as unknown:
        client.v1.payouts.list()
    assert unknown.value.http_status == 404
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_none'") as none:
        client.v1.customers.retrieve("cus_none")
    assert (none.value.http_status, none.value.code, none.value.param) == (404, "resource_missing", "id")
    with pytest.raises(stripe.InvalidRequestError) as inside:
        client.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": "prod_none"})
    assert (inside.value.http_status, inside.value.code, inside.value.param) == (400, "resource_missing", "product")


def test_a_restricted_key_is_told_the_permission_it_lacks(running: Running) -> None:
    key = "rk_test_reader123"
    running.control("/keys", {"key": key, "permissions": {"customer": "read"}})
    client = running.client_with(key)
    assert client.v1.customers.list().data == []
    with pytest.raises(stripe.PermissionError, match="rak_customer_write"):
        client.v1.customers.create({"name": "Ada"})
    with pytest.raises(stripe.PermissionError, match="rak_price_read"):
        client.v1.prices.list()
    running.control("/keys", {"key": key, "revoked": True})
    with pytest.raises(stripe.AuthenticationError, match="Expired API Key"):
        client.v1.customers.list()


def test_the_same_idempotency_key_has_one_effect_and_one_answer(client: stripe.StripeClient) -> None:
    first = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"})
    again = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"})
    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(client.v1.customers.list().data) == 1


def test_an_idempotency_key_with_other_parameters_or_another_address_is_refused(client: stripe.StripeClient) -> None:
    client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"})
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        client.v1.customers.create({"name": "Bob"}, {"idempotency_key": "one"})
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        client.v1.products.create({"name": "Ada"}, {"idempotency_key": "one"})
    assert len(client.v1.customers.list().data) == 1


def test_an_idempotency_key_is_forgotten_after_24_hours(running: Running, client: stripe.StripeClient) -> None:
    first = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"})
    running.control("/clock", {"advance": 86_390})
    assert client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"}).id == first.id
    running.control("/clock", {"advance": 60})
    assert client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"}).id != first.id


def test_a_key_whose_call_is_not_yet_answered_is_in_use(running: Running, client: stripe.StripeClient) -> None:
    running.control("/faults", {"kind": "slow", "path": "/v1/customers", "count": 1, "ms": 3_000})
    first: list[Any] = []
    call = threading.Thread(
        target=lambda: first.append(client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"}))
    )
    call.start()
    while not any(made["idempotency_key"] == "one" for made in running.control("/calls")["calls"]):
        pass
    with pytest.raises(stripe.APIError) as in_use:
        running.client_with(KEY).v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"})
    call.join()
    assert (in_use.value.http_status, in_use.value.error.code) == (409, "idempotency_key_in_use")
    assert [customer.id for customer in client.v1.customers.list().data] == [first[0].id]


def test_what_was_refused_before_it_began_keeps_no_key(client: stripe.StripeClient) -> None:
    wrong: Any = {"nam": "Ada"}
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.create(wrong, {"idempotency_key": "one"})
    assert client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"}).name == "Ada"


def test_pages_give_every_object_once_newest_first(client: stripe.StripeClient) -> None:
    ids = named(client, *"abcdefg")[::-1]
    page = client.v1.customers.list({"limit": 3})
    assert [row.id for row in page.data] == ids[:3]
    assert page.has_more
    assert [row.id for row in page.auto_paging_iter()] == ids
    back = client.v1.customers.list({"limit": 2, "ending_before": ids[4]})
    assert [row.id for row in back.data] == ids[2:4]
    assert back.has_more
    assert not client.v1.customers.list({"limit": 3, "starting_after": ids[4]}).has_more


def test_a_list_is_filtered_by_field_and_by_time(running: Running, client: stripe.StripeClient) -> None:
    client.v1.customers.create({"email": "a@example.com"})
    running.control("/clock", {"advance": 1_000})
    late = client.v1.customers.create({"email": "b@example.com"})
    assert [row.id for row in client.v1.customers.list({"email": "b@example.com"}).data] == [late.id]
    assert [row.id for row in client.v1.customers.list({"created": {"gte": late.created}}).data] == [late.id]
    assert [row.email for row in client.v1.customers.list({"created": {"lt": late.created}}).data] == ["a@example.com"]
    with pytest.raises(stripe.InvalidRequestError, match="less than or equal to 100"):
        client.v1.customers.list({"limit": 101})


def test_expand_reaches_through_objects_and_lists(client: stripe.StripeClient) -> None:
    made = client.v1.products.create(
        {"name": "API", "default_price_data": {"currency": "usd", "unit_amount": 500}, "expand": ["default_price"]}
    )
    price = made.default_price
    assert isinstance(price, stripe.Price)
    found = client.v1.prices.list({"expand": ["data.product.default_price"]}).data[0]
    assert isinstance(found.product, stripe.Product)
    assert isinstance(found.product.default_price, stripe.Price)
    assert found.product.default_price.id == price.id
    with pytest.raises(stripe.InvalidRequestError, match=r"cannot be expanded \(currency\)"):
        client.v1.prices.retrieve(price.id, {"expand": ["currency"]})
    with pytest.raises(stripe.InvalidRequestError, match="more than 4 levels"):
        client.v1.prices.retrieve(price.id, {"expand": ["a.b.c.d.e"]})


def test_metadata_is_merged_unset_and_bounded(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"metadata": {"a": "1", "b": "2"}})
    changed = client.v1.customers.update(customer.id, {"metadata": {"a": "", "c": "3"}})
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    emptied = client.v1.customers.update(customer.id, {"metadata": ""})
    assert emptied.metadata is not None
    assert emptied.metadata.to_dict() == {}
    for metadata in ({"k" * 41: "v"}, {"k": "v" * 501}, {f"k{number}": "v" for number in range(51)}):
        with pytest.raises(stripe.InvalidRequestError, match=r"[Mm]etadata"):
            client.v1.customers.create({"metadata": metadata})
    client.v1.customers.create({"metadata": {"k" * 40: "v" * 500}})


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.db"
    before = Running(file)
    try:
        before.control("/clock", {"set": "2027-03-01T00:00:00Z", "frozen": True})
        customer = before.client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"})
        meter = before.client.v1.billing.meters.create(
            {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        event: Any = {
            "event_name": "calls",
            "identifier": "i1",
            "payload": {"stripe_customer_id": customer.id, "value": "7"},
        }
        before.client.v1.billing.meter_events.create(event)
        secret = before.client.v1.webhook_endpoints.create(
            {"url": "http://127.0.0.1:9/", "enabled_events": ["invoice.paid"]}
        ).secret
        events = [row.id for row in before.client.v1.events.list().data]
    finally:
        before.stop()
    after = Running(file)
    try:
        assert after.client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"}).id == customer.id
        assert [row.id for row in after.client.v1.events.list().data] == events
        assert after.control("/clock")["now"] == "2027-03-01T00:00:00.000Z"
        with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier i1"):
            after.client.v1.billing.meter_events.create(event)
        assert after.world.meters.usage(meter.id, customer.id, 0, 2_000_000_000).total == 7
        endpoint = after.world.store.table("webhook_endpoint").first(1)[0]
        assert endpoint["_secret"] == secret
    finally:
        after.stop()
