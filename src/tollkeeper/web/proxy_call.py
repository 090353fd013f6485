"""One proxied call: judged and taken before the upstream hears of it, recorded before the client hears of its success."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

import aiohttp
from starlette.types import Receive, Scope, Send

from tollkeeper.core.context import SCOPE_CALLER, SCOPE_REQUEST_ID
from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.gate import Decision
from tollkeeper.core.metering import QuantityInvalid
from tollkeeper.core.throttle import FULL_WEIGHT
from tollkeeper.web.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from tollkeeper.web.identity import called, identity_fields
from tollkeeper.web.proxy_head import Head, answer_head, read_head
from tollkeeper.web.proxy_size import SizeReader

if TYPE_CHECKING:
    from tollkeeper.web.proxy import Proxy

log = logging.getLogger("tollkeeper.proxy")

OVERLOADED: Final = frozenset({429, 502, 503, 504})
"""Statuses by which an upstream says that it has too much to do."""


class Call:
    """`run` answers everything but failures, which it raises as TollkeeperError before the answer began.

    A client that goes away cancels the task that serves it, and with it the call to the upstream; not while a commit is awaited,
    since what is being recorded stays recorded.
    """

    __slots__ = (
        "_asked",
        "_deadline",
        "_done",
        "_entered",
        "_holding",
        "_proxy",
        "_receive",
        "_recorded",
        "_settled",
        "_size",
        "_task",
        "_watcher",
        "decision",
        "gone",
        "head",
        "scope",
        "send",
        "status",
    )

    def __init__(self, proxy: Proxy, scope: Scope, receive: Receive, send: Send) -> None:
        self._proxy = proxy
        self.scope = scope
        self._receive = receive
        self.send = send
        self.head: Head | None = None
        self.decision: Decision | None = None
        self.gone = False
        self.status = 0  # of the answer, once it has begun
        self._settled = False
        self._recorded = False
        self._holding = False
        self._done = False
        self._entered: float | None = None
        self._size: SizeReader | None = None
        self._asked = 0.0
        self._deadline: asyncio.Timeout | None = None
        self._watcher: asyncio.Task[None] | None = None
        task = asyncio.current_task()
        assert task is not None
        self._task = task

    async def run(self) -> None:
        proxy = self._proxy
        head = self.head = read_head(self.scope, proxy.options.places, proxy.options.trusted)
        rule = proxy.options.rules.find(self.scope["raw_path"], head.method)
        if rule.meter is not None:
            decision = self.decision = await proxy.judge(head, rule)
            self.scope[SCOPE_REQUEST_ID] = decision.request_id
            self.scope[SCOPE_CALLER] = decision.who
            if not decision.allowed:
                await proxy.refuse(self, decision)
                return
            sized = proxy.options.sized
            if sized is not None and rule.meter == sized.meter and decision.amount:
                self._size = SizeReader(sized)
                proxy.reservations.hold(decision)
        try:
            self._enter()
            if self._size is not None:
                if self._size.reads_body:
                    head.fields[:] = [pair for pair in head.fields if pair[0] != "accept-encoding"]
                    head.fields.append(("accept-encoding", "identity"))
            elif self.decision is not None and self.decision.amount and proxy.counts_attempts(rule.meter):
                await self._record(self.decision)
            await self._pass_on(head)
        except asyncio.CancelledError:
            if not self.gone:
                raise
            self._task.uncancel()
            proxy.counts.calls["CLIENT_GONE"] += 1
            if self._size is not None and self.status and not self._settled:
                await self._count_size(ended=False)
        finally:
            self._done = True
            self._left(None)
            if self._watcher is not None:
                self._watcher.cancel()
            if not self._settled:
                self._give_back(made=self.gone)

    def _enter(self) -> None:
        """Raises Overloaded when the upstream is not to be asked now."""
        throttle = self._proxy.throttle
        if throttle is None:
            return
        weight = FULL_WEIGHT if self.decision is None else self.decision.terms.weight
        if not throttle.enter(weight):
            headers = {"retry-after": str(throttle.retry_after)}
            raise Overloaded(
                "The API behind this gate has more to do than it can. This call was not counted.", headers=headers
            )
        self._entered = asyncio.get_running_loop().time()

    def _left(self, failed: bool | None) -> None:
        """The upstream answered, failed, or the caller left (None): told once."""
        began, self._entered = self._entered, None
        if began is not None and self._proxy.throttle is not None:
            self._proxy.throttle.leave(began, asyncio.get_running_loop().time(), failed)

    async def _pass_on(self, head: Head) -> None:
        response = await self._ask(head)
        try:
            status = response.status
            self._left(status in OVERLOADED)
            if not 200 <= status < 300:
                await self._settle(status)  # before the head, which tells what is left
            try:
                if not 200 <= status <= 599:
                    raise ValueError(f"its status {status} cannot be passed on")
                fields = self._fields(response, head)
            except ValueError as fault:
                log.warning("the upstream's answer is malformed: %s", fault)
                raise UpstreamUnreachable(
                    self.said("The API behind this gate gave an answer that cannot be passed on.")
                ) from fault
            await self._settle(status)
            if self._size is not None and not self._settled:
                self._size.head(response.raw_headers)
                if response.content.at_eof():
                    await self._count_size(ended=True)
            if self.decision is not None and not self.decision.amount:
                fields = self._fields(response, head)  # given back, so what remains is another number
            self.status = status
            await self.send({"type": "http.response.start", "status": status, "headers": fields})
            if await self._stream(response.content, response.content_length):
                self._proxy.counts.calls["FREE" if self.decision is None else "VALID"] += 1
        finally:
            response.close()

    async def _ask(self, head: Head) -> aiohttp.ClientResponse:
        body = None
        if head.has_body:
            body = self._body()
        else:
            self._watch()
        timeout = self._proxy.options.timeout
        self._asked = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(timeout) as self._deadline:
                return await self._proxy.request(head, body, self._identity())
        except TimeoutError as error:
            self._left(True)
            log.warning("the upstream gave no answer within %g s", timeout)
            raise UpstreamTimeout(self.said("The API behind this gate did not answer in time.")) from error
        except (aiohttp.ClientError, OSError) as error:
            if self.gone:
                raise asyncio.CancelledError from error
            self._left(True)
            log.warning("the upstream cannot be reached: %s", error)
            raise UpstreamUnreachable(self.said("The API behind this gate does not answer.")) from error
        finally:
            self._deadline = None

    async def _body(self) -> AsyncIterator[bytes]:
        """The request's body as it comes. The time the client takes is not the upstream's, so the deadline waits for it."""
        more = True
        while more:
            self._postpone(None)
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
                raise ConnectionResetError("the client went away")
            self._postpone(self._proxy.options.timeout)
            more = message.get("more_body", False)
            chunk = message.get("body", b"")
            if chunk:
                yield chunk
        self._watch()

    def _postpone(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    def _watch(self) -> None:
        if not self._done:
            self._watcher = asyncio.get_running_loop().create_task(self._wait_for_leave())

    async def _wait_for_leave(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        if not self._done:
            self.gone = True
            if not self._holding:
                self._task.cancel()

    def said(self, what: str) -> str:
        """What failed, and whether it was counted all the same: attempts are counted before the upstream is asked."""
        return f"{what} This call was {'counted, as every attempt is' if self._recorded else 'not counted'}."

    def _identity(self) -> list[tuple[str, str]]:
        decision = self.decision
        request_id = self._proxy.problems.request_id(self.scope) if decision is None else decision.request_id
        return identity_fields(decision, request_id)

    def _fields(self, response: aiohttp.ClientResponse, head: Head) -> list[tuple[bytes, bytes]]:
        """What the client gets of the upstream's fields, and ours. Raises ValueError."""
        origin = self._proxy.options.origin
        fields = answer_head(
            response.status, response.raw_headers, self._own_fields(), origin, f"{head.scheme}://{head.host}"
        )
        if "date" not in response.headers:
            fields.append((b"date", formatdate(usegmt=True).encode()))
        return fields

    def _own_fields(self) -> list[tuple[bytes, bytes]]:
        if self.decision is None:
            return [(b"x-request-id", self._proxy.problems.request_id(self.scope).encode())]
        return called(self.decision)

    async def _settle(self, status: int) -> None:
        """2xx counts, and is committed before the client sees a byte of it. Raises StorageUnavailable."""
        decision = self.decision
        if decision is None or self._settled or not decision.amount:
            return
        if 200 <= status < 300:
            if self._size is not None:
                return  # what it came to is known at its end
            await self._record(decision)
            if self.gone:
                raise asyncio.CancelledError
        else:
            self._give_back(made=True)

    async def _record(self, decision: Decision) -> None:
        self._settled = True
        self._holding = True
        try:
            await self._proxy.gate.commit(decision)  # gives back by itself when it fails
        finally:
            self._holding = False
        self._recorded = True
        self._proxy.counts.counted += 1

    def _give_back(self, *, made: bool) -> None:
        """A call that the upstream failed, or the client left, was `made`: not billed, but it counts for rate limits."""
        self._settled = True
        if self.decision is not None and self.decision.amount:
            if self._size is not None:
                self._proxy.reservations.withdraw(self.decision, made=made)
            else:
                self._proxy.gate.refund(self.decision, limits=not made)
            self._proxy.counts.given_back += 1

    async def _count_size(self, *, ended: bool) -> None:
        """Commit what the call came to; what was reserved when that cannot be read. Raises StorageUnavailable."""
        proxy, decision, size = self._proxy, self.decision, self._size
        assert decision is not None
        assert decision.reservation is not None
        assert size is not None
        quantity = size.size(asyncio.get_running_loop().time() - self._asked, ended=ended)
        self._settled = self._holding = True
        told = {"request_id": decision.request_id}
        try:
            if quantity is not None:
                try:
                    await proxy.reservations.commit_async(decision.reservation, quantity)
                except QuantityInvalid:  # a fraction of what is counted whole
                    quantity = None
            if quantity is None:
                await proxy.reservations.commit_async(decision.reservation)
                proxy.counts.unread += 1
                log.warning("the size of an answer cannot be read by %s: what was reserved counts", size, extra=told)
        except TollkeeperError:
            # it may be committed by hand, for as long as usage is taken
            log.error("an answer of size %s was not counted: %s", quantity, decision.reservation, extra=told)
            raise
        finally:
            self._holding = False
        self._recorded = True
        proxy.counts.counted += 1

    async def _stream(self, content: aiohttp.StreamReader, rest: int | None) -> bool:
        """Each chunk as soon as it is there; of `rest` bytes, where it is known how many come, the last after the size is counted.

        False when the upstream broke off: the client's connection is then cut, too.
        """
        while True:
            try:
                chunk = await content.readany()
            except (aiohttp.ClientError, OSError, RuntimeError) as error:
                log.warning("the upstream broke off in the middle of its answer: %s", error)
                self._proxy.counts.calls["UPSTREAM_BROKE"] += 1
                return False
            last = content.at_eof()
            if self._size is not None and not self._settled:
                self._size.feed(chunk)
                rest = None if rest is None else rest - len(chunk)
                if last or rest == 0:
                    await self._count_size(ended=True)
            await self.send({"type": "http.response.body", "body": chunk, "more_body": not last})
            if last:
                return True
