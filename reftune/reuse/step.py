"""The inputs of a training step that computes only what an edit can change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reftune.reuse.prefix_cache import prefix_cache
from reftune.reuse.rows import Row, right_aligned
from reftune.reuse.store import Parts


@dataclass(frozen=True)
class Shape:
    """How a batch is computed anew.

    Args:
        prefix: the columns that are not computed, but attended to; none if 0, and then the rows
            stand where they stood.
        queries: the columns after those.
    """

    prefix: int
    queries: int

    @classmethod
    def of(cls, rows: Sequence[Row], columns: int) -> "Shape":
        """As many are computed as the row needs of which the most tokens are not frozen."""
        longest, queries = max(map(len, rows)), max(len(row) - row.frozen for row in rows)
        return cls(longest - queries, queries) if longest > queries else cls(0, columns)


def continued(
    rows: Sequence[Row], parts: Sequence[Parts], shape: Shape, below: int, device: torch.device
) -> dict[str, Any]:
    """Return the arguments of a forward pass over the last tokens of every row.

    They stand at the end of their columns, with what is padding, and what is kept, before them.
    """
    columns = torch.stack(right_aligned(list(rows), shape.prefix + shape.queries)).to(device)
    ids, mask, labels, places, prompt = columns.unbind()
    first = next(part["states"] for part in parts if "states" in part)
    layers, pair, heads, _, width = first.shape
    states = first.new_zeros(layers, pair, len(rows), heads, shape.prefix, width)
    for line, (row, part) in enumerate(zip(rows, parts, strict=True)):
        kept = len(row) - shape.queries
        if kept > 0:
            states[:, :, line, :, shape.prefix - kept :] = part["states"][..., :kept, :]
    now = slice(shape.prefix, None)
    return {
        "input_ids": ids[:, now],
        "attention_mask": mask,
        "labels": labels[:, now],
        "position_ids": places[:, now],
        "prompt_mask": prompt.bool(),
        "past_key_values": prefix_cache(states, below),
        "use_cache": False,
    }


def hidden_at(
    starts: Sequence[int], rows: Sequence[Row], parts: Sequence[Parts], length: int
) -> Tensor:
    """Return the kept hidden states `(batch, length, width)`, every row from its column on.

    Args:
        starts: per row, the column of its first token; below 0 if it begins before this pass.
        length: how many columns there are.
    """
    first = parts[0]["hidden"]
    hidden = first.new_zeros(len(rows), length, first.shape[-1])
    for line, (start, row, part) in enumerate(zip(starts, rows, parts, strict=True)):
        cut = max(0, -start)
        hidden[line, start + cut : start + len(row)] = part["hidden"][cut:]
    return hidden
