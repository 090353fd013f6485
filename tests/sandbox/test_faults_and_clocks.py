"""Faults strike before or after the effect as they say, and time moves everything that waits for it, in order."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import pytest
import stripe

from sandbox.conftest import KEY, Running
from tollkeeper.sandbox import World
from tollkeeper.sandbox.world import due

ORDER: list[tuple[str, int]] = []


@due("test.note")
def note(world: World, data: dict[str, Any]) -> None:
    ORDER.append((data["name"], world.now(data.get("customer"))))
    if data.get("again"):
        world.at(
            world.now(data.get("customer")) + 10, "test.note", {**data, "again": False, "name": "later"}, data["clock"]
        )


@pytest.mark.parametrize(
    ("kind", "error", "happened"),
    [
        ("429", stripe.RateLimitError, 0),
        ("500", stripe.APIError, 0),
        ("500_after", stripe.APIError, 1),
        ("409", stripe.APIError, 0),
        ("drop_before", stripe.APIConnectionError, 0),
        ("drop_after", stripe.APIConnectionError, 1),
    ],
)
def test_a_fault_strikes_before_or_after_the_effect_and_a_repeat_mends_it(
    running: Running, kind: str, error: type[Exception], happened: int
) -> None:
    client = running.client_with(KEY)
    running.control("/faults", {"kind": kind, "method": "POST", "path": "/v1/customers", "count": 1})
    with pytest.raises(error):
        client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"})
    assert len(client.v1.customers.list().data) == happened
    assert client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "one"}).name == "Ada"
    assert len(client.v1.customers.list().data) == 1
    assert [fault["hits"] for fault in running.control("/faults")["faults"]] == [1]


def test_a_fault_strikes_the_calls_it_names_so_many_times_or_so_often(running: Running) -> None:
    client = running.client
    running.control("/faults", {"kind": "500", "path": "/v1/cust*", "skip": 1, "count": 2})
    outcomes = []
    for _ in range(4):
        client.v1.products.list()
        try:
            client.v1.customers.list()
            outcomes.append("ok")
        except stripe.APIError:
            outcomes.append("500")
    assert outcomes == ["ok", "500", "500", "ok"]
    running.control("/faults", method="DELETE")
    running.control("/faults", {"kind": "429", "rate": 0.5})
    refused = 0
    for _ in range(200):
        try:
            client.v1.customers.list()
        except stripe.RateLimitError:
            refused += 1
    assert 60 < refused < 140
    assert running.control("/faults", method="DELETE")["faults"] == []
    client.v1.customers.list()


@pytest.mark.parametrize(
    "body", [{"kind": "rain"}, {"kind": "500", "count": -1}, {"kind": "500", "rate": 2}, {"colour": "red"}]
)
def test_a_fault_that_is_none_is_refused(running: Running, body: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="error"):
        running.control("/faults", body)


def test_the_last_calls_are_told_with_their_parameters(running: Running) -> None:
    wrong: Any = {"nam": "Ada"}
    running.client.v1.customers.create({"name": "Ada", "metadata": {"a": "1"}}, {"idempotency_key": "one"})
    with pytest.raises(stripe.InvalidRequestError):
        running.client.v1.customers.create(wrong)
    refused, made = running.control("/calls?path=/v1/customers")["calls"]
    assert (made["status"], made["params"]) == (200, {"name": "Ada", "metadata": {"a": "1"}})
    assert (made["idempotency_key"], made["stripe_version"]) == ("one", "2026-10-28.endive")
    assert KEY not in str(made)
    assert (refused["status"], refused["params"]) == (400, {"nam": "Ada"})
    assert running.control("/calls", method="DELETE")["calls"] == []


def test_moving_the_clock_does_what_falls_due_in_order_each_at_its_instant(running: Running) -> None:
    running.control("/clock", {"set": 1_000_000, "frozen": True})
    ORDER.clear()
    for name, at in (("b", 1_000_020), ("a", 1_000_010), ("c", 1_000_020), ("never", 1_000_101)):
        running.world.at(at, "test.note", {"name": name, "again": name == "a", "clock": None})
    assert ORDER == []
    running.control("/clock", {"advance": 100})
    assert ORDER == [("a", 1_000_010), ("b", 1_000_020), ("c", 1_000_020), ("later", 1_000_020)]
    assert running.control("/clock")["seconds"] == 1_000_100


def test_a_test_clock_moves_its_own_customers_only(running: Running) -> None:
    client = running.client
    clock = client.v1.test_helpers.test_clocks.create({"frozen_time": 1_900_000_000, "name": "far"})
    inside = client.v1.customers.create({"test_clock": clock.id})
    outside = client.v1.customers.create({})
    assert inside.created == 1_900_000_000
    assert outside.created < 1_900_000_000
    ORDER.clear()
    running.world.at(1_900_000_050, "test.note", {"name": "x", "customer": inside.id}, clock.id)
    moved = client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_900_000_100})
    assert moved.status == "advancing"
    ready = client.v1.test_helpers.test_clocks.retrieve(clock.id)
    assert (ready.status, ready.frozen_time) == ("ready", 1_900_000_100)
    assert ORDER == [("x", 1_900_000_050)]
    with pytest.raises(stripe.InvalidRequestError, match="after the current"):
        client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_900_000_100})
    assert [row.id for row in client.v1.customers.list().data] == [outside.id]
    assert [row.id for row in client.v1.customers.list({"test_clock": clock.id}).data] == [inside.id]
    client.v1.test_helpers.test_clocks.delete(clock.id)
    assert client.v1.customers.retrieve(inside.id).deleted


def test_meter_events_of_a_customer_on_a_test_clock_go_by_its_time(running: Running) -> None:
    client = running.client
    clock = client.v1.test_helpers.test_clocks.create({"frozen_time": 1_900_000_000})
    customer = client.v1.customers.create({"test_clock": clock.id})
    client.v1.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    payload = {"stripe_customer_id": customer.id, "value": "1"}
    made = client.v1.billing.meter_events.create({"event_name": "calls", "payload": payload})
    assert made.timestamp == 1_900_000_000
    with pytest.raises(stripe.InvalidRequestError) as future:
        client.v1.billing.meter_events.create({"event_name": "calls", "payload": payload, "timestamp": 1_900_000_301})
    assert future.value.code == "timestamp_in_future"


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": ""}]
)
def test_a_page_of_another_site_moves_nothing(running: Running, headers: dict[str, str]) -> None:
    before = running.control("/clock")["now"]
    request = urllib.request.Request(f"{running.url}/sandbox/clock", b'{"advance": 86400}', headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value:
        assert refused.value.status in (400, 403)
    assert running.control("/clock")["now"][:10] == before[:10]
