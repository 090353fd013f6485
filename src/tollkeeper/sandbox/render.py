"""From what is kept to what is shown: own names left out, fields that stand only when expanded, and `expand[]` at depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.errors import refused
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_DEEPEST = 4
_HIDDEN: dict[str, set[str]] = {}
_LAZY: dict[tuple[str, str], Callable[[World, Object], Any]] = {}


def hide(kind: str, *fields: str) -> None:
    """Fields of a kind that are shown only when expanded (price.tiers)."""
    _HIDDEN.setdefault(kind, set()).update(fields)


def lazy(kind: str, field: str, value: Callable[[World, Object], Any]) -> None:
    """A field of a kind that is made when it is expanded (customer.tax_ids)."""
    _LAZY[kind, field] = value


def render(world: World, value: Any, expand: list[str] | None = None) -> Any:
    """A copy to show. Raises ApiError 400 for a path of `expand` that is too deep or names nothing that expands."""
    paths: dict[str, dict[str, Any]] = {}
    for number, path in enumerate(expand or ()):
        parts = path.split(".")
        if len(parts) > _DEEPEST + (parts[0] == "data"):
            raise refused(
                f"You cannot expand more than {_DEEPEST} levels of a property. Property: {path}", f"expand[{number}]"
            )
        here = paths
        for part in parts:
            here = here.setdefault(part, {})
    return _show(world, value, paths, "")


def _show(world: World, value: Any, paths: dict[str, Any], path: str) -> Any:
    if isinstance(value, list):
        return [_show(world, item, paths, path) for item in value]
    if not isinstance(value, dict):
        if paths and value is not None:
            raise _cannot(path, next(iter(paths)))
        return value
    kind = value.get("object", "")
    hidden = _HIDDEN.get(kind, ()) if isinstance(kind, str) else ()
    shown = {}
    for name, item in value.items():
        if name.startswith("_") or (name in hidden and name not in paths):
            continue
        inner = paths.get(name)
        if inner is None:
            shown[name] = _show(world, item, {}, "") if isinstance(item, dict | list) else item
        else:
            shown[name] = _expanded(world, item, inner, f"{path}.{name}" if path else name)
    for name, inner in paths.items():
        if name not in value:
            made = _LAZY.get((kind, name))
            if made is None:
                raise _cannot(path, name)
            shown[name] = _expanded(world, made(world, value), inner, f"{path}.{name}" if path else name)
    return shown


def _expanded(world: World, item: Any, inner: dict[str, Any], path: str) -> Any:
    if isinstance(item, str):
        found = world.store.find(item)
        if found is None:
            raise _cannot("", path)
        return _show(world, found, inner, path)
    if isinstance(item, list) and item and isinstance(item[0], str):
        return [_expanded(world, one, inner, path) for one in item]
    return _show(world, item, inner, path)


def _cannot(path: str, name: str) -> Exception:
    full = f"{path}.{name}" if path else name
    return refused(
        f"This property cannot be expanded ({full}). You may want to try expanding 'data.{full}' instead.", "expand"
    )
