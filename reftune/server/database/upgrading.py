"""Brings a database to the tables that this version of reftune knows."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text

from reftune.server.database.connection import Database

MIGRATIONS = Path(__file__).with_name("migrations")
# Any number that nobody else locks; two servers that start at once must not both migrate.
LOCK = 0x7265_6674


def upgrade(database: Database) -> None:
    """Run the migrations that are missing, all or none of them.

    Raises:
        OSError: the database cannot be opened, or its tables not be made.
        ValueError: its tables were made by a newer version of reftune.
    """
    with database.connected() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        settings = configuration()
        settings.attributes["connection"] = connection
        try:
            command.upgrade(settings, "head")
        except CommandError as error:
            newest = ScriptDirectory.from_config(settings).get_current_head()
            raise ValueError(
                f"the database's tables are not of this version of reftune, which knows those up "
                f"to {newest}: {error}"
            ) from error


def configuration() -> Config:
    """Make Alembic's settings, which need no file."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return settings
