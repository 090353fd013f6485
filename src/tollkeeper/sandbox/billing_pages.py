"""All pages and controls of the billing half."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from tollkeeper.sandbox import checkout_pages, control_billing, invoice_pages, portal_pages

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


def billing_routes(world: World) -> list[Route]:
    """Checkout, the test bank, invoices, the portal, /sandbox/dunning and /sandbox/disputes."""
    return [
        route for part in (checkout_pages, invoice_pages, portal_pages, control_billing) for route in part.routes(world)
    ]
