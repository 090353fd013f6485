"""What sends us events is made with its secrets, found again, and looked at."""

from __future__ import annotations

from tollkeeper import play
from tollkeeper.integrations.stripe.account import METER_EVENTS

from .conftest import PUBLIC_URL, Shop


def findings(shop: Shop) -> dict[str, str]:
    return {one.name: one.verdict for one in shop.doctor.findings()}


def test_endpoint_and_destination_are_made_once_and_each_has_its_secret(shop: Shop) -> None:
    assert findings(shop) == {"key": "ok", "webhook endpoint": "failed", "usage errors": "warning"}
    id, secrets = shop.doctor.webhook("k1")
    assert id.startswith("we_")
    assert [secret[:6] for secret in secrets] == ["whsec_", "whsec_"]
    assert len(set(secrets)) == 2
    assert findings(shop) == {"key": "ok", "webhook endpoint": "ok", "usage errors": "ok"}
    assert shop.doctor.webhook("k2") == (id, [])


def test_a_destination_that_was_switched_off_is_told_and_mended(shop: Shop) -> None:
    shop.doctor.webhook("k1")
    destinations = shop.sandbox.client.v2.core.event_destinations
    (made,) = destinations.list().data
    assert sorted(made.enabled_events) == sorted(METER_EVENTS)
    destinations.disable(made.id)
    assert findings(shop)["usage errors"] == "warning"
    assert shop.doctor.webhook("k2")[1] == []
    assert findings(shop)["usage errors"] == "ok"


def test_a_sandbox_beside_the_server_sends_both_kinds_and_knows_its_secrets_again(shop: Shop) -> None:
    world = shop.sandbox.world
    secrets = play._secrets(world, f"{PUBLIC_URL}/webhooks/stripe")
    assert len(secrets.split(",")) == 2
    assert play._secrets(world, f"{PUBLIC_URL}/webhooks/stripe") == secrets
    assert findings(shop) == {"key": "ok", "webhook endpoint": "ok", "usage errors": "ok"}
