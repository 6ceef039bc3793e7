"""pyreft's trainers: `transformers.Trainer` for a `ReftModel` (pyreft 0.1.0, `reft_trainer.py`)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_pt_utils import nested_detach
from transformers.utils import logging

from reftune.pyreft.checkpoints.folders import TRAINER_FOLDER
from reftune.pyreft.config import ReftConfig
from reftune.pyreft.model import ReftModel
from reftune.pyreft.scripts.moved_arguments import settle_tokenizer
from reftune.pyreft.training_steps import accept_less, classification_loss, run_edited

LOG = logging.get_logger(__name__)
# What is trained, as it lies in memory: pyreft's files hold R without the free matrix behind it, on
# which the optimizer goes on.
TRAINED = "trained.safetensors"


class ReftTrainer(Trainer):
    """A `Trainer` whose batches say where the model is edited.

    A batch holds `input_ids`, `attention_mask` and `labels`, and:

    * `intervention_locations` `(batch, interventions, positions)`; one of other than three
      dimensions stands for the first position everywhere (pyreft's baseline without interventions);
    * `subspaces` `(batch, interventions, indices)`, if rows of R are chosen.

    Its columns are never removed, and the loss of a step is the mean over its micro-batches.

    Args:
        args, kwargs: those of `Trainer`; `tokenizer=` is `processing_class=`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        settle_tokenizer(kwargs)
        super().__init__(*args, **kwargs)
        self._kept = self.processing_class
        # The loss is a mean: Trainer divides it by the number of micro-batches.
        self.model_accepts_loss_kwargs = False
        self.args.remove_unused_columns = False
        if self.args.label_smoothing_factor:
            LOG.warning("label_smoothing_factor is not used: the loss is the model's own.")
        config = self._unwrapped().config
        if isinstance(config, ReftConfig):
            # Trainer takes it for a model's config, and writes there.
            vars(config).pop("use_cache", None)
        if self.args.n_gpu > 1:
            LOG.warning(
                f"Training on one of {self.args.n_gpu} devices, as torch.nn.DataParallel cannot "
                "split the locations of a batch; torchrun trains on all of them."
            )
            self.args._n_gpu = 1
            self._train_batch_size = self.args.train_batch_size

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        accept_less(cls)

    @property
    def tokenizer(self) -> Any:
        """The processing class, by its old name."""
        return self.processing_class

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self.processing_class = self._kept = tokenizer

    def _unwrapped(self) -> ReftModel:
        """Return the model without what a distributed training puts around it."""
        return self.accelerator.unwrap_model(self.model)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as `Trainer.train` does."""
        # It begins by writing the tokenizer's special tokens into the model's config. The config
        # here is none of a model, and the model of pyreft's users keeps its own.
        self._kept, self.processing_class = self.processing_class, None
        try:
            return super().train(*args, **kwargs)
        finally:
            self.processing_class = self._kept

    def _hp_search_setup(self, trial: Any) -> None:
        self.processing_class = self._kept  # they are written by now
        super()._hp_search_setup(trial)

    def compute_loss(
        self,
        intervenable: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return the loss of the edited model, and its outputs if asked.

        Raises:
            ValueError: the model gives no loss.
        """
        outputs, loss = self._edited(intervenable, inputs)
        if self.compute_loss_func is not None:
            labels = inputs.get("labels")
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        if loss is None:
            raise ValueError(f"a batch with {sorted(inputs)}: expected labels, for a loss")
        return (loss, outputs) if return_outputs else loss

    def _edited(self, intervenable: nn.Module, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the edited outputs of a batch, and their loss, `None` if they have none."""
        outputs = run_edited(intervenable, inputs, inputs.get("labels"))
        return outputs, outputs.loss

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """Return loss, logits and labels of a batch, from the edited model."""
        inputs = self._prepare_inputs(inputs)
        names = self.label_names
        known = bool(names) and all(inputs.get(name) is not None for name in names)
        # A loss of one's own may take them out of the batch.
        labels = tuple(inputs[name].detach() for name in names) if known else ()
        with torch.no_grad(), self.compute_loss_context_manager():
            found = self.compute_loss(model, {**inputs}, return_outputs=True) if known else None
            both: Any = found if isinstance(found, tuple) else (found, None)
            loss, outputs = both
            if outputs is None and not prediction_loss_only:
                outputs = run_edited(model, inputs, None)
        loss = None if loss is None else loss.detach().mean()
        if prediction_loss_only:
            return loss, None, None
        skipped = {"loss", "past_key_values", *(ignore_keys or ())}
        named = dict(outputs if isinstance(outputs, Mapping) else enumerate(outputs or ()))
        logits: Any = nested_detach(tuple(named[name] for name in named if name not in skipped))
        return loss, _alone(logits), _alone(labels) if known else None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model to `intervenable_model` in a folder, in place of one that is there.

        Args:
            output_dir: the folder; that of the training arguments if `None`.
        """
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir)) / TRAINER_FOLDER
            self._unwrapped().save(str(folder), include_model=True)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        folder = Path(resume_from_checkpoint) / TRAINER_FOLDER
        if not folder.is_dir():  # whose name the hub would be asked for
            raise FileNotFoundError(f'checkpoint "{folder}": no such folder')
        self._unwrapped().load_intervention(str(folder), include_model=True)

    def _load_best_model(self) -> None:
        LOG.info(f"Loading {self.state.best_model_checkpoint}, of score {self.state.best_metric}.")
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            tensors = {name: p.detach().contiguous() for name, p in self._trained().items()}
            save_file(tensors, os.path.join(output_dir, TRAINED))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not os.path.isfile(os.path.join(checkpoint, TRAINED)):
            return
        tensors, trained = load_file(os.path.join(checkpoint, TRAINED)), self._trained()
        shapes, expected = ({n: tuple(t.shape) for n, t in d.items()} for d in (tensors, trained))
        if shapes != expected:
            raise ValueError(
                f'"{checkpoint}/{TRAINED}" holds {shapes}: expected {expected}, as is trained now'
            )
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(tensors[name])

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._unwrapped().named_parameters() if p.requires_grad}


class ReftTrainerForCausalLM(ReftTrainer):
    """Trains language models."""


class ReftTrainerForCausalLMDistributed(ReftTrainer):
    """Trains language models on several devices, as any other trainer here does too."""


class ReftTrainerForSequenceClassification(ReftTrainer):
    """Trains classifiers and regressions. A classifier head with gradients is trained and saved."""

    def _edited(self, intervenable: nn.Module, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        outputs = run_edited(intervenable, inputs, None)
        if self.compute_loss_func is not None:
            return outputs, None
        base: Any = self._unwrapped().model
        problem, count = base.config.problem_type, base.num_labels
        return outputs, classification_loss(problem, outputs.logits, inputs["labels"], count)


def _alone(values: tuple) -> Any:
    return values[0] if len(values) == 1 else values
