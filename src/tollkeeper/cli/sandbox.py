"""`tollkeeper sandbox`: a local stand-in for Stripe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import examples

EXAMPLES = examples(
    "tollkeeper sandbox",
    "tollkeeper sandbox --data sandbox.db  # keep it across restarts",
    "STRIPE_API_BASE=http://127.0.0.1:12111 STRIPE_SECRET_KEY=sk_test_local tollkeeper serve  # use it",
)


def sandbox(
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="HOST:PORT or PORT to listen on. Port 0 takes a free one.")
    ] = "127.0.0.1:12111",
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="SQLite file that keeps everything.", show_default="in memory"),
    ] = None,
) -> None:
    """Start a local stand-in for Stripe's API: no account, no internet, no money.

    It answers the official client, sends signed webhooks, and has a clock that can be moved and faults that can be switched on.
    """
    import sqlite3

    from tollkeeper.sandbox import server

    host, _, port = listen.rpartition(":")
    if not port.isdigit() or int(port) > 65_535:
        raise terminal.Stop(f"{listen} is no address: HOST:PORT or PORT", exit_code=2)
    try:
        bound = server.bind(host.strip("[]") or "127.0.0.1", int(port))
    except OSError as fault:
        raise terminal.Stop(f"{listen} cannot be listened on: {(fault.strerror or str(fault)).lower()}") from None

    def ready(url: str) -> None:
        terminal.note(f"A sandbox of Stripe listens on {url}")
        terminal.note(f"Use it: STRIPE_API_BASE={url} STRIPE_METER_EVENTS_BASE={url} STRIPE_SECRET_KEY=sk_test_local")

    try:
        server.serve(bound, data, ready)
    except sqlite3.Error as fault:
        raise terminal.Stop(f"{data}: {fault}") from None
