"""Between torch's chart of the matrices with orthonormal columns and the columns themselves.

pyreft keeps R in `torch.nn.utils.parametrizations.orthogonal`, whose state is two tensors: the
trained `original` and the fixed `base`. Nothing here builds such a module.
"""

import torch
from torch import Tensor


def columns(original: Tensor, base: Tensor | None) -> Tensor:
    """Return the orthonormal columns that a state of torch's parametrization stands for.

    With its default maps: Householder reflections for a tall matrix, the matrix exponential for a
    square one (torch 2.4 to 2.13, `_Orthogonal.forward`).

    Args:
        original: `(d, r)`, `r <= d`, float32 or float64: the trained tensor.
        base: `(d, d)`, the matrix that it turns; `None` for the identity.

    Returns:
        `(d, r)`. The columns are orthonormal only as far as `base` and the signs on the diagonal of
        `original` are what torch made them.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    d, r = original.shape if original.dim() == 2 else (0, 0)
    if not 0 < r <= d or (base is not None and base.shape != (d, d)):
        found = f"{tuple(original.shape)} and {None if base is None else tuple(base.shape)}"
        raise ValueError(
            f"an orthogonal parametrization of shapes {found}: expected (d, r) with r <= d, and "
            "(d, d)"
        )
    if d == r:
        lower = original.tril()
        turned = torch.matrix_exp(lower - lower.mT)
    else:
        reflectors = original.tril(-1)
        tau = 2 / (1 + reflectors.square().sum(dim=0))
        # As torch does: a sign that decayed to 0.99, say, is none any more, and erases its column.
        signs = original.diagonal().trunc()
        turned = torch.linalg.householder_product(reflectors, tau) * signs
    return turned if base is None else base @ turned


def chart(orthonormal: Tensor) -> tuple[Tensor, Tensor]:
    """Return a state of torch's parametrization that stands for exactly these columns.

    The state is the one that torch makes when it takes over a matrix: the columns begin `base`, and
    `original` is `-I`, at which both maps are the identity of the first r columns. Torch completes
    the base at random; here the completion follows from the columns alone.

    Args:
        orthonormal: `(d, r)`, `r <= d`, float32 or float64, with orthonormal columns.

    Returns:
        `original` `(d, r)` and `base` `(d, d)`, in the dtype of the columns.
    """
    d, r = orthonormal.shape
    complete, _ = torch.linalg.qr(orthonormal, mode="complete")
    base = torch.cat((orthonormal, complete[:, r:]), dim=1)
    return -torch.eye(d, r, dtype=orthonormal.dtype), base
