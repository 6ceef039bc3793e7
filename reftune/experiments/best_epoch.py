"""Keeping the weights of the best epoch of a training, through interruptions."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reftune.output_folder import write_atomically

RECORDS, WEIGHTS = "validation.json", "epoch-{}.safetensors"


class BestEpoch(TrainerCallback):
    """Scores the model after every epoch, and keeps what is trained of it at its best.

    The first of several epochs with the best score is the best. `RECORDS` in the folder has the
    scores so far. The weights of an epoch are removed only once a checkpoint knows of a better one,
    so that a training that goes on from any checkpoint finds what it had then.

    Args:
        model: that is trained.
        folder: of the training.
        score: of the model as it is, more is better; called without gradients.
    """

    def __init__(self, model: nn.Module, folder: Path, score: Callable[[], float]) -> None:
        self.model, self.folder, self._score = model, folder, score
        self.by_epoch: list[float] = []

    @property
    def best(self) -> int:
        """The number of the best epoch, from 1; 0 before the first one."""
        return self.by_epoch.index(max(self.by_epoch)) + 1 if self.by_epoch else 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget the epochs after the checkpoint that training goes on from."""
        epoch = (state.epoch or 0) if state.global_step else 0
        whole = state.global_step >= state.max_steps
        over = math.ceil(epoch - 1e-6) if whole else int(epoch + 1e-6)
        records = self.folder / RECORDS
        known = json.loads(records.read_text(encoding="utf-8")) if records.exists() else []
        self.by_epoch = known[:over]
        if len(self.by_epoch) < over:  # the checkpoint is of the epoch's end, before its score
            self._note()
        self._clear()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Score the epoch, unless a signal came within it, and have a checkpoint written."""
        if control.should_training_stop and state.global_step < state.max_steps:
            return
        self._note()
        control.should_save = args.save_strategy != "no"

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the weights of epochs that no checkpoint needs any more."""
        self._clear()

    def restore(self) -> None:
        """Give the model the weights of the best epoch."""
        kept = load_file(self._file(self.best))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in kept:
                    parameter.copy_(kept[name])

    def _note(self) -> None:
        """Score the model as it is, and keep it if it is the best so far."""
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            self.by_epoch.append(self._score())
        self.model.train(training)
        if self.best == len(self.by_epoch):
            save_file(_trained(self.model), self._file(self.best))
        write_atomically(self.folder / RECORDS, json.dumps(self.by_epoch) + "\n")

    def _file(self, epoch: int) -> Path:
        return self.folder / WEIGHTS.format(epoch)

    def _clear(self) -> None:
        for path in self.folder.glob(WEIGHTS.format("*")):
            if path != self._file(self.best):
                path.unlink()


def discard(folder: Path) -> None:
    """Remove the kept weights of a training: the model with the best of them is saved elsewhere."""
    for path in folder.glob(WEIGHTS.format("*")):
        path.unlink()


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
