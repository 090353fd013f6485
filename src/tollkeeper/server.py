"""The server process: one Tollkeeper, one event loop, one or more listeners, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from tollkeeper import __version__
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.errors import AlreadyOpen, Forbidden, TollkeeperError
from tollkeeper.core.ids import new_id
from tollkeeper.core.stats import RequestStats
from tollkeeper.integrations.access import Access, hot
from tollkeeper.integrations.logs import setup_logging
from tollkeeper.integrations.metrics import MetricsApp, Sources, make_registry
from tollkeeper.services.runner import Runner, Step
from tollkeeper.settings import Settings, ensure_admin_token
from tollkeeper.web.app import Services, create_app
from tollkeeper.web.auth import Authenticator
from tollkeeper.web.errors import Problems
from tollkeeper.web.hot import App, HotEndpoints, Receive, Scope, Send
from tollkeeper.web.protocol import BoundedProtocol

GRACE_SECONDS = 20
TOUCH_SECONDS = 10.0

Listener = tuple[App, str, int]


class Server:
    """Serves one Tollkeeper on the settings' host and port, and whatever `listeners` adds beside it (the proxy)."""

    def __init__(self, toll: Tollkeeper, settings: Settings) -> None:
        assert settings.admin_token is not None
        self.toll = toll
        self.settings = settings
        self.listeners: list[Listener] = []
        self.ports: list[int] = []  # one for each listener once bound; tells what port 0 became
        self.proxy_counts: Callable[[], dict[str, int]] = dict
        self._servers: list[uvicorn.Server] = []
        self._stopping = False
        clock = toll.clock

        def new_request_id() -> str:
            return new_id("req", clock.now_ns() // 1_000_000, clock.random_bits(80))

        self.requests = RequestStats()
        self.authenticator = Authenticator(settings.admin_token, toll.key_by_digest, clock.now_us)
        self.problems = Problems(settings.public_url, new_request_id)
        toll.listen(self.authenticator.drop)
        self.runner = Runner([Step("touch_keys", self._touch_keys, TOUCH_SECONDS)], clock)
        self.listeners.append((self._app(new_request_id), settings.host, settings.port))

    def _touch_keys(self) -> bool:
        self.toll.touch_keys()
        used = self.authenticator.take_used()
        if used:
            self.toll.keys.touch(used)
        return False

    def draining(self) -> bool:
        """True from the first signal to stop on."""
        return self._stopping

    def _app(self, new_request_id: Callable[[], str]) -> App:
        """The whole HTTP surface: hot endpoints in front, everything else behind, traces round it when they are wanted."""
        toll, settings = self.toll, self.settings
        services = Services(
            toll.catalog,
            toll.customers,
            toll.keys,
            toll.usage,
            self.authenticator,
            toll.require_storage,
            self.draining,
        )
        behind = create_app(services, public_url=settings.public_url, new_request_id=new_request_id)
        metrics = MetricsApp(make_registry(self._sources()), self._may_read_metrics)

        async def cold(scope: Scope, receive: Receive, send: Send) -> None:
            app: Any = metrics if scope["type"] == "http" and scope["path"] == "/metrics" else behind
            await app(scope, receive, send)

        return HotEndpoints(
            Access(cold, self.requests),  # type: ignore[arg-type]
            toll.gate,
            toll.ingest,
            self.authenticator,
            self.problems,
            docs=settings.public_url.rstrip("/"),
            finished={route: hot(self.requests, "POST", route) for route in ("/v1/check", "/v1/events")},
        )

    def _sources(self) -> Sources:
        files = {"main": self.toll.files.main, "usage": self.toll.files.usage}
        files["usage_wal"] = Path(f"{self.toll.files.usage}-wal")
        return Sources(
            __version__,
            self.requests,
            self.toll.gate,
            self.toll.ingest,
            self.toll.usage_file.writer,
            lambda: self.runner.steps,
            files,
            lambda: self.proxy_counts(),
        )

    def _may_read_metrics(self, scope: Any) -> bool:
        authorization = next((v.decode("latin-1") for n, v in scope["headers"] if n == b"authorization"), None)
        client = scope.get("client")
        try:
            self.authenticator.authenticate(authorization, client[0] if client else None).require("metrics:read")
        except (TollkeeperError, Forbidden):
            return False
        return True

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Listen until a signal, finish what was begun, return. Raises AlreadyOpen for a port that is taken, before anything starts."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(contextlib.closing(bind(host, port))) for _, host, port in self.listeners]
            self.ports = [bound.getsockname()[1] for bound in sockets]
            tracing = self._tracing()
            for app, host, port in self.listeners:
                self._servers.append(
                    _Uvicorn(uvicorn.Config(tracing.wrap(app) if tracing else app, host, port, **UVICORN))
                )
            loop = asyncio.get_running_loop()
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(name, self.stop)
            self.runner.start()
            try:
                async with asyncio.TaskGroup() as group:
                    for server, bound in zip(self._servers, sockets, strict=True):
                        group.create_task(server.serve(sockets=[bound]))
                    group.create_task(self._tell(started))
            finally:
                await asyncio.to_thread(self.runner.stop)
                if tracing is not None:
                    await asyncio.to_thread(tracing.close)

    async def _tell(self, started: Callable[[], None]) -> None:
        for server in self._servers:
            assert isinstance(server, _Uvicorn)
            await server.is_up.wait()
        if not self._stopping:
            started()

    def _tracing(self) -> Any:
        """OpenTelemetry is loaded only when there is somewhere to send traces."""
        endpoint = self.settings.otlp_endpoint
        if endpoint is None:
            return None
        from tollkeeper.integrations.otel import Tracing

        return Tracing(endpoint, self.settings.otlp_headers, self.settings.otel_service_name, __version__)

    def stop(self) -> None:
        """Take no further request, finish those under way. A second call does not wait for them."""
        for server in self._servers:
            server.force_exit = self._stopping
            server.should_exit = True
        self._stopping = True


UVICORN: dict[str, Any] = {
    "loop": "none",
    "http": BoundedProtocol,
    "ws": "none",
    "lifespan": "off",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "timeout_graceful_shutdown": GRACE_SECONDS,
    "backlog": 1024,
}


class _Uvicorn(uvicorn.Server):
    """Leaves signals to us, since there may be several in one process, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises AlreadyOpen naming the port and the way out."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AlreadyOpen(f"TOLLKEEPER_HOST {host!r} is no address of this machine ({error}).") from None
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise AlreadyOpen(
            f"Port {port} on {host} cannot be opened: {error.strerror}. Stop what uses it, or set another PORT."
        ) from None
    return bound


def on_a_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


def serve(settings: Settings, say: Callable[[str], None] = print, others: Sequence[Listener] = ()) -> None:
    """Open the database, apply the catalog file when there is one, answer until told to stop."""
    settings, made = ensure_admin_token(settings)
    assert settings.admin_token is not None
    setup_logging(settings.log_level, settings.log_format, secrets=[settings.admin_token])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it tells of its own start and stop; we do
    with Tollkeeper(str(settings.database_path), event_max_age_days=settings.event_max_age_days) as toll:
        if settings.catalog_path.exists():
            applied = toll.catalog.apply(settings.catalog_path.read_text())
            if applied.changed:
                say(f"Catalog {settings.catalog} applied as version {applied.version.version}.")
        server = Server(toll, settings)
        server.listeners += others

        def started() -> None:
            say(f"Tollkeeper listens on http://{settings.host}:{server.ports[0]}")
            if made:
                say(f"An admin token was made and written to {settings.env_path}.")

        on_a_loop(server.run(started))
