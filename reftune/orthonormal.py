"""The chart of the matrices with orthonormal rows: which free matrix stands for which of them."""

import torch
from torch import Tensor


def orthonormal(free: Tensor) -> Tensor:
    """Return the matrix with orthonormal rows that a free matrix stands for.

    The chart is a QR decomposition whose signs are fixed so that a matrix that already has
    orthonormal rows stands for itself. Gradients are exact.

    Args:
        free: `(*stack, rank, width)`, `rank <= width`, any floating dtype. Half precision is
            decomposed in float32, because `torch.linalg` has no kernels for it.

    Returns:
        `(*stack, rank, width)` in the dtype of `free`.
    """
    matrix = free.float() if free.dtype in (torch.float16, torch.bfloat16) else free
    q, upper = torch.linalg.qr(matrix.mT)
    sign = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q.dtype)
    return (q * sign[..., None, :]).mT.to(free.dtype)
