"""Limits on what a tenant has hold against requests that come at the same time."""

import io

import pytest

from reftune.server.errors import BadRequest
from reftune.server.files import UploadedFiles
from tests.server.filled import add_file, job_fields
from tests.server.test_database_at_once import in_threads

THREADS, MOST = 12, 3


def codes_of(work) -> list[str]:
    def once() -> str:
        try:
            work()
        except BadRequest as error:
            return error.code
        return "added"

    return sorted(in_threads(THREADS, once))


def test_files(store, tmp_path) -> None:
    files = UploadedFiles(store, tmp_path / "files")

    def add(tenant: str = "ada") -> None:
        files.add(tenant, "x.jsonl", "fine-tune", io.BytesIO(b"{}"), 100, most=MOST)

    assert codes_of(add) == ["added"] * MOST + ["file_limit_exceeded"] * (THREADS - MOST)
    assert store.usage("ada").files == MOST
    assert len(list((tmp_path / "files").iterdir())) == MOST
    add("eve")
    store.delete_file("ada", store.list_files("ada")[0].id)
    assert codes_of(add) == ["added"] + ["file_limit_exceeded"] * (THREADS - 1)


def test_jobs(store) -> None:
    file = {tenant: add_file(store, tenant).id for tenant in ("ada", "eve")}

    def add(tenant: str = "ada") -> str:
        return store.add_job(tenant, MOST, **job_fields(file[tenant])).id

    assert codes_of(add) == ["added"] * MOST + ["job_limit_exceeded"] * (THREADS - MOST)
    assert len(store.list_jobs("ada")) == MOST
    add("eve")
    with pytest.raises(BadRequest, match="you have 3 jobs that are not over, and may have 3"):
        add()
    store.request_cancel("ada", store.list_jobs("ada")[0].id)
    assert codes_of(add) == ["added"] + ["job_limit_exceeded"] * (THREADS - 1)
