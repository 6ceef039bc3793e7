"""Between an intervention of ours and the state that pyreft keeps of it.

They differ in the chart of R: pyreft's, torch's `orthogonal`, has two tensors, ours one.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reftune.pyreft.checkpoints.formulas import BUFFERS, KEYS, is_state_of, matrices
from reftune.pyreft.checkpoints.torch_chart import chart, columns
from reftune.pyreft.sublayers import free_matrix, is_orthonormal

ORIGINAL, BASE = ".parametrizations.weight.original", ".parametrizations.weight.0.base"


def pyreft_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict that pyreft's class of the same name, or the user's own, loads.

    Args:
        module: an intervention: one of the six, one that derives from them, or any other.

    Raises:
        ValueError: its `state_dict` holds something else than tensors.
    """
    state = OrderedDict(module.state_dict())
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"the state of {type(module).__name__} holds {name!r}, which is "
                f"{type(value).__name__}: expected tensors"
            )
    for layer in _charts(module, state):
        rotation: Any = module.get_submodule(layer).weight
        state[layer + ORIGINAL], state[layer + BASE] = chart(rotation.detach())
    return state


def load_states(
    modules: Mapping[str, nn.Module],
    states: Mapping[str, Mapping[str, Tensor]],
    where: str = "the checkpoint",
) -> None:
    """Put the states of a checkpoint into interventions, all of them or none.

    Args:
        modules: the interventions, by their keys.
        states: of pyreft, by the same keys; what is left over is passed over, as in pyreft.
        where: what errors call the checkpoint.

    Raises:
        ValueError: a state is missing, or does not fit. Nothing is changed then.
    """
    trained = {key: one for key, one in modules.items() if set(one.state_dict()) - BUFFERS}
    missing = sorted(set(trained) - set(states))
    if missing:
        raise ValueError(f"{where} has no {missing[0]}: got {sorted(states)}")
    named = {key: f"{where}, {key}" for key in trained}
    for key, module in trained.items():
        _check(module, states[key], named[key])
        if _loads_itself(module):  # its own code may refuse half-way, so it tries on a copy first
            _put(copy.deepcopy(module), states[key], named[key])
    for key, module in trained.items():
        _put(module, states[key], named[key])


def load_state(module: nn.Module, state: Mapping[str, Tensor], where: str = "the state") -> None:
    """Put a state that pyreft saved into an intervention, which keeps its own dtype.

    Args:
        module: an intervention: one of the six, or a class of one's own.
        state: in any floating dtype, on any device.
        where: what errors call the state.

    Raises:
        ValueError: the state is of another class or shape. Nothing is changed then.
    """
    load_states({"": module}, {"": state}, where)


def _loads_itself(module: nn.Module) -> bool:
    return type(module).load_state_dict is not nn.Module.load_state_dict


def _charts(module: nn.Module, state: Mapping[str, Any]) -> list[str]:
    """Return the names of the layers whose weight is in our chart, in this state of a module."""
    layers = [name for name, layer in module.named_modules() if is_orthonormal(layer)]
    return [name for name in layers if name + ORIGINAL in state and name + BASE not in state]


def _check(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Hold a state against an intervention.

    Raises:
        ValueError: it is of another class or shape.
    """
    name = type(module).__name__
    known = next((one.__name__ for one in type(module).__mro__ if one.__name__ in KEYS), "")
    if known and is_state_of(known, state):
        matrices(known, state, where)
    own = dict(module.state_dict())
    for layer in _charts(module, own):
        rows = len(own[layer + ORIGINAL])
        own[layer + BASE] = torch.empty(rows, rows, device="meta")
    state = _plain(module, state)
    if not _loads_itself(module):
        lacking, over = set(own) - set(state) - BUFFERS, set(state) - set(own) - BUFFERS
        if lacking or over:
            raise ValueError(
                f"{where} lacks {sorted(lacking)} and has {sorted(over)} too: expected a state of "
                f"{name}, {sorted(own)}"
            )
    for key in sorted((set(own) & set(state)) - BUFFERS):
        if state[key].shape != own[key].shape:
            raise ValueError(
                f"{where}: {key!r} is of shape {tuple(state[key].shape)}; expected "
                f"{tuple(own[key].shape)}, as {name} has it"
            )
        if state[key].is_floating_point() != own[key].is_floating_point():
            raise ValueError(
                f"{where}: {key!r} is of {state[key].dtype}; expected {own[key].dtype}, as {name} "
                "has it"
            )


def _plain(module: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return LoReFT's own three tensors, if it gets those of its sub-modules instead."""
    own = module.state_dict()
    if "rotate_layer" not in own or "rotate_layer" in state or "rotate_layer" + BASE not in state:
        return state
    read = matrices("LoreftIntervention", state, "the state")
    assert read.source is not None
    return {"weight": read.source, "bias": read.bias, "rotate_layer": read.weight.mT.contiguous()}


def _put(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put a state that was checked into an intervention."""
    own = module.state_dict()
    given = dict(_plain(module, state))
    for layer in _charts(module, own):
        if layer + BASE in given:
            original, base = given[layer + ORIGINAL], given.pop(layer + BASE)
            precise = torch.float64 if original.dtype == torch.float64 else torch.float32
            rotation = columns(original.to(precise), base.to(precise))
            given[layer + ORIGINAL] = free_matrix(rotation)
    if not _loads_itself(module):
        kept = {key: value for key, value in given.items() if key in own}
        module.load_state_dict(kept, strict=False)
        return
    try:
        module.load_state_dict(OrderedDict(given))
    # The class of somebody else may fail in any way.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{where} cannot be loaded into {type(module).__name__} ({reason})"
        ) from error
