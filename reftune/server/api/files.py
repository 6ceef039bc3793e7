"""`/v1/files`: examples to train on."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, UploadFile
from starlette.responses import FileResponse

from reftune.server.api.authentication import Training
from reftune.server.api.context import Parts
from reftune.server.database.files import check_room
from reftune.server.database.records import FileRecord
from reftune.server.errors import BadRequest
from reftune.server.training_file import check_training_file

router = APIRouter()

PURPOSE = "fine-tune"


@router.post("/v1/files")
def upload_file(
    context: Parts,
    who: Training,
    file: UploadFile,
    purpose: Annotated[str, Form()],
    expires_after: Annotated[str | None, Form(alias="expires_after[anchor]")] = None,
) -> dict[str, Any]:
    """Take a file of examples; one that cannot be trained on is refused, with the line."""
    if purpose != PURPOSE:
        raise BadRequest(f'purpose {purpose!r:.60}: expected "{PURPOSE}"', "purpose")
    if expires_after is not None:
        message = "expires_after is not supported: files stay until they are deleted"
        raise BadRequest(message, "expires_after", "unsupported_parameter")
    settings = context.settings
    # `add_file` looks again, at the last moment; here so that no file is read in vain.
    check_room(context.store.usage(who.tenant).files, settings.max_files)
    added = context.files.add(
        who.tenant,
        file.filename or "upload.jsonl",
        purpose,
        file.file,
        settings.max_file_bytes,
        check=partial(check_training_file, most=settings.max_examples),
        most=settings.max_files,
    )
    return _file(added)


@router.get("/v1/files")
def list_files(
    context: Parts,
    who: Training,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: str = "desc",
) -> dict[str, Any]:
    """List files, the newest first."""
    if order != "desc":
        raise BadRequest(f'order {order!r:.60} is not supported; expected "desc"', "order")
    found = context.store.list_files(who.tenant, purpose, after, limit + 1)
    data = [_file(file) for file in found[:limit]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return {"object": "list", "data": data, **ends, "has_more": len(found) > limit}


@router.get("/v1/files/{file_id}")
def retrieve_file(file_id: str, context: Parts, who: Training) -> dict[str, Any]:
    """Describe one file."""
    return _file(context.store.get_file(who.tenant, file_id))


@router.get("/v1/files/{file_id}/content")
def file_content(file_id: str, context: Parts, who: Training) -> FileResponse:
    """Give a file's content as it was sent."""
    path = context.files.path(who.tenant, file_id)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


@router.delete("/v1/files/{file_id}")
def delete_file(file_id: str, context: Parts, who: Training) -> dict[str, Any]:
    """Delete a file that no job needs any more."""
    context.files.delete(who.tenant, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def _file(file: FileRecord) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": None,
        "status_details": None,
    }
