"""docs/how-to/billing-usage.md, followed, with a server and a sandbox on real sockets."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from proxy.commands import free_port, run, running
from sandbox.conftest import Running
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.billing import BillingPeriod
from tollkeeper.core.ports_money import ProviderObject
from tollkeeper.core.provider_catalog import Thing
from tollkeeper.integrations.stripe.account import StripeAccount
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.integrations.stripe.shelf import StripeShelf

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "billing-usage.md").read_text()
COMMANDS = [
    line.split()[1:] for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
CATALOG = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[plans.pro]
prices = [{key = "calls", meter = "api_calls", model = "per_unit", unit_amount = "0.5"}]
"""
KEY = "sk_test_tests1234"
DAY = 86_400_000_000


def prepared(folder: Path, sandbox: Running) -> str:
    """A subscribed customer, without the checkout. The name under which its usage is reported."""
    now = time.time_ns() // 1_000_000_000 * 1_000_000
    calls = Calls(KEY, sandbox.url)
    with Tollkeeper(str(folder / "toll.db")) as app:
        app.catalog.apply(CATALOG)
        customer = app.customers.create(name="Ada", plan="pro", id="acme").customer
        shelf = StripeShelf(calls, app.database.pair_id)
        meter = shelf.make(Thing("meter", "api_calls", {"name": "api_calls"}), lambda kind, key: "", "k")
        made = StripeAccount(calls, lambda: None).make_customer(customer, "k2")
        with app.database.write() as rows:
            for kind, key, id in (("meter", "api_calls", meter), ("customer", "acme", made)):
                rows.provider_objects.put(ProviderObject("stripe", "test", kind, key, id, "", now))
            rows.periods.put(BillingPeriod("test", "acme", now - DAY, now + 29 * DAY, "stripe", "sub_1", "pro", 1))
        return made


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    sandbox = Running()
    customer = prepared(tmp_path, sandbox)
    port = str(free_port())
    env = {
        "PORT": port,
        "TOLLKEEPER_URL": f"http://127.0.0.1:{port}",
        "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests",
        "TOLLKEEPER_DATABASE_URL": f"sqlite:///{tmp_path / 'toll.db'}",
        "STRIPE_SECRET_KEY": KEY,
        "STRIPE_API_BASE": sandbox.url,
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    list_, show, drift, repair = COMMANDS

    def do(words: list[str], message: str = "", code: int = 0) -> str:
        done = run(tmp_path, *(message if word == "$MESSAGE" else word for word in words))
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout

    with running(tmp_path, "serve") as server:
        server.until("listens on")
        sandbox.control("/faults", {"kind": "drop_after", "path": "*meter_events*", "count": 1})
        do(["events", "send", "--type", "api.call", "--customer", "acme", "--environment", "test"])
        for _ in range(60):
            do(drift)
            found = json.loads(do([*list_, "--json"]))["data"]
            if found and found[0]["status"] == "confirmed":
                break
        assert do(drift) == "Stripe has what the ledger has.\n"
        [listed] = json.loads(do([*list_, "--json"]))["data"]
        assert (listed["status"], listed["quantity"]) == ("confirmed", "1")
        assert listed["id"] in do(list_)
        shown = do(show, listed["id"])
        assert listed["identifier"] in shown
        assert '"upto_seq": 1' in shown
        meter = sandbox.client.v1.billing.meters.list().data[0]
        sandbox.client.v1.billing.meter_events.create(
            {"event_name": meter.event_name, "payload": {"stripe_customer_id": customer, "value": "4"}}
        )
        told = do(drift, code=1)
        assert "unexplained" in told
        assert "the provider has 5, and 1 was delivered" in told
        assert "-2.00 usd" in do(repair)
        assert do(drift) == "Stripe has what the ledger has.\n"
        assert server.stop() == 0
    sandbox.stop()
