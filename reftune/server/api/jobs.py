"""`/v1/fine_tuning/jobs`: from examples to an adapter that is asked for by its name."""

import secrets
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request

from reftune.server.api.authentication import Training
from reftune.server.api.context import Context, Parts
from reftune.server.api.job_objects import checkpoint_object, event_object, job_object
from reftune.server.api.job_parameters import JobParameters
from reftune.server.database.identifiers import JOB, new_id
from reftune.server.errors import BadRequest
from reftune.server.registry import trained_name

T = TypeVar("T")

router = APIRouter(prefix="/v1/fine_tuning/jobs")

Limit = Annotated[int, Query(ge=1, le=100)]


@router.post("")
def create_job(body: JobParameters, context: Parts, who: Training) -> dict[str, Any]:
    """Put a job into the queue."""
    if not context.settings.trains:
        message = (
            "this server does not train, because its engine (vLLM) cannot share its weights; train "
            "with `reftune train` and put the adapter's folder below --adapters"
        )
        raise BadRequest(message, None, "training_not_available")
    hyperparameters = body.check()
    _check_base(context, who.tenant, body.model)
    id = new_id(JOB)
    job = context.store.add_job(
        who.tenant,
        context.settings.max_jobs,
        id=id,
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        hyperparameters=hyperparameters,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        metadata=body.metadata or {},
        trained_as=trained_name(context.registry.base_name, body.suffix, id),
    )
    return job_object(job)


def _check_base(context: Context, tenant: str, model: str) -> None:
    if context.registry.find(tenant, model, fetch=False).kind != "base":
        base = context.registry.base_name
        raise BadRequest(f"model {model!r} is an adapter; expected the base, {base!r}", "model")
    if not context.tokenizer.chat_template:
        message = f"model {model!r} has no chat template, so it cannot learn from chats"
        raise BadRequest(message, "model", "no_chat_template")


@router.get("")
def list_jobs(
    request: Request,
    context: Parts,
    who: Training,
    after: str | None = None,
    limit: Limit = 20,
) -> dict[str, Any]:
    """List jobs, the newest first."""
    if any(name.startswith("metadata") for name in request.query_params):
        raise BadRequest("jobs cannot be looked up by their metadata", "metadata")
    return _page(context.store.list_jobs(who.tenant, after, limit + 1), limit, job_object)


@router.get("/{job_id}")
def retrieve_job(job_id: str, context: Parts, who: Training) -> dict[str, Any]:
    """Describe one job."""
    return job_object(context.store.get_job(who.tenant, job_id))


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, context: Parts, who: Training) -> dict[str, Any]:
    """Cancel a job; one that runs is over a moment later."""
    return job_object(context.store.request_cancel(who.tenant, job_id))


@router.get("/{job_id}/events")
def list_events(
    job_id: str, context: Parts, who: Training, after: str | None = None, limit: Limit = 20
) -> dict[str, Any]:
    """List what happened to a job, the newest first."""
    events = context.store.list_events(who.tenant, job_id, after, limit + 1)
    return _page(events, limit, event_object)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(
    job_id: str, context: Parts, who: Training, after: str | None = None, limit: Limit = 10
) -> dict[str, Any]:
    """List a job's adapter as it was while it was trained, the newest first."""
    job = context.store.get_job(who.tenant, job_id)
    found = context.store.list_checkpoints(who.tenant, job_id, after, limit + 1)
    page = _page(found, limit, lambda checkpoint: checkpoint_object(checkpoint, job))
    ends = {"first_id": page["data"][0]["id"], "last_id": page["data"][-1]["id"]} if found else {}
    return {**page, **ends}


def _page(found: list[T], limit: int, write: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    data = [write(one) for one in found[:limit]]
    return {"object": "list", "data": data, "has_more": len(found) > limit}
