"""Things that stand in the database, made with few words."""

from typing import Any

from reftune.server.database.records import FileRecord, JobRecord
from reftune.server.database.store import Store


def add_file(store: Store, tenant: str, name: str = "tips.jsonl") -> FileRecord:
    return store.add_file(tenant, name, "fine-tune", bytes=12, sha256="ab" * 32)


def job_fields(file: str, **other: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "training_file": file,
        "validation_file": None,
        "suffix": None,
        "seed": 7,
        "hyperparameters": {"n_epochs": 3},
        "method": {"type": "supervised"},
        "metadata": {},
        "trained_as": "ft:tiny:reft:x",
        **other,
    }


def add_job(store: Store, tenant: str, **other: Any) -> JobRecord:
    return store.add_job(tenant, **job_fields(add_file(store, tenant).id, **other))


def messages(store: Store, job: JobRecord) -> list[str]:
    """What happened to a job, the oldest first."""
    return [event.message for event in store.list_events(job.tenant, job.id, limit=100)][::-1]
