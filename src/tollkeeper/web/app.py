"""The FastAPI application: everything off the hot path."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.middleware import Middleware

from tollkeeper import __version__
from tollkeeper.web import buy
from tollkeeper.web.api.hot import HOT
from tollkeeper.web.docs import docs_router
from tollkeeper.web.errors import Problems
from tollkeeper.web.openapi import ROUTERS, create_openapi
from tollkeeper.web.problems import Edge, handlers
from tollkeeper.web.routes import Services

__all__ = ["Services", "create_app", "create_openapi"]


def create_app(services: Services, *, public_url: str, new_request_id: Callable[[], str]) -> FastAPI:
    """The application over `services`. `public_url` begins links to pages of the docs. Starts nothing, reads no environment."""
    problems = Problems(public_url, new_request_id)
    app = FastAPI(
        title="Tollkeeper API",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Edge, problems=problems)],
        exception_handlers=handlers(problems, lambda path: _methods(app, path)),
    )
    app.state.services = services
    app.state.problems = problems
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(buy.router)
    app.include_router(docs_router(create_openapi, public_url.rstrip("/")))
    return app


def _methods(app: FastAPI, path: str) -> set[str]:
    """Every method that an address takes, the hot endpoints in front included."""
    found = set(HOT.get(path, ()))
    for context in iter_route_contexts(app.routes):
        if context.path_regex is not None and context.path_regex.match(path):
            found |= set(context.methods or ())
    return found
