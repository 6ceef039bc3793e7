"""The objects of fine-tuning: jobs, their events and checkpoints."""

from typing import Any

from reftune.server.database.records import CheckpointRecord, EventRecord, JobRecord


def job_object(job: JobRecord) -> dict[str, Any]:
    """Write a job."""
    error = None
    if job.error_code is not None:
        error = {"code": job.error_code, "message": job.error_message or "", "param": None}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "model": job.model,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "estimated_finish": None,
        "status": job.status,
        "error": error,
        "fine_tuned_model": job.trained_as if job.status == "succeeded" else None,
        "organization_id": job.tenant,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": [],
        "hyperparameters": job.hyperparameters,
        "method": job.method,
        "seed": job.seed,
        "user_provided_suffix": job.suffix,
        "trained_tokens": job.trained_tokens,
        "integrations": [],
        "metadata": job.metadata,
        "result": job.result,
    }


def event_object(event: EventRecord) -> dict[str, Any]:
    """Write an event."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": event.created_at,
        "level": event.level,
        "message": event.message,
        "type": "metrics" if event.data else "message",
        "data": event.data or {},
    }


def checkpoint_object(checkpoint: CheckpointRecord, job: JobRecord) -> dict[str, Any]:
    """Write a checkpoint; the last one of a job is the model that it has trained."""
    last = checkpoint.adapter == job.adapter
    name = job.trained_as if last else f"{job.trained_as}:ckpt-step-{checkpoint.step}"
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": name,
        "fine_tuning_job_id": checkpoint.job_id,
        "step_number": checkpoint.step,
        "metrics": {"step": checkpoint.step, **checkpoint.metrics},
    }
