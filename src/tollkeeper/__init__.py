"""Tollkeeper: a price, a gate and an exact meter for what you have already built.

    from tollkeeper import Gate

    with Gate.open("tollkeeper.db") as gate:
        decision = gate.check(key, "api_calls")

Importing starts nothing and loads no other package; what a name needs is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tollkeeper.client import Tollkeeper as Client
    from tollkeeper.core.gate import Decision
    from tollkeeper.embedded import Gate

__version__ = "0.1.0"
__all__ = ["Client", "Decision", "Gate", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Gate":
        from tollkeeper.embedded import Gate

        return Gate
    if name == "Decision":
        from tollkeeper.core.gate import Decision

        return Decision
    if name == "Client":
        from tollkeeper.client import Tollkeeper as Client

        return Client
    raise AttributeError(f"module 'tollkeeper' has no attribute {name!r}")
