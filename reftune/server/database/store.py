"""The store: everything that the server remembers, behind one name."""

from sqlalchemy import Connection

from reftune.server.database.adapters import AdapterTable
from reftune.server.database.alone import keep_alone
from reftune.server.database.connection import Database
from reftune.server.database.files import FileTable
from reftune.server.database.jobs import JobTable
from reftune.server.database.keys import KeyTable
from reftune.server.database.progress import ProgressTable
from reftune.server.database.runs import RunTable
from reftune.server.database.upgrading import upgrade


class Store(KeyTable, FileTable, JobTable, RunTable, ProgressTable, AdapterTable):
    """Keys, files, jobs, events, checkpoints and adapters in a database.

    Any thread may call its methods. Each is one transaction, whose changes are written as a whole
    or not at all, also when the process is killed; and each raises `Unavailable` if the database
    does not answer.

    Args:
        url: as SQLAlchemy writes it: ``sqlite:////srv/server.db``, whose folder must exist, or
            ``postgresql://user:password@host/name``. Missing tables are made.

    Raises:
        ValueError: the URL has no meaning, or the tables were made by a newer version of reftune.
        ImportError: PostgreSQL's driver is not installed.
        OSError: the database cannot be opened.
    """

    def __init__(self, url: str):
        super().__init__(Database(url))
        self._alone: Connection | None = None
        try:
            upgrade(self._database)
        except BaseException:
            self.close()
            raise

    def keep_alone(self) -> None:
        """Let no other server use the database until this store is closed.

        Raises:
            BlockingIOError: another one does.
            OSError: the database does not answer.
        """
        self._alone = keep_alone(self._database)

    def close(self) -> None:
        """Close all connections."""
        if self._alone is not None:
            self._alone.close()
            self._alone = None
        self._database.close()
