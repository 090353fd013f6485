"""`tollkeeper whatif`: what plans would have earned, from the logs that are there already."""

from __future__ import annotations

import secrets
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, examples
from tollkeeper.cli.progress import bars
from tollkeeper.cli.server import load_settings
from tollkeeper.cli.values import local_zone, plural, zone_by_name

if TYPE_CHECKING:
    from tollkeeper.cli.whatif_words import Told
    from tollkeeper.core.metering import Meter
    from tollkeeper.core.plans import Catalog
    from tollkeeper.services.whatif import Question

EXAMPLES = examples(
    "tollkeeper whatif /var/log/nginx/access.log* --price 0.001",
    "tollkeeper whatif access.log --free 500 --price 0.001 --price 0.002 --html report.html",
    "tollkeeper whatif access.log --catalog tollkeeper.toml --by user --path /v1 --json",
    "ssh web cat access.log.gz | tollkeeper whatif - --price 0.01",
)


def whatif(
    files: Annotated[
        list[str], typer.Argument(metavar="LOG…", help="Access logs, plain or .gz; - for standard input.")
    ],
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DECIMAL", help="Price of each call beyond the free ones; several are compared.", show_default=False
        ),
    ] = None,
    free: Annotated[
        str | None,
        typer.Option(metavar="DECIMAL", help="Calls a month that cost nothing; 1000 otherwise.", show_default=False),
    ] = None,
    currency: Annotated[str, typer.Option(metavar="CODE", help="ISO 4217 code of --price.")] = "usd",
    catalog: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Plans of a catalog, instead of --price; TOLLKEEPER_CATALOG otherwise.",
            show_default=False,
        ),
    ] = None,
    meter: Annotated[
        str | None, typer.Option(metavar="KEY", help="Meter of the catalog that calls are; needed when several count.")
    ] = None,
    by: Annotated[
        Literal["key", "user", "network"] | None,
        typer.Option(help="Who a caller is. Otherwise the first that half of the calls carry.", show_default=False),
    ] = None,
    key_field: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Field or header with the key, in JSON logs; Authorization and X-API-Key otherwise.",
            show_default=False,
        ),
    ] = "",
    key_parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Query parameter with the key; api_key otherwise.", show_default=False),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Only calls of this path and all below it.", show_default=False),
    ] = None,
    free_path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Path that would need no key, with all below it.", show_default=False),
    ] = None,
    count_on: Annotated[
        Literal["success", "attempt"] | None,
        typer.Option(help="success: 2xx; attempt: every call. The meter's own otherwise.", show_default=False),
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Time zone of months; yours otherwise.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option(min=0, metavar="N", help="Callers named in each list; 0: all.")] = 10,
    most: Annotated[
        int, typer.Option(min=1, metavar="N", help="Callers kept apart, in all months together.")
    ] = 200_000,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as one page, too.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Show what plans would have earned, from access logs. Nothing is installed, sent or changed.

    Reads common, combined and AWS ALB logs, and JSON of nginx and Caddy. Every call is judged by each plan's limits and quota at
    its own time, and every caller is rated by month. Of keys only the ends are shown.
    """
    if catalog is not None and (price or free is not None):
        raise typer.BadParameter("give --price and --free, or a catalog", param_hint="--catalog")
    for option, given in (("--path", path), ("--free-path", free_path)):
        if not all(one.startswith("/") for one in given or ()):
            raise typer.BadParameter("a path begins with /", param_hint=option)
    offers = _offers(price or [], free, currency.lower()) if price or free is not None else _catalog(catalog)
    from tollkeeper.services.whatif import Question, today_latest

    counted = _meter(offers, meter)
    plans = tuple(offers.plans.values())
    if not plans:
        raise terminal.Stop("the catalog has no plans", "Give --price, or add a plan to it.", 2)
    rules = zone_by_name("--zone", zone) if zone else local_zone()
    question = Question(
        plans=plans,
        meter=counted,
        zone=rules.key if rules else "UTC",
        latest_us=today_latest(datetime.now(UTC)),
        salt=secrets.token_bytes(16),
        by=by,
        count_on=count_on or counted.count_on,
        parameters=tuple(key_parameter or ("api_key",)),
        paths=tuple(path or ()),
        free_paths=tuple(free_path or ()),
        most_cells=most,
    )
    if html is not None:
        _may_write(html)
    told = _read(files, question, key_field, offers.currency, top)
    if html is not None:
        _write(html, told)
    if json:
        from tollkeeper.cli.whatif_words import as_dict

        terminal.show_json(as_dict(told))
    else:
        from tollkeeper.cli.whatif_tables import show

        show(told)


def _may_write(file: Path) -> None:
    """Only a report of ours is replaced, so that a slip of the hand costs no log. Raises Stop."""
    from tollkeeper.cli.whatif_html import MARK

    try:
        with file.open("rb") as there:
            if MARK.encode() not in there.read(400):
                raise terminal.Stop(f"{file} is there already, and is no report of whatif", "Name another file.", 2)
    except FileNotFoundError:
        if not file.absolute().parent.is_dir():
            raise terminal.Stop(f"{file} cannot be written: there is no folder {file.parent}", exit_code=2) from None
    except OSError as fault:
        raise terminal.Stop(f"{file} cannot be written: {fault.strerror}", exit_code=2) from None


def _write(file: Path, told: Told) -> None:
    from tollkeeper.cli.whatif_html import page

    try:
        file.write_text(page(told), encoding="utf-8")
    except OSError as fault:
        raise terminal.Stop(f"{file} cannot be written: {fault.strerror}") from None
    terminal.note(f"wrote {file}")


def _offers(prices: list[str], free: str | None, currency: str) -> Catalog:
    """The catalog that `tollkeeper wrap` would write; one paid plan for each price."""
    from tollkeeper.core.catalog import example_catalog, parse_catalog

    made = [
        parse_catalog(example_catalog(free="1000" if free is None else free, price=one, currency=currency))
        for one in dict.fromkeys(prices or ["0.001"])
    ]
    if len(made) == 1:
        return made[0]
    plans = {key: plan for key, plan in made[0].plans.items() if key != "pro"}
    for one, price in zip(made, dict.fromkeys(prices), strict=True):
        if "pro" in one.plans:
            plans[f"pro_{price}"] = replace(one.plans["pro"], key=f"pro_{price}", name=f"Pro at {price}")
    return replace(made[0], plans=plans)


def _catalog(file: Path | None) -> Catalog:
    from tollkeeper.core.catalog import parse_catalog

    path = file or load_settings().catalog_path
    try:
        text = path.read_bytes()
    except OSError as fault:
        raise terminal.Stop(
            f"{path} cannot be read: {fault.strerror}",
            "Give --price 0.001, or write a catalog with: tollkeeper init",
            2,
        ) from None
    return parse_catalog(text, file=str(path))


def _meter(offers: Catalog, named: str | None) -> Meter:
    """The meter that calls are."""
    if named is not None:
        if named not in offers.meters:
            raise typer.BadParameter(f"the catalog has {', '.join(offers.meters) or 'no meters'}", param_hint="--meter")
        return offers.meters[named]
    counts = [one for one in offers.meters.values() if one.aggregation == "count" and not one.filters]
    if len(counts) != 1:
        found = ", ".join(one.key for one in counts) or "none"
        raise typer.BadParameter(
            f"name the meter that calls are; the catalog's meters that count are: {found}", param_hint="--meter"
        )
    return counts[0]


def _read(files: list[str], question: Question, key_field: str, currency: str, top: int) -> Told:
    import msgspec

    from tollkeeper.cli.whatif_input import batches, open_sources
    from tollkeeper.cli.whatif_words import Told, file_name
    from tollkeeper.core.accesslog import parser
    from tollkeeper.core.accesslog_json import object_reader
    from tollkeeper.services.whatif import WhatIf
    from tollkeeper.services.whatif_report import report

    parse = parser(msgspec.json.Decoder().decode, object_reader(key_field))
    found = WhatIf(question, parse)
    broken: list[str] = []
    with open_sources(files, parse) as sources, bars("reading") as (progress,):
        sizes = [source.size for source in sources]
        total = 0 if None in sizes else sum(size or 0 for size in sizes)
        before = 0
        for source in sources:
            try:
                for number, lines in batches(source):
                    found.feed(source.name, number, lines)
                    progress(before + source.done(), total)
            except EOFError:
                broken.append(f"{file_name(source.name)} ends too early: what it has was read.")
            except (OSError, zlib.error) as fault:
                reason = getattr(fault, "strerror", None) or "its packed data are damaged"
                broken.append(f"{file_name(source.name)} could not be read to its end: {reason}.")
            before += source.size or 0
    found.finish()
    made = Told(found, report(found, currency, top), tuple(files), tuple(broken))
    if not found.callers:
        raise terminal.Stop(*_nothing(made))
    return made


def _nothing(made: Told) -> tuple[str, str]:
    """Why there is nothing to tell, and what may help."""
    from tollkeeper.cli.whatif_words import notes, skipped

    found = made.found
    if found.calls:
        hidden = [note for note in notes(made) if "REDACTED" in note]
        more = "\n  ".join([*hidden, "Group otherwise: --by key, user or network."])
        return f"none of {plural(found.calls, 'call')} tells its {found.by}", more
    reasons = [*made.broken, *skipped(made)] or ([] if found.filtered else ["The logs are empty."])
    if found.filtered:
        reasons.append(f"{plural(found.filtered, 'call')} outside of what --path and --free-path let through.")
    return "no call was found in the logs", "\n  ".join(reasons)
