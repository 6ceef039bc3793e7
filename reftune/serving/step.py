"""What is edited in one forward pass of the engine: packed tokens of many requests."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from reftune.serving.answer import Answer

# Of the first and of the last positions; tied ones have the former.
PARTS = FIRST, LAST = 0, 1


@dataclass(frozen=True, eq=False)
class Segments:
    """Tokens that are edited alike: runs of one slot each, of about the same length.

    Attributes:
        part: `FIRST` or `LAST`.
        kind: see `reftune.serving.lowering.kind_of`.
        slots: that they have, on the host.
        slot: `(segments,)` int64.
        index: `(segments * longest,)` int64, places in the batch; short runs repeat their first.
        longest: tokens of the longest run.
        real: `(tokens,)` int64, which of `index` are no repetitions.
        target: `(tokens,)` int64, the places that are written.
    """

    part: int
    kind: str
    slots: frozenset[int]
    slot: Tensor
    index: Tensor
    longest: int
    real: Tensor
    target: Tensor


def plan_step(
    runs: Iterable[tuple[Answer, int, int]], device: torch.device
) -> tuple[Segments, ...]:
    """Plan one forward pass.

    Args:
        runs: per request, in the order of the batch: its answer, how many of its tokens the cache
            holds, and how many of it this forward pass has.
        device: of the tensors.
    """
    found: dict[tuple[int, str, int], list[tuple[int, list[int]]]] = defaultdict(list)
    offset = 0
    for answer, past, length in runs:
        adapter = answer.adapter
        if adapter is not None:
            for part, places in zip(PARTS, answer.edited(past, past + length), strict=True):
                if places:
                    packed = [offset - past + place for place in places]
                    # Lengths of a group differ twofold at most, so little is computed for nothing.
                    group = part, adapter.kind, (len(places) - 1).bit_length()
                    found[group].append((answer.slot, packed))
        offset += length
    return tuple(_segments(part, kind, of, device) for (part, kind, _), of in found.items())


def _segments(
    part: int, kind: str, runs: list[tuple[int, list[int]]], device: torch.device
) -> Segments:
    longest = max(len(places) for _, places in runs)
    index, real, target = [], [], []
    for row, (_, places) in enumerate(runs):
        index += places + places[:1] * (longest - len(places))
        real += range(row * longest, row * longest + len(places))
        target += places
    slots = [slot for slot, _ in runs]

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return Segments(
        part,
        kind,
        frozenset(slots),
        tensor(slots),
        tensor(index),
        longest,
        tensor(real),
        tensor(target),
    )
