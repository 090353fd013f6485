"""Shadow mode: what a gate would have refused, kept apart from usage, so that prices can be tried on real traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALL: Final = "*"
"""In the catalog's `shadow`: every caller, those without a key or a plan included."""


@dataclass(frozen=True, slots=True)
class ShadowRefusals:
    """Calls of one key on one UTC day that one code would have refused. "" where there was no customer, key or meter. Instants in µs."""

    day: int
    environment: str
    customer: str
    key_id: str
    meter: str
    code: str
    calls: int
    first_at: int
    last_at: int
