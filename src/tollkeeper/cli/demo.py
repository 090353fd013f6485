"""`tollkeeper demo`: everything at once, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tollkeeper.cli.options import examples

EXAMPLES = examples("tollkeeper demo", "tollkeeper demo --port 4000 --listen 9090")


def demo(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Port of the server; above PORT.", show_default=False),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="HOST:PORT or PORT of the example API behind the gate.")
    ] = "127.0.0.1:8080",
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where its database and keys are kept.")] = Path(
        "tollkeeper-demo"
    ),
) -> None:
    """Start Tollkeeper with a small example API behind the gate.

    Makes plans, a free customer and two keys, and prints three commands to copy: a refused call, an allowed call, and the usage it left.
    """
    import os

    from tollkeeper import bootstrap

    environ = dict(os.environ)
    for name in ("TOLLKEEPER_DATABASE_URL", "TOLLKEEPER_CATALOG"):
        environ.pop(name, None)  # the demo never touches an installation of yours
    if port is not None:
        environ["PORT"] = str(port)
    bootstrap.demo(environ, folder, listen)
