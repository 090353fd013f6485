"""Stripe's rules of metadata: at most 50 names of 40 characters, values of 500; an empty value removes the name, an empty metadata all."""

from __future__ import annotations

from typing import Any

from tollkeeper.sandbox.errors import refused

_MOST, _NAME, _VALUE = 50, 40, 500


def merged(given: Any, before: dict[str, str] | None = None) -> dict[str, str]:
    """What is kept after `given` was sent. `given` is a mapping, "" (removes all) or None (changes nothing).

    Raises ApiError 400 when a bound is passed.
    """
    if given is None:
        return dict(before or {})
    if given == "":
        return {}
    found = dict(before or {})
    for name, value in given.items():
        if not name or len(name) > _NAME:
            raise refused(
                f"Metadata keys cannot be longer than {_NAME} characters. The key you provided, {name}, is {len(name)} characters.",
                f"metadata[{name}]",
            )
        if "[" in name or "]" in name:
            raise refused("Metadata keys cannot contain square brackets", f"metadata[{name}]")
        if len(value) > _VALUE:
            raise refused(
                f"Metadata values can have up to {_VALUE} characters, but you passed in a value that is {len(value)} "
                f"characters. Invalid value: {value}",
                f"metadata[{name}]",
            )
        if value == "":
            found.pop(name, None)
        else:
            found[name] = value
    if len(found) > _MOST:
        raise refused(f"You can have up to {_MOST} metadata keys, but you passed in {len(found)} keys.", "metadata")
    return found
