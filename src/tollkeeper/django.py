"""The gate inside a Django project, under WSGI and ASGI alike.

    MIDDLEWARE = ["tollkeeper.django.TollkeeperMiddleware", …]
    TOLLKEEPER = {
        "gate": lambda: Gate.open(BASE_DIR / "tollkeeper.db", catalog=BASE_DIR / "tollkeeper.toml"),
        "meter": "api_calls",
        "free": ["/admin"],
        "prices": ["POST /search=searches:5"],
    }

A view finds the decision in `request.tollkeeper`: `.who.customer`, `.who.plan`, `.request_id`; None where a path is free.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from tollkeeper.web.identity import replaced, spelled
from tollkeeper.web.inside import Answer, Call, Gate, Toll
from tollkeeper.wsgi import call_of, headers_of, identify


class TollkeeperMiddleware:
    """Judges every call before the views, and counts it when they have answered 2xx, before the first byte leaves.

    `settings.TOLLKEEPER`: `gate`, a gate or a function that opens one, which is then called once per process;
    `meter`; and the options of `tollkeeper.web.inside.Toll`. Raises KeyError, InvalidRequest for what is missing or off.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        options = dict(settings.TOLLKEEPER)
        gate = options.pop("gate")
        self.toll = Toll(opened(gate) if callable(gate) else gate, options.pop("meter"), **options)
        self._get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._async:
            return self._call_async(request)
        call = _call(self.toll, request)
        answer = call.enter()
        if answer is not None:
            return _response(answer)
        _identify(request, call)
        try:
            response = self._get_response(request)
        except BaseException:
            call.settle(False)
            raise
        return _told(call, call.settle(200 <= response.status_code < 300), response)

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        call = _call(self.toll, request)
        answer = await call.enter_async()
        if answer is not None:
            return _response(answer)
        _identify(request, call)
        try:
            response = await self._get_response(request)
        except BaseException:
            await call.settle_async(False)
            raise
        return _told(call, await call.settle_async(200 <= response.status_code < 300), response)


@cache
def opened(open_gate: Callable[[], Gate]) -> Gate:
    """Once per process, however often Django loads its middleware."""
    return open_gate()


def _call(toll: Toll, request: HttpRequest) -> Call:
    environ = {"QUERY_STRING": "", **request.META, "REQUEST_METHOD": request.method}
    environ["PATH_INFO"] = request.path_info.encode("utf-8", "surrogateescape").decode("latin-1")
    return call_of(toll, environ)


def _identify(request: HttpRequest, call: Call) -> None:
    identify(request.META, call)
    request.__dict__.pop("headers", None)  # made of META when it was first asked for
    request.tollkeeper = call.decision


def _told(call: Call, answer: Answer | None, response: HttpResponseBase) -> HttpResponseBase:
    """The response for the client: the views', and what is left; or ours when the call cannot be counted."""
    if answer is not None:
        response.close()
        return _response(answer)
    told = call.told(())
    limited = len(told) > 1
    if told:
        for name in list(response.headers):
            if replaced(spelled(name.lower().encode("latin-1")), limited):
                del response.headers[name]
    for name, value in told:
        response.headers[name.decode()] = value.decode()
    return response


def _response(answer: Answer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, headers=dict(headers_of(answer)))
