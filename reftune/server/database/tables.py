"""What the parts of the store share: the database, the clock, and pages of a list."""

import time
from typing import Any, ClassVar, Protocol, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from reftune.server.database.connection import Database
from reftune.server.database.identifiers import is_id
from reftune.server.errors import NotFound


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


Record = TypeVar("Record", bound=_Dataclass)


class Tables:
    """A part of the store. Its methods may be called by any thread; each is one transaction."""

    def __init__(self, database: Database):
        self._database = database


def now() -> int:
    """Return the time in whole seconds since 1970."""
    return int(time.time())


def page(
    session: Session, rows: Select[Any], table: Any, kind: str, after: str | None, limit: int
) -> list[Any]:
    """Return rows, the newest first.

    Args:
        session: that reads.
        rows: a query for those that may be seen.
        table: whose rows they are.
        kind: of their ids.
        after: id of the last row of the page before; None for the first page.
        limit: at most so many, 1 or more.

    Raises:
        NotFound: there is no row ``after`` among those that may be seen.
    """
    if after is not None:
        # Looked for among the rows that may be seen: an id of somebody else's is no id.
        known = is_id(kind, after)
        row = session.scalar(rows.where(table.id == after)) if known else None
        if row is None:
            raise NotFound(f'after "{after}": there is no such {kind}', "after")
        rows = rows.where(table.seq < row.seq)
    return list(session.scalars(rows.order_by(table.seq.desc()).limit(limit)))


def visible(tenant: str, table: Any) -> Select[Any]:
    """Return a query for the rows of a tenant."""
    return select(table).where(table.tenant == tenant)


def record(kind: type[Record], row: Any, **further: Any) -> Record:
    """Make a record of a row.

    Args:
        kind: dataclass of the record.
        row: has attributes of the same names.
        further: fields that are not in the row as they are.
    """
    names = [name for name in kind.__dataclass_fields__ if name not in further]
    return kind(**{name: getattr(row, name) for name in names}, **further)
