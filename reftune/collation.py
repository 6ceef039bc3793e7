"""The one collator: rows of ids into a padded batch, for training and for generation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from reftune.encoding import IGNORED


@dataclass
class PaddingCollator:
    """Pads ids, attention mask and labels to the longest row; for `Trainer(data_collator=...)`.

    Attributes:
        tokenizer: gives the padding token; one without uses its end-of-sequence token, which is
            harmless because padding is masked.
        padding_side: ``"left"`` or ``"right"``; None means the tokenizer's own.
        pad_to_multiple_of: round the length of the batch up to a multiple of this.
    """

    tokenizer: PreTrainedTokenizerBase
    padding_side: str | None = None
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.padding_side not in (None, "left", "right"):
            raise ValueError(f'padding_side "{self.padding_side}": expected "left" or "right"')

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Make one batch.

        Args:
            rows: each with ``input_ids``, and ``labels`` of the same length in all rows or in none.

        Returns:
            ``input_ids``, ``attention_mask`` and, if given, ``labels``: int64, ``(batch, seq)``.

        Raises:
            ValueError: some rows have labels and some have not, or their lengths disagree.
        """
        labelled = [row for row in rows if row.get("labels") is not None]
        if labelled and len(labelled) < len(rows):
            raise ValueError(
                f"{len(labelled)} of {len(rows)} rows have labels; expected all or none"
            )
        for row in labelled:
            if len(row["labels"]) != len(row["input_ids"]):
                raise ValueError(
                    f"a row has {len(row['input_ids'])} ids and {len(row['labels'])} labels; "
                    "expected as many"
                )
        batch = {
            "input_ids": self._pad([row["input_ids"] for row in rows], self.pad_id()),
            "attention_mask": self._pad(
                [row.get("attention_mask") or [1] * len(row["input_ids"]) for row in rows], 0
            ),
        }
        if labelled:
            batch["labels"] = self._pad([row["labels"] for row in rows], IGNORED)
        return batch

    def pad_id(self) -> int:
        """Return the id that fills up rows."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        return 0

    def _pad(self, lists: list[list[int]], filler: int) -> torch.Tensor:
        step = self.pad_to_multiple_of or 1
        length = -(-max(map(len, lists)) // step) * step
        batch = torch.full((len(lists), length), filler, dtype=torch.long)
        left = (self.padding_side or self.tokenizer.padding_side) == "left"
        for line, values in zip(batch, lists, strict=True):
            where = slice(length - len(values), None) if left else slice(None, len(values))
            line[where] = torch.tensor(values, dtype=torch.long)
        return batch
