"""`/v1/checkout` and `/v1/portal`: ways for a customer to pay, at the payment provider's own pages."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

from tollkeeper.core.provider import ProviderMissing
from tollkeeper.core.purchases import Purchase, PurchaseStatus
from tollkeeper.services.checkout import Checkouts
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Sent, Shown
from tollkeeper.web.api.stripe import FAILURES
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, MoneyDep, MoneyServices

router = APIRouter(prefix="/v1", tags=["Selling"], route_class=AdminRoute)

_URL = r"^https?://\S{1,2000}$"


class NewCheckout(Sent):
    """What a customer is to buy. The environment is that of the provider's account."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer": "acme", "plan": "pro"}]})

    customer: str = Field(max_length=64, examples=["acme"])
    plan: str = Field(max_length=64, description="A plan on offer.", examples=["pro"])
    success_url: str | None = Field(None, pattern=_URL, description="Where the browser comes back to.", examples=[None])
    cancel_url: str | None = Field(None, pattern=_URL, description="And when nothing was bought.", examples=[None])
    coupon: str | None = Field(None, max_length=200, description="The provider's id of a coupon.", examples=[None])
    trial_days: int | None = Field(
        None, ge=0, le=730, description="null: the plan's, for a customer who bought nothing before.", examples=[None]
    )


class CheckoutShown(Shown):
    """One checkout and what came of it. Send the person to `url`; `status` follows from the provider's events."""

    id: str = Field(examples=["pur_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    environment: EnvironmentName
    customer: str = Field(examples=["acme"])
    plan: str | None = Field(examples=["pro"])
    plan_version: int | None = Field(examples=[1])
    kind: Literal["subscription", "payment"]
    status: PurchaseStatus
    url: str | None = Field(examples=["https://checkout.stripe.com/c/pay/cs_test_a1"])
    created_at: Instant
    completed_at: Instant | None = Field(examples=[None])

    @classmethod
    def of(cls, purchase: Purchase) -> CheckoutShown:
        return cls(
            id=purchase.id,
            environment=purchase.environment,
            customer=purchase.customer,
            plan=purchase.plan,
            plan_version=purchase.plan_version,
            kind=purchase.kind,
            status=purchase.status,
            url=purchase.document.get("url"),
            created_at=purchase.created_at,
            completed_at=purchase.completed_at,
        )


class NewPortal(Sent):
    """Whose pages to open."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer": "acme"}]})

    customer: str = Field(max_length=64, examples=["acme"])
    return_url: str | None = Field(None, pattern=_URL, description="Where the pages lead back to.", examples=[None])


class PortalShown(Shown):
    """A link that signs in whoever opens it: for this customer alone, and soon."""

    url: str = Field(examples=["https://billing.stripe.com/p/session/test_a1"])


def selling(money: MoneyServices) -> Checkouts:
    """Raises ProviderMissing."""
    if money.checkouts is None:
        raise ProviderMissing
    return money.checkouts


@router.post("/checkout", status_code=201, summary="Begin a checkout", responses={**FAILURES, **documented(404, 409)})
def create_checkout(sent: NewCheckout, money: MoneyDep) -> CheckoutShown:
    """A customer with a running subscription changes its plan instead (409)."""
    made = selling(money).buy(
        sent.customer,
        sent.plan,
        success_url=sent.success_url,
        cancel_url=sent.cancel_url,
        coupon=sent.coupon,
        trial_days=sent.trial_days,
    )
    return CheckoutShown.of(made)


@router.get("/checkout/{purchase}", summary="Get a checkout", responses=documented(404, "provider_missing"))
def get_checkout(
    purchase: Annotated[str, Path(description="Its id.", examples=["pur_01JD3V5E6QN8Z4V9W1T7B2X3YA"])], money: MoneyDep
) -> CheckoutShown:
    return CheckoutShown.of(selling(money).purchase(purchase))


@router.post("/portal", status_code=201, summary="Open the billing portal", responses={**FAILURES, **documented(404)})
def create_portal(sent: NewPortal, money: MoneyDep) -> PortalShown:
    """The provider's pages for one customer: invoices, cards, cancelling."""
    return PortalShown(url=selling(money).portal(sent.customer, sent.return_url))
