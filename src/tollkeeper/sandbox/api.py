"""One call of Stripe's HTTP API from its bytes to its answer: key, version, parameters, idempotency, faults, the operation, the JSON.

Plain ASGI: this is the path that meter events take.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from tollkeeper.sandbox import forms, parameters
from tollkeeper.sandbox.errors import ApiError, bad_key, no_key, rate_limited, refused, server_error, unknown_url
from tollkeeper.sandbox.faults import Fault
from tollkeeper.sandbox.idempotency import Kept
from tollkeeper.sandbox.operations import Call, Operation, Router
from tollkeeper.sandbox.render import render
from tollkeeper.sandbox.world import API_VERSION, World

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

STREAM = "/v2/billing/meter_event_stream"
_LARGEST = 10_000_000
_log = logging.getLogger(__name__)


class Dropped(Exception):
    """The connection ends here, without an answer."""


@dataclass(slots=True)
class Answer:
    status: int
    body: str
    request_id: str
    headers: dict[str, str]


class Api:
    """Answers everything below /v1 and /v2."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept = Kept(world.store)
        self._router = Router()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            answer = await self._answer(scope["method"], scope["path"], scope["query_string"], headers, body)
        except Dropped:
            await _drop(send)
            return
        payload = answer.body.encode()
        sent = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(payload)).encode()),
            (b"request-id", answer.request_id.encode()),
            (b"stripe-version", API_VERSION.encode()),
        ]
        sent += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": payload})
        if len(self.world.store.table("_delivery")):
            self.world.webhooks.start_due()

    async def _answer(self, method: str, path: str, query: bytes, headers: dict[str, str], body: bytes) -> Answer:
        world = self.world
        request_id = world.ids.new("req_", 14)
        record: dict[str, Any] = {
            "at": world.clock.now(),
            "request_id": request_id,
            "method": method,
            "path": path,
            "params": {},
            "idempotency_key": headers.get("idempotency-key"),
            "stripe_version": headers.get("stripe-version"),
            "key": None,
            "status": None,
        }
        world.calls.append(record)
        try:
            answer = await self._served(method, path, query, headers, body, request_id, record)
        except ApiError as fault:
            answer = self._error(fault, request_id)
            record["error"] = fault.message
        except Dropped:
            record["status"] = "dropped"
            world.store.commit()
            raise
        record["status"] = answer.status
        world.store.commit()
        return answer

    async def _served(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: dict[str, str],
        body: bytes,
        request_id: str,
        record: dict[str, Any],
    ) -> Answer:
        world = self.world
        key = _key(headers)
        record["key"] = shown_key(key)
        self._authenticate(key, path)
        self._check_version(headers.get("stripe-version"), path)
        found = self._router.find(method, path)
        if found is None:
            raise unknown_url(method, path)
        operation, values = found
        self._check_permission(key, operation)
        given = _decode(operation, query, headers, body)
        record["params"] = given
        fault = world.faults.take(method, path) if world.faults else None
        if fault is not None:
            record["fault"] = fault.kind
            _before(fault)
        idempotency_key = headers.get("idempotency-key") or None
        if idempotency_key is None or method == "GET" or (method == "DELETE" and operation.version == 1):
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(fault.ms / 1_000)
            answer, _ = self._run(operation, values, given, request_id, None, path)
        else:
            answer = await self._once(operation, values, given, request_id, idempotency_key, path, fault, record)
        if fault is not None:
            _after(fault)
        return answer

    async def _once(
        self,
        operation: Operation,
        values: tuple[str, ...],
        given: dict[str, Any],
        request_id: str,
        key: str,
        path: str,
        fault: Fault | None,
        record: dict[str, Any],
    ) -> Answer:
        """The operation under its Idempotency-Key: run, or the answer of the first time."""
        now = self.world.clock.now()
        digest, params = self.kept.digest("acct", key), self.kept.of_params(given)
        before = self.kept.begin(digest, key, path, params, now, operation.version)
        if before is not None:
            status, original, body = before
            record["replayed"] = True
            headers = {"Idempotency-Key": key, "Original-Request": original, "Idempotent-Replayed": "true"}
            return Answer(status, body, request_id, headers)
        keep = False
        try:
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(fault.ms / 1_000)
            answer, keep = self._run(operation, values, given, request_id, key, path)
            if keep:
                self.kept.keep(digest, path, params, now, answer.status, request_id, answer.body)
        finally:
            if not keep:
                self.kept.drop(digest)
        answer.headers["Idempotency-Key"] = key
        answer.headers["Original-Request"] = request_id
        return answer

    def _run(
        self,
        operation: Operation,
        values: tuple[str, ...],
        given: dict[str, Any],
        request_id: str,
        key: str | None,
        path: str,
    ) -> tuple[Answer, bool]:
        """The answer, and whether it is kept under the Idempotency-Key."""
        world = self.world
        world.run_due()
        world.request = {"id": request_id, "idempotency_key": key}
        try:
            extra = {}
            if operation.version == 2 and operation.method == "GET" and "page" in given:
                extra["page"] = given.pop("page")
            params = parameters.check(operation.name, given, form=not _is_json(operation))
            params.update(extra)
            expand = params.pop("expand", [])
            call = Call(world, operation, path, params, expand, request_id, key)
            shown = render(world, operation.handler(call, *values), expand)
            return Answer(200, json.dumps(shown, separators=(",", ":")), request_id, {}), True
        except ApiError as fault:
            return self._error(fault, request_id), fault.replayable and operation.version == 1
        except Exception:
            _log.exception("the sandbox failed at %s", operation.name)
            return self._error(server_error(), request_id), False
        finally:
            world.request = {"id": None, "idempotency_key": None}

    @staticmethod
    def _error(fault: ApiError, request_id: str) -> Answer:
        headers = dict(fault.headers)
        if fault.status in (400, 401, 402, 403, 404):
            headers["Stripe-Should-Retry"] = "false"
        elif fault.status == 409:
            headers["Stripe-Should-Retry"] = "true"
        return Answer(fault.status, json.dumps(fault.body(request_id), separators=(",", ":")), request_id, headers)

    def _authenticate(self, key: str, path: str) -> None:
        if not key:
            raise no_key()
        if path == STREAM:
            self.world.require_session(key)
            return
        if not key.startswith(("sk_test_", "rk_test_")) or len(key) == 8:
            raise bad_key(shown_key(key))
        held = self.world.keys.get(key)
        if held is not None and held.get("revoked"):
            raise ApiError(401, f"Expired API Key provided: {shown_key(key)}", code="api_key_expired", replayable=False)

    def _check_permission(self, key: str, operation: Operation) -> None:
        held = self.world.keys.get(key)
        permissions = None if held is None else held.get("permissions")
        if permissions is None:
            return
        needed = "read" if operation.method == "GET" else "write"
        granted = permissions.get(operation.resource)
        if granted == "write" or granted == needed:
            return
        raise ApiError(
            403,
            f"The provided key '{shown_key(key)}' does not have the required permissions for this endpoint on account "
            f"'{self.world.account_id}'. Having the 'rak_{operation.resource}_{needed}' permission would allow this request to "
            "continue.",
            replayable=False,
        )

    @staticmethod
    def _check_version(version: str | None, path: str) -> None:
        if version is None and path.startswith("/v2/"):
            raise refused("Missing required header: Stripe-Version.", "Stripe-Version")
        if version is not None and version != API_VERSION:
            raise refused(f"Invalid Stripe API version: {version}. The sandbox speaks {API_VERSION}.", "Stripe-Version")


def shown_key(key: str) -> str:
    """A key as Stripe shows it in a message: its kind and its last four characters."""
    head = key[:8] if key[:8] in ("sk_test_", "rk_test_", "sk_live_", "rk_live_") else ""
    return head + "*" * max(4, len(key) - len(head) - 4) + key[-4:]


def _key(headers: dict[str, str]) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("latin-1").partition(":")[0]
        except ValueError:
            return ""
    return ""


def _is_json(operation: Operation) -> bool:
    return operation.version == 2 and operation.method == "POST"


def _decode(operation: Operation, query: bytes, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """The parameters, before any check of what they are."""
    if len(body) > _LARGEST:
        raise ApiError(413, "Request body is too large.", replayable=False)
    if _is_json(operation):
        try:
            found = json.loads(body or b"{}")
        except ValueError:
            raise refused("Invalid request body: not JSON") from None
        if not isinstance(found, dict):
            raise refused("Invalid request body: not an object")
        return found
    if body and not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise refused("Invalid request: the content type of a request to /v1 is application/x-www-form-urlencoded.")
    try:
        text = "&".join(part.decode("ascii") for part in (query, body) if part)
        return forms.decode(text)
    except UnicodeDecodeError:
        raise refused("Invalid request: the parameters are not UTF-8 text") from None


def _before(fault: Fault) -> None:
    if fault.kind == "429":
        raise rate_limited()
    if fault.kind == "500":
        raise server_error()
    if fault.kind == "409":
        raise ApiError(
            409,
            "This object cannot be accessed right now because another API request or Stripe process is currently accessing it.",
            code="lock_timeout",
            replayable=False,
        )
    if fault.kind == "drop_before":
        raise Dropped


def _after(fault: Fault) -> None:
    if fault.kind == "drop_after":
        raise Dropped
    if fault.kind == "500_after":
        raise server_error()


async def _drop(send: Send) -> None:
    """End the connection without an answer: by uvicorn's transport, elsewhere by an answer that breaks off."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
        return
    headers = [(b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    raise Dropped
