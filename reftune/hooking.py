"""What every edit needs of the module it hooks: hidden states found and put back, no autocast."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

Edit = Callable[[Tensor], Tensor]


def edit_output(owner: nn.Module, output: Any, edit: Edit) -> Any:
    """Return what a module gave, with its hidden states edited.

    Raises:
        TypeError: it gave no hidden states, alone or first in a tuple.
    """
    if isinstance(output, Tensor):
        return edit(output)
    if isinstance(output, tuple) and isinstance(output[0], Tensor):
        return (edit(output[0]), *output[1:])
    raise TypeError(
        f"{type(owner).__name__} returned {type(output).__name__}: expected hidden states, "
        "alone or first in a tuple"
    )


def edit_input(owner: nn.Module, args: tuple, kwargs: dict, edit: Edit) -> tuple[tuple, dict]:
    """Return what a module is called with, with its hidden states edited.

    Raises:
        TypeError: it is called without hidden states as its first argument.
    """
    if args:
        return (edit(args[0]), *args[1:]), kwargs
    if "hidden_states" in kwargs:
        return args, kwargs | {"hidden_states": edit(kwargs["hidden_states"])}
    raise TypeError(
        f"{type(owner).__name__} was called with {', '.join(kwargs)}: expected hidden states "
        "as the first argument"
    )


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Switch autocast off: an edit computes in the dtype of its matrices."""
    kind = device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def autocast_of(device: torch.device) -> dict[str, Any]:
    """Return the arguments of the autocast that is on."""
    kind = device.type
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    return {"device_type": kind, "dtype": dtype, "enabled": enabled}


def runs_backward() -> bool:
    """Say whether a backward pass is running, in which a checkpointed layer may run again."""
    return torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1


def arguments_of(module: nn.Module) -> list[str]:
    """Return the names of what a module's forward takes."""
    # Of the class, because trainers replace the instance's forward by one with other arguments.
    return list(inspect.signature(type(module).forward).parameters)[1:]
