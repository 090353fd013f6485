"""What an export's files look like, for the export that writes them and the import that reads them."""

from __future__ import annotations

from typing import Final

FIRST_EVENT_COLUMNS: Final = (
    "seq",
    "environment",
    "id",
    "source",
    "type",
    "subject",
    "customer",
    "time",
    "received_at",
    "quantity",
    "data",
)
"""What exports had before events could be corrected."""
EVENT_COLUMNS: Final = (*FIRST_EVENT_COLUMNS, "state", "correction", "amended")
EXPORTED: Final = (FIRST_EVENT_COLUMNS, EVENT_COLUMNS)
USAGE_COLUMNS: Final = ("environment", "customer", "key", "meter", "start", "end", "value", "events", "state")
NUMBERS: Final = frozenset({"seq", "quantity", "value", "events"})
"""Columns that hold a number of ours; everything else is text that somebody else may have chosen."""

_ACTIVE: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def escaped(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe before what would begin one, and before an apostrophe.

    After https://owasp.org/www-community/attacks/CSV_Injection; `unescaped` gives the text back.
    """
    return f"'{text}" if text.startswith(_ACTIVE) else text


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_ACTIVE) else text
