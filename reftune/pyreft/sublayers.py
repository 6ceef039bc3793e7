"""R and W by pyreft's names: layers that an intervention keeps its matrices in."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from reftune.orthonormal import orthonormal


class LowRankRotateLayer(nn.Module):
    """`x @ weight`, with a weight `(n, m)`, n > m, whose columns start orthonormal."""

    def __init__(self, n: int, m: int, init_orth: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(int(n), int(m)))
        if init_orth:
            nn.init.orthogonal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.weight.dtype) @ self.weight


class Source(nn.Linear):
    """W and b. It takes hidden states of any dtype, and computes in its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype))


def free_matrix(columns: Tensor) -> Tensor:
    """Return what orthonormal columns `(width, rank)` are trained as, in the library's chart.

    The chart does not feel the length of its matrix, but its derivative does: columns of length ½
    turn twice as far at a step. So do those of torch's Householder reflectors, with which pyreft's
    learning rates were found.
    """
    return columns / 2


class _OrthonormalColumns(nn.Module):
    """The library's chart of R, as a parametrization of a weight `(width, rank)`."""

    def forward(self, free: Tensor) -> Tensor:
        return orthonormal(free.mT).mT

    def right_inverse(self, columns: Tensor) -> Tensor:
        return free_matrix(columns)


def with_orthonormal_columns(layer: LowRankRotateLayer) -> LowRankRotateLayer:
    """Keep the columns of a layer's weight orthonormal while it is trained.

    It takes the place of `torch.nn.utils.parametrizations.orthogonal`, which pyreft uses, and costs
    no matrix of width × width. The trained tensor has the same name,
    `parametrizations.weight.original`.
    """
    parametrize.register_parametrization(layer, "weight", _OrthonormalColumns())
    return layer


def is_orthonormal(layer: nn.Module) -> bool:
    """Say whether a layer's weight is in the library's chart."""
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    charts: Any = layer.parametrizations
    return isinstance(charts.weight[0], _OrthonormalColumns)
