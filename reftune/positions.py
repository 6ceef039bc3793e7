"""Which tokens of a prompt are edited: `"f7+l7"` and what it selects in every row of a batch.

Positions are places within the prompt of a row, never within the padded tensor. With n prompt
tokens, `fK` is the first `min(K, n)` of them and `lK` the last `min(K, n)`; `fK+lM` is the first
`min(K, n // 2)` and the last `min(M, ceil(n / 2))` (ReFT paper §4), which never overlap; `all` is
every prompt token.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

_FORM = re.compile(r"f(?P<f>[1-9]\d*)|l(?P<l>[1-9]\d*)|f(?P<f2>[1-9]\d*)\+l(?P<l2>[1-9]\d*)|all")


@dataclass(frozen=True)
class Positions:
    """The first `first` and the last `last` tokens of a prompt, or all of them."""

    first: int = 0
    last: int = 0
    everywhere: bool = False

    @classmethod
    def parse(cls, text: str) -> "Positions":
        """Read `"f7+l7"`, `"f3"`, `"l1"` or `"all"`.

        Raises:
            ValueError: the text has another form.
        """
        match = _FORM.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f'positions {text!r}: expected e.g. "f7+l7", "f3", "l1" or "all"')
        first, last = match["f"] or match["f2"] or 0, match["l"] or match["l2"] or 0
        return cls(int(first), int(last), everywhere=text == "all")

    def counts(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many first and how many last tokens are edited in prompts of these lengths."""
        if self.first and self.last:
            return (length // 2).clamp(max=self.first), ((length + 1) // 2).clamp(max=self.last)
        return length.clamp(max=self.first), length.clamp(max=self.last)

    def slots(self, prompt: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the columns of the first and of the last tokens, one fixed number per row.

        Args:
            prompt: `(batch, seq)` bool, true at prompt tokens.

        Returns:
            For the first and for the last tokens: columns `(batch, K)` int64, and as many bools,
            false for slots that a short prompt leaves empty (their column means nothing).
        """
        reach = prompt.cumsum(dim=1)
        length = reach[:, -1:]
        first_count, last_count = self.counts(length)
        rank = torch.arange(self.first, device=prompt.device).expand(len(prompt), -1)
        back = torch.arange(self.last, device=prompt.device).expand(len(prompt), -1)
        last_rank = length - last_count + back
        return (
            (columns_of(reach, rank), rank < first_count),
            (columns_of(reach, last_rank), back < last_count),
        )

    def masks(self, rank: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Say of prompt tokens whether they are among the first and among the last ones.

        Args:
            rank: the place of a token in its prompt, from 0.
            length: the number of tokens of its prompt; broadcastable to `rank`.

        Returns:
            Two bool tensors of the shape of `rank`. With `all`, both halves are in the first.
        """
        if self.everywhere:
            return torch.ones_like(rank, dtype=torch.bool), torch.zeros_like(rank, dtype=torch.bool)
        first_count, last_count = self.counts(length)
        return rank < first_count, rank >= length - last_count


def columns_of(reach: Tensor, rank: Tensor) -> Tensor:
    """Return the column where a row reaches its `rank`-th (from 0) marked token.

    Args:
        reach: `(batch, seq)` running count of the marked tokens of a row.
        rank: `(batch, K)`.

    Returns:
        `(batch, K)` int64, within `seq`; ranks that a row does not have get some column.
    """
    columns = torch.searchsorted(reach.contiguous(), (rank + 1).contiguous())
    return columns.clamp(max=reach.shape[1] - 1)
