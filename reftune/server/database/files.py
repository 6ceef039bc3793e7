"""Rows of uploaded files; `reftune.server.files` keeps their content."""

from typing import Literal

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from reftune.server.database.identifiers import FILE, check_text, is_id, is_storable, new_id
from reftune.server.database.models import Adapter, File, Job
from reftune.server.database.records import OVER, FileRecord, Usage
from reftune.server.database.tables import Tables, count_alone, now, page, record, visible
from reftune.server.errors import BadRequest, Conflict, NotFound


class FileTable(Tables):
    """The files of the tenants."""

    def add_file(
        self,
        tenant: str,
        name: str,
        purpose: str,
        bytes: int,
        sha256: str,
        id: str | None = None,
        most: int | None = None,
    ) -> FileRecord:
        """Add a file whose content is whole on the disk.

        Args:
            tenant: whom it belongs to.
            name: what the user calls it.
            purpose: what the user wants with it, such as ``"fine-tune"``.
            bytes: its size.
            sha256: of its content, in hexadecimal.
            id: from `new_id`, under which the content lies; made if None.
            most: files that the tenant may have with this one.

        Raises:
            BadRequest: a text that is too long, or cannot be stored, or one file too many.
        """
        check_text("filename", name, 256)
        check_text("purpose", purpose, 256)
        file = File(tenant=tenant, name=name, purpose=purpose, bytes=bytes, sha256=sha256)
        file.id, file.created_at = id or new_id(FILE), now()
        with self._database.writing() as session:
            if most is not None:
                count_alone(session, tenant)
                query = select(func.count()).where(File.tenant == tenant)
                check_room(session.scalar(query) or 0, most)
            session.add(file)
            session.flush()
            return record(FileRecord, file)

    def get_file(self, tenant: str, id: str) -> FileRecord:
        """Return a file.

        Raises:
            NotFound: the tenant has no such file.
        """
        with self._database.reading() as session:
            return record(FileRecord, file_row(session, tenant, id, "file_id"))

    def list_files(
        self,
        tenant: str,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 10_000,
    ) -> list[FileRecord]:
        """Return files, the newest first.

        Args:
            tenant: whose.
            purpose: only those with this one.
            after: id of the last file of the page before.
            limit: at most so many.

        Raises:
            NotFound: the tenant has no file ``after``.
        """
        query = visible(tenant, File)
        if purpose is not None:
            if not is_storable(purpose):
                return []
            query = query.where(File.purpose == purpose)
        with self._database.reading() as session:
            return [
                record(FileRecord, file) for file in page(session, query, File, FILE, after, limit)
            ]

    def delete_file(self, tenant: str, id: str) -> FileRecord:
        """Delete a file's row; its content is the caller's to remove, afterwards.

        Raises:
            NotFound: the tenant has no such file.
            Conflict: a job that is not over needs it.
        """
        with self._database.writing() as session:
            file = file_row(session, tenant, id, "file_id", lock="update")
            needs = or_(Job.training_file == id, Job.validation_file == id)
            query = select(Job.id).where(needs, Job.status.not_in(OVER)).limit(1)
            if (job := session.scalar(query)) is not None:
                raise Conflict(f"file {id} is needed by job {job}, which is not over", "file_id")
            session.delete(file)
            return record(FileRecord, file)

    def file_ids(self) -> set[str]:
        """Return the ids of all tenants' files, to find content that belongs to none."""
        with self._database.reading() as session:
            return set(session.scalars(select(File.id)))

    def usage(self, tenant: str) -> Usage:
        """Count what a tenant has."""
        with self._database.reading() as session:
            files = select(func.count(), func.coalesce(func.sum(File.bytes), 0))
            count, size = session.execute(files.where(File.tenant == tenant)).one()
            jobs = select(func.count()).where(Job.tenant == tenant, Job.status.not_in(OVER))
            adapters = select(func.count()).where(Adapter.tenant == tenant)
            return Usage(
                files=count,
                file_bytes=int(size),
                unfinished_jobs=session.scalar(jobs) or 0,
                adapters=session.scalar(adapters) or 0,
            )


def check_room(has: int, most: int) -> None:
    """Refuse one more file.

    Raises:
        BadRequest: there are as many as there may be.
    """
    if has >= most:
        raise BadRequest(
            f"you have {has} files, and may have {most}; delete some first",
            "file",
            "file_limit_exceeded",
        )


def file_row(
    session: Session,
    tenant: str,
    id: str,
    param: str,
    lock: Literal["share", "update"] | None = None,
) -> File:
    """Return the row of a file.

    Args:
        session: of the transaction.
        tenant: whose.
        id: of the file.
        param: the part of the request that named it.
        lock: keep the row until the transaction's end: from being deleted (``"share"``), or from
            others who want to keep it (``"update"``).

    Raises:
        NotFound: the tenant has no such file.
    """
    query = visible(tenant, File).where(File.id == id)
    if lock is not None:
        query = query.with_for_update(read=lock == "share")
    file = session.scalar(query) if is_id(FILE, id) else None
    if file is None:
        raise NotFound(f"there is no file {id!r}", param)
    return file
