"""The store under many threads at once, and without its database."""

import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from reftune.server.database.connection import Database
from reftune.server.database.store import Store
from reftune.server.errors import Conflict, NotFound, Unavailable
from tests.server.filled import add_file, add_job, job_fields


def in_threads(count: int, work) -> list:
    """Call ``work`` in many threads at once; return what they returned."""
    results, errors, start = [], [], threading.Barrier(count)

    def run() -> None:
        try:
            start.wait()
            results.append(work())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return results


def test_two_workers_never_get_the_same_job(store) -> None:
    expected = [add_job(store, "ada").id for _ in range(30)]

    def take() -> list[str]:
        taken = []
        while (job := store.next_job()) is not None:
            taken.append(job.id)
        return taken

    taken = in_threads(4, take)
    assert sorted(id for one in taken for id in one) == sorted(expected)
    for one in taken:
        assert one == sorted(one, key=expected.index)
    for id in expected:
        assert len(store.list_events("ada", id)) == 2


def test_writers_and_readers_at_once(store) -> None:
    job = add_job(store, "ada")

    def work() -> None:
        for number in range(10):
            store.add_adapter("ada", "the one", f"/a/{number}", "tiny")
            store.add_event(job.id, "info", "x")
            assert len(store.list_adapters("ada")) == 1
            store.create_key("ada", frozenset(["chat"]))

    in_threads(6, work)
    assert len(store.list_events("ada", job.id, limit=1000)) == 61
    assert len(store.list_keys()) == 60


def test_a_job_and_the_deletion_of_its_file_at_once(store) -> None:
    for _ in range(10):
        file = add_file(store, "ada")

        def make(file=file) -> str:
            try:
                store.add_job("ada", **job_fields(file.id))
            except NotFound:
                return "no job"
            return "job"

        def delete(file=file) -> str:
            try:
                store.delete_file("ada", file.id)
            except Conflict:
                return "file"
            return "no file"

        turns = iter([make, delete])
        lock = threading.Lock()

        def either(turns=turns, lock=lock) -> str:
            with lock:
                turn = next(turns)
            return turn()

        assert set(in_threads(2, either)) in ({"job", "file"}, {"no job", "no file"})


def test_a_call_that_fails_in_the_middle_changes_nothing(store, monkeypatch) -> None:
    job = add_job(store, "ada")
    store.next_job()
    before = store.get_job("ada", job.id), store.list_events("ada", job.id)

    def fail(*_) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr("reftune.server.database.runs.end", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        store.finish_job(job.id, adapter="/a", trained_tokens=1, result={})
    assert (store.get_job("ada", job.id), store.list_events("ada", job.id)) == before
    assert store.list_adapters("ada") == []


def test_a_database_that_another_program_keeps_locked(database_url, monkeypatch, caplog) -> None:
    monkeypatch.setattr("reftune.server.database.connection.WAIT_SECONDS", 0.05)
    store = Store(database_url)
    job = add_job(store, "ada")
    with closing(Database(database_url)) as other, other.connected() as locking:
        locking.execute(text("UPDATE jobs SET seed = 8"))
        with pytest.raises(Unavailable) as refused:
            store.request_cancel("ada", job.id)
        assert refused.value.status == 503
        assert store.get_job("ada", job.id) == job  # readers do not wait
    assert job.id not in caplog.text
    assert store.request_cancel("ada", job.id).seed == 8
    store.close()


def test_a_database_that_was_restarted(store) -> None:
    if "postgresql" not in str(store._database.engine.url):
        pytest.skip("SQLite has no connection that could break")
    job = add_job(store, "ada")
    url = store._database.engine.url.render_as_string()
    with closing(Database(url)) as other, other.connected() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database()"
        ended = f"SELECT pg_terminate_backend(pid) {others} AND pid <> pg_backend_pid()"
        assert list(connection.execute(text(ended)))
    assert store.get_job("ada", job.id) == job


def test_one_server_for_one_database(database_url) -> None:
    first, second = Store(database_url), Store(database_url)
    first.keep_alone()
    if "postgresql" in database_url:
        with pytest.raises(BlockingIOError, match=r'database "postgresql.*" is used by another'):
            second.keep_alone()
    first.close()  # whatever the pool keeps
    second.keep_alone()
    assert not second.has_keys()  # which needs a connection of its own
    second.close()


def test_a_database_that_is_gone(store, caplog) -> None:
    job = add_job(store, "ada", suffix="hidden")
    url = store._database.engine.url
    store.close()
    if url.get_backend_name() == "sqlite":
        Path(url.database).parent.rename(f"{Path(url.database).parent}-gone")
    else:
        other = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with other.connect() as connection:
            connection.execute(text(f"DROP DATABASE {url.database} WITH (FORCE)"))
        other.dispose()
    for call in (lambda: store.get_job("ada", job.id), lambda: add_job(store, "ada")):
        with pytest.raises(Unavailable, match="does not answer"):
            call()
    assert "does not answer" in caplog.text
    assert "hidden" not in caplog.text
