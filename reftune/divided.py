"""Models that an engine has divided, whose parameters are whole only while their modules run."""

import warnings
from typing import Any

from torch import Tensor, distributed, nn


def is_whole(parameter: Tensor) -> bool:
    """Say whether a parameter is one: no part of it, no view of parts, no sign that it is away."""
    if not isinstance(parameter, nn.Parameter) or type(parameter.data) is not Tensor:
        return False
    # Of DeepSpeed's ZeRO-3 and of torch's FSDP1.
    marked = hasattr(parameter, "ds_id") or hasattr(parameter, "_fsdp_flattened")
    return parameter.numel() > 0 and not parameter.is_meta and not marked


def has_units(root: nn.Module) -> bool:
    """Say whether FSDP, of either version, has divided parts of a model."""
    if not _in_company():
        return False
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    return any(isinstance(part, FSDPModule | FullyShardedDataParallel) for part in root.modules())


def _in_company() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def is_divided(root: nn.Module, head: nn.Module) -> bool:
    """Say whether parts of a model are put away after its forward pass, as FSDP and ZeRO do.

    Tensor parallelism does not: each process has its part of a matrix all the time.

    Args:
        root: the model, whose forward pass is running.
        head: what gives its logits.
    """
    if not _in_company():
        return False
    # Around the whole of it, FSDP1 shows in what it puts in place of a parameter, ZeRO-3 in a mark.
    weight = getattr(head, "weight", None)
    away = not isinstance(weight, nn.Parameter | None) or hasattr(weight, "ds_id")
    return away or has_units(root)


def warn_of_units(model: nn.Module) -> None:
    """Warn if FSDP has divided a model to which an adapter is about to be attached."""
    if has_units(model):
        warnings.warn(
            "FSDP has divided the model already, so each process trains edits of its own, unless a "
            "Trainer averages them: expected get_peft_model before fully_shard",
            stacklevel=2,
        )


def gathered(model: nn.Module) -> dict[str, Tensor]:
    """Return the trained tensors of a model that FSDP has divided, whole, in main memory.

    All processes must call this; the first one gets the tensors.

    Args:
        model: as it was given to FSDP, or came from it.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    state: Any = get_model_state_dict(model, options=options)
    return state
