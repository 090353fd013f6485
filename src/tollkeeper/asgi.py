"""The gate inside an ASGI application (FastAPI, Starlette, Litestar …).

    from tollkeeper import Gate
    from tollkeeper.asgi import TollkeeperMiddleware

    gate = Gate.open("tollkeeper.db", catalog="tollkeeper.toml")
    app.add_middleware(TollkeeperMiddleware, gate=gate, meter="api_calls", free=["/docs"], prices=["POST /search=searches:5"])

The handler finds the decision in `scope["tollkeeper"]`: `.who.customer`, `.who.plan`, `.request_id`; None where a path is free.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from decimal import Decimal
from typing import Any, Final

from tollkeeper.core.errors import InvalidRequest, NotFound, TollkeeperError
from tollkeeper.core.gate import Decision
from tollkeeper.web.inside import KEY_HEADERS, KEY_PARAMETERS, Answer, Call, Gate, Toll, misconfigured
from tollkeeper.web.rules import CountOn, Rule

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DECISION: Final = "tollkeeper"
CALL: Final = "tollkeeper.call"


class TollkeeperMiddleware:
    """Judges every HTTP call and WebSocket handshake before `app` hears of it, and counts it when `app` has answered 2xx or accepted.

    `meter`, `cost`: what a call takes; `meter` None: only what has a price of its own, in `prices` or by `tollkeeper.fastapi.priced`.
    `free`: `["/docs", "GET /status"]`, paths (and all below them) that need no key. `prices`: `["[METHOD ]/path=meter[:cost]"]`.
    `count_on` None: as the meter says; `"success"` or `"attempt"`: for all. `docs` begins the links in problems: your server's URL.
    Raises InvalidRequest for an option that is off.
    """

    def __init__(
        self,
        app: App,
        *,
        gate: Gate,
        meter: str | None,
        cost: int | str | Decimal = 1,
        free: Iterable[str] = (),
        prices: Iterable[str] = (),
        count_on: CountOn | None = None,
        key_headers: Iterable[str] = KEY_HEADERS,
        key_parameters: Iterable[str] = KEY_PARAMETERS,
        docs: str = "",
    ) -> None:
        self.app = app
        self.toll = Toll(
            gate,
            meter,
            cost=cost,
            free=free,
            prices=prices,
            count_on=count_on,
            key_headers=key_headers,
            key_parameters=key_parameters,
            docs=docs,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            await Passage(self.toll, scope, receive, send).run(self.app)
        else:
            await self.app(scope, receive, send)


class Answered(OSError):
    """The gate has answered in place of the application, which is to stop. An OSError, as ASGI has it for a client that is gone."""


class Passage:
    """One call through the gate."""

    def __init__(self, toll: Toll, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        self.call = Call(
            toll,
            scope.get("method", "GET"),
            _path(scope),
            scope["headers"],
            scope["query_string"],
            client[0] if client else None,
        )
        self._gate = toll.gate
        self._scope = scope
        self._receive_from = receive
        self._send_on = send
        self._gone = False
        self._answered = False

    async def run(self, app: App) -> None:
        call, scope = self.call, self._scope
        try:
            if await self._enter():
                # in place, as Starlette's own middleware does: what stands outside reads the route from the same scope
                scope["headers"] = call.heard()
                scope[DECISION] = call.decision
                scope[CALL] = self
                await app(scope, self._receive, self._send)
        except Exception:
            if not self._answered:
                raise
        finally:
            if call.decision is not None:
                await self._gate.refund_async(call.decision, limits=False)  # does nothing to what was settled

    async def _enter(self) -> bool:
        """Judge by the rules. False when the gate has answered."""
        try:
            rule = self.call.rule()
            if rule.meter is not None:
                await self._judge(rule)
        except Answered:
            return False
        except TollkeeperError as error:
            await self._answer(self.call.failure(error))
            return False
        return True

    async def charge(self, scope: Scope, rule: Rule, needs: str | None) -> Decision:
        """Judge a call by the price of its route. Raises Answered when it is refused."""
        try:
            decision = await self._judge(rule, needs)
        except TollkeeperError as error:
            await self._answer(self.call.failure(error))
            raise Answered from error
        scope[DECISION] = decision
        return decision

    async def _judge(self, rule: Rule, needs: str | None = None) -> Decision:
        call, gate = self.call, self._gate
        key = call.key()
        try:
            # a cost of 0 would only ask: what costs nothing is judged without its meter, and so limited
            meter = rule.meter if rule.cost else None
            decision = await gate.judge_async(key, meter, rule.cost, scope=needs, ip=call.ip)
        except (NotFound, InvalidRequest) as error:
            raise misconfigured(error) from error
        at_once = call.judged(decision, rule)
        if not decision.allowed:
            await self._answer(call.refusal())
            raise Answered
        if at_once:
            await gate.count_async(decision)
        return decision

    async def _receive(self) -> Message:
        message = await self._receive_from()
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            self._gone = True
        return message

    async def _send(self, message: Message) -> None:
        if self._answered:
            raise Answered
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            await self._settle(200 <= message["status"] < 300)
        elif kind == "websocket.accept":
            await self._settle(True)
        else:
            if kind == "websocket.close":
                await self._settle(False)  # does nothing to one that was accepted
            await self._send_on(message)
            return
        await self._send_on({**message, "headers": self.call.told(message.get("headers", ()))})

    async def _settle(self, success: bool) -> None:
        """Before the head of the answer leaves. When it cannot be counted, that is the answer: raises Answered."""
        decision = self.call.decision
        if decision is None:
            return
        if success and not self._gone:
            try:
                await self._gate.count_async(decision)
            except TollkeeperError as error:
                await self._answer(self.call.failure(error))
                raise Answered from error
        else:
            await self._gate.refund_async(decision, limits=False)

    async def _answer(self, answer: Answer) -> None:
        self._answered = True
        kind = "http.response"
        if self._scope["type"] == "websocket":
            if "websocket.http.response" not in (self._scope.get("extensions") or {}):
                await self._send_on({"type": "websocket.close", "code": 1008})
                return
            kind = "websocket.http.response"
        await self._send_on({"type": f"{kind}.start", "status": answer.status, "headers": answer.headers})
        await self._send_on({"type": f"{kind}.body", "body": answer.body})


def _path(scope: Scope) -> bytes:
    """The path below the application's own root, as its router sees it."""
    path, root = scope["path"], scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) :][:1] in ("", "/"):
        path = path[len(root) :]
    text: str = path
    return text.encode("utf-8", "surrogateescape")
