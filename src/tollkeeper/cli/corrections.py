"""`tollkeeper events void | amend | corrections`: usage that was counted and should not have been, or not like this."""

from __future__ import annotations

import getpass
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.events import read_object
from tollkeeper.cli.options import Environment, Json, Verbose, Yes, examples
from tollkeeper.cli.progress import bars
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import INSTANT, grouped, instant, plural, shown_time

VOID_EXAMPLES = examples(
    'tollkeeper events void evt_01JD3V5E6QN8Z4V9W1T7B2X3YD --reason "answered with an error page"',
    "tollkeeper events void --from 2026-11-20T09:00 --to 2026-11-20T10:00 --customer acme --reason outage",
)
AMEND_EXAMPLES = examples(
    'tollkeeper events amend job-7731 --source billing-worker --data \'{"tokens": 125}\' --reason "a wrong unit"',
)
TRAIL_EXAMPLES = examples("tollkeeper events corrections", "tollkeeper events corrections --json")
PAGE = 50

Event = Annotated[
    str | None,
    typer.Argument(metavar="[EVENT]", help="Id of one event; or a range by --from and --to.", show_default=False),
]
Source = Annotated[str | None, typer.Option(metavar="NAME", help="Where the event comes from; ids are its own.")]
Since = Annotated[str | None, typer.Option("--from", metavar="WHEN", help=f"{INSTANT} ago.")]
Until = Annotated[str | None, typer.Option("--to", metavar="WHEN", help="The same; not included.")]
OfCustomer = Annotated[str | None, typer.Option("--customer", metavar="ID", help="Of the range, only this customer.")]
OfSubject = Annotated[str | None, typer.Option("--subject", metavar="ID", help="Of the range, only this subject.")]
OfType = Annotated[str | None, typer.Option("--type", metavar="NAME", help="Of the range, only this type.")]
OfMeter = Annotated[
    str | None, typer.Option("--meter", metavar="KEY", help="Of the range, only what this meter counts.")
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it stays in the trail.")]
Author = Annotated[str | None, typer.Option(metavar="NAME", help="Who; your user name otherwise.", show_default=False)]
Id = Annotated[
    str | None,
    typer.Option(
        "--id", metavar="ID", help="Of the correction: sent again, it changes nothing twice.", show_default=False
    ),
]
Where = Annotated[Environment, typer.Option(help="Of which environment.")]


def void(
    reason: Reason,
    event: Event = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    customer: OfCustomer = None,
    subject: OfSubject = None,
    type: OfType = None,
    meter: OfMeter = None,
    author: Author = None,
    id: Id = None,
    environment: Where = "live",
    yes: Yes = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Take one event, or those of a range, out of every total. What would change is shown first, then asked for.

    The events stay in the log, and their ids stay taken. With --json, or without a person, give --yes.
    """
    narrower = {"customer": customer, "subject": subject, "type": type, "meter": meter}
    asked = _asked("void", event, source, since, until, narrower, reason, author, id, environment)
    _correct(asked, "void", yes, json, verbose)


def amend(
    reason: Reason,
    data: Annotated[str, typer.Option(metavar="JSON", help="What counts in the place of the data that was sent.")],
    event: Event = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    customer: OfCustomer = None,
    subject: OfSubject = None,
    type: OfType = None,
    meter: OfMeter = None,
    author: Author = None,
    id: Id = None,
    environment: Where = "live",
    yes: Yes = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Let other data count in the place of what one event, or those of a range, were sent with.

    Quantities, dimensions and filters are judged by the new data; time, type, customer and subject stay. What would change is shown
    first, then asked for.
    """
    narrower = {"customer": customer, "subject": subject, "type": type, "meter": meter}
    asked = _asked("amend", event, source, since, until, narrower, reason, author, id, environment)
    asked["data"] = msgspec.Raw(read_object(data).encode())
    _correct(asked, "amend", yes, json, verbose)


def corrections(
    environment: Where = "live",
    limit: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="How many at most.")] = PAGE,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List what was voided and amended, by whom and why; the newest first."""
    with connect(verbose) as server:
        query = {"environment": environment, "limit": limit}
        page = server.request("GET", "/v1/corrections", query=query)
    if json:
        terminal.show_json(page)
        return
    if not page["data"]:
        terminal.say(f"Nothing was corrected in {environment}.")
        return
    made = terminal.table("when", "id", "action", "what", "events", "author", "reason", right=("events",))
    for one in page["data"]:
        events = grouped(one["events"]) + ("" if one["state"] == "applied" else " (not yet all)")
        terminal.add_row(
            made, shown_time(one["made_at"]), one["id"], one["action"], _what(one), events, one["author"], one["reason"]
        )
    terminal.show_table(made)


def _asked(
    action: str,
    event: str | None,
    source: str | None,
    since: str | None,
    until: str | None,
    narrower: dict[str, str | None],
    reason: str,
    author: str | None,
    id: str | None,
    environment: Environment,
) -> dict[str, Any]:
    """The request, without `dry_run`. Raises BadParameter."""
    ranged = since is not None or until is not None
    if (event is None) is not ranged:
        raise typer.BadParameter("name one event, or a range by --from and --to", param_hint="EVENT")
    asked: dict[str, Any] = {
        "id": id or f"cli-{uuid.uuid4()}",
        "action": action,
        "environment": environment,
        "reason": reason,
        "author": author or _user(),
    }
    if event is not None:
        if any(narrower.values()):
            raise typer.BadParameter("--customer, --subject, --type and --meter narrow a range", param_hint="EVENT")
        asked["event"] = {"id": event, "source": source}
        return asked
    if since is None or until is None:
        raise typer.BadParameter("a range has both --from and --to", param_hint="--from" if since is None else "--to")
    now = datetime.now(UTC)
    asked["range"] = {
        "from": instant("--from", since, now, None),
        "to": instant("--to", until, now, None),
        "source": source,
        **narrower,
    }
    return asked


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise typer.BadParameter("this machine does not tell who you are", param_hint="--author") from None


def _correct(asked: dict[str, Any], action: str, yes: bool, json: bool, verbose: bool) -> None:
    with connect(verbose) as server:

        def send(dry_run: bool) -> Any:
            body = msgspec.json.encode({**asked, "dry_run": dry_run})
            return server.request("POST", "/v1/corrections", body=body, repeatable=True)

        tried = send(dry_run=True)
        if tried["state"] == "dry_run":
            if not json:
                _show(tried)
            if not tried["events"]:
                if json:
                    terminal.show_json(tried)
                else:
                    terminal.say("Nothing is changed.")
                return
            terminal.confirm(f"{action} {plural(tried['events'], 'event')}?", yes)
        with bars("correcting") as (told,):
            made = send(dry_run=False)
            while made["state"] == "applying":
                told(made["events"], tried["events"])
                made = send(dry_run=False)
    if json:
        terminal.show_json(made)
    else:
        done = "voided" if action == "void" else "amended"
        terminal.say(f"{plural(made['events'], 'event')} {done} by correction {made['id']}.")


def _show(tried: dict[str, Any]) -> None:
    if tried["changes"]:
        made = terminal.table(
            "customer", "meter", "period", "before", "after", "difference", right=("before", "after", "difference")
        )
        for one in tried["changes"]:
            before, after, difference = (grouped(one[name]) or "-" for name in ("before", "after", "difference"))
            period = f"{shown_time(one['start'])} to {shown_time(one['end'])}"
            terminal.add_row(made, one["customer"], one["meter"], period, before, after, difference)
        terminal.show_table(made)
    elif tried["events"]:
        terminal.note("No meter counts these events, so no total changes.")
    if tried["skipped"]:
        terminal.note(f"{plural(tried['skipped'], 'event')} left as they are: voided, or amended to the same, before.")


def _what(one: dict[str, Any]) -> str:
    if one["event"] is not None:
        return f"{one['event']['id']} from {one['event']['source']}"
    given = one["range"]
    narrower = [f"{name} {given[name]}" for name in ("customer", "subject", "type", "meter", "source") if given[name]]
    return " ".join([f"{shown_time(given['from'])} to {shown_time(given['to'])}", *narrower])
