"""`tollkeeper shadow`: what would have been refused, and whether it is safe to switch."""

from __future__ import annotations

from typing import Annotated

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Environment, Json, Verbose, examples
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import grouped, plural, shown_time

EXAMPLES = examples("tollkeeper shadow", "tollkeeper shadow --days 30 --json")


def shadow(
    days: Annotated[int, typer.Option(min=1, max=400, metavar="N", help="Days, today included.")] = 7,
    environment: Annotated[Environment, typer.Option(help="Which keys.")] = "live",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Report on shadow mode: who would have been refused, how often, and why.

    Exit code 0: it is safe to switch, 1: not yet.
    """
    with connect(verbose) as server:
        report = server.request("GET", "/v1/shadow", query={"days": days, "environment": environment})
    if json:
        terminal.show_json(report)
    else:
        if not report["plans"]:
            terminal.say(
                'No plan is in shadow mode. Put `shadow = ["PLAN"]` into the catalog, or `shadow = ["*"]` for all callers.'
            )
        if report["customers"]:
            table = terminal.table("customer", "refused", "why", "last", right=("refused",))
            for one in report["customers"]:
                why = ", ".join(f"{code} {grouped(calls)}" for code, calls in sorted(one["codes"].items()))
                terminal.add_row(
                    table, one["customer"] or "(no key)", grouped(one["refused"]), why, shown_time(one["last_at"])
                )
            terminal.show_table(table)
        terminal.say(_verdict(report, days))
    if not report["safe"]:
        raise typer.Exit(1)


def _verdict(report: dict[str, object], days: int) -> str:
    refused = report["refused"]
    assert isinstance(refused, int)
    period = f"in the last {plural(days, 'day')}"
    if refused:
        return f"Not yet: {plural(refused, 'call')} would have been refused {period}."
    if report["since"] is None:
        return "Not yet: shadow mode has not run for a whole day."
    return f"Safe to switch: nothing would have been refused {period}. Take the plans out of `shadow` and apply the catalog."
