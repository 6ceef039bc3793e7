"""Uploaded files: their content on the disk, their rows in the database.

``FOLDER/<id>.jsonl`` holds the content of the file with that id; no part of the path comes from a
user. The content is whole before the row is written, and the row is gone before the content is
removed. So a server that is killed in between leaves content that no row knows, never a row without
content; `UploadedFiles.sweep` removes the former.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from reftune.server.database.identifiers import FILE, is_id, new_id
from reftune.server.database.records import FileRecord
from reftune.server.database.store import Store
from reftune.server.errors import NotFound, TooLarge, Unavailable

LOG = logging.getLogger(__name__)
CHUNK = 2**20  # bytes that are read at once
CONTENT, PARTIAL = ".jsonl", ".partial"


class UploadedFiles:
    """The files of all tenants.

    Args:
        store: that has the rows.
        folder: for the contents; made if it is not there, readable by its owner alone.
    """

    def __init__(self, store: Store, folder: Path):
        self._store = store
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(
        self,
        tenant: str,
        name: str,
        purpose: str,
        stream: BinaryIO,
        limit: int,
        check: Callable[[Path], None] | None = None,
        most: int | None = None,
    ) -> FileRecord:
        """Add a file: all of it, or nothing.

        Args:
            tenant: whom it belongs to.
            name: what the user calls it.
            purpose: what the user wants with it.
            stream: the content, read to its end.
            limit: bytes that it may have at most.
            check: looks at the content before the file is there; what it raises refuses the file.
            most: files that the tenant may have with this one.

        Raises:
            TooLarge: the content is longer than ``limit``.
            BadRequest: a name that cannot be stored, or one file too many.
            Unavailable: the disk or the database does not do it.
        """
        content = self._content(id := new_id(FILE))
        partial = content.with_suffix(PARTIAL)
        try:
            with _disk():
                size, sha256 = _write(partial, stream, limit)
            if check is not None:
                check(partial)
            with _disk():
                _put_in_place(partial, content)
            return self._store.add_file(tenant, name, purpose, size, sha256, id, most)
        except BaseException:
            partial.unlink(missing_ok=True)
            content.unlink(missing_ok=True)
            raise

    def path(self, tenant: str, id: str) -> Path:
        """Return the file that has the content.

        Raises:
            NotFound: the tenant has no such file, or its content is gone from the disk.
        """
        content = self._content(self._store.get_file(tenant, id).id)
        if not content.is_file():
            LOG.error("the content of file %s is gone from the disk", id)
            raise NotFound(f"the content of file {id} is gone", "file_id")
        return content

    def delete(self, tenant: str, id: str) -> FileRecord:
        """Delete a file. Whoever has its content open may read on.

        Raises:
            NotFound: the tenant has no such file.
            Conflict: a job that is not over needs it.
        """
        file = self._store.delete_file(tenant, id)
        with _disk():
            self._content(file.id).unlink(missing_ok=True)
        return file

    def sweep(self) -> list[str]:
        """Remove what a killed server left; to be called at the start, before requests come.

        Files that are not named as this class names them are left alone.

        Returns:
            The names of the files that were removed.
        """
        known = self._store.file_ids()
        removed = []
        for path in self._folder.iterdir():
            if not is_id(FILE, path.stem) or path.suffix not in (CONTENT, PARTIAL):
                continue
            if path.suffix == PARTIAL or path.stem not in known:
                path.unlink()
                removed.append(path.name)
        return sorted(removed)

    def _content(self, id: str) -> Path:
        return self._folder / f"{id}{CONTENT}"


def _write(file: Path, stream: BinaryIO, limit: int) -> tuple[int, str]:
    """Write a stream into a new file; return its size in bytes and its SHA-256."""
    size, digest = 0, hashlib.sha256()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as opened:
        while chunk := stream.read(min(CHUNK, limit + 1 - size)):
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"the file has more than {limit} bytes, which is the limit", "file")
            digest.update(chunk)
            opened.write(chunk)
        opened.flush()
        os.fsync(opened.fileno())
    return size, digest.hexdigest()


def _put_in_place(partial: Path, content: Path) -> None:
    """Give a file its name, which outlives a power failure."""
    os.replace(partial, content)
    descriptor = os.open(content.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        LOG.error("the disk does not do it: %s", error)
        raise Unavailable("the server cannot write to its disk; try again later") from error
