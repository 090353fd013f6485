"""`tollkeeper usage`: what was counted."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Environment, Json, Verbose, examples
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import INSTANT, grouped, instant, local_zone, plural, shown_time, zone_by_name

if TYPE_CHECKING:
    from tollkeeper.client import Tollkeeper

EXAMPLES = examples(
    "tollkeeper usage acme --meter api_calls",
    "tollkeeper usage acme --meter api_calls --from 7d --window day",
    "tollkeeper usage --meter tokens --group-by customer --environment test",
    "tollkeeper usage acme --meter tokens --group-by model --group-by region",
)
BAR = "▏▎▍▌▋▊▉█"
BAR_WIDTH = 24


def usage(
    customer: Annotated[
        str | None, typer.Argument(metavar="CUSTOMER", help="Id of the customer; all otherwise.")
    ] = None,
    meter: Annotated[
        str | None, typer.Option(metavar="KEY", help="Meter of the catalog; needed when there are several.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY_ID", help="Only what this key caused.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="WHEN", help=f"{INSTANT} ago.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="WHEN", help="The same; not included.")] = None,
    window: Annotated[
        Literal["hour", "day", "month", "period"] | None, typer.Option(help="One line for each.", show_default=False)
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Time zone of days and times; yours otherwise.")
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Split by customer, key or a dimension of the meter; several times."),
    ] = None,
    environment: Annotated[Environment | None, typer.Option(help="live or test.", show_default=False)] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show what was counted, as soon as it is acknowledged.

    A window that is not known is shown as unknown, never as 0.
    """
    shown_in = zone_by_name("--zone", zone) if zone else local_zone()
    now = datetime.now(UTC)
    start = instant("--from", since, now, shown_in) if since else None
    end = instant("--to", until, now, shown_in) if until else None
    with connect(verbose) as server:
        found = server.usage(
            customer=customer,
            key=key,
            meter=meter or _only_meter(server),
            from_=start,
            to=end,
            window=window,
            zone=shown_in.key if shown_in else None,
            group_by=",".join(group_by) if group_by else None,
            environment=environment,
        )
    if json:
        terminal.show_json(found)
    else:
        _show(found, window is not None, shown_in)


def _only_meter(server: Tollkeeper) -> str:
    meters = list(server.request("GET", "/v1/catalog")["catalog"]["meters"])
    if len(meters) != 1:
        raise typer.BadParameter(f"name one of {', '.join(meters)}", param_hint="--meter")
    return str(meters[0])


def _show(found: dict[str, Any], windows: bool, zone: tzinfo | None) -> None:
    """A line for each window and group, and the total with its span."""
    rows: list[dict[str, Any]] = found["data"]
    dimensions = list(dict.fromkeys(name for row in rows for name in row["group"]))
    known = [Decimal(row["value"]) for row in rows if row["value"] is not None]
    if windows or dimensions:
        most = max(known, default=Decimal(0))
        made = terminal.table(
            *(["FROM"] if windows else []), *dimensions, "USED", "EVENTS", "", right=("USED", "EVENTS")
        )
        made.columns[0].no_wrap = made.columns[-1].no_wrap = True
        bars = terminal.draws(BAR) and len(rows) > 1
        for row in rows:
            cells: list[Any] = [shown_time(row["start"], zone)] if windows else []
            cells += [str(row["group"].get(name) or "") for name in dimensions]
            if row["value"] is not None:
                drawn = bar(Decimal(row["value"]), most, BAR_WIDTH) if bars else ""
                cells += [grouped(row["value"]), grouped(row["events"]), terminal.styled(drawn, "cyan")]
            elif row["state"] == "known":  # no event to take a value of
                cells += ["none", grouped(row["events"]), ""]
            else:
                cells += [terminal.styled("unknown", "yellow"), "", ""]
            terminal.add_row(made, *cells)
        terminal.show_table(made)
    total = "none" if found["total"] is None else grouped(found["total"])
    terminal.say(f"{found['meter']}: {total} in all", "bold")
    if unknown := sum(row["state"] == "unknown" for row in rows):
        terminal.say(f"{unknown} of {plural(len(rows), 'line')} unknown, and not in the total", "yellow")
    if rows:
        start, end = min(row["start"] for row in rows), max(row["end"] for row in rows)
        terminal.say(f"from {shown_time(start, zone)} to {shown_time(end, zone)}", "dim")


def bar(value: Decimal, most: Decimal, width: int) -> str:
    """A bar in eighths of a character, `width` for `most`; anything above zero shows at least one eighth."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, int(value * width * 8 / most))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (BAR[rest - 1] if rest else "")
