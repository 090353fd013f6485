"""Server and proxy side by side in one process, since the files have one owner: `tollkeeper proxy`, and what `wrap` and `demo` stand on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from socket import socket
from urllib.parse import urlsplit

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.stats import METHODS, OTHER
from tollkeeper.integrations.access import hot
from tollkeeper.server import Server, on_a_loop, opened, tell
from tollkeeper.settings import Settings
from tollkeeper.web.listen import Listener, bind, parse_address
from tollkeeper.web.proxy import Proxy
from tollkeeper.web.proxy_options import ProxyOptions

NO_CATALOG = "There is no catalog yet. Write one with `tollkeeper init`, or start with `tollkeeper wrap`."


@dataclass(frozen=True, slots=True)
class Running:
    """What is up: the addresses as this machine reaches them."""

    server: str
    proxy: str


@dataclass(frozen=True, slots=True)
class Sockets:
    """Both addresses, taken."""

    main: Listener
    proxy: socket


@contextlib.contextmanager
def taken(server: Server, address: str, upstream: str) -> Iterator[Sockets]:
    """The server's address and the proxy's `address`, before anything is made that is shown only once.

    Raises InvalidRequest, AddressTaken.
    """
    host, port = read_address(address)
    with contextlib.ExitStack() as stack:
        main = server.listener()
        stack.callback(main.socket.close)
        front = bind(host, port, "--listen")
        stack.callback(front.close)
        _require_no_loop(upstream, [main.socket, front])
        yield Sockets(main, front)


def run(
    server: Server,
    options: ProxyOptions,
    sockets: Sockets,
    ready: Callable[[Running], None],
    others: Sequence[Listener] = (),
) -> None:
    """Answer on the server's address and, through the gate, on the proxy's, until told to stop. Raises InvalidRequest."""
    require_meters(server.toll, options)
    finished = {
        method: hot(server.requests, method, "proxy", server.settings.log_requests) for method in (*METHODS, OTHER)
    }
    proxy = Proxy(
        server.toll.gate,
        options,
        server.problems,
        server.settings.public_url.rstrip("/"),
        lambda scope, *told: finished.get(scope["method"], finished[OTHER])(scope, *told),
        reservations=server.toll.reservations,
    )
    server.proxy_counts = lambda: proxy.counts.calls
    server.proxy_unread = lambda: proxy.counts.unread
    front = Listener(proxy, sockets.proxy, plain=True)
    running = Running(sockets.main.url, front.url)

    async def answer() -> None:
        await proxy.start()
        try:
            await server.run([sockets.main, front, *others], lambda: ready(running))
        finally:
            await proxy.close()

    on_a_loop(answer())


def read_address(text: str) -> tuple[str, int]:
    """Host and port of `--listen`. Raises InvalidRequest."""
    try:
        return parse_address(text)
    except ValueError as fault:
        raise InvalidRequest(f"--listen: {fault}, found {text[:80]!r}.") from None


def require_meters(toll: Tollkeeper, options: ProxyOptions) -> None:
    """Raises InvalidRequest for a meter that the catalog lacks: every call would fail."""
    meters = toll.meters.current.by_key
    if not meters:
        raise InvalidRequest(NO_CATALOG)
    missing = sorted(options.rules.meters - set(meters))
    if missing:
        raise InvalidRequest(f"The catalog has no meter {', '.join(missing)}; it has {', '.join(meters)}.")
    if other := sorted(key for key in options.rules.meters if not meters[key].meter.checkable):
        raise InvalidRequest(
            f"Calls cannot be checked against {', '.join(other)}: that takes a meter that counts or sums, without filters."
        )
    if options.sized is not None:
        entry = meters[options.sized.meter]
        if "attempt" in (options.count_on, entry.meter.count_on):
            raise InvalidRequest("--reserve counts what an answer came to; it does not go with count_on = attempt.")
        if options.sized.source == "seconds" and entry.by_count:
            raise InvalidRequest(f"Seconds are fractions, and {entry.key} counts whole events; take a sum meter.")


def _require_no_loop(upstream: str, sockets: Sequence[socket]) -> None:
    parts = urlsplit(upstream)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for own in sockets:
        host, own_port = own.getsockname()[:2]
        if port == own_port and parts.hostname in {"localhost", "127.0.0.1", "::1", host}:
            raise InvalidRequest(f"upstream: {upstream} is Tollkeeper itself; name the address of your API.")


def proxy(settings: Settings, options: ProxyOptions, address: str, say: Callable[[str], None] = tell) -> None:
    """`tollkeeper proxy`."""
    read_address(address)  # before anything is written
    if not settings.catalog_path.exists() and not settings.database_path.exists():
        raise InvalidRequest(NO_CATALOG)
    with opened(settings, say) as server, taken(server, address, options.upstream) as sockets:

        def ready(running: Running) -> None:
            say(f"Tollkeeper listens on {running.server}")
            say(f"The proxy to {options.upstream} listens on {running.proxy}")

        run(server, options, sockets, ready)
