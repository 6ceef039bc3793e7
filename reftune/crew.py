"""Jobs that share forward and backward passes, while others come and go."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, set_seed

from reftune.attached import planners_of
from reftune.collation import PaddingCollator
from reftune.job_training import JobTraining
from reftune.jobs import Job, Prepared
from reftune.training import TrainingResult


class Crew:
    """The jobs that share passes at the moment, and those that wait.

    Every row is edited by the adapter of its job alone, and the loss of a pass is the sum of the
    jobs' mean losses, so that one backward pass gives each adapter the gradient that it would have
    alone.

    A job that has begun is in every pass until it ends, so that some are finished early, whatever
    happens to the others; then those that wait take its place. Jobs of similar length of rows begin
    together, as rows are padded to the longest, and the longest jobs first, so that no one
    is left alone at the end.

    Args:
        model: a causal language model without adapters.
        tokenizer: of the same model.
        prepared: the jobs, see `reftune.jobs.prepare_jobs`.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, prepared: Sequence[Prepared] = ()
    ):
        self._base = model
        self._model: PeftModel | None = None
        self._collator = PaddingCollator(tokenizer, padding_side="right")
        self._waiting: list[Prepared] = []
        self.working: list[JobTraining] = []
        self._begun = 0
        self.wait(prepared)
        steps = sum(one.steps for one in prepared)
        self.bar = tqdm(
            total=steps,
            desc=f"training {len(prepared)} jobs",
            unit="step",
            dynamic_ncols=True,
            disable=not prepared,
        )

    def wait(self, prepared: Sequence[Prepared]) -> None:
        """Take in more jobs, to begin when there is room."""
        self._waiting = sorted(
            [*self._waiting, *prepared],
            key=lambda one: (one.longest.bit_length(), one.steps),
            reverse=True,
        )

    @property
    def unfinished(self) -> bool:
        """Whether there is something to do."""
        return bool(self.working or self._waiting)

    def admit(self, rows_per_pass: int) -> bool:
        """Let jobs begin as far as there is room; say whether there are any at work."""
        room = rows_per_pass - sum(one.prepared.batch_rows for one in self.working)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one.batch_rows <= room:
                room -= one.batch_rows
                self._begin(one)
            else:
                self._waiting.append(one)
        return bool(self.working)

    def run_pass(self) -> None:
        """Run one forward and backward pass over the next batches of all jobs at work."""
        model: Any = self._model
        batches = [one.next_batch() for one in self.working]
        inputs = self._collator([row for batch in batches for row in batch.rows])
        pairs = list(zip(self.working, batches, strict=True))
        names = [one.adapter for one, batch in pairs for _ in batch.rows]
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        model(**inputs, adapter_names=names, use_cache=False).loss.backward()
        losses = planners_of(self._base)[0].losses
        values = torch.stack([losses[one.adapter] for one in self.working]).tolist()
        for (one, batch), loss in zip(pairs, values, strict=True):
            one.take(batch, loss)
        self.bar.update(sum(batch.completes for batch in batches))
        self.bar.set_postfix_str(f"loss {sum(values) / len(values):.3f}", refresh=False)

    def dismiss(self) -> list[tuple[Job, TrainingResult]]:
        """Write the adapters of the jobs that have ended, and take them off the model."""
        ended = [one for one in self.working if one.ended]
        results = [(one.prepared.job, one.finish()) for one in ended]
        self._take_off(ended)
        return results

    def drop(self, jobs: Sequence[Job]) -> None:
        """Leave out jobs that are not wanted any more; of those at work nothing is written."""
        unwanted = {id(job) for job in jobs}
        self._waiting = [one for one in self._waiting if id(one.job) not in unwanted]
        self._take_off([one for one in self.working if id(one.prepared.job) in unwanted])

    def leave(self) -> None:
        """Leave the model without adapters."""
        if self._model is not None:
            self._model.unload()

    def _take_off(self, jobs: Sequence[JobTraining]) -> None:
        self.working = [one for one in self.working if one not in jobs]
        for one in jobs:
            one.model.delete_adapter(one.adapter)
        if jobs and self.working:
            self._activate()

    def _begin(self, prepared: Prepared) -> None:
        adapter = f"job_{self._begun}"
        self._begun += 1
        set_seed(prepared.job.recipe.seed)  # as before an adapter that is trained alone
        if self._model is None:
            self._model = get_peft_model(self._base, prepared.config, adapter_name=adapter)
        else:
            self._model.add_adapter(adapter, prepared.config)
        self._model.train()
        self.working.append(JobTraining(prepared, self._model, adapter, self._collator))
        self._activate()

    def _activate(self) -> None:
        """Have the adapters of all jobs at work trained."""
        model: Any = self._model
        model.base_model.set_adapter([one.adapter for one in self.working])
        model.active_adapter = self.working[0].adapter  # one that is there: PEFT reads its config
