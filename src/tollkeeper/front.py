"""Server and proxy side by side in one process: `tollkeeper proxy`, `wrap` and `demo`. The files have one owner, so this is it."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tollkeeper import demo_api
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.catalog import example_catalog
from tollkeeper.core.errors import InvalidRequest, NotFound
from tollkeeper.integrations.access import Access
from tollkeeper.server import Server, on_a_loop, opened, tell
from tollkeeper.settings import Settings
from tollkeeper.web.listen import Listener, bind, parse_address
from tollkeeper.web.proxy import Proxy
from tollkeeper.web.proxy_options import ProxyOptions, read_rules, read_upstream

FIRST_CUSTOMER = "first"
DEMO_FOLDER = "tollkeeper-demo"


@dataclass(frozen=True, slots=True)
class Running:
    """What is up: the addresses as this machine reaches them."""

    server: str
    proxy: str


def run(
    server: Server,
    options: ProxyOptions,
    address: str,
    ready: Callable[[Running], None],
    others: Sequence[Listener] = (),
) -> None:
    """Answer on the server's address and, through the gate, on `address`, until told to stop. Raises InvalidRequest, AddressTaken."""
    try:
        host, port = parse_address(address)
    except ValueError:
        raise InvalidRequest(f"--listen: HOST:PORT is expected, found {address[:80]!r}.") from None
    meters = server.toll.meters.current.by_key
    for meter in sorted(options.meters):
        if meter not in meters:
            there = ", ".join(meters) or "none; apply a catalog first"
            raise InvalidRequest(f"There is no meter {meter!r} in the catalog (there is: {there}).")
    proxy = Proxy(server.toll.gate, options, server.problems, server.settings.public_url.rstrip("/"))
    server.proxy_counts = lambda: proxy.counts.calls
    main = server.listener()
    seen = Access(proxy, server.requests, server.settings.log_requests, route="proxy")
    front = Listener(seen, bind(host, port, "--listen"), plain=True)
    running = Running(main.url, front.url)

    async def answer() -> None:
        await proxy.start()
        try:
            await server.run([main, front, *others], lambda: ready(running))
        finally:
            await proxy.close()

    on_a_loop(answer())


def proxy(settings: Settings, options: ProxyOptions, address: str, say: Callable[[str], None] = tell) -> None:
    """`tollkeeper proxy`."""
    with opened(settings, say) as server:

        def ready(running: Running) -> None:
            say(f"Tollkeeper listens on {running.server}")
            say(f"The proxy to {options.upstream} listens on {running.proxy}")

        run(server, options, address, ready)


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
    currency: str,
    address: str,
    say: Callable[[str], None] = tell,
) -> None:
    """`tollkeeper wrap`: a catalog file unless there is one, a customer with two keys, server and proxy, and the first call to copy.

    Goes on when the upstream does not answer, and says so: it may be started later.
    """
    upstream = read_upstream(upstream)
    path = settings.catalog_path
    if path.exists():
        say(f"{settings.catalog} is there already and is used as it is; --free, --price and --currency change nothing.")
    else:
        path.write_text(example_catalog(free=free, price=price, currency=currency))
        say(f"{settings.catalog} written: {_terms(free, price, currency)}.")
    with opened(settings, say) as server:
        toll = server.toll
        meter = _first_meter(toll)
        keys = _first_keys(toll)
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

        run(server, ProxyOptions(upstream, read_rules(meter, "1")), address, ready)


def _terms(free: str, price: str, currency: str) -> str:
    parts = [f"{free} calls a month free"] if free != "0" else []
    return ", ".join([*parts, f"{price} {currency.upper()} for each call beyond"] if price != "0" else parts)


def _first_meter(toll: Tollkeeper) -> str:
    """What the proxy counts: the first meter of the catalog that counts."""
    for key, entry in toll.meters.current.by_key.items():
        if entry.by_count:
            return key
    raise InvalidRequest('The catalog has no meter with aggregation = "count"; the proxy counts calls with one.')


def _first_keys(toll: Tollkeeper) -> dict[str, str] | None:
    """Keys of the first customer, on the first plan of the catalog; None when that customer has keys already."""
    current = toll.catalog.current()
    assert current is not None
    try:
        toll.customers.get(FIRST_CUSTOMER)
    except NotFound:
        toll.customers.create(id=FIRST_CUSTOMER, name="First customer", plan=next(iter(current.catalog.plans), None))
    if toll.keys.list(customer=FIRST_CUSTOMER).items:
        return None
    return {
        "live": toll.keys.create(customer=FIRST_CUSTOMER, environment="live", name="first live key").key,
        "test": toll.keys.create(customer=FIRST_CUSTOMER, environment="test", name="first test key").key,
    }


def demo(environ: Mapping[str, str], folder: Path, address: str, say: Callable[[str], None] = tell) -> None:
    """`tollkeeper demo`: an example API behind the gate, with plans, a free customer, and keys that are remembered in `folder`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    settings = Settings.load(environ, folder)
    if not settings.catalog_path.exists():
        settings.catalog_path.write_text(example_catalog(name="Small tools"))
    with opened(settings, lambda _: None) as server, contextlib.closing(bind("127.0.0.1", 0, "--listen")) as bound:
        keys = _remembered_keys(server.toll, folder / "keys.json")
        upstream = Listener(demo_api.app, bound)
        meter = _first_meter(server.toll)

        def ready(running: Running) -> None:
            for line in _guide(running, keys["live"], meter, folder):
                say(line)

        run(server, ProxyOptions(upstream.url, read_rules(meter, "1")), address, ready, [upstream])


def _remembered_keys(toll: Tollkeeper, path: Path) -> dict[str, str]:
    if path.exists():
        keys: dict[str, str] = json.loads(path.read_text())
        return keys
    made = _first_keys(toll)
    if made is None:  # the file was deleted: other keys for the same customer
        made = {name: toll.keys.create(customer=FIRST_CUSTOMER, environment=name).key for name in ("live", "test")}
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(made, file)
    return made


def _guide(running: Running, key: str, meter: str, folder: Path) -> Iterator[str]:
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
    yield "Ctrl-C ends it. Usage and keys are kept for the next start."
