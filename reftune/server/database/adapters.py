"""Adapters that belong to a tenant."""

from pathlib import Path
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from reftune.server.database.identifiers import check_text, is_storable
from reftune.server.database.jobs import job_row
from reftune.server.database.models import Adapter
from reftune.server.database.records import AdapterRecord
from reftune.server.database.tables import Tables, now, record, visible
from reftune.server.errors import NotFound


class AdapterTable(Tables):
    """The adapters of the tenants; each has names of its own."""

    def add_adapter(
        self, tenant: str, name: str, folder: str | Path, base: str, job_id: str | None = None
    ) -> AdapterRecord:
        """Add an adapter; one of the same tenant and name is replaced, with no moment without it.

        Args:
            tenant: whom it belongs to.
            name: the model name it is asked for by.
            folder: that it is in, whole; an absolute path.
            base: name of its base model.
            job_id: the tenant's job that made it, if one did.

        Raises:
            NotFound: the tenant has no such job.
            BadRequest: a name that cannot be stored.
        """
        check_text("name", name, 256)
        check_text("base", base, 256)
        with self._adapters.changing(), self._database.writing() as session:
            if job_id is not None:
                job_row(session, tenant, job_id)
            put_adapter(session, tenant, name, str(folder), base, job_id)
            return record(AdapterRecord, session.scalars(_named(tenant, name)).one())

    def find_adapter(self, tenant: str, name: str) -> AdapterRecord:
        """Return an adapter. It is remembered, because every request for one asks for it.

        Raises:
            NotFound: the tenant has none of this name.
        """

        def read() -> AdapterRecord | None:
            with self._database.reading() as session:
                adapter = _row(session, tenant, name)
                return None if adapter is None else record(AdapterRecord, adapter)

        adapter = self._adapters.get((tenant, name), read)
        if adapter is None:
            raise _unknown(name)
        return adapter

    def list_adapters(self, tenant: str) -> list[AdapterRecord]:
        """Return all adapters of a tenant, the oldest first."""
        with self._database.reading() as session:
            query = visible(tenant, Adapter).order_by(Adapter.seq)
            return [record(AdapterRecord, adapter) for adapter in session.scalars(query)]

    def delete_adapter(self, tenant: str, name: str) -> AdapterRecord:
        """Delete an adapter's row; its folder is the caller's to remove, afterwards.

        Raises:
            NotFound: the tenant has none of this name.
        """
        with self._adapters.changing(), self._database.writing() as session:
            adapter = _row(session, tenant, name, lock=True)
            if adapter is None:
                raise _unknown(name)
            session.delete(adapter)
            return record(AdapterRecord, adapter)

    def adapter_folders(self) -> set[str]:
        """Return the folders of all tenants' adapters, to find folders that belong to none."""
        with self._database.reading() as session:
            return set(session.scalars(select(Adapter.folder)))


def put_adapter(
    session: Session, tenant: str, name: str, folder: str, base: str, job_id: str | None
) -> None:
    """Add an adapter, or replace the one of the same tenant and name."""
    values = {"folder": folder, "base": base, "job_id": job_id, "created_at": now()}
    insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    statement = insert[session.get_bind().dialect.name](Adapter)
    session.execute(
        statement.values(tenant=tenant, name=name, **values).on_conflict_do_update(
            index_elements=["tenant", "name"], set_=values
        )
    )


def _row(session: Session, tenant: str, name: str, lock: bool = False) -> Adapter | None:
    query = _named(tenant, name)
    if lock:
        query = query.with_for_update()
    return session.scalar(query) if is_storable(name) else None


def _named(tenant: str, name: str) -> Select[Any]:
    return visible(tenant, Adapter).where(Adapter.name == name)


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no model {name!r}", "model", "model_not_found")
