"""Logits of a training step that are computed only if somebody reads them.

Trainer reads the loss of a training step and nothing else. But accelerate walks over all that a
model returns and casts it to float32, and DistributedDataParallel clones it; neither reads a value.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from transformers.utils.generic import ModelOutput

_fields: Any = Tensor
# What the walks of accelerate and DistributedDataParallel ask for.
_KNOWN = {
    _fields.shape.__get__,
    _fields.dtype.__get__,
    _fields.device.__get__,
    _fields.grad_fn.__get__,
    Tensor.size,
    Tensor.dim,
}


class Deferred(Tensor):
    """A tensor of which only shape, dtype and device are known until anything else is asked for.

    Args:
        compute: returns the tensor; called once.
        shape, dtype, device: of what it returns.
    """

    def __new__(
        cls, compute: Callable[[], Tensor], shape: torch.Size, dtype: torch.dtype, device: Any
    ) -> "Deferred":
        return Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)

    def __init__(self, compute: Callable[[], Tensor], *_: Any, **__: Any):
        self._compute: Callable[[], Tensor] | None = compute
        self._computed: Tensor | None = None

    def computed(self) -> Tensor:
        """Return the tensor itself, with its graph."""
        if self._compute is not None:
            self._computed, self._compute = self._compute(), None
        assert self._computed is not None
        return self._computed

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _KNOWN:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func in (Tensor.float, Tensor.clone) and not kwargs:
            whole = args[0]
            dtype = torch.float32 if func is Tensor.float else whole.dtype
            return cls(lambda: func(whole.computed()), whole.shape, dtype, whole.device)
        return func(*tree_map(computed, args), **tree_map(computed, kwargs))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Only what goes past Python's functions comes here: there is no storage to work on.
        return func(*tree_map(computed, args), **tree_map(computed, kwargs or {}))


def computed(value: Any) -> Any:
    """Return a value, computed if it is deferred."""
    return value.computed() if isinstance(value, Deferred) else value


def with_deferred_logits(output: ModelOutput, logits: Deferred) -> ModelOutput:
    """Return an output of a model with other logits, deferred until they are read.

    Its class is a subclass of the output's own. By name, key or place it gives a tensor like any
    other; only as `items()` and `values()` are they still deferred.
    """
    return _reading(type(output))(**{**output, "logits": logits})


class _Reading:
    """An output of a model whose logits are computed where somebody takes them."""

    @property
    def logits(self) -> Any:
        return computed(vars(self)["logits"])

    @logits.setter
    def logits(self, value: Any) -> None:
        vars(self)["logits"] = value

    def __getitem__(self, key: Any) -> Any:
        own: Any = super()
        if isinstance(key, str):
            return computed(own.__getitem__(key))
        own = self
        names = list(own.keys())[key]
        return own[names] if isinstance(names, str) else tuple(own[name] for name in names)


@cache
def _reading(output_class: type[ModelOutput]) -> Any:
    # One class per class of outputs: torch keeps every one of them for its traversals.
    return type(f"Reading{output_class.__name__}", (_Reading, output_class), {})
