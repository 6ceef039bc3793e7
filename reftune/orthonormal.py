"""The chart of the matrices with orthonormal rows: which free matrix stands for which of them."""

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


# An operator of its own, so that it compiles, and keeps little more than its result for its
# gradient. All that has a width in it is a matrix product over the whole stack; what a Cholesky
# factor loses in precision against a QR decomposition, double precision gives back.
@torch.library.custom_op("reftune::orthonormal", mutates_args=())
def _orthonormal(free: Tensor) -> tuple[Tensor, Tensor]:
    precise = torch.float32 if free.device.type == "mps" else torch.float64
    wide = free.to(precise)
    factor, _ = torch.linalg.cholesky_ex(wide @ wide.mT)
    unit = torch.eye(factor.shape[-1], dtype=precise, device=free.device)
    inverse = torch.linalg.solve_triangular(factor, unit, upper=False)
    return (inverse @ wide).to(free.dtype), inverse.to(free.dtype)


@_orthonormal.register_fake
def _(free: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(free), free.new_empty(*free.shape[:-1], free.shape[-2])


def _keep(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
    rows, inverse = ctx.saved_tensors
    inner = -(grad @ rows.mT)
    symmetric = inner.tril() + inner.tril(-1).mT
    return inverse.mT @ (grad + symmetric @ rows)


_orthonormal.register_autograd(_differentiate, setup_context=_keep)
