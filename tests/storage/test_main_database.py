"""Opening X.db: whose file it is, its migrations, its pragmas, its one writer."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from desk import Desk
from tollkeeper.core.customers import Customer
from tollkeeper.core.errors import Conflict, StorageMismatch, StorageUnavailable
from tollkeeper.storage.sql import checkpoints, migrations
from tollkeeper.storage.sql import engine as engine_module
from tollkeeper.storage.sql.checkpoints import EVERY
from tollkeeper.storage.sql.engine import migrate, open_database, sqlite_engine
from tollkeeper.storage.sql.grants import BY_CUSTOMER, BY_DIGEST
from tollkeeper.storage.sql.migrations import REVISIONS
from tollkeeper.storage.sql.money_tables import metadata

# Rows as each revision would have written them. A new revision adds its own; old ones are never edited.
FILLED = {
    "0001": [
        "INSERT INTO customers VALUES ('acme', 'Acme', 'ada@example.com', 'usd', 'UTC', 1760000000000000)",
        "INSERT INTO members VALUES ('mem_1', 'acme', 'ada@example.com', 'Ada', 1760000000000000)",
        "INSERT INTO api_keys VALUES ('key_2', 'customer', 'acme', 'live', 'ci', x'0102', 'tk_live_abcd', 'wxyz',"
        " '[\"read\"]', '[\"10.0.0.0/8\"]', 1760000000000000, NULL, NULL, 1760000000000009, NULL)",
        "INSERT INTO api_keys VALUES ('key_1', 'customer', 'acme', 'live', 'ci', x'0101', 'tk_live_abcd', 'wxyz',"
        " '[]', '[]', 1760000000000000, 1760000000000001, NULL, NULL, 'key_2')",
        "INSERT INTO catalog_versions VALUES (1, 'currency = \"usd\"', '{}', 'f1', 1760000000000000)",
        "INSERT INTO plan_versions VALUES ('free', 1, '{}', 0)",
        "INSERT INTO subscriptions VALUES ('live', 'sub_1', 'acme', 'free', 1, 1760000000000000, 'UTC', 'active',"
        " 1760000000000000, NULL)",
        "INSERT INTO limit_overrides VALUES ('live', 'acme', 'limit', 'burst', '{}')",
    ],
}
FILLED["0002"] = [
    *FILLED["0001"],
    "INSERT INTO shadow_refusals VALUES (20000, 'live', 'acme', 'key_1', 'calls', 'RATE_LIMITED', 3, 1760000000000000,"
    " 1760000000000009)",
]
FILLED["0003"] = [
    *(s.replace("NULL)", "NULL, NULL, NULL)") if "INTO subscriptions" in s else s for s in FILLED["0002"]),
    "UPDATE subscriptions SET grace_until = 1760000000000007, carried_from = 1760000000000003",
    "INSERT INTO provider_objects VALUES ('stripe', 'live', 'customer', 'acme', 'cus_1', 'f1', 1760000000000000)",
    "INSERT INTO provider_subscriptions VALUES ('stripe', 'live', 'sub_9', 'acme', 'sub_1', 'active', 'free', 1,"
    " 1760000000000000, 1760000000000000, 1762000000000000, NULL, NULL, NULL, 1760000000000000, '{}')",
    "INSERT INTO billing_periods VALUES ('live', 'acme', 1760000000000000, 1762000000000000, 'stripe', 'sub_9', 'free', 1,"
    " 'open', NULL, NULL, 1, 0)",
    "INSERT INTO usage_reports VALUES ('live', 'acme', 'calls', 1760000000000000, '12.5', '0', NULL, 1, 7, 1760000000000000)",
    "INSERT INTO watermarks VALUES ('reports', 7, 1760000000000000)",
    "INSERT INTO outbox_messages VALUES ('out_1', 'live', 'meter_event', 'acme/calls', 'i1', '{}', 5, 1760000000000000,"
    " 1760000000000000, 'pending', 1, 0, NULL, 0, NULL, NULL, NULL, NULL, 'acme', 'calls', 1760000000000000, '12.5')",
    "INSERT INTO inbox_events VALUES ('stripe', 'evt_1', 'live', 'invoice.paid', 'in_1', 1760000000000000, 1760000000000000, x'7b7d',"
    " 'pending', 0, 1760000000000000, NULL, NULL)",
    "INSERT INTO object_leases VALUES ('stripe', 'live', 'in_1', 1760000000000000, 1)",
    "INSERT INTO invoices VALUES ('live', 'in_1', 'stripe', 'acme', 'sub_9', 'A-1', 'paid', 'usd', '2.00', '2.00', NULL, NULL,"
    " 1760000000000000, NULL, NULL, '{}')",
    "INSERT INTO purchases VALUES ('live', 'pur_1', 'stripe', 'cs_1', 'acme', 'subscription', 'free', 1, 'open', 1760000000000000,"
    " NULL, '{}')",
    "INSERT INTO adjustments VALUES ('live', 'adj_1', 'acme', 'calls', 1760000000000000, 'calls', '-1', '-0.01', 'usd', 'void', 'pending',"
    " NULL, NULL, 1760000000000000)",
    "INSERT INTO drift_checks VALUES ('live', 'acme', 'calls', 1760000000000000, '12.5', '12.5', '12.5', NULL, '0', 'equal', '',"
    " 1762000000000000, 1760000000000000)",
]


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found = {name: sorted(map(dict, connection.execute(f"SELECT * FROM {name}")), key=repr) for name in names}
    connection.close()
    return found


def schema(engine: Engine) -> dict[str, Any]:
    """Everything SQLite knows about every table, whatever the text that made it."""
    found: dict[str, Any] = {}
    with engine.connect() as connection:

        def ask(statement: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

        for name, strict in ask("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"):
            if name == "alembic_version" or name.startswith("sqlite_"):
                continue
            indexes = ask(f"SELECT name, \"unique\", origin, partial FROM pragma_index_list('{name}')")
            text = ask(f"SELECT sql FROM sqlite_master WHERE name = '{name}'")[0][0]
            found[name] = {
                "strict": strict,
                "columns": ask(f"SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_xinfo('{name}')"),
                "references": sorted(ask(f'SELECT "table", "from", "to" FROM pragma_foreign_key_list(\'{name}\')')),
                "checks": sorted(line.strip().rstrip(",") for line in text.splitlines() if "CHECK" in line),
                "indexes": {
                    index: (
                        rest,
                        ask(f"SELECT name FROM pragma_index_info('{index}')"),
                        [
                            text and text.partition(" WHERE ")[2]
                            for (text,) in ask(f"SELECT sql FROM sqlite_master WHERE name = '{index}'")
                        ],
                    )
                    for index, *rest in indexes
                },
            }
    return found


def test_a_new_file_is_exactly_what_the_migrations_make(tmp_path: Path) -> None:
    migrated = sqlite_engine(tmp_path / "migrated.db")
    migrate(migrated)
    fresh = open_database(str(tmp_path / "fresh.db"))
    expected, actual = schema(migrated), schema(fresh.engine)
    assert set(expected) == set(metadata.tables)
    assert all(table["strict"] for table in actual.values())
    assert actual == expected
    found = []
    for engine in (migrated, fresh.engine):
        with engine.begin() as connection:
            told = [
                connection.exec_driver_sql(statement).all()
                for statement in (
                    "PRAGMA application_id",
                    "SELECT * FROM alembic_version",
                    "SELECT name, length(value) FROM meta ORDER BY name",
                    "SELECT name, type, \"notnull\", pk FROM pragma_table_info('alembic_version')",
                    "SELECT type, name, tbl_name FROM sqlite_master ORDER BY name",
                )
            ]
        assert told[:2] == [[(engine_module.APPLICATION_ID,)], [(REVISIONS[-1],)]]
        found.append(told)
    assert found[0] == found[1]
    fresh.close()
    migrated.dispose()


def test_the_listed_revisions_are_the_ones_on_disk() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_heads() == [REVISIONS[-1]]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_filled_database_of_every_revision_keeps_its_rows(tmp_path: Path, revision: str) -> None:
    path = tmp_path / "x.db"
    engine = sqlite_engine(path)
    migrate(engine, revision)
    with engine.begin() as connection:
        for statement in FILLED[revision]:
            connection.exec_driver_sql(statement)
    engine.dispose()
    before = rows(path)
    open_database(str(path)).close()
    after = rows(path)
    assert after.pop("alembic_version") == [{"version_num": REVISIONS[-1]}]
    before.pop("alembic_version")
    assert all(before.values())
    for table, kept in before.items():
        for old, new in zip(kept, after[table], strict=True):
            assert old.items() <= new.items()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    engine = sqlite_engine(path)

    @event.listens_for(engine, "before_cursor_execute")
    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "CREATE TABLE limit_overrides" in statement:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        migrate(engine)
    engine.dispose()
    assert rows(path) == {}
    open_database(str(path)).close()
    assert rows(path)["alembic_version"] == [{"version_num": REVISIONS[-1]}]


def test_opening_again_loads_no_alembic_and_keeps_the_pair_id_and_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    first = open_database(f"sqlite:///{path}")
    pair, secret = first.pair_id, first.signing_secret
    first.close()
    script = (
        "import sys; from tollkeeper.storage.sql.engine import open_database\n"
        "database = open_database(sys.argv[1]); print(database.pair_id, database.signing_secret.hex())\n"
        "database.close(); print([name for name in sys.modules if name.startswith('alembic')])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert answer == f"{pair} {secret.hex()}\n[]\n"
    assert len(secret) == 32
    other = open_database(str(tmp_path / "other.db"))
    assert other.pair_id != pair
    assert other.signing_secret != secret
    other.close()


def test_the_file_is_private_and_every_connection_is_durable_and_checked(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "x.db"))
    assert (tmp_path / "x.db").stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        with database.engine.connect() as connection:
            values = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "temp_store")
            }
        expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000, "temp_store": 2}
        assert values == expected
        database.engine.dispose()
    database.close()


@pytest.mark.parametrize("content", [b"hello, this is a note\n" * 100, b"\0" * 8192])
def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(StorageMismatch, match=r"Restore a backup, or name another file"):
        open_database(str(path))
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.execute("CREATE TABLE alembic_version (version_num)")
    connection.execute(f"INSERT INTO alembic_version VALUES ('{REVISIONS[-1]}')")
    connection.commit()
    connection.close()
    content = path.read_bytes()
    with pytest.raises(StorageMismatch, match="another program"):
        open_database(str(path))
    assert path.read_bytes() == content


def test_a_newer_database_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_database(str(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StorageMismatch, match=r"newer Tollkeeper \(revision 9999.*restore a backup"):
        open_database(str(path))


@pytest.mark.parametrize("fault", ["DELETE FROM meta", "UPDATE meta SET value = 'not hex'"])
def test_a_database_without_its_pair_id_or_secret_is_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "x.db"
    open_database(str(path)).close()
    connection = sqlite3.connect(path)
    connection.execute(fault)
    connection.commit()
    connection.close()
    with pytest.raises(StorageMismatch, match="Restore a backup"):
        open_database(str(path))


def test_a_folder_that_is_missing_and_a_path_that_is_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"missing/x\.db"):
        open_database(str(tmp_path / "missing" / "x.db"))
    with pytest.raises(StorageUnavailable, match="unable to open"):
        open_database(str(tmp_path))


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module.sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StorageMismatch, match=r"needs 3\.37"):
        open_database(str(tmp_path / "x.db"))
    assert list(tmp_path.iterdir()) == []


def test_reading_only_makes_no_file_migrates_nothing_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with pytest.raises(StorageMismatch, match="There is no database"):
        open_database(str(path), read_only=True)
    path.touch()
    with pytest.raises(StorageMismatch, match="needs a migration"):
        open_database(str(path), read_only=True)
    assert path.read_bytes() == b""
    desk = Desk(tmp_path)
    reader = open_database(str(path), read_only=True)
    desk.customers.create("acme", "Acme", plan="free")
    with reader.read() as view:
        customer = view.customers.get("acme")
    assert customer is not None
    with pytest.raises(StorageUnavailable, match="readonly"), reader.write() as view:
        view.keys.revoke("key_1", 1)
    reader.close()
    desk.database.close()


def test_a_full_disk_is_told_and_changes_nothing(desk: Desk) -> None:
    desk.database.engine.dispose()

    @event.listens_for(desk.database.engine, "connect")
    def full(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")

    made: list[str] = []

    def fill() -> None:
        while True:
            desk.customers.create(f"c{len(made):03}", "n" * 200, plan="free")
            made.append(f"c{len(made):03}")

    with pytest.raises(StorageUnavailable, match="full"):
        fill()
    assert made
    assert [record.customer.id for record in desk.customers.list(limit=1000).items] == made
    assert desk.changes == made


def test_a_lock_held_by_another_program_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    other = sqlite3.connect(desk.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with desk.database.engine.connect() as connection:  # the pool's one connection
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    with pytest.raises(StorageUnavailable, match="locked"):
        desk.customers.create("acme", "Acme")
    other.execute("ROLLBACK")
    other.close()
    assert desk.customers.create("acme", "Acme").customer.id == "acme"


def test_a_write_block_has_the_file_before_it_reads(desk: Desk) -> None:
    other = sqlite3.connect(desk.path, isolation_level=None, timeout=0)
    with desk.database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_writer_waits_for_the_one_before_it_however_long_that_takes(desk: Desk) -> None:
    desk.database.engine.dispose()

    @event.listens_for(desk.database.engine, "connect")
    def impatient(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 0")

    made: list[str] = []
    waiting = threading.Event()

    def create() -> None:
        waiting.set()
        made.append(desk.customers.create("acme", "Acme").customer.id)

    writer = threading.Thread(target=create)
    with desk.database.write():
        writer.start()
        waiting.wait()
        writer.join(timeout=0.1)
        assert made == []
    writer.join()
    assert made == ["acme"]


def test_a_block_that_raises_leaves_nothing_and_the_writer_free(desk: Desk) -> None:
    desk.customers.create("acme", "Acme")

    def stop() -> None:
        with desk.database.write() as view:
            view.customers.add(Customer("b", "B", None, "usd", "UTC", 1))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop()
    assert [record.customer.id for record in desk.customers.list().items] == ["acme"]
    desk.customers.create("b", "B")


def test_a_row_that_is_there_already_is_a_conflict(desk: Desk) -> None:
    customer = desk.customers.create("acme", "Acme", plan="free").customer
    with pytest.raises(Conflict), desk.database.write() as view:
        view.customers.add(customer)
    live = desk.customers.get("acme").subscriptions[0]
    with pytest.raises(Conflict), desk.database.write() as view:  # a second un-ended subscription
        view.subscriptions.add(replace(live, id="sub_2"))


def test_a_use_after_closing_is_refused(desk: Desk) -> None:
    desk.database.close()
    desk.database.close()
    for call in (
        desk.customers.list,
        lambda: desk.customers.create("acme", "Acme"),
        lambda: desk.database.grants.by_customer("live", "acme"),
    ):
        with pytest.raises(StorageUnavailable, match="is closed"):
            call()


def test_the_tables_and_the_gates_read_are_sql_for_postgresql_too() -> None:
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=dialect))
        assert "STRICT" not in text
        assert "BIGINT NOT NULL" in text or table.name in ("meta", "plan_versions", "limit_overrides")
    for query in (BY_DIGEST, BY_CUSTOMER):
        assert str(query.compile(dialect=dialect)).startswith("SELECT")


def test_a_reader_sees_one_state_while_a_writer_commits(desk: Desk) -> None:
    with desk.database.read() as view:
        assert view.customers.list(None, 10) == []
        writer = threading.Thread(target=desk.customers.create, args=("acme", "Acme"))
        writer.start()
        writer.join()
        assert view.customers.list(None, 10) == []
    assert len(desk.customers.list().items) == 1


def test_the_log_of_the_file_is_copied_by_a_thread_of_its_own(tmp_path: Path) -> None:
    """So that a commit never waits for it; the copy is there before the file is closed."""
    database = open_database(str(tmp_path / "x.db"))
    before = (tmp_path / "x.db").stat().st_size
    for number in range(EVERY):
        assert database.checkpoints.copied == 0
        with database.write() as repositories:
            repositories.watermarks.set(f"{number}" * 3000, number, number)
    with database.checkpoints.changed:
        assert database.checkpoints.changed.wait_for(lambda: database.checkpoints.copied == 1, 20)
    assert (tmp_path / "x.db").stat().st_size > before
    with database.read() as repositories:
        last = EVERY - 1
        assert repositories.watermarks.get(f"{last}" * 3000) == last
    database.close()


def test_the_log_of_the_file_is_copied_sooner_when_commits_write_many_rows(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "x.db"))
    with database.write() as repositories:
        for number in range(checkpoints.ROWS - 1):
            repositories.watermarks.set(f"{number}", number, number)
    assert database.checkpoints._thread is None
    with database.write() as repositories:
        repositories.watermarks.set("last", 1, 1)
    with database.checkpoints.changed:
        assert database.checkpoints.changed.wait_for(lambda: database.checkpoints.copied == 1, 20)
    database.close()


def test_the_log_of_the_file_begins_anew_although_somebody_always_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(str(tmp_path / "x.db"))
    copy = checkpoints._copy
    between: list[int] = []

    def write(number: int) -> None:
        with database.write() as repositories:
            repositories.watermarks.set(f"{number}" * 3000, number, number)

    def copied(connection: sqlite3.Connection) -> int:
        if len(between) == 2:
            return copy(connection)
        reader = sqlite3.connect(
            tmp_path / "x.db", isolation_level=None
        )  # what is written after it began is not copied
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM watermarks").fetchall()
        between.append(EVERY + 1 + len(between))
        write(between[-1])
        pages = copy(connection)
        reader.close()
        return pages

    monkeypatch.setattr(checkpoints, "_copy", copied)
    monkeypatch.setattr(checkpoints, "ANEW_PAGES", 8)
    for number in range(EVERY):
        write(number)
    with database.checkpoints.changed:
        assert database.checkpoints.changed.wait_for(lambda: database.checkpoints.copied == 1, 20)
    assert len(between) == 2
    log = (tmp_path / "x.db-wal").stat().st_size
    for number in range(EVERY // 2):
        write(100 + number)
    assert (tmp_path / "x.db-wal").stat().st_size == log
    with database.read() as repositories:
        for number in (EVERY - 1, EVERY + 1, EVERY + 2, 100 + EVERY // 2 - 1):
            assert repositories.watermarks.get(f"{number}" * 3000) == number
    database.close()
