"""`tollkeeper export`: events and usage as files, for a spreadsheet, a warehouse, or another Tollkeeper."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal

import msgspec
import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.events_import import SUFFIXES, Format
from tollkeeper.cli.export_shape import EVENT_COLUMNS, NUMBERS, USAGE_COLUMNS, escaped
from tollkeeper.cli.options import Customer, Environment, Verbose, Yes, examples
from tollkeeper.cli.progress import bars
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import INSTANT, instant, plural, zone_by_name

app = typer.Typer(help="Write events and usage to files.", no_args_is_help=True)

PAGE: Final = 2_000
CUSTOMERS: Final = 100
Add = Callable[[Sequence[Mapping[str, str | None]]], None]
File = Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is stdout, with --format.", show_default=False)]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="When the name does not tell.", show_default=False)
]

_encode = msgspec.json.Encoder(order="deterministic", decimal_format="number").encode


@app.command(
    epilog=examples(
        "tollkeeper export events events.ndjson",
        "tollkeeper export events acme.csv --customer acme",
        "tollkeeper export events - --format ndjson | gzip > events.ndjson.gz",
    )
)
def events(
    file: File,
    format: FormatOption = None,
    customer: Customer = None,
    environment: Annotated[Environment, typer.Option(help="Of which environment.")] = "live",
    yes: Yes = False,
    verbose: Verbose = False,
) -> None:
    """Write every event as it is kept, in order. `events import` reads the file again and counts nothing twice.

    Texts in CSV are escaped for spreadsheets; NDJSON and Parquet hold them as they are.
    """
    written = 0
    with _writing(file, format, EVENT_COLUMNS, yes) as add, connect(verbose) as server, bars("exporting") as (told,):
        cursor: int | None = 0
        while cursor is not None:
            query = {"cursor": cursor, "limit": PAGE, "environment": environment, "customer": customer}
            page = server.request("GET", "/v1/events/log", query=query, exact=True)
            add([_event(event) for event in page["data"]])
            written += len(page["data"])
            cursor = page["next_cursor"]
            told(written, 0)
    terminal.note(f"{plural(written, 'event')} exported.")


@app.command(
    epilog=examples(
        "tollkeeper export usage october.csv --from 2026-10-01 --to 2026-11-01 --window day",
        "tollkeeper export usage usage.parquet --from 30d --window hour --by-key",
    )
)
def usage(
    file: File,
    format: FormatOption = None,
    customer: Customer = None,
    meter: Annotated[str | None, typer.Option(metavar="KEY", help="Only this meter.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="WHEN", help=f"{INSTANT} ago.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="WHEN", help="The same; not included.")] = None,
    window: Annotated[
        Literal["hour", "day", "month", "period"] | None, typer.Option(help="A row for each.", show_default=False)
    ] = None,
    zone: Annotated[str, typer.Option(metavar="ZONE", help="Time zone of days and months.")] = "UTC",
    by_key: Annotated[bool, typer.Option("--by-key", help="A row for each key.")] = False,
    environment: Annotated[Environment, typer.Option(help="Of which environment.")] = "live",
    yes: Yes = False,
    verbose: Verbose = False,
) -> None:
    """Write what each customer used. Windows without usage are left out; one that is not known has no value and says so.

    Without --from: each customer's running period.
    """
    shown_in, now = zone_by_name("--zone", zone), datetime.now(UTC)
    asked: dict[str, str | int | None] = {
        "from": instant("--from", since, now, shown_in) if since else None,
        "to": instant("--to", until, now, shown_in) if until else None,
        "window": window,
        "zone": shown_in.key,
        "group_by": "key" if by_key else None,
        "environment": environment,
    }
    written = 0
    with _writing(file, format, USAGE_COLUMNS, yes) as add, connect(verbose) as server, bars("exporting") as (told,):
        meters = [meter] if meter else list(server.request("GET", "/v1/catalog")["catalog"]["meters"])
        for done, one in enumerate([customer] if customer else _customers(server), 1):
            for key in meters:
                found = server.usage(customer=one, meter=key, **asked)
                rows = [
                    _used(row, environment, one, key)
                    for row in found["data"]
                    if row["events"] or row["state"] == "unknown"
                ]
                add(rows)
                written += len(rows)
            told(done, 0)
    terminal.note(f"{plural(written, 'row')} exported.")


def _customers(server: Any) -> Iterator[str]:
    cursor: str | None = None
    while True:
        page = server.request("GET", "/v1/customers", query={"cursor": cursor, "limit": CUSTOMERS})
        yield from (str(one["id"]) for one in page["data"])
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _event(event: Mapping[str, Any]) -> dict[str, str | None]:
    row = {name: None if event[name] is None else str(event[name]) for name in EVENT_COLUMNS}
    objects = {name: event[name] for name in ("data", "amended")}
    return {**row, **{name: None if one is None else _encode(one).decode() for name, one in objects.items()}}


def _used(row: Mapping[str, Any], environment: str, customer: str, meter: str) -> dict[str, str | None]:
    made = {"environment": environment, "customer": customer, "meter": meter, "key": row["group"].get("key")}
    return {**made, "events": str(row["events"]), **{name: row[name] for name in ("start", "end", "value", "state")}}


@contextmanager
def _writing(file: str, format: Format | None, columns: Sequence[str], yes: bool) -> Iterator[Add]:
    """A function that adds rows. The file appears when it is whole. Raises Stop, BadParameter."""
    path = Path(file)
    kind = format or SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise typer.BadParameter("name the format: ndjson, csv or parquet", param_hint="--format")
    if file == "-":
        if kind == "parquet":
            raise typer.BadParameter("Parquet is written to a file, not to stdout", param_hint="FILE")
        yield _adding(sys.stdout, kind, columns)
        return
    if path.exists():
        terminal.confirm(f"{file} exists. Replace it?", yes)
    fresh = path.with_name(path.name + ".new")
    try:
        if kind == "parquet":
            from tollkeeper.cli.parquet import writing

            with writing(fresh, columns) as add:
                yield add
        else:
            with fresh.open("w", encoding="utf-8", newline="") as out:
                yield _adding(out, kind, columns)
        fresh.replace(path)
    except OSError as fault:
        raise terminal.Stop(f"{file} cannot be written: {fault.strerror or fault}", exit_code=2) from None
    finally:
        fresh.unlink(missing_ok=True)


def _adding(out: IO[str], kind: str, columns: Sequence[str]) -> Add:
    if kind == "csv":
        writer = csv.writer(out)
        writer.writerow(columns)

        def add_csv(rows: Sequence[Mapping[str, str | None]]) -> None:
            writer.writerows([_cell(name, row[name]) for name in columns] for row in rows)

        return add_csv

    def add_ndjson(rows: Sequence[Mapping[str, str | None]]) -> None:
        for row in rows:
            members = (f"{_encode(name).decode()}:{_member(name, row[name])}" for name in columns)
            out.write("{" + ",".join(members) + "}\n")

    return add_ndjson


def _cell(name: str, text: str | None) -> str:
    return "" if text is None else text if name in NUMBERS else escaped(text)


def _member(name: str, text: str | None) -> str:
    """Decimals are strings, as everywhere in the API."""
    if text is None:
        return "null"
    return text if name in ("data", "amended", "seq", "events") else _encode(text).decode()
