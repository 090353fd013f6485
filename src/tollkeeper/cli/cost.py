"""`tollkeeper customers cost`: what a customer has cost so far."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.lines import add_lines, lines_table, shown_amount
from tollkeeper.cli.options import Environment, Json, Verbose, examples
from tollkeeper.cli.server import connect, segment
from tollkeeper.cli.values import shown_time

EXAMPLES = examples("tollkeeper customers cost acme", "tollkeeper customers cost acme --environment test --json")


def cost(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id of the customer.", show_default=False)],
    environment: Annotated[Environment | None, typer.Option(help="live or test.", show_default=False)] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show what a customer has cost so far in the running period, line by line.

    Usage that is not known is shown as unknown, and so is a total it belongs to.
    """
    with connect(verbose) as server:
        found = server.request("GET", f"/v1/customers/{segment(customer)}/cost", query={"environment": environment})
    if json:
        terminal.show_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    if found["plan"] is None:
        terminal.say(f"{found['customer']} has no plan in {found['environment']}, and costs nothing.")
        return
    terminal.show_fields(
        [
            ("customer", found["customer"]),
            (f"{found['environment']} plan", f"{found['plan']} v{found['plan_version']}"),
            ("period", _span(found)),
        ]
    )
    if found["prices"]:
        made = lines_table("PRICE")
        for price in found["prices"]:
            if price["state"] == "known":
                add_lines(made, price["price"], price["lines"], price["key"])
            else:
                terminal.add_row(made, price["key"], terminal.styled("unknown", "yellow"), "", "", "")
        terminal.show_table(made)
    for total in found["totals"]:
        of = "" if total["end"] == found["end"] else f", {_span(total)}"
        known = total["state"] == "known"
        terminal.say(f"{shown_amount(total) if known else 'unknown'} to date{of}", "bold" if known else "yellow")
    if not found["totals"]:
        terminal.say("Nothing is charged on this plan so far.")
    for price in found["left_out"]:
        terminal.note(f"{price['key']} is in {price['currency']}, and {found['customer']} pays in {found['currency']}.")


def _span(of: dict[str, Any]) -> str:
    return f"{shown_time(of['start'])} to {shown_time(of['end'])}"
