"""Every operation, fed by its own schema with right and wrong requests: no 5xx, and every answer is as the document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from spine import Spine
from tollkeeper.server import Server
from tollkeeper.settings import Settings
from tollkeeper.web.app import create_openapi
from web.site import ADMIN_TOKEN

CUSTOMER = "cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"  # the id of the document's examples


class Later:
    """An application known by the time of the first request; the parameters of the test are made before."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.app(scope, receive, send)


surface = Later()
CONFIG = {
    "generation": {"deterministic": True, "max-examples": 10, "with-security-parameters": False},
    "checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}},
}
schema = schemathesis.openapi.from_dict(
    create_openapi(),
    config=SchemathesisConfig.from_dict(CONFIG),
)
schema.app = surface


@pytest.fixture(scope="module")
def toll(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The whole surface, hot endpoints in front."""
    folder = tmp_path_factory.mktemp("contract")
    spine = Spine(folder)
    spine.customer("pro", id=CUSTOMER, email="ada@example.com")
    spine.key(CUSTOMER)
    environ = {"TOLLKEEPER_ADMIN_TOKEN": ADMIN_TOKEN, "TOLLKEEPER_PUBLIC_URL": "https://toll.example"}
    environ["STRIPE_WEBHOOK_SECRET"] = "whsec_of-the-contract"
    surface.app = Server(spine.app, Settings.load(environ, folder)).app
    yield
    spine.app.close()


@pytest.mark.usefixtures("toll")
@schema.parametrize()
def test_every_operation_keeps_to_the_document(case: schemathesis.Case) -> None:
    excluded = [positive_data_acceptance]  # a schema cannot say which plans, zones or TOML there are
    if case.operation.path == "/v1/events":
        excluded.append(negative_data_rejection)  # told per event, in a 200
    case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, excluded_checks=excluded)
