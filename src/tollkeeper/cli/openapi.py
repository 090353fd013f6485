"""`tollkeeper openapi`: the description of the HTTP API."""

from __future__ import annotations

from tollkeeper.cli.options import examples
from tollkeeper.cli.terminal import show_json

EXAMPLES = examples("tollkeeper openapi > openapi.json")


def openapi() -> None:
    """Print the OpenAPI document of the HTTP API.

    It is made from the code; no server needs to run.
    """
    from tollkeeper import bootstrap

    show_json(bootstrap.openapi())
