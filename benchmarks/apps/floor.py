"""The floor: decodes a JSON body, encodes a JSON answer of the check's size, and does nothing else. As ASGI and without a task.

`python -m benchmarks.apps.floor asgi|direct PORT` serves it as Tollkeeper's own server serves its checks: `asgi` as any application is
served, `direct` in the protocol itself.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn

from benchmarks.apps.answer import ANSWER
from tollkeeper.web.direct import Exchange

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    decode(body)
    answer = encode(ANSWER)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def answer_direct(exchange: Exchange) -> bool:
    decode(exchange.body)
    answer = encode(ANSWER)
    exchange.answer(200, ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))), answer)
    return True


if __name__ == "__main__":
    if sys.argv[1] == "direct":
        app.direct = {(b"POST", b"/v1/check"): answer_direct}  # type: ignore[attr-defined]
    uvicorn.run(
        app,
        port=int(sys.argv[2]),
        loop="uvloop",
        http="tollkeeper.web.protocol:BoundedProtocol",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
