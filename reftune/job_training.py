"""One job among those that train together: its optimiser, schedule, batches and log.

It does what `Trainer` does with the job alone, but for the forward and backward pass, which the
jobs have in common.
"""

import math
import time
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import Trainer, get_scheduler

from reftune.attached import layers_of
from reftune.collation import PaddingCollator
from reftune.jobs import Prepared
from reftune.micro_batches import MicroBatch, micro_batches
from reftune.output_folder import LOG_FILE, open_output, save_adapter
from reftune.recipe import trainer_arguments
from reftune.training import TrainingResult, result_of
from reftune.training_log import append_record


class JobTraining:
    """A job whose adapter is attached.

    Args:
        prepared: the job.
        model: has the adapter.
        adapter: its name there. PEFT and `Trainer` find things by parts of names, so it is not the
            job's own.
        collator: makes batches for evaluation.

    Attributes:
        step: updates done.
        loss: of the last update.
    """

    def __init__(
        self, prepared: Prepared, model: PeftModel, adapter: str, collator: PaddingCollator
    ):
        self.prepared, self.model, self.adapter = prepared, model, adapter
        self.recipe = recipe = prepared.job.recipe
        self.step, self.loss = 0, math.nan
        self._collator = collator
        self._batches = micro_batches(prepared.rows.to_list(), recipe)
        edits = [layer.reft_edits for layer in layers_of(model)]
        self._parameters = [
            p for edit in edits if adapter in edit for p in edit[adapter].parameters()
        ]
        # Writes nothing: the folder in it is for checkpoints.
        arguments = trainer_arguments(prepared.out, recipe, evaluate=False)
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
        self._optimizer = kind(self._groups(), **options)
        self._schedule = get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=self._optimizer,
            num_warmup_steps=arguments.get_warmup_steps(prepared.steps),
            num_training_steps=prepared.steps,
        )
        self._earlier: dict[nn.Parameter, torch.Tensor] = {}
        self._since_logged, self._logged = 0.0, 0
        open_output(prepared.out, "overwrite", prepared.settings)
        self._log = prepared.out / LOG_FILE
        self._start = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether all updates are made."""
        return self.step >= self.prepared.steps

    def next_batch(self) -> MicroBatch:
        """Return the rows that the next pass needs."""
        return next(self._batches)

    def take(self, batch: MicroBatch, loss: float) -> None:
        """Go on after a pass: the adapter has the gradients of the mean loss of a batch."""
        part = loss * batch.share
        if not math.isfinite(part):  # as Trainer's log has it
            part = self._since_logged / (1 + self.step - self._logged)
        self._since_logged += part
        if batch.share < 1:
            self._accumulate(batch)
        if batch.completes:
            self._update()
            self._record(batch.epoch)

    def finish(self) -> TrainingResult:
        """Write the adapter."""
        save_adapter(self.model, self.prepared.out, self.adapter)
        return result_of(self.prepared.out, len(self.prepared.rows), self.prepared.dropped)

    def _accumulate(self, batch: MicroBatch) -> None:
        """Weight the gradients of this pass, and put those of the update's earlier ones to them."""
        for parameter in self._parameters:
            if parameter.grad is None:
                continue
            gradient = parameter.grad.mul_(batch.share)
            earlier = self._earlier.pop(parameter, None)
            if earlier is not None:
                gradient.add_(earlier)
            if not batch.completes:
                self._earlier[parameter], parameter.grad = gradient, None

    def _update(self) -> None:
        if self.recipe.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self._parameters, self.recipe.max_grad_norm)
        self._optimizer.step()
        self._rate = float(self._schedule.get_last_lr()[0])
        self._schedule.step()
        self._optimizer.zero_grad()
        self.step += 1

    def _record(self, epoch: float) -> None:
        """Write to the log what is due after an update."""
        if self.step % self.recipe.log_steps == 0 or self.ended:
            self.loss = self._since_logged / (self.step - self._logged)
            self._since_logged, self._logged = 0.0, self.step
            self._append(epoch, loss=self.loss, lr=self._rate)
        every = self.recipe.eval_steps
        due = self.step % every == 0 if every else epoch.is_integer()
        if self.prepared.eval_rows is not None and (due or self.ended):
            self._append(epoch, eval_loss=self._evaluate(self.prepared.eval_rows))

    def _append(self, epoch: float, **values: float) -> None:
        seconds = round(time.monotonic() - self._start, 3)
        append_record(self._log, {"step": self.step, "epoch": epoch, **values, "seconds": seconds})

    @torch.no_grad()
    def _evaluate(self, rows: Any) -> float:
        """Return the mean over rows of the mean loss of their batch, as `Trainer` does."""
        size, total = self.recipe.batch_size, 0.0
        self.model.eval()
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            count = len(batch["input_ids"])
            listed = [{name: batch[name][row] for name in batch} for row in range(count)]
            inputs = {k: v.to(self.model.device) for k, v in self._collator(listed).items()}
            output = self.model(**inputs, adapter_names=[self.adapter] * count, use_cache=False)
            total += output.loss.item() * count
        self.model.train()
        return total / len(rows)

    def _groups(self) -> list[dict[str, Any]]:
        """Return the parameters by weight decay, as `Trainer` groups them."""
        if not self.recipe.weight_decay:
            return [{"params": self._parameters, "weight_decay": 0.0}]
        trainer: Any = None  # of which the rule reads nothing
        decaying = set(Trainer.get_decay_parameter_names(trainer, self.model))
        own = set(self._parameters)
        named = [(name, p) for name, p in self.model.named_parameters() if p in own]
        return [
            {
                "params": [p for name, p in named if name in decaying],
                "weight_decay": self.recipe.weight_decay,
            },
            {"params": [p for name, p in named if name not in decaying], "weight_decay": 0.0},
        ]
