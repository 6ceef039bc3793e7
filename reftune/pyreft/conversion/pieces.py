"""An adapter of reftune taken to pieces: the config and the states of pyreft's checkpoint."""

from typing import Any

import torch
from torch import Tensor

from reftune.architectures import Side
from reftune.orthonormal import orthonormal
from reftune.pyreft.checkpoints.formulas import Matrices, state_of
from reftune.pyreft.checkpoints.writing import checkpoint_config
from reftune.pyreft.conversion.adapter_files import Adapter
from reftune.pyreft.conversion.placed_edits import NAMES
from reftune.pyreft.conversion.places import representation_of
from reftune.pyreft.conversion.unstored import ARGUMENTS

CLASSES = {name: intervention for intervention, name in NAMES.items()}


def pieces_of(adapter: Adapter) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Return the config and the states, by their keys, that pyreft has for an adapter.

    The edits of the first positions of all layers come before those of the last, as in pyreft.

    Raises:
        ValueError: the adapter does what pyreft has not.
    """
    config = adapter.config
    intervention = _expressible(adapter)
    places = sorted(adapter.edits, key=lambda place: representation_of(*place)[0])
    representations, states, widths = [], [], []
    for occurrence in (None,) if config.tied else (0, 1):
        for place in places:
            layer, component = representation_of(*place)
            representations.append((layer, component, "pos", 1, config.r))
            states.append(_state(adapter, place, occurrence))
            widths.append(adapter.edits[place]["weight"].shape[-1])
    fields = checkpoint_config(representations, [intervention] * len(states), widths)
    # pyreft passes over it; our own `ReftModel.load` does not.
    stored = {"act_fn": config.act_fn, "dropout": config.dropout}
    fields[ARGUMENTS] = [stored] * len(states)
    return fields, dict(zip(fields["sorted_keys"], states, strict=True))


def _expressible(adapter: Adapter) -> str:
    """Return the name of pyreft's class.

    Raises:
        ValueError: pyreft has no such edit, or cannot apply it so.
    """
    config = adapter.config
    if config.intervention not in CLASSES:
        raise ValueError(
            f"intervention {config.intervention!r}: pyreft has none; expected one of "
            f"{', '.join(CLASSES)}"
        )
    if config.heads is not None:
        raise ValueError(f"heads={config.heads}: pyreft edits no heads; expected None")
    if config.decode != "none":
        raise ValueError(
            f"decode={config.decode!r}: pyreft edits prompts alone; expected 'none', as it stores "
            "nothing of it"
        )
    return CLASSES[config.intervention]


def _state(adapter: Adapter, place: tuple[str, Side], occurrence: int | None) -> dict[str, Tensor]:
    """Return the state of one edit; of the first or the last positions, if they are untied."""
    config = adapter.config
    chosen = {
        name: tensor if occurrence is None else tensor[occurrence]
        for name, tensor in adapter.edits[place].items()
    }
    wide = {
        name: tensor if tensor.dtype == torch.float64 else tensor.float()
        for name, tensor in chosen.items()
    }
    rotated = config.intervention not in ("noreft", "direft")
    weight = orthonormal(wide["weight"]) if rotated else wide["weight"]
    read = Matrices(weight, wide.get("source"), wide["bias"], None, config.dtype)
    return state_of(CLASSES[config.intervention], read)
