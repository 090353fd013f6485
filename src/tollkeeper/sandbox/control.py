"""What is not Stripe's: /sandbox/clock, /sandbox/faults, /sandbox/webhooks, /sandbox/keys, /sandbox/calls, /sandbox/state.
JSON in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tollkeeper.sandbox.faults import BadFault
from tollkeeper.sandbox.render import render
from tollkeeper.sandbox.thin_events import instant_text

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

Endpoint = Callable[[Request], Awaitable[JSONResponse]]
SETTLE_SECONDS = 30.0


class Bad(ValueError):
    """The request cannot be followed; the text says why."""


async def _body(request: Request, *allowed: str) -> dict[str, Any]:
    try:
        found = await request.json() if await request.body() else {}
    except ValueError:
        raise Bad("the body is not JSON") from None
    if not isinstance(found, dict):
        raise Bad("the body is not an object")
    if unknown := sorted(set(found) - set(allowed)):
        raise Bad(f"unknown: {', '.join(unknown)}; known: {', '.join(allowed)}")
    return found


def control_routes(world: World) -> list[Route]:
    """The routes of the control surface."""

    def route(path: str, methods: list[str], function: Callable[[World, Request], Awaitable[Any]]) -> Route:
        async def endpoint(request: Request) -> JSONResponse:
            try:
                return JSONResponse(await function(world, request))
            except (Bad, BadFault) as fault:
                return JSONResponse({"error": str(fault)}, 400)

        return Route(f"/sandbox{path}", endpoint, methods=methods)

    return [
        route("/clock", ["GET", "POST"], clock),
        route("/faults", ["GET", "POST", "DELETE"], faults),
        route("/webhooks", ["GET", "POST"], webhooks),
        route("/keys", ["GET", "POST"], keys),
        route("/calls", ["GET", "DELETE"], calls),
        route("/state", ["GET"], state),
    ]


def _instant(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise Bad(f"not an instant: {value}") from None
    if found.tzinfo is None:
        raise Bad(f"an instant needs an offset from UTC: {value}")
    return found.timestamp()


async def clock(world: World, request: Request) -> Any:
    """{"set": RFC 3339 or seconds} or {"advance": seconds}, and {"frozen": true|false}: without it the clock runs on as it did."""
    if request.method == "POST":
        given = await _body(request, "set", "advance", "frozen")
        if "set" in given and "advance" in given:
            raise Bad("either set or advance")
        now = world.clock.now()
        target = _instant(given["set"]) if "set" in given else now
        if "advance" in given:
            if isinstance(given["advance"], bool) or not isinstance(given["advance"], int | float):
                raise Bad("advance is a number of seconds")
            target = now + given["advance"]
        frozen = given.get("frozen", world.clock.frozen)
        if not isinstance(frozen, bool):
            raise Bad("frozen is true or false")
        world.move_to(target, frozen=frozen)
    now = world.clock.now()
    return {"now": instant_text(now), "seconds": now, "frozen": world.clock.frozen}


async def faults(world: World, request: Request) -> Any:
    """POST a fault (faults.py) or {"meter_events_per_second": n}; DELETE lifts the one of ?id=, or all."""
    if request.method == "POST":
        given = await _body(request, "kind", "method", "path", "count", "rate", "ms", "skip", "meter_events_per_second")
        if "meter_events_per_second" in given:
            bound = given.pop("meter_events_per_second")
            if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int) or bound < 0):
                raise Bad("meter_events_per_second is a whole number, or null for no bound")
            world.faults.meter_events_per_second = bound
        if given:
            world.faults.add(given)
    if request.method == "DELETE":
        world.faults.clear(request.query_params.get("id"))
        if "id" not in request.query_params:
            world.faults.meter_events_per_second = None
    return {"faults": world.faults.show(), "meter_events_per_second": world.faults.meter_events_per_second}


_SETTINGS: dict[str, tuple[type, ...]] = {
    "hold": (bool,),
    "reorder": (bool,),
    "copies": (int,),
    "drop": (int,),
    "concurrency": (int,),
    "sign_with": (str,),
    "retry_seconds": (list,),
}


async def webhooks(world: World, request: Request) -> Any:
    """Settings: hold, reorder, copies (deliveries of each event), drop (the next n events), concurrency, sign_with, retry_seconds.

    Done once, in this order: "release", "retry_now", "discard" (true), "resend" (an event's id), "roll" (an endpoint's id: a
    new secret beside the
    old), "settle" (true: answered when nothing is due or on its way).
    """
    hooks = world.webhooks
    result: dict[str, Any] = {}
    if request.method == "POST":
        given = await _body(request, *_SETTINGS, "release", "retry_now", "discard", "resend", "roll", "settle")
        for name, kinds in _SETTINGS.items():
            if name in given:
                _set(world, name, kinds, given[name])
        for name in ("release", "retry_now", "discard"):
            if given.get(name):
                result[name] = getattr(hooks, name)()
        if "resend" in given:
            event = world.store.get("event", given["resend"]) or world.store.get("v2.core.event", given["resend"])
            if event is None:
                raise Bad(f"no such event: {given['resend']}")
            for endpoint in hooks.endpoints():
                if (endpoint.get("event_payload") == "thin") == (event["object"] == "v2.core.event"):
                    hooks.send(event, endpoint)
        if "roll" in given:
            found = next((row for row in hooks.endpoints() if row["id"] == given["roll"]), None)
            if found is None:
                raise Bad(f"no such endpoint: {given['roll']}")
            result["secret"] = hooks.roll(found)
        if given.get("settle"):
            result["settled"] = await hooks.settle(SETTLE_SECONDS)
    waiting = hooks.waiting()
    return {
        **result,
        **{name: getattr(hooks, name) for name in _SETTINGS},
        "waiting": len(waiting),
        "held": sum(delivery["held"] for delivery in waiting),
        "attempts": list(hooks.attempts)[::-1],
    }


def _set(world: World, name: str, kinds: tuple[type, ...], value: Any) -> None:
    if type(value) not in kinds:
        raise Bad(f"{name} is a {kinds[0].__name__}")
    if isinstance(value, int) and value < (1 if name in ("copies", "concurrency") else 0):
        raise Bad(f"{name} is too small")
    if name == "sign_with" and value not in ("wall", "sandbox"):
        raise Bad('sign_with is "wall" or "sandbox"')
    if name == "retry_seconds":
        if not all(isinstance(item, int | float) and item >= 0 for item in list(value)):
            raise Bad("retry_seconds are numbers")
        value = tuple(value)
    setattr(world.webhooks, name, value)


async def keys(world: World, request: Request) -> Any:
    """POST {"key", "permissions": {"customer": "read"|"write", …} or null for all, "revoked": false}. Only the keys named here are cut."""
    if request.method == "POST":
        given = await _body(request, "key", "permissions", "revoked")
        permissions = given.get("permissions")
        if not isinstance(given.get("key"), str) or not (permissions is None or isinstance(permissions, dict)):
            raise Bad("key is text, permissions an object or null")
        world.keys[given["key"]] = {"permissions": permissions, "revoked": bool(given.get("revoked", False))}
        world.store.set_setting("keys", world.keys)
    from tollkeeper.sandbox.api import shown_key

    return {"keys": [{"key": shown_key(key), **held} for key, held in world.keys.items()]}


async def calls(world: World, request: Request) -> Any:
    """The last calls, newest first: ?method=, ?path=, ?limit= (100). DELETE forgets them."""
    if request.method == "DELETE":
        world.calls.clear()
    query = request.query_params
    found = [
        call
        for call in reversed(world.calls)
        if query.get("method", call["method"]) == call["method"] and query.get("path", call["path"]) == call["path"]
    ]
    limit = query.get("limit", "100")
    if not limit.isdigit():
        raise Bad("limit is a whole number")
    return {"calls": found[: int(limit)]}


async def state(world: World, request: Request) -> Any:
    """How many objects of each kind there are, or with ?kind= the objects themselves, newest first."""
    kind = request.query_params.get("kind")
    if kind is not None:
        return {"kind": kind, "objects": [render(world, row) for row in world.store.table(kind).newest()]}
    return {
        "account": world.account_id,
        "now": instant_text(world.clock.now()),
        "frozen": world.clock.frozen,
        "objects": {name: len(world.store.table(name)) for name in world.store.kinds() if not name.startswith("_")},
        "meter_events": world.meters.count(),
        "waiting_deliveries": len(world.store.table("_delivery")),
    }
