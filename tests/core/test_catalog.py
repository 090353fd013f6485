from __future__ import annotations

import tomllib
from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.catalog import check_catalog, parse_catalog
from tollkeeper.core.catalog_faults import Path as KeyPath
from tollkeeper.core.catalog_faults import path_text
from tollkeeper.core.catalog_keys import SECTIONS
from tollkeeper.core.errors import CatalogInvalid
from tollkeeper.core.metering import Filter
from tollkeeper.core.plans import Catalog, Plan, RateLimit, Tier

from .catalogs import FULL, any_keys, any_tables, anything, as_toml_data, catalogs, inline, to_toml

DESIGN = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[plans.pro]
product = "api"
limits = [{name="burst", limit=10, window_seconds=1}]
quotas = [{meter="api_calls", limit="1000", kind="hard"}]
[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "graduated"                      # flat, per_unit, graduated, volume, package
tiers = [{up_to="1000", unit_amount="0"}, {up_to="inf", unit_amount="0.002"}]
"""


def faults(text: str | bytes) -> list[str]:
    catalog, found, _ = check_catalog(text)
    assert (catalog is None) == bool(found)
    return [str(fault) for fault in found]


def warnings(text: str) -> list[str]:
    catalog, found, warned = check_catalog(text)
    assert not found
    assert catalog is not None
    return [str(warning) for warning in warned]


def places(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every path in parsed TOML."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data


def test_the_catalog_of_the_design_is_read() -> None:
    catalog = parse_catalog(DESIGN)
    plan = catalog.plans["pro"]
    assert catalog.currency == "usd"
    assert list(catalog.products) == ["api"]
    assert plan.limits == (RateLimit("burst", 10, 1),)
    assert plan.quotas[0].limit == 1000
    assert plan.prices[0].tiers == (Tier(Decimal(1000), Decimal(0)), Tier(None, Decimal("0.002")))
    assert plan.prices[0].currency == "usd"
    assert plan.version == 0


def test_a_catalog_with_every_key_is_read_without_a_warning() -> None:
    assert warnings(FULL) == []
    written = {path[-1] for path in places(tomllib.loads(FULL))}
    assert {key.name for section in SECTIONS.values() for key in section} <= written
    catalog = parse_catalog(FULL.encode())
    assert catalog.plans["pro"].features == {"sso": True, "support": "by e-mail"}
    assert catalog.plans["free"].name == "free"
    assert catalog.meters["api_calls"].group_by == ("region",)
    assert catalog.meters["seats"].filters == (
        Filter("role", ("guest",), negated=True),
        Filter("team", ("ops",)),
        Filter("status", ("active", "idle")),
    )
    assert [price.currency for price in catalog.plans["pro"].prices] == ["usd", "usd", "eur", "usd"]


def test_without_products_there_is_one_named_after_the_catalog() -> None:
    catalog = parse_catalog('name = "Weather"\ncurrency = "usd"\n[plans.a]\n')
    assert [(p.key, p.name) for p in catalog.products.values()] == [("default", "Weather")]
    assert catalog.plans["a"] == Plan("a", "default", "a")


def test_one_declared_product_is_every_plans_product() -> None:
    catalog = parse_catalog('currency = "usd"\n[products.api]\nname = "The API"\n[plans.a]\n')
    assert catalog.plans["a"].product == "api"


@given(catalogs())
def test_every_valid_catalog_reads_back_as_it_was_written(catalog: Catalog) -> None:
    assert parse_catalog(to_toml(as_toml_data(catalog))) == catalog


@given(any_tables)
def test_no_structure_does_more_than_fault(data: dict[str, Any]) -> None:
    text = to_toml(data)
    found = faults(text)
    assert all(len(fault) < 1000 and "\n" not in fault and fault.encode() for fault in found)
    if found:
        with pytest.raises(CatalogInvalid) as caught:
            parse_catalog(text)
        assert [str(fault) for fault in caught.value.faults] == found


@given(st.binary(max_size=200) | st.text(max_size=200) | st.text("[]{}.=\"'#\n ,ab1\\", max_size=60))
def test_no_text_and_no_bytes_do_more_than_fault(given_text: str | bytes) -> None:
    check_catalog(given_text)


@given(st.data())
def test_no_edit_of_the_text_does_more_than_fault(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(len(FULL), start + 20)))
    check_catalog(FULL[:start] + data.draw(st.text("[]{}.=\"'#\n ,ab1-\\é\0\ud800", max_size=5)) + FULL[end:])


@given(st.data())
def test_every_mutation_is_accepted_or_faulted_at_a_key_that_exists(data: st.DataObject) -> None:
    tables = tomllib.loads(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(tables))))
        parent, last = at(tables, path[:-1]), path[-1]
        match data.draw(st.sampled_from(["replace", "remove", "rename", "add", "double"])):
            case "replace":
                parent[last] = data.draw(anything)
            case "remove":
                del parent[last]
            case "rename" if isinstance(parent, dict):
                parent[data.draw(any_keys)] = parent.pop(last)
            case "add" if isinstance(parent, dict):
                parent[data.draw(any_keys)] = data.draw(anything)
            case "double" if isinstance(parent, list):
                parent.append(deepcopy(parent[last]))
        if not tables:
            break
    text = to_toml(tables)
    _, found, _ = check_catalog(text)
    tables = tomllib.loads(text, parse_float=str)
    existing = {path_text(path) for path in places(tables)}
    missing = {
        path_text((*path, key.name))
        for path in [(), *places(tables)]
        if isinstance(at(tables, path), dict)
        for section in SECTIONS.values()
        for key in section
    }
    for fault in found:
        assert fault.key_path in existing or (fault.found == "nothing" and fault.key_path in missing)
        assert fault.line is not None or fault.key_path.count(".") == 0


MINIMAL = 'currency = "usd"\n[meters.m]\nevent_type = "e"\naggregation = "count"\n[plans.p]\n'
PRICE = MINIMAL + "[[plans.p.prices]]\n"
FAULTS = [
    tuple(case.rstrip("\n").split("\n" + "-" * 40 + "\n"))
    for case in Path(__file__).with_name("catalog_faults.txt").read_text().split("=" * 40 + "\n")[1:]
]


@pytest.mark.parametrize(("text", "fault"), FAULTS)
def test_a_fault_names_file_line_key_what_was_expected_and_what_was_found(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    text = 'currency = "usd"\n[meters.m]\naggregation = "cuont"\n[plans.p]\nquotas = [{}]\nnmae = 1\n'
    assert [fault.split(": expected")[0] for fault in faults(text)] == [
        "tollkeeper.toml:2: meters.m.event_type",
        "tollkeeper.toml:3: meters.m.aggregation",
        *(f"tollkeeper.toml:5: plans.p.quotas[0].{name}" for name in ("meter", "limit", "kind")),
        "tollkeeper.toml:6: plans.p.nmae",
    ]


def test_the_file_is_named_as_the_caller_names_it() -> None:
    with pytest.raises(CatalogInvalid) as caught:
        parse_catalog("x", file="prices/eu.toml")
    assert str(caught.value).startswith("prices/eu.toml:1:")
    assert caught.value.extra["faults"] == [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b'currency = "\xff"', "tollkeeper.toml:1: expected text in UTF-8, found the byte 0xff"),
        ('\ncurrency = "\ud800"', "tollkeeper.toml:2: expected text in UTF-8, found half of a surrogate pair"),
        ('\n\ncurrency = "\0"', "tollkeeper.toml:3: expected text, found a NUL byte"),
        ("#" * (1 << 20) + "\n", "tollkeeper.toml: expected a file of at most 1048576 bytes, found 1048577 bytes"),
        ("\n" + "#" * 8193, "tollkeeper.toml:2: expected lines of at most 8192 characters, found a longer one"),
        ("x = " + "[\n" * 5000, "tollkeeper.toml: expected TOML, found arrays or tables nested too deep to read"),
        *(
            ("\n" + key, "tollkeeper.toml:2: expected keys of at most 8 parts, found a longer one")
            for key in ("a." * 4000 + "a = 1", "[" + "'a' . " * 8 + "a]", "a = {b = 1, " + '"\\"".' * 1000 + "a = 1}")
        ),
    ],
)
def test_what_is_no_text_or_too_large_is_one_fault(text: str | bytes, fault: str) -> None:
    assert faults(text) == [fault]


@pytest.mark.parametrize("text", ["x = " + "9" * 5000, "x = 0x" + "f" * 8000, "x = 1979-05-27T07:32:00Z", "x = nan"])
def test_numbers_of_any_size_are_faults_and_not_failures(text: str) -> None:
    assert faults(text)


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    assert parse_catalog(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode()) == parse_catalog(FULL)


@pytest.mark.parametrize(
    ("key", "most", "item"),
    [
        ("meters", 100, {"event_type": "e", "aggregation": "count"}),
        ("products", 50, {"name": "p"}),
        ("features", 200, {"kind": "boolean"}),
        ("plans", 100, {}),
    ],
)
def test_the_number_of_each_thing_is_bounded(key: str, most: int, item: dict[str, Any]) -> None:
    def text(count: int) -> str:
        return 'currency = "usd"\n' + "".join(f"{key}.k{i} = {inline(item)}\n" for i in range(count))

    assert faults(text(most)) == []
    assert faults(text(most + 1)) == [f"tollkeeper.toml:2: {key}: expected at most {most}, found {most + 1}"]


@pytest.mark.parametrize(
    ("key", "most", "item"),
    [
        ("limits", 20, '{{name="n{}", limit=1, window_seconds=1}}'),
        ("prices", 50, '{{key="k{}", model="flat", flat_amount=1}}'),
    ],
)
def test_the_parts_of_a_plan_are_bounded(key: str, most: int, item: str) -> None:
    def text(count: int) -> str:
        return MINIMAL + f"{key} = [" + ",\n".join(item.format(i) for i in range(count)) + "]"

    assert faults(text(most)) == []
    assert faults(text(most + 1)) == [f"tollkeeper.toml:6: plans.p.{key}: expected at most {most}, found {most + 1}"]


def test_the_tiers_of_a_price_are_bounded() -> None:
    def text(count: int) -> str:
        tiers = "".join(f"{{up_to = {i + 1}, unit_amount = 1}},\n" for i in range(count - 1))
        return PRICE + f'key="k"\nmodel="volume"\nmeter="m"\ntiers=[{tiers}{{up_to="inf", unit_amount=1}}]'

    assert faults(text(100)) == []
    assert any("tiers: expected at most 100, found 101" in fault for fault in faults(text(101)))


def test_the_number_of_faults_is_bounded() -> None:
    found = faults('currency = "usd"\n' + "".join(f"k{i} = 1\n" for i in range(600)))
    assert len(found) == 501
    assert found[-1] == "tollkeeper.toml: expected at most 500 faults, found 100 more"


METERED = 'key = "k"\nmeter = "m"\n'


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('currency = "usd"\n', "tollkeeper.toml: plans: there is no plan, so no customer can be given anything"),
        (MINIMAL, "tollkeeper.toml:2: meters.m: no plan limits, allows or bills this meter"),
        (
            MINIMAL + 'quotas = [{meter="m", limit=5, kind="soft"}]',
            "tollkeeper.toml:6: plans.p.quotas[0]: no price bills m: usage beyond the limit is neither refused nor charged",
        ),
        (
            DESIGN,
            "tollkeeper.toml:10: plans.pro.prices[0]: the hard quota of api_calls stops at 1000: tiers[1] is never reached",
        ),
        (
            MINIMAL
            + 'quotas = [{meter="m", limit=5, kind="hard"}]\n[[plans.p.prices]]\n'
            + METERED
            + 'model = "per_unit"\nunit_amount = 1\nincluded = 5',
            "tollkeeper.toml:7: plans.p.prices[0]: the hard quota of m stops at 5, within what is included:"
            " nothing is ever charged",
        ),
        (
            PRICE + METERED + 'model = "per_unit"\nunit_amount = 1\n[[plans.p.prices]]\nkey = "j"\n'
            'meter = "m"\nmodel = "per_unit"\nunit_amount = 2',
            "tollkeeper.toml:11: plans.p.prices[1]: k bills m too: each unit is charged by both",
        ),
    ],
)
def test_what_is_valid_but_probably_not_meant_is_a_warning(text: str, warning: str) -> None:
    assert warnings(text) == [warning]


@pytest.mark.parametrize("past", ["last", "free"])
def test_a_bounded_last_tier_is_taken_when_the_price_says_what_lies_past_it(past: str) -> None:
    tiers = f'model = "volume"\npast_last_tier = "{past}"\ntiers = [{{ up_to = 5, unit_amount = 1 }}]'
    assert parse_catalog(PRICE + METERED + tiers).plans["p"].prices[0].tiers[-1].up_to == 5


def test_a_hard_quota_that_caps_a_price_above_what_is_free_is_no_warning() -> None:
    assert warnings(DESIGN.replace('limit="1000"', 'limit="1001"')) == []
