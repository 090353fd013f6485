"""`tollkeeper check`: ask the gate, as an API would."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Verbose, examples
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import grouped, shown_time

EXAMPLES = examples(
    "tollkeeper check tk_test_… --meter api_calls",
    "tollkeeper check tk_live_… --meter tokens --cost 1250 --scope write",
    "tollkeeper check - --meter api_calls < key.txt  # keeps the key out of the history",
)


def check(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key itself, or - to read it from stdin.")],
    meter: Annotated[str, typer.Option(help="Meter that the call counts on.", metavar="KEY", show_default=False)],
    cost: Annotated[str, typer.Option(help="Quantity to take.", metavar="DECIMAL")] = "1",
    scope: Annotated[str | None, typer.Option(help="Scope that the key must have.", metavar="NAME")] = None,
    ip: Annotated[
        str | None, typer.Option(help="Address of the caller, for keys with an allow-list.", metavar="IP")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Ask the gate about one call, and count it when it is allowed.

    Exit code 0: allowed, 1: refused, 3: no server.
    """
    key = sys.stdin.readline().strip() if key == "-" else key
    if not key:
        raise typer.BadParameter("there is no key on stdin", param_hint="KEY")
    with connect(verbose) as server:
        decision = server.check(key, meter, cost, scope=scope, ip=ip)
    if json:
        terminal.show_json(decision)
    else:
        show_decision(decision)
    if decision["code"] != "VALID":
        raise typer.Exit(1)


def show_decision(decision: dict[str, Any]) -> None:
    """A decision as `POST /v1/check` sends it."""
    allowed = decision["code"] == "VALID"
    problem = decision.get("problem") or {}
    verdict = terminal.styled("allowed  " if allowed else "refused  ", "bold green" if allowed else "bold red")
    terminal.console().print(verdict + terminal.styled(f"{decision['code']} ({decision['status']})"))
    if problem.get("detail"):
        terminal.say(str(problem["detail"]))
    rows: list[tuple[str, str | Any]] = [
        ("customer", _customer(decision)),
        ("key", decision.get("key_id") or ""),
    ]
    quota = decision.get("quota")
    if quota:
        rows += [(f"{quota['kind']} quota", _quota(quota)), ("resets", shown_time(quota.get("resets_at")))]
    rows += [(f"limit {limit['name']}", _limit(limit)) for limit in decision.get("rate_limits") or ()]
    if decision.get("retry_after"):
        rows.append(("try again", f"in {grouped(decision['retry_after'])} s"))
    rows += [
        ("event", decision.get("event_id") or ""),
        ("request", decision.get("request_id") or ""),
        ("about", problem.get("type") or ""),
    ]
    terminal.show_fields(rows)


def _customer(decision: dict[str, Any]) -> str:
    if not decision.get("customer"):
        return ""
    details = ", ".join(filter(None, (decision.get("plan"), decision.get("environment"))))
    return f"{decision['customer']} ({details})" if details else str(decision["customer"])


def _quota(quota: dict[str, Any]) -> str:
    return f"{grouped(quota['used'])} of {grouped(quota['limit'])} {quota['meter']} used, {grouped(quota['remaining'])} left"


def _limit(limit: dict[str, Any]) -> str:
    left = f"{grouped(limit['remaining'])} of {grouped(limit['limit'])} left"
    return f"{left}, full again in {grouped(limit['reset_seconds'])} s" if limit["reset_seconds"] else left
