"""Server and proxy side by side in one process: `tollkeeper proxy`, `wrap` and `demo`. The files have one owner, so this is it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import urlsplit

from tollkeeper import demo_api, play
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.catalog import example_catalog
from tollkeeper.core.customers import ENVIRONMENTS, Environment
from tollkeeper.core.errors import InvalidRequest, NotFound, SettingsInvalid, TollkeeperError
from tollkeeper.core.stats import METHODS, OTHER
from tollkeeper.integrations.access import hot
from tollkeeper.server import Server, on_a_loop, opened, tell
from tollkeeper.settings import Settings
from tollkeeper.web.listen import Listener, bind, parse_address
from tollkeeper.web.proxy import Proxy
from tollkeeper.web.proxy_options import ProxyOptions, read_upstream
from tollkeeper.web.rules import read_rules

FIRST_CUSTOMER = "first"
SANDBOX_FILE = "tollkeeper-sandbox.db"
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
        raise InvalidRequest(
            "There is no catalog yet. Write one with `tollkeeper init`, or start with `tollkeeper wrap`."
        )
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


def answers(upstream: str) -> bool:
    """Whether anything speaks HTTP there; any status will do."""
    try:
        with urllib.request.urlopen(upstream, timeout=3):  # noqa: S310 - read_upstream let http and https through, nothing else
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def wrap(
    settings: Settings,
    upstream: str,
    *,
    free: str,
    price: str,
    fee: str = "0",
    currency: str,
    address: str,
    free_paths: Sequence[str] = (),
    say: Callable[[str], None] = tell,
) -> None:
    """`tollkeeper wrap`: a catalog file unless there is one, a customer with two keys, server and proxy, and the first call to copy.

    Goes on when the upstream does not answer, and says so: it may be started later.
    """
    read_address(address)  # before anything is written
    upstream = read_upstream(upstream)
    read_rules("api_calls", "1", free_paths)
    catalog = example_catalog(free=free, price=price, fee=fee, currency=currency)
    settings = with_port(settings)
    path = settings.catalog_path
    if not path.exists():
        write_catalog(path, catalog)
        say(f"{settings.catalog} written: {_terms(free, price, fee, currency)}.")
    elif path.read_bytes() != catalog.encode():
        say(f"{settings.catalog} is there already and is used as it is; --free, --price and the like change nothing.")
    with (
        play.stripe(settings, settings.directory / SANDBOX_FILE) as (settings, sandbox),
        opened(settings, say) as server,
        taken(server, address, upstream) as sockets,
    ):
        toll = server.toll
        meter = _first_meter(toll)
        keys = _first_keys(toll)
        if sandbox is not None:
            put_on_shelf(server)
        if not answers(upstream):
            say(f"Nothing answers at {upstream} yet: calls get 502 and are not counted until it does.")

        def ready(running: Running) -> None:
            say(f"Tollkeeper listens on {running.server}, your API behind the gate on {running.proxy}")
            say("")
            if keys is None:
                say(f"Customer {FIRST_CUSTOMER!r} has keys from before; a key is shown once. For another:")
                say(f"  tollkeeper keys create --customer {FIRST_CUSTOMER}")
            else:
                say(f"A customer {FIRST_CUSTOMER!r} was made, with two keys. They are shown this once:")
                say(f"  live  {keys['live']}")
                say(f"  test  {keys['test']}")
                say("")
                say("The first call:")
                say(f'  curl -i {running.proxy}/ -H "Authorization: Bearer {keys["live"]}"')
                say("What it used:")
                say(f'  curl "{running.server}/v1/usage?meter={meter}" -H "Authorization: Bearer {keys["live"]}"')
            link = buy_link(server)
            if sandbox is not None and link is not None:
                say("")
                for line in _paid(running, keys["test"] if keys else "tk_test_…", sandbox, link):
                    say(line)

        run(server, ProxyOptions(upstream, read_rules(meter, "1", free_paths)), sockets, ready)


def write_catalog(path: Path, text: str) -> None:
    """Raises SettingsInvalid."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise SettingsInvalid(f"{path} cannot be written: {fault.strerror}.") from None


def _paid(running: Running, key: str, sandbox: str, link: str) -> Iterator[str]:
    """From nothing to a paid invoice for one's own API, with a sandbox in the place of Stripe."""
    yield f"Get paid, for show: a sandbox plays Stripe for the test key ({sandbox}; no account, no money)."
    yield f"  1. Buy the plan in a browser, with the card {play.CARD}:"
    yield f"     {link}"
    yield "  2. Call your API with the test key:"
    yield f'     curl -i {running.proxy}/ -H "Authorization: Bearer {key}"'
    yield "  3. End the contract: its last invoice bills what was used, and is paid:"
    yield f"     {_at(running)}{command()} subscriptions cancel {FIRST_CUSTOMER} --now --yes"
    yield f"     {_at(running)}{command()} invoices list --environment test"
    yield "For real money set STRIPE_SECRET_KEY, then: tollkeeper stripe apply"


def _terms(free: str, price: str, fee: str, currency: str) -> str:
    parts = [f"{free} calls a month free"] if free != "0" else []
    parts += [f"{fee} {currency.upper()} a month"] if fee != "0" else []
    return ", ".join([*parts, f"{price} {currency.upper()} for each call beyond"] if price != "0" else parts)


def _first_meter(toll: Tollkeeper) -> str:
    """What the proxy counts: the first meter of the catalog that counts."""
    for key, entry in toll.meters.current.by_key.items():
        if entry.by_count and entry.meter.checkable:
            return key
    raise InvalidRequest('The catalog has no meter with aggregation = "count"; the proxy counts calls with one.')


def _first_keys(toll: Tollkeeper) -> dict[str, str] | None:
    """Keys of the first customer, on the first plan of the catalog; None when that customer has keys already."""
    require_first_customer(toll)
    if toll.keys.list(customer=FIRST_CUSTOMER).items:
        return None
    return {name: _new_key(toll, name) for name in ENVIRONMENTS}


def require_first_customer(toll: Tollkeeper) -> None:
    """Make the first customer unless it is there, whatever plan it is on by now."""
    current = toll.catalog.current()
    assert current is not None
    try:
        toll.customers.get(FIRST_CUSTOMER)
    except NotFound:
        toll.customers.create(id=FIRST_CUSTOMER, name="First customer", plan=next(iter(current.catalog.plans), None))


def _new_key(toll: Tollkeeper, environment: Environment) -> str:
    return toll.keys.create(customer=FIRST_CUSTOMER, environment=environment, name=f"first {environment} key").key


def demo(environ: Mapping[str, str], folder: Path, address: str, say: Callable[[str], None] = tell) -> None:
    """`tollkeeper demo`: an example API behind the gate, with plans, a free customer, and keys that are remembered in `folder`."""
    read_address(address)  # before anything is written
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as fault:
        raise SettingsInvalid(f"{folder} cannot be made: {fault.strerror}. Name another with --folder.") from None
    settings = with_port(Settings.load(environ, folder))
    if (settings.stripe_secret_key or "").partition("_")[2].startswith("live_"):
        raise InvalidRequest(
            "The demo sells for show, and STRIPE_SECRET_KEY is a live key. Unset it, or set a test key."
        )
    if not settings.catalog_path.exists():
        write_catalog(settings.catalog_path, example_catalog(free="10", price="0.05", fee="9", name="Small tools"))
    with (
        play.stripe(settings, folder / "sandbox.db") as (settings, sandbox),
        opened(settings, lambda _: None) as server,
        contextlib.closing(bind("127.0.0.1", 0, "--listen")) as bound,
        taken(server, address, (upstream := Listener(demo_api.app, bound)).url) as sockets,
    ):
        keys = remembered_keys(server.toll, folder / "keys.json")
        meter = _first_meter(server.toll)
        put_on_shelf(server)

        def ready(running: Running) -> None:
            for line in _guide(running, keys["test"], meter, folder, sandbox, buy_link(server)):
                say(line)

        run(server, ProxyOptions(upstream.url, read_rules(meter, "1", ["/"])), sockets, ready, [upstream])


def remembered_keys(toll: Tollkeeper, path: Path) -> dict[str, str]:
    """The key of each environment: from the file where it still opens the gate, else a new one. The file has mode 0600."""
    require_first_customer(toll)
    known = _read_keys(path)
    keys: dict[str, str] = {}
    for environment in ENVIRONMENTS:
        kept = known.get(environment)
        snapshot = toll.gate.load(kept) if isinstance(kept, str) else None
        valid = snapshot is not None and snapshot.who.environment == environment and snapshot.refusal is None
        keys[environment] = kept if valid and kept else _new_key(toll, environment)
    if keys != known:
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps(keys, indent=2) + "\n")
        temporary.replace(path)
    return keys


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def with_port(settings: Settings) -> Settings:
    """With a free port for port 0, so that addresses can be told before the server listens."""
    if settings.port:
        return settings
    with contextlib.closing(bind(settings.host, 0, "PORT")) as taken:
        port = taken.getsockname()[1]

    def told(url: str) -> str:
        return f"http://127.0.0.1:{port}" if url == "http://127.0.0.1:0" else url

    return replace(settings, port=port, url=told(settings.url), public_url=told(settings.public_url))


def put_on_shelf(server: Server) -> None:
    """Make the provider hold the catalog. One that does not answer is told; the server goes on without."""
    if server.money.provider_catalog is None:
        return
    try:
        server.money.provider_catalog.apply()
    except TollkeeperError as fault:
        tell(f"The catalog could not be put into Stripe: {fault.detail} Mend it, then: tollkeeper stripe apply")


def buy_link(server: Server) -> str | None:
    """Where the first customer buys a plan, in the environment of the provider."""
    provider, buy = server.money.provider, server.toll.gate.buy
    link = buy(provider.environment, FIRST_CUSTOMER) if provider is not None and buy is not None else None
    if link is None:
        return None
    return f"{server.settings.public_url.rstrip('/')}/buy/{link(server.toll.clock.now_us() // 1_000_000)}"


def command() -> str:
    """How this program is called from another folder."""
    called = Path(sys.argv[0])
    if called.name != "tollkeeper":
        return f"{shlex.quote(sys.executable)} -m tollkeeper"
    return "tollkeeper" if shutil.which("tollkeeper") == str(called) else shlex.quote(str(called.absolute()))


def _at(running: Running) -> str:
    """What tells a command the server's address, where it is not the usual one."""
    return "" if running.server.endswith(":3000") else f"TOLLKEEPER_URL={running.server} "


def _selling(folder: Path, running: Running, sandbox: str | None, link: str) -> Iterator[str]:
    """What collects the money, step by step."""
    there = f"(cd {shlex.quote(str(folder))} && {_at(running)}{command()}"
    played = "A sandbox plays Stripe: no account, no money" if sandbox else "In the test account of Stripe"
    yield f"4. Buy the plan Pro in a browser, with the card {play.CARD}. {played}:"
    yield f"   {link}"
    yield ""
    yield "5. Call as in 2 some twenty times: ten are included. Then end the contract; its last invoice bills the others:"
    yield f"   {there} subscriptions cancel {FIRST_CUSTOMER} --now --yes)"
    yield f"   {there} invoices list --environment test)"
    yield ""
    if sandbox is not None:
        yield f"6. What the sandbox has, with buttons for time and webhooks: {sandbox}"
        yield ""


def _guide(
    running: Running, key: str, meter: str, folder: Path, sandbox: str | None, link: str | None
) -> Iterator[str]:
    call = f"curl -i {running.proxy}/iban/DE89370400440532013000"
    yield f"Tollkeeper listens on {running.server}"
    yield f"An example API (it checks IBANs) stands behind the gate on {running.proxy}"
    yield f"API reference: {running.server}/docs/api    files: {folder}/"
    yield ""
    yield "1. A call without a key is refused:"
    yield f"   {call}"
    yield ""
    yield "2. With the key of a free customer it is allowed, and counted:"
    yield f'   {call} -H "Authorization: Bearer {key}"'
    yield ""
    yield "3. The usage it left, read with the customer's own key:"
    yield f'   curl "{running.server}/v1/usage?meter={meter}" -H "Authorization: Bearer {key}"'
    yield ""
    if link is not None:
        yield from _selling(folder, running, sandbox, link)
    yield "Ctrl-C ends it. Usage and keys are kept for the next start."
