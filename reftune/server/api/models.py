"""`/v1/models`, and the download of an adapter."""

import io
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from reftune.server.api.authentication import Identity, Knowing, Training
from reftune.server.api.context import Parts
from reftune.server.api.errors import Forbidden
from reftune.server.errors import NotFound
from reftune.server.registry import CONFIG, WEIGHTS, ModelRecord
from reftune.server.trained_folders import ADAPTERS

router = APIRouter()


@router.get("/v1/models")
def list_models(context: Parts, who: Knowing) -> dict[str, Any]:
    """List the base model and all adapters."""
    models = context.registry.names(who.tenant)
    return {"object": "list", "data": [_model(one, who, context.began) for one in models]}


@router.get("/v1/models/{model:path}")
def retrieve_model(model: str, context: Parts, who: Knowing) -> dict[str, Any]:
    """Describe one model."""
    found = context.registry.find(who.tenant, model, fetch=who.may_chat)
    return _model(found, who, context.began)


@router.delete("/v1/models/{model:path}")
def delete_model(model: str, context: Parts, who: Training) -> dict[str, Any]:
    """Delete an adapter of the tenant's own; answers on their way are finished with it."""
    found = context.registry.find(who.tenant, model, fetch=False)
    if found.kind != "own":
        raise Forbidden(f"the model {model!r} is not yours; only those you trained can be deleted")
    folder = Path(context.store.delete_adapter(who.tenant, model).folder)
    context.engine.forget(folder)
    trained = (context.settings.state / ADAPTERS).resolve()
    # An engine that trains has read what its answers need. Another one may read the folder once
    # more, when the first step of a request comes, and would end without it; so the next start
    # removes it. Nobody can ask for it any more, as for one that cannot be removed now.
    if context.settings.trains and folder.resolve().parent == trained:
        shutil.rmtree(folder, ignore_errors=True)
    return {"id": model, "object": "model", "deleted": True}


@router.get("/v1/adapters/{model:path}/download")
def download_adapter(model: str, context: Parts, who: Knowing) -> Response:
    """Give an adapter as a ZIP file: its config and its weights."""
    folder = context.registry.find(who.tenant, model, fetch=who.may_chat).folder
    if folder is None:
        raise NotFound(f"the model {model!r} is the base model, no adapter", "model")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name in (CONFIG, WEIGHTS):
            writer.write(folder / name, name)
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", model)
    headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
    return Response(archive.getvalue(), media_type="application/zip", headers=headers)


def _model(model: ModelRecord, who: Identity, began: int) -> dict[str, Any]:
    """Describe a model as OpenAI does, and say of which kind it is and which job made it."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at or began,  # the base model has no date of its own
        "owned_by": who.tenant if model.kind == "own" else "reftune",
        "kind": model.kind,
        "fine_tuning_job_id": model.job_id,
    }
