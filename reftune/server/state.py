"""The folder in which a server keeps what it must remember.

``STATE/server.db`` is the database, unless another one is named; ``STATE/files`` holds uploaded
files, ``STATE/adapters`` trained adapters.
"""

import fcntl
import os
from pathlib import Path

from sqlalchemy import URL, make_url

DATABASE, LOCK = "server.db", "lock"


def default_state() -> Path:
    """Return the folder that is used if none is named: the user's own, for state of programs."""
    # https://specifications.freedesktop.org/basedir-spec/latest/
    folder = os.environ.get("XDG_STATE_HOME", "")
    return (Path(folder) if folder else Path.home() / ".local" / "state") / "reftune"


def make_state(folder: Path) -> None:
    """Make the folder if it is not there, readable by its owner alone.

    Raises:
        NotADirectoryError: there is a file of that name.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'state "{folder}" is a file; expected a folder')
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def database_url(state: Path, url: str | None = None) -> str:
    """Return the URL of the database: the one that is named, or that of the file in the folder.

    Raises:
        ValueError: the folder's path cannot be written in a URL.
    """
    if url is not None:
        return url
    path = str(state.absolute() / DATABASE)
    made = URL.create("sqlite", database=path).render_as_string()
    if make_url(made).database != path:  # before SQLAlchemy 2.1, one with a question mark
        raise ValueError(f'state "{state}": expected a path without "?"')
    return made


class StateLock:
    """Keeps a second server out of the folder: it would take the first one's jobs for dead ones.

    The lock ends with the process, however that ends.

    Args:
        folder: the state.

    Raises:
        BlockingIOError: another server has it.
    """

    def __init__(self, folder: Path):
        self._file = (folder / LOCK).open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise BlockingIOError(
                f'state "{folder}" is used by another server; expected one that runs alone '
                "(or another --state)"
            ) from None

    def release(self) -> None:
        """Let others have the folder."""
        self._file.close()
