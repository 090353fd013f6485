"""`tollkeeper restore`: a backup put in the place of the database."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Yes, examples
from tollkeeper.cli.server import load_settings
from tollkeeper.cli.values import plural, shown_time

EXAMPLES = examples(
    "tollkeeper restore /backups/2026-11-21",
    "tollkeeper restore /backups/2026-11-21 --check  # look at it, replace nothing",
)


def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that `backup` wrote.", show_default=False)],
    check: Annotated[bool, typer.Option("--check", help="Only check the backup; replace nothing.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Put a backup in the place of the database. The server must be stopped.

    Both files are compared with the backup's checksums and checked page by page first.
    What is there now is kept in a folder `before-restore-…` beside it: events newer than the backup are only there.
    """
    from tollkeeper.upkeep import backups

    settings = load_settings()
    place = settings.database_path
    ours = backups(str(place))
    manifest = ours.check(folder)
    aside = None
    if not check:
        occupied = ours.occupied
        if occupied:
            terminal.confirm(f"Replace the database at {place}?", yes)
        aside = ours.restore(folder, force=occupied, checked=manifest).aside
    if json:
        terminal.show_json({"restored": not check, "aside": None if aside is None else str(aside), **asdict(manifest)})
        return
    of = f"{plural(manifest.state.events, 'event')}, made {shown_time(manifest.created_at)}"
    terminal.say(f"{folder} is sound: {of}" if check else f"{place}: {of}")
    if aside is not None:
        terminal.note(f"What was there is in {aside}")
    if not manifest.refolded:
        terminal.note("This backup was made with --quick: run `tollkeeper verify`.")
