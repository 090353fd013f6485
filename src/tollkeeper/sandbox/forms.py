"""Stripe's form encoding: `items[0][price]=x&expand[]=y` becomes nested mappings; what is a list is for the parameter table to say."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl

from tollkeeper.sandbox.errors import refused

_PART = re.compile(r"\[([^\[\]]*)\]")
_DEEPEST = 20


def decode(text: str) -> dict[str, Any]:
    """Nested mappings with text at the leaves. A list is a mapping of its indices: `a[0]=x` and `a[]=x` give {"a": {"0": "x"}}.

    Raises ApiError for a name whose brackets do not match, or that is both a value and a mapping.
    """
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, encoding="utf-8", errors="strict"):
        head, bracket, rest = name.partition("[")
        if not bracket:
            if isinstance(found.get(name), dict):
                raise refused(f"Invalid request: {name} is both a value and a hash", name)
            found[name] = value
            continue
        parts = _PART.findall(bracket + rest)
        if not head or "".join(f"[{part}]" for part in parts) != bracket + rest or len(parts) > _DEEPEST:
            raise refused(f"Invalid parameter name: {name}", name)
        _put(found, [head, *parts], value, name)
    return found


def _put(found: dict[str, Any], parts: list[str], value: str, name: str) -> None:
    here = found
    for part, following in pairwise(parts):
        # `a[][b]=1&a[][c]=2` is one element; a repeated name begins the next
        if part == "" and (not here or following in next(reversed(here.values()))):
            part = str(len(here))
        elif part == "":
            part = next(reversed(here))
        inner = here.setdefault(part, {})
        if not isinstance(inner, dict):
            raise refused(f"Invalid request: {name} is both a value and a hash", name)
        here = inner
    last = parts[-1]
    if last == "":
        last = str(len(here))
    if isinstance(here.get(last), dict):
        raise refused(f"Invalid request: {name} is both a value and a hash", name)
    here[last] = value
