"""`tollkeeper serve`: the server."""

from __future__ import annotations

from typing import Annotated

import typer

from tollkeeper.cli.options import examples
from tollkeeper.cli.server import load_settings

EXAMPLES = examples(
    "tollkeeper serve",
    "tollkeeper serve --host 0.0.0.0 --port 8000",
    "TOLLKEEPER_DATABASE_URL=sqlite:////var/lib/tollkeeper/toll.db tollkeeper serve",
)


def serve(
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Address to listen on; above TOLLKEEPER_HOST.", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="Port to listen on; above PORT. 0 takes a free one.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start the server.

    It opens the database, applies the catalog file when there is one, and answers until it is told to stop (Ctrl-C or SIGTERM).
    """
    settings = load_settings({"TOLLKEEPER_HOST": host, "PORT": None if port is None else str(port)})
    from tollkeeper import bootstrap

    bootstrap.serve(settings)
