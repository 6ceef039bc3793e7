"""What pyreft's six interventions have in common: arguments, subspaces, dropout, and R or W2."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from reftune.formulas import linear
from reftune.hooking import without_autocast
from reftune.precision import keeping_precision
from reftune.pyreft.bases import (
    DistributedRepresentationIntervention,
    SourcelessIntervention,
    TrainableIntervention,
)
from reftune.pyreft.sublayers import (
    LowRankRotateLayer,
    Source,
    is_orthonormal,
    with_orthonormal_columns,
)


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

    def _apply(self, fn: Any, recurse: bool = True) -> "ReftIntervention":
        return super()._apply(keeping_precision(fn), recurse)

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
        with without_autocast(base.device):
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


class Rotated(ReftIntervention):
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

        Raises:
            ValueError: columns of another shape.
        """
        if columns.shape != (self.width, self.rank):
            raise ValueError(
                f"a rotation {tuple(columns.shape)}: expected ({self.width}, {self.rank})"
            )
        before: Any = self.rotate_layer.weight
        if is_orthonormal(self.rotate_layer):
            with torch.no_grad():
                self.rotate_layer.weight = columns.to(before)  # an optimizer keeps its tensor
            return
        layer = LowRankRotateLayer(self.width, self.rank, init_orth=False)
        layer.weight = nn.Parameter(columns.detach().clone().to(before))
        self.rotate_layer = with_orthonormal_columns(layer)


class Projected(ReftIntervention):
    """Those whose W2 is free."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.proj_layer = Source(self.width, self.rank, bias=kwargs.get("add_bias") or False)
        self.learned_source = Source(self.width, self.rank)

    def rows(self) -> Tensor:
        return self.proj_layer.weight
