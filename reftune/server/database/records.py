"""What the database hands out: values that do not change and know nothing of it.

All times are whole seconds since 1970, as in OpenAI's API.
"""

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict, get_args

Scope = Literal["chat", "train", "admin"]
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
# Of jobs that will change no more.
OVER: frozenset[Status] = frozenset(("succeeded", "failed", "cancelled"))

Level = Literal["info", "warn", "error"]


@dataclass(frozen=True)
class KeyRecord:
    """An API key, without its secret.

    Attributes:
        prefix: how the secret begins, to tell keys apart.
        revoked_at: `None` while the key is valid.
    """

    id: str
    tenant: str
    name: str
    prefix: str
    scopes: frozenset[Scope]
    created_at: int
    revoked_at: int | None


@dataclass(frozen=True)
class FileRecord:
    """An uploaded file; its content lies on disk, under its id.

    Attributes:
        name: what the user calls it; never part of a path.
        sha256: of the content, in hexadecimal.
    """

    id: str
    tenant: str
    name: str
    purpose: str
    bytes: int
    sha256: str
    created_at: int


class JobFields(TypedDict):
    """What a new fine-tuning job is made of.

    Keys:
        id: from `new_id("ftjob")`, for a caller that needs it beforehand; made if it is missing.
        model: the base model's name.
        training_file: id of a file of the same tenant; `validation_file` too.
        trained_as: the name that the adapter will have, see `reftune.server.registry.trained_name`.
    """

    id: NotRequired[str]
    model: str
    training_file: str
    validation_file: str | None
    suffix: str | None
    seed: int
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    metadata: dict[str, Any]
    trained_as: str


@dataclass(frozen=True)
class JobRecord:
    """A fine-tuning job; the fields of `JobFields`, and how far it is.

    Attributes:
        started_at: when it ran first; `None` before.
        finished_at: when it was over; `None` before.
        restarts: how often it was begun anew because the server died.
        cancel_requested: it runs, and should not.
        adapter: folder of the trained adapter, once it has succeeded.
        trained_tokens: over all epochs, once it has succeeded.
        result: figures of the training, once it has succeeded.
        error_code: why it failed, for programs; `error_message` for people.
    """

    id: str
    tenant: str
    status: Status
    model: str
    training_file: str
    validation_file: str | None
    suffix: str | None
    seed: int
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    metadata: dict[str, Any]
    trained_as: str
    created_at: int
    started_at: int | None
    finished_at: int | None
    restarts: int
    cancel_requested: bool
    adapter: str | None
    trained_tokens: int | None
    result: dict[str, Any] | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True)
class EventRecord:
    """Something that happened to a job; `data` holds its figures, if it has any."""

    id: str
    job_id: str
    created_at: int
    level: Level
    message: str
    data: dict[str, Any] | None


@dataclass(frozen=True)
class CheckpointRecord:
    """An adapter as it was at a step of its training; `adapter` is its folder."""

    id: str
    job_id: str
    created_at: int
    step: int
    metrics: dict[str, Any]
    adapter: str


@dataclass(frozen=True)
class AdapterRecord:
    """An adapter that belongs to a tenant.

    Attributes:
        name: the model name it is asked for by.
        folder: an absolute path.
        base: name of its base model.
        job_id: the job that made it, if one did.
    """

    tenant: str
    name: str
    folder: str
    base: str
    job_id: str | None
    created_at: int


@dataclass(frozen=True)
class Usage:
    """What a tenant has, to be held against its limits."""

    files: int
    file_bytes: int
    unfinished_jobs: int
    adapters: int
