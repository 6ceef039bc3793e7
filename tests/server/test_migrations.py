"""Migrations make the tables that the models describe, from nothing and from each other."""

import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from reftune.server.database import upgrading
from reftune.server.database.connection import Database
from reftune.server.database.models import Table
from reftune.server.database.store import Store


def migrate(database: Database, how, revision: str) -> None:
    with database.connected() as connection:
        settings = upgrading.configuration()
        settings.attributes["connection"] = connection
        how(settings, revision)


def differences(database: Database) -> list:
    with database.connected() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return compare_metadata(context, Table.metadata)


def test_migrations_make_what_the_models_describe(database_url) -> None:
    database = Database(database_url)
    assert differences(database)
    upgrading.upgrade(database)
    assert differences(database) == []
    names = set(inspect(database.engine).get_table_names())
    assert names == {*Table.metadata.tables, "alembic_version"}
    database.close()


def test_a_second_start_keeps_what_is_there(database_url) -> None:
    first = Store(database_url)
    key, secret = first.create_key("ada", frozenset(["chat"]))
    first.close()
    second = Store(database_url)
    assert second.find_key(secret) == key
    second.close()


def test_down_and_up_again(database_url) -> None:
    database = Database(database_url)
    upgrading.upgrade(database)
    migrate(database, command.downgrade, "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    upgrading.upgrade(database)
    assert differences(database) == []
    database.close()


def test_a_migration_that_fails_leaves_nothing(database_url, monkeypatch, tmp_path) -> None:
    broken = tmp_path / "migrations"
    (broken / "versions").mkdir(parents=True)
    (broken / "env.py").write_text((upgrading.MIGRATIONS / "env.py").read_text())
    first = (upgrading.MIGRATIONS / "versions" / "first_tables.py").read_text()
    assert first.count("    _adapters()\n") == 1
    (broken / "versions" / "first_tables.py").write_text(
        first.replace("    _adapters()\n", "    raise RuntimeError('the power fails')\n")
    )
    database = Database(database_url)
    with monkeypatch.context() as patched:
        patched.setattr(upgrading, "MIGRATIONS", broken)
        with pytest.raises(RuntimeError, match="the power fails"):
            upgrading.upgrade(database)
    assert inspect(database.engine).get_table_names() == []
    upgrading.upgrade(database)
    assert differences(database) == []
    database.close()


def test_tables_of_a_newer_version_are_refused(database_url) -> None:
    store = Store(database_url)
    with store._database.connected() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of_the_future'"))
    store.close()
    with pytest.raises(ValueError, match=r"up to first_tables.*of_the_future"):
        Store(database_url)


def test_servers_that_start_at_once_migrate_once(database_url) -> None:
    errors = []

    def start() -> None:
        try:
            Store(database_url).close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_no_settings_file_is_looked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = nowhere\n")
    (tmp_path / "100% full").mkdir()
    Store(f"sqlite:///{tmp_path}/100% full/x.db").close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense with pa:secret", "cannot be read; expected e.g. sqlite"),
        ("postgresql://u:pa:secret@h:port/x", "cannot be read"),
        ("mysql://u@h/x", 'database "mysql": expected sqlite or postgresql'),
        ("sqlite://", "expected a file"),
        ("sqlite:///:memory:", "expected a file"),
    ],
)
def test_urls_that_are_refused(url, says) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        Database(url)
    assert "secret" not in str(refused.value)


def test_a_database_that_cannot_be_opened(tmp_path) -> None:
    (tmp_path / "text.db").write_text("This is no database at all. " * 100)
    for url, says in [
        (f"sqlite:///{tmp_path}/nowhere/x.db", "unable to open database file"),
        (f"sqlite:///{tmp_path}/text.db", "not a database"),
        (f"postgresql://me:secret@/x?host={tmp_path}", "connection"),
    ]:
        with pytest.raises(OSError, match="cannot use the database") as refused:
            Store(url)
        assert says in str(refused.value)
        assert "secret" not in str(refused.value)
    assert Path(tmp_path / "text.db").read_text().startswith("This is no database")
