"""What a check of an installation found, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` says what to do; empty where nothing has to be done."""

    name: str
    verdict: Verdict
    detail: str
    mend: str = ""
