"""Wires what collects the money: the payment provider's account, when there is a key for one, and the services over it.

Part of the bootstrap, apart from it since a gate inside an application has none of it. Nothing is asked of the provider here.
"""

from __future__ import annotations

from collections.abc import Callable

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.buy_links import BuyLinks
from tollkeeper.core.customers import Environment
from tollkeeper.core.inbox import Effect
from tollkeeper.core.outbox import CREDIT_NOTE, INVOICE_LINE, LAST_INVOICE, METER_EVENT
from tollkeeper.core.provider import Provider
from tollkeeper.core.webhooks import read_secrets
from tollkeeper.integrations.stripe.account import StripeAccount
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.integrations.stripe.doctor import StripeDoctor
from tollkeeper.integrations.stripe.probe import StripeProbe
from tollkeeper.integrations.stripe.shelf import StripeShelf
from tollkeeper.services.adjustments import Adjustments
from tollkeeper.services.checkout import Checkouts
from tollkeeper.services.delivery import Delivery
from tollkeeper.services.dispatch import Dispatcher, Topic
from tollkeeper.services.doctor import Doctor
from tollkeeper.services.drift import Drift
from tollkeeper.services.inbox import Inbox
from tollkeeper.services.inbox_effects import InboxEffects
from tollkeeper.services.invoicing import Invoicing
from tollkeeper.services.meter_errors import meter_error_effects
from tollkeeper.services.outbox import Outbox
from tollkeeper.services.provider_catalog import ProviderCatalog
from tollkeeper.services.provider_import import ProviderImport
from tollkeeper.services.reconcile_events import EventPoll
from tollkeeper.services.reports import Reports
from tollkeeper.services.runner import Runner, Step
from tollkeeper.services.subscription_effects import subscription_effects
from tollkeeper.services.subscriptions import Subscriptions
from tollkeeper.services.topics import LAG_US, CreditNotes, InvoiceLines, LastInvoices, MeterEvents
from tollkeeper.settings import Settings

GRACE_SECONDS = 5.0
ENDS_SECONDS = 300.0
OWN_INVOICES_SECONDS = 300.0
OWN_INVOICES_PAUSE = 0.2
INBOX_SECONDS = 1.0
POLL_SECONDS = {"live": 60.0, "test": 2.0}
METER_ERRORS_SECONDS = 60.0
INBOX_RETENTION_SECONDS = 3600.0
INBOX_RETENTION_PAUSE = 0.05
OUTBOX_RETENTION_SECONDS = 6 * 3600.0
REPORT_SECONDS = 60.0
LOCAL_REPORT_SECONDS = 2.0
OUTBOX_SECONDS = 1.0
DRIFT_SECONDS = 3600.0
DRIFT_PAUSE = 1.0
RATES = {"live": 1000.0, "test": 25.0}
"""Meter events a second that Stripe takes."""


class Money:
    """The money of one installation. `provider` is None without STRIPE_SECRET_KEY: then everything but collecting works.

    `effects`: what events of the provider do, by type. `steps` are for the one runner of background work; `runners` have a thread each,
    since their steps wait for the provider's answers.

    `local`: the provider is a stand-in on this machine, which takes calls as fast as they come.
    """

    def __init__(self, toll: Tollkeeper, settings: Settings) -> None:
        self.provider: Provider | None = None
        self.provider_catalog: ProviderCatalog | None = None
        self.doctor: Doctor | None = None
        self.provider_import: ProviderImport | None = None
        self.inbox_effects: InboxEffects | None = None
        self.event_poll: EventPoll | None = None
        self.meter_error_poll: EventPoll | None = None
        self.subscriptions: Subscriptions | None = None
        self.checkouts: Checkouts | None = None
        self.links: BuyLinks | None = None
        self.invoicing = Invoicing(toll.database, toll.usage, toll.clock)
        self.local = settings.stripe_api_base is not None
        self.steps: list[Step] = []
        self.runners: list[Runner] = []
        self.effects: dict[str, Effect] = {}
        self.dispatcher: Dispatcher | None = None
        self.drift: Drift | None = None
        self.outbox = Outbox(toll.database, toll.clock)
        self.reports = Reports(
            toll.database, toll.usage, toll.usage_file.reader, toll.usage_file.cuts, toll.clock, None
        )
        self.inbox = Inbox(toll.database, toll.clock, secrets=read_secrets(settings.stripe_webhook_secret or ""))
        self.steps.append(
            Step("inbox_retention", self.inbox.forget, INBOX_RETENTION_SECONDS, again_after=INBOX_RETENTION_PAUSE)
        )
        forget = Step(
            "outbox_retention", self.outbox.forget, OUTBOX_RETENTION_SECONDS, again_after=INBOX_RETENTION_PAUSE
        )
        self.steps.append(forget)
        own = Step(  # the first run writes down from when on invoices are issued
            "own_invoices", self.invoicing.run_once, OWN_INVOICES_SECONDS, again_after=OWN_INVOICES_PAUSE, at_start=True
        )
        if settings.stripe_secret_key is None:
            self.steps.append(own)
            return
        calls = Calls(settings.stripe_secret_key, settings.stripe_api_base, settings.stripe_meter_events_base)
        installation = toll.database.pair_id
        now_us = toll.clock.now_us
        shelf = StripeShelf(calls, installation)
        self.provider_catalog = ProviderCatalog(toll.database, shelf, installation, now_us)

        def portal_configuration() -> str | None:
            with toll.database.read() as rows:
                found = rows.provider_objects.get("stripe", calls.environment, "portal", "default")
            return None if found is None else found.id

        self.provider = StripeAccount(calls, portal_configuration)
        self.inbox.account = self.provider.environment
        self.inbox_effects = InboxEffects(toll.database, toll.clock, self.provider, self.effects)
        inbox = Runner([Step("inbox", self.inbox_effects.run_once, INBOX_SECONDS)], toll.clock)
        self.inbox.on_stored = inbox.wake
        self.event_poll = EventPoll(toll.database, toll.clock, self.provider, self.inbox)
        every = POLL_SECONDS[self.provider.environment]
        told = ("meter_errors", self.provider.meter_events_told)
        self.meter_error_poll = EventPoll(toll.database, toll.clock, self.provider, self.inbox, told)
        meter_errors = Step("meter_error_poll", self.meter_error_poll.run_once, METER_ERRORS_SECONDS)
        polls = Runner([Step("event_poll", self.event_poll.run_once, every), meter_errors], toll.clock)
        self.runners += [inbox, polls]
        self._send_usage(toll, self.provider)
        self.subscriptions = Subscriptions(toll.database, toll.clock, toll.changed, self.reports, self.provider.name)
        self.effects |= subscription_effects(self.subscriptions, toll.clock)
        self.effects |= meter_error_effects()
        self.provider_import = ProviderImport(
            toll.database, self.provider, toll.customers, self.subscriptions, toll.clock, toll.changed
        )
        self.steps.append(Step("grace", self.subscriptions.lapse, GRACE_SECONDS))
        self.steps.append(Step("contract_ends", self.subscriptions.close_ends, ENDS_SECONDS))
        if self.provider.environment != "live":
            self.steps.append(own)  # live is billed by no provider
        self._sell(toll, self.provider, self.subscriptions, settings.public_url)
        self.doctor = Doctor(
            StripeDoctor(calls, settings.public_url, settings.stripe_webhook_secret is not None),
            self.provider_catalog,
            toll.clock.random_bits,
            lambda run: StripeProbe(calls, run).findings(),
        )

    def _sell(self, toll: Tollkeeper, provider: Provider, subscriptions: Subscriptions, public_url: str) -> None:
        """Checkouts, and the link to them in every refusal that another plan would mend."""
        assert self.dispatcher is not None
        delivery = Delivery(toll.database, self.reports, self.dispatcher, toll.clock)
        self.checkouts = Checkouts(
            toll.database,
            provider,
            subscriptions,
            toll.clock,
            public_url,
            delivery.before_cut,
            self.reports.rated_so_far,
        )
        self.links = links = BuyLinks(toll.database.signing_secret, lambda: toll.clock.now_ns() // 1_000_000_000)

        def buy(environment: Environment, customer: str) -> Callable[[int], str] | None:
            return (
                None if environment != provider.environment else lambda now_s: links.token(environment, customer, now_s)
            )

        toll.gate.buy = buy

    def _send_usage(self, toll: Tollkeeper, provider: Provider) -> None:
        """Reports and the outbox."""
        clock = toll.clock
        account = (provider.name, provider.environment)
        self.reports = Reports(toll.database, toll.usage, toll.usage_file.reader, toll.usage_file.cuts, clock, account)
        topics: dict[str, Topic] = {
            METER_EVENT: MeterEvents(
                toll.database, provider, toll.database.pair_id, lag_us=0 if self.local else LAG_US
            ),
            INVOICE_LINE: InvoiceLines(toll.database, provider, Adjustments(clock)),
            CREDIT_NOTE: CreditNotes(provider, Adjustments(clock)),
            LAST_INVOICE: LastInvoices(toll.database, provider),
        }
        rate = None if self.local else RATES[provider.environment]
        self.dispatcher = Dispatcher(toll.database, topics, provider.environment, clock, rate=rate, sole=True)
        self.steps.append(
            Step("reports", self.reports.run_once, LOCAL_REPORT_SECONDS if self.local else REPORT_SECONDS)
        )
        self.runners.append(Runner([Step("outbox", self.dispatcher.run_once, OUTBOX_SECONDS)], clock))
        lag = 0 if self.local else LAG_US
        self.drift = Drift(toll.database, toll.usage, provider, clock, lag_us=lag)
        drift = Step("drift", self.drift.run_once, DRIFT_SECONDS, again_after=DRIFT_PAUSE)
        self.runners.append(Runner([drift], clock))

    def close(self) -> None:
        """Store the webhooks that came in; send nothing more."""
        if self.dispatcher is not None:
            self.dispatcher.close()
        self.inbox.close()
