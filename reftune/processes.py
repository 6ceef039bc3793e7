"""The processes of one training, which a launcher has started: as many rows at a time as they are.

Without a launcher there is one process, and nothing here does anything.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from torch import distributed

Result = TypeVar("Result")

# What `accelerate launch` says of engines that divide the model itself.
DIVIDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")


class OtherProcessError(RuntimeError):
    """Another process has failed and tells why; this one only ends with it."""


def join() -> None:
    """Meet the other processes, and take the accelerator that is this one's."""
    PartialState(cpu=not torch.accelerator.is_available())


def leave() -> None:
    """Part from the other processes, once all is done."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def count() -> int:
    """Return how many processes train together."""
    met = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if met else 1


def refuse_several(what: str) -> None:
    """Raise if a launcher has started more than one process for what takes only one.

    Raises:
        ValueError: it has.
        OtherProcessError: it has, and the first process says so.
    """
    join()
    if count() > 1:
        together(lambda: _refuse(what))


def _refuse(what: str) -> None:
    raise ValueError(f"{what} runs in one process: expected no launcher, got {count()} processes")


def is_first() -> bool:
    """Say whether this is the process that writes files and talks to people."""
    return count() == 1 or distributed.get_rank() == 0


def divide_the_model() -> bool:
    """Say whether an engine will put parts of the model where they belong."""
    return any(os.environ.get(name, "").lower() in ("1", "true") for name in DIVIDING)


def together(act: Callable[[], Result]) -> Result:
    """Do something in every process, and go on only if it failed in none.

    A process that fails alone would leave the others waiting for it.

    Returns:
        What it returned here.

    Raises:
        Exception: what it raised here, in the first of the processes in which it failed.
        OtherProcessError: in all others.
    """
    if count() == 1:
        return act()
    result, error = None, None
    try:
        result = act()
    except Exception as raised:
        error = raised
    said: list = [None] * count()
    distributed.all_gather_object(said, error and f"{type(error).__name__}: {error}")
    failed = [rank for rank, words in enumerate(said) if words is not None]
    if not failed:
        return result  # pyright: ignore[reportReturnType]
    if error is not None and failed[0] == distributed.get_rank():
        raise error
    raise OtherProcessError(f"process {failed[0]} failed: {said[failed[0]]}") from error


def by_first(act: Callable[[], Result]) -> Result:
    """Do something in the first process alone, while the others wait.

    Returns:
        In all of them, what it returned.

    Raises:
        Exception: in the first process, what it raised.
        OtherProcessError: in the others.
    """
    outcome: list = [together(lambda: act() if is_first() else None)]
    if count() > 1:
        distributed.broadcast_object_list(outcome, src=0)
    return outcome[0]


def any_says(yes: bool, device: torch.device) -> bool:
    """Say whether one of the processes says yes; all of them must ask.

    Args:
        yes: what this one says.
        device: where this one computes.
    """
    if count() == 1:
        return yes
    said = torch.tensor(int(yes), device=device)
    distributed.all_reduce(said, op=distributed.ReduceOp.MAX)
    return bool(said.item())
