"""Whether the server lives, is ready, and how its storage fares. No token needed; nothing secret told."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from tollkeeper import __version__
from tollkeeper.core.errors import StorageUnavailable, TollkeeperError
from tollkeeper.web.api.shapes import Shown
from tollkeeper.web.errors import NotReady, documented
from tollkeeper.web.routes import StrictRoute, services_of

router = APIRouter(tags=["Health"], route_class=StrictRoute)


class Health(Shown):
    """`status` is `failing` when storage is, `draining` from the first signal to stop on."""

    status: Literal["ok", "draining", "failing"]
    version: str = Field(examples=["0.1.0"])
    storage: Literal["ok", "failing"]


class Alive(Shown):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/health", summary="Health", response_model=Health, responses={503: {"model": Health, "x-codes": []}})
def get_health(request: Request) -> Response:
    """Status, version and the state of storage; 503 unless all is well."""
    services = services_of(request)
    storage: Literal["ok", "failing"] = "ok"
    try:
        services.storage_state()
    except TollkeeperError:
        storage = "failing"
    status: Literal["ok", "draining", "failing"] = "ok" if storage == "ok" else "failing"
    if status == "ok" and services.draining():
        status = "draining"
    shown = Health(status=status, version=__version__, storage=storage)
    return JSONResponse(shown.model_dump(), 200 if status == "ok" else 503)


@router.get("/livez", summary="Alive?")
async def get_livez() -> Alive:
    """200 as long as the process answers; restart it when it does not."""
    return Alive()


@router.get("/readyz", summary="Ready?", responses=documented("not_ready"))
def get_readyz(request: Request) -> Alive:
    """200 when requests may be sent here; 503 while stopping, or when storage fails."""
    services = services_of(request)
    if services.draining():
        raise NotReady("The server is stopping. It finishes what it has begun; send new requests elsewhere.")
    try:
        services.storage_state()
    except StorageUnavailable:
        raise
    except TollkeeperError as error:
        raise StorageUnavailable(error.detail) from error
    return Alive()
