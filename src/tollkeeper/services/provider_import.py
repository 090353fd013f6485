"""Takes over customers and subscriptions that a payment provider has already: who they are, and what they may do from now on.

What they pay stays as it is at the provider. A subscription to prices that were not made from our catalog is billed by them until the
customer is moved to a plan; usage is reported for ours alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.plans import Plan
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.ports_money import ProviderObject
from tollkeeper.core.provider import Provider, ProviderCustomer, ProviderSubscription
from tollkeeper.core.provider_catalog import IMPORTED
from tollkeeper.core.subscriptions import ENDED
from tollkeeper.services import fields
from tollkeeper.services.clock import Clock
from tollkeeper.services.customers import CustomerService
from tollkeeper.services.subscription_records import Read, read_price_key
from tollkeeper.services.subscriptions import Subscriptions

METADATA: Final = "metadata."
OURS: Final = "tollkeeper_customer"
"""In the metadata of a customer that we made: our id of it."""

Verdict = Literal["adopt", "known", "skip"]


@dataclass(frozen=True, slots=True)
class Adoption:
    """One subscription at the provider, and what becomes of it. `why` says why it is skipped."""

    subscription: str
    provider_customer: str
    customer: str
    name: str
    plan: str | None
    verdict: Verdict
    why: str = ""


class ProviderImport:
    """`prices` of the methods: provider's price → key of a plan of ours, for prices that were not made from our catalog.

    `id_from`: where our id of a customer comes from: `stripe` (the provider's id), `email`, or `metadata.NAME`.
    """

    def __init__(
        self,
        database: Database,
        provider: Provider,
        customers: CustomerService,
        subscriptions: Subscriptions,
        clock: Clock,
        on_change: Callable[[str | None], None],
    ) -> None:
        self._database = database
        self._provider = provider
        self._customers = customers
        self._subscriptions = subscriptions
        self._clock = clock
        self._on_change = on_change

    def plan(self, prices: Mapping[str, str], id_from: str = "stripe") -> list[Adoption]:
        """What `apply` would do. Reads the provider alone. Raises InvalidRequest."""
        return [adoption for adoption, _, _ in self._look(prices, id_from)]

    def apply(self, prices: Mapping[str, str], id_from: str = "stripe") -> list[Adoption]:
        """Adopt each subscription in a transaction of its own; one that is known is read again. Going on after a failure does no harm."""
        done: list[Adoption] = []
        for adoption, found, contract in self._look(prices, id_from):
            if adoption.verdict != "skip":
                self._adopt(adoption, found, contract, prices)
            done.append(adoption)
        return done

    def _look(
        self, prices: Mapping[str, str], id_from: str
    ) -> Iterator[tuple[Adoption, ProviderCustomer, ProviderSubscription]]:
        if id_from not in ("stripe", "email") and not id_from.removeprefix(METADATA):
            raise InvalidRequest("id_from: expected stripe, email or metadata.NAME.", field="id_from")
        if id_from not in ("stripe", "email") and not id_from.startswith(METADATA):
            raise InvalidRequest(
                f"id_from: expected stripe, email or metadata.NAME, found {id_from[:60]!r}.", field="id_from"
            )
        with self._database.read() as rows:
            current = rows.catalog.current()
        offered = current.catalog.plans if current is not None else {}
        if unknown := sorted(set(prices.values()) - set(offered)):
            raise InvalidRequest(
                f"prices: there is no plan {', '.join(unknown)} (plans: {', '.join(offered)}).", field="prices"
            )
        seen: dict[str, str] = {}
        for contract in self._provider.subscriptions():
            if contract.status in ENDED or contract.status == "incomplete":
                continue
            found = self._provider.customer(contract.customer)
            adoption = self._judge(found, contract, prices, id_from)
            if adoption.verdict != "skip" and seen.setdefault(adoption.customer, found.id) != found.id:
                why = f"{adoption.customer!r} is {seen[adoption.customer]} too: take the id from somewhere else"
                adoption = _skip(adoption, why)
            yield adoption, found, contract

    def _judge(
        self, found: ProviderCustomer, contract: ProviderSubscription, prices: Mapping[str, str], id_from: str
    ) -> Adoption:
        provider, environment = self._provider.name, self._provider.environment
        with self._database.read() as rows:
            held = rows.provider_objects.by_id(provider, environment, "customer", found.id)
            known = [rows.provider_objects.by_id(provider, environment, "price", item.price) for item in contract.items]
            id = held.key if held is not None else _id_of(found, id_from)
            other = rows.provider_objects.get(provider, environment, "customer", id) if held is None else None
        plans = {named[0][0] for one in known if one is not None and (named := read_price_key(one.key)) is not None}
        plans |= {prices[item.price] for item in contract.items if item.price in prices}
        name = found.name or found.email or found.id
        adoption = Adoption(
            contract.id, found.id, id, name, min(plans) if len(plans) == 1 else None, "known" if held else "adopt"
        )
        if not fields.is_identifier(id):
            return _skip(adoption, f"{id_from} gives no id" if not id else f"{id!r} cannot be an id")
        if other is not None:
            return _skip(adoption, f"{id!r} is {other.id} already")
        if not plans:
            ids = ", ".join(item.price for item in contract.items)
            return _skip(adoption, f"of which plan is {ids}? Name it: --price PRICE=PLAN")
        if len(plans) > 1:
            return _skip(adoption, f"its prices are of several plans: {', '.join(sorted(plans))}")
        return adoption

    def _adopt(
        self, adoption: Adoption, found: ProviderCustomer, contract: ProviderSubscription, prices: Mapping[str, str]
    ) -> None:
        begun = self._clock.now_us()
        with self._database.read() as rows:
            there = rows.customers.get(adoption.customer)
        if there is None:
            email = found.email if fields.is_email_address(found.email) else None
            self._customers.create(adoption.customer, adoption.name[:200], email, currency=found.currency)
        with self._database.write() as rows:
            now = self._clock.now_us()
            environment = self._provider.environment
            rows.provider_objects.put(self._row("customer", adoption.customer, found.id, now))
            for item in contract.items:
                if item.price in prices:
                    self._name_price(rows, item.price, prices[item.price], now)
            self._subscriptions.apply(rows, environment, Read(begun, [contract]), now)
        self._on_change(adoption.customer)

    def _name_price(self, rows: Repositories, price: str, plan: str, now: int) -> None:
        """Write down of which plan a price is that our catalog did not make."""
        if rows.provider_objects.by_id(self._provider.name, self._provider.environment, "price", price) is not None:
            return
        current = rows.catalog.current()
        assert current is not None
        sold: Plan = current.catalog.plans[plan]
        rows.provider_objects.put(self._row("price", f"{sold.key}@{sold.version}/{IMPORTED}{price}", price, now))

    def _row(self, kind: str, key: str, id: str, now: int) -> ProviderObject:
        return ProviderObject(self._provider.name, self._provider.environment, kind, key, id, "", now)


def _id_of(found: ProviderCustomer, id_from: str) -> str:
    ours = found.metadata.get(OURS)
    if ours:
        return ours
    if id_from == "stripe":
        return found.id
    if id_from == "email":
        return (found.email or "").lower()
    return found.metadata.get(id_from.removeprefix(METADATA), "")


def _skip(adoption: Adoption, why: str) -> Adoption:
    return Adoption(
        adoption.subscription,
        adoption.provider_customer,
        adoption.customer,
        adoption.name,
        adoption.plan,
        "skip",
        why,
    )
