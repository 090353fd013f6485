"""What a first start needs that shows how it goes: a catalog, a customer with keys, the catalog at the provider, a link to buy."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.customers import ENVIRONMENTS, Environment
from tollkeeper.core.errors import InvalidRequest, NotFound, SettingsInvalid, TollkeeperError
from tollkeeper.front import Running
from tollkeeper.server import Server, tell
from tollkeeper.settings import Settings
from tollkeeper.web.listen import bind

FIRST_CUSTOMER = "first"


def write_catalog(path: Path, text: str) -> None:
    """Raises SettingsInvalid."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise SettingsInvalid(f"{path} cannot be written: {fault.strerror}.") from None


def first_meter(toll: Tollkeeper) -> str:
    """What the proxy counts: the first meter of the catalog that counts."""
    for key, entry in toll.meters.current.by_key.items():
        if entry.by_count and entry.meter.checkable:
            return key
    raise InvalidRequest('The catalog has no meter with aggregation = "count"; the proxy counts calls with one.')


def first_keys(toll: Tollkeeper) -> dict[str, str] | None:
    """Keys of the first customer, on the first plan of the catalog; None when that customer has keys already."""
    require_first_customer(toll)
    if toll.keys.list(customer=FIRST_CUSTOMER).items:
        return None
    return {name: new_key(toll, name) for name in ENVIRONMENTS}


def require_first_customer(toll: Tollkeeper) -> None:
    """Make the first customer unless it is there, whatever plan it is on by now."""
    current = toll.catalog.current()
    assert current is not None
    try:
        toll.customers.get(FIRST_CUSTOMER)
    except NotFound:
        toll.customers.create(id=FIRST_CUSTOMER, name="First customer", plan=next(iter(current.catalog.plans), None))


def new_key(toll: Tollkeeper, environment: Environment) -> str:
    return toll.keys.create(customer=FIRST_CUSTOMER, environment=environment, name=f"first {environment} key").key


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


def at(running: Running) -> str:
    """What tells a command the server's address, where it is not the usual one."""
    return "" if running.server.endswith(":3000") else f"TOLLKEEPER_URL={running.server} "
