"""docs/how-to/billing-usage.md, followed, with a server and a sandbox on real sockets."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from proxy.commands import free_port, run, running
from sandbox.conftest import Running
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.billing import BillingPeriod, UsageReport
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.invoices import Invoice
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


def voided(folder: Path, sandbox: Running, customer: str) -> None:
    """A month before, of three calls that were invoiced, and the invoice voided."""
    now = time.time_ns() // 1_000_000_000 * 1_000_000
    start, end, used = now - 31 * DAY, now - DAY, now - 2 * DAY
    with Tollkeeper(str(folder / "toll.db")) as app:
        for number in range(3):
            event = UsageEvent(
                str(number), "api.call", "t", customer="acme", time=datetime.fromtimestamp(used / 1e6, UTC)
            )
            assert app.ingest.ingest_wait("test", [event])[0].status == "accepted"
        with app.database.write() as rows:
            [first] = rows.periods.of("test", "acme")
            rows.periods.put(
                replace(first, start=start, end=first.start, state="invoiced", invoice="in_9", finalized_at=end)
            )
            rows.reports.put(UsageReport("test", "acme", "api_calls", start, Decimal(3), billed=Decimal(3)), now)
            void = Invoice(
                "test",
                "in_9",
                "stripe",
                "acme",
                "sub_1",
                None,
                "void",
                "usd",
                Decimal("1.50"),
                Decimal(0),
                start,
                end,
                end,
                end,
            )
            rows.invoices.put(void)
    meter = sandbox.client.v1.billing.meters.list().data[0]
    sandbox.client.v1.billing.meter_events.create(
        {
            "event_name": meter.event_name,
            "payload": {"stripe_customer_id": customer, "value": "3"},
            "timestamp": used // 1_000_000,
        }
    )


def configured(folder: Path, sandbox: Running) -> None:
    port = str(free_port())
    env = {
        "PORT": port,
        "TOLLKEEPER_URL": f"http://127.0.0.1:{port}",
        "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests",
        "TOLLKEEPER_DATABASE_URL": f"sqlite:///{folder / 'toll.db'}",
        "STRIPE_SECRET_KEY": KEY,
        "STRIPE_API_BASE": sandbox.url,
    }
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    sandbox = Running()
    customer = prepared(tmp_path, sandbox)
    configured(tmp_path, sandbox)
    list_, show, drift, repair, _ = COMMANDS

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


def test_what_stood_on_a_voided_invoice_is_shown_and_billed_by_the_command_of_the_how_to(tmp_path: Path) -> None:
    sandbox = Running()
    voided(tmp_path, sandbox, prepared(tmp_path, sandbox))
    configured(tmp_path, sandbox)
    *_, drift, repair, again = COMMANDS

    def do(words: list[str]) -> str:
        done = run(tmp_path, *words)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    with running(tmp_path, "serve") as server:
        server.until("listens on")
        for _ in range(60):
            if "voided" in (told := do(drift)):
                break
        assert "acme api_calls: 3 voided with invoice in_9 (calls, 1.50 usd)" in told
        assert "voided" in do(repair)
        assert "1.50 usd" in do(again)
        assert do(drift) == "Stripe has what the ledger has.\n"
        assert server.stop() == 0
    sandbox.stop()
