"""`tollkeeper verify`: every total compared with the log."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, examples
from tollkeeper.cli.progress import bars
from tollkeeper.cli.server import load_settings
from tollkeeper.cli.values import plural

EXAMPLES = examples("tollkeeper verify", "tollkeeper verify /backups/2026-11-21/tollkeeper.db")


def verify(
    database: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Main file of a pair; TOLLKEEPER_DATABASE_URL otherwise.")
    ] = None,
    json: Json = False,
) -> None:
    """Fold the whole usage log again and compare it with every total; the server may be running.

    Runs on the machine that has the files, with a temporary file (in TMPDIR) of about the size of the totals.
    Exit code 0: equal, 1: not, with the first differences named.
    """
    from tollkeeper.upkeep import verify_database

    settings = load_settings()
    with bars("comparing totals with the log") as (refolding,):
        found = verify_database(str(database or settings.database_path), refolding)
    if json:
        terminal.show_json({"ok": found.ok, **asdict(found)})
    else:
        totals = plural(found.rollups, "total")
        if found.ok:
            terminal.say(
                f"{totals} {'equals' if found.rollups == 1 else 'equal'} the log ({plural(found.events, 'event')}).",
                "green",
            )
        else:
            terminal.say(f"{plural(found.differences, 'total')} of {found.rollups:,} do not equal the log.", "bold red")
            for line in found.shown:
                terminal.say(line)
        if found.customers_unknown:
            terminal.note(
                f"{plural(found.customers_unknown, 'customer')} of the log unknown to the main file: their periods were not looked at."
            )
        if found.compacted_until is not None:
            until = datetime.fromtimestamp(found.compacted_until // 1_000_000, UTC).date()
            terminal.note(f"Retention removed events of up to {until}: totals until then were compared in part.")
    if not found.ok:
        raise typer.Exit(1)
