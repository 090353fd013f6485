"""Options that many commands share, and the shape of their examples."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

START, SELL, OPERATE, LOOK = "Start here", "Sell", "Operate", "Look"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the HTTP exchange, secrets masked.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Customer = Annotated[str | None, typer.Option("--customer", metavar="ID", help="Id of the customer.")]
Environment = Literal["live", "test"]


def examples(*lines: str) -> str:
    """Text for `epilog=`: one command a line. A line may have a comment after two spaces and `#`."""
    shown = []
    for line in lines:
        command, mark, comment = line.partition("  #")
        command = command.replace("[", r"\[")
        shown.append(f"  [dim]$[/dim] {command}" + (f"[dim]{mark}{comment}[/dim]" if mark else ""))
    return "[bold]Examples[/bold]\n" + "\n".join(shown)


def command_line(words: Sequence[str]) -> str:
    """A command as a person types it, so that it can be copied."""
    return shlex.join(["tollkeeper", *words])
