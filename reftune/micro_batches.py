"""The batches of a training, in the order in which `Trainer` takes them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.data_loader import SeedableRandomSampler

from reftune.encoding import IGNORED
from reftune.recipe import TrainingRecipe

Row = Mapping[str, Any]


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one forward pass.

    Attributes:
        rows: with ``input_ids`` and ``labels``.
        share: of the labelled tokens of the update that it belongs to, in (0, 1].
        completes: whether the update is made after it.
        epoch: how many epochs are done after it.
    """

    rows: Sequence[Row]
    share: float
    completes: bool
    epoch: float


def updates(rows: int, recipe: TrainingRecipe) -> int:
    """Return how many updates a training takes."""
    batches = math.ceil(rows / recipe.batch_size)
    return math.ceil(recipe.epochs * math.ceil(batches / recipe.accumulation))


def micro_batches(rows: Sequence[Row], recipe: TrainingRecipe) -> Iterator[MicroBatch]:
    """Give the batches of a training, without end.

    The order of an epoch depends on seed and epoch alone; the last batch of an epoch and the last
    update may be smaller than the others. A batch's loss counts in its update by labelled tokens.
    """
    sampler = SeedableRandomSampler(range(len(rows)), data_seed=recipe.seed)
    size, epoch = recipe.batch_size, 0
    while True:
        sampler.set_epoch(epoch)
        order = list(sampler)
        batches = [
            [rows[index] for index in order[first : first + size]]
            for first in range(0, len(order), size)
        ]
        for first in range(0, len(batches), recipe.accumulation):
            update = batches[first : first + recipe.accumulation]
            labels = [sum(map(_labels, batch)) for batch in update]
            for number, batch in enumerate(update, start=1):
                done = epoch + (first + number) / len(batches)
                share = labels[number - 1] / sum(labels)
                yield MicroBatch(batch, share, number == len(update), done)
        epoch += 1


def _labels(row: Row) -> int:
    return sum(label != IGNORED for label in row["labels"][1:])
