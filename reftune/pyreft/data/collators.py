"""From pyreft's rows to batches, with `intervention_locations` as columns of the padded batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from reftune.pyreft.data.templates import IGNORE_INDEX

LOCATIONS = "intervention_locations"


@dataclass
class ReftDataCollator:
    """Batches of any collator, with locations that stay on their tokens whatever the padding.

    The locations of a row are columns of that row alone. A row that was padded on the left gets
    them moved to the right by its padding; negative ones count from the end and stay.

    Attributes:
        data_collator: makes the batch, `intervention_locations` among it, such as
            `transformers.DataCollatorForSeq2Seq`.
    """

    data_collator: Callable[[Any], Any]

    def __call__(self, instances: Sequence[Mapping[str, Any]]) -> Any:
        """Make one batch.

        Args:
            instances: rows with `input_ids` and `intervention_locations`, a list of columns per
                intervention, equally many in all rows.

        Returns:
            The batch of the inner collator; `intervention_locations` is
            `(batch, interventions, positions)`.

        Raises:
            ValueError: the numbers of interventions or positions differ, or the batch has none.
        """
        refuse_ragged(instances)
        rows = [torch.as_tensor(one["input_ids"]) for one in instances if "input_ids" in one]
        batch = self.data_collator(self._listed(instances))
        if LOCATIONS not in batch:
            raise ValueError(
                f"a batch of {sorted(batch)}: expected {LOCATIONS} among them; "
                "TrainingArguments(remove_unused_columns=False) keeps them"
            )
        tokenizer = getattr(self.data_collator, "tokenizer", None)
        batch[LOCATIONS] = placed(batch, rows, getattr(tokenizer, "padding_side", "right"))
        return batch

    def _listed(self, instances: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        # transformers' collator warns of labels that are tensors, and is slow with them.
        if not isinstance(self.data_collator, DataCollatorForSeq2Seq):
            return instances
        return [
            {
                name: x.tolist() if name == "labels" and isinstance(x, Tensor) else x
                for name, x in one.items()
            }
            for one in instances
        ]


@dataclass
class ReftRewardCollator:
    """Batches of `ReftRewardDataset`: of each pair the chosen conversation, then the rejected one.

    Attributes:
        tokenizer: pads the rows, on its side.
        padding: as in `tokenizer.pad`.
        max_length: likewise.
        pad_to_multiple_of: likewise.
        return_tensors: likewise.
    """

    tokenizer: PreTrainedTokenizerBase
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make one batch of twice as many rows as there are pairs.

        Returns:
            `input_ids` and `attention_mask` `(2 * pairs, seq)`, `reward` `(2 * pairs,)`, which is 1
            and 0 for pairs without rewards, and `intervention_locations`
            `(2 * pairs, interventions, positions)`.

        Raises:
            ValueError: the numbers of interventions or positions differ.
        """
        refuse_ragged(features)
        rows = [
            {
                "input_ids": feature[f"{side}_output"],
                "attention_mask": feature[f"{side}_output_mask"],
                "reward": feature.get(f"{side}_reward", otherwise),
                LOCATIONS: feature[LOCATIONS],
            }
            for feature in features
            for side, otherwise in (("chosen", 1.0), ("rejected", 0.0))
        ]
        batch = self.tokenizer.pad(
            rows,
            # The same as True, for which transformers warns that max_length goes unused.
            padding="longest" if self.padding is True else self.padding,
            max_length=self.max_length,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_tensors=self.return_tensors,
        )
        ids = [torch.as_tensor(row["input_ids"]) for row in rows]
        batch = {name: batch[name] for name in rows[0]}
        batch[LOCATIONS] = placed(batch, ids, self.tokenizer.padding_side)
        return batch


def refuse_ragged(instances: Sequence[Mapping[str, Any]]) -> None:
    """Check that all rows have as many interventions, and as many positions in each.

    Raises:
        ValueError: they have not.
    """
    shapes = {_shape(one[LOCATIONS]) for one in instances if LOCATIONS in one}
    if len(shapes) > 1:
        raise ValueError(
            f"rows of one batch with {LOCATIONS} of {len(shapes)} shapes, "
            f"{' and '.join(sorted(map(str, shapes)))}: expected as many interventions and "
            "positions in every row"
        )


def _shape(locations: Any) -> tuple[int, ...]:
    try:
        return tuple(torch.as_tensor(locations).shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{LOCATIONS} {locations}: expected a list per intervention, all of one length"
        ) from error


def placed(batch: Mapping[str, Any], rows: Sequence[Tensor], side: str) -> Tensor:
    """Return the locations as columns of the batch, as many as it has columns at most.

    Args:
        batch: `input_ids` `(batch, seq)` and `intervention_locations` `(batch, ..., positions)`.
        rows: the ids of each row without padding.
        side: the tokenizer's, where the ids do not tell on which side the batch was padded.
    """
    ids = batch["input_ids"]
    width = ids.shape[-1]
    locations = batch[LOCATIONS][..., :width]
    if len(rows) != len(ids) or not _padded_left(ids, rows, side):
        return locations
    padding = torch.tensor([max(0, width - len(row)) for row in rows])
    moved = locations + padding.view(-1, *[1] * (locations.dim() - 1))
    return torch.where(locations < 0, locations, moved)


def _padded_left(ids: Tensor, rows: Sequence[Tensor], side: str) -> bool:
    for line, row in zip(ids, rows, strict=True):
        if len(row) < len(line):
            row = row.to(line)
            at_end = torch.equal(line[len(line) - len(row) :], row)
            if at_end != torch.equal(line[: len(row)], row):
                return at_end
    return side == "left"


def make_data_collator(tokenizer: PreTrainedTokenizerBase, model: Any) -> ReftDataCollator:
    """Return the collator of pyreft's trainers: padded to the longest row, labels with -100."""
    return ReftDataCollator(
        DataCollatorForSeq2Seq(
            tokenizer=tokenizer,
            model=model,
            label_pad_token_id=IGNORE_INDEX,
            padding="longest",
            max_length=2048,
        )
    )


def make_dataloader(
    dataset: Dataset,
    batch_size: int,
    collate_fn: Callable[[Any], Any],
    shuffle: bool,
    sampler: Sampler | Iterable | None = None,
) -> DataLoader:
    """Return a `DataLoader` with these arguments."""
    return DataLoader(
        dataset, shuffle=shuffle, batch_size=batch_size, sampler=sampler, collate_fn=collate_fn
    )
