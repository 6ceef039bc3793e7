"""What the parts of the store share: the database, the clock, and pages of a list."""

import time
import zlib
from typing import Any, ClassVar, Protocol, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from reftune.server.database.connection import Database
from reftune.server.database.identifiers import is_id
from reftune.server.database.records import AdapterRecord
from reftune.server.database.remembered import Remembered
from reftune.server.errors import NotFound


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


Record = TypeVar("Record", bound=_Dataclass)

REMEMBERED = 8192  # names of adapters, also of those that a tenant does not have


# Any number that nobody else locks, see `upgrading`; the tenant's is the second half of the lock.
COUNTING = 0x7265


class Tables:
    """A part of the store. Its methods may be called by any thread; each is one transaction."""

    def __init__(self, database: Database):
        self._database = database
        self._adapters: Remembered[AdapterRecord | None] = Remembered(REMEMBERED)


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


def count_alone(session: Session, tenant: str) -> None:
    """Let nobody else count what a tenant has, in order to add to it, until the transaction's end.

    SQLite needs nothing: its transactions that write come one after the other.
    """
    if session.get_bind().dialect.name == "postgresql":
        half = zlib.crc32(tenant.encode()) - 2**31  # of two numbers of 32 bits with a sign
        session.execute(select(func.pg_advisory_xact_lock(COUNTING, half)))


def record(kind: type[Record], row: Any, **further: Any) -> Record:
    """Make a record of a row.

    Args:
        kind: dataclass of the record.
        row: has attributes of the same names.
        further: fields that are not in the row as they are.
    """
    names = [name for name in kind.__dataclass_fields__ if name not in further]
    return kind(**{name: getattr(row, name) for name in names}, **further)
