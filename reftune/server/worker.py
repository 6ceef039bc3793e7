"""Trains fine-tuning jobs on the weights that are served, between the engine's batches.

All jobs that wait are trained together, up to a number of rows per pass. A job's adapter becomes a
model when it is whole: its folder is moved into place, and then the database says so.
"""

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reftune.crew import Crew
from reftune.server.database.records import JobRecord
from reftune.server.database.store import Store
from reftune.server.errors import Conflict, NotFound, Unavailable
from reftune.server.files import UploadedFiles
from reftune.server.task import ROWS_PER_PASS, Task, make_task, put_in_place
from reftune.server.trained_folders import ADAPTERS, sweep_adapters
from reftune.serving.engine import Engine
from reftune.serving.errors import EngineError
from reftune.training import TrainingResult

LOG = logging.getLogger(__name__)
WORK = "training"
MOST_EVENTS = 100  # of the steps of one job
WAIT_SECONDS = 0.1  # until the queue is looked at again
RETRY_SECONDS = 1.0  # until the database is asked again that did not answer
CANCEL_SECONDS = 0.5
# While answers are given, training takes this share of the time.
SHARE = 0.3


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
        self._ends: deque[Callable[[], object]] = deque()  # of jobs that the database is to hear of
        self._looked = 0.0

    def begin(self) -> None:
        """Clear up after an earlier server, put back the jobs that it was at, and start."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.store.recover()
        sweep_adapters(self.store, self.adapters)
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
            except Unavailable as error:
                LOG.error("the worker waits: %s", error)
                self._stopping.wait(RETRY_SECONDS)
            except Exception as error:
                LOG.exception("a step of training failed")
                self._fail_all(error)
        self._leave()

    def _turn(self) -> None:
        """Take in jobs, and make one step of all at work, if there are any."""
        self._settle()
        self._take_jobs()
        if not self._crew.admit(ROWS_PER_PASS):
            self._stopping.wait(WAIT_SECONDS)
            return
        with self.engine.between_batches():
            begun = time.monotonic()
            self._crew.run_pass()
            spent = time.monotonic() - begun
        self._tell_steps()
        for job, result in self._crew.dismiss():
            self._publish(self._tasks.pop(id(job)), result)
        self._settle()
        self._cancel()
        if self.engine.running:
            self._stopping.wait(spent * (1 - SHARE) / SHARE)

    def _take_jobs(self) -> None:
        room = ROWS_PER_PASS - sum(task.prepared.batch_rows for task in self._tasks.values())
        while room > 0 and (record := self.store.next_job()) is not None:
            try:
                base = self._model, self.engine.tokenizer
                task = make_task(record, self.files, self.work, base, self.engine.max_length)
            except Exception as error:  # whatever it is, it must not end the other jobs
                LOG.warning("%s cannot be trained: %s", record.id, type(error).__name__)
                self._fail(record, "invalid_training_file", str(error))
                self._settle()
                continue
            room -= task.prepared.batch_rows
            self._tasks[id(task.job)] = task
            self._crew.wait([task.prepared])

    def _tell_steps(self) -> None:
        for one in self._crew.working:
            task, steps = self._tasks[id(one.prepared.job)], one.prepared.steps
            if one.ended or one.step - task.told >= max(1, steps / MOST_EVENTS):
                task.told = one.step
                data = {"step": one.step, "total_steps": steps, "train_loss": one.loss}
                said = f"Step {one.step}/{steps}: training loss={one.loss:.4f}"
                try:
                    self.store.add_event(task.record.id, "info", said, data)
                except Unavailable as error:  # the training goes on without it
                    LOG.warning("a step is not recorded: %s", error)

    def _publish(self, task: Task, result: TrainingResult) -> None:
        """Make a trained adapter a model."""
        try:
            folder = put_in_place(result.out, self.adapters)
            self.engine.check(folder)
        except (ValueError, OSError) as error:
            self._drop_folders(task.record)
            self._fail(task.record, "training_failed", str(error))
            return
        self._ends.append(partial(self._finish, task, result, folder))

    def _finish(self, task: Task, result: TrainingResult, folder: Path) -> None:
        id = task.record.id
        figures = {"loss": result.loss, "steps": result.steps, "seconds": result.seconds}
        record = self.store.finish_job(
            id,
            adapter=folder,
            trained_tokens=task.trained_tokens,
            result=figures,
            step=result.steps,
        )
        if record.status != "succeeded":
            self._drop_folders(record)

    def _fail(self, record: JobRecord, code: str, message: str) -> None:
        self._ends.append(partial(self.store.fail_job, record.id, code, message))

    def _settle(self) -> None:
        """Tell the database how jobs ended; what it cannot take now is told again."""
        while self._ends:
            try:
                self._ends[0]()
            except (NotFound, Conflict) as error:
                LOG.error("a job's end is not recorded: %s", error)
            self._ends.popleft()

    def _cancel(self) -> None:
        """Drop the jobs that are not wanted any more."""
        if time.monotonic() - self._looked < CANCEL_SECONDS:
            return
        self._looked = time.monotonic()
        for key, task in list(self._tasks.items()):
            if self.store.is_cancel_requested(task.record.id):
                self._crew.drop([task.job])
                del self._tasks[key]
                self._drop_folders(task.record)
                self._ends.append(partial(self.store.cancelled, task.record.id))
        self._settle()

    def _drop_folders(self, record: JobRecord) -> None:
        """Remove all that a job has written."""
        for folder in (self.work / record.id, self.adapters / record.id):
            shutil.rmtree(folder, ignore_errors=True)
            self.engine.forget(folder)

    def _fail_all(self, error: Exception) -> None:
        """Give up the jobs at work: they share passes, so nobody knows whose fault it is."""
        for task in self._tasks.values():
            self._drop_folders(task.record)
            self._fail(task.record, "training_failed", f"{type(error).__name__}: {error}")
        self._tasks.clear()
        self._model = self.engine.base_for_training()
        self._crew = Crew(self._model, self.engine.tokenizer)

    def _leave(self) -> None:
        """Put the jobs back that are not done, and remove what there is of them."""
        for task in self._tasks.values():
            self._ends.append(partial(self.store.give_back, task.record.id))
        self._tasks.clear()
        try:
            self._settle()
        except Unavailable as error:  # the next server recovers them
            LOG.error("jobs were not put back: %s", error)
        shutil.rmtree(self.work, ignore_errors=True)
