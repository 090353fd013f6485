"""A local stand-in for Stripe's API 2026-10-28.endive, spoken to by the official client. The map stands in `app.py`."""

from tollkeeper.sandbox.app import Sandbox, create_app
from tollkeeper.sandbox.store import Store
from tollkeeper.sandbox.world import API_VERSION, World

__all__ = ["API_VERSION", "Sandbox", "Store", "World", "create_app"]
