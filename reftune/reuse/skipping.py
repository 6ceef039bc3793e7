"""Layers that are not computed: their output is known already."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Form:
    """How the layers of a model give their hidden states: alone, or first in a tuple.

    Args:
        output: what a layer gave.

    Raises:
        ValueError: it gave something else besides hidden states, of which nothing would be known.
    """

    def __init__(self, output: Any):
        self.others: tuple | None = output[1:] if isinstance(output, tuple) else None
        hidden: Any = output[0] if isinstance(output, tuple) else output
        known = isinstance(hidden, Tensor) and hidden.dim() == 3
        if not known or any(other is not None for other in self.others or ()):
            raise ValueError(f"a layer gave {type(output).__name__} with more than hidden states")
        self.hidden: Tensor = hidden

    def of(self, hidden: Tensor) -> Any:
        """Return hidden states in this form."""
        return hidden if self.others is None else (hidden, *self.others)


@contextmanager
def skipped(layers: Sequence[nn.Module], output: Callable[[], Any]) -> Iterator[None]:
    """Let layers give an output that they do not compute; their hooks are called as ever."""
    instead = {
        "forward": lambda *args, **kwargs: output(),
        # Or they would be computed when they run again in the backward pass.
        "gradient_checkpointing": False,
    }
    own = [{name: vars(layer)[name] for name in instead if name in vars(layer)} for layer in layers]
    try:
        for layer in layers:
            vars(layer).update(instead)
        yield
    finally:
        for layer, before in zip(layers, own, strict=True):
            for name in instead:
                vars(layer).pop(name, None)
            vars(layer).update(before)
