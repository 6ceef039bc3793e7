"""A `Trainer` whose processes get as many rows as one process would, and no row twice.

Where the rows do not divide by the processes, accelerate lets the last batches begin again with the
first rows of the epoch, and these are learned twice. Here rows without labels fill up the batches.
Trainer divides the loss by the labelled tokens of all processes, so such rows change nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import RandomSampler, Sampler
from transformers import Trainer as PlainTrainer
from transformers import TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from reftune.encoding import IGNORED


class EvenOrder(Sampler[int]):
    """The order of the rows in an epoch, and after them a blank row as often as it takes.

    Args:
        order: of the rows, drawn from `generator`.
        generator: seeded anew for every epoch, in all processes alike.
        seed: of the first epoch; the next ones follow it.
        epoch: tells which one begins. accelerate would say so too, but not where it resumes one.
        rows: how many there are; the blank row comes after the last one.
        together: how many rows all processes take at a time.
    """

    def __init__(
        self,
        order: Sampler[int],
        generator: torch.Generator,
        seed: int,
        epoch: Callable[[], int],
        rows: int,
        together: int,
    ):
        self._order, self._generator, self._seed, self._epoch = order, generator, seed, epoch
        self._rows = rows
        self._filling = -rows % together

    def __len__(self) -> int:
        return self._rows + self._filling

    def __iter__(self) -> Iterator[int]:
        self._generator.manual_seed(self._seed + self._epoch())
        yield from self._order
        yield from [self._rows] * self._filling


class Trainer(PlainTrainer):
    """The usual one where all processes have the same rows, as one process has.

    Args:
        args: how to train.
        train_dataset: rows with `input_ids` and `labels`.
        others: of `transformers.Trainer`.

    Raises:
        ValueError: the model has a loss that cannot be shared out among processes.
    """

    def __init__(self, *, args: TrainingArguments, train_dataset: Dataset, **others: Any):
        super().__init__(args=args, train_dataset=train_dataset, **others)
        self._rows = train_dataset
        # Of an update, which has several batches if gradients are accumulated.
        self._update = self.get_total_train_batch_size(args)
        self._together = self._update // args.gradient_accumulation_steps
        if not self._shares_out():
            return
        if not self.model_accepts_loss_kwargs:
            raise ValueError(
                f"{type(self.model).__name__} takes no count of labelled tokens "
                "(num_items_in_batch), without which processes learn something else than one does: "
                "expected one process"
            )
        self.train_dataset = with_blank(train_dataset)

    def _shares_out(self) -> bool:
        return self._together > self.args.train_batch_size

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self._shares_out():
            return super()._get_train_sampler(train_dataset)
        rows, generator = len(self._rows), torch.Generator()
        if self.args.train_sampling_strategy == "group_by_length":
            lengths = [len(ids) for ids in self._rows["input_ids"]]
            order = LengthGroupedSampler(self._update, lengths=lengths, generator=generator)
        else:
            # With one process, accelerate seeds a generator by the epoch in the same way.
            order = RandomSampler(range(rows), generator=generator)
        seed, epoch = self.args.seed, lambda: int(self.state.epoch or 0)
        return EvenOrder(order, generator, seed, epoch, rows, self._together)


def with_blank(rows: Dataset) -> Dataset:
    """Return rows with one more at the end, of one token without a label."""
    blank = {"input_ids": [rows[0]["input_ids"][:1]], "labels": [[IGNORED]]}
    return concatenate_datasets([rows, Dataset.from_dict(blank, features=rows.features)])
