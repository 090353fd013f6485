"""`tollkeeper drift`: whether the payment provider has what the ledger has; who, what, how much, and which reports explain it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Customer, Json, Verbose, Yes, examples
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import plural, shown_time

EXAMPLES = examples(
    "tollkeeper drift",
    "tollkeeper drift --all --customer acme",
    "tollkeeper drift --repair  # by signed adjustments on the next invoices",
    "tollkeeper drift --repair --voided --customer acme",
)


def drift(
    customer: Customer = None,
    all: Annotated[bool, typer.Option("--all", help="Also where both sides are equal.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Bill or give back the difference by adjustments.")] = False,
    voided: Annotated[
        bool, typer.Option("--voided", help="With --repair: bill what stood on voided invoices, too.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="The usage log is an older copy, and right: go on reporting from its end.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare the ledger with Stripe's meters and invoices, now.

    Exit code 1: something differs by more than 5 %, or by anything unexplained after its period was settled. Exit code 3: nothing
    does as far as is known, and of some of it Stripe does not say what it has.
    """
    with connect(verbose, timeout=300.0) as server:
        if resume:
            terminal.confirm("Is the usage log that is there now the right one?", yes)
            done = server.request("POST", "/v1/drift/resume", {})
            if json:
                terminal.show_json(done)
            else:
                terminal.say(f"Reports go on from sequence {done['seq']}.")
            return
        query = {"customer": customer, "all": "true" if all else None}
        found = server.request("POST", "/v1/drift/check", {}, query=query)
        repaired: list[Any] = []
        if repair and any(_repairable(one, voided) for one in found["data"]):
            _show(found["data"], json)
            which = "refused, unexplained, uninvoiced or voided" if voided else "refused, unexplained or uninvoiced"
            terminal.confirm(f"Write adjustments for what is {which}?", yes)
            repaired = server.request("POST", "/v1/drift/repair", {"customer": customer, "voided": voided})["data"]
            found = server.request("GET", "/v1/drift", query=query)
    if json:
        terminal.show_json({**found, "adjustments": repaired})
    else:
        for one in repaired:
            terminal.say(f"{one['id']}  {one['customer']}  {one['amount']} {one['currency']}  {one['reason']}")
        _show(found["data"], json)
    if found["alarming"]:
        raise typer.Exit(1)
    if any(one["state"] == "unknown" for one in found["data"]):
        raise typer.Exit(3)


def _repairable(check: dict[str, Any], voided: bool) -> bool:
    given = voided and any(one["state"] == "voided" for one in check["adjustments"])
    return given or check["state"] in ("refused", "unexplained")


def _show(checks: list[dict[str, Any]], json: bool) -> None:
    if json:
        return
    if not checks:
        terminal.say("Stripe has what the ledger has.", "green")
        return
    made = terminal.table("CUSTOMER", "METER", "PERIOD", "LEDGER", "STRIPE", "SHORT OF", "STATE", whole=("STATE",))
    for one in checks:
        terminal.add_row(
            made,
            one["customer"],
            one["meter"],
            shown_time(one["period_start"]),
            one["ledger"],
            one["provider"] or "unknown",
            one["difference"] or "unknown",
            one["state"],
        )
    terminal.show_table(made)
    for one in checks:
        if one["state"] == "equal":
            continue
        terminal.say(f"{one['customer']} {one['meter']}: {one['explanation']}")
        for adjustment in one["adjustments"]:
            if adjustment["state"] in ("voided", "written_off"):
                terminal.note(
                    f"  {adjustment['id']}  {adjustment['quantity']}  {adjustment['state']}  {adjustment['reason']}"
                )
        for message in one["messages"]:
            if message["status"] in ("sent", "confirmed") and one["state"] != "unexplained":
                continue
            seqs = message["payload"]
            events = f"events {seqs['after_seq'] + 1} to {seqs['upto_seq']} of the log" if "upto_seq" in seqs else ""
            terminal.note(
                f"  {message['id']}  {message['quantity']}  {message['status']}  {events}  {message['error'] or ''}"
            )
    terminal.note(
        f"{plural(len(checks), 'comparison')}. What is pending is on its way; what is outside belongs to no contract."
    )
    if any(adjustment["state"] == "voided" for one in checks for adjustment in one["adjustments"]):
        terminal.note("What is voided stood on an invoice that was voided, and is billed by --repair --voided alone.")
