"""The six edits by pyreft's names, arguments and sub-modules.

Each reads its matrices out of the sub-modules that pyreft gives it, so that scripts may look at
them and classes of one's own may use them, and computes with the library's formulas. They start as
pyreft's do: R random and orthonormal, W and b as `torch.nn.Linear` draws them. What `dtype` says is
not followed: the matrices are kept in float32, because half precision loses the orthonormality.

Names: pyreft's `NodireftIntervention` is the paper's DiReFT; its `DireftIntervention` keeps R
orthonormal (arXiv 2404.03592v3, eq. 3 and the ablations; pyreft 0.1.0, `pyreft/interventions.py`).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from reftune.formulas import folded, linear, replacement
from reftune.hooking import full_precision
from reftune.pyreft.bases import (
    DistributedRepresentationIntervention,
    SourcelessIntervention,
    TrainableIntervention,
)
from reftune.pyreft.rotation import LowRankRotateLayer, is_orthonormal, with_orthonormal_columns


class Source(nn.Linear):
    """W and b. It takes hidden states of any dtype, and computes in its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype))


class ReftIntervention(
    SourcelessIntervention, TrainableIntervention, DistributedRepresentationIntervention
):
    """What the six have in common.

    Args:
        embed_dim: width of the hidden states, d.
        low_rank_dimension: r.
        dropout: probability with which an entry of the whole edited state is dropped in training.
        act_fn: name of a transformers activation around `Wh + b`, none by default.
        kwargs: `add_bias` of the two with a `proj_layer`; whatever else pyreft's scripts pass.

    Raises:
        ValueError: there is no such activation, no width or rank, or the rank is the greater one.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "keep_last_dim": True})
        width, rank = kwargs.get("embed_dim"), kwargs.get("low_rank_dimension")
        if width is None or rank is None or not 0 < int(rank) <= int(width):
            raise ValueError(
                f"{type(self).__name__}(embed_dim={width}, low_rank_dimension={rank}): expected "
                "the width of the hidden states, and a rank from 1 to it"
            )
        self.width, self.rank = int(width), int(rank)
        self.dropout = nn.Dropout(kwargs.get("dropout") or 0.0)
        name = kwargs.get("act_fn")
        if name is not None and name not in ACT2FN:
            raise ValueError(
                f"act_fn={name!r}: expected the name of a transformers activation such as 'relu'"
            )
        self.act_fn = linear if name in (None, "linear") else ACT2FN[name]
        # What the tensors do not tell, for the config of a checkpoint.
        self.arguments = {"act_fn": name, "dropout": self.dropout.p}

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        """Return `(batch, positions, rank)`: how far `h` moves along the rows of R `(rank, d)`."""
        raise NotImplementedError

    def rows(self) -> Tensor:
        """Return R, or W2, `(rank, d)`."""
        raise NotImplementedError

    def forward(
        self, base: Tensor, source: Any = None, subspaces: Sequence | None = None
    ) -> Tensor:
        """Edit hidden states.

        Args:
            base: `(batch, positions, d)`.
            source: not used.
            subspaces: for every example the indices of the rows of R that act on it; all of them if
                `None`.

        Raises:
            ValueError: there are not as many subspaces as examples, or no such row.
        """
        with full_precision(base.device):
            R = self.rows()
            h = base.to(R.dtype)
            moved = self.coefficients(h, R)
            if subspaces is not None:
                moved = moved * self._chosen(subspaces, len(base)).to(moved)
            return self.dropout((h + moved @ R).to(base.dtype))

    def _chosen(self, subspaces: Sequence, batch: int) -> Tensor:
        """Return `(batch, 1, rank)`, 1 at the chosen rows."""
        chosen = torch.zeros(batch, 1, self.rank)
        if len(subspaces) != batch:
            raise ValueError(f"subspaces of {len(subspaces)} examples in a batch of {batch}")
        for example, indices in enumerate(subspaces):
            listed = list(range(self.rank)) if indices is None else [int(i) for i in indices]
            if not all(-self.rank <= index < self.rank for index in listed):
                raise ValueError(f"subspaces {listed}: expected indices below {self.rank}")
            chosen[example, 0, listed] = 1
        return chosen


class _Rotated(ReftIntervention):
    """Those whose R has orthonormal rows."""

    rotate_layer: nn.Module

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.rotate_layer = with_orthonormal_columns(LowRankRotateLayer(self.width, self.rank))

    def rows(self) -> Tensor:
        weight: Any = self.rotate_layer.weight
        return weight.mT

    def set_rotation(self, columns: Tensor) -> None:
        """Take over `(d, r)` orthonormal columns, whatever chart they were trained in.

        The rank may be another one than before, as pyreft allows it.

        Raises:
            ValueError: columns of another width, or none.
        """
        if columns.dim() != 2 or columns.shape[0] != self.width or not columns.shape[1]:
            raise ValueError(
                f"a rotation {tuple(columns.shape)}: expected ({self.width}, {self.rank})"
            )
        before: Any = self.rotate_layer.weight
        if before.shape == columns.shape and is_orthonormal(self.rotate_layer):
            with torch.no_grad():
                self.rotate_layer.weight = columns.to(before)  # an optimizer keeps its tensor
            return
        self.rank = columns.shape[1]
        layer = LowRankRotateLayer(self.width, self.rank, init_orth=False)
        layer.weight = nn.Parameter(columns.detach().clone().to(before))
        self.rotate_layer = with_orthonormal_columns(layer)


class _Projected(ReftIntervention):
    """Those whose W2 is free."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.proj_layer = Source(self.width, self.rank, bias=kwargs.get("add_bias") or False)
        self.learned_source = Source(self.width, self.rank)

    def rows(self) -> Tensor:
        return self.proj_layer.weight


class LoreftIntervention(_Rotated):
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
        self.learned_source.load_state_dict(own)
        self.set_rotation(state_dict["rotate_layer"])
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


class NoreftIntervention(_Projected):
    """`h + W2ᵀ(f(W1 h + b) − W2 h)`: NoReFT. With `add_bias`, `W2 h` has a bias too."""

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        moved = _replacement(self, h, R)
        return moved if self.proj_layer.bias is None else moved - self.proj_layer.bias


class ConsreftIntervention(_Rotated):
    """`h + Rᵀ(b − Rh)`: ConsReFT."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.learned_source = nn.Parameter(torch.rand(self.rank))

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return self.learned_source - h @ R.mT


class LobireftIntervention(_Rotated):
    """`h + Rᵀ b`: LobiReFT."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.learned_source = nn.Parameter(torch.rand(self.rank))

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return self.learned_source.expand(*h.shape[:-1], -1)


class DireftIntervention(_Rotated):
    """`h + Rᵀ f(Wh + b)`, rows of R orthonormal: the paper's "direct" ablation."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.learned_source = Source(self.width, self.rank)

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return self.act_fn(self.learned_source(h))


class NodireftIntervention(_Projected):
    """`h + W2ᵀ f(W1 h + b)`: the paper's DiReFT (eq. 3). A bias of `add_bias` has no effect."""

    def coefficients(self, h: Tensor, R: Tensor) -> Tensor:
        return self.act_fn(self.learned_source(h))
