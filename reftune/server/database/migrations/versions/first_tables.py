"""Keys, files, jobs with their events and checkpoints, adapters."""

import sqlalchemy as sa
from alembic import op

revision = "first_tables"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    _keys()
    _files()
    _jobs()
    _events()
    _checkpoints()
    _adapters()


def downgrade() -> None:
    """Remove all tables."""
    for name in ("adapters", "checkpoints", "events", "jobs", "files", "keys"):
        op.drop_table(name)


def _table(name: str, *columns: sa.Column | sa.Constraint) -> None:
    counter = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        name,
        sa.Column("seq", counter, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("seq", name=op.f(f"pk_{name}")),
    )


def _id(table: str) -> tuple[sa.Column, sa.Constraint]:
    return _text("id", 40), sa.UniqueConstraint("id", name=op.f(f"uq_{table}_id"))


def _text(name: str, length: int | None = 256, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length) if length else sa.Text(), nullable=nullable)


def _number(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _json(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


def _of_job(table: str) -> sa.Constraint:
    return sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f(f"fk_{table}_job_id"))


def _index(table: str, column: str) -> None:
    op.create_index(op.f(f"ix_{table}_{column}_seq"), table, [column, "seq"])


def _keys() -> None:
    _table(
        "keys",
        *_id("keys"),
        _text("tenant"),
        _text("name"),
        _text("prefix", 8),
        _text("sha256", 64),
        _text("scopes"),
        _number("revoked_at", nullable=True),
        sa.UniqueConstraint("sha256", name=op.f("uq_keys_sha256")),
    )


def _files() -> None:
    _table(
        "files",
        *_id("files"),
        _text("tenant"),
        _text("name"),
        _text("purpose"),
        _number("bytes"),
        _text("sha256", 64),
    )
    _index("files", "tenant")


def _jobs() -> None:
    _table(
        "jobs",
        *_id("jobs"),
        _text("tenant"),
        _text("status", 20),
        _text("model"),
        _text("training_file", 40),
        _text("validation_file", 40, nullable=True),
        _text("suffix", nullable=True),
        _number("seed"),
        _json("hyperparameters"),
        _json("method"),
        _json("metadata"),
        _text("trained_as"),
        _number("started_at", nullable=True),
        _number("finished_at", nullable=True),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        _text("adapter", None, nullable=True),
        _number("trained_tokens", nullable=True),
        _json("result", nullable=True),
        _text("error_code", nullable=True),
        _text("error_message", None, nullable=True),
    )
    _index("jobs", "tenant")
    _index("jobs", "status")


def _events() -> None:
    _table(
        "events",
        *_id("events"),
        _text("job_id", 40),
        _text("level", 8),
        _text("message", None),
        _json("data", nullable=True),
        _of_job("events"),
    )
    _index("events", "job_id")


def _checkpoints() -> None:
    _table(
        "checkpoints",
        *_id("checkpoints"),
        _text("job_id", 40),
        _number("step"),
        _json("metrics"),
        _text("adapter", None),
        _of_job("checkpoints"),
    )
    _index("checkpoints", "job_id")


def _adapters() -> None:
    _table(
        "adapters",
        _text("tenant"),
        _text("name"),
        _text("folder", None),
        _text("base"),
        _text("job_id", 40, nullable=True),
        _of_job("adapters"),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_adapters_tenant_name")),
    )
