"""Opens the main database: identity, migrations, pragmas, one writer."""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.engine import URL

from tollkeeper.core.errors import StorageMismatch, StorageUnavailable
from tollkeeper.storage.sql.checkpoints import BACKSTOP_PAGES
from tollkeeper.storage.sql.failures import translated_errors
from tollkeeper.storage.sql.files import database_files
from tollkeeper.storage.sql.migrations import REVISIONS
from tollkeeper.storage.sql.money_tables import metadata
from tollkeeper.storage.sql.tables import meta
from tollkeeper.storage.sql.unit_of_work import SqlDatabase

MINIMUM_SQLITE = (3, 37)  # STRICT tables
APPLICATION_ID = 0x546F6C6C  # "Toll", in the file's header
BUSY_SECONDS = 5
ALEMBIC_VERSION = (
    "CREATE TABLE alembic_version"
    " (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


def open_database(url: str, *, read_only: bool = False) -> SqlDatabase:
    """The main database of a `sqlite:///` URL or a bare path; made or migrated when needed, unless `read_only`.

    Hold the `OwnerLock` of the same URL before opening it to write. Raises StorageMismatch for a file that is not
    Tollkeeper's or is newer than this version, StorageUnavailable when the disk refuses.
    """
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        raise StorageMismatch(
            f"Python's SQLite is {sqlite3.sqlite_version}; Tollkeeper needs 3.37 or newer. Use a newer Python or system SQLite."
        )
    path = database_files(url).main
    if not read_only:
        _create_if_missing(path)
    elif not os.path.exists(path):
        raise StorageMismatch(
            f"There is no database at {path}. Start Tollkeeper once to make it, or name another file."
        )
    revision = _revision(path, read_only)
    if revision != REVISIONS[-1] and read_only:
        raise StorageMismatch(
            f"{path} needs a migration (it is at {revision}). Start this version of Tollkeeper on it once."
        )
    engine = sqlite_engine(path, read_only)
    try:
        with translated_errors():
            if revision is None:
                _make(engine)
            elif revision != REVISIONS[-1]:
                migrate(engine)
            with engine.connect() as connection:
                values = {row.name: row.value for row in connection.execute(select(meta))}
        try:
            return SqlDatabase(engine, values["pair_id"], bytes.fromhex(values["signing_secret"]))
        except (KeyError, ValueError):
            raise StorageMismatch(f"{path} has lost its pair id or signing secret. Restore a backup.") from None
    except BaseException:
        engine.dispose()
        raise


def migrate(engine: Engine, revision: str = "head") -> None:
    """Upgrade to `revision` in one transaction. Alembic is loaded here, so that an ordinary start does not pay for it."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _make(engine: Engine) -> None:
    """All tables in a file that has none, as the migrations would leave it, at a tenth of the time; in one transaction."""
    with engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        metadata.create_all(connection, checkfirst=False)
        values = {"pair_id": secrets.token_hex(16), "signing_secret": secrets.token_hex(32)}
        connection.execute(insert(meta), [{"name": name, "value": value} for name, value in values.items()])
        connection.exec_driver_sql(ALEMBIC_VERSION)
        connection.exec_driver_sql("INSERT INTO alembic_version (version_num) VALUES (?)", (REVISIONS[-1],))


def _create_if_missing(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StorageUnavailable(f"Cannot create {path}: {error.strerror}.") from error


def _revision(path: Path, read_only: bool) -> str | None:
    """The stored Alembic revision, None for an empty file. Changes nothing in a file that is not ours."""
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application == 0 and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            revision = None
        elif application == APPLICATION_ID:
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        else:
            raise StorageMismatch(f"{path} is a database of another program. Name another file.")
        if revision is not None and revision not in REVISIONS:
            raise StorageMismatch(
                f"{path} was written by a newer Tollkeeper (revision {revision}, this one knows {REVISIONS[-1]}). "
                "Install that version again, or restore a backup made with this one."
            )
        if not read_only and connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StorageUnavailable(f"The file system of {path} cannot keep a write-ahead log. Use a local disk.")
        return revision
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"Cannot open {path}: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise StorageMismatch(
            f"{path} is not a database, or it is damaged ({error}). Restore a backup, or name another file."
        ) from error
    finally:
        if connection is not None:
            connection.close()


def sqlite_engine(path: Path, read_only: bool = False) -> Engine:
    """Connections that are durable, check references, and leave every BEGIN to the option `begin`."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        hide_parameters=True,  # an error message must not carry a digest or an e-mail address
        pool_size=16,
        pool_use_lifo=True,  # the one used last knows its statements, and has the pages at hand that it wrote
        max_overflow=-1,  # more threads than that are served too, by connections closed afterwards
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(
            "PRAGMA temp_store = MEMORY"
        )  # or each statement of many rows makes a file of its own to undo it by
        connection.execute(f"PRAGMA wal_autocheckpoint = {BACKSTOP_PAGES}")
        if read_only:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get("begin", "BEGIN")
        if statement:
            connection.exec_driver_sql(statement)

    return engine
