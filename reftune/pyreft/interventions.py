"""The six edits by pyreft's names, arguments and sub-modules.

Each reads its matrices out of the sub-modules that pyreft gives it, so that scripts may look at
them and classes of one's own may use them, and computes with the library's formulas. They start as
pyreft's do: R random and orthonormal, W and b as `torch.nn.Linear` draws them. What `dtype` says is
not followed: the matrices are kept in float32, because half precision loses the orthonormality.

Names: pyreft's `NodireftIntervention` is the paper's DiReFT; its `DireftIntervention` keeps R
orthonormal (arXiv 2404.03592v3, eq. 3 and the ablations; pyreft 0.1.0, `pyreft/interventions.py`).
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from reftune.formulas import folded, replacement
from reftune.pyreft.reft_intervention import Projected, Rotated
from reftune.pyreft.sublayers import Source


class LoreftIntervention(Rotated):
    """`h + Rᵀ(f(Wh + b) − Rh)`: LoReFT (eq. 2). For the arguments see `ReftIntervention`."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.learned_source = Source(self.width, self.rank)

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return _replacement(self, h, R)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return `weight` (r, d), `bias` (r,) and `rotate_layer` (d, r), as pyreft keeps them.

        A subclass's own tensors, which pyreft would forget, come after them. As part of a larger
        module's state, all have torch's names instead.
        """
        state = super().state_dict(*args, **kwargs)
        if args or kwargs:
            return state
        own = OrderedDict(self.learned_source.state_dict())
        own["rotate_layer"] = self.rows().detach().mT.contiguous()
        return OrderedDict(own, **{name: state[name] for name in state if _is_further(name)})

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        """Take over what `state_dict` gave, or pyreft's."""
        if "rotate_layer" not in state_dict:
            return super().load_state_dict(state_dict, *args, **kwargs)
        own = {name: state_dict[name] for name in ("weight", "bias") if name in state_dict}
        before = self.rows().detach().mT.clone()
        self.set_rotation(state_dict["rotate_layer"])
        try:
            self.learned_source.load_state_dict(own)
        except RuntimeError:
            self.set_rotation(before)
            raise
        known = {name for name in super().state_dict() if _is_further(name)}
        return super().load_state_dict(
            {name: state_dict[name] for name in known & set(state_dict)}, strict=False
        )


def _replacement(one: Any, h: Tensor, R: Tensor) -> Tensor:
    """Return `f(Wh + b) − Rh` of an intervention."""
    A = folded(one.learned_source.weight, R, one.act_fn)
    return replacement(h, A, R, one.learned_source.bias, one.act_fn)


def _is_further(name: str) -> bool:
    """Say whether a tensor is of a subclass of `LoreftIntervention`."""
    known = ("rotate_layer", "learned_source", "embed_dim", "interchange_dim")
    return not name.startswith(known)


class NoreftIntervention(Projected):
    """`h + W2ᵀ(f(W1 h + b) − W2 h)`: NoReFT. With `add_bias`, `W2 h` has a bias too."""

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        moved = _replacement(self, h, R)
        return moved if self.proj_layer.bias is None else moved - self.proj_layer.bias


class ConsreftIntervention(Rotated):
    """`h + Rᵀ(b − Rh)`: ConsReFT."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.learned_source = nn.Parameter(torch.rand(self.rank))

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return self.learned_source - h @ R.mT


class LobireftIntervention(Rotated):
    """`h + Rᵀ b`: LobiReFT."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.learned_source = nn.Parameter(torch.rand(self.rank))

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return self.learned_source.expand(*h.shape[:-1], -1)


class DireftIntervention(Rotated):
    """`h + Rᵀ f(Wh + b)`, rows of R orthonormal: the paper's "direct" ablation."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.learned_source = Source(self.width, self.rank)

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return self.act_fn(self.learned_source(h))


class NodireftIntervention(Projected):
    """`h + W2ᵀ f(W1 h + b)`: the paper's DiReFT (eq. 3). A bias of `add_bias` has no effect."""

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return self.act_fn(self.learned_source(h))
