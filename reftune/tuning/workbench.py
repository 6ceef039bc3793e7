"""Trainings and their held-out losses, on one base model."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from reftune.collation import PaddingCollator
from reftune.experiments.held_out import held_out_loss
from reftune.jobs import Job
from reftune.many import ROWS_PER_PASS, train_many
from reftune.output_folder import RECIPE
from reftune.recipe import TrainingRecipe
from reftune.tuning.setting import Setting


@dataclass(frozen=True)
class Training:
    """A setting to be trained for so many epochs, into a folder."""

    setting: Setting
    epochs: float
    seed: int
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    ``loss`` is that of the held-out rows, in nats per labelled token; it may be no number.
    ``seconds`` are of wall-clock time, in which other trainings were done too.
    """

    loss: float
    parameters: int
    seconds: float


class Workbench:
    """Trains settings on the same rows and scores them on the same held-out rows.

    Args:
        model: without adapters; it is without them after every call.
        tokenizer: of the same model.
        rows: encoded, with ``input_ids`` and ``labels``.
        held_out: the same of the held-out rows.
        recipe: what is common to all trainings.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        rows: Dataset,
        held_out: Dataset,
        recipe: TrainingRecipe,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.rows, self.held_out, self.recipe = rows, held_out, recipe
        self._collator = PaddingCollator(tokenizer, padding_side="right")

    def run(self, trainings: Sequence[Training]) -> list[Outcome]:
        """Train all together and score them; those that are in their folders are not trained again.

        Raises:
            TrainingInterrupted: a signal came; trainings that had ended are in their folders.
        """
        for one in trainings:
            if one.folder.exists() and not (one.folder / RECIPE).exists():
                shutil.rmtree(one.folder)  # of a process that was killed as it began
        jobs = [
            Job(
                self.rows,
                one.folder,
                one.setting.config(),
                one.setting.recipe(self.recipe, one.epochs, one.seed),
            )
            for one in trainings
        ]
        if not jobs:
            return []
        room = max(ROWS_PER_PASS, self.recipe.batch_size)
        results = train_many(self.model, self.tokenizer, jobs, room, existing="resume")
        return [
            Outcome(self.loss(one.out), one.trainable_parameters, one.seconds) for one in results
        ]

    def loss(self, folder: Path | None) -> float:
        """Return the held-out loss of the adapter in a folder, or of the base model alone."""
        if folder is None:
            return self._loss(self.model)
        model = PeftModel.from_pretrained(self.model, str(folder))
        try:
            return self._loss(model)
        finally:
            model.unload()

    def _loss(self, model: Any) -> float:
        return held_out_loss(model, self._collator, self.held_out, self.recipe.batch_size).value
