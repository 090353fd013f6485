"""Stripe's lists: newest first, `limit` 1 to 100, `starting_after` and `ending_before` by id, filters on fields and on `created`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from tollkeeper.sandbox.errors import invalid, no_such
from tollkeeper.sandbox.operations import Call
from tollkeeper.sandbox.store import Object

DEFAULT, MOST = 10, 100
_OWNERS = frozenset({"charge", "customer", "email", "invoice", "payment_intent", "product"})
"""Fields whose texts stand at few objects each, so that a list of one of them looks at those alone."""
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def answer(url: str, data: list[Any], has_more: bool = False) -> Object:
    """A list object."""
    return {"object": "list", "url": url, "data": data, "has_more": has_more}


def page(
    call: Call,
    kind: str,
    *,
    equal: Iterable[str] = (),
    ranges: Iterable[str] = ("created",),
    where: Callable[[Object], bool] = lambda row: True,
) -> Object:
    """One page of the objects of a kind.

    Args:
        equal: parameters that an object's field of that name must equal.
        ranges: parameters that are an instant or {"gt", "gte", "lt", "lte"} of one.
        where: what else an object must fulfil.
    """
    wanted = [(name, call.params[name]) for name in equal if name in call.params]
    bounds = [(name, call.params[name]) for name in ranges if name in call.params]

    def fits(row: Object) -> bool:
        if row.get("deleted") or not where(row):
            return False
        return all(row.get(name) == value for name, value in wanted) and all(
            within(row[name], bound) for name, bound in bounds
        )

    among = next(((name, value) for name, value in wanted if name in _OWNERS and isinstance(value, str)), None)
    return cut(call, kind, fits, among)


def within(value: Any, bound: Any) -> bool:
    """Whether an instant is the one asked for, or inside the range asked for."""
    if isinstance(bound, dict):
        return all(_COMPARE[name](value, limit) for name, limit in bound.items())
    return bool(value == bound)


def cut(call: Call, kind: str, fits: Callable[[Object], bool], among: tuple[str, str] | None = None) -> Object:
    """The page that the cursor and `limit` of the call name, of the objects that fit. `among`: a field that narrows them, and its text."""
    params, table = call.params, call.world.store.table(kind)
    limit = limit_of(call)
    after, before = params.get("starting_after"), params.get("ending_before")
    if after is not None and before is not None:
        raise invalid("You may only specify one of these parameters: ending_before, starting_after.", "ending_before")
    rows: Iterator[Object]
    if before is not None:
        edge = table.get(before)
        if edge is None:
            raise no_such(kind.rpartition(".")[2].replace("_", " "), before, "ending_before", status=400)
        later = table.oldest(edge) if among is None else _beside(table.of(*among), edge, newer=True)
        rows = (row for row in later if fits(row))
        found = list(islice(rows, limit + 1))
        return answer(call.path, found[:limit][::-1], len(found) > limit)
    edge = None
    if after is not None:
        edge = table.get(after)
        if edge is None:
            raise no_such(kind.rpartition(".")[2].replace("_", " "), after, "starting_after", status=400)
    earlier = table.newest(edge) if among is None else _beside(table.of(*among)[::-1], edge, newer=False)
    rows = (row for row in earlier if fits(row))
    found = list(islice(rows, limit + 1))
    return answer(call.path, found[:limit], len(found) > limit)


def _beside(rows: Iterable[Object], edge: Object | None, *, newer: bool) -> Iterator[Object]:
    """Those on one side of the object that the cursor names."""
    return (
        row for row in rows if edge is None or ((row["_sequence"] > edge["_sequence"]) == newer and row is not edge)
    )


def limit_of(call: Call) -> int:
    limit = call.params.get("limit", DEFAULT)
    if not 1 <= limit <= MOST:
        words = "greater than or equal to 1" if limit < 1 else f"less than or equal to {MOST}"
        raise invalid(f"This value must be {words}.", "limit", "parameter_invalid_integer")
    return int(limit)


def cut_rows(call: Call, rows: list[Object]) -> Object:
    """A page of objects that stand in no table, given in the order of the answer."""
    limit = limit_of(call)
    ids = [row["id"] for row in rows]
    start, end = 0, len(rows)
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after is not None:
        if after not in ids:
            raise no_such("object", after, "starting_after", status=400)
        start = ids.index(after) + 1
    if before is not None:
        if before not in ids:
            raise no_such("object", before, "ending_before", status=400)
        end = ids.index(before)
        start = max(0, end - limit)
        return answer(call.path, rows[start:end], start > 0)
    return answer(call.path, rows[start : start + limit], start + limit < end)
