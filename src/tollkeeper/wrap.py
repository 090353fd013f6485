"""`tollkeeper wrap`: an API that runs already, behind the gate, and from its first call to its first paid invoice."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence

from tollkeeper import play
from tollkeeper.core.catalog import example_catalog
from tollkeeper.first import (
    FIRST_CUSTOMER,
    at,
    buy_link,
    command,
    first_keys,
    first_meter,
    put_on_shelf,
    with_port,
    write_catalog,
)
from tollkeeper.front import Running, read_address, run, taken
from tollkeeper.server import opened, tell
from tollkeeper.settings import Settings
from tollkeeper.web.proxy_options import ProxyOptions, read_upstream
from tollkeeper.web.rules import read_rules

SANDBOX_FILE = "tollkeeper-sandbox.db"


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
        meter = first_meter(toll)
        keys = first_keys(toll)
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


def answers(upstream: str) -> bool:
    """Whether anything speaks HTTP there; any status will do."""
    try:
        with urllib.request.urlopen(upstream, timeout=3):  # noqa: S310 - read_upstream let http and https through, nothing else
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def _paid(running: Running, key: str, sandbox: str, link: str) -> Iterator[str]:
    """From nothing to a paid invoice for one's own API, with a sandbox in the place of Stripe."""
    yield f"Get paid, for show: a sandbox plays Stripe for the test key ({sandbox}; no account, no money)."
    yield f"  1. Buy the plan in a browser, with the card {play.CARD}:"
    yield f"     {link}"
    yield "  2. Call your API with the test key:"
    yield f'     curl -i {running.proxy}/ -H "Authorization: Bearer {key}"'
    yield "  3. End the contract: its last invoice bills what was used, and is paid:"
    yield f"     {at(running)}{command()} subscriptions cancel {FIRST_CUSTOMER} --now --yes"
    yield f"     {at(running)}{command()} invoices list --environment test"
    yield "For real money set STRIPE_SECRET_KEY, then: tollkeeper stripe apply"


def _terms(free: str, price: str, fee: str, currency: str) -> str:
    parts = [f"{free} calls a month free"] if free != "0" else []
    parts += [f"{fee} {currency.upper()} a month"] if fee != "0" else []
    return ", ".join([*parts, f"{price} {currency.upper()} for each call beyond"] if price != "0" else parts)
