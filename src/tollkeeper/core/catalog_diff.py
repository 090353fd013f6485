"""What an apply would change, as data and as lines a person reads, and what it must not change.

Versions: a plan that changed gets its next version at apply, an unchanged one keeps the version it has, a removed one is archived:
nobody new gets it, subscribers keep it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Literal

from tollkeeper.core.catalog_faults import Fault
from tollkeeper.core.metering import Filter, Meter, format_quantity
from tollkeeper.core.plans import Catalog, Discount, Feature, Plan, Tier

_SIGN: Final = {"added": "+", "changed": "~", "removed": "-"}
_NAMED_BY: Final = {"limits": "name", "quotas": "meter", "prices": "key"}
_FIXED: Final = {
    "meters": ("event_type", "aggregation", "value_property", "group_by", "filters"),
    "features": ("kind",),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One key; "" on the side that has nothing. `key_path` names the parts of a plan: `plans.pro.quotas[api_calls].limit`."""

    kind: Literal["added", "changed", "removed"]
    key_path: str
    before: str
    after: str

    def __str__(self) -> str:
        if self.kind == "changed":
            return f"~ {self.key_path}: {self.before} → {self.after}"
        value = self.before or self.after
        return f"{_SIGN[self.kind]} {self.key_path}" + (f": {value}" if value else "")


@dataclass(frozen=True, slots=True)
class CatalogDiff:
    """`plans_changed`, added ones included, get a version at apply; `plans_archived` are offered no more.

    With anything in `refused` it must not be applied: raise CatalogInvalid(faults=diff.refused).
    """

    changes: tuple[Change, ...]
    refused: tuple[Fault, ...]
    plans_changed: tuple[str, ...]
    plans_archived: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def lines(self) -> list[str]:
        return [str(change) for change in self.changes]


def diff_catalogs(
    old: Catalog | None,
    new: Catalog,
    *,
    in_use: Iterable[Plan] = (),
    meters_ever: Mapping[str, Meter] = MappingProxyType({}),
    features_ever: Mapping[str, Feature] = MappingProxyType({}),
    file: str = "tollkeeper.toml",
) -> CatalogDiff:
    """From `old` (None: nothing applied yet) to `new`.

    `in_use`: the plan versions that somebody is on. `meters_ever`, `features_ever`: those of every catalog applied before;
    usage of a removed meter is kept under its key, and a subscriber keeps the features of the plan version bought.
    """
    if old is None:
        old = Catalog(new.currency, {}, {}, {}, {}, name=new.name, shadow=new.shadow)
        shadowed = [Change("added", "shadow", "", _shown(new.shadow))] if new.shadow else []
        changes = [Change("added", "currency", "", new.currency), *shadowed, *_catalog_changes(old, new)]
    else:
        changes = list(_catalog_changes(old, new))
    ever = replace(old, meters={**meters_ever, **old.meters}, features={**features_ever, **old.features})
    return CatalogDiff(
        tuple(changes),
        tuple(_refusals(ever, new, in_use, file)),
        tuple(key for key, plan in new.plans.items() if not _same(old.plans.get(key), plan)),
        tuple(key for key in old.plans if key not in new.plans),
    )


def _same(old: Plan | None, new: Plan) -> bool:
    """Whether they say the same, whatever their versions."""
    return old is not None and replace(old, version=0) == replace(new, version=0)


def _refusals(old: Catalog, new: Catalog, in_use: Iterable[Plan], file: str) -> Iterator[Fault]:
    if old.currency != new.currency:
        hint = "customers are billed in it; give single prices another currency"
        yield Fault(file, None, "currency", f'"{old.currency}", as applied', f'"{new.currency}"', hint)
    for section, names in _FIXED.items():
        then, now = getattr(old, section), getattr(new, section)
        for key, name in ((key, name) for key in now if key in then for name in names):
            before, after = getattr(then[key], name), getattr(now[key], name)
            if before != after:
                hint = f"a change in place would give what is recorded another meaning; make a new one of the {section}"
                yield Fault(file, None, f"{section}.{key}.{name}", f"{_shown(before)}, as applied", _shown(after), hint)
    holders = {meter: plan for plan in in_use for meter in plan.meters}
    for meter, plan in holders.items():
        if meter not in new.meters:
            hint = f"customers are on version {plan.version} of plan {plan.key}, which uses it; keep it, or move them first"
            yield Fault(file, None, f"meters.{meter}", "this meter", "nothing", hint)


def _catalog_changes(old: Catalog, new: Catalog) -> Iterator[Change]:
    for name in ("name", "currency"):
        if getattr(old, name) != getattr(new, name):
            yield Change("changed", name, getattr(old, name), getattr(new, name))
    for section in ("products", "meters", "features", "plans"):
        yield from _maps(section, getattr(old, section), getattr(new, section))
    for name in ("fallback", "write_off", "automatic_tax", "tax_ids", "promotion_codes"):
        if getattr(old, name) != getattr(new, name):
            before, after = getattr(old, name), getattr(new, name)
            if before in (None, False):
                yield Change("added", name, "", _shown(after))
            else:
                yield Change("changed", name, _shown(before), _shown(after))
    if old.shadow != new.shadow:
        yield Change("changed", "shadow", _shown(old.shadow), _shown(new.shadow))
    stayed = [key for key in old.plans if key in new.plans]
    order = [key for key in new.plans if key in old.plans]
    if stayed != order:
        yield Change("changed", "plans", "in the order " + ", ".join(stayed), ", ".join(order))


def _maps(path: str, old: Mapping[str, Any], new: Mapping[str, Any], form: str = "{}.{}") -> Iterator[Change]:
    for key, after in new.items():
        where = form.format(path, key)
        if key not in old:
            yield Change("added", where, "", _summary(after))
            if isinstance(after, Plan):
                yield from _parts(where, Plan(key, "", ""), after)
        elif isinstance(after, bool | int | str | Decimal):
            if old[key] != after:
                yield Change("changed", where, _shown(old[key]), _shown(after))
        else:
            yield from _fields(where, old[key], after)
            if isinstance(after, Plan):
                yield from _parts(where, old[key], after)
    for key, before in old.items():
        if key not in new:
            yield Change("removed", form.format(path, key), _summary(before), "")


def _parts(path: str, old: Plan, new: Plan) -> Iterator[Change]:
    for name, named_by in _NAMED_BY.items():
        then = {getattr(part, named_by): part for part in getattr(old, name)}
        now = {getattr(part, named_by): part for part in getattr(new, name)}
        yield from _maps(f"{path}.{name}", then, now, "{}[{}]")
        stayed, order = [key for key in then if key in now], [key for key in now if key in then]
        if stayed != order:
            yield Change("changed", f"{path}.{name}", "in the order " + ", ".join(stayed), ", ".join(order))
    yield from _maps(f"{path}.features", old.features, new.features)


def _fields(path: str, old: Any, new: Any) -> Iterator[Change]:
    for field in fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after and field.name not in ("version", *_NAMED_BY, "features"):
            yield Change("changed", f"{path}.{field.name}", _shown(before), _shown(after))


def _summary(thing: Any) -> str:
    """The fields that are not at their default, the key that names the thing left out."""
    if isinstance(thing, bool | int | str | Decimal):
        return _shown(thing)
    shown = []
    for i, field in enumerate(fields(thing)):
        value = getattr(thing, field.name)
        if (
            i
            and field.name not in ("version", *_NAMED_BY, "features")
            and (field.default is MISSING or value != field.default)
        ):
            shown.append(f"{field.name} {_shown(value)}")
    return ", ".join(shown)


def _shown(value: Any) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format_quantity(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_item(item) for item in value) + "]"
    return str(value)


def _item(item: Any) -> str:
    if isinstance(item, Discount):
        return (
            f"{format_quantity(item.percent_off)}%"
            if item.percent_off
            else f"-{format_quantity(item.amount_off or Decimal(0))}"
        )
    if isinstance(item, Filter):
        return f"{item.property} {'not ' if item.negated else ''}{' or '.join(item.values)}"
    return item if isinstance(item, str) else _tier(item)


def _tier(tier: Tier) -> str:
    flat = f" + {format_quantity(tier.flat_amount)}" if tier.flat_amount else ""
    span = "beyond" if tier.up_to is None else f"up to {format_quantity(tier.up_to)}"
    return f"{span}: {format_quantity(tier.unit_amount)}{flat}"
