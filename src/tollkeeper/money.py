"""Wires what collects the money: the payment provider's account, when there is a key for one, and the services over it.

Part of the bootstrap, apart from it since a gate inside an application has none of it. Nothing is asked of the provider here.
"""

from __future__ import annotations

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.inbox import Effect
from tollkeeper.core.provider import Provider
from tollkeeper.core.webhooks import read_secrets
from tollkeeper.integrations.stripe.account import StripeAccount
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.integrations.stripe.doctor import StripeDoctor
from tollkeeper.integrations.stripe.probe import StripeProbe
from tollkeeper.integrations.stripe.shelf import StripeShelf
from tollkeeper.services.doctor import Doctor
from tollkeeper.services.inbox import Inbox
from tollkeeper.services.inbox_effects import InboxEffects
from tollkeeper.services.provider_catalog import ProviderCatalog
from tollkeeper.services.runner import Runner, Step
from tollkeeper.settings import Settings

INBOX_SECONDS = 1.0
INBOX_RETENTION_SECONDS = 3600.0
INBOX_RETENTION_PAUSE = 0.05


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
        self.inbox_effects: InboxEffects | None = None
        self.local = settings.stripe_api_base is not None
        self.steps: list[Step] = []
        self.runners: list[Runner] = []
        self.effects: dict[str, Effect] = {}
        self.inbox = Inbox(toll.database, toll.clock, secrets=read_secrets(settings.stripe_webhook_secret or ""))
        self.steps.append(
            Step("inbox_retention", self.inbox.forget, INBOX_RETENTION_SECONDS, again_after=INBOX_RETENTION_PAUSE)
        )
        if settings.stripe_secret_key is None:
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
        self.runners.append(inbox)
        self.doctor = Doctor(
            StripeDoctor(calls, settings.public_url, settings.stripe_webhook_secret is not None),
            self.provider_catalog,
            toll.clock.random_bits,
            lambda run: StripeProbe(calls, run).findings(),
        )

    def close(self) -> None:
        """Store the webhooks that came in."""
        self.inbox.close()
