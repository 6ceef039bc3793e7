"""Fine-tuning jobs, as their tenants see them."""

from typing import Unpack

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from reftune.server.database.files import file_row
from reftune.server.database.identifiers import (
    EVENT,
    JOB,
    check_integer,
    check_text,
    is_id,
    new_id,
    without_unstorable,
)
from reftune.server.database.models import Job, JobEvent
from reftune.server.database.records import OVER, JobFields, JobRecord, Level, Status
from reftune.server.database.tables import Tables, count_alone, now, page, record, visible
from reftune.server.errors import BadRequest, Conflict, NotFound


class JobTable(Tables):
    """The jobs of the tenants."""

    def add_job(
        self, tenant: str, most: int | None = None, **fields: Unpack[JobFields]
    ) -> JobRecord:
        """Put a new job at the end of the queue.

        Args:
            tenant: whose.
            most: jobs that are not over that the tenant may have with this one.
            fields: of the job.

        Raises:
            NotFound: the tenant has no such training or validation file.
            BadRequest: a value that cannot be stored, or one job too many.
        """
        for name in ("model", "suffix", "trained_as"):
            check_text(name, fields[name], 256)
        check_integer("seed", fields["seed"])
        values = {"id": new_id(JOB), **fields}
        values["job_metadata"] = values.pop("metadata")
        job = Job(**values, tenant=tenant, status="queued", created_at=now())
        with self._database.writing() as session:
            if most is not None:
                count_alone(session, tenant)
                _refuse_more(session, tenant, most)
            for param in ("training_file", "validation_file"):
                if (file := fields[param]) is not None:
                    file_row(session, tenant, file, param, lock="share")
            session.add(job)
            session.flush()
            happened(session, job.id, "info", f"Created fine-tuning job: {job.id}")
            return job_record(job)

    def get_job(self, tenant: str, id: str) -> JobRecord:
        """Return a job.

        Raises:
            NotFound: the tenant has no such job.
        """
        with self._database.reading() as session:
            return job_record(job_row(session, tenant, id))

    def list_jobs(self, tenant: str, after: str | None = None, limit: int = 20) -> list[JobRecord]:
        """Return jobs, the newest first.

        Args:
            tenant: whose.
            after: id of the last job of the page before.
            limit: at most so many.

        Raises:
            NotFound: the tenant has no job ``after``.
        """
        with self._database.reading() as session:
            jobs = page(session, visible(tenant, Job), Job, JOB, after, limit)
            return [job_record(job) for job in jobs]

    def request_cancel(self, tenant: str, id: str) -> JobRecord:
        """Cancel a job that waits; ask for the end of one that runs.

        A running job is "cancelled" when the worker has heard of it; it will not succeed any more.

        Raises:
            NotFound: the tenant has no such job.
            Conflict: it is over.
        """
        with self._database.writing() as session:
            job = job_row(session, tenant, id, lock=True)
            if job.status == "running":
                if not job.cancel_requested:
                    job.cancel_requested = True
                    happened(session, id, "info", "The job will be cancelled")
            elif job.status in ("queued", "validating_files"):
                end(session, job, "cancelled", "info", "The job was cancelled")
            else:
                raise Conflict(f"job {id} has {job.status} already", "job_id")
            return job_record(job)


def _refuse_more(session: Session, tenant: str, most: int) -> None:
    query = select(func.count()).where(Job.tenant == tenant, Job.status.not_in(OVER))
    has = session.scalar(query) or 0
    if has >= most:
        raise BadRequest(
            f"you have {has} jobs that are not over, and may have {most}; try again later",
            code="job_limit_exceeded",
        )


def job_row(session: Session, tenant: str | None, id: str, lock: bool = False) -> Job:
    """Return the row of a job.

    Args:
        session: of the transaction.
        tenant: whose; None for the server's own use.
        id: of the job.
        lock: keep others from changing it until the transaction's end.

    Raises:
        NotFound: there is no such job, or it is another tenant's.
    """
    query = (select(Job) if tenant is None else visible(tenant, Job)).where(Job.id == id)
    job = session.scalar(query.with_for_update() if lock else query) if is_id(JOB, id) else None
    if job is None:
        raise NotFound(f"there is no fine-tuning job {id!r}", "job_id")
    return job


def happened(
    session: Session,
    job_id: str,
    level: Level,
    message: str,
    data: dict | None = None,
) -> JobEvent:
    """Add an event to a job."""
    event = JobEvent(
        id=new_id(EVENT),
        job_id=job_id,
        level=level,
        message=without_unstorable(message),
        data=data,
        created_at=now(),
    )
    session.add(event)
    session.flush()
    return event


def end(session: Session, job: Job, status: Status, level: Level, message: str) -> None:
    """Let a job be over, with an event that says so."""
    job.status = status
    job.finished_at = now()
    job.cancel_requested = False
    happened(session, job.id, level, message)


def job_record(job: Job) -> JobRecord:
    """Make a record of a job's row."""
    return record(JobRecord, job, metadata=job.job_metadata)
