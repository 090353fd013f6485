"""Wires settings, adapters and services. Imported only by the entry points; what only a server needs is in `server.py`, loaded late."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import StorageMismatch, StorageUnavailable
from tollkeeper.core.keys import ApiKey
from tollkeeper.services.catalog import CatalogService
from tollkeeper.services.clock import Clock
from tollkeeper.services.corrections import Corrections
from tollkeeper.services.customers import CustomerService
from tollkeeper.services.foreign_keys import ForeignKeys
from tollkeeper.services.gate import Gate
from tollkeeper.services.ingest import Ingest
from tollkeeper.services.keys import KeyService
from tollkeeper.services.meters import MeterTable
from tollkeeper.services.rating import Rating
from tollkeeper.services.reservations import Reservations
from tollkeeper.services.retention import Retention
from tollkeeper.services.shadow import Shadow
from tollkeeper.services.usage import Usage
from tollkeeper.storage.sql.engine import open_database
from tollkeeper.storage.sql.files import database_files, require_restored
from tollkeeper.storage.sql.lock import OwnerLock
from tollkeeper.storage.sql.usage.corrected import CorrectionReader
from tollkeeper.storage.sql.usage.file import UsageFile
from tollkeeper.storage.sql.usage.retention import compact

if TYPE_CHECKING:
    from tollkeeper.settings import Settings

_encode = msgspec.json.Encoder(order="deterministic", decimal_format="number").encode


def canonical_json(value: Any) -> str:
    """Keys sorted, no spaces, numbers exact."""
    return _encode(value).decode()


class Tollkeeper:
    """One installation, opened by the one process that owns its files. `close` commits what is queued."""

    def __init__(
        self, url: str, *, clock: Clock | None = None, event_max_age_days: int = 35, retention_days: int = 400
    ) -> None:
        """Raises AlreadyOpen, StorageMismatch, StorageUnavailable."""
        self.clock = clock = clock or Clock()
        self.files = database_files(url)
        self._lock = OwnerLock(self.files.lock)
        try:
            require_restored(self.files)
            self.database = open_database(url)
            self._require_usage_file()
            self.usage_file = UsageFile(self.files.usage, self.database.pair_id, clock.now_us)
        except BaseException:
            self._lock.close()
            raise
        self._listeners: list[Callable[[str | None], None]] = []
        now_us, random_bits = clock.now_us, clock.random_bits
        self.catalog = CatalogService(self.database, now_us, self.changed)
        self.customers = CustomerService(self.database, now_us, random_bits, self.changed)
        with self.database.read() as rows:
            foreign = ForeignKeys(rows.keys.foreign_digests())
        self.keys = KeyService(self.database, now_us, random_bits, self.changed, foreign)
        self.meters = MeterTable(self.usage_file.meters)
        writer, reader = self.usage_file.writer, self.usage_file.reader
        self.gate = Gate(self.database.grants, writer, reader, self.meters, clock, foreign=foreign)
        self.shadow = Shadow(self.database, clock)
        self.gate.on_shadow = self.shadow.note
        self._use_catalog()
        self.ingest = Ingest(
            self.gate,
            writer,
            self.meters,
            canonical_json,
            self._customer_of_key,
            clock,
            max_age_days=event_max_age_days,
        )
        self.reservations = Reservations(
            self.gate, writer, self.meters, self.database.signing_secret, max_age_days=event_max_age_days
        )
        self.usage = Usage(reader, self._calendar, clock, max_age_days=event_max_age_days)
        self.corrections = Corrections(
            self.gate,
            writer,
            CorrectionReader(reader),
            reader,
            canonical_json,
            self._calendar,
            clock,
            retention_days=retention_days,
        )
        self.rating = Rating(self.database.grants, self.usage, clock)
        self.retention = Retention(
            lambda before_us, most: writer.call(lambda log: compact(log, before_us, most)), now_us, retention_days
        )
        self._key_customers: dict[str, str | None] = {}

    def _require_usage_file(self) -> None:
        """A usage log that is gone must not begin again at zero as if nothing had been used."""
        if self.files.usage.exists():
            return
        with self.database.read() as rows:
            in_use = rows.catalog.current() is not None or rows.customers.list(None, 1)
        if in_use:
            raise StorageMismatch(
                f"{self.files.usage} is missing, and {self.files.main} is in use: its usage log is lost or was moved. "
                "Put it back, or restore a backup of the pair."
            )

    def close(self) -> None:
        """Commit what is queued, record when keys were used, give the files back."""
        self.touch_keys()
        self.shadow.flush()
        self.usage_file.close()
        self.database.close()
        self._lock.close()

    def __enter__(self) -> Tollkeeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listen(self, on_change: Callable[[str | None], None]) -> None:
        """Call `on_change(customer)` after each change of keys, plans, subscriptions or catalog; None: everything."""
        self._listeners.append(on_change)

    def require_storage(self) -> None:
        """Raises StorageUnavailable when the last commit of usage failed, or the main database does not answer."""
        if self.usage_file.writer.failed is not None:
            raise StorageUnavailable(f"The usage log did not take the last write: {self.usage_file.writer.failed}.")
        self.catalog.current()

    def touch_keys(self) -> None:
        """Write down when keys were last used, as the gate saw it."""
        used = self.gate.take_used()
        if used:
            self.keys.touch(used)

    def key_by_digest(self, digest: bytes) -> ApiKey | None:
        grant = self.database.grants.by_digest(digest)
        return None if grant is None else grant.key

    def changed(self, customer: str | None) -> None:
        """What a customer (None: anybody) may do has changed: the gate and whoever listens read it again."""
        if customer is None:
            self._use_catalog()
        self.gate.drop(customer)
        for listener in self._listeners:
            listener(customer)

    def _use_catalog(self) -> None:
        current = self.catalog.current()
        if current is not None:
            self.meters.use(list(current.catalog.meters.values()))
            self.gate.shadow_plans = frozenset(current.catalog.shadow)

    def _customer_of_key(self, key_id: str) -> str | None:
        """A key never changes hands, so this is read once."""
        if not key_id.startswith("key_"):
            return None
        found = self._key_customers.get(key_id)
        if found is None:
            with self.database.read() as rows:
                key = rows.keys.get(key_id)
            found = None if key is None else key.customer
            if found is not None:
                if len(self._key_customers) >= 100_000:
                    self._key_customers.clear()
                self._key_customers[key_id] = found
        return found

    def _calendar(self, environment: Environment, customer: str) -> tuple[int, str, str] | None:
        grant = self.database.grants.by_customer(environment, customer)
        return None if grant is None else (*grant.calendar, grant.customer.zone)


def serve(settings: Settings) -> None:
    """Run the server until it is told to stop."""
    from tollkeeper.server import serve

    serve(settings)


def openapi() -> dict[str, Any]:
    """The OpenAPI document, made from the code."""
    from tollkeeper.web.openapi import create_openapi

    return create_openapi()


def demo(environ: Mapping[str, str], folder: Path, address: str) -> None:
    """Run the example API behind the gate until told to stop."""
    from tollkeeper.demo import demo

    demo(environ, folder, address)


def wrap(
    settings: Settings,
    upstream: str,
    *,
    free: str,
    price: str,
    fee: str = "0",
    currency: str,
    address: str,
    free_paths: Sequence[str] = (),
) -> None:
    """Price an API that runs already; until told to stop."""
    from tollkeeper.wrap import wrap

    wrap(settings, upstream, free=free, price=price, fee=fee, currency=currency, address=address, free_paths=free_paths)


def proxy(
    settings: Settings,
    upstream: str,
    address: str,
    *,
    meter: str,
    cost: str,
    count_on: str | None,
    free: Sequence[str],
    prices: Sequence[str],
    key_headers: Sequence[str],
    key_parameters: Sequence[str],
    trusted: int,
    timeout: float,
    keep_host: bool,
    adaptive: int | None,
    reserve: str | None,
    quantity_from: str | None,
) -> None:
    """Run server and proxy until told to stop. Raises InvalidRequest for options that are off."""
    from tollkeeper.front import proxy
    from tollkeeper.web.key_places import read_places
    from tollkeeper.web.proxy_options import ProxyOptions, read_upstream
    from tollkeeper.web.proxy_size import read_sized
    from tollkeeper.web.rules import read_rules

    sized = read_sized(reserve, quantity_from)
    if sized is not None:
        meter, cost = sized.meter, str(sized.amount)
    options = ProxyOptions(
        read_upstream(upstream),
        read_rules(meter, cost, free, prices),
        read_places(key_headers, key_parameters),
        cast("Any", count_on),
        trusted,
        timeout,
        keep_host,
        adaptive,
        sized,
    )
    proxy(settings, options, address)
