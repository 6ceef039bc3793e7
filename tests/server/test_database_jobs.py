"""The store's jobs, from the queue to the adapter, on both databases."""

import math
from dataclasses import replace

import pytest

from reftune.server.database.identifiers import new_id
from reftune.server.database.records import Usage
from reftune.server.errors import BadRequest, Conflict, NotFound
from tests.server.filled import add_file, add_job, job_fields, messages


def test_a_file_stays_while_a_job_needs_it(store) -> None:
    training, validation = add_file(store, "ada"), add_file(store, "ada")
    job = store.add_job("ada", **job_fields(training.id, validation_file=validation.id))
    for file in (training, validation):
        with pytest.raises(Conflict, match=job.id):
            store.delete_file("ada", file.id)
    store.next_job()
    with pytest.raises(Conflict):
        store.delete_file("ada", training.id)
    store.fail_job(job.id, "x", "y")
    store.delete_file("ada", training.id)
    store.delete_file("ada", validation.id)
    assert store.get_job("ada", job.id).training_file == training.id


def test_a_job_is_kept_as_it_was_made(store) -> None:
    file, other = add_file(store, "ada"), add_file(store, "ada")
    fields = job_fields(
        file.id,
        id=new_id("ftjob"),
        validation_file=other.id,
        suffix="tips",
        seed=-(2**63),
        hyperparameters={"n_epochs": "auto", "lr": 1e-3, "layers": [1, 2]},
        metadata={"ein Schlüssel": "\0\ud800"},
    )
    job = store.add_job("ada", **fields)
    assert {name: getattr(job, name) for name in fields} == fields
    assert (job.tenant, job.status, job.restarts) == ("ada", "queued", 0)
    assert not job.cancel_requested
    nothing = (job.started_at, job.finished_at, job.adapter, job.result, job.error_code)
    assert nothing == (None,) * 5
    assert store.get_job("ada", job.id) == job
    assert store.usage("ada").unfinished_jobs == 1


def test_jobs_that_are_refused(store) -> None:
    file = add_file(store, "ada")
    for wrong, error, param in [
        ({"training_file": new_id("file")}, NotFound, "training_file"),
        ({"validation_file": "x"}, NotFound, "validation_file"),
        ({"suffix": "\0"}, BadRequest, "suffix"),
        ({"model": "x" * 257}, BadRequest, "model"),
        ({"seed": 2**63}, BadRequest, "seed"),
    ]:
        with pytest.raises(error) as refused:
            store.add_job("ada", **job_fields(file.id) | wrong)
        assert refused.value.param == param
    assert store.list_jobs("ada") == []


def test_pages_of_jobs(store) -> None:
    jobs = [add_job(store, "ada") for _ in range(5)][::-1]
    assert store.list_jobs("ada") == jobs
    assert store.list_jobs("ada", limit=2) == jobs[:2]
    assert store.list_jobs("ada", after=jobs[1].id, limit=2) == jobs[2:4]
    for unknown in (new_id("ftjob"), jobs[0].training_file, "\0"):
        with pytest.raises(NotFound, match="after"):
            store.list_jobs("ada", after=unknown)


def test_a_job_from_queue_to_adapter(store) -> None:
    first = add_job(store, "ada", trained_as="ft:tiny:tips:1")
    second = add_job(store, "bob")
    running = store.next_job()
    assert (running.id, running.status) == (first.id, "running")
    assert running.started_at >= running.created_at
    assert store.next_job().id == second.id
    assert store.next_job() is None
    assert store.list_adapters("ada") == []
    done = store.finish_job(
        first.id, adapter="/state/adapters/1", trained_tokens=99, result={"loss": math.nan}
    )
    assert (done.status, done.trained_tokens, done.result) == ("succeeded", 99, {"loss": math.nan})
    done = store.get_job("ada", first.id)
    assert (done.status, done.adapter, done.result) == (
        "succeeded",
        "/state/adapters/1",
        {"loss": None},
    )
    assert done.finished_at >= done.started_at
    adapter = store.find_adapter("ada", "ft:tiny:tips:1")
    assert (adapter.folder, adapter.base, adapter.job_id) == (done.adapter, "tiny", first.id)
    assert store.usage("ada") == Usage(1, 12, 0, 1)
    assert messages(store, first) == [
        f"Created fine-tuning job: {first.id}",
        "Fine-tuning job started",
        "New fine-tuned model created: ft:tiny:tips:1",
        "The job has successfully completed",
    ]


def test_a_job_that_fails(store) -> None:
    job = add_job(store, "ada")
    store.next_job()
    failed = store.fail_job(job.id, "bad_data", "line 3: \0 is no \ud800")
    assert failed == store.get_job("ada", job.id)
    assert (failed.status, failed.error_code) == ("failed", "bad_data")
    assert failed.error_message == "line 3: � is no �"
    assert failed.finished_at is not None
    event = store.list_events("ada", job.id, limit=1)[0]
    assert (event.level, event.message) == ("error", failed.error_message)


def test_what_only_a_running_job_can_do(store) -> None:
    job = add_job(store, "ada")

    def calls():
        yield lambda id: store.finish_job(id, adapter="/a", trained_tokens=1, result={})
        yield lambda id: store.fail_job(id, "x", "y")
        yield store.cancelled
        yield store.give_back

    for call in calls():
        with pytest.raises(Conflict, match='"queued"; expected "running"'):
            call(job.id)
    store.next_job()
    store.fail_job(job.id, "x", "y")
    for call in calls():
        with pytest.raises(Conflict, match='"failed"'):
            call(job.id)
        for unknown in (new_id("ftjob"), "\0"):
            with pytest.raises(NotFound):
                call(unknown)
    assert store.list_adapters("ada") == []
    assert len(messages(store, job)) == 3


def test_cancelling(store) -> None:
    waiting, running, ready = (add_job(store, "ada", trained_as=f"x{n}") for n in range(3))
    assert store.request_cancel("ada", waiting.id).status == "cancelled"
    assert [store.next_job().id, store.next_job().id] == [running.id, ready.id]
    assert not store.is_cancel_requested(running.id)
    for _ in range(2):
        asked = store.request_cancel("ada", running.id)
        assert (asked.status, asked.cancel_requested) == ("running", True)
    assert store.is_cancel_requested(running.id)
    assert not store.is_cancel_requested(ready.id)
    over = store.cancelled(running.id)
    assert (over.status, over.cancel_requested) == ("cancelled", False)
    assert over.finished_at is not None
    # Asked for when the training has ended, but not yet been told: it counts.
    store.request_cancel("ada", ready.id)
    late = store.finish_job(ready.id, adapter="/a", trained_tokens=1, result={})
    assert (late.status, late.adapter) == ("cancelled", None)
    assert store.list_adapters("ada") == []
    for job in (waiting, running, ready):
        with pytest.raises(Conflict, match="has cancelled already") as refused:
            store.request_cancel("ada", job.id)
        assert refused.value.status == 400
        assert messages(store, job)[-1] == "The job was cancelled"
    with pytest.raises(NotFound):
        store.is_cancel_requested(new_id("ftjob"))


def test_recovery(store) -> None:
    over, waiting = add_job(store, "ada"), add_job(store, "ada")
    store.next_job()
    store.fail_job(over.id, "x", "y")
    untouched = [store.get_job("ada", over.id), store.get_job("ada", waiting.id)]
    assert store.recover() == []
    assert [store.get_job("ada", over.id), store.get_job("ada", waiting.id)] == untouched

    for restart in range(1, 4):
        assert store.next_job().id == waiting.id
        [job] = store.recover()
        assert (job.id, job.status, job.restarts) == (waiting.id, "queued", restart)
        assert messages(store, waiting)[-1].endswith(f"it begins anew ({restart}/3)")
    store.next_job()
    [job] = store.recover()
    assert (job.status, job.error_code) == ("failed", "server_died")
    assert "4 times" in job.error_message
    assert store.next_job() is None


def test_recovery_of_a_job_that_was_to_be_cancelled(store) -> None:
    job = add_job(store, "ada")
    store.next_job()
    store.request_cancel("ada", job.id)
    assert [one.status for one in store.recover()] == ["cancelled"]


def test_a_job_that_is_given_back_has_not_failed(store) -> None:
    jobs = [add_job(store, "ada"), add_job(store, "ada")]
    for _ in range(5):
        assert store.next_job().id == jobs[0].id
        assert store.give_back(jobs[0].id).status == "queued"
    assert store.get_job("ada", jobs[0].id).restarts == 0
    store.next_job()
    store.request_cancel("ada", jobs[0].id)
    assert store.give_back(jobs[0].id).status == "cancelled"


def test_events_and_checkpoints(store) -> None:
    job, other = add_job(store, "ada"), add_job(store, "ada")
    event = store.add_event(job.id, "info", "Step 1", {"train_loss": 0.5, "bad": [math.inf, 1]})
    assert store.list_events("ada", job.id, limit=1) == [
        replace(event, data={"train_loss": 0.5, "bad": [None, 1]})
    ]
    more = [store.add_event(job.id, "warn", f"Step {n}\0") for n in range(2, 30)][::-1]
    assert more[0].message == "Step 29�"
    assert store.list_events("ada", job.id) == more[:20]
    assert store.list_events("ada", job.id, after=more[19].id, limit=8) == more[20:]
    first = store.add_checkpoint(job.id, 10, {"train_loss": 1.5}, "/a/10")
    second = store.add_checkpoint(job.id, 20, {"train_loss": math.nan}, "/a/20")
    second = replace(second, metrics={"train_loss": None})
    assert store.list_checkpoints("ada", job.id) == [second, first]
    assert store.list_checkpoints("ada", job.id, after=second.id) == [first]
    assert store.list_checkpoints("ada", other.id) == []
    assert len(store.list_events("ada", other.id)) == 1
    # A row of another job is no place to go on from.
    with pytest.raises(NotFound, match="after"):
        store.list_events("ada", other.id, after=event.id)
    with pytest.raises(NotFound, match="after"):
        store.list_checkpoints("ada", other.id, after=first.id)
    for unknown in (new_id("ftjob"), "\0"):
        with pytest.raises(NotFound):
            store.add_event(unknown, "info", "x")
        with pytest.raises(NotFound):
            store.add_checkpoint(unknown, 1, {}, "/x")


def test_adapters(store) -> None:
    job = add_job(store, "ada")
    first = store.add_adapter("ada", "ft:tiny:a:1", "/a/1", "tiny", job.id)
    second = store.add_adapter("ada", "ft:tiny:b:2", "/a/2", "tiny")
    assert (first.folder, first.base, first.job_id) == ("/a/1", "tiny", job.id)
    assert store.list_adapters("ada") == [first, second]
    assert store.find_adapter("ada", first.name) == first
    replaced = store.add_adapter("ada", "ft:tiny:a:1", "/a/3", "other")
    assert store.find_adapter("ada", first.name) == replaced
    assert (replaced.folder, replaced.base, replaced.job_id) == ("/a/3", "other", None)
    assert store.list_adapters("ada") == [replaced, second]
    assert store.adapter_folders() == {"/a/2", "/a/3"}
    assert store.delete_adapter("ada", first.name) == replaced
    assert store.list_adapters("ada") == [second]
    for call in (store.find_adapter, store.delete_adapter):
        for unknown in (first.name, "", "\0", "\ud800", "x" * 10_000):
            with pytest.raises(NotFound) as refused:
                call("ada", unknown)
            assert refused.value.code == "model_not_found"
    with pytest.raises(NotFound):
        store.add_adapter("ada", "x", "/x", "tiny", new_id("ftjob"))
    with pytest.raises(BadRequest):
        store.add_adapter("ada", "\0", "/x", "tiny")
