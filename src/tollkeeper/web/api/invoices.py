"""`/v1/invoices`: the provider's as they were read, and our own where there is no provider."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import NotFound
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.provider import ProviderInvoice
from tollkeeper.services.invoicing import Invoicing
from tollkeeper.web.api.customers import CustomerId
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Listed, PageQuery, Shown
from tollkeeper.web.api.stripe import FAILURES
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, MoneyDep, MoneyServices

router = APIRouter(prefix="/v1", tags=["Selling"], route_class=AdminRoute)

InvoiceId = Annotated[str, Path(description="The invoice's id.", examples=["in_1SXkT2"])]


class InvoiceQuery(PageQuery):
    """Which invoices."""

    environment: Environment | None = Field(
        None,
        description="`live` or `test`; the two never mix. That of the provider's account when left out, else `live`.",
    )
    customer: str | None = Field(None, max_length=64, description="Of this customer alone.")
    status: str | None = Field(None, max_length=40, description="Such as open or paid.")


class InvoiceLineShown(Shown):
    """One line. `quantity` is null where nothing is counted."""

    description: str = Field(examples=["calls"])
    amount: str = Field(examples=["22.69"])
    quantity: str | None = Field(examples=["12345"])
    period_start: Instant | None
    period_end: Instant | None


class InvoiceShown(Shown):
    """An invoice. `provider` null: issued by Tollkeeper. Amounts in major units of `currency`."""

    id: str = Field(examples=["in_1SXkT2"])
    environment: EnvironmentName
    provider: str | None = Field(examples=["stripe"])
    customer: str = Field(examples=["acme"])
    number: str | None = Field(examples=["INV-000001"])
    status: str = Field(description="draft, open, paid, void or uncollectible.", examples=["paid"])
    currency: str = Field(examples=["usd"])
    total: str = Field(examples=["51.69"])
    amount_paid: str = Field(examples=["51.69"])
    refunded: str = Field(examples=["0"])
    disputes: dict[str, str] = Field(description="Status by the provider's id.", examples=[{}])
    period_start: Instant | None
    period_end: Instant | None
    created_at: Instant
    finalized_at: Instant | None
    paid_at: Instant | None
    url: str | None = Field(description="The provider's page of it.", examples=[None])
    lines: list[InvoiceLineShown]

    @classmethod
    def of(cls, invoice: Invoice) -> InvoiceShown:
        return cls(
            id=invoice.id,
            environment=invoice.environment,
            provider=invoice.provider,
            customer=invoice.customer,
            number=invoice.number,
            status=invoice.status,
            currency=invoice.currency,
            total=format(invoice.total, "f"),
            amount_paid=format(invoice.amount_paid, "f"),
            refunded=format(invoice.refunded, "f"),
            disputes=dict(invoice.disputes),
            period_start=invoice.period_start,
            period_end=invoice.period_end,
            created_at=invoice.created_at,
            finalized_at=invoice.finalized_at,
            paid_at=invoice.paid_at,
            url=invoice.document.get("hosted_url"),
            lines=[_line(line) for line in invoice.document.get("lines", ())],
        )

    @classmethod
    def previewed(
        cls, invoice: ProviderInvoice, customer: str, environment: Environment, provider: str
    ) -> InvoiceShown:
        return cls(
            id=invoice.id,
            environment=environment,
            provider=provider,
            customer=customer,
            number=None,
            status="draft",
            currency=invoice.currency,
            total=format(invoice.total, "f"),
            amount_paid="0",
            refunded="0",
            disputes={},
            period_start=invoice.period_start,
            period_end=invoice.period_end,
            created_at=invoice.created_at,
            finalized_at=None,
            paid_at=None,
            url=None,
            lines=[
                InvoiceLineShown(
                    description=line.description,
                    amount=format(line.amount, "f"),
                    quantity=None if line.quantity is None else format_quantity(line.quantity),
                    period_start=line.period_start,
                    period_end=line.period_end,
                )
                for line in invoice.lines
            ],
        )


def _line(line: dict[str, Any]) -> InvoiceLineShown:
    quantity = line["quantity"]
    return InvoiceLineShown(
        description=line["description"],
        amount=line["amount"],
        quantity=None if quantity is None else format_quantity(Decimal(quantity)),
        period_start=line["period_start"],
        period_end=line["period_end"],
    )


def _invoicing(money: MoneyServices) -> Invoicing:
    if money.invoicing is None:
        raise NotFound("This server keeps no invoices.")
    return money.invoicing


def _account(money: MoneyServices) -> Environment:
    """The environment that is meant when none is named."""
    return "live" if money.checkouts is None else money.checkouts.environment


@router.get("/invoices", summary="List invoices")
def list_invoices(asked: Annotated[InvoiceQuery, Query()], money: MoneyDep) -> Listed[InvoiceShown]:
    """Newest first."""
    environment = asked.environment or _account(money)
    found = _invoicing(money).page(environment, asked.customer, asked.status, asked.cursor, asked.limit)
    return Listed(data=[InvoiceShown.of(invoice) for invoice in found.items], next_cursor=found.next)


@router.get("/invoices/{invoice}", summary="Get an invoice", responses=documented(404))
def get_invoice(
    invoice: InvoiceId, money: MoneyDep, environment: Annotated[Environment | None, Query()] = None
) -> InvoiceShown:
    """Of that environment alone, when one is named."""
    if environment is None:
        with suppress(NotFound):
            return InvoiceShown.of(_invoicing(money).get("test", invoice))
    return InvoiceShown.of(_invoicing(money).get(environment or "live", invoice))


@router.post("/invoices/{invoice}/pay", summary="Mark an invoice of our own as paid", responses=documented(404, 409))
def pay_invoice(invoice: InvoiceId, money: MoneyDep) -> InvoiceShown:
    """For an invoice that Tollkeeper issued; the provider's are paid there."""
    return InvoiceShown.of(_invoicing(money).settle(invoice, "paid"))


@router.post("/invoices/{invoice}/void", summary="Void an invoice of our own", responses=documented(404, 409))
def void_invoice(invoice: InvoiceId, money: MoneyDep) -> InvoiceShown:
    return InvoiceShown.of(_invoicing(money).settle(invoice, "void"))


@router.get(
    "/customers/{customer}/invoice-preview",
    summary="Preview the next invoice",
    responses={**FAILURES, **documented(404, 409)},
)
def preview_invoice(
    customer: CustomerId, money: MoneyDep, environment: Annotated[Environment | None, Query()] = None
) -> InvoiceShown:
    """The provider's as it would be now; of `live` without a provider our own, with the usage so far.

    The environment is that of the provider's account when none is named.
    """
    if money.checkouts is not None and environment in (None, money.checkouts.environment):
        found = money.checkouts.preview(customer)
        return InvoiceShown.previewed(found, customer, money.checkouts.environment, money.checkouts.provider)
    return InvoiceShown.of(_invoicing(money).preview(customer))
