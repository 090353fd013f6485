"""Looks at a Stripe account: is the key accepted, what may it read, is there a webhook endpoint that sends what we need.

Reads only. What a restricted key may write shows when it is first used: its refusal then names the permission.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from tollkeeper.core.customers import Environment
from tollkeeper.core.doctor import Finding, Verdict
from tollkeeper.core.errors import NotFound, TollkeeperError
from tollkeeper.core.provider import ProviderUnauthorized
from tollkeeper.integrations.stripe.account import METER_EVENTS
from tollkeeper.integrations.stripe.client import API_VERSION, Calls

logger = logging.getLogger("tollkeeper.stripe")

WEBHOOK_PATH: Final = "/webhooks/stripe"
EVENTS: Final = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "invoice.created",
    "invoice.finalized",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.voided",
    "invoice.marked_uncollectible",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.closed",
    "credit_note.created",
)
"""What the endpoint has to be sent. Errors of meters come as thin events, by an event destination, which has a secret of its own."""
_WITH_URL: Final = ["webhook_endpoint.url"]

_ONE: Final[Any] = {"limit": 1}
_READS: Final[tuple[tuple[str, str, Callable[[Any], Any]], ...]] = (
    ("customers", "Customers: Write", lambda c: c.v1.customers.list(_ONE)),
    ("products", "Products: Write", lambda c: c.v1.products.list(_ONE)),
    ("prices", "Prices: Write", lambda c: c.v1.prices.list(_ONE)),
    ("meters", "Billing meters and meter events: Write", lambda c: c.v1.billing.meters.list(_ONE)),
    ("checkout", "Checkout Sessions: Write", lambda c: c.v1.checkout.sessions.list(_ONE)),
    ("subscriptions", "Subscriptions: Write", lambda c: c.v1.subscriptions.list(_ONE)),
    ("invoices", "Invoices: Write", lambda c: c.v1.invoices.list(_ONE)),
    ("credit notes", "Credit notes: Write", lambda c: c.v1.credit_notes.list(_ONE)),
    ("portal", "Customer portal: Write", lambda c: c.v1.billing_portal.configurations.list(_ONE)),
    ("events", "Events: Read", lambda c: c.v1.events.list(_ONE)),
)


class StripeDoctor:
    """`services.doctor.AccountDoctor`."""

    def __init__(self, calls: Calls, public_url: str, has_webhook_secret: bool) -> None:
        self.environment: Environment = calls.environment
        self._calls = calls
        self._url = public_url.rstrip("/") + WEBHOOK_PATH
        self._has_secret = has_webhook_secret

    def findings(self) -> Iterator[Finding]:
        missing: list[str] = []
        absent: list[str] = []
        for name, permission, read in _READS:
            try:
                self._calls.get(read)
            except ProviderUnauthorized as refused:
                if not missing and name == "customers" and "api key" in refused.detail.lower():
                    yield Finding("key", "failed", refused.detail, "Put a key of the account into STRIPE_SECRET_KEY.")
                    return
                missing.append(permission)
            except NotFound:
                absent.append(name)
            except TollkeeperError as fault:
                yield Finding("key", "failed", fault.detail, "Is Stripe (STRIPE_API_BASE) reachable from this machine?")
                return
        where = f" at {self._calls.api_base}" if self._calls.api_base else ""
        if missing:
            yield Finding(
                "key",
                "failed",
                f"The key lacks: {'; '.join(missing)}.",
                "Edit the restricted key in Stripe's dashboard.",
            )
        elif absent:
            verdict: Verdict = "warning" if len(absent) < len(_READS) else "failed"
            yield Finding(
                "key", verdict, f"Accepted{where}, which is not all of Stripe: it has no {', '.join(absent)}."
            )
        else:
            yield Finding("key", "ok", f"The {self.environment} key is accepted{where} and may read what is needed.")
        yield self._endpoint()
        yield self._destination()

    def _endpoint(self) -> Finding:
        name = "webhook endpoint"
        polled = "Until then events are polled each minute."
        try:
            endpoints = list(self._calls.pages(lambda c, p: c.v1.webhook_endpoints.list(p), {}))
        except TollkeeperError:
            return Finding(
                name, "warning", "The key may not read webhook endpoints, so they were not checked.",
                'Give it "Webhook Endpoints: Read".',
            )  # fmt: skip
        ours = [one for one in endpoints if one["url"].rstrip("/") == self._url]
        if not ours:
            local = urlsplit(self._url).hostname in ("localhost", "127.0.0.1", "::1")
            if local:
                return Finding(
                    name, "warning", f"None sends to {self._url}: Stripe cannot reach it. Events are polled."
                )
            return Finding(name, "failed", f"None sends to {self._url}. {polled}", "tollkeeper stripe webhook")
        one = ours[0]
        if one["status"] != "enabled":
            return Finding(name, "failed", f"{one['id']} is disabled. {polled}", "Enable it in Stripe's dashboard.")
        if one.get("api_version") != API_VERSION:
            return Finding(
                name, "failed", f"{one['id']} sends API version {one.get('api_version') or 'of the account'}, not {API_VERSION}.",
                "Delete it, then: tollkeeper stripe webhook",
            )  # fmt: skip
        sent = set(one["enabled_events"])
        if "*" not in sent and (lacking := [event for event in EVENTS if event not in sent]):
            return Finding(
                name, "failed", f"{one['id']} does not send {', '.join(lacking)}.", "tollkeeper stripe webhook"
            )
        if not self._has_secret:
            return Finding(
                name, "failed", f"{one['id']} sends, and is refused: no secret is set.", "Set STRIPE_WEBHOOK_SECRET."
            )
        return Finding(name, "ok", f"{one['id']} sends all {len(EVENTS)} kinds of event, in API version {API_VERSION}.")

    def _destination(self) -> Finding:
        """Whether rejected usage is told at once; without that it is polled, so it is no failure."""
        name = "usage errors"
        polled = "Usage that Stripe throws away later is asked for each minute."
        try:
            found = self._own_destination()
        except TollkeeperError:
            return Finding(name, "warning", f"The key may not read event destinations. {polled}")
        if found is None:
            local = urlsplit(self._url).hostname in ("localhost", "127.0.0.1", "::1")
            mend = "" if local else "tollkeeper stripe webhook"
            return Finding(name, "warning", f"No event destination sends them to {self._url}. {polled}", mend)
        sent = found["enabled_events"]
        lacking = [event for event in METER_EVENTS if "*" not in sent and event not in sent]
        if found["status"] != "enabled" or lacking:
            said = "is disabled" if found["status"] != "enabled" else f"does not send {', '.join(lacking)}"
            return Finding(name, "warning", f"{found['id']} {said}. {polled}", "tollkeeper stripe webhook")
        return Finding(name, "ok", f"{found['id']} tells of usage that Stripe throws away later.")

    def _own_destination(self) -> dict[str, Any] | None:
        for one in self._calls.thin_pages(lambda c, p: c.v2.core.event_destinations.list(p), {"include": _WITH_URL}):
            url = (one.get("webhook_endpoint") or {}).get("url") or ""
            if url.rstrip("/") == self._url and one["event_payload"] == "thin":
                return one
        return None

    def webhook(self, key: str) -> tuple[str, Sequence[str]]:
        """Make endpoint and event destination, or bring their events up to date: the endpoint's id, and the secrets of what was made
        just now."""
        id, secret = self._webhook(key)
        try:
            other = self._make_destination(key)
        except TollkeeperError as fault:  # the secret of the endpoint is told only now
            logger.warning("no event destination: %s", fault.detail)
            other = None
        return id, [one for one in (secret, other) if one is not None]

    def _make_destination(self, key: str) -> str | None:
        """The secret, when it was made just now."""
        found = self._own_destination()
        if found is not None:
            destination, wanted = str(found["id"]), {"enabled_events": list(METER_EVENTS)}
            update: Any = wanted
            self._calls.post(lambda c, o: c.v2.core.event_destinations.update(destination, update, o), f"{key}-thin")
            if found["status"] != "enabled":
                self._calls.post(lambda c, o: c.v2.core.event_destinations.enable(destination, None, o), f"{key}-on")
            return None
        params: Any = {
            "name": "Tollkeeper",
            "description": "Usage that was thrown away",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": list(METER_EVENTS),
            "webhook_endpoint": {"url": self._url},
            "include": ["webhook_endpoint.signing_secret"],
        }
        made = self._calls.post(lambda c, o: c.v2.core.event_destinations.create(params, o), f"{key}-thin")
        return str(made["webhook_endpoint"]["signing_secret"])

    def _webhook(self, key: str) -> tuple[str, str | None]:
        wanted: Any = {"enabled_events": list(EVENTS)}
        for one in self._calls.pages(lambda c, p: c.v1.webhook_endpoints.list(p), {}):
            if one["url"].rstrip("/") == self._url and one.get("api_version") == API_VERSION:
                id = str(one["id"])
                break
        else:
            return self._make_endpoint(wanted, key)
        self._calls.post(lambda c, o: c.v1.webhook_endpoints.update(id, wanted, o), key)
        return id, None

    def _make_endpoint(self, wanted: dict[str, Any], key: str) -> tuple[str, str]:
        params: Any = {"url": self._url, "api_version": API_VERSION, "description": "Tollkeeper", **wanted}
        made = self._calls.post(lambda c, o: c.v1.webhook_endpoints.create(params, o), f"{key}-make")
        return str(made["id"]), str(made["secret"])
