"""Writes src/tollkeeper/sandbox/parameters.json: what each operation of the sandbox accepts, from the types of the official client.

Run it after a resource has gained an operation: `python tests/sandbox/write_parameters.py`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
import types
import typing
from decimal import Decimal
from pathlib import Path
from typing import Any

import stripe
import typing_extensions

ROOT = Path(stripe.__file__).parent
TARGET = Path(__file__).parents[2] / "src/tollkeeper/sandbox/parameters.json"
SCALARS: dict[Any, str] = {str: "s", int: "i", bool: "b", Decimal: "d", float: "f"}


def operations() -> dict[str, tuple[str, str] | None]:
    """{"POST /v1/customers": (module, class of its parameters)} for every method of every service; None without parameters."""
    found: dict[str, tuple[str, str] | None] = {}
    for file in sorted(ROOT.rglob("_*_service.py")):
        tree = ast.parse(file.read_text())
        sources = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for method in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            call = next(
                (n for n in ast.walk(method) if isinstance(n, ast.Call) and ast.unparse(n.func) == "self._request"),
                None,
            )
            if call is None:
                continue
            verb = ast.literal_eval(call.args[0]).upper()
            target = call.args[1]
            if isinstance(target, ast.Call) and isinstance(target.func, ast.Attribute):  # "…".format(…)
                target = target.func.value
            path = ast.literal_eval(target)
            annotation = next((a.annotation for a in method.args.args if a.arg == "params"), None)
            names = [n.value for n in ast.walk(annotation) if isinstance(n, ast.Constant)] if annotation else []
            found[f"{verb} {path}"] = sources[names[0].split("|")[0]] if names else None
    return found


class Writer:
    """Turns types into nodes (sandbox/parameters.py); an object used more than once stands under `types`."""

    def __init__(self) -> None:
        self.types: dict[str, Any] = {}
        self.places: dict[str, str] = {}

    def node(self, kind: Any) -> Any:
        origin = typing.get_origin(kind)
        if kind in SCALARS:
            return SCALARS[kind]
        if kind is Any or kind is object:
            return "a"
        if origin is typing.Literal:
            return {"e": list(typing.get_args(kind))}
        if origin in (list, typing.List):  # noqa: UP006
            return {"l": self.node(typing.get_args(kind)[0])}
        if origin is dict:
            return {"m": self.node(typing.get_args(kind)[1])}
        if origin in (typing.Union, types.UnionType):
            return self.union(typing.get_args(kind))
        if typing_extensions.is_typeddict(kind):
            # /v2 has types of the same names as /v1, and other fields in them
            name = f"v2.{kind.__name__}" if ".v2." in kind.__module__ else kind.__name__
            if name not in self.types:
                self.types[name] = None
                self.places[name] = kind.__module__
                self.types[name] = self.fields(kind)
            if self.places[name] != kind.__module__:
                raise LookupError(f"{name} is of {self.places[name]} and of {kind.__module__}")
            return {"t": name}
        raise TypeError(f"no node for {kind!r}")

    def union(self, kinds: tuple[Any, ...]) -> Any:
        """`Literal["a", "b"] | str` is the client's openness to newer values: here it is the enumeration of the pinned version."""
        kept = [
            kind
            for kind in kinds
            if kind is not type(None) and getattr(typing.get_origin(kind), "__name__", "") != "UntypedStripeObject"
        ]
        literals = [
            value for kind in kept if typing.get_origin(kind) is typing.Literal for value in typing.get_args(kind)
        ]
        others = [kind for kind in kept if typing.get_origin(kind) is not typing.Literal]
        if [value for value in literals if value != ""]:
            others = [kind for kind in others if kind is not str]
        nodes = ([{"e": literals}] if literals else []) + [self.node(kind) for kind in others]
        return nodes[0] if len(nodes) == 1 else {"u": nodes}

    def fields(self, kind: Any) -> Any:
        ours = {
            name: hint
            for name, hint in inspect.get_annotations(kind).items()
            if name not in stripe.RequestOptions.__annotations__  # api_key and the like: headers, no parameters
        }
        holder = types.SimpleNamespace(__annotations__=ours)
        hints = typing_extensions.get_type_hints(holder, globalns=vars(sys.modules[kind.__module__]))
        node: dict[str, Any] = {"o": {name: self.node(hint) for name, hint in sorted(hints.items())}}
        required = sorted(name for name in hints if name in kind.__required_keys__)
        if required:
            node["r"] = required
        return node


def inline(node: Any, known: dict[str, Any]) -> Any:
    """The node with every type written out."""
    if isinstance(node, dict):
        if "t" in node:
            return inline(known[node["t"]], known)
        return {key: inline(value, known) for key, value in node.items()}
    if isinstance(node, list):
        return [inline(value, known) for value in node]
    return node


def make() -> str:
    """The file's text."""
    from tollkeeper.sandbox.operations import served

    known = operations()
    writer = Writer()
    nodes: dict[str, Any] = {}
    for operation in served():
        if operation not in known:
            raise LookupError(f"the official client has no {operation}")
        place = known[operation]
        if place is None:
            nodes[operation] = {"o": {}}
        else:
            nodes[operation] = writer.fields(getattr(importlib.import_module(place[0]), place[1]))
    table = {"stripe": stripe.VERSION, "operations": nodes, "types": dict(sorted(writer.types.items()))}
    return json.dumps(table, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    TARGET.write_text(make())
    sys.stdout.write(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes\n")
