"""A fine-tuning job made ready to be trained, and its adapter put where it is served from."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from reftune.data import load_rows
from reftune.jobs import Job, Prepared, prepare_jobs
from reftune.output_folder import CONFIG, LOG_FILE, WEIGHTS
from reftune.server.database.records import JobRecord
from reftune.server.files import UploadedFiles
from reftune.server.job_recipe import job_config, job_recipe

ROWS_PER_PASS = 64


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


def make_task(
    record: JobRecord,
    files: UploadedFiles,
    work: Path,
    base: tuple[Any, PreTrainedTokenizerBase],
    max_length: int,
) -> Task:
    """Read and encode the examples of a job; nothing is written.

    Args:
        record: of the job.
        files: have its examples.
        work: folder in which the job gets one of its own.
        base: the model and its tokenizer.
        max_length: of what can be served, in tokens.

    Raises:
        ValueError: an example cannot be learned as it is, because it has no answer, is too long or
            is refused by the chat template.
        ServerError: the file is gone.
    """

    def rows_of(file: str) -> Dataset:
        path = files.path(record.tenant, file)
        try:
            return load_rows(path)
        except ValueError as error:  # a tenant knows the file by its id alone
            raise ValueError(str(error).replace(str(path), file)) from error

    model, tokenizer = base
    rows = rows_of(record.training_file)
    held = None if record.validation_file is None else rows_of(record.validation_file)
    config = job_config(model.config.get_text_config().num_hidden_layers)
    recipe = job_recipe(record.hyperparameters, len(rows), record.seed, max_length)
    job = Job(rows, work / record.id, config, recipe, held, record.id)
    [prepared] = prepare_jobs([job], model, tokenizer, ROWS_PER_PASS, "overwrite")
    _check(rows, prepared.rows, recipe.max_length, "training")
    if held is not None and prepared.eval_rows is not None:
        _check(held, prepared.eval_rows, recipe.max_length, "validation")
    return Task(record, job, prepared)


def _check(rows: Dataset, encoded: Dataset, max_length: int, which: str) -> None:
    """Refuse what `reftune.encoding` would leave out, or cut to the longest that is allowed."""
    if len(encoded) < len(rows):
        raise ValueError(
            f"{len(rows) - len(encoded)} of {len(rows)} {which} examples have no prompt or no "
            "answer; expected both"
        )
    for number, ids in enumerate(encoded["input_ids"], start=1):
        if len(ids) >= max_length:
            raise ValueError(
                f"{which} example {number} has {max_length} tokens or more; expected fewer, the "
                "answer included"
            )


def put_in_place(trained: Path, adapters: Path) -> Path:
    """Move a trained adapter to where it is served from, whole or not at all.

    Args:
        trained: folder that a training wrote; it is gone afterwards.
        adapters: folder that gets one of the same name.
    """
    folder, ready = adapters / trained.name, trained.with_name(f"{trained.name}.ready")
    adapters.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # of a server that died before it was a model
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir()
    for name in (CONFIG, WEIGHTS, LOG_FILE):
        os.replace(trained / name, ready / name)
    os.replace(ready, folder)
    shutil.rmtree(trained)
    return folder
