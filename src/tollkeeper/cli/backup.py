"""`tollkeeper backup`: both files as a pair, while the server runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, examples
from tollkeeper.cli.progress import bars
from tollkeeper.cli.server import load_settings
from tollkeeper.cli.values import plural

EXAMPLES = examples(
    "tollkeeper backup /backups/2026-11-21",
    "tollkeeper backup /backups/hourly-07 --quick  # totals are not compared with the log",
)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the backup.", show_default=False)],
    quick: Annotated[bool, typer.Option("--quick", help="Do not compare the totals with the log.")] = False,
    json: Json = False,
) -> None:
    """Back up both database files as a pair, also while the server runs.

    Runs on the machine that has the files of TOLLKEEPER_DATABASE_URL.
    Every page of the copy is checked, and its totals are compared with its log, before the folder gets its name.
    """
    from tollkeeper.upkeep import backups

    settings = load_settings()
    with bars("copying", "comparing totals with the log") as (copying, refolding):
        manifest = backups(str(settings.database_path), refolding).make(
            folder.absolute(), refold=not quick, progress=copying
        )
    if json:
        terminal.show_json({"folder": str(folder.absolute()), **asdict(manifest)})
        return
    size = sum(entry["bytes"] for entry in manifest.files.values())
    terminal.say(f"{folder}: {plural(manifest.state.events, 'event')}, {size / 1_000_000:,.1f} MB")
    terminal.note("Both files are sound." if quick else "Both files are sound, and the totals equal the log.")
