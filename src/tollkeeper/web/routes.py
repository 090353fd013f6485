"""What every route of the application does before its handler: who calls, may they, and is the request well-formed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from tollkeeper.core.buy_links import BuyLinks
from tollkeeper.core.context import SCOPE_CALLER
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.services.catalog import CatalogService
from tollkeeper.services.checkout import Checkouts
from tollkeeper.services.corrections import Corrections
from tollkeeper.services.customers import CustomerService
from tollkeeper.services.doctor import Doctor
from tollkeeper.services.drift import Drift
from tollkeeper.services.inbox import Inbox
from tollkeeper.services.invoicing import Invoicing
from tollkeeper.services.keys import KeyService
from tollkeeper.services.outbox import Outbox
from tollkeeper.services.provider_catalog import ProviderCatalog
from tollkeeper.services.provider_import import ProviderImport
from tollkeeper.services.rating import Rating
from tollkeeper.services.reports import Reports
from tollkeeper.services.reservations import Reservations
from tollkeeper.services.shadow import Shadow
from tollkeeper.services.usage import Usage
from tollkeeper.web.auth import Authenticator, Caller
from tollkeeper.web.errors import UnsupportedMediaType
from tollkeeper.web.json import StrictDecoder

_JSON: Final[StrictDecoder[Any]] = StrictDecoder()


@dataclass(frozen=True, slots=True)
class MoneyServices:
    """What collects the money. None: there is no payment provider."""

    provider_catalog: ProviderCatalog | None = None
    doctor: Doctor | None = None
    provider_import: ProviderImport | None = None
    inbox: Inbox | None = None
    checkouts: Checkouts | None = None
    links: BuyLinks | None = None
    invoicing: Invoicing | None = None
    outbox: Outbox | None = None
    drift: Drift | None = None
    reports: Reports | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """What the application serves. `storage_state()` raises when storage fails; `draining()` is true once the server is to stop."""

    catalog: CatalogService
    customers: CustomerService
    keys: KeyService
    usage: Usage
    rating: Rating
    reservations: Reservations
    shadow: Shadow
    corrections: Corrections
    authenticator: Authenticator
    storage_state: Callable[[], None]
    draining: Callable[[], bool]
    money: MoneyServices = MoneyServices()


class StrictRoute(APIRoute):
    """Authenticates, then reads the body as strict JSON; only then FastAPI sees the request. `scope` None: anybody may call."""

    scope: ClassVar[str | None] = None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        body = self.body_field
        known = _query_names(self.dependant)

        async def strict(request: Request) -> Response:
            if self.scope is not None:
                caller = await authenticate(request)
                caller.require(self.scope)
                request.scope[SCOPE_CALLER] = caller
            _check_query(request, known)
            if body is not None:
                request = await DecodedRequest.read(request, required=body.field_info.is_required())
            return await handle(request)

        return strict


class AdminRoute(StrictRoute):
    """Needs the admin token."""

    scope = "admin"


class CheckRoute(StrictRoute):
    """Needs the scope `check`, as `/v1/check` does."""

    scope = "check"


class UsageRoute(StrictRoute):
    """Needs the scope `usage:read`, which a customer's own key has for its own usage."""

    scope = "usage:read"


async def authenticate(request: Request) -> Caller:
    """Raises Unauthorized, Forbidden. Off the loop when storage must be read."""
    authenticator = services_of(request).authenticator
    authorization = request.headers.get("authorization")
    peer = request.client.host if request.client else None
    caller = authenticator.from_memory(authorization, peer)
    if caller is None:
        caller = await run_in_threadpool(authenticator.authenticate, authorization, peer)
    return caller


class DecodedRequest(Request):
    """A request whose body was read and decoded strictly."""

    _value: Any

    @classmethod
    async def read(cls, request: Request, *, required: bool) -> Request:
        """Raises UnsupportedMediaType, TooLarge, InvalidRequest. A body that may be left out and is, is not decoded."""
        sent = request.headers.get("content-type", "")
        kind = sent.partition(";")[0].strip().lower()
        if kind and kind != "application/json":
            raise UnsupportedMediaType(f"Content-Type is {kind[:80]!r}; application/json is expected.")
        body = await request.body()
        if not body and not required:
            return request
        if body and not kind:
            raise UnsupportedMediaType("Content-Type is missing; application/json is expected.")
        decoded = cls(request.scope, request.receive)
        decoded._body = body
        decoded._value = _JSON.decode(body)
        return decoded

    async def json(self) -> Any:
        return self._value


def _query_names(dependant: Dependant) -> set[str]:
    """The parameters an address takes; those of a model are its fields."""
    names: set[str] = set()
    for part in (dependant, *dependant.dependencies):
        for field in part.query_params:
            model = field.field_info.annotation
            if isinstance(model, type) and issubclass(model, BaseModel):
                names |= {found.alias or name for name, found in model.model_fields.items()}
            else:
                names.add(field.alias)
    return names


def _check_query(request: Request, known: set[str]) -> None:
    """A parameter that is misspelt or sent twice would be passed over in silence."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        field = f"query.{name[:60] if name.isprintable() else ascii(name[:60])}"
        if name not in known:
            expected = f"; there are {', '.join(sorted(known))}" if known else ""
            raise InvalidRequest(f"{field}: there is no such parameter{expected}.", field=field)
        if names.count(name) > 1:
            raise InvalidRequest(
                f"{field}: this parameter is sent {names.count(name)} times; send it once.", field=field
            )


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _catalog(request: Request) -> CatalogService:
    return services_of(request).catalog


async def _customers(request: Request) -> CustomerService:
    return services_of(request).customers


async def _keys(request: Request) -> KeyService:
    return services_of(request).keys


async def _shadow(request: Request) -> Shadow:
    return services_of(request).shadow


def _corrections(request: Request) -> Corrections:
    return services_of(request).corrections


def _reservations(request: Request) -> Reservations:
    return services_of(request).reservations


def _usage(request: Request) -> Usage:
    return services_of(request).usage


async def _rating(request: Request) -> Rating:
    return services_of(request).rating


async def _money(request: Request) -> MoneyServices:
    return services_of(request).money


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope[SCOPE_CALLER]
    return caller


CatalogDep = Annotated[CatalogService, Depends(_catalog)]
CustomersDep = Annotated[CustomerService, Depends(_customers)]
KeysDep = Annotated[KeyService, Depends(_keys)]
ShadowDep = Annotated[Shadow, Depends(_shadow)]
CorrectionsDep = Annotated[Corrections, Depends(_corrections)]
ReservationsDep = Annotated[Reservations, Depends(_reservations)]
UsageDep = Annotated[Usage, Depends(_usage)]
RatingDep = Annotated[Rating, Depends(_rating)]
MoneyDep = Annotated[MoneyServices, Depends(_money)]
CallerDep = Annotated[Caller, Depends(_caller)]
