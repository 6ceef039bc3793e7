"""The precision of edits, which outlasts every cast of the model to half precision.

`torch.linalg` has no kernels for it, and orthonormal rows would not stay so.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

HALF = (torch.float16, torch.bfloat16)


def keeping_precision(move: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what `.to()` and `.half()` do to a tensor, but without a cast to half precision."""

    def moved(tensor: Tensor) -> Tensor:
        result = move(tensor)
        half = result.dtype in HALF
        return tensor.to(result.device) if half and tensor.dtype != result.dtype else result

    return moved


class Precise(nn.Parameter):
    """A parameter that is not cast to half precision by way of its data either.

    TRL does so with all that is trained upon a quantized model, before an optimizer is made.
    """

    def __setattr__(self, name: str, new: Any) -> None:
        # A property named data would shadow the one that torch.compile asks for.
        super().__setattr__(name, _in_precision(self.data, new) if name == "data" else new)


def _in_precision(own: Tensor, new: Tensor) -> Tensor:
    """Return what to put in the place of a parameter's data: it, unless it is a cast to half."""
    if new.dtype not in HALF or own.dtype in HALF:
        return new
    rounded = own.to(new.device, new.dtype)
    away = own.is_meta or new.is_meta
    same = own.shape == new.shape and not away and torch.equal(rounded, new)
    return own.to(new.device) if same else new.to(own.dtype)


def make_precise(module: nn.Module) -> None:
    """Let the parameters of a module keep their precision; they stay the same objects."""
    for parameter in module.parameters():
        if type(parameter) is nn.Parameter:
            parameter.__class__ = Precise
