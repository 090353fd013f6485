"""`tollkeeper webhooks`: what the payment provider told, what became of it, once more, and one made up for a try."""

from __future__ import annotations

import json as jsonlib
import secrets
import time
from typing import Annotated, Any, Literal

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Verbose, Yes, examples
from tollkeeper.cli.server import connect, load_settings, pages, segment
from tollkeeper.cli.values import plural, shown_time

app = typer.Typer(help="Look at Stripe's webhooks, apply them once more, try one.", no_args_is_help=True)

EventId = Annotated[
    str, typer.Argument(metavar="EVENT_ID", help="Id of the event, from `webhooks list`.", show_default=False)
]
Status = Literal["pending", "done", "ignored", "dead"]


@app.command(
    "list", epilog=examples("tollkeeper webhooks list", "tollkeeper webhooks list --status dead  # what needs you")
)
def list_(
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    type: Annotated[str | None, typer.Option(metavar="TYPE", help="Only these, such as invoice.paid.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List webhooks, newest first. Settled ones are kept for 40 days."""
    with connect(verbose) as server:
        found, more = pages(server, "/v1/webhooks/events", limit, {"status": status, "type": type})
    if json:
        terminal.show_json({"data": found, "more": more})
        return
    if not found:
        terminal.note("There are no such webhooks.")
        return
    made = terminal.table("RECEIVED", "TYPE", "ABOUT", "STATUS", "EVENT ID", whole=("RECEIVED", "STATUS", "EVENT ID"))
    for event in found:
        terminal.add_row(
            made,
            shown_time(event["received_at"], seconds=True),
            event["type"],
            event["object"] or "",
            _status(event),
            event["id"],
        )
    terminal.show_table(made)
    if more:
        terminal.note(f"The newest {plural(limit, 'webhook')}; there are more: --limit {limit * 10}")


@app.command(epilog=examples("tollkeeper webhooks show evt_1SXkQ2eZvKYlo2CUI79vXWy"))
def show(event_id: EventId, json: Json = False, verbose: Verbose = False) -> None:
    """Show what became of a webhook, and its body as it came."""
    with connect(verbose) as server:
        event = server.request("GET", f"/v1/webhooks/events/{segment(event_id)}")
    if json:
        terminal.show_json(event)
        return
    _show(event)
    terminal.say()
    terminal.show_json(jsonlib.loads(event["payload"]))


@app.command(
    epilog=examples(
        "tollkeeper webhooks replay evt_1SXkQ2eZvKYlo2CUI79vXWy",
        "tollkeeper webhooks replay --dead  # after what made them fail is mended",
    )
)
def replay(
    event_id: Annotated[
        str | None,
        typer.Argument(metavar="EVENT_ID", help="Id of the event, from `webhooks list`.", show_default=False),
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that failed too often.")] = False,
    yes: Yes = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Apply a webhook once more, from its first attempt.

    What is applied is what Stripe says of the object then, not what the webhook said.
    """
    if dead == (event_id is not None):
        raise typer.BadParameter("name one EVENT_ID, or all of them by --dead", param_hint="EVENT_ID")
    if event_id is None:
        terminal.confirm("Apply all dead webhooks once more?", yes)
        with connect(verbose) as server:
            done = server.request("POST", "/v1/webhooks/replay", {"status": "dead"})
        if json:
            terminal.show_json(done)
        else:
            terminal.say(f"{plural(done['replayed'], 'webhook')} made pending again.")
        return
    with connect(verbose) as server:
        event = server.request("POST", f"/v1/webhooks/events/{segment(event_id)}/replay", {})
    if json:
        terminal.show_json(event)
    else:
        terminal.say(f"{event['id']} is {event['status']}. See: tollkeeper webhooks show {event['id']}")


@app.command(epilog=examples("tollkeeper webhooks trigger invoice.paid --object in_1SXkPz2eZvKYlo2C"))
def trigger(
    type: Annotated[
        str, typer.Argument(metavar="TYPE", help="Type of the event, such as invoice.paid.", show_default=False)
    ],
    object: Annotated[
        str | None, typer.Option("--object", metavar="ID", help="Stripe's id of what it is about.")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make up a webhook of the test mode, sign it, and send it to the server.

    Signed with STRIPE_WEBHOOK_SECRET as it is set here, so this also tells whether the server has the same. Its effect reads the
    object from Stripe, so name one that exists in the test account, or in the sandbox.
    """
    from tollkeeper.core.webhooks import read_secrets, sign

    if not 0 < len(type) <= 255 or not type.isprintable():
        raise typer.BadParameter("expected 1 to 255 printable characters", param_hint="TYPE")
    settings = load_settings()
    keys = read_secrets(settings.stripe_webhook_secret or "")
    if not keys:
        raise terminal.Stop(
            "STRIPE_WEBHOOK_SECRET is not set, and without it nothing can be signed",
            "Set the secret that the server has, in the environment or in .env",
            exit_code=2,
        )
    now = int(time.time())
    event = {
        "id": f"evt_trigger_{secrets.token_hex(12)}",
        "object": "event",
        "created": now,
        "livemode": False,
        "type": type,
        "data": {"object": {"id": object, "object": type.partition(".")[0]}},
    }
    body = jsonlib.dumps(event).encode()
    with connect(verbose) as server:
        server.request("POST", "/webhooks/stripe", body=body, headers={"Stripe-Signature": sign(keys[0], body, now)})
    if json:
        terminal.show_json(event)
    else:
        terminal.say(f"{event['id']} is stored. See: tollkeeper webhooks show {event['id']}")


def _status(event: dict[str, Any]) -> str:
    if event["status"] == "pending" and event["attempts"]:
        return f"pending, {plural(event['attempts'], 'attempt')}"
    return str(event["status"])


def _show(event: dict[str, Any]) -> None:
    waits = event["status"] == "pending"
    terminal.show_fields(
        [
            ("event", event["id"]),
            ("type", event["type"]),
            ("about", event["object"] or ""),
            ("environment", event["environment"]),
            ("status", _status(event)),
            ("error", event["error"] or ""),
            ("happened", shown_time(event["created_at"], seconds=True)),
            ("received", shown_time(event["received_at"], seconds=True)),
            ("next attempt", shown_time(event["due_at"], seconds=True) if waits else ""),
            ("settled", shown_time(event["processed_at"], seconds=True) if event["processed_at"] else ""),
        ]
    )
