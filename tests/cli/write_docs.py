"""Write the pages of docs/ that are made from the code: `python tests/cli/write_docs.py`. The tests hold them equal."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typer import rich_utils

from tollkeeper.cli.app import build, main
from tollkeeper.settings import SETTINGS

DOCS = Path(__file__).parent.parent.parent / "docs"

SETTINGS_HEAD = """\
# Settings

Settings come, the strongest first, from

1. the environment,
2. `NAME_FILE` for secrets: the name of a file that holds the value, as Docker and Kubernetes mount them,
3. `.env` in the working directory: `NAME=VALUE` lines, comments beginning with `#`, quotes if you like; nothing is expanded,
4. the default.

A blank value means "not set". A value that cannot be is refused with the setting's name, the place it came from and what was
expected. A name that begins with `TOLLKEEPER_` and is not in this table is a warning.

| setting | default | expects | what it does |
|---|---|---|---|
"""


def settings_page() -> str:
    """docs/settings.md."""
    rows = []
    for s in SETTINGS:
        default = f"`{s.default}`" if s.default is not None else ""
        names = f"`{s.name}`" + (" (secret)" if s.secret else "")
        rows.append(f"| {names} | {default} | {s.kind.expected} | {s.help} |\n")
    return SETTINGS_HEAD + "".join(rows)


CLI_HEAD = """\
# The command line

`tollkeeper` alone on a terminal asks what you want to do and runs the command that it shows. Elsewhere it prints its help.

Data goes to stdout, everything else to stderr. Colours are off when piped and with `NO_COLOR`. Commands speak to the server at
`TOLLKEEPER_URL` with `TOLLKEEPER_ADMIN_TOKEN`; both are found in `.env` of the working directory (see [settings](settings.md)).
`tollkeeper --install-completion` teaches your shell to complete commands and options.

| exit code | means |
|---|---|
| 0 | success |
| 1 | a negative answer: refused, not found, faults in the catalog, not well |
| 2 | usage: an argument, a setting or an input that cannot be; nothing was changed |
| 3 | the server is unreachable |
"""


def help_text(*words: str) -> str:
    """The help of a command as a person sees it in 80 columns, without colours."""
    out = io.StringIO()
    plain = {"MAX_WIDTH": 80, "FORCE_TERMINAL": False, "COLOR_SYSTEM": None}
    with patch.multiple(rich_utils, **plain), redirect_stdout(out):
        assert main([*words, "--help"]) == 0
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, in the order of help."""
    yield words
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*words, name))


def cli_page() -> str:
    """docs/cli.md."""
    parts = [CLI_HEAD]
    for words in commands(build()):
        title = " ".join(("tollkeeper", *words))
        parts.append(f"\n{'###' if len(words) > 1 else '##'} `{title}`\n\n```text\n{help_text(*words)}\n```\n")
    return "".join(parts)


PAGES = {"settings.md": settings_page, "cli.md": cli_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
