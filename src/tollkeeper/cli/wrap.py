"""`tollkeeper wrap`: price an API that runs already."""

from __future__ import annotations

from typing import Annotated

import typer

from tollkeeper.cli.options import examples
from tollkeeper.cli.server import load_settings

EXAMPLES = examples(
    "tollkeeper wrap http://localhost:8000 --free 1000 --price 0.001",
    "tollkeeper wrap http://localhost:8000 --free 0 --price 0.05 --currency eur",
)


def wrap(
    upstream: Annotated[
        str, typer.Argument(metavar="URL", help="Where your API answers, such as http://localhost:8000.")
    ],
    free: Annotated[str, typer.Option(metavar="DECIMAL", help="Calls a month that cost nothing.")] = "1000",
    price: Annotated[str, typer.Option(metavar="DECIMAL", help="Price of each call beyond, in major units.")] = "0.001",
    fee: Annotated[str, typer.Option(metavar="DECIMAL", help="Price of a month, paid at its beginning.")] = "0",
    currency: Annotated[str, typer.Option(metavar="CODE", help="ISO 4217 code.")] = "usd",
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="HOST:PORT or PORT of your API behind the gate.")
    ] = "127.0.0.1:8080",
    free_path: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Path that passes without a key, with all below it, such as /health.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Port of the server; above PORT.", show_default=False),
    ] = None,
) -> None:
    """Price an API that you already run.

    Writes tollkeeper.toml unless there is one, makes a customer with a live and a test key, starts the gate and a proxy in front of it,
    and prints the first call. Your API stays as it is; only successes are counted. It may be started later: until then calls get 502
    and cost nothing. Run again, wrap goes on where it was.

    Unless STRIPE_SECRET_KEY is set, a sandbox plays Stripe for the test key, so that a paid invoice is a minute away.
    """
    settings = load_settings({"PORT": None if port is None else str(port)})
    from tollkeeper import bootstrap

    bootstrap.wrap(
        settings,
        upstream,
        free=free,
        price=price,
        fee=fee,
        currency=currency.lower(),
        address=listen,
        free_paths=free_path or (),
    )
