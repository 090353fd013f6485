"""`tollkeeper outbox`: what is owed to the payment provider, what became of it, and once more."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Verbose, examples
from tollkeeper.cli.server import connect, pages, segment
from tollkeeper.cli.values import plural, shown_time

app = typer.Typer(help="Look at what is owed to Stripe, send it once more.", no_args_is_help=True)

MessageId = Annotated[
    str, typer.Argument(metavar="MESSAGE_ID", help="Id of the message, from `outbox list`.", show_default=False)
]
Status = Literal[
    "queued",
    "pending",
    "sending",
    "unknown",
    "sent",
    "confirmed",
    "rejected",
    "too_old",
    "carried_forward",
    "dead",
]


@app.command("list", epilog=examples("tollkeeper outbox list", "tollkeeper outbox list --status rejected"))
def list_(
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List messages, newest first."""
    with connect(verbose) as server:
        found, more = pages(server, "/v1/outbox", limit, {"status": status})
    if json:
        terminal.show_json({"data": found, "more": more})
        return
    if not found:
        terminal.note("There are no such messages.")
        return
    made = terminal.table(
        "MADE", "TOPIC", "CUSTOMER", "METER", "QUANTITY", "STATUS", "MESSAGE ID", whole=("MADE", "STATUS", "MESSAGE ID")
    )
    for one in found:
        terminal.add_row(
            made,
            shown_time(one["created_at"], seconds=True),
            one["topic"],
            one["customer"] or "",
            one["meter"] or "",
            one["quantity"] or "",
            one["status"],
            one["id"],
        )
    terminal.show_table(made)
    if more:
        terminal.note(f"The newest {plural(limit, 'message')}; there are more: --limit {limit * 10}")


@app.command(epilog=examples("tollkeeper outbox show out_01JD3V5E6QN8Z4V9W1T7B2X3YA"))
def show(message_id: MessageId, json: Json = False, verbose: Verbose = False) -> None:
    """Show a message: what is sent, under which identifier, and what became of it."""
    with connect(verbose) as server:
        one = server.request("GET", f"/v1/outbox/{segment(message_id)}")
    if json:
        terminal.show_json(one)
        return
    waits = one["status"] in ("pending", "unknown")
    terminal.show_fields(
        [
            ("message", one["id"]),
            ("topic", one["topic"]),
            ("identifier", one["identifier"]),
            ("environment", one["environment"]),
            ("customer", one["customer"] or ""),
            ("meter", one["meter"] or ""),
            ("period", shown_time(one["period_start"]) if one["period_start"] else ""),
            ("quantity", one["quantity"] or ""),
            ("status", one["status"]),
            ("attempts", str(one["attempts"])),
            ("error", one["error"] or ""),
            ("made", shown_time(one["created_at"], seconds=True)),
            ("next look", shown_time(one["due_at"], seconds=True) if waits else ""),
            ("settled", shown_time(one["settled_at"], seconds=True) if one["settled_at"] else ""),
        ]
    )
    terminal.say()
    terminal.show_json(one["payload"])


@app.command(epilog=examples("tollkeeper outbox replay out_01JD3V5E6QN8Z4V9W1T7B2X3YA"))
def replay(message_id: MessageId, json: Json = False, verbose: Verbose = False) -> None:
    """Send a dead message once more, or usage that Stripe rejected, after the cause is mended."""
    with connect(verbose) as server:
        one = server.request("POST", f"/v1/outbox/{segment(message_id)}/replay", {})
    if json:
        terminal.show_json(one)
    else:
        terminal.say(f"{one['id']} is {one['status']}. See: tollkeeper outbox show {one['id']}")
