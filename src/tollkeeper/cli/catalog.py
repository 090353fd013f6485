"""`tollkeeper catalog`: what is on offer, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Verbose, Yes, examples
from tollkeeper.cli.server import connect, load_settings
from tollkeeper.cli.values import plural
from tollkeeper.core.errors import CatalogInvalid

app = typer.Typer(help="Check, compare and apply the catalog file.", no_args_is_help=True)

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="TOLLKEEPER_CATALOG otherwise.", show_default=False)
]
_SIGNS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}


@app.command(epilog=examples("tollkeeper catalog check", "tollkeeper catalog check plans.toml --json"))
def check(file: File = None, json: Json = False) -> None:
    """Check a catalog file; no server is needed.

    Faults are told by file, line and key, with what was expected. Exit code 1 when there are any. Prices that Stripe cannot bill by
    itself are named: they are rated here, or refused by `tollkeeper stripe apply`.
    """
    from tollkeeper.core.catalog import check_catalog
    from tollkeeper.core.provider_prices import rated_here, unbillable_prices

    path, text = _read(file)
    catalog, faults, warnings = check_catalog(text, file=str(path))
    here = [
        (f"{plan.key}/{price.key}", reason)
        for plan in (catalog.plans.values() if catalog is not None else ())
        for price in plan.prices
        if (reason := rated_here(price)) is not None
    ]
    refused = [*unbillable_prices(catalog.plans.values() if catalog is not None else ())]
    if json:
        found = {
            "file": str(path),
            "faults": [str(fault) for fault in faults],
            "warnings": [str(one) for one in warnings],
            "rated_here": [{"price": price, "reason": reason} for price, reason in here],
            "refused_by_stripe": refused,
        }
        terminal.show_json(found)
    else:
        for fault in faults:
            terminal.show_error(str(fault))
        for warning in warnings:
            terminal.warn(str(warning))
        if catalog is not None:
            parts = (plural(len(catalog.meters), "meter"), plural(len(catalog.plans), "plan"))
            terminal.say(f"{path} is valid: {', '.join(parts)}.")
        for price, reason in here:
            terminal.note(
                f"{price}: Stripe cannot bill it ({reason}); it is rated here and put on the invoice as a line."
            )
        for price in refused:
            terminal.warn(f"{price}: Stripe cannot be made to bill it, and `tollkeeper stripe apply` refuses it.")
    if faults:
        raise typer.Exit(1)


@app.command(epilog=examples("tollkeeper catalog diff"))
def diff(file: File = None, json: Json = False, verbose: Verbose = False) -> None:
    """Show what an apply of the file would change.

    Exit code 1 when the server would refuse it, since it would alter what is recorded or sold.
    """
    path, text = _valid(file)
    with connect(verbose) as server:
        outcome = server.request("POST", "/v1/catalog/diff", {"toml": text})
    if json:
        terminal.show_json(outcome)
    elif not outcome["changed"]:
        terminal.say(f"Nothing would change: {path} is in force.")
    else:
        _show_changes(outcome)
    if outcome["refused"]:
        _refuse(outcome, path)


@app.command(epilog=examples("tollkeeper catalog apply", "tollkeeper catalog apply plans.toml --yes"))
def apply(file: File = None, yes: Yes = False, json: Json = False, verbose: Verbose = False) -> None:
    """Put the file in force, after showing what it changes.

    Each plan that changes gets its next version. Subscribers stay on the version they bought until they are moved.
    """
    path, text = _valid(file)
    with connect(verbose) as server:
        planned = server.request("POST", "/v1/catalog/diff", {"toml": text})
        if planned["changed"]:
            if not json:
                _show_changes(planned)
            if planned["refused"]:
                _refuse(planned, path)
            terminal.confirm(f"Apply {path}?", yes)
        outcome = server.request("POST", "/v1/catalog/apply", {"toml": text})
    if json:
        terminal.show_json(outcome)
    elif outcome["changed"]:
        terminal.say(f"Version {outcome['version']} is in force.", "bold green")
    else:
        terminal.say(f"Nothing to change: {path} is in force as version {outcome['version']}.")


def _read(file: Path | None) -> tuple[Path, bytes]:
    path = file or load_settings().catalog_path
    try:
        return path, path.read_bytes()
    except OSError as fault:
        raise terminal.Stop(f"{path} cannot be read: {fault.strerror}", "Write one with: tollkeeper init", 2) from None


def _valid(file: Path | None) -> tuple[Path, str]:
    """The file's text, once it is known to have no faults, so that they are told with their lines. Raises CatalogInvalid."""
    from tollkeeper.core.catalog import check_catalog

    path, text = _read(file)
    catalog, faults, warnings = check_catalog(text, file=str(path))
    for warning in warnings:
        terminal.warn(str(warning))
    if catalog is None:
        raise CatalogInvalid(faults=faults)
    return path, text.decode()


def _show_changes(outcome: dict[str, Any]) -> None:
    for change in outcome["changes"]:
        sign, style = _SIGNS[change["kind"]]
        value = f"{change['before']} → {change['after']}" if sign == "~" else change["before"] or change["after"]
        terminal.say(f"{sign} {change['key']}" + (f": {value}" if value else ""), style)
    for plan in outcome["plans_archived"]:
        terminal.note(f"Plan {plan} is kept for its subscribers and sold to nobody new.")


def _refuse(outcome: dict[str, Any], path: Path) -> NoReturn:
    """Changes that would alter what is recorded or sold. Exits with 1; nothing was applied."""
    for refused in outcome["refused"]:
        terminal.show_error(f"{path}: {refused['key']}: {refused['message']}")
    raise typer.Exit(1)
