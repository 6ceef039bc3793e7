"""The folders of trained adapters, `STATE/adapters/JOB`."""

import shutil
from pathlib import Path

from reftune.server.database.identifiers import JOB, is_id
from reftune.server.database.store import Store
from reftune.server.errors import NotFound

ADAPTERS = "adapters"


def sweep_adapters(store: Store, folder: Path) -> None:
    """Remove adapters that are no models: a server died before they were, or they were deleted.

    Folders that the database knows no job of are left alone.

    Args:
        store: has the jobs and the models.
        folder: of the adapters; to be called at the start, before requests come.
    """
    known = {Path(model).name for model in store.adapter_folders()}
    for found in list(folder.iterdir()) if folder.is_dir() else ():
        if is_id(JOB, found.name) and found.name not in known and _has_job(store, found.name):
            shutil.rmtree(found, ignore_errors=True)


def _has_job(store: Store, job: str) -> bool:
    try:
        store.is_cancel_requested(job)
    except NotFound:
        return False
    return True
