"""What differs between experiments: how rows become batches, and how a model is scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from datasets import Dataset
from torch import nn

from reftune.experiments.best_epoch import BestEpoch
from reftune.experiments.loading import Base
from reftune.recipe import TrainingRecipe

Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Kind(Protocol):
    """A kind of experiment, made for one experiment and its sets."""

    task_type: str

    def loader(self) -> Callable[[int], Base]:
        """Return what gives the base model of a seed."""
        ...

    def check(self, model: nn.Module, base: Base) -> None:
        """Hold the sets against a model before anything is trained.

        Args:
            model: that is to be trained.
            base: its base model.

        Raises:
            ValueError: a row of a set does not fit it.
        """
        ...

    def encode(self, base: Base, recipe: TrainingRecipe) -> tuple[Dataset, int]:
        """Return the training set as a base model takes it, and how many rows were dropped."""
        ...

    def collate(self, base: Base) -> Collate:
        """Return what makes a batch of encoded rows."""
        ...

    def best_epoch(
        self, model: nn.Module, base: Base, folder: Path, recipe: TrainingRecipe
    ) -> BestEpoch | None:
        """Return what keeps the best epoch, if there is something to choose it by.

        Args:
            model: that is trained.
            base: its base model.
            folder: of the training.
            recipe: of the training.
        """
        ...

    def describe_best(self, best: BestEpoch | None) -> dict[str, Any]:
        """Return what to tell of the best epoch."""
        ...

    def score(
        self, model: Any, base: Base, folder: Path, recipe: TrainingRecipe
    ) -> dict[str, dict[str, Any]]:
        """Score a trained model.

        Args:
            model: in evaluation mode.
            base: its base model.
            folder: gets the answers.
            recipe: of the training.

        Returns:
            Per test set `metric`, `value`, `total`, `interval` and `leaked`.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """Return what one must know to score a trained model once more."""
        ...
