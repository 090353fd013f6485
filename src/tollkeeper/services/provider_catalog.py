"""The catalog put on a payment provider's shelf: what differs, and making it so. Ids are kept as each thing is made.

A crash between making a thing and writing its id down is harmless: every call has a key made of what it makes, and what is there already is
found by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import CatalogInvalid
from tollkeeper.core.plans import Plan
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.ports_money import ProviderObject
from tollkeeper.core.provider_catalog import RETIRED, Change, Held, Kind, Thing, changes, event_name, wanted
from tollkeeper.core.provider_prices import rated_here, unbillable_prices

KINDS: Final[tuple[Kind, ...]] = ("product", "meter", "price", "portal")
EVENT_NAME: Final = "event_name"
"""Kind of the row that says under which name usage of a meter is reported."""


class Shelf(Protocol):
    """What of a provider holds products, meters and prices. `ids` finds the id of a thing made before, by kind and key.

    Raises what `core.provider.Provider` raises.
    """

    name: str
    environment: Environment

    def make(self, thing: Thing, ids: Callable[[Kind, str], str], key: str) -> str:
        """The id of the thing, also when it was there."""
        ...

    def change(self, held: Held, thing: Thing, ids: Callable[[Kind, str], str], key: str) -> str:
        """Bring what may be changed up to date, or make another in its place; its id."""
        ...

    def retire(self, held: Held, key: str) -> None:
        """Sell it no more. Who has it keeps it."""
        ...


@dataclass(frozen=True, slots=True)
class RatedHere:
    """A price that the provider cannot bill: it is rated here and put on the invoice as a line."""

    plan: str
    version: int
    price: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShelfPlan:
    """What differs between catalog and provider, in the order in which it is done."""

    environment: Environment
    changes: tuple[Change, ...]
    kept: int
    rated_here: tuple[RatedHere, ...]


class ProviderCatalog:
    """`installation` (the pair id) keeps two installations on one account apart."""

    def __init__(self, database: Database, shelf: Shelf, installation: str, now_us: Callable[[], int]) -> None:
        self._database = database
        self._shelf = shelf
        self._installation = installation
        self._now_us = now_us

    @property
    def environment(self) -> Environment:
        return self._shelf.environment

    def plan(self) -> ShelfPlan:
        """What `apply` would do. Asks the provider nothing.

        Raises CatalogInvalid when no catalog is applied, or has a price that would be billed wrongly.
        """
        with self._database.read() as rows:
            current = rows.catalog.current()
            if current is None:
                raise CatalogInvalid("No catalog is applied yet: tollkeeper catalog apply.")
            used = [rows.catalog.plan(*one) for one in rows.subscriptions.plans_in_use()]
            held = self._held(rows)
        if wrong := [*unbillable_prices(current.catalog.plans.values())]:
            raise CatalogInvalid(f"Prices that {self._shelf.name} cannot be made to bill: {'; '.join(wrong)}.")
        plans = [plan for plan in used if plan is not None]
        things = list(wanted(current.catalog, plans))
        found = changes(things, held)
        return ShelfPlan(
            self._shelf.environment,
            tuple(found),
            len(things) - sum(1 for change in found if change.thing is not None),
            tuple(_rated_here([*current.catalog.plans.values()])),
        )

    def apply(self, told: Callable[[Change, str], None] = lambda change, id: None) -> ShelfPlan:
        """Do it, one thing after the other, each written down as it is done; what was planned. Stops at the first failure."""
        plan = self.plan()
        for change in plan.changes:
            told(change, self._do(change))
        return plan

    def _do(self, change: Change) -> str:
        thing, held = change.thing, change.held
        print_ = thing.fingerprint if thing is not None else RETIRED
        was = held.fingerprint if held is not None else ""
        key = f"tk-{self._installation[:8]}-{change.kind}-{change.key}-{was[:8]}-{print_[:16]}"[:255]
        if thing is None:
            assert held is not None
            self._shelf.retire(held, key)
            id = held.id
        elif held is None:
            id = self._shelf.make(thing, self._id, key)
        else:
            id = self._shelf.change(held, thing, self._id, key)
        with self._database.write() as rows:
            rows.provider_objects.put(self._row(change.kind, change.key, id, print_))
            if change.kind == "meter":
                name = event_name(self._installation, change.key)
                rows.provider_objects.put(self._row(EVENT_NAME, change.key, name, ""))
        return id

    def _id(self, kind: Kind, key: str) -> str:
        with self._database.read() as rows:
            found = rows.provider_objects.get(self._shelf.name, self._shelf.environment, kind, key)
        if found is None:
            raise LookupError(f"{kind} {key} was not made")  # `changes` makes what is referred to first
        return found.id

    def _held(self, rows: Repositories) -> list[Held]:
        name, environment = self._shelf.name, self._shelf.environment
        return [
            Held(kind, one.key, one.id, one.fingerprint)
            for kind in KINDS
            for one in rows.provider_objects.list(name, environment, kind)
        ]

    def _row(self, kind: str, key: str, id: str, fingerprint: str) -> ProviderObject:
        return ProviderObject(self._shelf.name, self._shelf.environment, kind, key, id, fingerprint, self._now_us())


def _rated_here(plans: list[Plan]) -> list[RatedHere]:
    return [
        RatedHere(plan.key, plan.version, price.key, reason)
        for plan in plans
        for price in plan.prices
        if (reason := rated_here(price)) is not None
    ]
