"""What several edits compute: how far `h` moves along the rows of a matrix."""

from collections.abc import Callable

from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    """The activation of the paper's edits: none."""
    return x


def folded(W: Tensor, R: Tensor, f: Activation = linear) -> Tensor:
    """Return what `replacement` multiplies with `h` first: `W − R` without an activation, else W.

    Args:
        W, R: `(..., rank, width)`.
    """
    return W - R if f is linear else W


def replacement(h: Tensor, A: Tensor, R: Tensor, b: Tensor, f: Activation = linear) -> Tensor:
    """Return `f(Wh + b) − Rh`.

    Args:
        h: `(..., positions, width)`.
        A: of `folded`.
        R: `(..., rank, width)`.
        b: broadcastable to the result.

    Returns:
        `(..., positions, rank)`; exactly zero while `W = R`, `b = 0` and f is linear.
    """
    moved = h @ A.mT + b
    return moved if f is linear else f(moved) - h @ R.mT
