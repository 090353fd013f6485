"""Meter events: Stripe's rules of identifier, time and value, what is told later, and sums that are exact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.conftest import Running
from sandbox.receiver import Receiver
from tollkeeper.sandbox import Store
from tollkeeper.sandbox.meter_ledger import HOUR, MeterLedger

NOON = 1_804_593_600  # 2027-03-09T12:00:00Z
DAY = 86_400


class Metered:
    """A sandbox whose clock stands at noon, with one customer and one meter."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.client = running.client
        running.control("/clock", {"set": NOON, "frozen": True})
        self.customer = self.client.v1.customers.create({}).id
        self.meter = self.make("calls", "sum")

    def make(self, name: str, formula: Any) -> str:
        return self.client.v1.billing.meters.create(
            {"display_name": name, "event_name": name, "default_aggregation": {"formula": formula}}
        ).id

    def send(self, value: str, name: str = "calls", **params: Any) -> Any:
        event: Any = {
            "event_name": name,
            "payload": {"stripe_customer_id": params.pop("customer", self.customer), "value": value},
            **params,
        }
        return self.client.v1.billing.meter_events.create(event)

    def summaries(self, start: int, end: int, meter: str | None = None, **params: Any) -> list[tuple[int, int, float]]:
        found = self.client.v1.billing.meters.event_summaries.list(
            meter or self.meter, {"customer": self.customer, "start_time": start, "end_time": end, **params}
        )
        return [(row.start_time, row.end_time, row.aggregated_value) for row in found.auto_paging_iter()]

    def total(self, meter: str | None = None) -> float:
        ((_, _, value),) = self.summaries(NOON - 40 * DAY, NOON + DAY, meter)
        return value

    def refused(self, value: str = "1", **params: Any) -> tuple[int | None, str | None, str | None]:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            self.send(value, **params)
        return refused.value.http_status, refused.value.code, refused.value.param


@pytest.fixture
def metered(running: Running) -> Metered:
    return Metered(running)


def test_an_identifier_counts_once_in_24_hours_and_a_repeat_is_a_400(metered: Metered) -> None:
    metered.send("5", identifier="i1")
    with pytest.raises(stripe.InvalidRequestError, match="An event already exists with identifier i1") as again:
        metered.send("5", identifier="i1")
    assert (again.value.http_status, again.value.code) == (400, "duplicate_meter_event")
    assert again.value.headers["Stripe-Should-Retry"] == "false"
    metered.running.control("/clock", {"advance": DAY - 1})
    assert metered.refused("5", identifier="i1")[0] == 400
    metered.running.control("/clock", {"advance": 1})
    metered.send("5", identifier="i1")
    assert metered.running.world.meters.usage(metered.meter, metered.customer, 0, NOON + 2 * DAY).total == 10


def test_a_repeat_under_the_same_idempotency_key_is_answered_as_the_first(metered: Metered) -> None:
    event: Any = {
        "event_name": "calls",
        "identifier": "i1",
        "payload": {"stripe_customer_id": metered.customer, "value": "5"},
    }
    for _ in range(3):
        made = metered.client.v1.billing.meter_events.create(event, {"idempotency_key": "k1"})
        assert made.identifier == "i1"
    assert metered.total() == 5


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (-35 * DAY, None),
        (-35 * DAY - 1, "timestamp_too_far_in_past"),
        (300, None),
        (301, "timestamp_in_future"),
    ],
)
def test_a_timestamp_is_within_35_days_and_5_minutes(metered: Metered, seconds: int, code: str | None) -> None:
    if code is None:
        assert metered.send("1", timestamp=NOON + seconds).timestamp == NOON + seconds
        assert metered.total() == 1
    else:
        assert metered.refused(timestamp=NOON + seconds) == (400, code, "timestamp")
        assert metered.total() == 0


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "meter_event_invalid_value"),
        ("many", "meter_event_invalid_value"),
        ("1e3", "meter_event_invalid_value"),
        ("NaN", "meter_event_invalid_value"),
        ("1234567890123456", "meter_event_value_too_many_digits"),
        ("0.1234567890123456", "meter_event_value_too_many_digits"),
    ],
)
def test_a_value_is_a_number_of_at_most_15_digits(metered: Metered, value: str, code: str) -> None:
    assert metered.refused(value) == (400, code, "payload[value]")


def test_an_identifier_and_an_event_name_have_at_most_100_characters(metered: Metered) -> None:
    metered.send("1", identifier="i" * 100)
    assert metered.refused(identifier="i" * 101)[2] == "identifier"
    assert metered.refused(name="n" * 101)[2] == "event_name"


def test_sums_counts_and_last_values_are_exact(metered: Metered) -> None:
    counted, latest = metered.make("count", "count"), metered.make("last", "last")
    for number, value in enumerate(["0.1", "0.2", "-0.05", "12345678901.25"]):
        metered.send(value, timestamp=NOON - number)
        metered.send(value, "count")
        metered.send(value, "last", timestamp=NOON - number)
    assert metered.running.world.meters.usage(metered.meter, metered.customer, 0, NOON + 1).total == Decimal(
        "12345678901.50"
    )
    assert metered.total(counted) == 4
    assert metered.total(latest) == 0.1


def test_summaries_are_grouped_by_hour_and_day_and_must_be_aligned(metered: Metered) -> None:
    for seconds, value in ((-DAY, "1"), (-HOUR - 1, "2"), (-HOUR, "4"), (-1, "8")):
        metered.send(value, timestamp=NOON + seconds)
    midnight = NOON - 12 * HOUR
    assert metered.summaries(NOON - 2 * HOUR, NOON, value_grouping_window="hour") == [
        (NOON - HOUR, NOON, 12),
        (NOON - 2 * HOUR, NOON - HOUR, 2),
    ]
    assert metered.summaries(midnight - DAY, midnight + DAY, value_grouping_window="day") == [
        (midnight, midnight + DAY, 14),
        (midnight - DAY, midnight, 1),
    ]
    assert metered.summaries(NOON - 60, NOON + 60) == [(NOON - 60, NOON + 60, 8)]
    for start, end, param, grouping in (
        (NOON - 30, NOON, "start_time", {}),
        (NOON - 60, NOON, "start_time", {"value_grouping_window": "hour"}),
        (midnight, NOON, "end_time", {"value_grouping_window": "day"}),
        (NOON, NOON, "end_time", {}),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            metered.summaries(start, end, **grouping)
        assert refused.value.param == param


def test_a_cancelled_event_is_taken_out_once_and_only_within_24_hours(metered: Metered) -> None:
    for identifier, value in (("i1", "5"), ("i2", "7")):
        metered.send(value, identifier=identifier)

    def cancel(identifier: str) -> None:
        metered.client.v1.billing.meter_event_adjustments.create(
            {"event_name": "calls", "type": "cancel", "cancel": {"identifier": identifier}}
        )

    cancel("i1")
    assert metered.total() == 7
    with pytest.raises(stripe.InvalidRequestError, match="cancelled already"):
        cancel("i1")
    with pytest.raises(stripe.InvalidRequestError, match="No event with identifier none"):
        cancel("none")
    assert metered.refused("5", identifier="i1")[1] == "duplicate_meter_event"
    metered.running.control("/clock", {"advance": DAY})
    with pytest.raises(stripe.InvalidRequestError, match="last 24 hours"):
        cancel("i2")
    assert metered.running.world.meters.usage(metered.meter, metered.customer, 0, NOON + 1).total == 7


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def test_what_is_found_wrong_later_is_told_by_signed_thin_events(metered: Metered, receiver: Receiver) -> None:
    destination = metered.client.v2.core.event_destinations.create(
        {
            "name": "errors",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    assert destination.webhook_endpoint is not None
    secret = destination.webhook_endpoint.signing_secret
    assert secret is not None
    old = metered.make("old", "sum")
    metered.client.v1.billing.meters.deactivate(old)
    metered.send("1", identifier="lost", customer="cus_none")
    metered.send("1", identifier="lost2", customer="cus_none")
    metered.send("1", "nothing")
    metered.send("1", "old")
    assert metered.refused("1", identifier="lost")[1] == "duplicate_meter_event"
    metered.running.control("/clock", {"advance": 10})
    assert metered.running.control("/webhooks", {"settle": True})["settled"]
    told: dict[str, list[tuple[str, int]]] = {}
    for signature, body in receiver.received:
        notification: Any = metered.client.parse_event_notification(body, signature, secret)
        assert "data" not in json.loads(body)
        event: Any = notification.fetch_event()
        related = getattr(notification, "related_object", None)
        key = related.id if related else notification.type
        told[key] = [(kind.code, kind.error_count) for kind in event.data.reason.error_types]
    assert told == {
        metered.meter: [("meter_event_customer_not_found", 2)],
        old: [("archived_meter", 1)],
        "v1.billing.meter.no_meter_found": [("no_meter", 1)],
    }
    assert metered.total() == 0


def test_v2_events_and_the_stream_count_on_the_same_meter(metered: Metered) -> None:
    event: Any = {
        "event_name": "calls",
        "identifier": "v2",
        "payload": {"stripe_customer_id": metered.customer, "value": "3"},
        "timestamp": "2027-03-09T11:59:00Z",
    }
    assert metered.client.v2.billing.meter_events.create(event).timestamp == "2027-03-09T11:59:00.000Z"
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        metered.client.v2.billing.meter_events.create(event)
    unknown: Any = {**event, "identifier": "x", "colour": "red"}
    with pytest.raises(stripe.InvalidRequestError, match="Received unknown parameter: colour"):
        metered.client.v2.billing.meter_events.create(unknown)
    session = metered.client.v2.billing.meter_event_session.create()
    stream = metered.running.client_with(session.authentication_token)
    many: Any = {"events": [event, {**event, "identifier": "s1"}, {**event, "identifier": "s2"}]}
    stream.v2.billing.meter_event_stream.create(many)
    assert metered.total() == 9
    metered.running.control("/clock", {"advance": 15 * 60})
    with pytest.raises(stripe.TemporarySessionExpiredError):
        stream.v2.billing.meter_event_stream.create(many)


def test_meter_events_above_the_bound_are_429_and_count_nothing(metered: Metered) -> None:
    metered.running.control("/faults", {"meter_events_per_second": 2})
    metered.send("1")
    metered.send("1")
    with pytest.raises(stripe.RateLimitError):
        metered.send("1", identifier="third")
    metered.running.control("/clock", {"advance": 1})
    metered.send("1", identifier="third")
    assert metered.total() == 3


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3 * HOUR), st.decimals("-1000", "1000", places=3), st.booleans()),
        max_size=25,
    ),
    st.integers(-10, 3 * HOUR + 10),
    st.integers(0, 3 * HOUR),
)
def test_usage_of_any_span_is_the_sum_of_its_events(
    events: list[tuple[int, Decimal, bool]], start: int, length: int
) -> None:
    store = Store()
    ledger = MeterLedger(store)
    for number, (timestamp, value, cancelled) in enumerate(events):
        ledger.add(f"i{number}", 0, "m", "c", timestamp, format(value, "f"))
        if cancelled:
            assert ledger.cancel("m", f"i{number}", 0) is None
    inside = [
        (timestamp, number, value)
        for number, (timestamp, value, cancelled) in enumerate(events)
        if start <= timestamp < start + length and not cancelled
    ]
    usage = ledger.usage("m", "c", start, start + length)
    store.close()
    assert usage.events == len(inside)
    assert usage.total == sum((value for _, _, value in inside), Decimal(0))
    assert usage.last == (max(inside)[2] if inside else None)
