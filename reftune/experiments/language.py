"""Experiments in which a language model writes the answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import nn

from reftune.collation import PaddingCollator
from reftune.experiments.best_epoch import BestEpoch
from reftune.experiments.experiment import Experiment
from reftune.experiments.inputs import Inputs
from reftune.experiments.kinds import Collate
from reftune.experiments.language_scores import (
    Answering,
    check_questions,
    check_room,
    score_answers,
)
from reftune.experiments.loading import Base, load_language_model
from reftune.recipe import TrainingRecipe, encode_for
from reftune.tasks import Task


class Language:
    """A language task; the last epoch is taken. Makes a `reftune.experiments.kinds.Kind`.

    Raises:
        ValueError: a row of a set has not the form of the task.
    """

    task_type = "CAUSAL_LM"

    def __init__(self, experiment: Experiment, task: Task, inputs: Inputs) -> None:
        self.experiment, self.task, self.inputs = experiment, task, inputs
        self.examples = [
            task.example(row, f"{inputs.train.origin}, row {number}")
            for number, row in enumerate(inputs.train.rows, start=1)
        ]
        for rows in inputs.tests.values():
            check_questions(task, rows)

    def loader(self) -> Callable[[int], Base]:
        """Load the base model once, for all seeds: a method leaves it as it was."""
        base = load_language_model(self.experiment.model, self.experiment.dtype)
        return lambda seed: base

    def check(self, model: nn.Module, base: Base) -> None:
        """Have room for every question and its answer."""
        settings = self.experiment.settings()
        check_room(model, base.tokenizer, self.task, self.inputs.tests, settings)

    def encode(self, base: Base, recipe: TrainingRecipe) -> tuple[Dataset, int]:
        """Tokenise prompts and completions; rows that lack one are dropped."""
        rows = Dataset.from_list(self.examples)
        encoded, dropped = encode_for(base.model, base.tokenizer, rows, recipe)
        return encoded, dropped.rows

    def collate(self, base: Base) -> Collate:
        """Pad ids and labels."""
        # The bound method: from the object, Trainer would copy the tokenizer into each checkpoint.
        return PaddingCollator(base.tokenizer).__call__

    def best_epoch(
        self, model: nn.Module, base: Base, folder: Path, recipe: TrainingRecipe
    ) -> BestEpoch | None:
        """Choose none: the paper's language tasks have no validation set."""
        return None

    def describe_best(self, best: BestEpoch | None) -> dict[str, Any]:
        """Tell nothing."""
        return {}

    def score(
        self, model: Any, base: Base, folder: Path, recipe: TrainingRecipe
    ) -> dict[str, dict[str, Any]]:
        """Answer the questions of the test sets; a run that stopped half-way goes on."""
        answering = Answering(
            self.experiment.settings(),
            recipe,
            f"{Path(self.experiment.model).name}-{self.experiment.method}",
        )
        return score_answers(model, base.tokenizer, self.task, self.inputs.tests, folder, answering)

    def facts(self) -> dict[str, Any]:
        """Tell how its questions are answered."""
        return {"generation": self.experiment.generation}
