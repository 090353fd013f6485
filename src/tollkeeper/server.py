"""The server process: one Tollkeeper, one event loop, one or more listeners, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tollkeeper import __version__
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.errors import Forbidden, TollkeeperError
from tollkeeper.core.ids import ulid_of
from tollkeeper.core.stats import RequestStats
from tollkeeper.integrations.access import Access, hot
from tollkeeper.integrations.logs import setup_logging
from tollkeeper.integrations.metrics import MetricsApp, Sources, make_registry
from tollkeeper.money import Money
from tollkeeper.services.clock import Clock
from tollkeeper.services.runner import Runner, Step
from tollkeeper.settings import Settings, ensure_admin_token
from tollkeeper.web import listen, reservations
from tollkeeper.web.auth import Authenticator, authorization_of
from tollkeeper.web.errors import Problems
from tollkeeper.web.hot import App, HotEndpoints, Receive, Scope, Send
from tollkeeper.web.late import Late
from tollkeeper.web.listen import Listener, bind

GRACE_SECONDS = 20
TOUCH_SECONDS = 10.0
LAPSE_SECONDS = 5.0
SHADOW_SECONDS = 10.0
CORRECTIONS_SECONDS = 1.0
RETENTION_SECONDS = 3600.0
HOT_ROUTES = (
    ("POST", "/v1/check"),
    ("POST", "/v1/events"),
    ("GET", "/authz"),
    ("POST", "/webhooks/stripe"),
    ("POST", reservations.COMMIT),
    ("POST", reservations.RELEASE),
)
RETENTION_PAUSE = 0.02
"""Between two pieces, so that requests are answered in between."""


class Server:
    """Serves one Tollkeeper on the settings' host and port. `app` is the whole of it, plain ASGI."""

    def __init__(self, toll: Tollkeeper, settings: Settings) -> None:
        assert settings.admin_token is not None
        self.toll = toll
        self.settings = settings
        self.money = Money(toll, settings)
        self.proxy_counts: Callable[[], Mapping[str, int]] = dict
        self.proxy_unread: Callable[[], int] = int
        self._stopping = False
        clock = toll.clock

        new_request_id = request_ids(clock)
        self.requests = RequestStats()
        self.authenticator = Authenticator(settings.admin_token, toll.key_by_digest, clock.now_us, toll.gate.may_be_key)
        self.problems = Problems(settings.public_url, new_request_id)
        toll.listen(self.authenticator.drop)
        steps = [
            Step("touch_keys", self._touch_keys, TOUCH_SECONDS),
            Step("shadow", toll.shadow.flush, SHADOW_SECONDS),
            Step("lapse", toll.reservations.lapse, LAPSE_SECONDS),
            Step("corrections", toll.corrections.run_once, CORRECTIONS_SECONDS),
            Step("retention", toll.retention.run_once, RETENTION_SECONDS, again_after=RETENTION_PAUSE),
            *self.money.steps,
        ]
        self.runners = (Runner(steps, clock), *self.money.runners)
        self.behind = Late(lambda: self._make_behind(new_request_id))
        self.app = self._app()

    def _touch_keys(self) -> bool:
        self.toll.touch_keys()
        used = self.authenticator.take_used()
        if used:
            self.toll.keys.touch(used)
        return False

    def draining(self) -> bool:
        """True from the first signal to stop on."""
        return self._stopping

    def _app(self) -> App:
        """The whole HTTP surface: hot endpoints in front, everything else behind, traces round it when they are wanted."""
        toll, settings = self.toll, self.settings
        metrics = MetricsApp(make_registry(self._sources()), self._may_read_metrics)

        async def cold(scope: Scope, receive: Receive, send: Send) -> None:
            app: Any = metrics if scope["type"] == "http" and scope["path"] == "/metrics" else self.behind
            await app(scope, receive, send)

        return HotEndpoints(
            Access(cold, self.requests, settings.log_requests),  # type: ignore[arg-type]
            toll.gate,
            toll.reservations,
            toll.ingest,
            self.money.inbox,
            self.authenticator,
            self.problems,
            docs=settings.public_url.rstrip("/"),
            finished={route: hot(self.requests, method, route, settings.log_requests) for method, route in HOT_ROUTES},
        )

    def _make_behind(self, new_request_id: Callable[[], str]) -> App:
        """Everything off the hot path. What it needs takes most of the time of a start, so it is loaded here."""
        from tollkeeper.web.app import Services, create_app
        from tollkeeper.web.routes import MoneyServices

        toll, settings = self.toll, self.settings
        services = Services(
            toll.catalog,
            toll.customers,
            toll.keys,
            toll.usage,
            toll.rating,
            toll.reservations,
            toll.shadow,
            toll.corrections,
            self.authenticator,
            toll.require_storage,
            self.draining,
            MoneyServices(
                self.money.provider_catalog,
                self.money.doctor,
                self.money.provider_import,
                self.money.inbox,
                self.money.checkouts,
                self.money.links,
                self.money.invoicing,
                self.money.outbox,
                self.money.drift,
                self.money.reports if self.money.provider else None,
            ),
        )
        app: Any = create_app(services, public_url=settings.public_url, new_request_id=new_request_id)
        if gc.get_freeze_count():  # as `on_a_loop` does with what was made before it
            gc.freeze()
        made: App = app
        return made

    def _sources(self) -> Sources:
        files = {"main": self.toll.files.main, "usage": self.toll.files.usage}
        files["usage_wal"] = Path(f"{self.toll.files.usage}-wal")
        return Sources(
            __version__,
            self.requests,
            self.toll.gate,
            self.toll.ingest,
            self.toll.usage_file.writer,
            self.toll.retention,
            lambda: [step for runner in self.runners for step in runner.steps],
            files,
            self.toll.usage_file.reader.free_bytes,
            lambda: self.proxy_counts(),
            self.money,
            lambda: self.proxy_unread(),
        )

    def _may_read_metrics(self, scope: Any) -> bool:
        authorization = authorization_of(scope)
        client = scope.get("client")
        try:
            self.authenticator.authenticate(authorization, client[0] if client else None).require("metrics:read")
        except (TollkeeperError, Forbidden):
            return False
        return True

    async def run(
        self, listeners: Sequence[Listener] | None = None, started: Callable[[], None] = lambda: None
    ) -> None:
        """Answer until a signal, finish what was begun, return. `listeners` None: on the settings' host and port alone."""
        if listeners is None:
            listeners = [self.listener()]

        def ready() -> None:
            self.behind.start()
            started()

        tracing = self._tracing()
        if tracing is not None:
            listeners = [replace(listener, app=tracing.wrap(listener.app)) for listener in listeners]
        for runner in self.runners:
            runner.start()
        try:
            await listen.serve(listeners, ready=ready, stopping=self._stop, grace=GRACE_SECONDS)
        finally:
            await asyncio.to_thread(self.behind.wait)
            for runner in self.runners:
                await asyncio.to_thread(runner.stop)
            await asyncio.to_thread(self.money.close)
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    def listener(self) -> Listener:
        """Bound to the settings' host and port. Raises AddressTaken."""
        return Listener(self.app, bind(self.settings.host, self.settings.port, "--port or PORT"))

    def _stop(self) -> None:
        self._stopping = True

    def _tracing(self) -> Any:
        """OpenTelemetry is loaded only when there is somewhere to send traces."""
        endpoint = self.settings.otlp_endpoint
        if endpoint is None:
            return None
        from tollkeeper.integrations.otel import Tracing

        return Tracing(endpoint, self.settings.otlp_headers, self.settings.otel_service_name, __version__)


def request_ids(clock: Clock) -> Callable[[], str]:
    """Ids of requests: the millisecond, 40 bits of chance drawn once, a count. Nothing is secret about them."""
    boot = clock.random_bits(40) << 40
    count = itertools.count(1)  # next() is atomic

    def new_request_id() -> str:
        return "req_" + ulid_of(clock.now_ns() // 1_000_000 << 80 | boot | next(count))

    return new_request_id


def _secrets(settings: Settings) -> list[str]:
    """What no line of the log may show."""
    return [
        one
        for one in (
            settings.admin_token,
            settings.stripe_secret_key,
            *(settings.stripe_webhook_secret or "").split(","),
        )
        if one
    ]


def on_a_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where there is one.

    The cycle collector looks less often: a batch of a thousand events makes thousands of objects that all die with their answer, and
    at the default threshold each batch is walked several times (a third of the cost of an event). What was made at the start stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


def tell(text: str) -> None:
    """A line on standard output at once, also when it is piped."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def opened(settings: Settings, say: Callable[[str], None] = tell) -> Iterator[Server]:
    """A server on the open database, logging, with the catalog file in force when there is one. Makes an admin token when there is none."""
    settings, made = ensure_admin_token(settings)
    assert settings.admin_token is not None
    setup_logging(settings.log_level, settings.log_format, secrets=_secrets(settings))
    for name in ("uvicorn", "stripe"):  # they tell of each start, stop and call; we do, or the metrics
        logging.getLogger(name).setLevel(logging.WARNING)
    with Tollkeeper(
        str(settings.database_path),
        event_max_age_days=settings.event_max_age_days,
        retention_days=settings.retention_days,
    ) as toll:
        if settings.catalog_path.exists():
            applied = toll.catalog.apply_file(settings.catalog_path)
            if applied.changed:
                say(f"Catalog {settings.catalog} applied as version {applied.version.version}.")
        if made:
            say(f"An admin token was made and written to {settings.env_path}.")
        yield Server(toll, settings)


def serve(settings: Settings, say: Callable[[str], None] = tell) -> None:
    """Open the database, answer until told to stop."""
    with opened(settings, say) as server:
        listener = server.listener()
        url = listener.url
        on_a_loop(server.run([listener], lambda: say(f"Tollkeeper listens on {url}")))
