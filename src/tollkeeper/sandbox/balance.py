"""The customer's credit balance, its transactions, and the account's own balance transactions.

A customer's balance below zero is credit that the next invoice uses; above zero it is owed with the next invoice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.errors import invalid, no_such
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_FEE_PERCENT, _FEE_FIXED = 29, 30
"""2.9 % and 30: what Stripe charges for a card of the United States."""


def change_balance(
    world: World, customer: str, amount: int, currency: str, type: str, *, invoice: str | None = None, credit_note: str | None = None,
    description: str | None = None, metadata: Any = None,
) -> Object:  # fmt: skip
    """Add to a customer's balance and keep the transaction."""
    held = world.store.get("customer", customer)
    assert held is not None
    ending = (held.get("balance") or 0) + amount
    row = world.store.save(
        {
            "id": world.ids.new("cbtxn_1"),
            "object": "customer_balance_transaction",
            "amount": amount,
            "checkout_session": None,
            "created": world.now(held),
            "credit_note": credit_note,
            "currency": currency,
            "customer": customer,
            "customer_account": None,
            "description": description,
            "ending_balance": ending,
            "invoice": invoice,
            "livemode": False,
            "metadata": merged(metadata),
            "type": type,
        }
    )
    world.update(held, {"balance": ending, "currency": held.get("currency") or currency}, "customer.updated")
    return row


def make_transaction(world: World, amount: int, currency: str, source: str, type: str, now: int) -> Object:
    """A movement of the account's balance; charges carry a fee."""
    fee = (amount * _FEE_PERCENT + 500) // 1000 + _FEE_FIXED if type == "charge" else 0
    details = [
        {
            "amount": fee,
            "application": None,
            "currency": currency,
            "description": "Processing fees",
            "type": "stripe_fee",
        }
    ]
    return world.store.save(
        {
            "id": world.ids.new("txn_3"),
            "object": "balance_transaction",
            "amount": amount,
            "available_on": now + 2 * 86_400,
            "balance_type": "payments",
            "created": now,
            "currency": currency,
            "description": None,
            "exchange_rate": None,
            "fee": fee,
            "fee_details": details if fee else [],
            "net": amount - fee,
            "reporting_category": type,
            "source": source,
            "status": "pending",
            "type": type,
        }
    )


@operation("POST", "/v1/customers/{customer}/balance_transactions", resource="customer")
def create(call: Call, customer: str) -> Object:
    params = call.params
    held = call.world.require("customer", customer)
    currency = params["currency"].lower()
    if held.get("currency") not in (None, currency) and held.get("balance"):
        raise invalid(
            f"You cannot combine currencies on a single customer. This customer has a balance in {held['currency']}.",
            "currency",
        )
    return change_balance(
        call.world, customer, params["amount"], currency, "adjustment", description=params.get("description"),
        metadata=params.get("metadata"),
    )  # fmt: skip


@operation("GET", "/v1/customers/{customer}/balance_transactions", resource="customer")
def list_of_customer(call: Call, customer: str) -> Object:
    call.world.require("customer", customer)
    return page(call, "customer_balance_transaction", where=lambda row: row["customer"] == customer, equal=("invoice",))


@operation("GET", "/v1/customers/{customer}/balance_transactions/{transaction}", resource="customer")
def retrieve(call: Call, customer: str, transaction: str) -> Object:
    row = call.world.require("customer_balance_transaction", transaction)
    if row["customer"] != customer:
        raise no_such("customer_balance_transaction", transaction)
    return row


@operation("GET", "/v1/balance_transactions/{id}", resource="balance")
def retrieve_transaction(call: Call, id: str) -> Object:
    return call.world.require("balance_transaction", id)


@operation("GET", "/v1/balance_transactions", resource="balance")
def list_transactions(call: Call) -> Object:
    return page(call, "balance_transaction", equal=("type", "source", "currency"))
