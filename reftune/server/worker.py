"""Trains fine-tuning jobs on the weights that are served, between the engine's batches.

All jobs that wait are trained together, up to a number of rows per pass. A job's adapter becomes a
model when it is whole: its folder is moved into place, and then the database says so.
"""

import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from reftune.crew import Crew
from reftune.data import load_rows
from reftune.jobs import Job, Prepared, prepare_jobs
from reftune.output_folder import CONFIG, LOG_FILE, WEIGHTS
from reftune.server.database.records import JobRecord
from reftune.server.database.store import Store
from reftune.server.errors import ServerError
from reftune.server.files import UploadedFiles
from reftune.server.job_recipe import job_config, job_recipe
from reftune.serving.engine import Engine
from reftune.serving.errors import EngineError
from reftune.training import TrainingResult

LOG = logging.getLogger(__name__)
ADAPTERS, WORK = "adapters", "training"
ROWS_PER_PASS = 64
MOST_EVENTS = 100  # of the steps of one job
WAIT_SECONDS = 0.1  # until the queue is looked at again
CANCEL_SECONDS = 0.5
# While answers are given, training takes this share of the time.
SHARE = 0.3


@dataclass(eq=False)
class Task:
    """A job at work.

    Attributes:
        record: in the database.
        job: for the crew.
        prepared: the same, encoded.
        told: its last step of which there is an event.
    """

    record: JobRecord
    job: Job
    prepared: Prepared
    told: int = 0

    @property
    def trained_tokens(self) -> int:
        """Tokens of all examples, over all epochs."""
        return round(sum(map(len, self.prepared.rows["input_ids"])) * self.job.recipe.epochs)


class Worker(threading.Thread):
    """The thread that trains.

    Args:
        engine: whose model is trained upon.
        store: has the jobs.
        files: have their examples.
        state: folder of the server; adapters go to `STATE/adapters/JOB`.
    """

    def __init__(self, engine: Engine, store: Store, files: UploadedFiles, state: Path) -> None:
        super().__init__(name="worker", daemon=True)
        self.engine, self.store, self.files = engine, store, files
        self.adapters, self.work = state.resolve() / ADAPTERS, state.resolve() / WORK
        self._stopping = threading.Event()
        self._model = engine.base_for_training()
        self._crew = Crew(self._model, engine.tokenizer)
        self._tasks: dict[int, Task] = {}
        self._looked = 0.0

    def begin(self) -> None:
        """Put the jobs back that ran when an earlier server died, and start."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.store.recover()
        self.start()

    def end(self) -> None:
        """Stop after the current step; jobs that are not done begin anew with the next server."""
        self._stopping.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Train until told to stop."""
        while not self._stopping.is_set():
            try:
                self._turn()
            except EngineError as error:  # the engine is gone, and so is the server
                LOG.error("training has stopped: %s", error)
                break
            except Exception as error:
                LOG.exception("a step of training failed")
                self._fail_all(error)
        for task in self._tasks.values():
            self.store.give_back(task.record.id)
        self._crew.leave()

    def _turn(self) -> None:
        """Take in jobs, and make one step of all at work, if there are any."""
        self._take_jobs()
        if not self._crew.admit(ROWS_PER_PASS):
            self._stopping.wait(WAIT_SECONDS)
            return
        begun = time.monotonic()
        with self.engine.between_batches():
            self._crew.run_pass()
        spent = time.monotonic() - begun
        self._tell_steps()
        for job, result in self._crew.dismiss():
            self._publish(self._tasks.pop(id(job)), result)
        self._cancel()
        if self.engine.running:
            self._stopping.wait(spent * (1 - SHARE) / SHARE)

    def _take_jobs(self) -> None:
        room = ROWS_PER_PASS - sum(task.prepared.batch_rows for task in self._tasks.values())
        while room > 0 and (record := self.store.next_job()) is not None:
            try:
                task = self._task(record)
            except (ValueError, OSError, ServerError) as error:
                self.store.fail_job(record.id, "invalid_training_file", str(error))
                continue
            room -= task.prepared.batch_rows
            self._tasks[id(task.job)] = task
            self._crew.wait([task.prepared])

    def _task(self, record: JobRecord) -> Task:
        rows = self._rows(record, record.training_file)
        held = record.validation_file and self._rows(record, record.validation_file)
        config = job_config(self._model.config.get_text_config().num_hidden_layers)
        recipe = job_recipe(record.hyperparameters, len(rows), record.seed)
        job = Job(rows, self.work / record.id, config, recipe, held or None, record.id)
        model, tokenizer = self._model, self.engine.tokenizer
        [prepared] = prepare_jobs([job], model, tokenizer, ROWS_PER_PASS, "overwrite")
        return Task(record, job, prepared)

    def _rows(self, record: JobRecord, file: str) -> Dataset:
        return load_rows(self.files.path(record.tenant, file))

    def _tell_steps(self) -> None:
        for one in self._crew.working:
            task, steps = self._tasks[id(one.prepared.job)], one.prepared.steps
            due = one.step - task.told >= steps / MOST_EVENTS
            if one.step > task.told and (due or one.ended):
                task.told = one.step
                data = {"step": one.step, "total_steps": steps, "train_loss": one.loss}
                said = f"Step {one.step}/{steps}: training loss={one.loss:.4f}"
                self.store.add_event(task.record.id, "info", said, data)

    def _publish(self, task: Task, result: TrainingResult) -> None:
        """Make a trained adapter a model."""
        id, folder = task.record.id, self.adapters / task.record.id
        self.adapters.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        ready = self.work / f"{id}.ready"
        ready.mkdir()
        for name in (CONFIG, WEIGHTS, LOG_FILE):
            shutil.copy2(result.out / name, ready / name)
        os.replace(ready, folder)
        shutil.rmtree(result.out)
        figures = {"loss": result.loss, "steps": result.steps, "seconds": result.seconds}
        try:
            self.engine.check(folder)
        except ValueError as error:  # numbers that cannot be served, after a training that diverged
            shutil.rmtree(folder)
            self.store.fail_job(id, "training_failed", str(error))
            return
        record = self.store.finish_job(
            id, adapter=folder, trained_tokens=task.trained_tokens, result=figures
        )
        if record.status != "succeeded":
            shutil.rmtree(folder)
            return
        self.store.add_checkpoint(id, result.steps, {"train_loss": result.loss}, str(folder))

    def _cancel(self) -> None:
        """Drop the jobs that are not wanted any more."""
        if time.monotonic() - self._looked < CANCEL_SECONDS:
            return
        self._looked = time.monotonic()
        for key, task in list(self._tasks.items()):
            if self.store.is_cancel_requested(task.record.id):
                self._crew.drop([task.job])
                del self._tasks[key]
                shutil.rmtree(task.prepared.out, ignore_errors=True)
                self.store.cancelled(task.record.id)

    def _fail_all(self, error: Exception) -> None:
        """Give up the jobs at work: they share passes, so nobody knows whose fault it is."""
        said = f"{type(error).__name__}: {error}"
        for task in self._tasks.values():
            self.store.fail_job(task.record.id, "training_failed", said)
        self._tasks.clear()
        self._crew.leave()
        self._model = self.engine.base_for_training()
        self._crew = Crew(self._model, self.engine.tokenizer)
