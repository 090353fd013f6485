"""The gate in front of a server that knows nothing of it: plain ASGI, one client session, bodies streamed both ways."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from email.utils import formatdate
from time import perf_counter
from typing import Any, Final

import aiohttp
import msgspec
from starlette.types import Receive, Scope, Send
from yarl import URL

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.gate import Decision
from tollkeeper.core.throttle import Throttle
from tollkeeper.services.gate import Gate
from tollkeeper.services.reservations import Reservations
from tollkeeper.web.errors import MEDIA_TYPE, NotSupported, Problems
from tollkeeper.web.identity import called
from tollkeeper.web.judging import judge
from tollkeeper.web.proxy_call import Call
from tollkeeper.web.proxy_head import Head
from tollkeeper.web.proxy_options import ProxyOptions
from tollkeeper.web.rules import Rule

log = logging.getLogger("tollkeeper.proxy")

# Below the 5 s after which uvicorn and Node close an idle connection, so that it is not used while it closes.
KEEP_ALIVE: Final = 4.0
CONNECT: Final = 10.0
HEAD_BYTES: Final = 64 * 1024
LEFT: Final = 499
_encode = msgspec.json.Encoder().encode


class Counts:
    """Since the start. `calls`: by what became of them: VALID, FREE, a refusal's code, a failure's code, CLIENT_GONE, UPSTREAM_BROKE.

    `counted` and `given_back`: admitted calls that were, or were not, recorded. `unread`: of those counted, whose size could not be read.
    """

    __slots__ = ("calls", "counted", "given_back", "in_flight", "unread")

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.counted = 0
        self.given_back = 0
        self.unread = 0
        self.in_flight = 0


class Proxy:
    """Runs on one event loop, between `start` and `close`.

    `problems` makes the error answers, `docs` begins the links to their pages. `finished(scope, status, started)` is told of each call:
    status 499 where the client left before the answer; `started` is `time.perf_counter()`.
    """

    def __init__(
        self,
        gate: Gate,
        options: ProxyOptions,
        problems: Problems,
        docs: str = "",
        finished: Callable[[Scope, int, float], None] = lambda scope, status, started: None,
        *,
        reservations: Reservations,
    ) -> None:
        self.gate = gate
        self.reservations = reservations
        self.options = options
        self.problems = problems
        self.docs = docs
        self.counts = Counts()
        self.throttle = None if options.adaptive is None else Throttle(options.adaptive)
        self._finished = finished
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        # no limit on connections: a stream holds one for hours, and the server in front bounds what is open
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE, ttl_dns_cache=30)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            timeout=aiohttp.ClientTimeout(sock_connect=min(CONNECT, self.options.timeout)),
            max_line_size=HEAD_BYTES,
            max_field_size=HEAD_BYTES,
            max_headers=1000,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotSupported("Only HTTP is passed on.")
        started = perf_counter()
        call = Call(self, scope, receive, send)
        self.counts.in_flight += 1
        try:
            await call.run()
        except TollkeeperError as error:
            await self._fail(call, error)
        except Exception:
            request_id = self.problems.request_id(scope)
            log.exception("a proxied call failed", extra={"request_id": request_id})
            await self._fail(call, TollkeeperError(call.said("Something failed at the gate.")))
        finally:
            self.counts.in_flight -= 1
            self._finished(scope, call.status or LEFT, started)

    async def judge(self, head: Head, rule: Rule) -> Decision:
        """Identify, limit, take. Raises InvalidRequest, and TollkeeperError when the gate is not set up for this path."""
        return await judge(self.gate, head.keys, rule, head.ip, self.options.places)

    def counts_attempts(self, meter: str | None) -> bool:
        """Whether this meter counts calls that fail, too."""
        if self.options.count_on is not None:
            return self.options.count_on == "attempt"
        entry = self.gate.meters.current.by_key.get(meter or "")
        return entry is not None and entry.meter.count_on == "attempt"

    async def request(self, head: Head, body: Any, identity: Sequence[tuple[str, str]]) -> aiohttp.ClientResponse:
        """Call the upstream; returns with the head of its answer. Raises aiohttp.ClientError, OSError, TimeoutError."""
        if self._session is None:
            await self.start()
        assert self._session is not None
        fields = [*head.fields, *identity]
        if self.options.keep_host and head.host:
            fields.append(("host", head.host))
        return await self._session.request(
            head.method,
            URL(self.options.upstream + head.target, encoded=True),
            headers=fields,
            data=body,
            allow_redirects=False,
        )

    async def refuse(self, call: Call, decision: Decision) -> None:
        """The gate said no: its status, its problem, its headers. The upstream never hears of it."""
        self.counts.calls[decision.code] += 1
        body = _encode(decision.problem(self.docs))
        headers = [(b"content-type", MEDIA_TYPE.encode()), *called(decision)]
        if decision.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="API"'))
        await _send(call, decision.status, headers, body)

    async def _fail(self, call: Call, error: TollkeeperError) -> None:
        self.counts.calls[error.code] += 1
        if call.status:
            return  # the server cuts a connection whose answer was not completed
        if not error.permanent:
            log.warning("%s", error.detail, extra={"request_id": self.problems.request_id(call.scope)})
        status, headers, body = self.problems.answer(call.scope, error)
        if call.decision is not None:
            headers += [pair for pair in called(call.decision) if pair[0] != b"x-request-id"]
        await _send(call, status, [pair for pair in headers if pair[0] != b"content-length"], body)


async def _send(call: Call, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    headers.append((b"date", formatdate(usegmt=True).encode()))
    if call.head is None or call.head.expects_continue:
        # what follows on this connection may be a body that nobody asked for
        headers.append((b"connection", b"close"))
    call.status = status
    await call.send({"type": "http.response.start", "status": status, "headers": headers})
    await call.send({"type": "http.response.body", "body": body})
