"""Experiments in which a classifier's head answers.

In GLUE the protocol is the paper's (arXiv 2404.03592, appendix D): one half of the validation set
chooses the epoch, by the metric of the task, and the other half is scored. The halves are drawn per
seed, and so is the head. In other tasks the whole validation set chooses the epoch, if there is
one, otherwise it is the last, and the test sets are scored.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import set_seed

from reftune.experiments.best_epoch import BestEpoch
from reftune.experiments.classifier import are_pairs, collator, encode_rows, predict
from reftune.experiments.experiment import Experiment
from reftune.experiments.inputs import Inputs
from reftune.experiments.kinds import Collate
from reftune.experiments.loading import Base, load_classifier, longest_row
from reftune.output_folder import write_atomically
from reftune.recipe import TrainingRecipe
from reftune.tasks import ClassificationTask
from reftune.tasks.halves import halves
from reftune.tasks.labels import Labels
from reftune.tasks.metrics import measure
from reftune.tasks.sets import RowSet

WITHOUT_GRADIENTS = 4  # times as many rows fit into memory


class Classification:
    """A classification task. Makes a `reftune.experiments.kinds.Kind`.

    Args:
        experiment: what to run.
        task: its task.
        inputs: its sets.
        test_rows: score only so many rows of a half.

    Raises:
        ValueError: a row of a set has not the form of the task, or an unknown label.
    """

    task_type = "SEQ_CLS"

    def __init__(
        self,
        experiment: Experiment,
        task: ClassificationTask,
        inputs: Inputs,
        test_rows: int | None = None,
    ) -> None:
        self.experiment, self.task, self.inputs = experiment, task, inputs
        self.test_rows = test_rows
        train = inputs.train
        answers = [
            task.answer(row, f"{train.origin}, row {number}")
            for number, row in enumerate(train.rows, start=1)
        ]
        self.labels = task.labels(answers, train.classes, train.origin)
        paired = {}
        for rows in inputs.sets().values():
            paired[check_rows(task, self.labels, rows)] = rows.origin
        if len(paired) > 1:
            raise ValueError(
                f'{paired[True]} has a "text_pair" and {paired[False]} has none; expected the same '
                "of all sets"
            )

    def sets(self, seed: int) -> tuple[RowSet | None, dict[str, RowSet]]:
        """Return what chooses the epoch with a seed, if anything, and what is scored."""
        validation = self.inputs.validation
        if not self.task.halves or validation is None:
            return validation, self.inputs.tests
        choosing, scoring = halves(len(validation.rows), seed)
        scored = validation.pick(scoring).first(self.test_rows)
        return validation.pick(choosing), {self.task.name: scored}

    def loader(self) -> Callable[[int], Base]:
        """Load the base model anew for every seed, which draws the head."""

        def load(seed: int) -> Base:
            set_seed(seed)
            return load_classifier(self.experiment.model, self.experiment.dtype, self.labels)

        return load

    def check(self, model: nn.Module, base: Base) -> None:
        """Have nothing to check: rows that are too long are cut."""

    def encode(self, base: Base, recipe: TrainingRecipe) -> tuple[Dataset, int]:
        """Tokenise the training set."""
        return self._encoded(self.inputs.train, base, recipe), self.inputs.train.dropped

    def collate(self, base: Base) -> Collate:
        """Pad ids."""
        return collator(base.tokenizer, base.model.dtype)

    def best_epoch(
        self, model: nn.Module, base: Base, folder: Path, recipe: TrainingRecipe
    ) -> BestEpoch | None:
        """Choose the epoch with the best metric on validation."""
        choosing, _ = self.sets(recipe.seed)
        if choosing is None:
            return None
        rows, collate = self._encoded(choosing, base, recipe), self.collate(base)
        size, metric = recipe.batch_size * WITHOUT_GRADIENTS, self.task.metric
        answers = rows["labels"][:]

        def score() -> float:
            return measure(metric, predict(model, rows, collate, size), answers)["value"]

        return BestEpoch(model, folder, score)

    def describe_best(self, best: BestEpoch | None) -> dict[str, Any]:
        """Tell the number of the epoch, and how all of them did."""
        if best is None:
            return {"best_epoch": None, "validation": None, "validation_by_epoch": []}
        validation = {"validation": max(best.by_epoch), "validation_by_epoch": best.by_epoch}
        return {"best_epoch": best.best, **validation}

    def score(
        self, model: Any, base: Base, folder: Path, recipe: TrainingRecipe
    ) -> dict[str, dict[str, Any]]:
        """Predict the labels of the rows that are scored."""
        _, tests = self.sets(recipe.seed)
        scores = {}
        for name, rows in tests.items():
            trained, longest = Base(model, base.tokenizer), longest_row(base, recipe.max_length)
            size, out = recipe.batch_size * WITHOUT_GRADIENTS, folder / f"{name}.jsonl"
            one = score_rows(self.task, self.labels, rows, trained, out, longest, size)
            scores[name] = {**one, "leaked": False}
        return scores

    def facts(self) -> dict[str, Any]:
        """Tell the classes in the order of the head's outputs, and how rows are read."""
        labels = {"labels": list(self.labels.names), "by_index": self.labels.by_index}
        return {**labels, "metric": self.task.metric}

    def _encoded(self, rows: RowSet, base: Base, recipe: TrainingRecipe) -> Dataset:
        longest = longest_row(base, recipe.max_length)
        return encode_rows(self.task, self.labels, rows, base.tokenizer, longest)


def check_rows(task: ClassificationTask, labels: Labels, rows: RowSet) -> bool:
    """Hold the rows of a set against the form of its task; return whether they are pairs of texts.

    Raises:
        ValueError: a row has another form, or a label that is not one of these; or some are pairs.
    """
    texts = []
    for number, row in enumerate(rows.rows, start=1):
        where = f"{rows.origin}, row {number}"
        texts.append(task.question(row, where))
        labels.of(task.answer(row, where), where)
    return are_pairs(texts, rows.origin)


def score_rows(
    task: ClassificationTask,
    labels: Labels,
    rows: RowSet,
    trained: Base,
    out: Path,
    longest: int,
    batch_size: int,
) -> dict[str, Any]:
    """Predict the labels of rows into a file, and return the score.

    Args:
        task: whose rows they are.
        labels: in the order of the head's outputs.
        rows: with their labels.
        trained: a trained model, in evaluation mode.
        out: the file of answers, JSONL.
        longest: tokens of a row.
        batch_size: rows at a time.

    Returns:
        See `reftune.tasks.metrics.measure`.
    """
    encoded = encode_rows(task, labels, rows, trained.tokenizer, longest)
    collate = collator(trained.tokenizer, torch.float32)
    found = predict(trained.model, encoded, collate, batch_size)
    answers = encoded["labels"][:]

    def shown(value: int | float) -> str | float:
        return labels.names[int(value)] if labels.names else value

    lines = [
        {"index": index, "found": shown(one), "answer": shown(answer)}
        for index, (one, answer) in enumerate(zip(found, answers, strict=True))
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(out, text)
    return measure(task.metric, found, answers)
