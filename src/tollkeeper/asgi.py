"""The gate inside an ASGI application (FastAPI, Starlette, Litestar …).

    from tollkeeper import Gate
    from tollkeeper.asgi import TollkeeperMiddleware

    gate = Gate.open("tollkeeper.db", catalog="tollkeeper.toml")
    app.add_middleware(TollkeeperMiddleware, gate=gate, meter="api_calls", free=["/docs"], prices=["POST /search=searches:5"])

The handler finds the decision in `scope["tollkeeper"]`: `.who.customer`, `.who.plan`, `.request_id`; None where a path is free.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Unpack

from tollkeeper.core.gate import Decision
from tollkeeper.web.identity import IDENTITY, spelled
from tollkeeper.web.inside import Answer, Call, Gate, Options, Toll
from tollkeeper.web.rules import Rule

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DECISION: Final = "tollkeeper"
CALL: Final = "tollkeeper.call"


class TollkeeperMiddleware:
    """Judges every HTTP call and WebSocket handshake before `app` hears of it, and counts it when `app` has answered 2xx or accepted.

    `meter`: what is counted; None: only what has a price of its own, in `prices` or by `tollkeeper.fastapi.priced`. The options are those
    of `tollkeeper.web.inside.Toll`. Raises InvalidRequest for one that is off.
    """

    def __init__(self, app: App, *, gate: Gate, meter: str | None, **options: Unpack[Options]) -> None:
        self.app = app
        self.toll = Toll(gate, meter, **options)

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
        scope["headers"] = list(scope["headers"])  # ASGI promises no more than an iterable
        self.call = Call(
            toll,
            scope.get("method", "GET"),
            _path(scope),
            scope["headers"],
            scope.get("query_string", b""),
            client[0] if client else None,
        )
        self._scope = scope
        self._receive_from = receive
        self._send_on = send
        self._gone = False
        self._answered = False

    async def run(self, app: App) -> None:
        call, scope = self.call, self._scope
        try:
            answer = await call.enter_async()
            if answer is not None:
                await self._answer(answer)
                return
            # in place, as Starlette's own middleware does: what stands outside reads the route from the same scope
            kept = [pair for pair in scope["headers"] if not spelled(pair[0]).startswith(IDENTITY)]
            scope["headers"] = kept + [(name.encode(), value.encode()) for name, value in call.identity()]
            scope[DECISION] = call.decision
            scope[CALL] = self
            await app(scope, self._receive, self._send)
        except Exception:
            if not self._answered:
                raise
        finally:
            await call.settle_async(False)  # does nothing to what was settled

    async def charge(self, scope: Scope, rule: Rule, needs: str | None) -> Decision:
        """Judge a call by the price of its route. Raises Answered when it is refused."""
        answer = await self.call.judge_async(rule, needs)
        if answer is not None:
            await self._answer(answer)
            raise Answered
        assert self.call.decision is not None
        scope[DECISION] = self.call.decision
        return self.call.decision

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
            await self._send_on(message)
            return
        await self._send_on({**message, "headers": self.call.told(message.get("headers", ()))})

    async def _settle(self, success: bool) -> None:
        """Before the head of the answer leaves. When it cannot be counted, that is the answer: raises Answered."""
        answer = await self.call.settle_async(success and not self._gone)
        if answer is not None:
            await self._answer(answer)
            raise Answered

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
