"""The strict check of a call's parameters against a table made from the official client's types.

The table (`parameters.json`, written by tests/sandbox/write_parameters.py) holds one node for each operation served:

    "s" text · "i" integer · "b" boolean · "d" decimal · "f" number · "a" anything
    {"e": [values]} one of these · {"l": node} list · {"m": node} mapping with free names
    {"o": {name: node}, "r": [required names]} object · {"u": [nodes]} any of these
    {"t": name} the node of that name under "types"
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import resources
from typing import Any

from tollkeeper.sandbox.errors import ApiError, empty_parameter, missing_parameter, refused, unknown_parameters

Node = Any
_LONGEST_TEXT = 5_000
_INTEGER_BOUND = 2**63


@cache
def table() -> dict[str, Any]:
    """{"operations": {"POST /v1/customers": node}, "types": {name: node}}."""
    text = resources.files(__package__).joinpath("parameters.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def check(operation: str, given: dict[str, Any], *, form: bool) -> dict[str, Any]:
    """The parameters with integers, booleans and lists as such, decimals as their text.

    Args:
        operation: "POST /v1/customers".
        given: as decoded from a form (all leaves text) or, `form=False`, from JSON.

    Raises ApiError 400 as Stripe does: parameter_unknown, parameter_missing, parameter_invalid_empty, parameter_invalid_integer …
    """
    node = table()["operations"][operation]
    return _object(node, given, "", form)


def _name(path: str, key: str) -> str:
    return f"{path}[{key}]" if path else key


def _object(node: Node, given: dict[str, Any], path: str, form: bool) -> dict[str, Any]:
    fields = node["o"]
    unknown = [_name(path, key) for key in given if key not in fields]
    if unknown:
        raise unknown_parameters(unknown)
    for key in node.get("r", ()):
        if key not in given:
            raise missing_parameter(_name(path, key))
    return {key: _check(fields[key], value, _name(path, key), form) for key, value in given.items()}


def _check(node: Node, value: Any, path: str, form: bool) -> Any:
    if isinstance(node, str):
        return _scalar(node, value, path, form)
    if "t" in node:
        return _check(table()["types"][node["t"]], value, path, form)
    if "e" in node:
        return _one_of(node["e"], value, path)
    if "u" in node:
        return _union(node["u"], value, path, form)
    if "l" in node:
        return [
            _check(node["l"], item, f"{path}[{index}]", form) for index, item in enumerate(_items(value, path, form))
        ]
    if not isinstance(value, dict):
        raise empty_parameter(path) if value == "" else refused("Invalid object", path)
    if "m" in node:
        inner = node["m"]
        if inner == "s":
            return {key: _text(item, _name(path, key), form, may_be_empty=True) for key, item in value.items()}
        return {key: _check(inner, item, _name(path, key), form) for key, item in value.items()}
    return _object(node, value, path, form)


def _items(value: Any, path: str, form: bool) -> list[Any]:
    if not form:
        if isinstance(value, list):
            return value
    elif isinstance(value, dict) and all(key.isdigit() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    raise refused("Invalid array", path)


def _one_of(values: list[Any], value: Any, path: str) -> Any:
    if value in values and not isinstance(value, bool):
        return value
    if value == "":
        raise empty_parameter(path)
    shown = [str(item) for item in values if item != ""]
    if not shown:
        raise refused(f"Invalid {path}: must be empty", path)
    text = shown[0] if len(shown) == 1 else f"one of {', '.join(shown[:-1])}, or {shown[-1]}"
    raise refused(f"Invalid {path}: must be {text}", path)


def _union(nodes: list[Node], value: Any, path: str, form: bool) -> Any:
    """The first that fits; when none does, the fault of the one whose kind (object, list, text) is the value's."""
    faults: list[tuple[bool, ApiError]] = []
    for node in nodes:
        try:
            return _check(node, value, path, form)
        except ApiError as fault:
            faults.append((_same_kind(node, value), fault))
    raise next((fault for same, fault in faults if same), faults[-1][1])


def _same_kind(node: Node, value: Any) -> bool:
    if isinstance(node, str) or "e" in node:
        return not isinstance(value, dict | list) and node != {"e": [""]}
    if "t" in node:
        return _same_kind(table()["types"][node["t"]], value)
    if "u" in node:
        return any(_same_kind(inner, value) for inner in node["u"])
    return isinstance(value, dict | list)


def _text(value: Any, path: str, form: bool, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise refused("Invalid string: " + json.dumps(value), path)
    if not value and not may_be_empty and form:
        raise empty_parameter(path)
    if len(value) > _LONGEST_TEXT:
        raise refused(f"Invalid string: {value[:5]}...{value[-5:]}; must be at most {_LONGEST_TEXT} characters", path)
    return value


def _scalar(node: str, value: Any, path: str, form: bool) -> Any:
    if node == "s":
        return _text(value, path, form)
    if node == "a":
        return value
    if value == "":
        raise empty_parameter(path)
    if isinstance(value, dict | list):
        raise refused(f"Invalid {_WORDS[node]}: {json.dumps(value)}", path)
    if node == "b":
        if value in (True, False) and isinstance(value, bool):
            return value
        if form and value in ("true", "false"):
            return value == "true"
        raise refused(f"Invalid boolean: {value}", path)
    if isinstance(value, bool) or (not form and node == "i" and not isinstance(value, int)):
        raise refused(f"Invalid {_WORDS[node]}: {value}", path, _CODES.get(node))
    if node == "i":
        return _integer(value, path)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise refused(f"Invalid {_WORDS[node]}: {value}", path, _CODES.get(node))
    return str(value) if node == "d" else float(number)


_WORDS = {"i": "integer", "d": "decimal", "f": "number", "b": "boolean"}
_CODES = {"i": "parameter_invalid_integer"}


def _integer(value: Any, path: str) -> int:
    text = str(value)
    digits = text[1:] if text[:1] == "-" else text
    if digits.isascii() and digits.isdigit() and len(digits) <= 19 and abs(int(text)) < _INTEGER_BOUND:
        return int(text)
    raise refused(f"Invalid integer: {value}", path, "parameter_invalid_integer")
