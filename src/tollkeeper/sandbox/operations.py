"""The operations served: a method and a path of Stripe's API, and the function that answers.

    @operation("POST", "/v1/customers/{customer}")
    def update(call: Call, customer: str) -> Object: …

The function gets the call and the values of the path, and returns an object of the store, a list (lists.py) or a mapping. It
raises ApiError. The path
is spelled as in the official client, which is where the table of parameters comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

Handler = Callable[..., Object]

_OPERATIONS: dict[str, Operation] = {}
_VALUE = re.compile(r"\{[a-z_]+\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """`name` is "POST /v1/customers/{customer}"; `resource` is the word of a restricted key's permissions."""

    name: str
    method: str
    path: str
    handler: Handler
    resource: str
    version: int


@dataclass(slots=True)
class Call:
    """One call of the API: `params` as checked (parameters.py), without `expand`."""

    world: World
    operation: Operation
    path: str
    params: dict[str, Any]
    expand: list[str]
    request_id: str
    idempotency_key: str | None
    query: str = ""
    base: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def operation(method: str, path: str, *, resource: str | None = None) -> Callable[[Handler], Handler]:
    """Serve `method path` by the function."""

    def register(handler: Handler) -> Handler:
        name = f"{method} {path}"
        assert name not in _OPERATIONS, name
        words = [part for part in path.split("/")[2:] if not part.startswith("{")]
        named = resource or (words[1] if words[0] in _NAMESPACES else words[0]).rstrip("s")
        _OPERATIONS[name] = Operation(name, method, path, handler, named, int(path[2]))
        return handler

    return register


_NAMESPACES = frozenset({"billing", "billing_portal", "checkout", "core", "test_helpers"})


def served() -> list[str]:
    """The names of all operations, in order."""
    from tollkeeper.sandbox import app  # registers them

    assert app
    return sorted(_OPERATIONS)


class Router:
    """Finds the operation of a method and a path."""

    def __init__(self) -> None:
        self._plain: dict[str, Operation] = {}
        self._patterns: dict[tuple[str, int], list[tuple[re.Pattern[str], Operation]]] = {}
        for name, found in _OPERATIONS.items():
            if "{" not in name:
                self._plain[name] = found
                continue
            pattern = re.compile(_VALUE.sub("([^/]+)", found.path))
            self._patterns.setdefault((found.method, found.path.count("/")), []).append((pattern, found))
        for several in self._patterns.values():
            several.sort(key=lambda pair: pair[1].path.count("{"))

    def find(self, method: str, path: str) -> tuple[Operation, tuple[str, ...]] | None:
        """The operation and the values of its path."""
        found = self._plain.get(f"{method} {path}")
        if found is not None:
            return found, ()
        for pattern, candidate in self._patterns.get((method, path.count("/")), ()):
            match = pattern.fullmatch(path)
            if match:
                return candidate, match.groups()
        return None
