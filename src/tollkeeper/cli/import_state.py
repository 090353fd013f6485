"""How far an import came, kept beside the file after every batch that was answered."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from tollkeeper.cli import terminal

COUNTS: Final = ("accepted", "duplicate", "conflict", "rejected")


@dataclass(slots=True)
class State:
    """`place`: bytes (rows of Parquet) that are answered for; `line`: the next one, from 1. `made`: ids that the import made."""

    fingerprint: str
    url: str
    environment: str
    type: str | None
    source: str | None
    place: int = 0
    line: int = 1
    made: int = 0
    unmatched: int = 0
    done: bool = False
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))


def resume(path: Path, fresh: State) -> State:
    """The state at `path` when it is of the same file and options, else `fresh`. Raises Stop when it is of others, or damaged."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return fresh
    except (OSError, ValueError) as fault:
        raise terminal.Stop(f"{path} cannot be read: {fault}", exit_code=2) from None
    try:
        kept: dict[str, Any] = jsonlib.loads(text)
        state = State(**kept)
        sound = set(state.counts) == set(COUNTS) and type(state.place) is int and type(state.line) is int
    except (ValueError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise terminal.Stop(
            f"{path} is not the state of an import", "Name another with --state, or begin anew: --restart", 2
        )
    for name in ("fingerprint", "url", "environment", "type", "source"):
        if getattr(state, name) != getattr(fresh, name):
            what = "the file has changed" if name == "fingerprint" else f"the {name} was {getattr(state, name)}"
            counted = (
                f" {state.made:,} ids were made from the file as it was: those rows would count a second time."
                if state.made
                else " Rows have ids of their own, so each counts once."
            )
            raise terminal.Stop(
                f"{path} is of another import: {what}", f"--restart begins at the first row.{counted}", 2
            )
    return state


def keep(path: Path, state: State) -> None:
    """Write it in one step, so that it is never half there. Raises Stop."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_text(
            jsonlib.dumps({each.name: asdict(state)[each.name] for each in fields(state)}, indent=1) + "\n"
        )
        fresh.replace(path)
    except OSError as fault:
        raise terminal.Stop(
            f"{path} cannot be written: {fault.strerror}", "Name a place for it: --state PATH", 2
        ) from None
