"""The life of an invoice: draft, open, paid, void or uncollectible (https://docs.stripe.com/invoicing/overview).

A draft that advances by itself is finalised an hour after every endpoint answered its `invoice.created` with 2xx, and after
72 hours without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.arithmetic import due
from tollkeeper.sandbox.balance import change_balance
from tollkeeper.sandbox.cards import default_method
from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.invoice_lines import refresh
from tollkeeper.sandbox.invoice_lines import total as sum_up
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.payments import after_payment, cancel_intent, make_intent, settle
from tollkeeper.sandbox.render import lazy
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import listed
from tollkeeper.sandbox.webhooks import delivered
from tollkeeper.sandbox.world import due as task

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

HOUR, DAY = 3600, 86_400
_WITHOUT_ANSWER = 72 * HOUR
DUNNING = {"retry_days": [3, 5, 7], "after": "cancel"}
"""Days from each failed attempt to the next, and what becomes of the subscription after the last: "cancel", "unpaid" or "past_due"."""
_ON: dict[str, list[Callable[[World, Object], None]]] = {}


def on_invoice(moment: str) -> Callable[[Callable[[World, Object], None]], Callable[[World, Object], None]]:
    """The function is called when an invoice was "paid", "failed" to be paid, is "exhausted" of retries, or was "voided"."""

    def register(function: Callable[[World, Object], None]) -> Callable[[World, Object], None]:
        _ON.setdefault(moment, []).append(function)
        return function

    return register


def _tell(moment: str, world: World, invoice: Object) -> None:
    for function in _ON.get(moment, ()):
        function(world, invoice)


def dunning(world: World) -> dict[str, Any]:
    """The settings of payment retries."""
    return {**DUNNING, **(world.store.setting("dunning") or {})}


def keep(world: World, invoice: Object) -> Object:
    """Make a draft of it and tell. Invoice items among its sources are its own from now on."""
    invoice["id"] = world.ids.new("in_1")
    invoice["default_tax_rates"] = [world.store.get("tax_rate", id) for id in invoice["_tax_rates"]]
    for source in invoice["_sources"]:
        if source["kind"] == "item" and (row := world.store.get("invoiceitem", source["id"])):
            row["invoice"] = invoice["id"]
            world.store.save(row)
    refresh(world, invoice)
    world.store.save(invoice)
    if invoice["auto_advance"]:
        _finalize_at(world, invoice, invoice["created"] + _WITHOUT_ANSWER)
    world.emit("invoice.created", invoice)
    return invoice


def _finalize_at(world: World, invoice: Object, instant: int) -> None:
    """Finalise a draft by itself at an instant instead of the one before."""
    if invoice["_task"]:
        world.tasks.cancel(invoice["_task"])
    invoice["automatically_finalizes_at"] = instant
    invoice["_task"] = world.at(instant, "invoice.finalize", {"invoice": invoice["id"]}, world.clock_of(invoice))
    world.store.save(invoice)


def set_advance(world: World, invoice: Object, advance: bool) -> None:
    """Let it go on by itself, or not."""
    invoice["auto_advance"] = advance
    if invoice["_task"]:
        world.tasks.cancel(invoice["_task"])
        invoice["_task"] = None
    if not advance:
        invoice["automatically_finalizes_at"] = invoice["next_payment_attempt"] = None
    elif invoice["status"] == "draft":
        waited = invoice["webhooks_delivered_at"]
        now = world.now(invoice)
        _finalize_at(world, invoice, max(now, waited + HOUR) if waited else now + HOUR)
    world.store.save(invoice)


@delivered("invoice.created")
def _answered(world: World, event: Object) -> None:
    invoice = world.store.get("invoice", event["data"]["object"]["id"])
    if invoice is None or invoice["webhooks_delivered_at"] is not None:
        return
    now = world.now(invoice)
    invoice["webhooks_delivered_at"] = now
    world.store.save(invoice)
    if invoice["status"] == "draft" and invoice["auto_advance"]:
        _finalize_at(world, invoice, now + HOUR)


@task("invoice.finalize")
def _finalize_due(world: World, data: dict[str, Any]) -> None:
    invoice = world.store.get("invoice", data["invoice"])
    if invoice is not None and invoice["status"] == "draft" and invoice["auto_advance"]:
        finalize(world, invoice)
        collect(world, invoice)


def _open(world: World, invoice: Object, customer: Object, now: int) -> None:
    """Number and addresses of an invoice that is a draft no more."""
    sequence = customer.get("next_invoice_sequence") or 1
    customer["next_invoice_sequence"] = sequence + 1
    world.store.save(customer)
    secret = world.ids.new("", 40)
    invoice.update(
        number=f"{customer['invoice_prefix']}-{sequence:04d}",
        status="open",
        effective_at=now,
        automatically_finalizes_at=None,
        hosted_invoice_url=f"{world.base_url}/i/{invoice['id']}/{secret}",
        invoice_pdf=f"{world.base_url}/i/{invoice['id']}/{secret}/print",
        status_transitions={**invoice["status_transitions"], "finalized_at": now},
        _secret=secret,
    )


def settle_elsewhere(world: World, invoice: Object, intent: Object | None) -> None:
    """Finalise a draft that a payment of its own has paid already: that of a Checkout session."""
    customer = world.require("customer", invoice["customer"])
    refresh(world, invoice)
    _open(world, invoice, customer, world.now(invoice))
    invoice["ending_balance"] = invoice["starting_balance"]
    if intent is not None:
        invoice["_intent"] = intent["id"]
        intent["_invoice"] = invoice["id"]
        world.store.save(intent)
        _make_payment(world, invoice, intent)
    world.store.save(invoice)
    world.emit("invoice.finalized", invoice)
    mark_paid(world, invoice, intent["amount"] if intent else 0)


def finalize(world: World, invoice: Object, *, held_back: bool = False) -> None:
    """Fix lines, number and what is due; use the customer's balance; open it. Nothing due: paid.

    `held_back`: it will not be collected, so the balance is left alone, and it stays open whatever is due.
    """
    customer = world.store.get("customer", invoice["customer"])
    assert customer is not None
    now = world.now(invoice)
    if invoice["_task"]:
        world.tasks.cancel(invoice["_task"])
        invoice["_task"] = None
    invoice["starting_balance"] = customer.get("balance") or 0
    refresh(world, invoice)
    charged = invoice["collection_method"] == "charge_automatically"
    owed, ending = due(invoice["total"], invoice["starting_balance"], invoice["currency"], charged=charged)
    if held_back:
        owed, ending = max(invoice["total"], 0), invoice["starting_balance"]
    _open(world, invoice, customer, now)
    invoice.update(
        amount_due=owed,
        amount_remaining=owed,
        ending_balance=ending,
    )
    if invoice["collection_method"] == "send_invoice" and invoice["due_date"] is None:
        invoice["due_date"] = now + (invoice.get("_days_until_due") or 30) * DAY
    world.store.save(invoice)
    if ending != invoice["starting_balance"]:
        applied = ending - invoice["starting_balance"]
        change_balance(
            world, customer["id"], applied, invoice["currency"], "applied_to_invoice", invoice=invoice["id"]
        )  # fmt: skip
    if owed:
        intent = make_intent(
            world, owed, invoice["currency"], customer["id"], description=_description(invoice), invoice=invoice["id"],
            future="off_session" if invoice["parent"] else None, receipt=customer.get("email"),
        )  # fmt: skip
        invoice["_intent"] = intent["id"]
        world.store.save(invoice)
        _make_payment(world, invoice, intent)
    world.emit("invoice.finalized", invoice)
    if not owed and not held_back:
        mark_paid(world, invoice)
    elif invoice["due_date"]:
        world.at(invoice["due_date"], "invoice.overdue", {"invoice": invoice["id"]}, world.clock_of(invoice))


def _description(invoice: Object) -> str:
    words = {
        "subscription_create": "Subscription creation",
        "manual": "Invoice",
        "subscription_cycle": "Subscription update",
    }
    return words.get(invoice["billing_reason"], "Subscription update")


def _make_payment(world: World, invoice: Object, intent: Object) -> None:
    world.store.save(
        {
            "id": world.ids.new("inpay_1"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "created": world.now(invoice),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )


def payments_of(world: World, invoice: Object) -> list[Object]:
    return world.store.table("invoice_payment").of("invoice", invoice["id"])[::-1]


lazy("invoice", "payments", lambda world, row: listed("/v1/invoice_payments", payments_of(world, row)))


def _secret(world: World, invoice: Object) -> Object | None:
    intent = world.store.get("payment_intent", invoice["_intent"] or "")
    return {"client_secret": intent["client_secret"], "type": "payment_intent"} if intent else None


lazy("invoice", "confirmation_secret", _secret)


def method_of(world: World, invoice: Object) -> Object | None:
    """The payment method an invoice is charged to."""
    return default_method(world, invoice["customer"], invoice, subscription_of(world, invoice))


def subscription_of(world: World, invoice: Object) -> Object | None:
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    return world.store.get("subscription", details.get("subscription") or "")


def collect(world: World, invoice: Object) -> None:
    """Charge an open invoice by itself, or send it."""
    if invoice["status"] != "open":
        return
    if invoice["collection_method"] == "send_invoice":
        world.emit("invoice.sent", invoice)
    elif invoice["auto_advance"]:
        pay(world, invoice)


def pay(world: World, invoice: Object, method: Object | None = None) -> str:
    """Try to pay an open invoice: "succeeded", "requires_action" or "failed"."""
    intent = world.store.get("payment_intent", invoice["_intent"] or "")
    method = method or method_of(world, invoice)
    if method is None or intent is None:
        invoice["_error"] = "no_method"
        _failed(world, invoice)
        return "failed"
    return settle(world, intent, method)


@after_payment
def _settled(world: World, intent: Object) -> None:
    invoice = world.store.get("invoice", intent["_invoice"] or "")
    if invoice is None or invoice["status"] not in ("open", "uncollectible"):
        return
    if intent["status"] == "succeeded":
        mark_paid(world, invoice, intent["amount"])
        return
    if intent["status"] == "requires_action":
        _failed(world, invoice, action=True)
    else:
        _failed(world, invoice)


def _failed(world: World, invoice: Object, *, action: bool = False) -> None:
    """An attempt did not pay it: count it, plan the next, tell."""
    invoice["attempt_count"] += 1
    invoice["attempted"] = True
    days = dunning(world)["retry_days"]
    exhausted = False
    if invoice["_task"]:
        world.tasks.cancel(invoice["_task"])
        invoice["_task"] = None
    invoice["next_payment_attempt"] = None
    retried = invoice["auto_advance"] and invoice["billing_reason"] != "subscription_create"
    if retried and invoice["collection_method"] == "charge_automatically" and not action:
        if invoice["_retries"] < len(days):
            instant = world.now(invoice) + int(days[invoice["_retries"]] * DAY)
            invoice["next_payment_attempt"] = instant
            invoice["_task"] = world.at(instant, "invoice.retry", {"invoice": invoice["id"]}, world.clock_of(invoice))
        else:
            exhausted = True
    world.store.save(invoice)
    world.emit("invoice.updated", invoice, {"attempt_count": invoice["attempt_count"] - 1})
    if action:
        world.emit("invoice.payment_action_required", invoice)
    world.emit("invoice.payment_failed", invoice)
    _tell("exhausted" if exhausted else "failed", world, invoice)


@task("invoice.retry")
def _retry(world: World, data: dict[str, Any]) -> None:
    invoice = world.store.get("invoice", data["invoice"])
    if invoice is not None and invoice["status"] == "open" and invoice["auto_advance"]:
        invoice["_retries"] += 1
        invoice["_task"] = None
        pay(world, invoice)


@task("invoice.overdue")
def _overdue(world: World, data: dict[str, Any]) -> None:
    invoice = world.store.get("invoice", data["invoice"])
    if invoice is not None and invoice["status"] == "open":
        world.emit("invoice.overdue", invoice)
        _tell("overdue", world, invoice)


def mark_paid(world: World, invoice: Object, amount: int = 0, *, elsewhere: bool = False) -> None:
    """Paid: by a charge, by the balance, or elsewhere."""
    now = world.now(invoice)
    if invoice["_task"]:
        world.tasks.cancel(invoice["_task"])
        invoice["_task"] = None
    if amount and not elsewhere:
        invoice["attempt_count"] += 1
    previous = {"status": invoice["status"], "amount_paid": invoice["amount_paid"]}
    paid = invoice["amount_remaining"] if elsewhere else amount
    invoice.update(
        status="paid",
        attempted=True,
        amount_paid=invoice["amount_paid"] + paid,
        amount_paid_off_stripe=paid if elsewhere else 0,
        amount_remaining=0,
        next_payment_attempt=None,
        auto_advance=False,
        status_transitions={**invoice["status_transitions"], "paid_at": now},
    )
    world.store.save(invoice)
    for row in payments_of(world, invoice):
        if row["status"] == "open" and not elsewhere:
            row.update(
                amount_paid=amount, status="paid", status_transitions={**row["status_transitions"], "paid_at": now}
            )
            world.store.save(row)
            world.emit("invoice_payment.paid", row)
    if elsewhere and (intent := world.store.get("payment_intent", invoice["_intent"] or "")):
        cancel_intent(world, intent, "automatic")
    world.emit("invoice.updated", invoice, previous)
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)
    _tell("paid", world, invoice)


def void(world: World, invoice: Object) -> None:
    """Take it back as if it had never been owed; balance that it used is given back."""
    now = world.now(invoice)
    if invoice["_task"]:
        world.tasks.cancel(invoice["_task"])
        invoice["_task"] = None
    if (intent := world.store.get("payment_intent", invoice["_intent"] or "")) is not None:
        cancel_intent(world, intent, "void_invoice")
    if invoice["ending_balance"] is not None and invoice["ending_balance"] != invoice["starting_balance"]:
        back = invoice["starting_balance"] - invoice["ending_balance"]
        change_balance(
            world, invoice["customer"], back, invoice["currency"], "unapplied_from_invoice", invoice=invoice["id"]
        )  # fmt: skip
    previous = {"status": invoice["status"]}
    invoice.update(
        status="void",
        auto_advance=False,
        next_payment_attempt=None,
        status_transitions={**invoice["status_transitions"], "voided_at": now},
    )
    world.store.save(invoice)
    _cancel_payments(world, invoice, now)
    world.emit("invoice.updated", invoice, previous)
    world.emit("invoice.voided", invoice)
    _tell("voided", world, invoice)


def _cancel_payments(world: World, invoice: Object, now: int) -> None:
    for row in payments_of(world, invoice):
        if row["status"] == "open":
            row.update(status="canceled", status_transitions={**row["status_transitions"], "canceled_at": now})
            world.store.save(row)


def mark_uncollectible(world: World, invoice: Object, reason: str = "user_forgiven") -> None:
    """Bad debt: it is no longer asked for, and can still be paid."""
    if invoice["_task"]:
        world.tasks.cancel(invoice["_task"])
        invoice["_task"] = None
    transitions = {**invoice["status_transitions"], "marked_uncollectible_at": world.now(invoice)}
    previous = {"status": invoice["status"]}
    invoice.update(
        status="uncollectible", auto_advance=False, next_payment_attempt=None, status_transitions=transitions,
        status_details={"uncollectible": {"reason": reason}},
    )  # fmt: skip
    world.store.save(invoice)
    world.emit("invoice.updated", invoice, previous)
    world.emit("invoice.marked_uncollectible", invoice)


def require_status(invoice: Object, allowed: tuple[str, ...], verb: str) -> None:
    """Raises ApiError 400 when the invoice's status does not allow it."""
    if invoice["status"] not in allowed:
        words = " or ".join(allowed)
        raise invalid(
            f"You can only {verb} an invoice that is {words}; this one is {invoice['status']}.",
            None,
            "invoice_not_editable",
        )


def change(world: World, invoice: Object, params: dict[str, Any]) -> None:
    """Fields that may be changed, with `invoice.updated`."""
    plain = ("description", "footer", "due_date", "default_payment_method", "custom_fields", "statement_descriptor")
    changes: dict[str, Any] = {name: (None if params[name] == "" else params[name]) for name in plain if name in params}
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], invoice["metadata"])
    world.update(invoice, changes, "invoice.updated")
    sum_up(world, invoice) if invoice["status"] == "draft" else None
