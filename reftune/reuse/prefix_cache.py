"""Keys and values of the beginning of every row, as a cache that a training step continues."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class _Prefix(DynamicLayer):
    """One layer's part: what is computed after it is not added, so that a layer may run again."""

    def __init__(self, length: int, keys: Tensor | None = None, values: Tensor | None = None):
        super().__init__()
        self.length, self.keys, self.values = length, keys, values
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        before: Any = (self.keys, self.values)  # those of a layer that is skipped nobody asks for
        keys = torch.cat((before[0], key_states), dim=-2)
        return keys, torch.cat((before[1], value_states), dim=-2)

    def get_seq_length(self) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0


def prefix_cache(states: Tensor, skipped: int) -> DynamicCache:
    """Return a cache that holds the beginning of every row.

    Args:
        states: `(layers, 2, batch, heads, length, width)`, keys and values of the layers that are
            computed.
        skipped: the number of layers before those.
    """
    cache = DynamicCache()
    length = states.shape[-2]
    cache.layers.extend(_Prefix(length) for _ in range(skipped))
    cache.layers.extend(_Prefix(length, *layer) for layer in states)
    return cache


def states_of(cache: DynamicCache, skipped: int) -> Tensor:
    """Return what a cache holds of the layers after the skipped ones, as `prefix_cache` takes it.

    Raises:
        ValueError: the layers' keys and values are not all of one shape.
    """
    layers: list[Any] = cache.layers[skipped:]
    tensors = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    shapes = {None if tensor is None else tensor.shape for tensor in tensors}
    if len(shapes) != 1 or None in shapes:
        raise ValueError(f"keys and values of {len(layers)} layers have the shapes {shapes}")
    return torch.stack([tensor for tensor in tensors if tensor is not None]).unflatten(0, (-1, 2))
