"""One transaction with its repositories, and the writer lock in front of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from tollkeeper.core.errors import StorageUnavailable
from tollkeeper.storage.sql.adjustments import SqlAdjustments
from tollkeeper.storage.sql.catalog import SqlCatalog
from tollkeeper.storage.sql.checkpoints import Checkpoints
from tollkeeper.storage.sql.customers import SqlCustomers, SqlMembers
from tollkeeper.storage.sql.drift import SqlDrift
from tollkeeper.storage.sql.failures import translated_errors
from tollkeeper.storage.sql.grants import SqlGrants
from tollkeeper.storage.sql.inbox import SqlInbox, SqlLeases
from tollkeeper.storage.sql.invoices import SqlInvoices
from tollkeeper.storage.sql.keys import SqlKeys
from tollkeeper.storage.sql.outbox import SqlOutbox
from tollkeeper.storage.sql.periods import SqlPeriods
from tollkeeper.storage.sql.provider_objects import SqlProviderObjects
from tollkeeper.storage.sql.provider_subscriptions import SqlProviderSubscriptions
from tollkeeper.storage.sql.purchases import SqlPurchases
from tollkeeper.storage.sql.reports import SqlReports
from tollkeeper.storage.sql.shadow import SqlShadow
from tollkeeper.storage.sql.subscriptions import SqlOverrides, SqlSubscriptions
from tollkeeper.storage.sql.watermarks import SqlWatermarks


class SqlRepositories:
    """The repositories of one connection, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.customers = SqlCustomers(connection)
        self.members = SqlMembers(connection)
        self.subscriptions = SqlSubscriptions(connection)
        self.overrides = SqlOverrides(connection)
        self.keys = SqlKeys(connection)
        self.catalog = SqlCatalog(connection)
        self.shadow = SqlShadow(connection)
        self.provider_objects = SqlProviderObjects(connection)
        self.inbox = SqlInbox(connection)
        self.leases = SqlLeases(connection)
        self.watermarks = SqlWatermarks(connection)
        self.outbox = SqlOutbox(connection)
        self.periods = SqlPeriods(connection)
        self.reports = SqlReports(connection)
        self.adjustments = SqlAdjustments(connection)
        self.drift = SqlDrift(connection)
        self.provider_subscriptions = SqlProviderSubscriptions(connection)
        self.invoices = SqlInvoices(connection)
        self.purchases = SqlPurchases(connection)


class SqlDatabase:
    """`core.ports.Database`. `pair_id` is also in X-usage.db; `signing_secret` (32 bytes) signs reservations and links.

    On SQLite one thread writes at a time and waits here, in order, rather than inside SQLite, which would poll.
    """

    def __init__(self, engine: Engine, pair_id: str, signing_secret: bytes) -> None:
        self.engine = engine
        self.pair_id = pair_id
        self.signing_secret = signing_secret
        self.grants = SqlGrants(engine)
        self._writing = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._writer = threading.Lock()
        self.checkpoints = Checkpoints(Path(str(engine.url.database)), self._writer)

    @contextmanager
    def read(self) -> Iterator[SqlRepositories]:
        """One consistent view: what was committed when the block's first statement ran."""
        with translated_errors(), self.engine.connect() as connection:
            yield SqlRepositories(connection)

    @contextmanager
    def write(self) -> Iterator[SqlRepositories]:
        """Commits at the end of the block, rolls back when it raises. Not to be nested."""
        with self._writer:
            with translated_errors(), self._writing.begin() as connection:
                driver: Any = connection.connection.driver_connection
                before = driver.total_changes
                yield SqlRepositories(connection)
                rows = driver.total_changes - before
            self.checkpoints.committed(rows)

    def close(self) -> None:
        """Give up every connection. A use after this is refused: the files may have another owner by then."""
        self.checkpoints.close()
        event.listen(self.engine, "do_connect", _refuse)
        self.engine.dispose()


def _refuse(*_: Any) -> None:
    raise StorageUnavailable("The main database is closed.")
