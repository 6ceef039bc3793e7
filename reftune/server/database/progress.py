"""What a fine-tuning job tells while it runs: events, and checkpoints."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from reftune.server.database.identifiers import CHECKPOINT, EVENT, new_id
from reftune.server.database.jobs import happened, job_row
from reftune.server.database.models import Checkpoint, JobEvent
from reftune.server.database.records import CheckpointRecord, EventRecord, Level
from reftune.server.database.tables import Tables, now, page, record


def put_checkpoint(
    session: Session, job_id: str, step: int, metrics: dict[str, Any], adapter: str
) -> Checkpoint:
    """Add a checkpoint, and return its row."""
    checkpoint = Checkpoint(
        id=new_id(CHECKPOINT),
        job_id=job_id,
        step=step,
        metrics=metrics,
        adapter=adapter,
        created_at=now(),
    )
    session.add(checkpoint)
    session.flush()
    return checkpoint


class ProgressTable(Tables):
    """Events and checkpoints of jobs: the worker adds them, the job's tenant reads them."""

    def add_event(
        self, job_id: str, level: Level, message: str, data: dict[str, Any] | None = None
    ) -> EventRecord:
        """Add an event.

        Args:
            job_id: of the job.
            level: how bad it is.
            message: for the job's tenant.
            data: figures; those that are not finite become None, because JSON has none.

        Raises:
            NotFound: there is no such job.
        """
        with self._database.writing() as session:
            job_row(session, None, job_id)
            return record(EventRecord, happened(session, job_id, level, message, data))

    def list_events(
        self, tenant: str, job_id: str, after: str | None = None, limit: int = 20
    ) -> list[EventRecord]:
        """Return a job's events, the newest first.

        Args:
            tenant: whose job it is.
            job_id: of the job.
            after: id of the last event of the page before.
            limit: at most so many.

        Raises:
            NotFound: the tenant has no such job, or the job no event ``after``.
        """
        with self._database.reading() as session:
            job_row(session, tenant, job_id)
            query = select(JobEvent).where(JobEvent.job_id == job_id)
            events = page(session, query, JobEvent, EVENT, after, limit)
            return [record(EventRecord, event) for event in events]

    def add_checkpoint(
        self, job_id: str, step: int, metrics: dict[str, Any], adapter: str
    ) -> CheckpointRecord:
        """Add a checkpoint.

        Args:
            job_id: of the job.
            step: of its training.
            metrics: figures at that step; those that are not finite become None.
            adapter: folder of the adapter as it was then, which is whole.

        Raises:
            NotFound: there is no such job.
        """
        with self._database.writing() as session:
            job_row(session, None, job_id)
            return record(CheckpointRecord, put_checkpoint(session, job_id, step, metrics, adapter))

    def list_checkpoints(
        self, tenant: str, job_id: str, after: str | None = None, limit: int = 10
    ) -> list[CheckpointRecord]:
        """Return a job's checkpoints, the newest first.

        Args:
            tenant: whose job it is.
            job_id: of the job.
            after: id of the last checkpoint of the page before.
            limit: at most so many.

        Raises:
            NotFound: the tenant has no such job, or the job no checkpoint ``after``.
        """
        with self._database.reading() as session:
            job_row(session, tenant, job_id)
            query = select(Checkpoint).where(Checkpoint.job_id == job_id)
            checkpoints = page(session, query, Checkpoint, CHECKPOINT, after, limit)
            return [record(CheckpointRecord, checkpoint) for checkpoint in checkpoints]
