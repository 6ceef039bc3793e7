"""The connection to the database, and its transactions."""

import json
import logging
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from reftune.server.errors import Unavailable

LOG = logging.getLogger(__name__)
WAIT_SECONDS = 30  # for another writer, and for a free connection


class Database:
    """An engine whose transactions either read, or write one at a time.

    Args:
        url: as SQLAlchemy writes it, ``sqlite:////srv/server.db`` or
            ``postgresql://user@host/name``.

    Raises:
        ValueError: the URL has no meaning, or names another kind of database.
        ImportError: PostgreSQL's driver is not installed; says how to install it.
    """

    def __init__(self, url: str):
        self.engine = _engine(_checked(url))
        self._writer = self.engine.execution_options(writes=True)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that sees one state of the database.

        Raises:
            Unavailable: the database does not answer.
        """
        with _telling(), Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction; it is written as a whole at the end, and not at all on an error.

        Raises:
            Unavailable: the database does not answer, or another writer keeps it.
        """
        with _telling(), Session(self._writer) as session, session.begin():
            yield session

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Open a transaction below the level of rows, for changes of the tables.

        Raises:
            OSError: the database does not do it; gives the reason.
        """
        try:
            with self._writer.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise self._refused(error) from error

    def connect_apart(self) -> Connection:
        """Open a connection that is the caller's own to close, each statement a transaction.

        Raises:
            OSError: the database does not do it; gives the reason.
        """
        try:
            connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except DBAPIError as error:
            raise self._refused(error) from error
        connection.detach()  # the pool would keep it open
        return connection

    def _refused(self, error: DBAPIError) -> OSError:
        url = self.engine.url.render_as_string()  # with the password hidden
        return OSError(f'cannot use the database "{url}": {error.orig}')


def _checked(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # Not repeated: it may hold a password.
        raise ValueError(
            "the database's URL cannot be read; expected e.g. sqlite:////srv/server.db or "
            "postgresql://user:password@host/name"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ValueError(f'database "{url.drivername}": expected sqlite or postgresql')
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError(f'database "{text}": expected a file, such as sqlite:////srv/server.db')
    return url


def _engine(url: URL) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = create_engine(
            url,
            hide_parameters=True,  # errors are logged, and rows are the users' own
            json_serializer=_dump,
            # A restart of the database is then no error of the next request.
            pool_pre_ping=not sqlite,
            pool_timeout=WAIT_SECONDS,
            connect_args={} if sqlite else {"connect_timeout": WAIT_SECONDS},
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise ImportError("PostgreSQL needs psycopg: pip install 'reftune[postgres]'") from None
    event.listen(engine, "connect", _set_up_sqlite if sqlite else _set_up_postgresql)
    if sqlite:
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, below; sqlite3 would send it too late
    for setting in (
        f"busy_timeout = {int(WAIT_SECONDS * 1000)}",  # first: the others may have to wait
        "journal_mode = WAL",
        "synchronous = FULL",  # what was answered outlives a power failure
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {setting}")


def _set_up_postgresql(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = {int(WAIT_SECONDS * 1000)}")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads before it writes could not wait for another writer: what it read
    # would be stale. So those that will write say so at once.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        LOG.error("the database does not answer: %s", error)
        raise Unavailable("the server's database does not answer; try again later") from error


def _dump(value: Any) -> str:
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, of which JSON knows nothing, by null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
