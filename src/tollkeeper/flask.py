"""A price for one Flask view.

    from tollkeeper.flask import priced

    @app.get("/search")
    @priced(gate, "searches", cost=5)
    def search():
        return {"customer": g.tollkeeper.who.customer}

For a whole application: `app.wsgi_app = tollkeeper.wsgi.TollkeeperMiddleware(app.wsgi_app, gate=gate, meter="api_calls")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec

from flask import Response, after_this_request, current_app, g, request

from tollkeeper.web.identity import replaced, spelled
from tollkeeper.web.inside import KEY_HEADERS, KEY_PARAMETERS, Answer, Gate, Toll
from tollkeeper.web.rules import CountOn
from tollkeeper.wsgi import DECISION, call_of, headers_of

P = ParamSpec("P")


def priced(
    gate: Gate,
    meter: str,
    cost: int | str | Decimal = 1,
    *,
    scope: str | None = None,
    count_on: CountOn | None = None,
    key_headers: Iterable[str] = KEY_HEADERS,
    key_parameters: Iterable[str] = KEY_PARAMETERS,
    docs: str = "",
) -> Callable[[Callable[P, Any]], Callable[P, Response]]:
    """Judges before the view runs and counts when it has answered 2xx; below the route's decorator. The decision stands in `g.tollkeeper`.

    `scope`: one that the key must have. The options are those of `tollkeeper.web.inside.Toll`. Raises InvalidRequest for one that is off.
    """
    toll = Toll(
        gate,
        meter,
        cost=cost,
        count_on=count_on,
        key_headers=key_headers,
        key_parameters=key_parameters,
        docs=docs,
    )
    rule = toll.rules.default

    def decorate(view: Callable[P, Any]) -> Callable[P, Response]:
        @wraps(view)
        def gated(*args: P.args, **kwargs: P.kwargs) -> Response:
            if "tollkeeper" in g or request.environ.get(DECISION) is not None:
                raise RuntimeError(f"{request.path} has two prices, by path or by view: give it one.")
            call = call_of(toll, request.environ)
            answer = call.judge(rule, scope)
            if answer is not None:
                return _response(answer)
            g.tollkeeper = call.decision

            @after_this_request
            def settle(response: Response) -> Response:
                answer = call.settle(200 <= response.status_code < 300)
                if answer is not None:
                    response.close()
                    return _response(answer)
                told = [(name.decode(), value.decode()) for name, value in call.told(())]
                for name in {name for name, _ in response.headers}:
                    if replaced(spelled(name.lower().encode("latin-1")), len(told) > 1):
                        response.headers.remove(name)
                response.headers.extend(told)
                return response

            try:
                return current_app.make_response(current_app.ensure_sync(view)(*args, **kwargs))
            except BaseException:
                call.settle(False)
                raise

        return gated

    return decorate


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, headers_of(answer))
