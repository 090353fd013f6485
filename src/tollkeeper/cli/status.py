"""`tollkeeper status`: how the server is."""

from __future__ import annotations

from typing import Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Verbose, examples
from tollkeeper.cli.server import connect

EXAMPLES = examples("tollkeeper status", "tollkeeper status --json")


def status(json: Json = False, verbose: Verbose = False) -> None:
    """Show whether the server runs and is well.

    Exit code 0: well, 1: it answers but is not well, 3: it does not answer.
    """
    from tollkeeper.client import ApiError

    with connect(verbose) as server:
        try:
            health: dict[str, Any] = server.request("GET", "/health")
        except ApiError as error:
            if error.status != 503 or "status" not in error.problem:
                raise
            health = dict(error.problem)
        url = server.url
    well = health["status"] == "ok"
    if json:
        terminal.show_json(health)
    else:
        terminal.show_fields(
            [
                ("server", url),
                ("status", _word(health["status"])),
                ("storage", _word(health.get("storage", ""))),
                ("version", str(health.get("version", ""))),
            ]
        )
    if not well:
        raise typer.Exit(1)


def _word(word: Any) -> Any:
    return terminal.styled(str(word), "green" if word == "ok" else "bold red")
