"""Experiments in which a language model writes the answers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import nn

from reftune.collation import PaddingCollator
from reftune.experiments.best_epoch import BestEpoch
from reftune.experiments.experiment import Experiment
from reftune.experiments.held_out import reference_loss
from reftune.experiments.inputs import Inputs
from reftune.experiments.kinds import Collate
from reftune.experiments.loading import Base, load_language_model
from reftune.output_folder import write_atomically
from reftune.recipe import TrainingRecipe, encode_for
from reftune.tasks import Task
from reftune.tasks.scoring import alpaca_eval_outputs, score_set


class Language:
    """A language task; the last epoch is taken. Makes a `reftune.experiments.kinds.Kind`.

    Raises:
        ValueError: a row of the training set has not the form of the task.
    """

    task_type = "CAUSAL_LM"

    def __init__(self, experiment: Experiment, task: Task, inputs: Inputs) -> None:
        self.experiment, self.task, self.inputs = experiment, task, inputs
        self.examples = [
            task.example(row, f"{inputs.train.origin}, row {number}")
            for number, row in enumerate(inputs.train.rows, start=1)
        ]

    def loader(self) -> Callable[[int], Base]:
        """Load the base model once, for all seeds: a method leaves it as it was."""
        base = load_language_model(self.experiment.model, self.experiment.dtype)
        return lambda seed: base

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
        """Answer the questions of the test sets; a run that stopped half-way goes on.

        A set of a task with two scores has the second one, its loss, under the name `"SET loss"`.
        """
        scores, settings = {}, self.experiment.settings()
        for name, rows in self.inputs.tests.items():
            file = folder / f"{name}.jsonl"
            score = score_set(model, base.tokenizer, self.task, rows.rows, file, settings)
            leaked = name in self.task.leaked
            if score is None:
                generator = f"{Path(self.experiment.model).name}-{self.experiment.method}"
                _write_for_judge(file, rows.rows, generator)
            else:
                scores[name] = {
                    "metric": "accuracy",
                    "value": score.accuracy,
                    "total": score.total,
                    "interval": list(score.interval()),
                    "leaked": leaked,
                }
            loss = reference_loss(model, base.tokenizer, self.task, rows, recipe)
            if loss is not None:
                scores[name if score is None else f"{name} loss"] = {**loss, "leaked": leaked}
        return scores

    def facts(self) -> dict[str, Any]:
        """Tell nothing: answers are texts."""
        return {}


def _write_for_judge(file: Path, rows: Sequence[dict[str, Any]], generator: str) -> None:
    with file.open(encoding="utf-8") as lines:
        answers = [json.loads(line)["output"] for line in lines]
    outputs = alpaca_eval_outputs(rows, answers, generator)
    text = json.dumps(outputs, indent=2, ensure_ascii=False)
    write_atomically(file.with_suffix(".alpaca_eval.json"), text)
