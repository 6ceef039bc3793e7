"""A server that is killed in the middle of anything leaves nothing half there."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reftune.server.database.records import OVER
from reftune.server.database.store import Store
from reftune.server.files import UploadedFiles
from tests.server.filled import messages
from tests.server.killed_writer import CONTENT

ROOT = Path(__file__).resolve().parents[2]


def check_whole(store: Store, folder: Path) -> None:
    """Every step of `killed_writer` was made as a whole, or not at all."""
    jobs = {job.id: job for job in store.list_jobs("ada", limit=100_000)}
    adapters = {adapter.job_id: adapter for adapter in store.list_adapters("ada")}
    succeeded = {id for id, job in jobs.items() if job.status == "succeeded"}
    assert set(adapters) == succeeded
    assert len(jobs) - len(succeeded) <= 1
    for id, job in jobs.items():
        happened = messages(store, job)
        assert happened[0] == f"Created fine-tuning job: {id}"
        assert (happened[-1] == "The job has successfully completed") == (id in succeeded)
        if id in succeeded:
            assert len(happened) == 5
            assert (job.adapter, job.trained_as) == (adapters[id].folder, adapters[id].name)
    for file in store.list_files("ada"):
        content = UploadedFiles(store, folder).path("ada", file.id)
        assert content.read_bytes() == CONTENT


@pytest.mark.long
def test_a_killed_server_starts_again(database_url, tmp_path) -> None:
    folder = tmp_path / "files"
    command = [sys.executable, "-m", "tests.server.killed_writer", str(folder), database_url]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "begun\n"
    time.sleep(random.random() * 0.2)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL

    stray = folder / "file-AAAAAAAAAAAAAAAAAAAAAAAA.partial"
    stray.write_text("half of")
    store = Store(database_url)
    check_whole(store, folder)
    running = [job.id for job in store.list_jobs("ada", limit=100_000) if job.status == "running"]
    assert [job.id for job in store.recover()] == running
    for id in running:
        assert store.get_job("ada", id).status == "queued"
    assert stray.name in UploadedFiles(store, folder).sweep()
    left = {path.stem for path in folder.iterdir()}
    assert left == store.file_ids()
    # It goes on where it was.
    while (job := store.next_job()) is not None:
        store.finish_job(job.id, adapter="/a", trained_tokens=1, result={})
    assert all(job.status in OVER for job in store.list_jobs("ada", limit=100_000))
    store.close()
