"""`/v1/stripe`: what the catalog is at Stripe, and whether everything between us and Stripe is in order."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from tollkeeper.core.doctor import Finding
from tollkeeper.core.provider import ProviderMissing
from tollkeeper.services.doctor import Doctor
from tollkeeper.services.provider_catalog import ProviderCatalog, ShelfPlan
from tollkeeper.web.api.shapes import EnvironmentName, Sent, Shown
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, MoneyDep, MoneyServices

router = APIRouter(prefix="/v1/stripe", tags=["Stripe"], route_class=AdminRoute)

FAILURES = documented(
    "provider_missing", "provider_refused", "provider_unavailable", "provider_unauthorized", "provider_busy"
)


class ShelfChangeShown(Shown):
    """One thing that is made, changed, or no longer sold at Stripe."""

    action: Literal["make", "change", "retire"] = Field(examples=["make"])
    kind: Literal["product", "meter", "price", "portal"] = Field(examples=["price"])
    key: str = Field(description="Our name of it.", examples=["pro@1/calls"])
    id: str | None = Field(description="Stripe's name of it, once it has one.", examples=["price_1SXk"])


class RatedHereShown(Shown):
    """A price that Stripe cannot express: it is rated by Tollkeeper and put on Stripe's invoice as a line."""

    plan: str = Field(examples=["pro"])
    version: int = Field(examples=[1])
    price: str = Field(examples=["calls"])
    reason: str = Field(examples=["it has a minimum or a maximum"])


class ShelfShown(Shown):
    """The catalog at Stripe. `kept` things are there as they should be."""

    environment: EnvironmentName
    changes: list[ShelfChangeShown]
    kept: int = Field(examples=[4])
    rated_here: list[RatedHereShown] = Field(examples=[[]])

    @classmethod
    def of(cls, plan: ShelfPlan, ids: dict[tuple[str, str], str] | None = None) -> ShelfShown:
        known = ids or {}
        return cls(
            environment=plan.environment,
            changes=[
                ShelfChangeShown(
                    action=change.action,
                    kind=change.kind,
                    key=change.key,
                    id=known.get((change.kind, change.key), change.held.id if change.held else None),
                )
                for change in plan.changes
            ],
            kept=plan.kept,
            rated_here=[
                RatedHereShown(plan=one.plan, version=one.version, price=one.price, reason=one.reason)
                for one in plan.rated_here
            ],
        )


class FindingShown(Shown):
    """One thing that was looked at. `mend` says what to do."""

    name: str = Field(examples=["webhook endpoint"])
    verdict: Literal["ok", "warning", "failed"] = Field(examples=["ok"])
    detail: str = Field(examples=["The test key is accepted and may read what is needed."])
    mend: str = Field(examples=[""])

    @classmethod
    def of(cls, finding: Finding) -> FindingShown:
        return cls(name=finding.name, verdict=finding.verdict, detail=finding.detail, mend=finding.mend)


class DoctorShown(Shown):
    """`healthy` is false as soon as one finding is `failed`."""

    environment: EnvironmentName
    healthy: bool
    findings: list[FindingShown]


class EndpointShown(Shown):
    """The webhook endpoint at Stripe. `secret` is shown once, when it is made: add it to STRIPE_WEBHOOK_SECRET.

    Usage that Stripe throws away is told by an event destination with a secret of its own: then there are two, with a comma between.
    """

    id: str = Field(examples=["we_1SXk"])
    secret: str | None = Field(examples=[None])


class ImportWanted(Sent):
    """What to take over."""

    prices: dict[str, str] = Field(
        default_factory=dict,
        description="Stripe's prices that our catalog did not make, and the plan that each is of.",
        examples=[{"price_1SXk": "pro"}],
    )
    id_from: str = Field(
        "stripe",
        max_length=200,
        description="Our id of a customer: `stripe`, `email`, or `metadata.NAME`.",
        examples=["stripe"],
    )
    dry_run: bool = Field(True, description="Only say what would be done.")


class AdoptionShown(Shown):
    """One subscription at Stripe. `known` ones are read again; `why` says why one is skipped."""

    subscription: str = Field(examples=["sub_1SXk"])
    stripe_customer: str = Field(examples=["cus_SXk"])
    customer: str = Field(examples=["acme"])
    name: str = Field(examples=["Acme"])
    plan: str | None = Field(examples=["pro"])
    verdict: Literal["adopt", "known", "skip"]
    why: str = Field(examples=[""])


class ImportShown(Shown):
    """What was done, or would be."""

    environment: EnvironmentName
    dry_run: bool
    adopted: int = Field(examples=[1])
    known: int = Field(examples=[0])
    skipped: int = Field(examples=[0])
    subscriptions: list[AdoptionShown]


@router.post("/import", responses=FAILURES)
def import_stripe(wanted: ImportWanted, money: MoneyDep) -> ImportShown:
    """Take over the customers and running subscriptions of the account.

    Each customer is made here unless it is there, and may do from now on what the plan of its subscription says. What it pays stays as it
    is: prices that our catalog did not make go on being billed by Stripe, and no usage is reported for them.
    """
    importer = money.provider_import
    if importer is None or money.provider_catalog is None:
        raise ProviderMissing
    work = importer.plan if wanted.dry_run else importer.apply
    found = work(wanted.prices, wanted.id_from)
    return ImportShown(
        environment=money.provider_catalog.environment,
        dry_run=wanted.dry_run,
        adopted=sum(one.verdict == "adopt" for one in found),
        known=sum(one.verdict == "known" for one in found),
        skipped=sum(one.verdict == "skip" for one in found),
        subscriptions=[
            AdoptionShown(
                subscription=one.subscription,
                stripe_customer=one.provider_customer,
                customer=one.customer,
                name=one.name,
                plan=one.plan,
                verdict=one.verdict,
                why=one.why,
            )
            for one in found
        ],
    )


@router.get("/plan", responses=FAILURES)
def plan_stripe(money: MoneyDep) -> ShelfShown:
    """What an apply would do at Stripe. Stripe is not asked."""
    return ShelfShown.of(_catalog(money).plan())


@router.post("/apply", responses=FAILURES)
def apply_stripe(money: MoneyDep) -> ShelfShown:
    """Make Stripe hold the catalog in force: products, meters, prices, the portal.

    What is there is left alone, so a second apply does nothing. A price that was sold is never changed: another version of a plan has
    prices of its own, and those of a version that nobody is on are sold no more. After a failure, apply again.
    """
    ids: dict[tuple[str, str], str] = {}
    plan = _catalog(money).apply(lambda change, id: ids.update({(change.kind, change.key): id}))
    return ShelfShown.of(plan, ids)


@router.get("/doctor", responses=FAILURES)
def examine_stripe(money: MoneyDep) -> DoctorShown:
    """Look at key, permissions, webhook endpoint and catalog; nothing is changed."""
    doctor = _doctor(money)
    found = doctor.look()
    return DoctorShown(
        environment=doctor.environment,
        healthy=all(one.verdict != "failed" for one in found),
        findings=[FindingShown.of(one) for one in found],
    )


@router.post("/probe", responses=FAILURES)
def probe_stripe(money: MoneyDep) -> DoctorShown:
    """Ask a test account what Stripe's documents do not say for sure: decimals, identifiers, negative usage, flat amounts without usage.

    Makes a meter, a product, a customer and a subscription, and takes them away again. Takes up to two minutes.
    """
    doctor = _doctor(money)
    found = doctor.probe()
    return DoctorShown(
        environment=doctor.environment,
        healthy=all(one.verdict == "ok" for one in found),
        findings=[FindingShown.of(one) for one in found],
    )


@router.post("/webhook", responses=FAILURES)
def make_stripe_webhook(money: MoneyDep) -> EndpointShown:
    """Make the endpoint at Stripe that sends events to `/webhooks/stripe` of the public address, or bring it up to date."""
    id, secrets = _doctor(money).webhook()
    return EndpointShown(id=id, secret=",".join(secrets) or None)


def _catalog(money: MoneyServices) -> ProviderCatalog:
    if money.provider_catalog is None:
        raise ProviderMissing
    return money.provider_catalog


def _doctor(money: MoneyServices) -> Doctor:
    if money.doctor is None:
        raise ProviderMissing
    return money.doctor
