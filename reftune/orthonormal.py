"""The chart of the matrices with orthonormal rows: which free matrix stands for which of them."""

import math
from typing import Any

import torch
from torch import Tensor


def orthonormal(free: Tensor) -> Tensor:
    """Return the matrix with orthonormal rows that a free matrix stands for.

    It is the Q of the decomposition `X = LQ`, L lower triangular with a positive diagonal, so that
    orthonormal rows, of whatever common length, stand for themselves. Gradients are exact, once.

    The chart does not feel the length of X, but its derivative does: rows of length ½ turn by 2ε
    where X moves by ε, as the chart does with which the paper's learning rates were found (torch's
    Householder reflectors). That is why edits begin with rows of that length.

    Args:
        free: `(*stack, rank, width)`, `rank <= width`, of full rank, any floating dtype.

    Returns:
        `(*stack, rank, width)` in the dtype of `free`.
    """
    return _orthonormal(free)[0]


# How many numbers are in double precision at a time, in two places: much less than the
# edits of a large model, so that they cost little more than their rows, and enough for many edits,
# so that a GPU has few launches.
_PIECE = 2**18


# An operator of its own, so that it compiles, and keeps little more than its result for its
# gradient. All that has a width in it is a matrix product over many edits; what a Cholesky factor
# loses in precision against a QR decomposition, double precision gives back.
@torch.library.custom_op("reftune::orthonormal", mutates_args=())
def _orthonormal(free: Tensor) -> tuple[Tensor, Tensor]:
    rows, inverse = _empty(free)
    precise = torch.float32 if free.device.type == "mps" else torch.float64
    unit = torch.eye(free.shape[-2], dtype=precise, device=free.device)
    edits = max(1, _PIECE // max(1, unit.shape[0] * free.shape[-1]))
    # Two buffers for all pieces: allocators may keep what is freed between them.
    shape = (min(edits, _flat(free).shape[0]), *free.shape[-2:])
    wides, unrounded = (torch.empty(shape, dtype=precise, device=free.device) for _ in range(2))
    pieces = (_flat(part).split(edits) for part in (free, rows, inverse))
    for X, Q, inverted in zip(*pieces, strict=True):
        wide = wides[: len(X)].copy_(X)
        factor, _ = torch.linalg.cholesky_ex(wide @ wide.mT)
        solved = torch.linalg.solve_triangular(factor, unit, upper=False)
        Q.copy_(torch.matmul(solved, wide, out=unrounded[: len(X)]))
        inverted.copy_(solved)
    return rows, inverse


@_orthonormal.register_fake
def _empty(free: Tensor) -> tuple[Tensor, Tensor]:
    """Return room for the rows and for the inverse of the triangular factor, contiguous."""
    return free.new_empty(free.shape), free.new_empty(*free.shape[:-1], free.shape[-2])


def _flat(stacked: Tensor) -> Tensor:
    """Return `(*stack, m, n)` as `(edits, m, n)`."""
    return stacked.reshape(math.prod(stacked.shape[:-2]), *stacked.shape[-2:])


def _keep(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
    rows, inverse = (_flat(kept) for kept in ctx.saved_tensors)
    flat, outer = _flat(grad), inverse.mT
    # Some run the backward pass, too, under autocast.
    with torch.autocast(grad.device.type, enabled=False):
        inner = -(flat @ rows.mT)
        symmetric = inner.tril() + inner.tril(-1).mT
        # L⁻ᵀ (grad + symmetric Q), in one buffer of the size of the rows
        return (outer @ flat).baddbmm_(outer @ symmetric, rows).view(grad.shape)


_orthonormal.register_autograd(_differentiate, setup_context=_keep)
