"""Many small trainings at once: N adapters on one base model, in shared batches."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from reftune.attached import layers_of
from reftune.crew import Crew
from reftune.jobs import Job, prepare_jobs
from reftune.output_folder import Existing
from reftune.stopping import StopAtStepEnd, TrainingInterrupted
from reftune.training import TrainingResult, result_of

ROWS_PER_PASS = 64


def train_many(
    base_model: Any,
    tokenizer: PreTrainedTokenizerBase,
    jobs: Sequence[Job],
    rows_per_pass: int = ROWS_PER_PASS,
    existing: Existing = "refuse",
    on_end: Callable[[Job, TrainingResult], None] | None = None,
) -> list[TrainingResult]:
    """Train the adapters of all jobs, each as `reftune.training.train` would alone.

    Initial weights, order of rows, schedule and losses of a job are those of that training, and
    its adapter is the same to float tolerance. With dropout it is not: jobs draw from one stream of
    random numbers. Rows are padded on the right, so that a row's tokens have the positions
    that they have unpadded; a model that learned its positions sees others in a batch that is
    padded on the left.

    SIGINT and SIGTERM end all after the current pass. Jobs that have ended have their adapter by
    then; ``existing="resume"`` passes over them, and trains the others from their beginning.

    Args:
        base_model: a causal language model without adapters. It is frozen, and otherwise the same
            afterwards.
        tokenizer: of the same model.
        jobs: what to train. No two may have one folder.
        rows_per_pass: rows of a forward pass at most, so that memory is that of one training with
            this batch size. A job's own batches are never split.
        existing: what to do if a job's folder holds something, see `reftune.output_folder`.
        on_end: called with each job that has ended, and its result.

    Returns:
        The results, in the order of the jobs.

    Raises:
        ValueError: the model has adapters, or a job cannot be run; says which. Nothing was written.
        OSError: a job's folder holds what it should not; says which. Nothing was written.
        TrainingInterrupted: a signal came.
    """
    if layers_of(base_model):
        raise ValueError("the model has adapters already: expected a base model without")
    prepared = prepare_jobs(jobs, base_model, tokenizer, rows_per_pass, existing)
    results = {
        id(one.job): result_of(one.out, len(one.rows), one.dropped)
        for one in prepared
        if one.finished
    }
    was_training = base_model.training
    crew = Crew(base_model, tokenizer, [one for one in prepared if not one.finished])
    stop = StopAtStepEnd()
    try:
        with stop.on_signals(), crew.bar:
            while crew.admit(rows_per_pass):
                crew.run_pass()
                for job, result in crew.dismiss():
                    results[id(job)] = result
                    if on_end:
                        on_end(job, result)
                if stop.asked and crew.unfinished:
                    raise TrainingInterrupted(f"{len(results)} of {len(jobs)} jobs are finished")
    finally:
        crew.leave()
        base_model.train(was_training)
    return [results[id(job)] for job in jobs]
