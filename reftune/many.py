"""Many small trainings at once: N adapters on one base model, in shared batches.

Every row is edited by the adapter of its job alone, and the loss of a pass is the sum of the jobs'
mean losses, so that one backward pass gives each adapter the gradient that it would have alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, set_seed

from reftune.attached import layers_of, planners_of
from reftune.collation import PaddingCollator
from reftune.job_training import JobTraining
from reftune.jobs import Job, Prepared, prepare_jobs
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
    crew = _Crew(base_model, tokenizer, [one for one in prepared if not one.finished])
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


class _Crew:
    """The jobs that share passes at the moment, and those that wait.

    A job that has begun is in every pass until it ends, so that some are finished early, whatever
    happens to the others; then those that wait take its place. Jobs of similar length of rows begin
    together, as rows are padded to the longest, and the longest jobs first, so that no one
    is left alone at the end.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, prepared: Sequence[Prepared]
    ):
        self._base = model
        self._model: PeftModel | None = None
        self._collator = PaddingCollator(tokenizer, padding_side="right")
        self._waiting = sorted(
            prepared, key=lambda one: (one.longest.bit_length(), one.steps), reverse=True
        )
        self._working: list[JobTraining] = []
        self._begun = 0
        steps = sum(one.steps for one in prepared)
        self.bar = tqdm(
            total=steps,
            desc=f"training {len(prepared)} jobs",
            unit="step",
            dynamic_ncols=True,
            disable=not prepared,
        )

    @property
    def unfinished(self) -> bool:
        """Whether there is something to do."""
        return bool(self._working or self._waiting)

    def admit(self, rows_per_pass: int) -> bool:
        """Let jobs begin as far as there is room; say whether there are any at work."""
        room = rows_per_pass - sum(one.prepared.batch_rows for one in self._working)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one.batch_rows <= room:
                room -= one.batch_rows
                self._begin(one)
            else:
                self._waiting.append(one)
        return bool(self._working)

    def run_pass(self) -> None:
        """Run one forward and backward pass over the next batches of all jobs at work."""
        model: Any = self._model
        batches = [one.next_batch() for one in self._working]
        inputs = self._collator([row for batch in batches for row in batch.rows])
        pairs = list(zip(self._working, batches, strict=True))
        names = [one.adapter for one, batch in pairs for _ in batch.rows]
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        model(**inputs, adapter_names=names, use_cache=False).loss.backward()
        losses = planners_of(self._base)[0].losses
        values = torch.stack([losses[one.adapter] for one in self._working]).tolist()
        for (one, batch), loss in zip(pairs, values, strict=True):
            one.take(batch, loss)
        self.bar.update(sum(batch.completes for batch in batches))
        self.bar.set_postfix_str(f"loss {sum(values) / len(values):.3f}", refresh=False)

    def dismiss(self) -> list[tuple[Job, TrainingResult]]:
        """Write the adapters of the jobs that have ended, and take them off the model."""
        ended = [one for one in self._working if one.ended]
        results = [(one.prepared.job, one.finish()) for one in ended]
        self._working = [one for one in self._working if not one.ended]
        for one in ended:
            one.model.delete_adapter(one.adapter)
        if ended and self._working:
            self._activate()
        return results

    def leave(self) -> None:
        """Leave the model without adapters."""
        if self._model is not None:
            self._model.unload()

    def _begin(self, prepared: Prepared) -> None:
        adapter = f"job_{self._begun}"
        self._begun += 1
        set_seed(prepared.job.recipe.seed)  # as before an adapter that is trained alone
        if self._model is None:
            self._model = get_peft_model(self._base, prepared.config, adapter_name=adapter)
        else:
            self._model.add_adapter(adapter, prepared.config)
        self._model.train()
        self._working.append(JobTraining(prepared, self._model, adapter, self._collator))
        self._activate()

    def _activate(self) -> None:
        """Have the adapters of all jobs at work trained."""
        model: Any = self._model
        model.base_model.set_adapter([one.adapter for one in self._working])
        model.active_adapter = self._working[0].adapter  # one that is there: PEFT reads its config
