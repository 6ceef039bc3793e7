"""Fine-tuning jobs, as the worker runs them: of all tenants, one after the other."""

from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from reftune.server.database.adapters import put_adapter
from reftune.server.database.identifiers import without_unstorable
from reftune.server.database.jobs import end, happened, job_record, job_row
from reftune.server.database.models import Job
from reftune.server.database.progress import put_checkpoint
from reftune.server.database.records import JobRecord
from reftune.server.database.tables import Tables, now
from reftune.server.errors import Conflict

# A job that takes the server down with it must not do so for ever.
RESTARTS = 3


class RunTable(Tables):
    """The jobs that run; these methods are the worker's, so they take no tenant."""

    def next_job(self) -> JobRecord | None:
        """Take the oldest job that waits: it is "running" then, and nobody else gets it.

        Returns:
            The job, or None if none waits.
        """
        with self._database.writing() as session:
            query = select(Job).where(Job.status == "queued").order_by(Job.seq).limit(1)
            job = session.scalar(query.with_for_update(skip_locked=True))
            if job is None:
                return None
            job.status = "running"
            job.started_at = job.started_at or now()
            happened(session, job.id, "info", "Fine-tuning job started")
            return job_record(job)

    def finish_job(
        self,
        id: str,
        *,
        adapter: str | Path,
        trained_tokens: int,
        result: dict[str, Any],
        step: int | None = None,
    ) -> JobRecord:
        """Let a running job succeed, and its adapter be live and its last checkpoint: all or none.

        Args:
            id: of the job.
            adapter: folder of the adapter, which is whole; an absolute path.
            trained_tokens: over all epochs.
            result: figures of the training.
            step: its last one, for the checkpoint; there is none without.

        Returns:
            The job. Its status is "cancelled", and there is no adapter, if that was asked for in
            the meantime; the folder is the caller's to remove then.

        Raises:
            NotFound: there is no such job.
            Conflict: it does not run.
        """
        with self._adapters.changing(), self._database.writing() as session:
            job = _running(session, id)
            if job.cancel_requested:
                end(session, job, "cancelled", "info", "The job was cancelled")
                return job_record(job)
            job.adapter, job.trained_tokens, job.result = str(adapter), trained_tokens, result
            put_adapter(session, job.tenant, job.trained_as, str(adapter), job.model, id)
            if step is not None:
                put_checkpoint(session, id, step, {"train_loss": result["loss"]}, str(adapter))
            happened(session, id, "info", f"New fine-tuned model created: {job.trained_as}")
            end(session, job, "succeeded", "info", "The job has successfully completed")
            return job_record(job)

    def fail_job(self, id: str, code: str, message: str) -> JobRecord:
        """Let a running job fail.

        Args:
            id: of the job.
            code: why, for programs.
            message: why, for its tenant.

        Raises:
            NotFound: there is no such job.
            Conflict: it does not run.
        """
        with self._database.writing() as session:
            job = _running(session, id)
            _fail(session, job, code, message)
            return job_record(job)

    def cancelled(self, id: str) -> JobRecord:
        """Let a running job be cancelled.

        Raises:
            NotFound: there is no such job.
            Conflict: it does not run.
        """
        with self._database.writing() as session:
            job = _running(session, id)
            end(session, job, "cancelled", "info", "The job was cancelled")
            return job_record(job)

    def is_cancel_requested(self, id: str) -> bool:
        """Say whether a running job should end.

        Raises:
            NotFound: there is no such job.
        """
        with self._database.reading() as session:
            return job_row(session, None, id).cancel_requested

    def give_back(self, id: str) -> JobRecord:
        """Put a running job back into the queue, because the server stops as it should.

        That is no restart: it does not count against `RESTARTS`.

        Raises:
            NotFound: there is no such job.
            Conflict: it does not run.
        """
        with self._database.writing() as session:
            job = _running(session, id)
            if job.cancel_requested:
                end(session, job, "cancelled", "info", "The job was cancelled")
            else:
                job.status = "queued"
                happened(session, id, "info", "The server stops; the job will begin anew")
            return job_record(job)

    def recover(self) -> list[JobRecord]:
        """Put jobs back into the queue that ran when the server died; to be called at its start.

        A job that was to be cancelled is so then, and one that was put back `RESTARTS` times
        already has failed.

        Returns:
            All those jobs, as they are now.
        """
        with self._database.writing() as session:
            query = select(Job).where(Job.status == "running").order_by(Job.seq).with_for_update()
            jobs = session.scalars(query).all()
            for job in jobs:
                _recover(session, job)
            return [job_record(job) for job in jobs]


def _running(session: Session, id: str) -> Job:
    job = job_row(session, None, id, lock=True)
    if job.status != "running":
        raise Conflict(f'job {id} is "{job.status}"; expected "running"', "job_id")
    return job


def _fail(session: Session, job: Job, code: str, message: str) -> None:
    job.error_code, job.error_message = code, without_unstorable(message)
    end(session, job, "failed", "error", message)


def _recover(session: Session, job: Job) -> None:
    if job.cancel_requested:
        end(session, job, "cancelled", "info", "The job was cancelled")
    elif job.restarts >= RESTARTS:
        reason = f"The server died {job.restarts + 1} times while this job ran"
        _fail(session, job, "server_died", reason)
    else:
        job.restarts += 1
        job.status = "queued"
        reason = f"The server died while this job ran; it begins anew ({job.restarts}/{RESTARTS})"
        happened(session, job.id, "warn", reason)
