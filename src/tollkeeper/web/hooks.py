"""`POST /webhooks/stripe`: the signature is checked over the bytes as they came, the event stored, and only then answered.

400 is said of the signature, the encoding and the JSON alone; what fails on our side is 503, and Stripe sends it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from datetime import datetime, timedelta, timezone
from time import perf_counter
from typing import Any, Final

import msgspec

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.inbox import InboxEvent
from tollkeeper.core.webhooks import MAX_ID, WebhookInvalid
from tollkeeper.services.inbox import Inbox
from tollkeeper.web.direct import Exchange, Headers

Scope = MutableMapping[str, Any]
Failure = Callable[[Any, BaseException], tuple[int, Headers, bytes]]
Finished = Callable[[Any, int, float], None]

MAX_WEBHOOK_BODY: Final = 1024 * 1024
PATH: Final = "/webhooks/stripe"
ANSWER: Final = b'{"received":true}'
_HEAD: Final = b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: " % len(ANSWER)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
_MICROSECOND: Final = timedelta(microseconds=1)
_LATEST_S: Final = 1 << 40


class _Object(msgspec.Struct):
    id: Any = None


class _Data(msgspec.Struct):
    object: _Object | None = None


class _Event(msgspec.Struct):
    """What is read of an event at once; a thin event (`v2.core.event`) has `related_object` and its time as text.

    Without `livemode` it is of the mode of the account whose secret signed it; without `created` it happened now.
    """

    id: str
    type: str
    created: int | datetime | None = None
    livemode: bool | None = None
    data: _Data | None = None
    related_object: _Object | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class Hooks:
    """The endpoint. `finished(scope, status, started)` is told of each answer that the protocol wrote itself."""

    def __init__(self, inbox: Inbox, failure: Failure, request_id: Callable[[Any], str], finished: Finished) -> None:
        self._inbox = inbox
        self._failure = failure
        self._request_id = request_id
        self._finished = finished

    def direct(self, exchange: Exchange) -> bool:
        started = perf_counter()
        try:
            event = self.admit(signature_of(exchange.scope), exchange.body)
            self._inbox.put(_Waiting(self, exchange, started, event))
        except Exception as error:
            self._fail(exchange, started, error)
        return True

    async def asgi(self, scope: Scope, body: bytes) -> tuple[bytes, bytes]:
        """The request's id, and the answer after the commit."""
        event = self.admit(signature_of(scope), body)
        await asyncio.to_thread(self._inbox.store, [event])
        return self._request_id(scope).encode(), ANSWER

    def refuse_large(self) -> None:
        """Count a body that was larger than what is read."""
        self._inbox.refused["too_large"] += 1

    def admit(self, signature: str | None, body: bytes) -> InboxEvent:
        """The event of a signed body, as it is to be stored. Raises NotFound, WebhookInvalid."""
        self._inbox.verify(signature, body)
        try:
            event = read_event(body)
        except WebhookInvalid as error:
            self._inbox.refused[error.reason] += 1
            raise
        created = event.created
        created_at = created * 1_000_000 if isinstance(created, int) else None
        if isinstance(created, datetime):
            created_at = (created - _EPOCH) // _MICROSECOND
        about = event.data.object if event.data is not None else event.related_object
        object = about.id if about is not None and isinstance(about.id, str) else None
        return self._inbox.made(event.id, event.type, object, created_at, event.livemode, body)

    def _answer(self, exchange: Exchange, started: float) -> None:
        exchange.answer_text(200, b"%b%b\r\n" % (_HEAD, self._request_id(exchange.scope).encode()), ANSWER)
        self._finished(exchange.scope, 200, started)

    def _fail(self, exchange: Exchange, started: float, error: BaseException) -> None:
        status, headers, body = self._failure(exchange.scope, error)
        exchange.answer(status, headers, body)
        self._finished(exchange.scope, status, started)


def read_event(body: bytes) -> _Event:
    """Raises WebhookInvalid."""
    if not body.isascii():  # what the decoder passes over it does not look at
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise WebhookInvalid(f"The body is not UTF-8: byte {error.start} cannot be read.", "encoding") from None
    try:
        event = _decode(body)
    except (ValueError, RecursionError) as error:
        raise WebhookInvalid(f"The body is not an event in JSON: {str(error)[:200]}.", "json") from None
    for name, value in ("id", event.id), ("type", event.type):
        if not 0 < len(value) <= MAX_ID or not value.isprintable():
            raise WebhookInvalid(f"{name}: expected 1 to {MAX_ID} printable characters.", "json")
    created = event.created
    if created is None:
        return event
    if created.tzinfo is None if isinstance(created, datetime) else not 0 <= created < _LATEST_S:
        raise WebhookInvalid("created: expected seconds since 1970, or a time with a zone.", "json")
    return event


def signature_of(scope: Any) -> str | None:
    """The header Stripe-Signature of an ASGI scope."""
    for name, value in scope["headers"]:
        if name == b"stripe-signature":
            text: str = value.decode("latin-1")
            return text
    return None


class _Waiting:
    """A direct webhook until its commit (an Arrival)."""

    __slots__ = ("_exchange", "_hooks", "_started", "error", "event", "loop")

    def __init__(self, hooks: Hooks, exchange: Exchange, started: float, event: InboxEvent) -> None:
        self._hooks = hooks
        self._exchange = exchange
        self._started = started
        self.event = event
        self.loop = exchange.loop
        self.error: TollkeeperError | None = None

    def done(self) -> None:
        if self.error is not None:
            self._hooks._fail(self._exchange, self._started, self.error)
        else:
            self._hooks._answer(self._exchange, self._started)
