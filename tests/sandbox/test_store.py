"""What the sandbox finds by a field is what looking at every object would find, whatever was changed and removed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.conftest import Running
from tollkeeper.sandbox.store import Store

IDS, OWNERS = ["a", "b", "c", "d"], ["x", "y", None]
STEP = st.tuples(st.sampled_from(IDS), st.sampled_from([*OWNERS, "removed"]))


@given(st.lists(STEP, max_size=30), st.integers(0, 30))
def test_an_index_follows_every_change(steps: list[tuple[str, Any]], asked: int) -> None:
    store = Store()
    table = store.table("thing")
    for number, (id, owner) in enumerate(steps):
        if number == asked:
            table.of("owner", "x")  # the index is made in the middle of it
        row = table.get(id)
        if owner != "removed":
            store.save({**(row or {"object": "thing", "id": id}), "owner": owner})
        elif row is not None:
            store.remove(row)
    for owner in ("x", "y"):
        assert table.of("owner", owner) == [row for row in table if row["owner"] == owner]
    store.close()


def test_a_page_of_one_customer_goes_on_where_its_cursor_stands(running: Running) -> None:
    v1: Any = running.client.v1
    one, other = (v1.customers.create({"name": name}).id for name in ("One", "Other"))
    made = []
    for number in range(1, 6):
        made.append(v1.invoice_items.create({"customer": one, "amount": number, "currency": "usd"}).id)
        v1.invoice_items.create({"customer": other, "amount": number, "currency": "usd"})
    listed = v1.invoice_items.list
    assert [row.id for row in listed({"customer": one}).data] == made[::-1]
    page = listed({"customer": one, "limit": 2})
    assert ([row.id for row in page.data], page.has_more) == ([made[4], made[3]], True)
    page = listed({"customer": one, "limit": 3, "starting_after": made[3]})
    assert ([row.id for row in page.data], page.has_more) == ([made[2], made[1], made[0]], False)
    page = listed({"customer": one, "limit": 2, "ending_before": made[0]})
    assert ([row.id for row in page.data], page.has_more) == ([made[2], made[1]], True)
