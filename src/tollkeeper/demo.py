"""`tollkeeper demo`: an example API behind the gate, from a refused call to a paid invoice, with no account anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tollkeeper import demo_api, play
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.catalog import example_catalog
from tollkeeper.core.customers import ENVIRONMENTS
from tollkeeper.core.errors import InvalidRequest, SettingsInvalid
from tollkeeper.first import (
    FIRST_CUSTOMER,
    at,
    buy_link,
    command,
    first_meter,
    new_key,
    put_on_shelf,
    require_first_customer,
    with_port,
    write_catalog,
)
from tollkeeper.front import Running, read_address, run, taken
from tollkeeper.server import opened, tell
from tollkeeper.settings import Settings
from tollkeeper.web.listen import Listener, bind
from tollkeeper.web.proxy_options import ProxyOptions
from tollkeeper.web.rules import read_rules


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
        meter = first_meter(server.toll)
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
        keys[environment] = kept if valid and kept else new_key(toll, environment)
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


def _selling(folder: Path, running: Running, sandbox: str | None, link: str) -> Iterator[str]:
    """What collects the money, step by step."""
    there = f"(cd {shlex.quote(str(folder))} && {at(running)}{command()}"
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
