"""Events, their signed deliveries, and what can be done to them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import stripe

from sandbox.conftest import Running
from sandbox.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def endpoint(client: stripe.StripeClient, receiver: Receiver) -> str:
    made = client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.created"]})
    assert made.secret is not None
    return made.secret


def names(receiver: Receiver) -> list[str]:
    return [json.loads(body)["data"]["object"]["name"] for _, body in receiver.received]


def settle(running: Running) -> None:
    assert running.control("/webhooks", {"settle": True})["settled"]


def test_an_event_is_a_snapshot_that_later_changes_leave_alone(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    client.v1.customers.update(customer.id, {"name": "Bob"})
    updated, created = client.v1.events.list().data
    assert (created.type, created.data.object["name"]) == ("customer.created", "Ada")
    assert (updated.type, updated.data.object["name"]) == ("customer.updated", "Bob")
    assert updated.data.previous_attributes is not None
    assert updated.data.previous_attributes.to_dict() == {"name": "Ada"}
    assert created.request is not None
    assert created.request.idempotency_key == "k1"
    assert client.v1.events.retrieve(created.id).type == "customer.created"


def test_events_are_listed_by_type_and_time(running: Running, client: stripe.StripeClient) -> None:
    client.v1.customers.create({"name": "Ada"})
    running.control("/clock", {"advance": 100})
    client.v1.products.create({"name": "API"})
    late = client.v1.customers.create({"name": "Bob"})
    found = client.v1.events.list({"types": ["customer.created", "product.created"], "created": {"gte": late.created}})
    assert [event.type for event in found.data] == ["customer.created", "product.created"]
    assert [event.type for event in client.v1.events.list({"type": "product.*"}).data] == ["product.created"]
    running.control("/clock", {"advance": 31 * 86_400})
    assert client.v1.events.list().data == []


def test_a_delivery_is_signed_so_that_the_official_client_takes_it(running: Running, receiver: Receiver) -> None:
    secret = endpoint(running.client, receiver)
    running.client.v1.customers.create({"name": "Ada"})
    running.client.v1.products.create({"name": "API"})
    settle(running)
    ((signature, body),) = receiver.received
    event = stripe.Webhook.construct_event(body, signature, secret)
    assert (event.type, event.api_version) == ("customer.created", "2026-10-28.endive")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, signature, secret + "x")
    assert running.client.v1.events.retrieve(event.id).pending_webhooks == 0


def test_the_secret_is_shown_once(client: stripe.StripeClient) -> None:
    made = client.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    assert made.secret is not None
    assert made.secret.startswith("whsec_")
    assert "secret" not in client.v1.webhook_endpoints.retrieve(made.id).to_dict()
    assert "secret" not in client.v1.webhook_endpoints.list().data[0].to_dict()


def test_a_delivery_that_fails_is_tried_again_with_growing_pauses(running: Running, receiver: Receiver) -> None:
    running.control("/clock", {"set": "2027-01-01T00:00:00Z", "frozen": True})
    endpoint(running.client, receiver)
    receiver.answers = [500, 404, 301]
    running.client.v1.customers.create({"name": "Ada"})
    settle(running)
    counts = [len(receiver.received)]
    for seconds in (1, 4, 1, 30):
        running.control("/clock", {"advance": seconds})
        settle(running)
        counts.append(len(receiver.received))
    assert counts == [1, 2, 2, 3, 4]
    assert names(receiver) == ["Ada"] * 4
    state = running.control("/webhooks")
    assert [attempt["outcome"] for attempt in state["attempts"]] == [200, 301, 404, 500]
    assert state["waiting"] == 0


def test_a_delivery_is_given_up_after_the_last_attempt(running: Running, receiver: Receiver) -> None:
    running.control("/webhooks", {"retry_seconds": [0, 0]})
    endpoint(running.client, receiver)
    receiver.answers = [500] * 9
    running.client.v1.customers.create({"name": "Ada"})
    settle(running)
    assert len(receiver.received) == 3
    (event,) = running.client.v1.events.list({"delivery_success": False}).data
    assert event.pending_webhooks == 1


def test_deliveries_are_held_copied_reordered_dropped_and_sent_again(running: Running, receiver: Receiver) -> None:
    endpoint(running.client, receiver)
    running.control("/webhooks", {"hold": True, "copies": 2, "concurrency": 1})
    for name in "abcdef":
        running.client.v1.customers.create({"name": name})
    settle(running)
    assert receiver.received == []
    running.control("/webhooks", {"hold": False, "copies": 1, "reorder": True, "release": True, "settle": True})
    assert sorted(names(receiver)) == sorted("aabbccddeeff")
    assert names(receiver) != sorted(names(receiver))
    running.control("/webhooks", {"drop": 1, "reorder": False})
    running.client.v1.customers.create({"name": "lost"})
    running.client.v1.customers.create({"name": "found"})
    settle(running)
    assert names(receiver)[12:] == ["found"]
    lost = running.client.v1.events.list().data[1]
    running.control("/webhooks", {"resend": lost.id, "settle": True})
    assert names(receiver)[13:] == ["lost"]


def test_a_rolled_secret_signs_beside_the_old_one_for_24_hours(running: Running, receiver: Receiver) -> None:
    old = endpoint(running.client, receiver)
    id = running.client.v1.webhook_endpoints.list().data[0].id
    new = running.control("/webhooks", {"roll": id})["secret"]
    running.client.v1.customers.create({"name": "Ada"})
    settle(running)
    signature, body = receiver.received[0]
    for secret in (old, new):
        stripe.Webhook.construct_event(body, signature, secret)
    running.control("/clock", {"advance": 86_401})
    running.client.v1.customers.create({"name": "Bob"})
    settle(running)
    signature, body = receiver.received[1]
    assert signature.count("v1=") == 1
    stripe.Webhook.construct_event(body, signature, new)


def test_a_disabled_or_deleted_endpoint_gets_nothing(running: Running, receiver: Receiver) -> None:
    endpoint(running.client, receiver)
    hooks = running.client.v1.webhook_endpoints
    id = hooks.list().data[0].id
    assert hooks.update(id, {"disabled": True}).status == "disabled"
    running.client.v1.customers.create({"name": "Ada"})
    hooks.update(id, {"disabled": False, "enabled_events": ["product.created"]})
    running.client.v1.customers.create({"name": "Bob"})
    hooks.delete(id)
    running.client.v1.products.create({"name": "API"})
    settle(running)
    assert receiver.received == []
