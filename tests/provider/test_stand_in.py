"""Other stand-ins of Stripe than our sandbox: what they may leave out or say in other words without being misunderstood."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tollkeeper.core.errors import NotFound
from tollkeeper.core.provider import MeterReport, ProviderRefused, ProviderUnavailable
from tollkeeper.integrations.stripe.account import StripeAccount
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.integrations.stripe.doctor import StripeDoctor


class StandIn:
    """Answers each path with what is written down for it."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.partition("?")[0]
                nothing = {"error": {"type": "invalid_request_error", "message": "There is nothing here."}}
                status, document = answers.get(path, (404, nothing))
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.calls = Calls("sk_test_x", f"http://127.0.0.1:{self.server.server_port}")
        self.account = StripeAccount(self.calls)

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("told", "has"),
    [
        (472.20000000000005, "472.2"),
        (451.79999999999995, "451.8"),
        (0.1 + 0.2 - 0.3, "0"),
        (-0.30000000000000004, "-0.3"),
        (0.000000001, "0.000000001"),
        (123456.123456789, "123456.123456789"),
        (123456789012345.0, "123456789012345"),
        (9007199254740991, "9007199254740991"),
        (0, "0"),
    ],
)
def test_a_sum_that_was_made_with_floats_is_the_sum_of_the_quantities(stand_in: StandIn, told: float, has: str) -> None:
    summary = {"id": "mtrusg_1", "object": "billing.meter_event_summary", "aggregated_value": told}
    found = {"object": "list", "data": [summary], "has_more": False, "url": "/"}
    stand_in.answers["/v1/billing/meters/mtr_1/event_summaries"] = (200, found)
    assert stand_in.account.reported("mtr_1", "cus_1", 0, 60_000_000) == Decimal(has)


@pytest.mark.parametrize(
    ("error", "delivered"),
    [
        ({"message": "An event already exists with identifier r1."}, True),
        ({"message": "A meter event with this identifier already exists"}, True),
        ({"message": "Duplicate identifier: r1"}, True),
        ({"message": "Refused", "code": "duplicate_meter_event"}, True),
        ({"message": "The identifier is longer than 100 characters.", "param": "identifier"}, False),
        ({"message": "The timestamp is too far in the past.", "code": "timestamp_too_far_in_past"}, False),
    ],
)
def test_a_known_identifier_is_a_delivery_in_whatever_words(
    stand_in: StandIn, error: dict[str, str], delivered: bool
) -> None:
    refused = (400, {"error": {"type": "invalid_request_error", **error}})
    stand_in.answers["/v1/billing/meter_events"] = refused
    report = MeterReport("r1", "calls", "cus_1", Decimal(1), 0)
    if delivered:
        assert stand_in.account.report(report, "r1") == "duplicate"
    else:
        with pytest.raises(ProviderRefused):
            stand_in.account.report(report, "r1")


@pytest.mark.parametrize("status", [200, 302, 502])
def test_an_answer_of_something_in_between_leaves_the_outcome_unknown(stand_in: StandIn, status: int) -> None:
    stand_in.answers["/v1/billing/meter_events"] = (status, b"<html>Please log in</html>")
    with pytest.raises(ProviderUnavailable):
        stand_in.account.report(MeterReport("r1", "calls", "cus_1", Decimal(1), 0), "r1")


def test_objects_that_say_only_what_is_needed_are_read(stand_in: StandIn) -> None:
    item = {"id": "si_1", "price": {"id": "price_1"}, "current_period_start": 100, "current_period_end": 200}
    subscription = {"id": "sub_1", "customer": "cus_1", "status": "active", "created": 100, "items": {"data": [item]}}
    stand_in.answers["/v1/subscriptions/sub_1"] = (200, {"object": "subscription", **subscription})
    read = stand_in.account.subscription("sub_1")
    assert (read.anchor, read.cancel_at, read.paused, read.metadata) == (100_000_000, None, False, {})
    assert [(one.price, one.metered, one.quantity) for one in read.items] == [("price_1", False, None)]
    invoice = {"id": "in_1", "customer": "cus_1", "status": "paid", "currency": "usd", "total": 900, "created": 100}
    stand_in.answers["/v1/invoices/in_1"] = (200, {"object": "invoice", **invoice})
    made = stand_in.account.invoice("in_1")
    assert (made.total, made.amount_due, made.amount_paid, made.lines) == (9, 9, 0, ())
    assert (made.subscription, made.period_start, made.period_end) == (None, 100_000_000, 100_000_000)


def test_a_listed_event_that_does_not_say_its_mode_is_of_the_accounts(stand_in: StandIn) -> None:
    event = {"id": "evt_1", "type": "invoice.paid", "created": 100, "data": {"object": {"id": "in_1"}}}
    stand_in.answers["/v1/events"] = (200, {"object": "list", "data": [event], "has_more": False, "url": "/v1/events"})
    (read,) = stand_in.account.events(0)
    assert (read.id, read.live, read.object, read.created_at) == ("evt_1", False, "in_1", 100_000_000)


def test_the_doctor_says_what_a_stand_in_has_not(stand_in: StandIn) -> None:
    doctor = StripeDoctor(stand_in.calls, "http://127.0.0.1:3000", False)
    (nothing, *_) = doctor.findings()
    assert nothing.verdict == "failed"
    stand_in.answers["/v1/customers"] = (200, {"object": "list", "data": [], "has_more": False, "url": "/v1/customers"})
    (key, *_) = doctor.findings()
    assert (key.name, key.verdict) == ("key", "warning")
    assert "it has no products, prices, " in key.detail


def test_a_thin_event_that_cannot_be_read_again_is_taken_as_it_was_sent(stand_in: StandIn) -> None:
    sample = {"error_message": "no such customer", "request": {"identifier": "r1"}}
    types = [{"code": "meter_event_customer_not_found", "error_count": 1, "sample_errors": [sample]}]
    sent = {
        "created": "2026-09-21T14:13:20.246Z",
        "related_object": {"id": "mtr_1"},
        "data": {"reason": {"error_count": 1, "error_types": types}},
    }
    (fault,) = stand_in.account.meter_faults("evt_1", sent).faults
    assert (fault.code, fault.named) == ("meter_event_customer_not_found", (("r1", "no such customer"),))
    with pytest.raises(NotFound):
        stand_in.account.meter_faults("evt_1", {key: value for key, value in sent.items() if key != "data"})
