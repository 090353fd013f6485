"""The gate inside your own program: it owns the files, so it is for a program of one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.customers import Environment
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.gate import Decision
from tollkeeper.services.ingest import Result
from tollkeeper.services.usage import UsageAnswer


class Gate:
    """Checks keys, counts uses, looks them up. Safe to use from any number of threads."""

    def __init__(self, toll: Tollkeeper) -> None:
        self.toll = toll

    @classmethod
    def open(cls, url: str = "tollkeeper.db", *, catalog: str | Path | None = None) -> Gate:
        """Open or make the files, and put the catalog in force when its path is given.

        Raises AlreadyOpen when another process (a server, another worker) owns them: then ask its server, with `tollkeeper.Client`.
        """
        toll = Tollkeeper(url)
        try:
            if catalog is not None:
                toll.catalog.apply_file(Path(catalog))
        except BaseException:
            toll.close()
            raise
        return cls(toll)

    def check(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> Decision:
        """Identify, limit, count; the answer comes after the usage event is committed. A refusal is a value: look at `code`.

        `id` makes a retry safe. `wait=False` answers before the commit (refused where a quota is hard). Raises NotFound for an unknown
        meter, InvalidRequest, Conflict for an id used for another check, StorageUnavailable when nothing was counted.
        """
        return self.toll.gate.check(key, meter, cost, scope=scope, ip=ip, id=id, wait=wait)

    def record(
        self, events: Sequence[UsageEvent | Mapping[str, Any]], environment: Environment = "live"
    ) -> list[Result]:
        """Log usage that did not pass the gate, with an answer for each event. Raises StorageUnavailable when none of it counts."""
        made = [event if isinstance(event, UsageEvent) else UsageEvent(**event) for event in events]
        return self.toll.ingest.ingest_wait(environment, made)

    def usage(self, meter: str, **query: Any) -> UsageAnswer:
        """`services.usage.Usage.query`: by customer, key, window, zone."""
        return self.toll.usage.query(meter, **query)

    def close(self) -> None:
        """Commit what is queued and give the files back."""
        self.toll.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
