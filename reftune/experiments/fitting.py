"""Training whatever a method has made trainable, with the plain `transformers.Trainer`.

A training's folder gets `training.jsonl`, `loss.png` (if matplotlib is installed) and checkpoints.
It goes on from the last whole checkpoint, whatever the method; that it is the same training is for
the caller to know.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback

from reftune.experiments.memory import StepMemory
from reftune.output_folder import CHECKPOINTS, LOG_FILE, PICTURE, last_checkpoint
from reftune.recipe import TrainingRecipe, trainer_arguments
from reftune.training import run_to_end
from reftune.training_log import LogWriter, ProgressBar, can_draw, draw_loss, read_log


@dataclass(frozen=True)
class Fitted:
    """What a finished training has to tell.

    Attributes:
        steps: updates of the weights.
        loss: the last one logged.
        seconds: interrupted parts too.
        memory_bytes: see `reftune.experiments.memory.StepMemory`; `None` if no step was left to do.
        stopped: whether a signal came when all steps were done.
    """

    steps: int
    loss: float
    seconds: float
    memory_bytes: int | None
    stopped: bool = False


def fit(
    model: nn.Module,
    rows: Dataset,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    folder: Path,
    recipe: TrainingRecipe,
    callbacks: Sequence[TrainerCallback] = (),
) -> Fitted:
    """Train what requires gradients, in place, from the start or the last checkpoint.

    SIGINT and SIGTERM end it after the current step, with a checkpoint.

    Args:
        model: a transformers model with what a method has put on it.
        rows: encoded.
        collate: makes a batch of rows, with `"labels"`.
        folder: of the training.
        recipe: how to train.
        callbacks: that see the training too.

    Raises:
        TrainingInterrupted: a signal came; a checkpoint is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawing, memory = can_draw(), StepMemory()
    trainer = Trainer(
        model=model,
        args=trainer_arguments(folder, recipe, evaluate=False),
        train_dataset=rows,
        data_collator=collate,
        callbacks=[*callbacks, LogWriter(folder / LOG_FILE), ProgressBar(), memory],
    )
    trainer.remove_callback(PrinterCallback)
    # What holds the weights depends on the method; Trainer writes its state after them.
    stopped = run_to_end(trainer, last_checkpoint(folder / CHECKPOINTS, weights=()))
    model.eval()
    if drawing:
        draw_loss(folder / LOG_FILE, folder / PICTURE)
    last = [record for record in read_log(folder / LOG_FILE) if "loss" in record][-1]
    return Fitted(last["step"], last["loss"], last["seconds"], memory.bytes, stopped)


def forget(folder: Path) -> None:
    """Remove the checkpoints of a training that is finished and saved."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
