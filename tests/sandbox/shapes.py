"""The shape of an object as the official client's classes name it: which fields there may be, and which there must be."""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

from stripe._object_classes import OBJECT_CLASSES


@cache
def fields(kind: type) -> dict[str, str]:
    """{field: its annotation} of a class, as written."""
    tree = ast.parse(Path(inspect.getfile(kind)).read_text())
    node = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and _named(tree, node, kind))
    return {
        item.target.id: ast.unparse(item.annotation)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is None
    }


def _named(tree: ast.Module, node: ast.ClassDef, kind: type) -> bool:
    names = kind.__qualname__.split(".")
    here: Any = tree
    for name in names:
        here = next((one for one in here.body if isinstance(one, ast.ClassDef) and one.name == name), None)
        if here is None:
            return False
    return here is node


def faults(value: Any, kind: type | None = None, path: str = "") -> list[str]:
    """What a JSON value has that the client's class does not name, and lacks that the class does not call optional."""
    if isinstance(value, list):
        return [fault for number, item in enumerate(value) for fault in faults(item, kind, f"{path}[{number}]")]
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("object"), str) and value["object"] in OBJECT_CLASSES:
        module, name = OBJECT_CLASSES[value["object"]]
        kind = getattr(importlib.import_module(module), name)
    if value.get("object") == "list":
        return faults(value["data"], None, f"{path}.data")
    if kind is None or value.get("deleted") is True:
        return []
    here = fields(kind)
    inner = getattr(kind, "_inner_class_types", {})
    found = [f"{path}.{name} is not named" for name in value if name not in here and name != "object"]
    for name, annotation in here.items():
        if name not in value:
            if not annotation.startswith("Optional") and name != "object":
                found.append(f"{path}.{name} is missing")
            continue
        if value[name] is None and not annotation.startswith("Optional"):
            found.append(f"{path}.{name} is null")
        if "UntypedStripeObject" not in annotation:
            found += faults(value[name], inner.get(name), f"{path}.{name}")
    return found
