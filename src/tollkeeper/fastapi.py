"""A price for one FastAPI route, beside `tollkeeper.asgi.TollkeeperMiddleware`, which settles it.

app.add_middleware(TollkeeperMiddleware, gate=gate, meter=None)

@app.get("/search")
def search(call: Annotated[Decision, Depends(priced("searches", cost=5))]):
    return {"customer": call.who.customer}
"""

from __future__ import annotations

from decimal import Decimal

from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from tollkeeper.asgi import CALL, Passage
from tollkeeper.core.gate import Decision
from tollkeeper.web.rules import Rule, read_rules


class Priced(SecurityBase):
    """A dependency that judges the call and gives the Decision. In the OpenAPI document it is the security scheme `ApiKey`."""

    def __init__(self, rule: Rule, scope: str | None) -> None:
        self.model = HTTPBearerModel(description="Your API key.")
        self.scheme_name = "ApiKey"
        self._rule = rule
        self._scope = scope

    async def __call__(self, request: HTTPConnection) -> Decision:
        passage = request.scope.get(CALL)
        if not isinstance(passage, Passage):
            raise RuntimeError(
                "A route has a price, and nothing settles it: app.add_middleware(TollkeeperMiddleware, gate=gate, meter=None)."
            )
        return await passage.charge(request.scope, self._rule, self._scope)


def priced(meter: str, cost: int | str | Decimal = 1, *, scope: str | None = None) -> Priced:
    """`Depends(priced("searches", cost=5))`. `scope`: one that the key must have. Raises InvalidRequest for what is no meter or cost."""
    return Priced(read_rules(meter, str(cost)).default, scope)
