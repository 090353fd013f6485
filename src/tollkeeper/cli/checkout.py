"""`tollkeeper checkout` and `tollkeeper portal`: links at which a customer pays."""

from __future__ import annotations

from typing import Annotated

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Verbose, examples
from tollkeeper.cli.server import connect

EXAMPLES = examples("tollkeeper checkout acme pro", "tollkeeper checkout acme pro --coupon LAUNCH --trial-days 30")
PORTAL_EXAMPLES = examples("tollkeeper portal acme")

Id = Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id of the customer.", show_default=False)]
Url = Annotated[str | None, typer.Option(metavar="URL", help="Where the browser comes back to.")]


def checkout(
    customer: Id,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Plan on offer.", show_default=False)],
    coupon: Annotated[str | None, typer.Option(metavar="ID", help="The provider's id of a coupon.")] = None,
    trial_days: Annotated[
        int | None, typer.Option(min=0, max=730, help="Days that cost nothing; the plan's otherwise.")
    ] = None,
    success_url: Url = None,
    cancel_url: Url = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make a link at which a customer buys a plan.

    The plan holds from the moment the provider tells that it was paid.
    """
    body = {
        "customer": customer,
        "plan": plan,
        "coupon": coupon,
        "trial_days": trial_days,
        "success_url": success_url,
        "cancel_url": cancel_url,
    }
    with connect(verbose) as server:
        made = server.request("POST", "/v1/checkout", body)
    if json:
        terminal.show_json(made)
    else:
        terminal.show_fields([("checkout", made["id"]), ("plan", f"{made['plan']} v{made['plan_version']}")])
        terminal.say(made["url"])


def portal(customer: Id, return_url: Url = None, json: Json = False, verbose: Verbose = False) -> None:
    """Make a link to the provider's own pages for a customer: invoices, cards, cancelling.

    Whoever opens it is signed in as that customer.
    """
    with connect(verbose) as server:
        made = server.request("POST", "/v1/portal", {"customer": customer, "return_url": return_url})
    if json:
        terminal.show_json(made)
    else:
        terminal.say(made["url"])
