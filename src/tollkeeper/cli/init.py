"""`tollkeeper init`: a catalog, the settings and their example, written after a few questions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Yes, examples
from tollkeeper.cli.server import load_settings
from tollkeeper.core.catalog import example_catalog
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.settings import SETTINGS, ensure_admin_token

EXAMPLES = examples(
    "tollkeeper init",
    "tollkeeper init --yes  # every default, no question",
    "tollkeeper init --name Weather --free 500 --price 0.002 --currency eur --yes",
)
DEFAULTS = {"name": "API", "meter": "api_calls", "free": "1000", "price": "0.001", "currency": "usd"}


def init(
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="Name of the product.")] = None,
    meter: Annotated[str | None, typer.Option(metavar="KEY", help="Name of what is counted.")] = None,
    free: Annotated[str | None, typer.Option(metavar="DECIMAL", help="Calls a month that cost nothing.")] = None,
    price: Annotated[str | None, typer.Option(metavar="DECIMAL", help="Price of each call beyond.")] = None,
    currency: Annotated[str | None, typer.Option(metavar="CODE", help="Currency of the price, such as usd.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    yes: Yes = False,
) -> None:
    """Write a catalog, .env with an admin token, and .env.example.

    Asks for what is not given. A file that is there is not replaced without a yes; .env keeps every line it has.
    """
    settings = load_settings()
    given = {"name": name, "meter": meter, "free": free, "price": price, "currency": currency}
    if not yes and None in given.values() and not terminal.interactive():
        missing = ", ".join(f"--{option}" for option, value in given.items() if value is None)
        raise terminal.Stop(
            "init has questions, and nobody is there to answer", f"Give {missing}, or --yes for the defaults.", 2
        )
    answers = {option: DEFAULTS[option] if value is None else value for option, value in given.items()}
    if not yes:
        answers = _ask(given)
    catalog = example_catalog(**answers)
    wanted = {settings.catalog_path: catalog, settings.directory / ".env.example": env_example()}
    written = [path for path in wanted if overwrite or _may_write(path, yes)]
    settings, made = ensure_admin_token(settings)
    for path in written:
        _write(path, wanted[path])
    for path in written:
        terminal.say(f"wrote  {path}")
    terminal.say(
        f"{'wrote' if made else 'kept '}  {settings.env_path}"
        + (" with an admin token, readable by you alone" if made else "")
    )
    terminal.note(f"Edit {settings.catalog_path} as you like, then start the server with: tollkeeper serve")


def _ask(given: dict[str, str | None]) -> dict[str, str]:
    questions = {
        "name": "Name of the product",
        "meter": "What is counted (the meter's name)",
        "free": "Free calls a month",
        "price": "Price of each call beyond",
        "currency": "Currency",
    }
    answers = {option: value for option, value in given.items() if value is not None}
    for option, question in questions.items():
        while option not in answers:
            answer = str(typer.prompt(question, default=DEFAULTS[option], err=True)).strip()
            try:
                example_catalog(**{**DEFAULTS, option: answer})
                answers[option] = answer
            except InvalidRequest as fault:
                terminal.show_error(fault.detail)
    return answers


def _may_write(path: Path, yes: bool) -> bool:
    if not path.exists():
        return True
    if yes or not terminal.interactive():
        raise terminal.Stop(f"{path} is there already; nothing was written", "Replace it with --overwrite.")
    return typer.confirm(f"{path} is there already. Replace it?", err=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        raise terminal.Stop(f"{path} cannot be written: {fault.strerror}") from None


def env_example() -> str:
    """Every setting with its default, commented out, as `.env.example`."""
    lines = [
        "# Settings of Tollkeeper. Copy to .env, and take the # off what you change; the environment stands above .env."
    ]
    for setting in SETTINGS:
        lines += ["", f"# {setting.help}", f"#{setting.name}={setting.default or ''}"]
    return "\n".join(lines) + "\n"
