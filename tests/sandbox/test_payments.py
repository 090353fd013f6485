"""What becomes of payments: retries, authentication, refunds, disputes, credit notes; and when a draft is finalised."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import stripe

from sandbox.billing import DAY, HOUR, Desk, at
from sandbox.conftest import Running

PERIOD = 28 * DAY


@pytest.fixture
def desk(running: Running) -> Desk:
    return Desk(running)


class Ear:
    """An endpoint that answers as told and keeps the types it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.heard: list[str] = []
        ear = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                ear.heard.append(json.loads(body)["type"])
                self.send_response(ear.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    yield made
    made.stop()


def test_a_draft_is_finalised_an_hour_after_its_event_was_answered(desk: Desk, ear: Ear) -> None:
    desk.v1.webhook_endpoints.create({"url": ear.url, "enabled_events": ["invoice.created"]})
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.metered())
    desk.use(customer, 1000)
    ear.status = 500
    desk.wait(PERIOD)
    desk.running.control("/webhooks", {"settle": True})
    (draft,) = desk.invoices(subscription.id)
    assert (draft.status, draft.webhooks_delivered_at) == ("draft", None)
    assert draft.automatically_finalizes_at == draft.created + 72 * HOUR
    desk.wait(5 * HOUR)
    ear.status = 200
    desk.running.control("/webhooks", {"retry_now": True, "settle": True})
    answered = desk.v1.invoices.retrieve(draft.id)
    assert (answered.webhooks_delivered_at, answered.automatically_finalizes_at) == (desk.now, desk.now + HOUR)
    desk.wait(HOUR - 1)
    assert desk.v1.invoices.retrieve(draft.id).status == "draft"
    desk.wait(1)
    assert desk.v1.invoices.retrieve(draft.id).status == "paid"


def test_a_draft_whose_event_nobody_answers_is_finalised_after_72_hours(desk: Desk, ear: Ear) -> None:
    desk.v1.webhook_endpoints.create({"url": ear.url, "enabled_events": ["invoice.created"]})
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.metered())
    desk.use(customer, 1000)
    ear.status = 500
    desk.wait(PERIOD + 72 * HOUR - 1)
    assert desk.invoices(subscription.id)[0].status == "draft"
    desk.wait(1)
    assert desk.invoices(subscription.id)[0].status == "paid"


def failing(desk: Desk) -> tuple[str, stripe.Subscription]:
    """A customer whose first invoice was paid and whose card fails from now on."""
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000))
    method = desk.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer}).id
    desk.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method}})
    return customer, subscription


@pytest.mark.parametrize(("after", "status"), [("cancel", "canceled"), ("unpaid", "unpaid"), ("past_due", "past_due")])
def test_three_retries_then_what_the_setting_says(desk: Desk, after: str, status: str) -> None:
    desk.running.control("/dunning", {"after": after})
    _, subscription = failing(desk)
    desk.wait(PERIOD + HOUR)
    assert desk.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    invoice = desk.invoices(subscription.id)[1]
    failed_at = desk.now
    assert (invoice.attempt_count, invoice.next_payment_attempt) == (1, failed_at + 3 * DAY)
    desk.wait(3 * DAY)
    invoice = desk.v1.invoices.retrieve(invoice.id)
    assert (invoice.attempt_count, invoice.next_payment_attempt) == (2, failed_at + 8 * DAY)
    desk.wait(12 * DAY - 1)
    assert desk.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    desk.wait(1)
    invoice = desk.v1.invoices.retrieve(invoice.id)
    assert (invoice.attempt_count, invoice.next_payment_attempt, invoice.status) == (4, None, "open")
    gone = desk.v1.subscriptions.retrieve(subscription.id)
    assert gone.status == status
    assert gone.cancellation_details is not None
    assert gone.cancellation_details.reason == ("payment_failed" if after == "cancel" else None)
    assert desk.types().count("invoice.payment_failed") == 4


def test_a_subscription_that_owes_is_active_again_when_the_invoice_is_paid(desk: Desk) -> None:
    customer, subscription = failing(desk)
    desk.wait(PERIOD + HOUR)
    assert desk.v1.customers.retrieve(customer).delinquent is True
    invoice = desk.invoices(subscription.id)[1]
    method = desk.v1.payment_methods.attach("pm_card_visa", {"customer": customer}).id
    assert desk.v1.invoices.pay(invoice.id, {"payment_method": method}).status == "paid"
    assert desk.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert desk.v1.customers.retrieve(customer).delinquent is False


def test_a_first_payment_that_fails_leaves_it_incomplete_for_23_hours(desk: Desk) -> None:
    customer = desk.customer("pm_card_chargeCustomerFail")
    subscription = desk.subscribe(customer, desk.price(1000))
    assert subscription.status == "incomplete"
    with pytest.raises(stripe.CardError) as declined:
        desk.v1.invoices.pay(str(subscription.latest_invoice))
    assert (declined.value.code, declined.value.http_status) == ("card_declined", 402)
    desk.wait(23 * HOUR)
    assert desk.v1.subscriptions.retrieve(subscription.id).status == "incomplete_expired"
    assert desk.v1.invoices.retrieve(str(subscription.latest_invoice)).status == "void"


def test_error_if_incomplete_makes_nothing_when_the_card_would_fail(desk: Desk) -> None:
    customer = desk.customer("pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError):
        desk.subscribe(customer, desk.price(1000), payment_behavior="error_if_incomplete")
    assert desk.v1.subscriptions.list({"status": "all"}).data == []


def test_default_incomplete_waits_for_its_payment_intent(desk: Desk) -> None:
    customer = desk.customer(card=None)
    subscription = desk.subscribe(customer, desk.price(1000), payment_behavior="default_incomplete")
    expand: Any = {"expand": ["confirmation_secret", "payments"]}
    invoice = desk.v1.invoices.retrieve(str(subscription.latest_invoice), expand)
    assert (subscription.status, invoice.status) == ("incomplete", "open")
    assert invoice.payments is not None
    intent = str(invoice.payments.data[0].payment.payment_intent)
    assert invoice.confirmation_secret is not None
    assert invoice.confirmation_secret.client_secret.startswith(intent)
    desk.v1.payment_intents.confirm(intent, {"payment_method": "pm_card_visa"})
    assert desk.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert desk.v1.invoices.retrieve(invoice.id).status == "paid"


def test_a_refund_of_a_part_and_of_the_rest_and_no_more(desk: Desk) -> None:
    customer = desk.customer()
    desk.subscribe(customer, desk.price(1000))
    charge = desk.v1.charges.list({"customer": customer}).data[0].id
    desk.v1.refunds.create({"charge": charge, "amount": 300})
    held = desk.v1.charges.retrieve(charge, {"expand": ["refunds"]})
    assert (held.amount_refunded, held.refunded) == (300, False)
    with pytest.raises(stripe.InvalidRequestError):
        desk.v1.refunds.create({"charge": charge, "amount": 701})
    desk.v1.refunds.create({"charge": charge})
    assert desk.v1.charges.retrieve(charge).refunded is True
    with pytest.raises(stripe.InvalidRequestError) as refused:
        desk.v1.refunds.create({"charge": charge})
    assert refused.value.code == "charge_already_refunded"
    assert desk.types().count("charge.refunded") == 2


def test_a_dispute_is_opened_by_a_card_or_by_hand_and_closed(desk: Desk) -> None:
    customer = desk.customer("pm_card_createDispute")
    desk.subscribe(customer, desk.price(1000))
    (dispute,) = desk.v1.disputes.list().data
    assert (dispute.amount, dispute.status) == (1000, "needs_response")
    assert desk.v1.charges.retrieve(str(dispute.charge)).disputed is True
    desk.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}})
    desk.wait(60)
    assert desk.v1.disputes.retrieve(dispute.id).status == "won"
    other = desk.customer()
    desk.subscribe(other, desk.price(1000))
    charge = desk.v1.charges.list({"customer": other}).data[0].id
    opened = desk.running.control("/disputes", {"charge": charge, "reason": "product_not_received"})
    assert desk.v1.disputes.close(opened["id"]).status == "lost"
    with pytest.raises(AssertionError, match="already closed"):
        desk.running.control("/disputes", {"dispute": opened["id"], "status": "won"})
    assert [name for name in desk.types() if name.startswith("charge.dispute")] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
        "charge.dispute.funds_reinstated",
        "charge.dispute.closed",
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.closed",
    ]  # fmt: skip


def test_a_credit_note_of_a_paid_invoice_is_refunded_or_becomes_balance(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000))
    invoice = desk.invoices(subscription.id)[0]
    with pytest.raises(stripe.InvalidRequestError):
        desk.v1.credit_notes.create({"invoice": invoice.id, "amount": 500})
    note = desk.v1.credit_notes.create(
        {"invoice": invoice.id, "amount": 500, "refund_amount": 200, "credit_amount": 300, "reason": "order_change"}
    )
    assert (note.type, note.amount, note.status) == ("post_payment", 500, "issued")
    assert desk.v1.customers.retrieve(customer).balance == -300
    assert desk.v1.charges.list({"customer": customer}).data[0].amount_refunded == 200
    assert desk.v1.invoices.retrieve(invoice.id).post_payment_credit_notes_amount == 500
    with pytest.raises(stripe.InvalidRequestError):
        desk.v1.credit_notes.create({"invoice": invoice.id, "amount": 501, "credit_amount": 501})


def test_a_credit_note_of_an_open_invoice_lowers_what_is_left(desk: Desk) -> None:
    _, subscription = failing(desk)
    desk.wait(PERIOD + HOUR)
    invoice = desk.invoices(subscription.id)[1]
    line = invoice.lines.data[0].id
    desk.v1.credit_notes.create(
        {"invoice": invoice.id, "lines": [{"type": "invoice_line_item", "invoice_line_item": line, "amount": 400}]}
    )
    assert desk.v1.invoices.retrieve(invoice.id).amount_remaining == 600
    desk.v1.credit_notes.create({"invoice": invoice.id, "amount": 600})
    assert desk.v1.invoices.retrieve(invoice.id).status == "paid"


def test_a_line_is_put_on_a_draft_and_refused_after_it_is_finalised(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.metered())
    desk.use(customer, 1000)
    desk.wait(PERIOD)
    (draft,) = desk.invoices(subscription.id)
    item: Any = {
        "customer": customer, "invoice": draft.id, "amount": 333, "currency": "usd", "description": "Rated elsewhere",
        "period": {"start": at("2027-02-01T00:00:00"), "end": at("2027-02-28T00:00:00")},
    }  # fmt: skip
    made = desk.v1.invoice_items.create(item)
    assert desk.v1.invoices.retrieve(draft.id).total == 533  # 1,000 × 0.2 + 333
    desk.v1.invoices.finalize_invoice(draft.id)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        desk.v1.invoice_items.create(item)
    assert refused.value.code == "invoice_not_editable"
    line = desk.v1.invoices.retrieve(draft.id).lines.data[1]
    assert line.parent is not None
    assert line.parent.invoice_item_details is not None
    assert line.parent.invoice_item_details.invoice_item == made.id


def test_lines_beyond_the_tenth_are_read_from_their_list(desk: Desk) -> None:
    customer = desk.customer()
    for number in range(12):
        desk.v1.invoice_items.create({"customer": customer, "amount": 100 + number, "currency": "usd"})
    invoice = desk.v1.invoices.create(
        {"customer": customer, "pending_invoice_items_behavior": "include", "auto_advance": False}
    )
    assert (len(invoice.lines.data), invoice.lines.has_more) == (10, True)
    every = list(desk.v1.invoices.line_items.list(invoice.id, {"limit": 5}).auto_paging_iter())
    assert sum(line.amount for line in every) == invoice.total == 1266  # 12 × 100 + 66
    assert desk.v1.invoices.pay(invoice.id).status == "paid"


def test_a_voided_invoice_gives_its_balance_back(desk: Desk) -> None:
    customer = desk.customer(card=None)
    desk.v1.customers.balance_transactions.create(customer, {"amount": -250, "currency": "usd"})
    desk.v1.invoice_items.create({"customer": customer, "amount": 1000, "currency": "usd"})
    invoice = desk.v1.invoices.create(
        {
            "customer": customer,
            "pending_invoice_items_behavior": "include",
            "collection_method": "send_invoice",
            "days_until_due": 14,
        }
    )
    finalized = desk.v1.invoices.finalize_invoice(invoice.id)
    assert (finalized.amount_due, finalized.due_date) == (750, desk.now + 14 * DAY)
    assert desk.v1.customers.retrieve(customer).balance == 0
    desk.v1.invoices.void_invoice(invoice.id)
    assert desk.v1.customers.retrieve(customer).balance == -250


def test_a_trial_without_a_card_ends_as_its_setting_says(desk: Desk) -> None:
    ended = []
    for behavior in ("cancel", "pause", "create_invoice"):
        customer = desk.customer(card=None)
        settings: Any = {"end_behavior": {"missing_payment_method": behavior}}
        ended.append(desk.subscribe(customer, desk.price(1000), trial_period_days=7, trial_settings=settings).id)
    desk.wait(7 * DAY + HOUR)
    assert [desk.v1.subscriptions.retrieve(id).status for id in ended] == ["canceled", "paused", "past_due"]


def test_a_parameter_of_stripe_that_would_do_nothing_here_is_refused(desk: Desk) -> None:
    customer = desk.customer()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        desk.subscribe(customer, desk.price(1000), application_fee_percent=5)
    assert (refused.value.code, refused.value.param) == ("sandbox_unsupported", "application_fee_percent")
    subscription = desk.subscribe(customer, desk.price(1000))
    item: Any = {"id": subscription["items"]["data"][0]["id"], "discounts": [{"coupon": "x"}]}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        desk.v1.subscriptions.update(subscription.id, {"items": [item]})
    assert (refused.value.code, refused.value.param) == ("sandbox_unsupported", "items[0][discounts]")
