"""Running one intervention on the hidden states of the selected positions, as pyvene calls it."""

from typing import Any

import torch
from torch import Tensor, nn

from reftune.pyreft.bases import Intervention, LocalistRepresentationIntervention


class LambdaIntervention(nn.Module):
    """A plain function `f(base, source)`, or `f(base, source, subspaces)`, as an intervention."""

    def __init__(self, func: Any):
        super().__init__()
        self.func = func

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)


class CollectIntervention(Intervention):
    """Edits nothing: the hidden states of its positions are returned beside the outputs."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.is_source_constant = True

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
        return base


def apply(
    intervention: nn.Module, base: Tensor, subspaces: Any = None, extra: dict | None = None
) -> Tensor:
    """Return hidden states as an intervention edits them.

    Args:
        intervention: any module with the `forward` of pyvene's interventions.
        base: `(batch, positions, width)`.
        subspaces: for every example the indices of its subspaces, or `None`.
        extra: further arguments of the intervention's `forward`.

    Returns:
        `(batch, positions, width)` in the dtype of `base`.

    Raises:
        ValueError: the intervention is for another width, or gives another shape.
    """
    width = getattr(intervention, "width", None)
    if width is not None and width != base.shape[-1]:
        raise ValueError(
            f"{type(intervention).__name__}(embed_dim={width}) at hidden states of width "
            f"{base.shape[-1]}: expected embed_dim={base.shape[-1]}"
        )
    _move(intervention, base.device)
    if isinstance(intervention, LambdaIntervention):
        further = () if subspaces is None else (subspaces,)
        output = intervention(base, None, *further, **(extra or {}))
    else:
        whole = getattr(intervention, "keep_last_dim", False) or isinstance(
            intervention, LocalistRepresentationIntervention
        )
        given = base if whole else base.flatten(1)
        output = intervention(given, None, subspaces, **(extra or {}))
    output = getattr(output, "output", output)
    if output is None:
        return base
    if output.numel() != base.numel():
        raise ValueError(
            f"{type(intervention).__name__} returned {tuple(output.shape)}: expected "
            f"{tuple(base.shape)}"
        )
    return output.reshape(base.shape).to(base.dtype)


def _move(intervention: nn.Module, device: torch.device) -> None:
    """Put an intervention where the hidden states are: a model may lie on several devices."""
    first = next(intervention.parameters(), None)
    if first is not None and first.device != device and not first.is_meta:
        intervention.to(device)
