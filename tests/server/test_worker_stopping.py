"""A worker that stops, is killed or loses its database leaves no job half done."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from reftune.server import worker as worker_module
from reftune.server.database.records import OVER
from reftune.server.errors import Unavailable
from tests.server.filled import messages
from tests.server.trained import Desk, assert_as_alone, examples

ROOT = Path(__file__).resolve().parents[2]


def test_a_database_that_is_away_for_a_while_loses_no_job(desk, monkeypatch) -> None:
    monkeypatch.setattr(worker_module, "RETRY_SECONDS", 0.01)
    away = dict.fromkeys(["add_event", "finish_job", "next_job"], 2)

    def call(name: str, method: Callable, *args, **given):
        away[name] -= 1
        if away[name] >= 0:
            raise Unavailable("not now")
        return method(*args, **given)

    for name in away:
        monkeypatch.setattr(desk.store, name, partial(call, name, getattr(desk.store, name)))
    job = desk.add(examples(3))
    desk.worker.begin()
    assert desk.over(job).status == "succeeded"
    assert max(away.values()) < 0
    assert desk.written() == {job.id}


def test_a_server_that_stops_puts_jobs_back_and_the_next_one_ends_them(desk, tmp_path) -> None:
    job = desk.add(examples(4), hyperparameters={"n_epochs": 50})
    desk.worker.begin()
    desk.stepped(job)
    desk.worker.end()
    assert desk.get(job).status == "queued"
    assert messages(desk.store, job)[-1] == "The server stops; the job will begin anew"
    assert not desk.written()
    desk.worker = desk.new_worker()
    desk.worker.begin()
    assert desk.over(job).status == "succeeded"
    assert_as_alone(desk, job, tmp_path / "alone")


@pytest.mark.long
def test_a_server_that_is_killed_leaves_nothing_half_there(engine, tmp_path) -> None:
    state, count = tmp_path / "state", 8
    command = [sys.executable, "-m", "tests.server.killed_trainer", str(state), str(count)]
    trainer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout.readline() == "begun\n"
    time.sleep(random.random() * 0.3)
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.communicate()
    desk = Desk(engine, state)
    try:
        jobs = desk.store.list_jobs("ada", limit=100)
        done = {job.id for job in jobs if job.status == "succeeded"}
        died = [job for job in jobs if job.status == "running"]
        assert 1 <= len(done) < count
        assert {adapter.job_id for adapter in desk.store.list_adapters("ada")} == done
        # As if it had died just before, and just after, an adapter was a model.
        (state / "adapters" / died[0].id).mkdir(exist_ok=True)
        gone = desk.store.list_adapters("ada")[0]
        desk.store.delete_adapter("ada", gone.name)
        kept = state / "adapters" / "of another database"
        kept.mkdir()
        desk.worker.begin()
        for job in jobs:
            assert desk.over(job).status == "succeeded"
        ids = {job.id for job in jobs} - {gone.job_id}
        assert desk.written() == {*ids, kept.name}
        for adapter in desk.store.list_adapters("ada"):
            engine.check(Path(adapter.folder))
        for job in died:
            assert any("The server died" in text for text in messages(desk.store, job))
            assert_as_alone(desk, job, tmp_path / job.id)
        assert all(job.status in OVER for job in desk.store.list_jobs("ada", limit=100))
    finally:
        desk.close()
