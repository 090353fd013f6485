"""Parsed TOML to checked values, one fault for each thing that does not fit.

A value that has a fault is left out of what is returned, so that the rules (`catalog_rules`) judge only what could be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from tollkeeper.core import catalog_keys as keys
from tollkeeper.core.catalog_faults import Fault, Path, found_text, path_text
from tollkeeper.core.catalog_kinds import Kind, Unfit, did_you_mean
from tollkeeper.core.catalog_source import Source

Values = dict[str, Any]
MAX_FAULTS: Final = 500
_KEY: Final = re.compile(keys.KEY_PATTERN)


class Reader:
    """Reads one file and collects its faults."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self.left_out = 0

    def fault(self, path: Path, expected: str, found: str, hint: str = "") -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(self.source.file, self.source.line(path), path_text(path), expected, found, hint))
        else:
            self.left_out += 1

    def catalog(self, data: Values) -> Values:
        top = self.section(data, (), "")
        top["products"] = self.tables(top["products"], ("products",), keys.MAX_PRODUCTS)
        top["meters"] = self.tables(top["meters"], ("meters",), keys.MAX_METERS)
        top["features"] = self.tables(top["features"], ("features",), keys.MAX_FEATURES)
        top["plans"] = self.tables(top["plans"], ("plans",), keys.MAX_PLANS)
        for key, meter in top["meters"].items():
            at = ("meters", key, "filters")
            meter["filters"] = self.array(meter["filters"], at, "meters.KEY.filters", keys.MAX_FILTERS)
        for key, plan in top["plans"].items():
            self.plan(plan, ("plans", key))
        return top

    def plan(self, plan: Values, path: Path) -> None:
        for name, most in (("limits", keys.MAX_LIMITS), ("quotas", keys.MAX_QUOTAS), ("prices", keys.MAX_PRICES)):
            plan[name] = self.array(plan[name], (*path, name), f"plans.KEY.{name}", most)
        for i, price in plan["prices"]:
            self.price(price, (*path, "prices", i))
        granted = self.table(plan["features"], (*path, "features"))
        plan["features"] = dict(self.bounded(granted, (*path, "features"), keys.MAX_FEATURES))

    def price(self, price: Values, path: Path) -> None:
        written = price["written"]
        tiers = (*path, "tiers")
        price["tiers"] = self.array(price["tiers"], tiers, "plans.KEY.prices.tiers", keys.MAX_TIERS)
        discounts = (*path, "discounts")
        price["discounts"] = self.array(price["discounts"], discounts, "plans.KEY.prices.discounts", keys.MAX_DISCOUNTS)
        model = price.get("model")
        if model is None:
            return
        needed, taken = keys.MODELS[model]
        for key in keys.SECTIONS["plans.KEY.prices"]:
            at = (*path, key.name)
            if key.name in needed and key.name not in written:
                self.fault(at, key.kind.expected or "an array of tables", "nothing", f"the model {model} needs it")
            if key.name not in taken and key.name in written:
                self.fault(at, f"no {key.name} with the model {model}", found_text(written[key.name]))

    def section(self, table: Values, path: Path, section: str) -> Values:
        """The table's keys, those with a fault left out; `written` is the table as it stands."""
        known = keys.SECTIONS[section]
        for name in table:
            if not any(key.name == name for key in known):
                hint = "" if len(self.faults) >= MAX_FAULTS else did_you_mean(name, (key.name for key in known))
                self.fault((*path, name), "a key of " + (section or "the catalog"), "an unknown one", hint)
        values: Values = {"written": table}
        for key in known:
            at = (*path, key.name)
            if key.name in table:
                self.value(table[key.name], at, key.kind, values)
            elif key.default is keys.REQUIRED:
                self.fault(at, key.kind.expected, "nothing")
            elif key.default is not keys.DEPENDS:
                values[key.name] = key.default
        return values

    def value(self, value: Any, path: Path, kind: Kind, into: Values) -> None:
        try:
            into[str(path[-1])] = kind.read(value)
        except Unfit as unfit:
            self.fault(path, kind.expected, found_text(value), unfit.hint)

    def tables(self, value: Any, path: Path, most: int) -> dict[str, Values]:
        """A table of tables by key, such as `[meters.KEY]`."""
        section = f"{path[-1]}.KEY"
        table = self.table(value, path)
        found = {}
        for key, item in self.bounded(table, path, most):
            if isinstance(item, dict):
                found[key] = self.section(item, (*path, key), section)
            else:
                self.fault((*path, key), "a table", found_text(item))
        return found

    def array(self, value: Any, path: Path, section: str, most: int) -> list[tuple[int, Values]]:
        """An array of tables, each with its index."""
        if not isinstance(value, list | tuple):
            self.fault(path, "an array of tables", found_text(value))
            return []
        if len(value) > most:
            self.fault(path, f"at most {most}", str(len(value)))
        found = []
        for i, item in enumerate(value[:most]):
            if isinstance(item, dict):
                found.append((i, self.section(item, (*path, i), section)))
            else:
                self.fault((*path, i), "a table", found_text(item))
        return found

    def table(self, value: Any, path: Path) -> Values:
        if isinstance(value, dict):
            return value
        self.fault(path, "a table", found_text(value))
        return {}

    def bounded(self, table: Values, path: Path, most: int) -> Iterator[tuple[str, Any]]:
        """At most `most` entries whose keys are well formed."""
        if len(table) > most:
            self.fault(path, f"at most {most}", str(len(table)))
        for key, value in list(table.items())[:most]:
            if _KEY.fullmatch(key):
                yield key, value
            else:
                self.fault((*path, key), keys.KEY_EXPECTED, found_text(key))
