"""The OpenAPI document, made from the code: the routes of the application and the hot endpoints in front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, APIRouter

from tollkeeper import __version__
from tollkeeper.web.api import (
    catalog,
    checkout,
    corrections,
    cost,
    customers,
    invoices,
    keys,
    log,
    meters,
    outbox,
    rate,
    reservations,
    shadow,
    stripe,
    subscriptions,
    usage,
    webhooks,
)
from tollkeeper.web.api.hot import hot_operations
from tollkeeper.web.errors import PROBLEM_SCHEMA, documented
from tollkeeper.web.health import router as health
from tollkeeper.web.routes import StrictRoute

ROUTERS: Final[Sequence[APIRouter]] = (
    reservations.router,
    meters.router,
    shadow.router,
    usage.router,
    log.router,
    corrections.router,
    rate.router,
    cost.router,
    customers.router,
    keys.router,
    keys.imports,
    catalog.router,
    checkout.router,
    subscriptions.router,
    invoices.router,
    stripe.router,
    webhooks.router,
    outbox.router,
    health,
)

TAGS: Final[Sequence[Mapping[str, str]]] = (
    {
        "name": "Gate",
        "description": "Who is this, may they, what does it cost: one question, one answer, counted exactly once.",
    },
    {"name": "Events", "description": "Usage that does not pass the gate: jobs, tokens, minutes, bytes."},
    {"name": "Usage", "description": "What was used. A number is visible as soon as its event is acknowledged."},
    {"name": "Rating", "description": "What usage costs, line by line. Amounts are exact, and lines add up to them."},
    {"name": "Customers", "description": "Who is billed, who belongs to them, and the plan they are on."},
    {
        "name": "Keys",
        "description": "A secret is shown once, when it is made; kept is a digest. Revoking takes effect at once.",
    },
    {
        "name": "Catalog",
        "description": "Meters, plans, prices, limits and quotas: one TOML text, a version for every change. "
        "Subscribers stay on the version they bought.",
    },
    {
        "name": "Stripe",
        "description": "The account that collects the money: what it holds of the catalog, and whether all is in order.",
    },
    {
        "name": "Webhooks",
        "description": "What the payment provider tells: each event is stored once, and its effect happens once.",
    },
    {
        "name": "Selling",
        "description": "Checkouts at the payment provider, what came of them, and invoices.",
    },
    {
        "name": "Outbox",
        "description": "What is owed to the payment provider, and whether it has what the ledger has.",
    },
    {"name": "Health", "description": "For load balancers and monitors. No token needed."},
)

DESCRIPTION: Final = """\
Send `Authorization: Bearer …` with every request under `/v1`: the **admin token** may do everything, a **server key** what its
scopes say (`check`, `events:write`, `usage:read`, `metrics:read`), a **customer's own key** reads its own usage.

Bodies are JSON in UTF-8. Decimals are strings, money is in major units, times are RFC 3339 with a zone. A field or parameter that
is not known is refused. Lists come in pages: pass `next_cursor` on as `cursor`.

Every error is a problem (RFC 9457) with a `code` to branch on, a link to [its page](/docs/errors), and a `request_id`, which is
also in the header `X-Request-Id` of every answer. Send your own `X-Request-Id` (8 to 64 of `A-Z a-z 0-9 _ -`) to find a
request again.
"""

_NEEDS: Final = {
    "admin": "Needs the admin token.",
    "check": "Needs the admin token or a server key with `check`.",
    "usage:read": "Needs the admin token, a server key with `usage:read`, or a customer's own key.",
}


def create_openapi() -> dict[str, Any]:
    """The whole document; the same for every installation."""
    routes = [route for router in ROUTERS for route in router.routes]
    document: dict[str, Any] = get_openapi(
        title="Tollkeeper API",
        version=__version__,
        summary="Keys, limits, quotas and usage for what you have already built.",
        description=DESCRIPTION,
        routes=routes,
        tags=[dict(tag) for tag in TAGS],
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/"}],
    )
    schemas = document["components"]["schemas"]
    paths, shapes = hot_operations()
    schemas.update(shapes)
    document["paths"] = paths | document["paths"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "The admin token or a key."}
    }
    for route in routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                _complete(document["paths"][route.path_format][method.lower()], route)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _complete(operation: dict[str, Any], route: APIRoute) -> None:
    """Add what every operation has: who may call it, and the problems that stand before its handler."""
    operation["operationId"] = route.name
    responses = operation["responses"]
    if 422 not in route.responses:
        responses.pop("422", None)  # FastAPI's own shape of a fault, which handlers() replaces
    statuses: list[int] = []
    if isinstance(route, StrictRoute) and route.scope is not None:
        operation["security"] = [{"bearer": []}]
        operation["x-needs"] = _NEEDS[route.scope]
        statuses += [401, 403, 503]
    if operation.get("parameters") or "requestBody" in operation:
        statuses.append(400)
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        statuses.append(404)
    if "requestBody" in operation:
        statuses += [413, 415]
    for parameter in operation.get("parameters", ()):
        _leave_out_null(parameter)
    for status, response in documented(*statuses).items():
        responses.setdefault(str(status), response)
    operation["responses"] = dict(sorted(responses.items()))


def _leave_out_null(parameter: dict[str, Any]) -> None:
    """An address cannot say null: a parameter that may be left out is of its one type."""
    schema = parameter["schema"]
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        parameter["schema"] = {**options[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
