"""Buying, changing and ending at the provider, by the API and by the link in a refusal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from selling.shop import PUBLIC_URL, Shop, Storefront
from tollkeeper.core.buy_links import BuyLinks, LinkInvalid
from tollkeeper.core.errors import Conflict, InvalidRequest, TollkeeperError
from tollkeeper.core.provider import ProviderUnavailable


@pytest.fixture
def store(shop: Shop) -> Storefront:
    return Storefront(shop)


async def test_a_checkout_is_paid_and_the_plan_holds(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    async with store.client(admin=True) as client:
        made = (await client.post("/v1/checkout", json={"customer": "acme", "plan": "pro"})).json()
        assert (made["kind"], made["status"], made["plan"]) == ("subscription", "open", "pro")
        asked = shop.account.requests[session_of(made)]
        assert [(line.price, line.quantity) for line in asked.lines] == [
            ("price_pro_fee", 1),
            ("price_pro_calls", None),
        ]
        assert asked.trial_days is None
        shop.account.pay(session_of(made))
        shop.deliver_all()
        assert (await client.get(f"/v1/checkout/{made['id']}")).json()["status"] == "completed"
        found = (await client.get("/v1/customers/acme/subscription")).json()
    assert (found["subscription"]["plan"], found["subscription"]["status"]) == ("pro", "active")
    assert found["bought"]["status"] == "active"
    assert shop.subscriptions.activated == 1


def session_of(made: dict[str, Any]) -> str:
    return str(made["url"]).rpartition("/")[2]


async def test_a_trial_is_given_once_a_customer(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    first = store.checkouts.buy("acme", "max")
    assert shop.account.requests[str(first.session)].trial_days == 14
    sub = str(shop.account.pay(str(first.session)))
    shop.deliver_all()
    shop.account.end(sub)
    shop.deliver_all()
    again = store.checkouts.buy("acme", "max")
    assert shop.account.requests[str(again.session)].trial_days is None


def test_a_second_subscription_beside_a_running_one_is_refused(shop: Shop, store: Storefront) -> None:
    cus = shop.customer()
    shop.account.begin(cus, ["price_pro_fee", "price_pro_calls"])
    shop.deliver_all()
    with pytest.raises(Conflict, match="Change its plan instead"):
        store.checkouts.buy("acme", "max")


def test_of_two_checkouts_of_a_customer_only_the_last_can_be_paid(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    first, second = store.checkouts.buy("acme", "pro"), store.checkouts.buy("acme", "max")
    assert shop.account.checkouts[str(first.session)].status == "expired"
    assert store.checkouts.purchase(first.id).status == "expired"
    shop.account.pay(str(second.session))
    shop.deliver_all()
    assert shop.contract() == ("max", "trialing")
    assert len(shop.account.contracts) == 1


def test_a_checkout_that_was_paid_a_moment_ago_is_no_second_subscription(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    shop.account.pay(str(store.checkouts.buy("acme", "pro").session))
    with pytest.raises(Conflict, match="Change its plan instead"):  # no event has told of the payment yet
        store.checkouts.buy("acme", "max")
    assert shop.contract() == ("pro", "active")
    assert shop.subscriptions.activated == 1
    shop.deliver_all()
    assert shop.subscriptions.activated == 1


def test_a_single_payment_is_not_taken_twice(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    first = store.checkouts.buy("acme", "forever")
    second = store.checkouts.buy("acme", "forever")
    assert shop.account.checkouts[str(first.session)].status == "expired"
    shop.account.pay(str(second.session))
    with pytest.raises(Conflict, match="paid a moment ago"):
        store.checkouts.buy("acme", "forever")


def test_checkouts_begun_at_once_leave_one_that_can_be_paid(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.checkouts.buy("acme", "pro"), range(8)))
    assert [one.status for one in shop.account.checkouts.values()].count("open") == 1


def test_one_customer_at_the_provider_whatever_is_bought(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    bought = [store.checkouts.buy("acme", "pro") for _ in range(2)]
    customers = {shop.account.requests[str(one.session)].customer for one in bought}
    assert len(customers) == 1


def test_a_plan_that_is_not_at_the_provider_yet_says_what_to_do(shop: Shop, store: Storefront) -> None:
    from selling.shop import CATALOG

    shop.customer()
    shop.toll.catalog.apply(CATALOG.replace('flat_amount = "29"', 'flat_amount = "31"'))
    with pytest.raises(Conflict, match="stripe apply"):
        store.checkouts.buy("acme", "pro")


@pytest.mark.parametrize("plan", ["free", "nothing"])
def test_a_plan_without_a_price_is_nothing_to_buy(shop: Shop, store: Storefront, plan: str) -> None:
    shop.customer()
    with pytest.raises(InvalidRequest):
        store.checkouts.buy("acme", plan)


def test_a_single_payment_gives_the_plan_for_good_until_it_is_refunded_in_full(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    bought = store.checkouts.buy("acme", "forever")
    assert shop.account.requests[str(bought.session)].mode == "payment"
    shop.account.pay(str(bought.session))
    shop.deliver_all()
    assert shop.contract() == ("forever", "active")
    (charge,) = shop.account.charges
    shop.account.refund(charge)
    events = list(shop.account.happened)
    shop.deliver_all()
    assert shop.contract() == ("free", "active")
    shop.deliver_all(events)
    assert shop.contract() == ("free", "active")
    with shop.toll.database.read() as rows:
        (invoice,) = rows.invoices.of("live", "acme")
    assert str(invoice.refunded) == "99"


def test_a_dearer_plan_holds_at_once_and_a_cheaper_one_from_the_periods_end(shop: Shop, store: Storefront) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, ["price_pro_fee", "price_pro_calls"])
    shop.deliver_all()
    shop.move(days=3)
    after = store.checkouts.change("acme", "max")
    assert after.subscription is not None
    assert after.subscription.plan == "max"
    assert shop.account.calls[-1] == ("change", sub, ("price_max_fee", "price_max_calls"), "now")
    store.checkouts.change("acme", "pro")
    assert shop.account.calls[-1][3] == "period_end"
    store.checkouts.change("acme", "max")  # it is on it: nothing is asked for
    assert len(shop.account.calls) == 2


async def test_cancel_pause_and_resume_by_the_api(shop: Shop, store: Storefront) -> None:
    cus = shop.customer()
    shop.account.begin(cus, ["price_pro_fee", "price_pro_calls"])
    shop.deliver_all()
    async with store.client(admin=True) as client:
        path = "/v1/customers/acme/subscription"
        paused = (await client.post(f"{path}/pause")).json()
        assert paused["subscription"]["status"] == "paused"
        assert (await client.post(f"{path}/resume")).json()["subscription"]["status"] == "active"
        later = (await client.post(f"{path}/cancel", json={})).json()
        assert later["bought"]["cancel_at"] == later["bought"]["period_end"]
        ended = (await client.post(f"{path}/cancel", json={"when": "now"})).json()
        assert ended["subscription"]["plan"] == "free"
        assert (ended["bought"]["id"], ended["bought"]["status"]) == (later["bought"]["id"], "canceled")
        assert ended["bought"]["ended_at"] is not None
        listed = (await client.get("/v1/invoices", params={"customer": "acme"})).json()["data"]
        assert [one["status"] for one in listed] == [
            "paid",
            "paid",
        ]  # of the first month, and of the usage up to the end
        assert (await client.get(f"/v1/invoices/{listed[0]['id']}")).json() == listed[0]
        assert (await client.post(f"{path}/cancel", json={})).status_code == 409


async def test_a_refusal_leads_to_the_plans_and_they_to_a_checkout(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme & Sons", plan="free")
    key = shop.toll.keys.create(customer="acme", environment="live").key
    answers = [shop.toll.gate.check(key, "api_calls").problem(PUBLIC_URL) for _ in range(6)]
    assert answers[:5] == [None] * 5
    assert answers[5] is not None
    url = answers[5]["checkout_url"]
    async with store.client() as client:
        page = await client.get(url)
        assert page.status_code == 200
        assert "Acme &amp; Sons" in page.text
        assert "$29" in page.text
        assert "Try 14 days free" in page.text
        chosen = await client.post(url, data={"plan": "pro"})
        assert chosen.status_code == 303
        session = chosen.headers["location"].rpartition("/")[2]
        waiting = await client.get(f"{url}/done")
        assert "One moment" in waiting.text
        shop.account.pay(session)
        shop.deliver_all()
        done = await client.get(f"{url}/done")
        assert "pro is active" in done.text
        sure = await client.post(url, data={"plan": "max"})
        assert "Change to max?" in sure.text
        assert shop.contract() == ("pro", "active")  # asked once more first
        changed = await client.post(url, data={"plan": "max", "sure": "yes"})
        assert changed.status_code == 303
        assert shop.contract() == ("max", "active")
        smaller = await client.post(url, data={"plan": "pro", "sure": "yes"})
        assert smaller.headers["location"] == url.removeprefix(PUBLIC_URL)
    assert shop.contract() == ("max", "active")
    assert shop.toll.gate.check(key, "api_calls").code == "VALID"


async def test_the_page_of_who_owes_an_invoice_leads_to_it(shop: Shop, store: Storefront) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, ["price_pro_fee", "price_pro_calls"])
    shop.deliver_all()
    shop.move(days=31)
    invoice = shop.account.renew(sub, paid=False)
    shop.deliver_all()
    async with store.client() as client:
        page = await client.get(f"/buy/{store.links.token('live', 'acme', shop.now // 1_000_000)}")
    assert f"https://invoice.example/{invoice}" in page.text


async def test_a_link_of_another_environment_day_or_hand_opens_nothing(shop: Shop, store: Storefront) -> None:
    shop.customer()
    now = shop.now // 1_000_000
    good = store.links.token("live", "acme", now)
    forged = BuyLinks(b"another secret", lambda: now).token("live", "acme", now)
    last = "A" if good[-1] != "A" else "B"
    bad = [forged, store.links.token("test", "acme", now), store.links.token("live", "acme", now - 3 * 86_400)]
    async with store.client() as client:
        for token in (*bad, good[:-1] + last, good[:10], "é", "x" * 500):
            assert (await client.get(f"/buy/{token}")).status_code == 404
            assert (await client.post(f"/buy/{token}", data={"plan": "pro"})).status_code == 404
    assert shop.account.checkouts == {}


def test_a_link_holds_for_its_day_and_the_next() -> None:
    now = 20_000 * 86_400
    links = BuyLinks(b"s", lambda: now)
    token = links.token("live", "acme", now)
    for later in (0, 86_399, 2 * 86_400 - 1):
        assert BuyLinks(b"s", lambda later=later: now + later).read(token) == ("live", "acme")  # type: ignore[misc]
    with pytest.raises(LinkInvalid):
        BuyLinks(b"s", lambda: now + 2 * 86_400).read(token)


async def test_a_single_payment_is_thanked_for(shop: Shop, store: Storefront) -> None:
    shop.toll.customers.create(id="acme", name="Acme", plan="free")
    bought = store.checkouts.buy("acme", "forever")
    page = f"/buy/{store.links.token(shop.environment, 'acme', shop.now // 1_000_000)}/done"
    async with store.client() as client:
        assert "One moment" in (await client.get(page)).text
        shop.account.pay(str(bought.session))
        shop.deliver_all()
        assert "forever is active" in (await client.get(page)).text


async def test_a_provider_that_does_not_answer_is_told_and_nothing_is_lost(
    shop: Shop, store: Storefront, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.customer()

    def away(*_: object) -> None:
        raise ProviderUnavailable

    monkeypatch.setattr(shop.account, "checkout", away)
    url = f"/buy/{store.links.token('live', 'acme', shop.now // 1_000_000)}"
    async with store.client() as client:
        page = await client.post(url, data={"plan": "pro"})
    assert page.status_code == 503
    assert "Nothing was charged" in page.text
    with pytest.raises(TollkeeperError):
        store.checkouts.buy("acme", "pro")
    assert [status for _, status in shop.state()["purchases"]] == ["open", "open"]


async def test_only_the_admin_token_may_sell(store: Storefront) -> None:
    async with store.client() as client:
        for method, path in (("POST", "/v1/checkout"), ("POST", "/v1/portal"), ("GET", "/v1/invoices")):
            assert (await client.request(method, path, json={})).status_code == 401


def test_a_plan_that_was_bought_is_not_moved_behind_the_providers_back(shop: Shop) -> None:
    cus = shop.customer()
    shop.account.begin(cus, ["price_pro_fee", "price_pro_calls"])
    shop.deliver_all()
    with pytest.raises(Conflict, match="subscriptions change"):
        shop.toll.customers.move("acme", "max")
    assert shop.contract() == ("pro", "active")
    shop.toll.customers.move("acme", "max", environment="test")
    plans = {s.environment: s.plan for s in shop.toll.customers.get("acme").subscriptions}
    assert plans == {"live": "pro", "test": "max"}


async def test_an_invoice_of_the_provider_is_not_settled_here_and_the_portal_is_the_customers(
    shop: Shop, store: Storefront
) -> None:
    cus = shop.customer()
    shop.account.begin(cus, ["price_pro_fee", "price_pro_calls"])
    shop.deliver_all()
    async with store.client(admin=True) as client:
        (invoice,) = (await client.get("/v1/invoices")).json()["data"]
        assert (await client.post(f"/v1/invoices/{invoice['id']}/pay")).status_code == 409
        assert (await client.post(f"/v1/invoices/{invoice['id']}/void")).status_code == 409
        assert (await client.get("/v1/invoices", params={"environment": "test"})).json()["data"] == []
        path = f"/v1/invoices/{invoice['id']}"
        assert (await client.get(path, params={"environment": "live"})).json() == invoice
        assert (await client.get(path, params={"environment": "test"})).status_code == 404
        made = await client.post("/v1/portal", json={"customer": "acme"})
        assert made.json() == {"url": f"https://billing.example/{cus}"}
        preview = (await client.get("/v1/customers/acme/invoice-preview")).json()
        assert (preview["status"], preview["provider"]) == ("draft", "stripe")


def test_a_page_of_invoices_goes_on_where_the_one_before_ended(shop: Shop, store: Storefront) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, ["price_pro_fee"])
    for _ in range(4):
        shop.move(days=31)
        shop.account.renew(sub)
    shop.deliver_all()
    whole = [one.id for one in store.invoicing.page("live").items]
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = store.invoicing.page("live", cursor=cursor, limit=2)
        found += [one.id for one in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert len(found) == 5
    assert found == whole
