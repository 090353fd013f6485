"""`tollkeeper subscriptions`: what customers bought at the payment provider, and changing it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Environment, Json, Verbose, Yes, examples
from tollkeeper.cli.server import connect, segment
from tollkeeper.cli.values import shown_time

app = typer.Typer(help="What customers bought at the provider: show, change, cancel, pause.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id of the customer.", show_default=False)]
Now = Annotated[bool, typer.Option("--now", help="At once.")]
Later = Annotated[bool, typer.Option("--period-end", help="At the end of the running period.")]


@app.command(epilog=examples("tollkeeper subscriptions show acme"))
def show(
    customer: Id,
    environment: Annotated[Environment | None, typer.Option(help="The provider's account's otherwise.")] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show what a customer bought, and what the gate goes by."""
    with connect(verbose) as server:
        path = f"/v1/customers/{segment(customer)}/subscription"
        found = server.request("GET", path, query={"environment": environment})
    _show(found, json)


@app.command(
    epilog=examples("tollkeeper subscriptions change acme max", "tollkeeper subscriptions change acme pro --period-end")
)
def change(
    customer: Id,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Plan on offer.", show_default=False)],
    now: Now = False,
    period_end: Later = False,
    yes: Yes = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Move a customer to another plan at the provider.

    A dearer plan holds at once, with what was paid ahead set against it; a cheaper one from the end of the period on.
    """
    terminal.confirm(f"Change the plan of {customer} to {plan}?", yes)
    body = {"plan": plan, "when": _when(now, period_end)}
    _post(customer, "change", body, json, verbose)


@app.command(
    epilog=examples("tollkeeper subscriptions cancel acme", "tollkeeper subscriptions cancel acme --now --yes")
)
def cancel(customer: Id, now: Now = False, yes: Yes = False, json: Json = False, verbose: Verbose = False) -> None:
    """End what a customer bought, at the end of the period or at once. Usage up to then is invoiced."""
    terminal.confirm(f"Cancel the subscription of {customer} {'now' if now else 'at the end of the period'}?", yes)
    _post(customer, "cancel", {"when": "now" if now else "period_end"}, json, verbose)


@app.command(epilog=examples("tollkeeper subscriptions pause acme"))
def pause(customer: Id, yes: Yes = False, json: Json = False, verbose: Verbose = False) -> None:
    """Charge nothing and let no call pass until it is resumed."""
    terminal.confirm(f"Pause the subscription of {customer}? Its calls are refused meanwhile.", yes)
    _post(customer, "pause", None, json, verbose)


@app.command(epilog=examples("tollkeeper subscriptions resume acme"))
def resume(customer: Id, json: Json = False, verbose: Verbose = False) -> None:
    """Go on with a subscription that was paused."""
    _post(customer, "resume", None, json, verbose)


def _when(now: bool, period_end: bool) -> str | None:
    if now and period_end:
        raise terminal.Stop("--now and --period-end exclude each other", exit_code=2)
    return "now" if now else "period_end" if period_end else None


def _post(customer: str, what: str, body: dict[str, Any] | None, json: bool, verbose: bool) -> None:
    with connect(verbose) as server:
        found = server.request("POST", f"/v1/customers/{segment(customer)}/subscription/{what}", body)
    _show(found, json)


def _show(found: dict[str, Any], json: bool) -> None:
    if json:
        terminal.show_json(found)
        return
    ours, bought = found["subscription"], found["bought"]
    rows: list[tuple[str, Any]] = [("environment", found["environment"])]
    if ours is not None:
        rows.append(("plan", f"{ours['plan']} v{ours['plan_version']}, {ours['status']}"))
    else:
        rows.append(("plan", "none: calls are refused"))
    if found["grace_until"]:
        rows.append(("not paid; grace until", shown_time(found["grace_until"])))
    if bought is None:
        rows.append(("bought", "nothing at the provider"))
    else:
        rows.append((bought["provider"], f"{bought['id']}, {bought['status']}{', paused' if bought['paused'] else ''}"))
        rows.append(("period", f"{shown_time(bought['period_start'])} to {shown_time(bought['period_end'])}"))
        for name, label in (("trial_end", "trial until"), ("cancel_at", "ends"), ("ended_at", "ended")):
            if bought[name]:
                rows.append((label, shown_time(bought[name])))
    terminal.show_fields(rows)
