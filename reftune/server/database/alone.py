"""Keeps a second server out of a PostgreSQL database.

What a server remembers of it would be outdated by another one's changes, and it would take the
other one's jobs for dead ones. A database of SQLite has the lock of the state's folder.
"""

from sqlalchemy import Connection, text

from reftune.server.database.connection import Database

KEY = 0x7265_6674  # of our lock, among those that others may have in the database


def keep_alone(database: Database) -> Connection | None:
    """Take a database for one server.

    It is the server's until the connection is closed, which the end of the process does as well,
    and a restart of the database.

    Args:
        database: that nobody else may serve from.

    Returns:
        The connection that has the lock; `None` for SQLite.

    Raises:
        BlockingIOError: another server has the database.
        OSError: it does not answer.
    """
    if database.engine.dialect.name != "postgresql":
        return None
    connection = database.connect_apart()
    schema = "hashtext(coalesce(current_schema(), ''))"  # each has tables of its own
    taken = connection.scalar(text(f"SELECT pg_try_advisory_lock({KEY}, {schema})"))
    if not taken:
        connection.close()
        url = database.engine.url.render_as_string()  # with the password hidden
        raise BlockingIOError(
            f'database "{url}" is used by another server; expected one that runs alone '
            "(or another --database)"
        )
    return connection
