"""Bottleneck adapters: two small linear layers after a sub-layer.

Houlsby et al., arXiv 1902.00751: after attention and feed-forward. Pfeiffer et al., arXiv
2005.00247: after the feed-forward alone.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from reftune.config import ReftConfig
from reftune.hooking import edit_output
from reftune.sites import Site, find_sites

# Name of a place -> components of `reftune.architectures.COMPONENTS`.
PLACES = {
    "feed-forward": ("mlp_output",),
    "attention and feed-forward": ("attention_output", "mlp_output"),
}
CHILD = "bottleneck"


class Bottleneck(nn.Module):
    """`h + W_up f(W_down h + b_down) + b_up`. Starts as the identity: `W_up = 0, b_up = 0`.

    Args:
        hidden_size: size of h.
        width: size of what is between the two layers.
        act_fn: f, the name of a transformers activation.
    """

    def __init__(self, hidden_size: int, width: int, act_fn: str):
        super().__init__()
        self.down = nn.Linear(hidden_size, width)
        self.activation = ACT2FN[act_fn]
        self.up = nn.Linear(width, hidden_size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: Tensor) -> Tensor:
        """Return h of shape `(..., hidden_size)` changed, in its dtype."""
        change = self.up(self.activation(self.down(h.to(self.down.weight.dtype))))
        return h + change.to(h.dtype)


@dataclass(frozen=True)
class Bottlenecks:
    """Puts a `Bottleneck` after sub-layers of every layer, before the residual is added.

    Args:
        reduction: how many times smaller than the hidden states it is between the two layers.
        width: how large it is there, instead.
        place: a name in `PLACES`.
        act_fn: name of a transformers activation.

    Raises:
        ValueError: one of them has no meaning.
    """

    reduction: int | None = None
    width: int | None = None
    place: str = "feed-forward"
    act_fn: str = "relu"

    def __post_init__(self) -> None:
        if self.reduction is not None and self.width is not None:
            raise ValueError(
                f"reduction {self.reduction!r} and width {self.width!r}: expected one of the two"
            )
        for name, size in (("reduction", self.reduction), ("width", self.width)):
            if size is not None and (type(size) is not int or size < 1):
                raise ValueError(f"{name} {size!r}: expected a whole number, 1 or more")
        if self.place not in PLACES:
            raise ValueError(f"place {self.place!r}: expected one of {', '.join(PLACES)}")
        if self.act_fn not in ACT2FN:
            raise ValueError(f"act_fn {self.act_fn!r}: expected the name of an activation")

    def __call__(self, model: Any, head: list[str]) -> list[nn.Parameter]:
        """Put them on a model and return their parameters.

        They are in float32 whatever the dtype of the model.

        Raises:
            ValueError: the sub-layers are not known, or narrower than the reduction.
        """
        configs = [ReftConfig(component=component) for component in PLACES[self.place]]
        sites = [site for config in configs for site in find_sites(model, config)]
        return [p for site in sites for p in self._put_on(model, site)]

    def _put_on(self, model: Any, site: Site) -> list[nn.Parameter]:
        width = self.width or site.width // (self.reduction or 16)
        if width < 1:
            raise ValueError(
                f"reduction {self.reduction or 16}: expected at most {site.width}, the width of "
                f"{site.module}"
            )
        owner = model.get_submodule(site.module)
        # Linear layers draw their weights on the CPU, so that a seed means the same everywhere.
        bottleneck = Bottleneck(site.width, width, self.act_fn)
        bottleneck.to(_device(owner), torch.float32).train(model.training)
        owner.add_module(CHILD, bottleneck)
        owner.register_forward_hook(_change)
        return list(bottleneck.parameters())


def _change(owner: nn.Module, args: tuple, output: Any) -> Any:
    return edit_output(owner, output, owner.get_submodule(CHILD))


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
