"""`tollkeeper proxy`: server and proxy in front of an API."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tollkeeper.cli.options import examples
from tollkeeper.cli.server import load_settings


class CountOn(StrEnum):
    """Which calls are counted."""

    success = "success"
    attempt = "attempt"


EXAMPLES = examples(
    "tollkeeper proxy --upstream http://localhost:8000",
    "tollkeeper proxy --upstream http://localhost:8000 --free /health --price /search=api_calls:5",
    "tollkeeper proxy --upstream http://localhost:8000 --reserve tokens=4000 --quantity-from json:usage.total_tokens",
    "tollkeeper proxy --upstream http://localhost:8000 --key-header X-API-Key --trust-forwarded 1",
)


def proxy(
    upstream: Annotated[str, typer.Option(metavar="URL", help="Where the API answers, such as http://localhost:8000.")],
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="HOST:PORT or PORT of the API behind the gate.")
    ] = "127.0.0.1:8080",
    meter: Annotated[str, typer.Option(metavar="KEY", help="The meter that counts a call.")] = "api_calls",
    cost: Annotated[str, typer.Option(metavar="DECIMAL", help="What a call costs, a decimal.")] = "1",
    count_on: Annotated[
        CountOn | None, typer.Option(help="What is counted; otherwise as the meter says.", show_default=False)
    ] = None,
    free: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Path that passes without a key, with all below it; a method and a space may stand before it.",
            show_default=False,
        ),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRICE",
            help="PATH=METER or PATH=METER:COST for a path and all below it; a method and a space may stand before PATH.",
            show_default=False,
        ),
    ] = None,
    key_header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Header a key stands in; Authorization and X-API-Key otherwise.", show_default=False
        ),
    ] = None,
    key_parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Query parameter a key stands in; api_key otherwise.", show_default=False),
    ] = None,
    trust_forwarded: Annotated[
        int,
        typer.Option(
            min=0,
            max=10,
            metavar="COUNT",
            help="How many proxies in front of this one are believed about the caller's address.",
        ),
    ] = 0,
    timeout: Annotated[
        float,
        typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Seconds until the upstream must begin to answer."),
    ] = 60.0,
    adaptive: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            metavar="N",
            help="Hold callers back (503) while the upstream is slow or fails; at most N requests at once.",
            show_default=False,
        ),
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option(
            metavar="METER=AMOUNT",
            help="Hold so much before a call, and count what it came to; instead of --meter and --cost.",
            show_default=False,
        ),
    ] = None,
    quantity_from: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="With --reserve, what it came to: header:NAME, json:PATH, bytes or seconds of the answer.",
            show_default=False,
        ),
    ] = None,
    keep_host: Annotated[bool, typer.Option("--keep-host", help="Send the caller's Host to the upstream.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Port of the server; above PORT.", show_default=False),
    ] = None,
) -> None:
    """Start the server and a proxy in front of an API.

    Bodies stream both ways. The key is removed before the API sees the request; who calls is in X-Tollkeeper-Customer, -Key, -Plan,
    -Environment and -Request-Id, which no caller can forge.
    """
    settings = load_settings({"PORT": None if port is None else str(port)})
    from tollkeeper import bootstrap

    chosen = key_header is not None or key_parameter is not None
    bootstrap.proxy(
        settings,
        upstream,
        listen,
        meter=meter,
        cost=cost,
        count_on=None if count_on is None else count_on.value,
        free=free or (),
        prices=price or (),
        key_headers=(key_header or ()) if chosen else ("Authorization", "X-API-Key"),
        key_parameters=(key_parameter or ()) if chosen else ("api_key",),
        trusted=trust_forwarded,
        timeout=timeout,
        keep_host=keep_host,
        adaptive=adaptive,
        reserve=reserve,
        quantity_from=quantity_from,
    )
