from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings

from tollkeeper.core.catalog import diff_catalogs, fingerprint, parse_catalog
from tollkeeper.core.plans import Catalog

from .catalogs import FULL, catalogs

OLD = parse_catalog(FULL)


def changed(before: str, after: str) -> list[str]:
    assert FULL.count(before) >= 1
    diff = diff_catalogs(OLD, parse_catalog(FULL.replace(before, after, 1)))
    assert diff.refused == ()
    return diff.lines()


def refused(text: str) -> list[str]:
    return [str(fault) for fault in diff_catalogs(OLD, parse_catalog(text), in_use=OLD.plans.values()).refused]


PRICE = '[[plans.pro.prices]]\nkey = "fee"\nmodel = "flat"\nflat_amount = "9.99"\ninterval = "year"\n'


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ('limit = "1000"', 'limit = "2000"', ["~ plans.free.quotas[api_calls].limit: 1000 → 2000"]),
        ("limit = 10,", "limit = 20,", ["~ plans.pro.limits[burst].limit: 10 → 20"]),
        ('per = "key"', 'per = "customer"', ["~ plans.pro.limits[daily].per: key → customer"]),
        ('"9.99"', '"8"', ["~ plans.pro.prices[fee].flat_amount: 9.99 → 8"]),
        (PRICE, "", ["- plans.pro.prices[fee]: model flat, currency usd, interval year, flat_amount 9.99"]),
        ('minimum = "1"\n', "", ["~ plans.pro.prices[tokens].minimum: 1 → none"]),
        ('"12.5"', '"15"', ["~ plans.pro.prices[tokens].discounts: [12.5%, -2] → [15%, -2]"]),
        (
            '"0.002", flat',
            '"0.003", flat',
            [
                "~ plans.pro.prices[calls].tiers: [up to 1000: 0, up to 10000: 0.002 + 5, beyond: 0.001]"
                " → [up to 1000: 0, up to 10000: 0.003 + 5, beyond: 0.001]"
            ],
        ),
        ("sso = true", "sso = false", ["~ plans.pro.features.sso: true → false"]),
        ("sso = true\n", "", ["- plans.pro.features.sso: true"]),
        ('name = "Pro"', 'name = "Team"', ["~ plans.pro.name: Pro → Team"]),
        ('name = "Weather"', 'name = "Wind"', ["~ name: Weather → Wind"]),
        ('unit = "call"', 'unit = "request"', ["~ meters.api_calls.unit: call → request"]),
        ('count_on = "attempt"', 'count_on = "success"', ["~ meters.api_calls.count_on: attempt → success"]),
        ('[plans.free]\nproduct = "api"\n', '[plans.gratis]\nproduct = "api"\n', [
            "+ plans.gratis: product api, name gratis",
            "+ plans.gratis.quotas[api_calls]: limit 1000, kind hard",
            "- plans.free: product api, name free",
        ]),
        (
            "[plans.free]",
            '[meters.mails]\nevent_type = "mail"\naggregation = "count"\n[plans.free]',
            ["+ meters.mails: event_type mail, aggregation count"],
        ),
    ],
)  # fmt: skip
def test_a_change_is_one_readable_line_at_its_key(before: str, after: str, lines: list[str]) -> None:
    assert changed(before, after) == lines


def test_a_change_of_order_is_told() -> None:
    turned = replace(OLD, plans=dict(reversed(OLD.plans.items())))
    assert diff_catalogs(OLD, turned).lines() == ["~ plans: in the order free, pro → pro, free"]
    pro = OLD.plans["pro"]
    turned = replace(OLD, plans={**OLD.plans, "pro": replace(pro, limits=pro.limits[::-1])})
    assert diff_catalogs(OLD, turned).lines() == ["~ plans.pro.limits: in the order burst, daily → daily, burst"]


def test_the_first_catalog_is_all_additions() -> None:
    diff = diff_catalogs(None, OLD)
    assert {change.kind for change in diff.changes} == {"added"}
    assert diff.lines()[0] == "+ currency: usd"
    assert diff.plans_changed == ("free", "pro")
    assert diff.plans_archived == ()


@settings(max_examples=40)
@given(catalogs(), catalogs())
def test_the_diff_is_empty_exactly_when_nothing_changed(one: Catalog, other: Catalog) -> None:
    assert bool(diff_catalogs(one, other)) == (fingerprint(one) != fingerprint(other))
    assert not diff_catalogs(one, one)
    assert not diff_catalogs(one, one).refused


@settings(max_examples=40)
@given(catalogs(), catalogs())
def test_a_plan_gets_a_version_exactly_when_a_line_names_it(one: Catalog, other: Catalog) -> None:
    diff = diff_catalogs(one, other)
    named = {c.key_path.split(".")[1].split("[")[0] for c in diff.changes if c.key_path.startswith("plans.")}
    assert set(diff.plans_changed) | set(diff.plans_archived) == named
    assert set(diff.plans_changed) <= set(other.plans)
    assert set(diff.plans_archived) == set(one.plans) - set(other.plans)


def test_versions_are_no_difference() -> None:
    applied = replace(OLD, plans={key: replace(plan, version=4) for key, plan in OLD.plans.items()})
    diff = diff_catalogs(applied, OLD)
    assert not diff
    assert diff.plans_changed == ()


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (
            'event_type = "api.call"',
            'event_type = "api.request"',
            "tollkeeper.toml: meters.api_calls.event_type: expected api.call, as applied, found api.request; "
            "a change in place would give what is recorded another meaning; make a new one of the meters",
        ),
        (
            'aggregation = "sum"\nvalue_property = "tokens"',
            'aggregation = "sum"\nvalue_property = "words"',
            "tollkeeper.toml: meters.tokens.value_property: expected tokens, as applied, found words; "
            "a change in place would give what is recorded another meaning; make a new one of the meters",
        ),
        (
            'group_by = ["region"]',
            'group_by = ["region", "model"]',
            "tollkeeper.toml: meters.api_calls.group_by: expected [region], as applied, found [region, model]; "
            "a change in place would give what is recorded another meaning; make a new one of the meters",
        ),
        (
            'kind = "boolean"\ndescription = "Single sign-on"\n[features.support]\nkind = "static"',
            'kind = "boolean"\ndescription = "Single sign-on"\n[features.support]\nkind = "metered"\nmeter = "tokens"',
            "tollkeeper.toml: features.support.kind: expected static, as applied, found metered; "
            "a change in place would give what is recorded another meaning; make a new one of the features",
        ),
        (
            'currency = "usd"',
            'currency = "gbp"',
            'tollkeeper.toml: currency: expected "usd", as applied, found "gbp"; '
            "customers are billed in it; give single prices another currency",
        ),
    ],
)
def test_what_would_change_the_meaning_of_history_is_refused(before: str, after: str, fault: str) -> None:
    text = FULL.replace(before, after)
    if "support.kind" in fault:
        text = text.replace('support = "by e-mail"\n', "")
    assert refused(text) == [fault]


def test_an_aggregation_changed_in_place_is_refused() -> None:
    text = FULL.replace('aggregation = "sum"\nvalue_property = "tokens"', 'aggregation = "count"')
    assert [fault.split(": expected")[0] for fault in refused(text)] == [
        "tollkeeper.toml: meters.tokens.aggregation",
        "tollkeeper.toml: meters.tokens.value_property",
    ]


def test_a_meter_is_removed_only_when_nobody_is_on_a_plan_that_uses_it() -> None:
    kept = replace(OLD.plans["pro"], quotas=(), prices=OLD.plans["pro"].prices[:2])
    new = replace(OLD, meters={k: m for k, m in OLD.meters.items() if k != "tokens"}, plans={**OLD.plans, "pro": kept})
    assert diff_catalogs(OLD, new).refused == ()
    assert [str(f) for f in diff_catalogs(OLD, new, in_use=[replace(OLD.plans["pro"], version=2)]).refused] == [
        "tollkeeper.toml: meters.tokens: expected this meter, found nothing; "
        "customers are on version 2 of plan pro, which uses it; keep it, or move them first"
    ]
    assert diff_catalogs(OLD, new, in_use=[kept]).refused == ()


def test_every_field_of_every_part_is_compared() -> None:
    plan = OLD.plans["pro"]
    for name, named_by in (("limits", "name"), ("quotas", "meter"), ("prices", "key")):
        parts = getattr(plan, name)
        for field in fields(parts[0]):
            if field.name != named_by:
                other = (replace(parts[0], **{field.name: "other"}), *parts[1:])
                path = f"plans.pro.{name}[{getattr(parts[0], named_by)}].{field.name}"
                diff = diff_catalogs(OLD, replace(OLD, plans={**OLD.plans, "pro": replace(plan, **{name: other})}))
                assert [(c.kind, c.key_path, c.after) for c in diff.changes] == [("changed", path, "other")]
    for section, key in (("products", "api"), ("meters", "tokens"), ("features", "sso"), ("plans", "free")):
        things = getattr(OLD, section)
        for field in fields(things[key]):
            if field.name not in ("key", "version", "limits", "quotas", "prices", "features"):
                other = replace(OLD, **{section: {**things, key: replace(things[key], **{field.name: "other"})}})
                assert [c.key_path for c in diff_catalogs(OLD, other).changes] == [f"{section}.{key}.{field.name}"]


def test_a_meter_that_comes_back_must_be_what_it_was() -> None:
    without = replace(OLD, meters={"tokens": OLD.meters["tokens"]}, plans={})
    other = replace(OLD.meters["api_calls"], event_type="other")
    assert diff_catalogs(without, OLD, meters_ever=OLD.meters).refused == ()
    back = replace(OLD, meters={**OLD.meters, "api_calls": other})
    assert [f.key_path for f in diff_catalogs(without, back, meters_ever=OLD.meters).refused] == [
        "meters.api_calls.event_type"
    ]
