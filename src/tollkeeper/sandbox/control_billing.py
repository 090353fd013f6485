"""Controls of the billing half: /sandbox/dunning (payment retries) and /sandbox/disputes. JSON in and out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tollkeeper.sandbox.disputes import close_dispute, open_dispute
from tollkeeper.sandbox.errors import ApiError
from tollkeeper.sandbox.invoices import dunning
from tollkeeper.sandbox.render import render

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_AFTER = ("cancel", "unpaid", "past_due")
_REASONS = (
    "fraudulent",
    "product_not_received",
    "duplicate",
    "credit_not_processed",
    "general",
    "subscription_canceled",
    "unrecognized",
)


def routes(world: World) -> list[Route]:
    async def retries(request: Request) -> Response:
        """POST {"retry_days": [3, 5, 7], "after": "cancel" | "unpaid" | "past_due"}; GET shows it."""
        if request.method == "POST":
            given = await _object(request)
            fault = _fault(given)
            if fault:
                return JSONResponse({"error": fault}, 400)
            world.store.set_setting("dunning", {**dunning(world), **given})
        return JSONResponse(dunning(world))

    async def disputes(request: Request) -> Response:
        """POST {"charge": id, "reason": "fraudulent"} opens one; {"dispute": id, "status": "won" | "lost"} closes it."""
        given = await _object(request)
        try:
            if (
                set(given) <= {"charge", "reason"}
                and isinstance(given.get("charge"), str)
                and given.get("reason", "general") in _REASONS
            ):
                row = open_dispute(
                    world, world.require("charge", given["charge"], "charge"), given.get("reason", "general")
                )
            elif set(given) == {"dispute", "status"} and given["status"] in ("won", "lost"):
                row = close_dispute(world, world.require("dispute", str(given["dispute"]), "dispute"), given["status"])
            else:
                return JSONResponse(
                    {"error": 'either {"charge", "reason"} or {"dispute", "status": "won" | "lost"}'}, 400
                )
        except ApiError as fault:
            return JSONResponse({"error": fault.message}, 400)
        return JSONResponse(render(world, row))

    return [
        Route("/sandbox/dunning", retries, methods=["GET", "POST"]),
        Route("/sandbox/disputes", disputes, methods=["POST"]),
    ]


async def _object(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body() or b"{}")
    except ValueError:
        return {"": "not JSON"}
    return found if isinstance(found, dict) else {"": "not an object"}


def _fault(given: dict[str, Any]) -> str | None:
    """What is wrong with settings of retries."""
    if not set(given) <= {"retry_days", "after"}:
        return "settings are retry_days and after"
    days = given.get("retry_days", [])
    if not isinstance(days, list) or not all(
        isinstance(one, int | float) and not isinstance(one, bool) and one > 0 for one in days
    ):
        return "retry_days is a list of numbers above 0"
    return None if given.get("after", "cancel") in _AFTER else f"after is one of {', '.join(_AFTER)}"
