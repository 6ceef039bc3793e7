"""Prompts in batches, as they are answered, here or elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PromptBatch:
    """Prompts that are answered at once.

    Attributes:
        start: how many prompts come before the first; the draws depend on it.
        prompts: ids of each.
        adapters: the name of the adapter of each; `None` if all have what the model has.
    """

    start: int
    prompts: list[list[int]]
    adapters: list[str] | None = None


def in_batches(
    prompts: list[list[int]],
    size: int,
    first_batch: int = 0,
    adapters: Sequence[str] | None = None,
) -> list[PromptBatch]:
    """Divide prompts into batches, and leave out the first ones.

    Raises:
        ValueError: there are not as many adapters as prompts.
    """
    if adapters is not None and len(adapters) != len(prompts):
        raise ValueError(f"{len(adapters)} adapters for {len(prompts)} prompts: expected one each")
    return [
        PromptBatch(
            start,
            prompts[start : start + size],
            None if adapters is None else list(adapters[start : start + size]),
        )
        for start in range(first_batch * size, len(prompts), size)
    ]
