"""Whatever JSON a caller sends, the desk answers with a thing that can be read back, or with a fault that is the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk import Desk
from tollkeeper.core.errors import Conflict, InvalidRequest, NotFound

TEXT = st.text(st.characters(exclude_categories=[]), max_size=70)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
NETWORKS = st.ip_addresses().map(str) | st.tuples(st.ip_addresses(), st.integers(0, 129)).map(
    lambda n: f"{n[0]}/{n[1]}"
)
CUSTOMER = st.fixed_dictionaries(
    {"name": st.just("Acme") | TEXT | ANYTHING},
    optional={
        "id": st.sampled_from(["a", "b"]) | TEXT | ANYTHING,
        "email": st.emails() | ANYTHING,
        "plan": st.sampled_from(["free", "pro"]) | ANYTHING,
        "currency": st.sampled_from(["usd", "eur"]) | ANYTHING,
        "zone": st.sampled_from(["UTC", "Asia/Kathmandu"]) | ANYTHING,
    },
)
KEY = st.fixed_dictionaries(
    {"customer": st.just("acme") | ANYTHING},
    optional={
        "environment": st.sampled_from(["live", "test"]) | ANYTHING,
        "name": TEXT | ANYTHING,
        "scopes": st.lists(st.from_regex(r"[a-z0-9_:.*-]{1,64}", fullmatch=True) | SCALARS, max_size=4) | ANYTHING,
        "expires_at": st.integers(0, 2**62) | ANYTHING,
        "ips": st.lists(NETWORKS | SCALARS, max_size=4) | ANYTHING,
        "kind": st.sampled_from(["customer", "server"]) | ANYTHING,
    },
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("shared"))
    desk.customers.create("acme", "Acme", plan="free")
    yield desk
    desk.database.close()


@given(content=CUSTOMER)
def test_a_customer_is_made_as_it_can_be_read_back_or_the_caller_is_told(shared: Desk, content: dict[str, Any]) -> None:
    try:
        record = shared.customers.create(**content)
    except (InvalidRequest, Conflict):
        return
    assert shared.customers.get(record.customer.id) == record


@given(content=KEY)
def test_a_key_is_made_as_it_can_be_read_back_or_the_caller_is_told(shared: Desk, content: dict[str, Any]) -> None:
    try:
        new = shared.keys.create(**content)
    except (InvalidRequest, NotFound):
        return
    assert shared.keys.get(new.id) == new.record


@given(ANYTHING, ANYTHING, ANYTHING)
def test_lists_ids_and_moves_take_anything(shared: Desk, one: Any, two: Any, three: Any) -> None:
    calls = [
        lambda: shared.customers.list(one, two),
        lambda: shared.customers.get(one),
        lambda: shared.customers.add_member("acme", one, two),
        lambda: shared.customers.remove_member("acme", one),
        lambda: shared.customers.move("acme", one, two, three),
        lambda: shared.customers.overrides("acme", one),
        lambda: shared.customers.remove_limit("acme", "live", one),
        lambda: shared.keys.list(one, two, three),
        lambda: shared.keys.list(cursor=one),
        lambda: shared.keys.get(one),
        lambda: shared.keys.revoke(one),
        lambda: shared.keys.rotate(one, two),
        lambda: shared.customers.change("acme", name=one, email=two, zone=three),
        lambda: shared.catalog.plan(one, two),
        lambda: shared.catalog.version(one),
        lambda: shared.catalog.versions(one, two),
    ]
    for call in calls:
        with suppress(InvalidRequest, NotFound):
            call()
