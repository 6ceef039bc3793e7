"""The tables.

Rows are ordered by `seq`, which counts up: times are whole seconds, and many rows share one.
"""

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite counts up by itself only in a column of exactly this type.
Counter = BigInteger().with_variant(Integer(), "sqlite")
Id, Name = String(40), String(256)


class Table(DeclarativeBase):
    """Base of all tables; their constraints have names that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger(),
        bool: Boolean(),
        dict[str, Any]: JSON(none_as_null=True),
    }

    seq: Mapped[int] = mapped_column(Counter, primary_key=True, sort_order=-1)
    created_at: Mapped[int]


class Key(Table):
    """An API key; of its secret only the hash is kept."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(Id, unique=True)
    tenant: Mapped[str] = mapped_column(Name)
    name: Mapped[str] = mapped_column(Name)
    prefix: Mapped[str] = mapped_column(String(8))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(Name)  # in alphabetical order, with commas between
    revoked_at: Mapped[int | None]


class File(Table):
    """An uploaded file whose content is whole on the disk."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "tenant", "seq"),)

    id: Mapped[str] = mapped_column(Id, unique=True)
    tenant: Mapped[str] = mapped_column(Name)
    name: Mapped[str] = mapped_column(Name)
    purpose: Mapped[str] = mapped_column(Name)
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))


class Job(Table):
    """A fine-tuning job.

    Its files may be deleted when it is over, so they are no foreign keys.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "tenant", "seq"), Index(None, "status", "seq"))

    id: Mapped[str] = mapped_column(Id, unique=True)
    tenant: Mapped[str] = mapped_column(Name)
    status: Mapped[str] = mapped_column(String(20))
    model: Mapped[str] = mapped_column(Name)
    training_file: Mapped[str] = mapped_column(Id)
    validation_file: Mapped[str | None] = mapped_column(Id)
    suffix: Mapped[str | None] = mapped_column(Name)
    seed: Mapped[int]
    hyperparameters: Mapped[dict[str, Any]]
    method: Mapped[dict[str, Any]]
    # The attribute `metadata` is taken by SQLAlchemy.
    job_metadata: Mapped[dict[str, Any]] = mapped_column("metadata")
    trained_as: Mapped[str] = mapped_column(Name)
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]
    restarts: Mapped[int] = mapped_column(Integer(), default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    adapter: Mapped[str | None] = mapped_column(Text())
    trained_tokens: Mapped[int | None]
    result: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None] = mapped_column(Name)
    error_message: Mapped[str | None] = mapped_column(Text())


class JobEvent(Table):
    """Something that happened to a job."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "job_id", "seq"),)

    id: Mapped[str] = mapped_column(Id, unique=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"))
    level: Mapped[str] = mapped_column(String(8))
    message: Mapped[str] = mapped_column(Text())
    data: Mapped[dict[str, Any] | None]


class Checkpoint(Table):
    """An adapter as it was at a step of a job."""

    __tablename__ = "checkpoints"
    __table_args__ = (Index(None, "job_id", "seq"),)

    id: Mapped[str] = mapped_column(Id, unique=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"))
    step: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    adapter: Mapped[str] = mapped_column(Text())


class Adapter(Table):
    """An adapter that belongs to a tenant."""

    __tablename__ = "adapters"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    tenant: Mapped[str] = mapped_column(Name)
    name: Mapped[str] = mapped_column(Name)
    folder: Mapped[str] = mapped_column(Text())
    base: Mapped[str] = mapped_column(Name)
    job_id: Mapped[str | None] = mapped_column(Id, ForeignKey("jobs.id"))
