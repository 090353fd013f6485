"""What has to be done so that the provider holds the catalog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given

from core.catalogs import catalogs
from tollkeeper.core.plans import Catalog, Plan
from tollkeeper.core.provider_catalog import RETIRED, Change, Held, changes, event_name, price_key, wanted


def versioned(catalog: Catalog, version: int = 1) -> Catalog:
    return replace(catalog, plans={key: replace(plan, version=version) for key, plan in catalog.plans.items()})


def held(done: list[Change], before: dict[Any, Held] | None = None) -> dict[Any, Held]:
    """What the provider holds after these were done."""
    there = dict(before or {})
    for change in done:
        thing = change.thing
        print_ = thing.fingerprint if thing is not None else RETIRED
        there[change.kind, change.key] = Held(change.kind, change.key, f"id_{change.key}", print_)
    return there


@given(catalogs())
def test_after_an_apply_there_is_nothing_left_to_do(catalog: Catalog) -> None:
    things = list(wanted(versioned(catalog)))
    assert changes(things, held(changes(things, [])).values()) == []


@given(catalogs())
def test_each_thing_is_made_after_what_it_refers_to_and_has_its_own_key(catalog: Catalog) -> None:
    done = changes(wanted(versioned(catalog)), [])
    made: set[tuple[str, str]] = set()
    for change in done:
        assert (change.kind, change.key) not in made
        assert change.thing is not None
        if change.kind == "price":
            assert ("product", change.thing.fields["plan"]) in made
            assert change.thing.price is not None
            assert change.thing.price.meter is None or ("meter", change.thing.price.meter) in made
        made.add((change.kind, change.key))


@given(catalogs(), catalogs())
def test_another_version_makes_new_prices_and_never_changes_one(first: Catalog, second: Catalog) -> None:
    there = held(changes(wanted(versioned(first)), []))
    todo = changes(wanted(versioned(second, 2)), there.values())
    assert not [change for change in todo if change.kind == "price" and change.action == "change"]
    sold = {thing.key for thing in wanted(versioned(second, 2)) if thing.kind == "price"}
    retired = {change.key for change in todo if change.kind == "price" and change.action == "retire"}
    assert retired == {key for kind, key in there if kind == "price"} - sold


@given(catalogs())
def test_what_somebody_is_still_on_is_not_retired(catalog: Catalog) -> None:
    old = versioned(catalog)
    there = held(changes(wanted(old), []))
    todo = changes(wanted(replace(versioned(catalog, 2), plans={}), tuple(old.plans.values())), there.values())
    assert not [change for change in todo if change.action == "retire"]


@given(catalogs())
def test_what_was_retired_is_taken_up_again_and_not_made_twice(catalog: Catalog) -> None:
    things = list(wanted(versioned(catalog)))
    there = held(changes(things, []))
    gone = held(changes([], there.values()), there)
    again = changes(things, gone.values())
    assert {change.action for change in again} <= {"change"}
    assert held(again, gone) == there


def test_names_tell_installations_and_versions_apart() -> None:
    assert event_name("a" * 32, "calls") != event_name("b" * 32, "calls")
    assert len(event_name("a" * 32, "m" * 200)) == 100
    assert price_key(Plan("pro", "api", "Pro", 3), "calls") == "pro@3/calls"
