"""Write the pages of docs/ that are made from the code: `python tests/cli/write_docs.py`. The tests hold them equal."""

from __future__ import annotations

from pathlib import Path

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


PAGES = {"settings.md": settings_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
