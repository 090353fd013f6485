"""Ids in Stripe's form: a prefix that names the kind, and letters and digits."""

from __future__ import annotations

import random
import string
from typing import Any

_LETTERS = string.ascii_letters + string.digits


class Ids:
    """Makes ids. With a seed the same ones each time, which tests of two runs compare."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - ids of a sandbox are no secrets

    def new(self, prefix: str, length: int = 24) -> str:
        """`prefix` with its underscore: "cus_"."""
        return prefix + "".join(self._random.choices(_LETTERS, k=length))

    def fraction(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def shuffle(self, items: list[Any]) -> None:
        self._random.shuffle(items)
