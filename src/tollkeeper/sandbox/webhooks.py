"""Deliveries of events to endpoints: signed as Stripe signs, tried again with growing pauses, and disturbed on demand.

A delivery waits as an object of the kind "_delivery" until it was answered 2xx or given up. Its instants are the sandbox's clock's; the
signature's `t` is the wall clock's, as at Stripe with a test clock, unless `sign_with` says "sandbox".
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.events import matches
from tollkeeper.sandbox.sender import post
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

RETRY_SECONDS = (1, 5, 30, 300, 3_600, 10_800, 43_200, 86_400, 86_400)
"""Pauses before the second attempt, the third … ; Stripe goes on for three days."""
TIMEOUT_SECONDS = 20.0
ROLLED_SECONDS = 86_400
_SHOWN = 200
_DELIVERED: dict[str, list[Callable[[World, Object], None]]] = {}


def delivered(type: str) -> Callable[[Callable[[World, Object], None]], Callable[[World, Object], None]]:
    """The function is called once for each event of this type when every endpoint has answered it 2xx, or none wanted it."""

    def register(function: Callable[[World, Object], None]) -> Callable[[World, Object], None]:
        _DELIVERED.setdefault(type, []).append(function)
        return function

    return register


def signature(secrets: list[str], instant: int, body: bytes) -> str:
    """The Stripe-Signature header: one `v1` for each secret (https://docs.stripe.com/webhooks#verify-manually)."""
    signed = f"{instant}.".encode() + body
    marks = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={instant}", *(f"v1={mark}" for mark in marks)])


class Webhooks:
    """What is to be delivered, and how deliveries are disturbed. Held by one World; `run` belongs to one event loop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.hold = False
        self.reorder = False
        self.copies = 1
        self.drop = 0
        self.concurrency = 4
        self.sign_with = "wall"
        self.retry_seconds: tuple[float, ...] = RETRY_SECONDS
        self.attempts: deque[dict[str, Any]] = deque(maxlen=_SHOWN)
        """The last attempts: endpoint, event, type, attempt, status or error, at."""
        self._flying: set[str] = set()
        self._quiet_until = 0.0
        """No delivery is due before this instant, so that thousands that wait are not looked through at every call."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()

    def endpoints(self) -> list[Object]:
        store = self._world.store
        return [
            row
            for kind in ("webhook_endpoint", "v2.core.event_destination")
            for row in store.table(kind)
            if row["status"] == "enabled"
        ]

    def publish(self, event: Object) -> None:
        """Send an event to every endpoint that wants it."""
        thin = event["object"] == "v2.core.event"
        if self.drop > 0:
            self.drop -= 1
            self._answered(event)
            return
        wanted = [
            row
            for row in self.endpoints()
            if (row.get("event_payload") == "thin") == thin
            and any(matches(event["type"], name) for name in row["enabled_events"])
        ]
        for endpoint in wanted:
            for copy in range(max(self.copies, 1)):
                self._add(event, endpoint, counts=copy == 0)
        if wanted and not thin:
            event["pending_webhooks"] = len(wanted)
            self._world.store.save(event)
        elif not wanted:
            self._answered(event)

    def send(self, event: Object, endpoint: Object) -> None:
        """Send an event once more, as Stripe's resend does."""
        self._add(event, endpoint, counts=False)

    def _add(self, event: Object, endpoint: Object, *, counts: bool) -> None:
        world = self._world
        self._quiet_until = 0.0
        world.store.save(
            {
                "object": "_delivery",
                "id": world.ids.new("dlv_"),
                "event": event["id"],
                "event_kind": event["object"],
                "type": event["type"],
                "endpoint": endpoint["id"],
                "endpoint_kind": endpoint["object"],
                "attempt": 0,
                "at": world.clock.now(),
                "held": self.hold,
                "counts": counts,
            }
        )

    def waiting(self) -> list[Object]:
        return list(self._world.store.table("_delivery"))

    def release(self) -> int:
        """Let the held deliveries go."""
        self._quiet_until = 0.0
        held = [delivery for delivery in self.waiting() if delivery["held"]]
        for delivery in held:
            delivery["held"] = False
            self._world.store.save(delivery)
        return len(held)

    def retry_now(self) -> int:
        """Everything that waits for a later attempt is due at once."""
        self._quiet_until = 0.0
        now = self._world.clock.now()
        later = [delivery for delivery in self.waiting() if delivery["at"] > now]
        for delivery in later:
            delivery["at"] = now
            self._world.store.save(delivery)
        return len(later)

    def discard(self) -> int:
        """Forget everything that waits, as Stripe does at the end of its retries."""
        waiting = self.waiting()
        for delivery in waiting:
            self._world.store.remove(delivery)
        return len(waiting)

    def _due(self, most: int) -> list[Object]:
        """Deliveries to begin now: the oldest, or with `reorder` any."""
        now = self._world.clock.now()
        if most <= 0 or now < self._quiet_until:
            return []
        found: list[Object] = []
        quiet = math.inf
        for delivery in self._world.store.table("_delivery"):
            if delivery["held"] or delivery["id"] in self._flying:
                continue
            if delivery["at"] > now:
                quiet = min(quiet, delivery["at"])
                continue
            found.append(delivery)
            if len(found) == most and not self.reorder:
                return found
        if not found:
            self._quiet_until = quiet
        if self.reorder:
            self._world.ids.shuffle(found)
        return found[:most]

    def start_due(self) -> bool:
        """Begin the deliveries that are due, as many at once as `concurrency` allows. True when any is on its way."""
        for delivery in self._due(self.concurrency - len(self._flying)):
            self._flying.add(delivery["id"])
            task = asyncio.get_running_loop().create_task(self._attempt(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(self._flying)

    async def settle(self, seconds: float) -> bool:
        """Wait until nothing is due or on its way. False when it takes longer than that."""
        try:
            async with asyncio.timeout(seconds):
                while self.start_due():
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _attempt(self, delivery: Object) -> None:
        world, store = self._world, self._world.store
        try:
            event = store.get(delivery["event_kind"], delivery["event"])
            endpoint = store.get(delivery["endpoint_kind"], delivery["endpoint"])
            if event is None or endpoint is None or endpoint["status"] != "enabled":
                store.remove(delivery)
                return
            body = self._body(event, endpoint)
            instant = int(world.clock.wall() if self.sign_with == "wall" else world.clock.now())
            headers = {
                "Content-Type": "application/json; charset=utf-8",
                "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
                "Accept": "*/*; q=0.5, application/xml",
                "Cache-Control": "no-cache",
                "Stripe-Signature": signature(self._secrets(endpoint), instant, body),
            }
            outcome: int | str
            try:
                outcome = await post(self._url(endpoint), body, headers, TIMEOUT_SECONDS)
            except (OSError, TimeoutError) as fault:
                outcome = (fault.strerror if isinstance(fault, OSError) else None) or str(fault) or type(fault).__name__
            self._settle(delivery, event, endpoint, outcome)
        finally:
            self._flying.discard(delivery["id"])
            self._world.store.commit()
            self.start_due()
            self._settled.set()

    def _settle(self, delivery: Object, event: Object, endpoint: Object, outcome: int | str) -> None:
        store, now = self._world.store, self._world.clock.now()
        delivery["attempt"] += 1
        self.attempts.append(
            {
                "endpoint": endpoint["id"],
                "url": self._url(endpoint),
                "event": event["id"],
                "type": event["type"],
                "attempt": delivery["attempt"],
                "outcome": outcome,
                "at": now,
            }
        )
        if isinstance(outcome, int) and 200 <= outcome < 300:
            store.remove(delivery)
            if delivery["counts"] and event["object"] == "event":
                event["pending_webhooks"] -= 1
                store.save(event)
                if event["pending_webhooks"] == 0:
                    self._answered(event)
        elif delivery["attempt"] > len(self.retry_seconds):
            store.remove(delivery)
        else:
            delivery["at"] = now + self.retry_seconds[delivery["attempt"] - 1]
            self._quiet_until = 0.0
            store.save(delivery)

    def _answered(self, event: Object) -> None:
        for function in _DELIVERED.get(event["type"], ()):
            function(self._world, event)

    def _body(self, event: Object, endpoint: Object) -> bytes:
        from tollkeeper.sandbox.thin_events import notification

        if event["object"] == "v2.core.event":
            return json.dumps(notification(event), separators=(",", ":")).encode()
        version = endpoint.get("api_version") or endpoint.get("snapshot_api_version") or event["api_version"]
        shown = {name: value for name, value in event.items() if not name.startswith("_")}
        return json.dumps({**shown, "api_version": version}, indent=2).encode()

    @staticmethod
    def _url(endpoint: Object) -> str:
        return str(endpoint["url"] if endpoint["object"] == "webhook_endpoint" else endpoint["_url"])

    def _secrets(self, endpoint: Object) -> list[str]:
        secrets = [endpoint["_secret"]]
        rolled = endpoint.get("_rolled")
        if rolled and rolled["until"] > self._world.clock.now():
            secrets.append(rolled["secret"])
        return secrets

    def roll(self, endpoint: Object) -> str:
        """A new signing secret; the old one signs beside it for 24 hours."""
        endpoint["_rolled"] = {"secret": endpoint["_secret"], "until": self._world.clock.now() + ROLLED_SECONDS}
        endpoint["_secret"] = self._world.ids.new("whsec_", 32)
        self._world.store.save(endpoint)
        return str(endpoint["_secret"])
